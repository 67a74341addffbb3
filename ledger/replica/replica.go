package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"xinqiao/exchange"
)

// Errors of Open.
var (
	// ErrConfig: the configuration cannot make a replica.
	ErrConfig = errors.New("replica configuration")
	// ErrLocked: another process uses the directory.
	ErrLocked = errors.New("replica directory is in use")
	// ErrLogBehind: the raft log ends before what the ledger has applied. A part
	// of it was lost or rolled back, so this node must not vote with it.
	ErrLogBehind = errors.New("raft log is behind the ledger")
)

// An Applier takes committed commands in order; *ledger.Ledger is one.
type Applier interface {
	// ApplyBatch takes the command at a position of the log. Positions rise. An
	// error means that this node must stop.
	ApplyBatch(raftIndex uint64, batch []byte) error
	// AppliedIndex returns the position last taken; after a restart, the last
	// durable one. It is zero for an empty ledger.
	AppliedIndex() uint64
}

// A Forwarder carries a frame to the leader's node; exchange/peer is one.
type Forwarder interface {
	// Forward returns nil once the leader says that the frame is committed,
	// ledger.ErrNotProposed when it certainly was not handed on, and anything
	// else when that is not known.
	Forward(ctx context.Context, leader exchange.Dept, frame []byte) error
}

// Dial opens an authenticated connection to dept's raft address. The
// connection's other end must be dept, or Dial fails.
type Dial func(ctx context.Context, addr string, dept exchange.Dept) (net.Conn, error)

// A Peer is one department's node as the raft configuration knows it.
type Peer struct {
	Dept  exchange.Dept
	Addr  string // host:port
	Voter bool
}

// Config is what a Replica needs. Every func must be given.
type Config struct {
	Self exchange.Dept
	Dir  string // holds the raft log and this node's votes; never copied from another node
	Addr string // this node's raft address as the others dial it, host:port

	// Voters is the first configuration, from the genesis file: the same on every
	// node. A node that is in it bootstraps when it has no log yet.
	Voters []Peer
	// Genesis holds the frames that the first leader proposes to an empty ledger,
	// as one command.
	Genesis [][]byte
	// Members returns the members that signed member entries name, empty while
	// the ledger is. The leader makes the raft configuration follow it.
	Members func() []Peer
	// CaughtUp reports whether dept's node has shown that it has the whole ledger.
	// The leader gives a vote to nobody else.
	CaughtUp func(dept exchange.Dept) bool
	// Check refuses a frame that must not enter the log: malformed, or not signed
	// by a member. What does not parse halts every node that applies it, so the
	// leader asks first. It is called concurrently.
	Check func(frame []byte) error
	// PeerOf returns whose connection the listener has accepted.
	PeerOf func(net.Conn) (exchange.Dept, bool)

	Clock func() time.Time
	Log   *slog.Logger
	// Heartbeat is how long a follower waits for its leader; one second when
	// zero and never less, because heartbeats wait behind disk writes here.
	Heartbeat time.Duration
	// Crash is called at named points and may end or delay the process there, in
	// tests of faults; nil elsewhere.
	Crash func(point string)
}

// Replica is this node's part in consensus. It is safe for concurrent use.
type Replica struct {
	cfg     Config
	applier Applier
	forward Forwarder

	raft  *raft.Raft // set once started is
	fsm   *fsm
	log   *wal.WAL
	net   *network
	lock  *os.File
	fault *fault
	count counters

	queue   chan *pending
	queued  atomic.Int64  // bytes waiting in queue
	done    chan struct{} // closed by close
	once    sync.Once
	workers sync.WaitGroup

	pace    pace
	heard   heard
	yielded time.Time // when this node last handed over for its disk; the leader's duties alone use it

	mu      sync.Mutex
	started atomic.Bool
	leading atomic.Bool // this node leads and the ledger has its genesis; written under mu
}

// Open starts a replica in cfg.Dir on connections from l and to addresses that
// dial reaches. It owns l from now on. The log goes on behind a's AppliedIndex.
func Open(cfg Config, a Applier, f Forwarder, l net.Listener, dial Dial) (*Replica, error) {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = time.Second
	}
	if cfg.Crash == nil {
		cfg.Crash = func(string) {}
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if a == nil || f == nil || l == nil || dial == nil {
		return nil, fmt.Errorf("%w: applier, forwarder, listener and dial must be given", ErrConfig)
	}
	r := &Replica{cfg: cfg, applier: a, heard: heard{failed: map[exchange.Dept]struct{}{}}, forward: f, fault: newFault(), queue: make(chan *pending, maxQueue), done: make(chan struct{})}
	logger := newRaftLogger(cfg.Log)
	stable, logs, err := r.openStores(logger)
	if err != nil {
		r.closeStores()
		return nil, err
	}
	r.net = newNetwork(netConfig{Addr: cfg.Addr, Listener: l, Dial: r.dialer(dial), PeerOf: cfg.PeerOf, Voter: r.isVoter,
		Logger: logger, Log: cfg.Log, Count: &r.count, Stuck: pipelineStuck})
	notify := make(chan bool, 16)
	rc := raftConfig(cfg, logger, notify)
	if err := r.start(rc, logs, stable); err != nil {
		r.net.Close()
		r.closeStores()
		return nil, err
	}
	r.workers.Go(r.proposeLoop)
	r.workers.Go(func() { r.leadLoop(notify) })
	r.workers.Go(r.watchFault)
	return r, nil
}

