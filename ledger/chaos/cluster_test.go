package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"xinqiao/exchange"
)

// cluster is the nodes' processes and the links between them.
type cluster struct {
	t     testing.TB
	dir   string
	links map[string]*link // "raft a b" is how a reaches b
	nodes map[exchange.Dept]*node
}

// node is one node's process, which comes and goes.
type node struct {
	dept    exchange.Dept
	dir     string
	command []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	in   interface{ Close() error }
	dead chan struct{}
	rpc  *rpc.Client
	exit int // of the last process; -1 killed
}

// errDown: the node's process is not there or does not answer in time.
var errDown = errors.New("the node does not answer")

// newCluster founds a ledger whose nodes reach each other by links, and starts
// nothing.
func newCluster(t testing.TB, dir string) *cluster {
	t.Helper()
	return buildCluster(t, dir, (*cluster).linked, func(exchange.Dept) []string { return nil })
}

// buildCluster founds a ledger at the places that lay gives, for processes that are
// run by way of the command that prefix gives.
func buildCluster(t testing.TB, dir string, lay func(*cluster) map[exchange.Dept]place, prefix func(exchange.Dept) []string) *cluster {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: dir, links: map[string]*link{}, nodes: map[exchange.Dept]*node{}}
	if err := found(dir, lay(c)); err != nil {
		t.Fatal(err)
	}
	for _, d := range depts() {
		c.nodes[d] = &node{dept: d, dir: filepath.Join(dir, string(d)), command: append(prefix(d), exe)}
		c.configure(d, func(*settings) {})
	}
	t.Cleanup(c.close)
	return c
}

// linked has the nodes on loopback, with a link for each ordered pair and protocol.
func (c *cluster) linked() map[exchange.Dept]place {
	places := map[exchange.Dept]place{}
	addr := func() string {
		a, err := freeAddr()
		if err != nil {
			c.t.Fatal(err)
		}
		return a
	}
	for _, d := range depts() {
		places[d] = place{Dept: d, Raft: addr(), Peer: addr(), RaftReal: addr(), PeerReal: addr(), RaftLink: map[string]string{}, PeerBy: map[string]string{}}
	}
	join := func(kind string, a, b exchange.Dept, to string) string {
		k, err := newLink("127.0.0.1:0", to)
		if err != nil {
			c.t.Fatal(err)
		}
		c.links[kind+" "+string(a)+" "+string(b)] = k
		return k.l.Addr().String()
	}
	for _, a := range depts() {
		for _, b := range depts() {
			if a != b {
				places[a].RaftLink[string(b)] = join("raft", a, b, places[b].RaftReal)
				places[a].PeerBy[string(b)] = join("peer", a, b, places[b].PeerReal)
			}
		}
	}
	return places
}

func (c *cluster) configure(d exchange.Dept, change func(*settings)) {
	c.t.Helper()
	s := settings{Self: d, Founding: filepath.Join(c.dir, "founding.json")}
	change(&s)
	b, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.nodes[d].dir, "settings.json"), b, 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) close() {
	for _, n := range c.nodes {
		n.kill()
	}
	for _, k := range c.links {
		k.close()
	}
}

// weather sets both kinds of link from a to b: there carries what a says to b,
// over the connections of either.
func (c *cluster) weather(a, b exchange.Dept, w weather) {
	for _, kind := range []string{"raft ", "peer "} {
		k, back := c.links[kind+string(a)+" "+string(b)], c.links[kind+string(b)+" "+string(a)]
		k.set(w, k.weather(true))
		back.set(back.weather(false), w)
	}
}

// heal mends every link.
func (c *cluster) heal() {
	for _, k := range c.links {
		k.set(weather{}, weather{})
	}
}

// start runs the node's process unless it runs, and waits until it answers or has
// ended again.
func (n *node) start() error {
	n.mu.Lock()
	if n.cmd != nil {
		n.mu.Unlock()
		return nil
	}
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.mu.Unlock()
		return err
	}
	cmd := exec.Command(n.command[0], n.command[1:]...)
	cmd.Env = append(os.Environ(), nodeVariable+"="+n.dir)
	cmd.Stdout, cmd.Stderr = log, log
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	log.Close()
	if err != nil {
		n.mu.Unlock()
		return err
	}
	n.cmd, n.in, n.dead = cmd, in, make(chan struct{})
	dead := n.dead
	n.mu.Unlock()
	go n.reap(cmd, dead)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-dead:
			return fmt.Errorf("%s ended at once with code %d", n.dept, n.exitCode())
		default:
		}
		conn, err := net.Dial("unix", filepath.Join(n.dir, "control"))
		if err != nil {
			continue
		}
		n.mu.Lock()
		n.rpc = rpc.NewClient(conn)
		n.mu.Unlock()
		return nil
	}
	return fmt.Errorf("%s does not start", n.dept)
}

// reap waits for the process and notes how it ended.
func (n *node) reap(cmd *exec.Cmd, dead chan struct{}) {
	cmd.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.exit = cmd.ProcessState.ExitCode()
	if n.rpc != nil {
		n.rpc.Close()
	}
	n.cmd, n.rpc = nil, nil
	close(dead)
}

func (n *node) exitCode() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.exit
}

func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd != nil
}

func (n *node) signal(s syscall.Signal) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	n.cmd.Process.Signal(s)
	return n.dead
}

// kill is kill -9; it returns when the process is gone.
func (n *node) kill() { <-n.signal(syscall.SIGKILL) }

// call asks the node's process, and gives up after a time: it may be stopped.
func (n *node) call(method string, in, out any, within time.Duration) error {
	n.mu.Lock()
	c := n.rpc
	n.mu.Unlock()
	if c == nil {
		return errDown
	}
	call := c.Go("Node."+method, in, out, make(chan *rpc.Call, 1))
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-call.Done:
		return call.Error
	case <-t.C:
		return errDown
	}
}

// startAll starts every node that is down.
func (c *cluster) startAll() error {
	var wg sync.WaitGroup
	errs := make([]error, len(depts()))
	for i, d := range depts() {
		wg.Go(func() { errs[i] = c.nodes[d].start() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// leader returns who leads, or "".
func (c *cluster) leader() exchange.Dept {
	for _, d := range depts() {
		var s State
		if c.nodes[d].call("State", false, &s, time.Second) == nil && s.Leads {
			return d
		}
	}
	return ""
}
