package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"xinqiao/crypto/canon"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// recorder is an Applier that keeps what it was given. It stands for the
// durable ledger, so it outlives a replica.
type recorder struct {
	mu      sync.Mutex
	index   uint64
	indices []uint64
	frames  []string
	fail    error
}

func (a *recorder) ApplyBatch(index uint64, cmd []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b ledger.Batch
	if err := canon.Unmarshal(cmd, &b); err != nil {
		return err
	}
	if a.fail != nil {
		return a.fail
	}
	a.index = index
	a.indices = append(a.indices, index)
	for _, f := range b.Frames {
		a.frames = append(a.frames, string(f))
	}
	return nil
}

func (a *recorder) AppliedIndex() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index
}

func (a *recorder) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.frames)
}

// named is a connection that says whose it is, in place of a certificate.
type named struct {
	net.Conn
	dept exchange.Dept
}

// namedListener reads the name that testDial sends first.
type namedListener struct{ net.Listener }

func (l namedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	var name [32]byte
	if _, err := io.ReadFull(c, name[:]); err != nil {
		return c, nil // nobody
	}
	return named{c, exchange.Dept(bytes.TrimRight(name[:], "\x00"))}, nil
}

func peerOf(c net.Conn) (exchange.Dept, bool) {
	n, ok := c.(named)
	return n.dept, ok
}

func dialAs(self exchange.Dept) Dial {
	return func(ctx context.Context, addr string, _ exchange.Dept) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		var name [32]byte
		copy(name[:], self)
		if _, err := c.Write(name[:]); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	}
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return namedListener{l}
}

type cluster struct {
	t       *testing.T
	mu      sync.Mutex
	nodes   map[exchange.Dept]*node
	members []Peer
	voters  []Peer
	behind  map[exchange.Dept]bool // who has not shown that it is caught up
}

type node struct {
	dept    exchange.Dept
	addr    string
	dir     string
	applier *recorder
	*Replica
}

// Forward implements Forwarder within the process.
func (c *cluster) Forward(ctx context.Context, leader exchange.Dept, frame []byte) error {
	n := c.node(leader)
	if n.Replica == nil {
		return ledger.ErrNotProposed
	}
	return n.ProposeLocal(ctx, frame)
}

func (c *cluster) node(d exchange.Dept) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := *c.nodes[d]
	return &n
}

func (c *cluster) peers() []Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes["aa"].applier.AppliedIndex() == 0 && c.nodes["bb"].applier.AppliedIndex() == 0 {
		return nil
	}
	return slices.Clone(c.members)
}

func (c *cluster) caughtUp(d exchange.Dept) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.behind[d]
}

func (c *cluster) setBehind(d exchange.Dept, behind bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behind[d] = behind
}

// sign says who is to vote from now on.
func (c *cluster) sign(voters ...exchange.Dept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.members {
		c.members[i].Voter = slices.Contains(voters, c.members[i].Dept)
	}
}

// newCluster makes three voters and one replica, none of them started.
func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, nodes: map[exchange.Dept]*node{}, behind: map[exchange.Dept]bool{}}
	for _, d := range []exchange.Dept{"aa", "bb", "cc", "dd"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		c.nodes[d] = &node{dept: d, addr: addr, dir: t.TempDir(), applier: &recorder{}}
		p := Peer{Dept: d, Addr: addr, Voter: d != "dd"}
		c.members = append(c.members, p)
		if p.Voter {
			c.voters = append(c.voters, p)
		}
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			if n.Replica != nil {
				n.close()
			}
		}
	})
	return c
}

func (c *cluster) config(n *node) Config {
	return Config{Self: n.dept, Dir: n.dir, Addr: n.addr, Voters: c.voters, Genesis: [][]byte{[]byte("genesis")}, Members: c.peers, CaughtUp: c.caughtUp,
		Check: func(f []byte) error {
			if bytes.HasPrefix(f, []byte("forged")) {
				return ledger.ErrFormat
			}
			return nil
		},
		PeerOf: peerOf, Clock: time.Now, Log: slog.New(slog.DiscardHandler)}
}

func (c *cluster) start(d exchange.Dept) {
	c.t.Helper()
	n := c.nodes[d]
	r, err := Open(c.config(n), n.applier, c, listen(c.t, n.addr), dialAs(d))
	if err != nil {
		c.t.Fatalf("open %s: %v", d, err)
	}
	c.mu.Lock()
	n.Replica = r
	c.mu.Unlock()
}

func (c *cluster) kill(d exchange.Dept) {
	c.t.Helper()
	c.mu.Lock()
	r := c.nodes[d].Replica
	c.nodes[d].Replica = nil
	c.mu.Unlock()
	if err := r.close(); err != nil {
		c.t.Errorf("close %s: %v", d, err)
	}
}