func (c Config) check() error {
	var missing []string
	need := func(ok bool, name string) {
		if !ok {
			missing = append(missing, name)
		}
	}
	need(c.Self.Valid(), "Self")
	need(c.Dir != "", "Dir")
	need(c.Members != nil, "Members")
	need(c.CaughtUp != nil, "CaughtUp")
	need(c.Check != nil, "Check")
	need(c.PeerOf != nil, "PeerOf")
	need(c.Clock != nil, "Clock")
	need(c.Log != nil, "Log")
	need(c.Heartbeat >= time.Second, "Heartbeat of at least 1s")
	_, _, err := net.SplitHostPort(c.Addr)
	need(err == nil, "Addr as host:port")
	seen := map[string]bool{}
	for _, v := range c.Voters {
		need(v.Dept.Valid() && v.Addr != "" && !seen[string(v.Dept)] && !seen[v.Addr], "Voters with distinct names and addresses")
		need(v.Dept != c.Self || v.Addr == c.Addr, "the same Addr in Voters and for this node")
		seen[string(v.Dept)], seen[v.Addr] = true, true
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: want %s", ErrConfig, strings.Join(missing, ", "))
	}
	return nil
}

// raftConfig states every setting of the library that matters here.
func raftConfig(cfg Config, logger hclog.Logger, notify chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(cfg.Self)
	c.HeartbeatTimeout = cfg.Heartbeat
	c.ElectionTimeout = cfg.Heartbeat
	c.LeaderLeaseTimeout = cfg.Heartbeat / 2
	c.CommitTimeout = 5 * time.Millisecond // a follower applies at 9 ms instead of 76
	c.MaxAppendEntries = 32                // entries are batches: see DESIGN.md
	c.BatchApplyCh = true
	c.ShutdownOnRemove = true
	c.NoSnapshotRestoreOnStart = true
	c.NoLegacyTelemetry = true
	c.SnapshotThreshold = ^uint64(0) >> 1
	c.SnapshotInterval = 24 * time.Hour
	c.TrailingLogs = ^uint64(0) >> 1
	c.NotifyCh = notify
	c.Logger = logger
	return c
}

// openStores locks the directory and opens what is in it.
func (r *Replica) openStores(logger hclog.Logger) (*stable, raft.LogStore, error) {
	dir := filepath.Join(r.cfg.Dir, "log")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the replica's directory: %w", err)
	}
	var err error
	if r.lock, err = lockDir(r.cfg.Dir); err != nil {
		return nil, nil, err
	}
	votes, err := openStable(filepath.Join(r.cfg.Dir, "votes"), r.fault, r.cfg.Crash)
	if err != nil {
		return nil, nil, err
	}
	if r.log, err = wal.Open(dir, wal.WithLogger(logger.Named("wal"))); err != nil {
		return nil, nil, fmt.Errorf("open the raft log: %w", err)
	}
	r.fsm = newFSM(r.applier, r.fault)
	g := &guard{WAL: timed{r.log, &r.pace, r.cfg.Crash}, applied: &r.fsm.delivered, votes: votes, self: r.cfg.Self, addr: r.cfg.Addr, fault: r.fault, crash: r.cfg.Crash}
	cache, err := raft.NewLogCache(logCache, g)
	return votes, cache, err
}

// logCache is how many log entries stay in memory for followers that are a
// little behind. An entry is a batch of up to maxBatch bytes.
const logCache = 512

// start checks log against ledger, bootstraps when this node is one of the
// first voters and has no log, and starts raft.
func (r *Replica) start(rc *raft.Config, logs raft.LogStore, votes *stable) error {
	last, err := logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read the raft log: %w", err)
	}
	applied := r.applier.AppliedIndex()
	first := slices.ContainsFunc(r.cfg.Voters, func(p Peer) bool { return p.Dept == r.cfg.Self })
	// A replica that never voted may lose its log: it gets it all again.
	if last < applied && (last > 0 || first || votes.voted()) {
		return fmt.Errorf("%w: it ends at %d, the ledger has applied %d: join again as a new replica", ErrLogBehind, last, applied)
	}
	if first && last == 0 {
		if err := votes.forgetBootstrap(); err != nil {
			return err
		}
		err := raft.BootstrapCluster(rc, logs, votes, noSnapshots{}, r.net, firstConfiguration(r.cfg.Voters))
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("write the first raft configuration: %w", err)
		}
	}
	r.raft, err = raft.NewRaft(rc, r.fsm, logs, votes, noSnapshots{}, r.net)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	r.raft.RegisterObserver(r.heard.observer())
	r.started.Store(true)
	return nil
}

