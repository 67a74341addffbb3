package ledger

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
)

// kinds counts the leaves of a kind on the leader.
func (w *world) kinds(kind Kind) (n int) {
	w.t.Helper()
	l := w.leader()
	for i := range l.Size() {
		b, err := l.Leaf(i)
		if err != nil {
			w.t.Fatal(err)
		}
		if _, e, err := DecodeLeaf(b); err != nil || e.Kind == kind {
			n++
		}
	}
	return n
}

func (n *node) ack(name string) (Placed, error) {
	return n.Append(n.world.t.Context(), ackEntry(n.dept, label(name), "minzheng"))
}

// TestClockAfterAWeekend: the first that has something to write after a quiet
// time, the leader or another, finds the ledger going on; a ledger in use is kept
// within its bound, and one that nobody uses stays as it is.
func TestClockAfterAWeekend(t *testing.T) {
	t.Parallel()
	for _, first := range []exchange.Dept{"minzheng", "zhujian"} {
		inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
			w.publishing(t, &witnesses{world: w}, func() {
				time.Sleep(time.Second)
				w.advance(60 * time.Hour)
				started := time.Now()
				if p, err := w.node(first).ack("monday"); err != nil || p.Result != Committed || w.clock().Sub(p.Time) > time.Second {
					t.Fatalf("%s after the weekend: %+v %v", first, p, err)
				}
				if waited := time.Since(started); waited > time.Second {
					t.Errorf("%s waited %v", first, waited)
				}
				if n := w.kinds(KindClock); n != 1 {
					t.Errorf("%d clock entries", n)
				}
				size := w.leader().Size()
				for range 20 {
					w.advance(time.Hour)
					time.Sleep(time.Second)
				}
				if got := w.leader().Size(); got != size {
					t.Errorf("an idle ledger has grown from %d to %d", size, got)
				}
				for i := range 30 {
					if _, err := w.node("zhujian").ack(fmt.Sprint("busy ", i)); err != nil {
						t.Fatal(err)
					}
					w.advance(2 * time.Minute)
					time.Sleep(time.Second)
				}
				// An hour of work in steps of two minutes: an entry in every third or fourth.
				if n := w.kinds(KindClock) - 1; n < 7 || n > 11 {
					t.Errorf("%d clock entries in an hour", n)
				}
			})
			for d, n := range w.nodes {
				if got := n.Stats(); got.LateFrames != 0 || w.clock().Sub(got.Witnessed) > ClockBound {
					t.Errorf("%s: %d frames late, witnessed %v ago", d, got.LateFrames, w.clock().Sub(got.Witnessed))
				}
			}
		})
	}
}

// TestClockOfALeaderThatIsAhead: what it takes is nothing, what it commits all
// the same leaves no leaf, its time finds no quorum, and once it is set right the
// ledger goes on at the right time.
func TestClockOfALeaderThatIsAhead(t *testing.T) {
	t.Parallel()
	var behind atomic.Int64 // the others, who are right
	config := func(c *Config) {
		if clock := c.Clock; c.Self != "minzheng" {
			c.Clock = func() time.Time { return clock().Add(-time.Duration(behind.Load())) }
		}
	}
	inWorld(t, worldConfig{config: config}, func(t *testing.T, w *world) {
		w.publishing(t, &witnesses{world: w}, func() {
			time.Sleep(time.Second)
			w.advance(time.Hour)
			behind.Store(int64(time.Hour))
			size, before := w.leader().Size(), w.clock().Add(-time.Hour)
			for _, d := range []exchange.Dept{"minzheng", "zhujian"} {
				if p, err := w.node(d).ack("ahead " + string(d)); !errors.Is(err, ErrNotProposed) {
					t.Fatalf("%s: %+v %v", d, p, err)
				}
			}
			w.write("renshe", ackEntry("renshe", label("ahead"), "minzheng")) // the leader asks nobody
			synctest.Wait()
			for d, n := range w.nodes {
				if n.Size() != size || n.Stats().LateFrames != 1 || n.Halted() != nil {
					t.Errorf("%s: %d leaves of %d, %+v", d, n.Size(), size, n.Stats())
				}
			}
			w.advance(-time.Hour)
			behind.Store(0)
			p, err := w.node("zhujian").ack("right")
			if err != nil || p.Time.Sub(before) > time.Minute {
				t.Errorf("set right: %+v %v", p, err)
			}
		})
	})
}