func (c *cluster) leader() exchange.Dept {
	c.t.Helper()
	var leader exchange.Dept
	eventually(c.t, "a leader", func() bool {
		for _, d := range []exchange.Dept{"aa", "bb", "cc"} {
			if n := c.node(d); n.Replica != nil && n.IsLeader() {
				leader = d
				return true
			}
		}
		return false
	})
	return leader
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s in time", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// propose tries as the ledger does, until the frame is committed. A frame with
// an open outcome may be committed twice; the ledger tells by its number.
func (c *cluster) propose(from exchange.Dept, frame string) {
	c.t.Helper()
	eventually(c.t, "commit of "+frame, func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second)
		defer cancel()
		return c.node(from).Propose(ctx, []byte(frame)) == nil
	})
}

func (c *cluster) wantSame(acked []string, depts ...exchange.Dept) {
	c.t.Helper()
	for _, d := range depts {
		eventually(c.t, "every acknowledged frame on "+string(d), func() bool {
			have := c.nodes[d].applier.all()
			for _, f := range acked {
				if !slices.Contains(have, f) {
					return false
				}
			}
			return true
		})
	}
	eventually(c.t, "equal sequences", func() bool {
		for _, d := range depts[1:] {
			if !slices.Equal(c.nodes[d].applier.all(), c.nodes[depts[0]].applier.all()) {
				return false
			}
		}
		return true
	})
	for _, d := range depts[1:] {
		if diff := cmp.Diff(c.nodes[depts[0]].applier.indices, c.nodes[d].applier.indices); diff != "" {
			c.t.Errorf("positions of %s and %s differ:\n%s", depts[0], d, diff)
		}
	}
}

func TestClusterKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for d := range c.nodes {
		c.start(d)
	}
	first := c.leader()
	acked := []string{"genesis"}
	for i := range 20 {
		for _, d := range []exchange.Dept{"aa", "bb", "cc"} {
			f := fmt.Sprintf("one-%s-%d", d, i)
			c.propose(d, f)
			acked = append(acked, f)
		}
	}
	// The replica without a vote is added because its member entry is signed.
	eventually(t, "the replica's leader", func() bool { return c.nodes["dd"].Leader() != "" })
	c.propose("dd", "from-the-replica")
	acked = append(acked, "from-the-replica")
	c.wantSame(acked, "aa", "bb", "cc", "dd")

	c.kill(first)
	second := c.leader()
	if second == first {
		t.Fatal("a dead node leads")
	}
	for i := range 20 {
		f := fmt.Sprintf("two-%d", i)
		c.propose("dd", f)
		acked = append(acked, f)
	}
	c.start(first)
	c.wantSame(acked, "aa", "bb", "cc", "dd")

	for d := range c.nodes {
		c.kill(d)
	}
	for d := range c.nodes {
		c.start(d)
	}
	c.leader()
	c.propose(first, "three")
	c.wantSame(append(acked, "three"), "aa", "bb", "cc", "dd")
	for d, n := range c.nodes {
		if got := n.applier.all(); got[0] != "genesis" || slices.Contains(got[1:], "genesis") {
			t.Errorf("%s: genesis must come once and first: %q", d, got[:1])
		}
		if err := n.fault.get(); err != nil {
			t.Errorf("%s: fault %v", d, err)
		}
	}
	s := c.nodes[c.leader()].Stats()
	if s.Voters != 3 || s.Replicas != 1 || len(s.Unsigned) != 0 || s.Term == 0 || s.CommitIndex == 0 || !s.IsLeader {
		t.Errorf("stats %+v", s)
	}
}

func TestOrderlyShutdownHandsLeadershipOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, v := range c.voters {
		c.start(v.Dept)
	}
	was := c.leader()
	c.propose(was, "x")
	// Caught up, or there is nobody to hand over to.
	c.wantSame([]string{"x"}, "aa", "bb", "cc")
	term := c.nodes[was].Stats().Term
	c.mu.Lock()
	r := c.nodes[was].Replica
	c.nodes[was].Replica = nil
	c.mu.Unlock()
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := c.leader()
	if got := c.nodes[now].Stats().Term; got != term+1 {
		t.Errorf("term %d after %d: the successor was elected, not appointed", got, term)
	}
	if err := r.Shutdown(t.Context()); err != nil {
		t.Errorf("second shutdown: %v", err)
	}
	if err := r.Propose(t.Context(), []byte("late")); !errors.Is(err, ledger.ErrNotProposed) {
		t.Errorf("propose after shutdown: %v", err)
	}
}

