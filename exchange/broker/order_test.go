package broker

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/canon"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// result is what an Ask in the background came to.
type result struct {
	answer exchange.Answer
	err    error
}

// askInBackground starts an Ask. finished reports whether it has ended once
// nothing can move any more.
func (w *world) askInBackground(key string, q exchange.Question) (finished func() bool, wait func() result) {
	done := make(chan result, 1)
	go func() {
		answer, err := w.askWith(key, q)
		done <- result{answer, err}
	}()
	return func() bool { synctest.Wait(); return len(done) > 0 }, func() result { return <-done }
}

// holdBack keeps a site from taking any further access as verified.
func (s *site) holdBack() (open func()) {
	gate := make(chan struct{})
	fn := func(e ledger.Entry) {
		if e.Kind == ledger.KindAccess {
			<-gate
		}
	}
	s.gate.Store(&fn)
	return func() { s.gate.Store(nil); close(gate) }
}

// TestNothingLeavesEarly holds back one step after the other. While it is held
// back the holder has said nothing; afterwards there is one answer.
func TestNothingLeavesEarly(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for _, test := range []struct {
		name    string
		hold    func(w *world) (open func())
		replied bool // the holder may have answered: it is the requester who waits
	}{
		{"the entry is not ordered", func(w *world) func() {
			w.setFate(func(from exchange.Dept) fate { return refuse })
			return func() { w.setFate(nil) }
		}, false},
		{"the entry is not applied at the holder", func(w *world) func() {
			w.hold(holder, true)
			return func() { w.hold(holder, false) }
		}, false},
		{"the entry is not verified at the holder", func(w *world) func() { return w.sites[holder].holdBack() }, false},
		{"the entry is not applied at the requester", func(w *world) func() {
			w.hold(asker, true)
			return func() { w.hold(asker, false) }
		}, true},
		{"the entry is not verified at the requester", func(w *world) func() { return w.sites[asker].holdBack() }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				id := w.consent(5)
				var replied atomic.Bool
				honest := w.ask
				w.ask = func(ctx context.Context, from, to exchange.Dept, msg []byte) ([]byte, error) {
					out, err := honest(ctx, from, to, msg)
					replied.Store(len(out) > 0)
					return out, err
				}
				open := test.hold(w)
				finished, wait := w.askInBackground("k", question(id))
				if finished() || replied.Load() != test.replied {
					t.Errorf("finished, or the holder has replied: %v", replied.Load())
				}
				open()
				if r := wait(); r.err != nil || r.answer.Outcome != exchange.Allowed || w.released(other) != 1 {
					t.Errorf("%v, %v, %d released", r.answer.Outcome, r.err, w.released(other))
				}
			})
		})
	}
}

// TestOutboxFirst: when the entry is proposed, the very answer and detail that
// it names are in the holder's store.
func TestOutboxFirst(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		s := w.sites[holder]
		seen := 0
		w.setFate(func(from exchange.Dept) fate {
			if from != holder {
				return deliver
			}
			w.ok(s.store.Each(kindOutbox, func(_, raw []byte) error {
				var p prepared
				if err := canon.Unmarshal(raw, &p); err != nil {
					return err
				}
				e, err := ledger.DecodeEntry(p.Entry)
				if err == nil && e.Access.Response == w.engine.Sum(p.Sealed) && len(p.Body) > 0 {
					seen++
				}
				return err
			}))
			return deliver
		})
		must[exchange.Answer](t)(w.askWith("k", question(id)))
		if seen != 1 {
			t.Errorf("%d prepared answers when the entry was proposed", seen)
		}
	})
}

// settled checks that everything came to one answer, one committed access that
// let it out and one read, on every node.
func (w *world) settled(id, key string) {
	w.t.Helper()
	answer := must[exchange.Answer](w.t)(w.askWith(key, question(id)))
	again := must[exchange.Answer](w.t)(w.askWith(key, question(id)))
	if answer.Outcome != exchange.Allowed || !cmp.Equal(answer, again) {
		w.t.Errorf("%v: %s", answer.Outcome, cmp.Diff(answer, again))
	}
	for _, dept := range w.order {
		if n := w.released(dept); n != 1 {
			w.t.Errorf("%s holds %d accesses that let an answer out", dept, n)
		}
	}
	if n := w.reads(id); n != 1 {
		w.t.Errorf("the consent was read %d times", n)
	}
}

