package chaos

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/verify"
)

// Kinds of finding.
const (
	lost       = "lost"
	forked     = "forked"
	unrecorded = "released without entry"
	disorder   = "out of order"
	other      = "other"
)

// findings gathers what must not be, by kind.
type findings struct {
	mu     sync.Mutex
	list   map[string][]string
	checks int
}

func newFindings() *findings { return &findings{list: map[string][]string{}} }

func (f *findings) add(kind, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list[kind] = append(f.list[kind], fmt.Sprintf(format, args...))
}

// check counts a comparison and adds a finding when it fails.
func (f *findings) check(ok bool, kind, format string, args ...any) {
	f.mu.Lock()
	f.checks++
	f.mu.Unlock()
	if !ok {
		f.add(kind, format, args...)
	}
}

func (f *findings) count(kind string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.list[kind])
}

func (f *findings) any() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.list) > 0
}

// watcher compares the nodes' roots for as long as they run.
type watcher struct {
	c     *cluster
	found *findings
	roots map[uint64]gm.Digest
	who   map[uint64]exchange.Dept
}

func (w *watcher) saw(d exchange.Dept, size uint64, root gm.Digest) {
	if have, known := w.roots[size]; known {
		w.found.check(have == root, forked, "%s and %s have other roots at size %d", w.who[size], d, size)
		return
	}
	w.roots[size], w.who[size] = root, d
}

// look compares the heads of all nodes, and their roots at the smallest head.
func (w *watcher) look() {
	least, up := uint64(math.MaxUint64), []exchange.Dept{}
	for _, d := range depts() {
		var s State
		if w.c.nodes[d].call("State", false, &s, 300*time.Millisecond) != nil {
			continue
		}
		up, least = append(up, d), min(least, s.Size)
		w.saw(d, s.Size, s.Root)
		w.found.check(s.Stats.SplitViews == 0 && s.Stats.VerifyFailures == 0, forked, "%s reports a split view or a bad signature", d)
	}
	for _, d := range up {
		var root gm.Digest
		if w.c.nodes[d].call("Root", least, &root, 300*time.Millisecond) == nil {
			w.saw(d, least, root)
		}
	}
}

func (w *watcher) run(stop <-chan struct{}) {
	tick := time.NewTicker(60 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			w.look()
		}
	}
}

// leafAt is an entry's place on the ledger.
type leafAt struct {
	index uint64
	leaf  ledger.Leaf
	entry ledger.Entry
}

type entryKey struct {
	author exchange.Dept
	id     ledger.ID
}

// settle waits until all nodes have the same verified ledger under a checkpoint of
// its whole size, and returns that size.
func settle(c *cluster, within time.Duration) (size uint64, err error) {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		sizes := map[uint64]bool{}
		why := ""
		for _, d := range depts() {
			var s State
			if err := c.nodes[d].call("State", false, &s, time.Second); err != nil {
				why = fmt.Sprintf("%s: %v", d, err)
			} else if s.Verified != s.Size || s.Cosigned != s.Size {
				why = fmt.Sprintf("%s has %d leaves, %d verified and %d cosigned, leader %q", d, s.Size, s.Verified, s.Cosigned, s.Leader)
			}
			sizes[s.Size], size = true, s.Size
		}
		if why == "" && len(sizes) == 1 {
			return size, nil
		}
		err = fmt.Errorf("the nodes do not come to the same ledger: %d sizes; %s", len(sizes), why)
	}
	return 0, err
}

// ledgers fetches every node's leaves and compares them.
func ledgers(c *cluster, f *findings) [][]byte {
	var first [][]byte
	for _, d := range depts() {
		var all [][]byte
		for {
			var part [][]byte
			if err := c.nodes[d].call("Leaves", uint64(len(all)), &part, 10*time.Second); err != nil {
				f.add(other, "%s does not show its leaves: %v", d, err)
				return nil
			}
			if all = append(all, part...); len(part) == 0 {
				break
			}
		}
		if first == nil {
			first = all
		}
		n := min(len(first), len(all))
		f.check(slices.EqualFunc(first[:n], all[:n], bytes.Equal), forked, "%s has other leaves than %s", d, depts()[0])
		f.check(len(first) == len(all), lost, "%s has %d leaves, %s %d", d, len(all), depts()[0], len(first))
	}
	return first
}

