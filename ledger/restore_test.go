package ledger

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/merkle"
)

// stored is a flushed paper ledger: founding, a stale access, one that was
// allowed, and a frame of two.
func stored(t *testing.T) *memStorage {
	t.Helper()
	s := newMemStorage()
	l, r := paperLedger(t, s), paperRealm()
	index := uint64(0)
	write := func(entries ...Entry) {
		index++
		author := entries[0].Author
		frame := r.parties[author].frameOf(t, l.state.authors[author], entries...)
		if err := l.ApplyBatch(index, batchOf(t, time.Unix(int64(index), 0), frame)); err != nil {
			t.Fatal(err)
		}
	}
	for _, entries := range r.founding() {
		write(entries...)
	}
	write(accessEntry("minzheng", "zhujian", label("stale"), Basis{}))
	write(accessEntry("minzheng", "zhujian", label("good"), usualBasis(l.state)))
	write(ackEntry("gongan", label("a"), "minzheng"), ackEntry("gongan", label("b"), "minzheng"))
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestOpenRefusesTamperedDisk rewrites what is stored in ways that keep every
// checksum right: the operator's own attack on his node's past.
func TestOpenRefusesTamperedDisk(t *testing.T) {
	t.Parallel()
	at := func(s *memStorage, fromEnd int) (int, Leaf) {
		i := len(s.leaves) - fromEnd
		leaf, _, err := DecodeLeaf(s.leaves[i])
		if err != nil {
			t.Fatal(err)
		}
		return i, leaf
	}
	change := func(fromEnd int, f func(*Leaf)) func(*memStorage) {
		return func(s *memStorage) {
			i, leaf := at(s, fromEnd)
			f(&leaf)
			s.leaves[i] = canon.MustMarshal(leaf)
		}
	}
	record := func(fromEnd int, f func(*FrameRecord, *FrameBody)) func(*memStorage) {
		return func(s *memStorage) {
			_, leaf := at(s, fromEnd)
			r := s.frames[leaf.Frame]
			var body FrameBody
			if err := canon.Unmarshal(r.Body, &body); err != nil {
				t.Fatal(err)
			}
			f(&r, &body)
			r.Body = canon.MustMarshal(body)
			hash := FrameHash(gm.Emmansun(), r.Body, r.Sig)
			delete(s.frames, leaf.Frame)
			s.frames[hash] = r
			for i, b := range s.leaves {
				l, _, err := DecodeLeaf(b)
				if err != nil {
					t.Fatal(err)
				}
				if l.Frame == leaf.Frame {
					l.Frame = hash
					s.leaves[i] = canon.MustMarshal(l)
				}
			}
		}
	}
	for name, tamper := range map[string]func(*memStorage){
		"a stale access made good":    change(4, func(l *Leaf) { l.Result, l.Slot = Committed, SlotNone }),
		"another slot":                change(4, func(l *Leaf) { l.Slot = SlotQuota }),
		"a good access made stale":    change(3, func(l *Leaf) { l.Result, l.Slot = Stale, SlotCase }),
		"a back-link cut":             change(3, func(l *Leaf) { l.Back = 0 }),
		"time turned back":            change(2, func(l *Leaf) { l.Time = 0 }),
		"a place beyond the frame":    change(1, func(l *Leaf) { l.Pos = 2 }),
		"a place that is another's":   change(1, func(l *Leaf) { l.Pos = 0 }),
		"a frame that is not there":   change(1, func(l *Leaf) { l.Frame[0] ^= 1 }),
		"no frame":                    change(4, func(l *Leaf) { l.Frame = gm.Digest{} }),
		"no leaf":                     func(s *memStorage) { s.leaves[len(s.leaves)-1] = nil },
		"a leaf twice":                func(s *memStorage) { s.leaves = append(s.leaves, s.leaves[len(s.leaves)-1]) },
		"a leaf left out":             func(s *memStorage) { s.leaves = slices.Delete(s.leaves, len(s.leaves)-4, len(s.leaves)-3) },
		"a frame's signature changed": func(s *memStorage) { _, l := at(s, 1); r := s.frames[l.Frame]; r.Sig[0] ^= 1; s.frames[l.Frame] = r },
		"an entry exchanged under the old signature": func(s *memStorage) {
			i, leaf := at(s, 3)
			other := accessEntry("minzheng", "zhujian", label("other"), Basis{})
			leaf.Entry, leaf.Result, leaf.Slot = encode(t, other), Stale, SlotBaseline
			r := s.frames[leaf.Frame]
			r.Leaves = []gm.Digest{merkle.LeafHash(gm.Emmansun(), leaf.Entry)}
			s.leaves[i], s.frames[leaf.Frame] = canon.MustMarshal(leaf), r
		},
		"a gap in a chain":           record(1, func(_ *FrameRecord, b *FrameBody) { b.Seq++ }),
		"a chain cut":                record(1, func(_ *FrameRecord, b *FrameBody) { b.Prev = gm.Digest{} }),
		"another ledger":             record(1, func(_ *FrameRecord, b *FrameBody) { b.Origin = "other" }),
		"another certificate":        record(1, func(_ *FrameRecord, b *FrameBody) { b.Cert[0] ^= 1 }),
		"another department's frame": record(3, func(_ *FrameRecord, b *FrameBody) { b.Dept = "gongan" }),
		"another count":              record(1, func(_ *FrameRecord, b *FrameBody) { b.Count++ }),
		"another root":               record(1, func(_ *FrameRecord, b *FrameBody) { b.Root[0] ^= 1 }),
		"another suite":              record(1, func(_ *FrameRecord, b *FrameBody) { b.Suite = "SM-2" }),
	} {
		s := stored(t)
		if _, err := Open(paperConfig(s.clone())); err != nil {
			t.Fatalf("untouched: %v", err)
		}
		tamper(s)
		if _, err := Open(paperConfig(s)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForgedOnDiskHalts: a stored frame that is well formed and follows, but
// that its author did not sign, opens and is found when it is verified.
func TestForgedOnDiskHalts(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["gongan"]
		s := n.storage.(*memStorage).clone()
		p := *w.realm.parties["zhujian"]
		p.signer = w.realm.parties["gongan"].signer
		l, err := Open(w.config("gongan", s))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.ApplyBatch(s.applied+1, batchOf(t, w.clock(), p.frameOf(t, l.state.authors["zhujian"], withdrawConsent("zhujian")))); err != nil {
			t.Fatal(err)
		}
		if err := l.flush(); err != nil {
			t.Fatal(err)
		}
		good := n.Size()
		o := w.restart("gongan", s)
		synctest.Wait()
		if got := o.Stats(); !errors.Is(o.Halted(), ErrHalted) || got.Verified > good || got.VerifyFailures != 1 {
			t.Errorf("%v, %+v", o.Halted(), got)
		}
	})
}

// TestRestartGoesOn: a node that comes back finds its entries by their ids,
// verifies again what it verified before, and can release.
func TestRestartGoesOn(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) { restartGoesOn(t, w) })
}