func TestWithoutQuorumNothingIsCommitted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start("aa")
	if err := c.nodes["aa"].Propose(t.Context(), []byte("x")); !errors.Is(err, ledger.ErrNotProposed) {
		t.Errorf("no leader: %v", err)
	}
	c.start("bb")
	leader := c.leader()
	follower := map[exchange.Dept]exchange.Dept{"aa": "bb", "bb": "aa"}[leader]
	c.propose(leader, "x")
	for _, bad := range [][]byte{nil, make([]byte, ledger.MaxFrame+1), []byte("forged")} {
		if err := c.nodes[leader].Propose(t.Context(), bad); !errors.Is(err, ledger.ErrNotProposed) {
			t.Errorf("frame of %d bytes: %v", len(bad), err)
		}
	}
	if got := c.nodes[leader].Stats().RefusedFrames; got != 1 {
		t.Errorf("%d frames refused", got)
	}
	if err := c.nodes[follower].ProposeLocal(t.Context(), []byte("x")); !errors.Is(err, ledger.ErrNotProposed) {
		t.Errorf("a follower must not forward again: %v", err)
	}
	// A leader that is not ready, before its genesis or about to stop, takes nothing.
	c.nodes[leader].setLeading(false)
	if err := c.nodes[leader].Propose(t.Context(), []byte("early")); !errors.Is(err, ledger.ErrNotProposed) {
		t.Errorf("leader that is not ready: %v", err)
	}
	c.nodes[leader].setLeading(true)
	c.propose(leader, "y")
	if slices.Contains(c.nodes[leader].applier.all(), "early") {
		t.Error("applied what was not proposed")
	}
	c.kill(follower)
	// Handed to raft, and nobody to confirm it.
	err := c.nodes[leader].Propose(t.Context(), []byte("lost"))
	if !errors.Is(err, ledger.ErrUndetermined) || errors.Is(err, ledger.ErrNotProposed) {
		t.Errorf("no quorum: %v", err)
	}
	eventually(t, "leader to step down", func() bool { return !c.nodes[leader].IsLeader() })
	if err := c.nodes[leader].Propose(t.Context(), []byte("x")); !errors.Is(err, ledger.ErrNotProposed) {
		t.Errorf("after stepping down: %v", err)
	}
	if slices.Contains(c.nodes[leader].applier.all(), "lost") {
		t.Error("applied without a quorum")
	}
}

func TestConcurrentFramesShareCommands(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, v := range c.voters {
		c.start(v.Dept)
	}
	leader := c.node(c.leader())
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			frame := append(fmt.Appendf(nil, "%03d-", i), make([]byte, 4096)...)
			if err := leader.Propose(t.Context(), frame); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := leader.Stats()
	if s.Committed != 400 || s.Batches >= 200 {
		t.Errorf("%d frames in %d commands", s.Committed, s.Batches)
	}
	if got := leader.queued.Load(); got != 0 {
		t.Errorf("%d bytes are counted as waiting in an empty queue", got)
	}
}

func TestCommandThatDoesNotApplyStopsTheNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, v := range c.voters {
		c.start(v.Dept)
	}
	leader := c.leader()
	c.propose(leader, "x")
	c.nodes[leader].applier.mu.Lock()
	c.nodes[leader].applier.fail = ledger.ErrHalted
	c.nodes[leader].applier.mu.Unlock()
	if err := c.nodes[leader].Propose(t.Context(), []byte("y")); !errors.Is(err, ledger.ErrUndetermined) {
		t.Errorf("committed but not applied: %v", err)
	}
	select {
	case err := <-c.nodes[leader].Fatal():
		if !errors.Is(err, ledger.ErrHalted) {
			t.Errorf("fatal: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no fatal error")
	}
	eventually(t, "raft to stop", func() bool { return c.nodes[leader].raft.State() == raft.Shutdown })
	others := slices.DeleteFunc([]exchange.Dept{"aa", "bb", "cc"}, func(d exchange.Dept) bool { return d == leader })
	c.kill(leader)
	c.propose(others[0], "z")
	c.wantSame([]string{"x", "y", "z"}, others...)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	good := c.config(c.nodes["aa"])
	for name, spoil := range map[string]func(*Config){
		"no name":              func(c *Config) { c.Self = "" },
		"no directory":         func(c *Config) { c.Dir = "" },
		"no check of frames":   func(c *Config) { c.Check = nil },
		"no identity":          func(c *Config) { c.PeerOf = nil },
		"no members":           func(c *Config) { c.Members = nil },
		"no clock":             func(c *Config) { c.Clock = nil },
		"hasty heartbeat":      func(c *Config) { c.Heartbeat = 999 * time.Millisecond },
		"no address":           func(c *Config) { c.Addr = "nowhere" },
		"other address":        func(c *Config) { c.Addr = "127.0.0.1:1" },
		"two of one name":      func(c *Config) { c.Voters = append(slices.Clone(c.Voters), c.Voters[0]) },
		"voter without a name": func(c *Config) { c.Voters = []Peer{{Addr: "127.0.0.1:1"}} },
	} {
		bad := good
		spoil(&bad)
		if _, err := Open(bad, &recorder{}, c, listen(t, "127.0.0.1:0"), dialAs("aa")); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}

	c.start("aa")
	if _, err := Open(good, &recorder{}, c, listen(t, "127.0.0.1:0"), dialAs("aa")); !errors.Is(err, ErrLocked) {
		t.Errorf("directory in use: %v", err)
	}
	c.start("bb")
	c.propose(c.leader(), "x")
	c.kill("aa")
	ahead := &recorder{index: 1 << 20}
	if _, err := Open(good, ahead, c, listen(t, "127.0.0.1:0"), dialAs("aa")); !errors.Is(err, ErrLogBehind) {
		t.Errorf("log rolled back: %v", err)
	}
	good.Dir = t.TempDir()
	if _, err := Open(good, ahead, c, listen(t, "127.0.0.1:0"), dialAs("aa")); !errors.Is(err, ErrLogBehind) {
		t.Errorf("a voter that lost its log: %v", err)
	}
}