// account holds the history against the ledger: what was acknowledged is there once
// and where it was said to be, what was called not proposed is not, and what was open
// is resolved.
func account(history []*op, leaves [][]byte, f *findings) map[*op]*leafAt {
	at := map[entryKey]*leafAt{}
	for i, b := range leaves {
		l, e, err := ledger.DecodeLeaf(b)
		if err != nil {
			f.add(forked, "leaf %d does not decode: %v", i, err)
			continue
		}
		k := entryKey{e.Author, e.ID}
		_, twice := at[k]
		f.check(!twice, forked, "entry %s of %s is there twice", e.ID, e.Author)
		at[k] = &leafAt{uint64(i), l, e}
	}
	became := map[*op]*leafAt{}
	for _, o := range history {
		have := at[entryKey{o.author, o.id}]
		mine := have != nil && bytes.Equal(have.leaf.Entry, o.entry)
		if mine {
			became[o] = have
		}
		switch o.out.Result {
		case "committed", "stale", "refused":
			if o.out.Released && o.out.Index == 0 { // the control without its own node's word has no index
				f.check(mine, lost, "%s of %s was acknowledged and is not there", o.id, o.author)
				break
			}
			f.check(mine && have.index == o.out.Index && have.leaf.Result.String() == o.out.Result, lost,
				"%s %s of %s was acknowledged as %s at %d and is not there", o.kind, o.id, o.author, o.out.Result, o.out.Index)
		case "not-proposed":
			f.check(!mine, disorder, "%s %s of %s was called not proposed and is there", o.kind, o.id, o.author)
		case "conflict":
			f.check(have != nil && !mine, disorder, "%s of %s was called a conflict and is none", o.id, o.author)
		}
	}
	return became
}

// inOrder holds what was acknowledged before another call began to a smaller index.
func inOrder(history []*op, f *findings) {
	var acked []*op
	for _, o := range history {
		if o.out.Result == "committed" || o.out.Result == "stale" || o.out.Result == "refused" {
			acked = append(acked, o)
		}
	}
	calls, returns := slices.Clone(acked), acked
	slices.SortFunc(calls, func(a, b *op) int { return int(a.call - b.call) })
	slices.SortFunc(returns, func(a, b *op) int { return int(a.ret - b.ret) })
	var newest *op
	next := 0
	for _, o := range calls {
		for next < len(returns) && returns[next].ret < o.call {
			if newest == nil || returns[next].out.Index > newest.out.Index {
				newest = returns[next]
			}
			next++
		}
		f.check(newest == nil || newest.out.Index < o.out.Index || newest.id == o.id, disorder,
			"%s at %d began after %s was acknowledged at %d", o.id, o.out.Index, nameOf(newest), positionOf(newest))
	}
}

func nameOf(o *op) string {
	if o == nil {
		return "nothing"
	}
	return o.id.String()
}

func positionOf(o *op) uint64 {
	if o == nil {
		return 0
	}
	return o.out.Index
}

// released holds every response that left a node to its committed entry.
func released(c *cluster, leaves [][]byte, f *findings) int {
	committed := map[entryKey]bool{}
	for _, b := range leaves {
		if l, e, err := ledger.DecodeLeaf(b); err == nil && l.Result == ledger.Committed && e.Kind == ledger.KindAccess {
			committed[entryKey{e.Author, e.ID}] = true
		}
	}
	n := 0
	for _, d := range depts() {
		file, err := os.ReadFile(filepath.Join(c.nodes[d].dir, "released"))
		if err != nil {
			f.add(other, "what %s released: %v", d, err)
			continue
		}
		for lines := bufio.NewScanner(bytes.NewReader(file)); lines.Scan(); n++ {
			id, err := ledger.ParseID(lines.Text())
			f.check(err == nil && committed[entryKey{d, id}], unrecorded, "%s released %s", d, lines.Text())
		}
	}
	return n
}

