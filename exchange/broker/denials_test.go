package broker

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// summaries lists the summary entries that a node's replica holds.
func (w *world) summaries(at exchange.Dept) (list []ledger.Denials) {
	w.t.Helper()
	w.delivered()
	l := w.sites[at].ledger
	for i := range l.Size() {
		_, e, err := ledger.DecodeLeaf(must[[]byte](w.t)(l.Leaf(i)))
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Denied != nil {
			list = append(list, *e.Denied)
		}
	}
	return list
}

// denials counts the denials that have an entry of their own.
func (w *world) denials(to exchange.Dept) (n int) {
	for _, a := range w.accesses(holder) {
		if a.Requester == to && a.Outcome == exchange.Refused {
			n++
		}
	}
	return n
}

// flood sends the holder n requests that come to nothing, and returns the chain
// over those that it only counted.
func (w *world) flood(from exchange.Dept, name string, n int, chain gm.Digest) (counted int, _ gm.Digest) {
	w.t.Helper()
	for i := range n {
		msg := fmt.Appendf(nil, "%s %d", name, i)
		_, err := w.sites[holder].broker.Answer(w.t.Context(), from, msg)
		switch {
		case err == nil:
		case exchange.Is(err, exchange.Unavailable) && exchange.AsError(err).Code == exchange.CodeQuota:
			counted++
			chain = ledger.ChainDenial(w.engine, chain, digestOf(w.engine, msg))
		default:
			w.t.Fatal(err)
		}
	}
	return counted, chain
}

// later ends the window; the authority's word carries the ledger's clock over.
func (w *world) later() {
	w.t.Helper()
	w.advance(denialWindow)
	w.decree(ledger.FactChange{Type: ledger.FactMember, Key: "elsewhere", Action: ledger.Set})
}

// TestFloodOfDenials: ten thousand invalid requests make a bounded number of
// leaves and one summary with their exact number, whatever restarts in between,
// and stand in nobody's way.
func TestFloodOfDenials(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		const flood = 10000
		s := w.sites[holder]
		id := w.consent(5)
		before := s.ledger.Size()
		first, chain := w.flood(asker, "first", flood/2, gm.Digest{})
		s.restart()
		second, chain := w.flood(asker, "second", flood/2, chain)
		if got := w.denials(asker); got != denialQuota || first+second != flood-denialQuota {
			t.Errorf("%d denials with an entry, %d counted", got, first+second)
		}
		if got := s.ledger.Size() - before; got != denialQuota {
			t.Errorf("%d leaves", got)
		}
		if got := s.broker.Denials(); got.Counted != flood/2 || got.Summarised != 0 {
			t.Errorf("figures: %+v", got)
		}
		// A request that is in order is answered, to the same department too, and
		// another's denial has its entry.
		if got := must[exchange.Answer](t)(w.askWith("k", question(id))); got.Outcome != exchange.Allowed {
			t.Errorf("the flood stands in the way: %s for %v", got.Outcome, got.Reasons)
		}
		if counted, _ := w.flood(other, "other", 3, gm.Digest{}); counted != 0 || w.denials(other) != 3 {
			t.Errorf("another department: %d counted, %d with an entry", counted, w.denials(other))
		}
		// What was denied with an entry is answered again without being counted.
		if counted, _ := w.flood(asker, "first", denialQuota, gm.Digest{}); counted != 0 {
			t.Errorf("%d repeated denials are counted again", counted)
		}
		w.ok(s.broker.summarise(t.Context()))
		if got := w.summaries(holder); len(got) != 0 {
			t.Errorf("a summary before the end: %+v", got)
		}
		w.later()
		for range 2 {
			w.ok(s.broker.summarise(t.Context()))
		}
		want := ledger.Denials{Requester: asker, From: w.base.UnixMilli(), To: w.base.Add(denialWindow).UnixMilli(), Count: flood - denialQuota, Chain: chain}
		for _, at := range w.order {
			if got := w.summaries(at); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %+v, want %+v", at, got, want)
			}
		}
		if got := s.broker.Denials(); got.Summarised != flood-denialQuota {
			t.Errorf("figures: %+v", got)
		}
		if n := len(s.store.rows[kindDenials]); n != 0 {
			t.Errorf("%d tallies are left", n)
		}
		if counted, _ := w.flood(asker, "anew", 2, gm.Digest{}); counted != 0 {
			t.Error("the next window has no quota")
		}
	})
}

