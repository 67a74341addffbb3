package chaos

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// The tests here need the kernel's help, which only root gets.

// must runs a command.
func must(t testing.TB, line string, args ...any) {
	t.Helper()
	words := strings.Fields(fmt.Sprintf(line, args...))
	if b, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(words, " "), err, b)
	}
}

// namespaces is a network of its own for each node, joined by a bridge that stands in
// one more.
type namespaces struct {
	t    *testing.T
	name string
}

func newNamespaces(t *testing.T) *namespaces {
	t.Helper()
	n := &namespaces{t: t, name: fmt.Sprintf("xq%d", os.Getpid())}
	t.Cleanup(func() {
		for _, d := range append(depts(), "hub") {
			exec.Command("ip", "netns", "del", n.of(d)).Run() // with all that is in it
		}
	})
	must(t, "ip netns add %s", n.of("hub"))
	must(t, "ip -n %s link add name hub0 type bridge", n.of("hub"))
	must(t, "ip -n %s link set hub0 up", n.of("hub"))
	for _, d := range depts() {
		must(t, "ip netns add %s", n.of(d))
		must(t, "ip -n %s link add %s type veth peer name eth netns %s", n.of("hub"), n.port(d), n.of(d))
		must(t, "ip -n %s link set %s master hub0 up", n.of("hub"), n.port(d))
		must(t, "ip -n %s addr add %s/24 dev eth", n.of(d), n.addr(d))
		must(t, "ip -n %s link set lo up", n.of(d))
		must(t, "ip -n %s link set eth up", n.of(d))
	}
	return n
}

func (n *namespaces) of(d exchange.Dept) string   { return n.name + string(d) }
func (n *namespaces) port(d exchange.Dept) string { return "to" + string(d) }

func (n *namespaces) addr(d exchange.Dept) string {
	for i, o := range depts() {
		if o == d {
			return fmt.Sprintf("10.77.0.%d", i+1)
		}
	}
	return ""
}

// places has the nodes reach each other without a link between them.
func (n *namespaces) places(*cluster) map[exchange.Dept]place {
	places := map[exchange.Dept]place{}
	for _, d := range depts() {
		raft, peer := n.addr(d)+":7001", n.addr(d)+":7002"
		places[d] = place{Dept: d, Raft: raft, Peer: peer, RaftReal: raft, PeerReal: peer, RaftLink: map[string]string{}, PeerBy: map[string]string{}}
	}
	for _, a := range depts() {
		for _, b := range depts() {
			if a != b {
				places[a].RaftLink[string(b)], places[a].PeerBy[string(b)] = places[b].RaftReal, places[b].PeerReal
			}
		}
	}
	return places
}

// deaf drops what a sends to b.
func (n *namespaces) deaf(a, b exchange.Dept) {
	must(n.t, "ip -n %s route add blackhole %s/32", n.of(a), n.addr(b))
}

func (n *namespaces) hear(a, b exchange.Dept) {
	must(n.t, "ip -n %s route del blackhole %s/32", n.of(a), n.addr(b))
}

// TestNetworkNamespaces loses packets in the kernel: between all, one way, and
// between two.
func TestNetworkNamespaces(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("root: only root makes network namespaces")
	}
	n := newNamespaces(t)
	c := buildCluster(t, home(t), n.places, func(d exchange.Dept) []string { return []string{"ip", "netns", "exec", n.of(d)} })
	broken(t, c, func(w *work, stop <-chan struct{}) {
		lead := func() exchange.Dept {
			if d := c.leader(); d != "" {
				return d
			}
			return depts()[0]
		}
		wait := func() {
			select {
			case <-stop:
			case <-time.After(1500 * time.Millisecond):
			}
		}
		d := lead()
		t.Logf("cable of the leader %s pulled", d)
		must(t, "ip -n %s link set %s down", n.of("hub"), n.port(d))
		wait()
		must(t, "ip -n %s link set %s up", n.of("hub"), n.port(d))
		wait()
		d = lead()
		t.Logf("what the leader %s says is lost", d)
		for _, o := range depts() {
			if o != d {
				n.deaf(d, o)
			}
		}
		wait()
		for _, o := range depts() {
			if o != d {
				n.hear(d, o)
			}
		}
		a, b := depts()[0], depts()[1]
		t.Logf("%s and %s do not hear each other", a, b)
		n.deaf(a, b)
		n.deaf(b, a)
		wait()
		n.hear(a, b)
		n.hear(b, a)
	})
}

// TestFullDisk fills the disk of one voter: it must stop, the others go on, and with
// room again it comes back with the same ledger.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("root: only root mounts a small disk")
	}
	const victim = exchange.Dept("gongan")
	dir := home(t)
	disk := filepath.Join(dir, string(victim))
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "mount -t tmpfs -o size=120m xinqiao %s", disk)
	c := newCluster(t, dir)
	t.Cleanup(func() {
		c.nodes[victim].kill()
		must(t, "umount %s", disk)
	})
	broken(t, c, func(w *work, stop <-chan struct{}) {
		fill(t, filepath.Join(disk, "ballast"))
		node := c.nodes[victim]
		for deadline := time.Now().Add(15 * time.Second); node.running() && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		}
		if node.running() || node.exitCode() != exitDisk {
			t.Errorf("%s goes on with a full disk, or ended with %d", victim, node.exitCode())
		}
		<-stop
		os.Remove(filepath.Join(disk, "ballast"))
		if err := node.start(); err != nil {
			t.Error(err)
		}
	})
}

// fill takes all the room that is left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		for err = nil; err == nil; {
			_, err = io.WriteString(f, strings.Repeat("x", size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// broken runs clients while what breaks the cluster, heals it, and checks.
func broken(t *testing.T, c *cluster, what func(*work, <-chan struct{})) {
	t.Helper()
	if err := c.startAll(); err != nil {
		t.Fatal(err)
	}
	w, f := newWork(c), newFindings()
	if err := w.found(60 * time.Second); err != nil {
		t.Fatal(err)
	}
	stop, quiet := make(chan struct{}), make(chan struct{})
	watch := &watcher{c: c, found: f, roots: map[uint64]gm.Digest{}, who: map[uint64]exchange.Dept{}}
	var clients, watchers, breaker sync.WaitGroup
	watchers.Go(func() { watch.run(quiet) })
	for i := range 4 {
		clients.Go(func() { w.client(rand.New(rand.NewPCG(*flagSeed, uint64(1+i))), stop) })
	}
	breaker.Go(func() { what(w, stop) })
	time.AfterFunc(5*time.Second, func() { close(stop) })
	clients.Wait()
	breaker.Wait()
	if err := w.goesOn(60 * time.Second); err != nil {
		f.add(other, "the exchange does not go on: %v", err)
	}
	size, err := settle(c, 60*time.Second)
	close(quiet)
	watchers.Wait()
	if err != nil {
		f.add(other, "%v", err)
	}
	left := judge(c, w, f)
	if err == nil {
		outside(c, size, f)
	}
	tell(t, w, nil, f, left)
}