// TestClockSlightlyAhead: within the bound the leader's time counts, and whoever
// is asked to cosign it does not until it has gone by.
func TestClockSlightlyAhead(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		w.advance(ClockBound - time.Minute)
		w.write("renshe", ackEntry("renshe", label("a"), "minzheng"))
		w.settle()
		w.advance(-ClockBound + time.Minute)
		n := w.node("zhujian")
		root, err := n.Root(n.Size())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Cosign(t.Context(), n.Size(), root); exchange.KindOf(err) != exchange.Unavailable {
			t.Errorf("a head of the future was cosigned: %v", err)
		}
		w.advance(ClockBound - time.Minute - clockSkew)
		if _, err := n.Cosign(t.Context(), n.Size(), root); err != nil {
			t.Errorf("its time has come: %v", err)
		}
	})
}

// TestClockNeedsAQuorum: two of four do not carry the ledger over an outage, and
// the authority alone does.
func TestClockNeedsAQuorum(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		ws := &witnesses{world: w, dead: map[exchange.Dept]bool{"gongan": true, "renshe": true}}
		w.publishing(t, ws, func() {
			w.advance(60 * time.Hour)
			if p, err := w.node("zhujian").ack("a"); !errors.Is(err, ErrNotProposed) {
				t.Errorf("with two of four: %+v %v", p, err)
			}
		})
		now := func(e Entry, d time.Duration) []byte {
			e.Origin = w.clock().Add(d).UnixMilli()
			return w.realm.parties[exchange.Authority].frameOf(t, w.last(exchange.Authority), e)
		}
		e := factEntry(exchange.Authority, label("out"), FactChange{Type: FactMember, Key: "renshe", Action: Withdraw})
		if err := w.leader().CheckFrame(now(e, ClockBound+time.Second)); exchange.KindOf(err) != exchange.Invalid {
			t.Errorf("the authority's clock is wrong: %v", err)
		}
		frame := now(e, 0)
		if err := w.leader().CheckFrame(frame); err != nil {
			t.Fatal(err)
		}
		w.commit(frame)
		if p, err := w.node("zhujian").ack("b"); err != nil || p.Result != Committed {
			t.Errorf("after the authority's word: %+v %v", p, err)
		}
	})
}

// TestClockForged: a clock entry that does not hold is not proposed, and a
// leader that commits it all the same stops every node before any acts on it.
func TestClockForged(t *testing.T) {
	t.Parallel()
	change := func(e Entry, f func(*checkpoint.Note)) Entry {
		n, err := checkpoint.Parse(e.Clock.Note)
		if err != nil {
			t.Fatal(err)
		}
		f(&n)
		e.Clock = &Clock{Note: n.Encode(), Certs: e.Clock.Certs}
		return e
	}
	for name, forge := range map[string]func(Entry) Entry{
		"another time": func(e Entry) Entry {
			return change(e, func(n *checkpoint.Note) { n.Cosignatures[1].Time = n.Cosignatures[1].Time.Add(time.Second) })
		},
		"another head": func(e Entry) Entry { return change(e, func(n *checkpoint.Note) { n.Root[0] ^= 1 }) },
		"another's signature": func(e Entry) Entry {
			return change(e, func(n *checkpoint.Note) { n.Cosignatures[1].Sig = n.Cosignatures[0].Sig })
		},
		"one of four forged, three good": func(e Entry) Entry {
			return change(e, func(n *checkpoint.Note) { n.Cosignatures[3].Sig[5] ^= 1 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
				w.advance(60 * time.Hour)
				good := w.clockEntry("clock", w.clock(), depts()...)
				p := w.realm.parties["gongan"]
				frame := p.frameOf(t, w.last("gongan"), forge(good))
				if err := w.leader().CheckFrame(frame); exchange.KindOf(err) != exchange.Forged {
					t.Errorf("proposed: %v", err)
				}
				if err := w.leader().CheckFrame(p.frameOf(t, w.last("gongan"), good)); err != nil {
					t.Errorf("the good one: %v", err)
				}
				verified := w.leader().Size()
				w.commit(frame)
				synctest.Wait()
				for d, n := range w.nodes {
					if s := n.Stats(); !errors.Is(n.Halted(), ErrHalted) || s.Verified != verified {
						t.Errorf("%s goes on: %+v", d, s)
					}
				}
			})
		})
	}
}