// TestDenialQuotaOfSignedRequests: the quota is about denials of every kind, and
// a department that is over it is told so and not that it was denied.
func TestDenialQuotaOfSignedRequests(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		w.flood(asker, "flood", denialQuota, gm.Digest{})
		q := question(ledger.ID{1}.String()) // no such consent
		_, err := w.askWith("k", q)
		if !exchange.Is(err, exchange.Unavailable) || exchange.AsError(err).Code != exchange.CodeQuota {
			t.Errorf("over the quota: %v", err)
		}
		w.later()
		if got := must[exchange.Answer](t)(w.askWith("k", q)); got.Outcome != exchange.Refused || len(got.Reasons) == 0 {
			t.Errorf("with the same key, later: %+v", got)
		}
	})
}

// TestSummaryIsMadeOnce: wherever a summary fails, the counts are kept, and in
// the end there is one.
func TestSummaryIsMadeOnce(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	crash := errors.New("crash")
	for name, fail := range map[string]func(w *world){
		"not proposed":                 func(w *world) { w.setFate(func(exchange.Dept) fate { return refuse }) },
		"lost on its way":              func(w *world) { w.setFate(func(exchange.Dept) fate { return drop }) },
		"committed, the answer lost":   func(w *world) { w.setFate(func(exchange.Dept) fate { return lose }) },
		"stopped before it is sent":    func(w *world) { w.sites[holder].once("holder-before-summary", func() { panic(crash) }) },
		"stopped after it is recorded": func(w *world) { w.sites[holder].once("holder-after-summary", func() { panic(crash) }) },
		"the disk fails": func(w *world) {
			w.sites[holder].store.fault = func(string) (bool, bool) { return true, false }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				s := w.sites[holder]
				counted, chain := w.flood(asker, "flood", denialQuota+7, gm.Digest{})
				w.later()
				fail(w)
				func() {
					defer func() {
						if p := recover(); p != nil && p != crash {
							panic(p)
						}
					}()
					if err := s.broker.summarise(t.Context()); err == nil && name != "committed, the answer lost" {
						t.Error("it did not fail")
					}
				}()
				s.store.fault = nil
				w.setFate(nil)
				s.restart()
				// A clock that has gone back adds nothing to what may be on the ledger.
				w.clock.Add(-denialWindow.Milliseconds())
				if n, _ := w.flood(asker, "back", 1, gm.Digest{}); n > 1 {
					t.Errorf("%d counted", n)
				}
				w.clock.Add(denialWindow.Milliseconds())
				w.ok(s.broker.summarise(t.Context()))
				w.deliverLate()
				var total uint64
				got := w.summaries(asker)
				for _, d := range got {
					total += d.Count
				}
				// The disk that failed had not closed the window: it takes the eighth.
				want := uint64(counted)
				if name == "the disk fails" {
					want++
				} else if len(got) != 1 || got[0].Chain != chain {
					t.Errorf("summaries: %+v", got)
				}
				if total != want {
					t.Errorf("%d are summed up, want %d", total, want)
				}
			})
		})
	}
}

// TestCountIsKeptBeforeTheAnswer: a node that stops between count and answer has
// counted; one whose disk does not take the count says nothing.
func TestCountIsKeptBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		s := w.sites[holder]
		w.flood(asker, "flood", denialQuota+1, gm.Digest{})
		s.once("holder-after-count", func() { panic("crash") })
		func() {
			defer func() { _ = recover() }()
			w.flood(asker, "crash", 1, gm.Digest{})
		}()
		s.restart()
		s.store.fault = func(string) (bool, bool) { return true, false }
		if _, err := s.broker.Answer(t.Context(), asker, []byte("disk")); err == nil || exchange.AsError(err).Code == exchange.CodeQuota {
			t.Errorf("an answer without a count: %v", err)
		}
		s.store.fault = nil
		w.advance(time.Minute)
		w.later()
		w.ok(s.broker.summarise(t.Context()))
		if got := w.summaries(holder); len(got) != 1 || got[0].Count != 2 {
			t.Errorf("summaries: %+v", got)
		}
	})
}
