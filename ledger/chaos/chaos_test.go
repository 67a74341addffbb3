package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// home makes a short directory: sockets lie in it, and their paths are bounded. It
// stays when the test fails.
func home(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(*flagDir, "xqchaos")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the nodes' directories are kept in %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	return dir
}

// TestChaos drives a cluster through faults, and checks all the while.
func TestChaos(t *testing.T) {
	seed := *flagSeed
	t.Logf("seed %d, %d s", seed, *flagSeconds)
	c := newCluster(t, home(t))
	if err := c.startAll(); err != nil {
		t.Fatal(err)
	}
	w, f := newWork(c), newFindings()
	if err := w.found(60 * time.Second); err != nil {
		t.Fatal(err)
	}
	stop, quiet := make(chan struct{}), make(chan struct{})
	n := newNemesis(c, rand.New(rand.NewPCG(seed, 0)), func(format string, args ...any) {
		t.Logf("%7.2fs %s", w.now().Seconds(), fmt.Sprintf(format, args...))
	})
	watch := &watcher{c: c, found: f, roots: map[uint64]gm.Digest{}, who: map[uint64]exchange.Dept{}}
	var clients, watchers sync.WaitGroup
	watchers.Go(func() { watch.run(quiet) })
	for i := range 8 {
		clients.Go(func() { w.client(rand.New(rand.NewPCG(seed, uint64(1+i))), stop) })
	}
	clients.Go(func() { n.run(stop) })
	time.Sleep(time.Duration(*flagSeconds) * time.Second) // the length of the run, not a wait for something
	close(stop)
	clients.Wait()
	if err := w.goesOn(60 * time.Second); err != nil {
		f.add(other, "the exchange does not go on: %v", err)
	}
	n.tend()
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
	for _, s := range n.strange {
		f.add(other, "%s", s)
	}
	tell(t, w, n.count, f, left)
	if f.any() {
		t.Errorf("repeat with: make chaos SECONDS=%d SEED=%d", *flagSeconds, seed)
	}
}

// judge holds the history to the ledger of all nodes, and returns how many responses
// were released.
func judge(c *cluster, w *work, f *findings) (left int) {
	leaves := ledgers(c, f)
	became := account(w.history, leaves, f)
	inOrder(w.history, f)
	linear(w.history, became, w.consents, f)
	return released(c, leaves, f)
}

func tell(t *testing.T, w *work, faults map[string]int, f *findings, left int) {
	t.Helper()
	results := map[string]int{}
	for _, o := range w.history {
		results[o.out.Result]++
	}
	t.Logf("faults: %s", counts(faults))
	t.Logf("operations: %d and %d reads: %s; %d responses released", len(w.history), w.reads, counts(results), left)
	t.Logf("checks: %d", f.checks)
	for kind, list := range f.list {
		for _, text := range list[:min(len(list), 10)] {
			t.Errorf("%s: %s", kind, text)
		}
	}
	t.Logf("%d lost, %d forked, %d released without entry", f.count(lost), f.count(forked), f.count(unrecorded))
}

func counts(m map[string]int) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s %d, ", k, m[k])
	}
	return strings.TrimSuffix(b.String(), ", ")
}