func restartGoesOn(t *testing.T, w *world) {
	n := w.nodes["minzheng"]
	e := accessEntry("minzheng", "zhujian", label("a"), n.basis())
	before, err := n.Append(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.cosignAll(t, n.Size())
	n = w.restart("minzheng", n.storage)
	if again, err := n.Append(t.Context(), e); err != nil || again != before {
		t.Errorf("found again: %v %v", again, err)
	}
	r, err := n.Receipt(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	released(t, "after the restart", n.Release(r, OwnNode, responseOf(e.ID)), "")
	if size, _, err := n.Checkpoint(); err != nil || size != n.Size() {
		t.Errorf("checkpoint after the restart: %d %v", size, err)
	}
	p, err := n.Proof(t.Context(), r.Index())
	if err != nil {
		t.Fatal(err)
	}
	var path []gm.Digest
	for _, h := range p.Path {
		path = append(path, gm.Digest(h))
	}
	root, err := n.Root(p.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := merkle.VerifyInclusion(gm.Emmansun(), merkle.LeafHash(gm.Emmansun(), p.Leaf), p.Index, p.Size, path, root); err != nil {
		t.Error(err)
	}
	if record, body, err := DecodeFrameRecord(p.Frame); err != nil || body.Dept != "minzheng" || len(record.Leaves) != 1 {
		t.Errorf("frame of the proof: %v", err)
	}
	if _, err := n.Append(t.Context(), ackEntry("minzheng", label("next"), "gongan")); err != nil {
		t.Errorf("the chain goes on: %v", err)
	}
	if _, err := n.Proof(t.Context(), n.Size()); !errors.Is(err, ErrNotFound) {
		t.Errorf("proof of nothing: %v", err)
	}
}

// TestFlushFailureHalts: a node whose disk fails neither releases nor appends.
func TestFlushFailureHalts(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["minzheng"]
		r, err := n.answer("a")
		if err != nil {
			t.Fatal(err)
		}
		s := n.storage.(*memStorage)
		s.mu.Lock()
		s.fail = errors.New("no space left on device")
		s.mu.Unlock()
		w.write("zhujian", withdrawConsent("zhujian"))
		w.settle()
		if err := n.Halted(); !errors.Is(err, ErrHalted) || !strings.Contains(err.Error(), "no space") {
			t.Errorf("halted: %v", err)
		}
		released(t, "halted", n.Release(r, OwnNode, responseOf(label("a"))), exchange.CodeLedgerBroken)
		if _, err := n.Append(t.Context(), ackEntry("minzheng", label("b"), "gongan")); !errors.Is(err, ErrHalted) {
			t.Errorf("append: %v", err)
		}
	})
}