// TestStoreFaults fails each kind of write of either node once, done and not
// done. No answer comes out of an exchange that failed, and asking again with
// the same key, before or after a restart, comes to one.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for _, at := range []struct {
		dept exchange.Dept
		kind string
	}{{holder, kindOutbox}, {holder, kindBody}, {asker, kindIdempotency}, {asker, kindBody}, {asker, kindAck}, {asker, kindAnswer}} {
		for _, done := range []bool{false, true} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/done=%v/restart=%v", at.dept, at.kind, done, restart), func(t *testing.T) {
					t.Parallel()
					c.play(t, func(t *testing.T, w *world) {
						id := w.consent(5)
						failed := false
						w.sites[at.dept].store.setFault(func(kind string) (bool, bool) {
							hit := kind == at.kind && !failed
							failed = failed || hit
							return hit, done
						})
						if got, err := w.askWith("k", question(id)); err == nil || !failed || len(got.Fields) > 0 {
							t.Fatalf("failed %v: answer with %d fields, %v", failed, len(got.Fields), err)
						}
						if restart {
							w.sites[holder].restart()
							w.sites[asker].restart()
						}
						w.settled(id, "k")
					})
				})
			}
		}
	}
}

// TestCrashes stops either node at each named point. After a restart the same
// key comes to one answer.
func TestCrashes(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for dept, points := range map[exchange.Dept][]string{
		holder: {"holder-after-fetch", "holder-before-outbox", "holder-after-outbox", "holder-after-append", "holder-before-reply"},
		asker:  {"requester-before-send", "requester-after-reply", "requester-before-store", "requester-after-store"},
	} {
		for _, point := range points {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				c.play(t, func(t *testing.T, w *world) {
					id := w.consent(5)
					w.sites[dept].once(point, func() { panic(point) })
					func() {
						defer func() {
							if r := recover(); r != point {
								t.Errorf("stopped at %v", r)
							}
						}()
						got, err := w.askWith("k", question(id))
						t.Errorf("went on to %v, %v", got.Outcome, err)
					}()
					w.sites[dept].restart()
					w.settled(id, "k")
				})
			})
		}
	}
}

// TestAppendOutcomes plays everything that an append can come to.
func TestAppendOutcomes(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for _, test := range []struct {
		name  string
		fate  fate
		times int // how many proposals of the holder meet it; 0 for all
		kind  exchange.Kind
		fails bool
	}{
		{"refused once", refuse, 1, 0, false},
		{"lost once", drop, 1, 0, false},
		{"committed, and the answer lost", lose, 1, 0, false},
		{"always committed, and the answer always lost", lose, 0, 0, false},
		{"no quorum", refuse, 0, exchange.Unavailable, true},
		{"silence", drop, 0, exchange.Undetermined, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				id := w.consent(5)
				n := 0
				w.setFate(func(from exchange.Dept) fate {
					if from != holder {
						return deliver
					}
					if n++; test.times > 0 && n > test.times {
						return deliver
					}
					return test.fate
				})
				got, err := w.askWith("k", question(id))
				if test.fails && (!exchange.Is(err, test.kind) || len(got.Fields) > 0 || w.released(asker) > 0) || !test.fails && err != nil {
					t.Errorf("answer with %d fields, error %v", len(got.Fields), err)
				}
				w.setFate(nil)
				w.settled(id, "k")
				w.deliverLate() // what was lost arrives after all
				w.settled(id, "k")
			})
		})
	}
}

// TestLateFrame: the frame of an append that was given up arrives before the
// next try does.
func TestLateFrame(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		w.setFate(func(from exchange.Dept) fate {
			if from == holder {
				return drop
			}
			return deliver
		})
		if _, err := w.askWith("k", question(id)); !exchange.Is(err, exchange.Undetermined) {
			t.Fatalf("%v", err)
		}
		w.setFate(nil)
		w.deliverLate()
		w.settled(id, "k")
	})
}

// TestReleaseDeadline: an answer that nobody fetched in time stays inside.
func TestReleaseDeadline(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		r := w.request(question(w.consent(5)))
		msg := w.signed(w.members[asker], r)
		w.sites[holder].once("holder-after-append", func() { w.advance(ledger.ReleaseWithin + time.Second) })
		out, err := w.sites[holder].broker.Answer(t.Context(), asker, msg)
		if !exchange.Is(err, exchange.Expired) || len(out) > 0 {
			t.Errorf("%d bytes, %v", len(out), err)
		}
	})
}