// firstConfiguration gives the same bytes on every voter.
func firstConfiguration(voters []Peer) raft.Configuration {
	var c raft.Configuration
	for _, v := range voters {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(v.Dept), Address: raft.ServerAddress(v.Addr)})
	}
	slices.SortFunc(c.Servers, func(a, b raft.Server) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return c
}

// dialer maps an address of the raft configuration to the department that must
// answer there.
func (r *Replica) dialer(dial Dial) func(addr string, timeout time.Duration) (net.Conn, error) {
	return func(addr string, timeout time.Duration) (net.Conn, error) {
		for _, p := range slices.Concat(r.cfg.Members(), r.cfg.Voters) {
			if p.Addr == addr {
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				return dial(ctx, addr, p.Dept)
			}
		}
		return nil, fmt.Errorf("no member has the raft address %s", addr)
	}
}

// isVoter reports whether dept may send raft messages: only voters ever do. The
// genesis counts until the ledger here has members; who has just lost its vote
// counts until raft's configuration has followed, or it could not hand over.
func (r *Replica) isVoter(dept exchange.Dept) bool {
	known := r.cfg.Members()
	if len(known) == 0 {
		known = r.cfg.Voters
	}
	if hasVote(known, dept) {
		return true
	}
	if !r.started.Load() {
		return false
	}
	conf, _ := r.configuration()
	return hasVote(conf, dept)
}

// Leader returns the department that leads as far as this node knows, or "".
func (r *Replica) Leader() exchange.Dept {
	_, id := r.raft.LeaderWithID()
	return exchange.Dept(id)
}

// IsLeader reports whether this node leads and takes frames.
func (r *Replica) IsLeader() bool { return r.leading.Load() && r.raft.State() == raft.Leader }

// Fatal delivers the error after which this node must stop: a failed write, a
// command that does not apply, an attempt to rewrite what was committed. Raft
// has then stopped already.
func (r *Replica) Fatal() <-chan error { return r.fault.ch }

// watchFault stops raft, so that a node with a doubtful disk neither votes nor
// leads while its process winds down.
func (r *Replica) watchFault() {
	select {
	case <-r.done:
	case <-r.fault.tripped:
		r.cfg.Log.Error("replica stopped: the node must be restarted", "cause", r.fault.get())
		// Only the first call waits for raft to end, and close waits for this one.
		if err := r.raft.Shutdown().Error(); err != nil {
			r.cfg.Log.Warn("raft did not stop cleanly", "err", err)
		}
	}
}

// Shutdown hands leadership over when this node leads, waits for that until ctx
// ends, and stops. What was committed is durable.
func (r *Replica) Shutdown(ctx context.Context) error {
	if r.raft.State() == raft.Leader && r.fault.get() == nil {
		r.setLeading(false)
		transfer := make(chan error, 1)
		go func() { transfer <- r.raft.LeadershipTransfer().Error() }()
		select {
		case err := <-transfer:
			if err != nil {
				r.cfg.Log.Warn("leadership was not handed over: the others elect", "err", err)
			}
		case <-ctx.Done():
		}
	}
	return r.close()
}

// close stops without handing leadership over.
func (r *Replica) close() error {
	var err error
	r.once.Do(func() {
		r.setLeading(false)
		close(r.done)
		err = r.raft.Shutdown().Error()
		err = errors.Join(err, r.net.Close())
		r.workers.Wait()
		err = errors.Join(err, r.closeStores())
	})
	return err
}

func (r *Replica) closeStores() error {
	var errs []error
	if r.log != nil {
		errs = append(errs, r.log.Close())
	}
	if r.lock != nil {
		errs = append(errs, r.lock.Close())
	}
	return errors.Join(errs...)
}

// answerWithin is how long raft may take to answer. A leader that is cut off
// steps down within its lease, which answers; what takes longer is lost.
const answerWithin = 2 * changeWithin

var errNoAnswer = errors.New("raft does not answer")

// await waits for f. Raft never answers what waits in its queues when it stops,
// and not always what does when it steps down, so this ends as well with the
// replica and after answerWithin; then the outcome is open.
func (r *Replica) await(f raft.Future) error {
	answer := make(chan error, 1)
	go func() { answer <- f.Error() }()
	t := time.NewTimer(answerWithin)
	defer t.Stop()
	select {
	case err := <-answer:
		return err
	case <-t.C:
		return errNoAnswer
	case <-r.done:
	case <-r.fault.tripped:
	}
	return raft.ErrRaftShutdown
}

func (r *Replica) setLeading(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leading.Store(on)
}