// register is a consent as the model has it.
type register struct {
	withdrawn bool
	reads     uint32
}

// step is an operation on a consent as the model sees it.
type step struct {
	kind   string
	max    uint32
	result ledger.Result
	slot   ledger.Slot
}

// model is a consent: active until withdrawn, read at most so often.
func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return register{} },
		Step: func(state, input, _ any) (bool, any) {
			r, s := state.(register), input.(step)
			used := s.max > 0 && r.reads >= s.max
			switch {
			case s.kind == "withdraw" && s.result == ledger.Committed:
				return !r.withdrawn, register{true, r.reads}
			case s.kind == "withdraw":
				return r.withdrawn && s.slot == ledger.SlotOrder, r
			case s.result == ledger.Committed:
				return !r.withdrawn && !used, register{false, r.reads + 1}
			case s.slot == ledger.SlotAuthority:
				return r.withdrawn, r
			case s.slot == ledger.SlotQuota:
				return !r.withdrawn && used, r
			}
			return false, r
		},
		DescribeOperation: func(in, _ any) string { return fmt.Sprintf("%+v", in) },
	}
}

// linear has porcupine look for an order of each consent's operations that explains
// what every client saw. Open operations that are on the ledger may have taken effect
// at any time after their call; the others never did.
func linear(history []*op, became map[*op]*leafAt, consents []consent, f *findings) (ops int) {
	limits := map[string]uint32{}
	for _, c := range consents {
		limits[c.key] = c.max
	}
	by := map[string][]porcupine.Operation{}
	for i, o := range history {
		l := became[o]
		if l == nil || o.kind != "access" && o.kind != "withdraw" {
			continue
		}
		ret := int64(o.ret)
		if o.out.Result == "unknown" || o.out.Result == "conflict" || o.out.Result == "not-proposed" {
			ret = math.MaxInt64
		}
		by[o.consent] = append(by[o.consent], porcupine.Operation{ClientId: i, Call: int64(o.call), Return: ret,
			Input: step{o.kind, limits[o.consent], l.leaf.Result, l.leaf.Slot}})
		ops++
	}
	for key, list := range by {
		result := porcupine.CheckOperationsTimeout(model(), list, 20*time.Second)
		f.check(result != porcupine.Illegal, disorder, "the %d operations on consent %s have no order that explains them", len(list), key)
		f.check(result != porcupine.Unknown, other, "porcupine gave up on the %d operations on consent %s", len(list), key)
	}
	return ops
}

// outside has every node export evidence, which must verify without any of them.
func outside(c *cluster, size uint64, f *findings) {
	var told founding
	if err := readJSON(filepath.Join(c.dir, "founding.json"), &told); err != nil {
		f.add(other, "%v", err)
		return
	}
	trust := verify.Trust{Format: verify.FormatTrust, Origin: origin, Root: told.Root, Quorum: 3,
		Authority: verify.Fingerprint(gm.Emmansun(), told.AuthorityCert)}
	for _, d := range depts() {
		trust.Members = append(trust.Members, verify.Member{Dept: d, Name: string(d),
			Certificates: []string{verify.Fingerprint(gm.Emmansun(), told.Sign[d])}})
	}
	about := []uint64{0, size / 3, size / 2, size - 2, size - 1}
	slices.Sort(about)
	about = slices.Compact(about)
	for _, d := range depts() {
		var archive []byte
		var err error
		for range 5 { // the head may move on in between
			if err = c.nodes[d].call("Export", about, &archive, 30*time.Second); err == nil {
				break
			}
			archive = nil
		}
		if err == nil {
			_, err = verify.Run(archive, trust)
		}
		f.check(err == nil, other, "the export of %s does not verify: %v", d, err)
	}
}