// TestUncosigned: while releases stay without a checkpoint, no more come out.
func TestUncosigned(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		must[exchange.Answer](t)(w.askWith("k1", question(id)))
		w.clock.Add((11 * time.Second).Milliseconds())
		got, err := w.askWith("k2", question(id))
		if !exchange.Is(err, exchange.Unavailable) || len(got.Fields) > 0 {
			t.Errorf("%v, %v", got.Outcome, err)
		}
		w.cosign()
		if got, err = w.askWith("k2", question(id)); err != nil || got.Outcome != exchange.Allowed || w.released(holder) != 2 {
			t.Errorf("%v, %v", got.Outcome, err)
		}
	})
}

// TestSensitiveWaitsForACheckpoint: an answer with the value of a field that the
// holder calls sensitive leaves when a quorum has cosigned its record, also after a
// restart; one without it leaves at once.
func TestSensitiveWaitsForACheckpoint(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		items := catalogueOf(holder)
		for i, f := range items[0].Fields {
			items[0].Fields[i].Sensitive = f.Name == "spouse_name"
		}
		w.publish(holder, ledger.FactChange{Type: ledger.FactCatalogue, Key: string(holder), Action: ledger.Set, Content: canon.MustMarshal(items)})
		q := question(w.consent(5))
		plain := q
		plain.Views = q.Views[:1]
		if got := must[exchange.Answer](t)(w.askWith("plain", plain)); got.Outcome != exchange.Allowed {
			t.Fatalf("%v because of %v", got.Outcome, got.Reasons)
		}
		w.cosign()
		before := w.released(holder)
		got, err := w.askWith("k", q) // nobody cosigns
		if !exchange.Is(err, exchange.Unavailable) || len(got.Fields) > 0 || w.released(holder) != before+1 {
			t.Fatalf("without a checkpoint: %v, %v, %d on record", got.Outcome, err, w.released(holder)-before)
		}
		w.sites[holder].restart()
		type result struct {
			exchange.Answer
			err error
		}
		done := make(chan result, 1)
		go func() {
			a, err := w.askWith("k", q)
			done <- result{a, err}
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		select {
		case r := <-done:
			t.Errorf("it did not wait for the checkpoint: %v, %v", r.Outcome, r.err)
		default:
			w.cosign()
			if r := <-done; r.err != nil || r.Outcome != exchange.Allowed || len(r.Fields) != 2 {
				t.Errorf("with a checkpoint: %v, %v", r.Outcome, r.err)
			}
		}
		if w.released(holder) != before+1 {
			t.Error("the wait made a second entry")
		}
	})
}

// TestSource covers what a department's own system can do wrong.
func TestSource(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	adopted := c.issue(t, wife(), "civil/adoption-record")
	foreign := c.issue(t, stranger(), marriage)
	for _, test := range []struct {
		name string
		do   func(w *world, s *records, q *exchange.Question)
		want exchange.Outcome
		code exchange.Code
	}{
		{"no record", func(_ *world, s *records, _ *exchange.Question) { s.held = nil }, exchange.NoRecord, ""},
		{"another person's record", func(_ *world, s *records, _ *exchange.Question) { s.put(wife(), foreign) }, exchange.Refused, exchange.DenyMaterial},
		{"another item", func(_ *world, s *records, _ *exchange.Question) { s.put(wife(), adopted) }, exchange.Refused, exchange.DenyMaterial},
		{"a revoked material", func(w *world, s *records, _ *exchange.Question) {
			head, err := w.record.Head()
			w.ok(err)
			w.publish(holder, ledger.FactChange{Type: ledger.FactStatus, Key: string(holder), Action: ledger.Set, Content: canon.MustMarshal([][]byte{head.ID[:]})})
		}, exchange.Refused, exchange.DenyMaterial},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				q := question(w.consent(5))
				test.do(w, w.sites[holder].source, &q)
				got := must[exchange.Answer](t)(w.askWith("k", q))
				if got.Outcome != test.want || len(got.Fields) > 0 || test.code != "" && !slices.Contains(codesIn(got.Reasons), test.code) {
					t.Errorf("%v because of %v", got.Outcome, got.Reasons)
				}
				if all := w.accesses(asker); len(all) != 1 || all[0].Outcome != test.want {
					t.Errorf("the ledger holds %d accesses", len(all))
				}
			})
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		t.Parallel()
		c.play(t, func(t *testing.T, w *world) {
			id := w.consent(5)
			w.sites[holder].source.fail = errDisk
			if _, err := w.askWith("k", question(id)); !exchange.Is(err, exchange.Unavailable) || len(w.accesses(holder)) > 0 {
				t.Errorf("%v", err)
			}
			w.sites[holder].source.fail = nil
			w.settled(id, "k")
		})
	})
}