// TestClockStandsAlone: what else is in its frame would be judged by a time
// that its own signatures have not been checked for.
func TestClockStandsAlone(t *testing.T) {
	t.Parallel()
	r := paperRealm()
	head := checkpoint.Checkpoint{Origin: testOrigin, Size: 3}
	c := r.clockEntry(t, "gongan", label("c"), head, time.Unix(5, 0), map[exchange.Dept]uint64{"gongan": 1, "zhujian": 2})
	p := r.parties["gongan"]
	if _, err := parseFrame(gm.Emmansun(), p.frameOf(t, authorState{}, c)); err != nil {
		t.Fatal(err)
	}
	for name, entries := range map[string][]Entry{
		"in front": {c, ackEntry("gongan", label("a"), "minzheng")}, "behind": {ackEntry("gongan", label("a"), "minzheng"), c},
	} {
		if _, err := parseFrame(gm.Emmansun(), p.frameOf(t, authorState{}, entries...)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, broken := range map[string]Clock{
		"no note":                {Certs: []uint64{1}},
		"nobody":                 {Note: checkpoint.Note{Checkpoint: head}.Encode()},
		"a certificate too few":  {Note: c.Clock.Note, Certs: []uint64{1}},
		"a certificate too many": {Note: c.Clock.Note, Certs: []uint64{1, 2, 3}},
		"twice the same":         {Note: noteBy(head, "gongan", "gongan"), Certs: []uint64{1, 2}},
		"out of order":           {Note: noteBy(head, "zhujian", "gongan"), Certs: []uint64{1, 2}},
		"of no leaves":           {Note: noteBy(checkpoint.Checkpoint{Origin: testOrigin}, "gongan"), Certs: []uint64{1}},
	} {
		e := c
		e.Clock = &broken
		if _, err := e.Encode(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: encoded: %v", name, err)
		}
		if _, err := DecodeEntry(canon.MustMarshal(e)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: decoded: %v", name, err)
		}
	}
}

func noteBy(head checkpoint.Checkpoint, names ...string) []byte {
	n := checkpoint.Note{Checkpoint: head}
	for _, name := range names {
		n.Cosignatures = append(n.Cosignatures, checkpoint.Cosignature{Name: name, Time: time.Unix(5, 0).UTC()})
	}
	return n.Encode()
}

// TestClockHoldsNobodyUp: entries whose frame the leader refuses for its time
// are appended as soon as the clock entry is in, though they were first in line,
// and one clock entry serves all.
func TestClockHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		w.advance(60 * time.Hour)
		failed := make(chan error, 400)
		for i := range cap(failed) {
			go func() {
				_, err := w.leader().ack(fmt.Sprint(i))
				failed <- err
			}()
		}
		time.Sleep(2 * time.Second) // the leader's own frame is refused meanwhile
		w.publishing(t, &witnesses{world: w}, func() {
			for range cap(failed) {
				if err := <-failed; err != nil {
					t.Error(err)
				}
			}
		})
		if n := w.kinds(KindClock); n != 1 {
			t.Errorf("%d clock entries", n)
		}
	})
}
