package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/exchange"
)

func TestAppendOutcomes(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["minzheng"]
		e := accessEntry("minzheng", "zhujian", label("first"), n.basis())
		first, err := n.Append(t.Context(), e)
		if err != nil || first.Result != Committed {
			t.Fatalf("append: %v %v", first, err)
		}
		if again, err := n.Append(t.Context(), e); err != nil || again != first {
			t.Errorf("the same entry again is at %v, %v; want %v", again, err, first)
		}
		other := e
		changed := *e.Access
		changed.Size++
		other.Access = &changed
		if _, err := n.Append(t.Context(), other); !errors.Is(err, ErrConflict) || n.Stats().Conflicts != 1 {
			t.Errorf("another entry under the same id: %v", err)
		}

		old := n.basis()
		w.write("zhujian", withdrawConsent("zhujian"))
		stale, err := n.Append(t.Context(), accessEntry("minzheng", "zhujian", label("late"), old))
		if err != nil || stale.Result != Stale || stale.Slot != SlotAuthority {
			t.Errorf("after the withdrawal: %v %v", stale, err)
		}
		rejected, err := n.Append(t.Context(), factEntry("minzheng", label("self"), FactChange{Type: FactMember, Key: "minzheng", Action: Set}))
		if err != nil || rejected.Result != Rejected || rejected.Slot != SlotRights {
			t.Errorf("a department admits itself: %v %v", rejected, err)
		}
		if _, err := n.Append(t.Context(), ackEntry("zhujian", label("not mine"), "minzheng")); !errors.Is(err, ErrFormat) {
			t.Errorf("entry of another department: %v", err)
		}
		if _, err := n.Append(t.Context(), Entry{Author: "minzheng"}); !errors.Is(err, ErrFormat) {
			t.Errorf("malformed entry: %v", err)
		}
		for _, o := range w.nodes {
			root, err := o.Root(n.Size())
			if own, _ := n.Root(n.Size()); err != nil || root != own {
				t.Errorf("%s has another tree: %v", o.dept, err)
			}
		}
	})
}

// TestAppendFates sends one entry through a consensus that drops, loses,
// forgets and repeats; in each case it ends up on the ledger once.
func TestAppendFates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fates []fate
	}{
		{"committed", []fate{commits}},
		{"committed twice", []fate{doubles}},
		{"answer lost", []fate{loses}},
		{"not proposed, then committed", []fate{drops, drops, commits}},
		{"vanished, then answer lost", []fate{vanishes, vanishes, loses}},
		{"answer lost on every retry", []fate{drops, loses, loses, loses}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
				var asked atomic.Int32
				w.setFate(func(exchange.Dept, []byte) fate {
					return c.fates[min(int(asked.Add(1)), len(c.fates))-1]
				})
				n, before := w.nodes["gongan"], w.nodes["gongan"].Size()
				e := ackEntry("gongan", label("once"), "minzheng")
				p, err := n.Append(t.Context(), e)
				if err != nil || p.Index != before {
					t.Fatalf("append: %v %v", p, err)
				}
				w.settle()
				if again, err := n.Append(t.Context(), e); err != nil || again != p {
					t.Errorf("again: %v %v", again, err)
				}
				for _, o := range w.nodes {
					if got := o.Size(); got != before+1 {
						t.Errorf("%s has %d leaves more, want 1", o.dept, got-before)
					}
				}
			})
		})
	}
}

// TestAppendGivesUp: what was never handed on says so, and what may have been
// says that; when it arrives after all, the same entry is found by its id.
func TestAppendGivesUp(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["zhujian"]
		w.setFate(func(exchange.Dept, []byte) fate { return drops })
		if _, err := n.Append(t.Context(), ackEntry("zhujian", label("a"), "minzheng")); !errors.Is(err, ErrNotProposed) || errors.Is(err, ErrUndetermined) {
			t.Errorf("never handed on: %v", err)
		}
		var late []byte
		w.setFate(func(_ exchange.Dept, frame []byte) fate {
			late = frame
			return vanishes
		})
		e := ackEntry("zhujian", label("b"), "minzheng")
		if _, err := n.Append(t.Context(), e); !errors.Is(err, ErrUndetermined) || errors.Is(err, ErrNotProposed) {
			t.Errorf("perhaps handed on: %v", err)
		}
		before := n.Size()
		w.commit(late) // it had been on its way all the time
		w.setFate(nil)
		if p, err := n.Append(t.Context(), e); err != nil || p.Index != before {
			t.Errorf("found by its id: %v %v", p, err)
		}
		// The caller's own deadline tells the same two cases apart.
		w.setCut("zhujian", true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Append(ctx, ackEntry("zhujian", label("c"), "minzheng")); !errors.Is(err, ErrNotProposed) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("deadline before it was handed on: %v", err)
		}
		// And what its caller was told never happened does not happen later.
		size := n.Size()
		w.setCut("zhujian", false)
		time.Sleep(2 * giveUpAfter)
		if n.Size() != size {
			t.Error("an entry came that was not proposed")
		}
	})
}

// TestAppendDeadlineInFlight: a caller whose time is up while its entry is with
// the replicator must not be told that nothing happened.
func TestAppendDeadlineInFlight(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n, gate := w.nodes["zhujian"], make(chan struct{})
		w.setFate(func(exchange.Dept, []byte) fate {
			<-gate
			return commits
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		e, size := ackEntry("zhujian", label("a"), "minzheng"), n.Size()
		if _, err := n.Append(ctx, e); !errors.Is(err, ErrUndetermined) || errors.Is(err, ErrNotProposed) {
			t.Errorf("append: %v", err)
		}
		close(gate)
		if p, err := n.Append(t.Context(), e); err != nil || p.Index != size {
			t.Errorf("again: %v %v", p, err)
		}
	})
}

// TestAppendDropsTheUnwanted: of a frame that was never handed on, the entries
// whose callers have gone are left out; the others get in.
func TestAppendDropsTheUnwanted(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n, gate := w.nodes["zhujian"], make(chan struct{})
		var calls atomic.Int32
		w.setFate(func(exchange.Dept, []byte) fate {
			if calls.Add(1) == 1 {
				<-gate
				return commits
			}
			return drops
		})
		var wg sync.WaitGroup
		send := func(name string, ctx context.Context, want error) {
			wg.Go(func() {
				if _, err := n.Append(ctx, ackEntry("zhujian", label(name), "minzheng")); !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", name, err, want)
				}
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		send("first", t.Context(), nil)
		send("stays", t.Context(), nil)
		send("goes", ctx, ErrNotProposed)
		close(gate)
		time.Sleep(time.Second) // the other two are in one frame that is dropped again and again
		cancel()
		synctest.Wait()
		w.setFate(nil)
		wg.Wait()
		w.settle()
		if _, there := n.Lookup("zhujian", label("goes")); there {
			t.Error("an entry came that was not proposed")
		}
		if _, there := n.Lookup("zhujian", label("stays")); !there {
			t.Error("its neighbour in the frame was lost")
		}
	})
}

// TestAppendLaterFrameOvertakes: a frame that vanished comes back after the
// department has signed another in its place. It must leave no trace, and its
// entry must get in when it is appended again.
func TestAppendLaterFrameOvertakes(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["zhujian"]
		var lost []byte
		w.setFate(func(_ exchange.Dept, frame []byte) fate {
			lost = frame
			return vanishes
		})
		a, b := ackEntry("zhujian", label("a"), "minzheng"), ackEntry("zhujian", label("b"), "minzheng")
		if _, err := n.Append(t.Context(), a); !errors.Is(err, ErrUndetermined) {
			t.Fatalf("append: %v", err)
		}
		w.setFate(nil)
		if _, err := n.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		size := n.Size()
		w.commit(lost)
		if n.Size() != size {
			t.Error("the overtaken frame was accepted")
		}
		if p, err := n.Append(t.Context(), a); err != nil || p.Index != size {
			t.Errorf("its entry again: %v %v", p, err)
		}
	})
}

// TestAppendSignsAgain: the department's lost frame arrives while the next is on
// its way. The next has lost its place and must be signed for the one after.
func TestAppendSignsAgain(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["zhujian"]
		var lost []byte
		w.setFate(func(_ exchange.Dept, frame []byte) fate {
			lost = frame
			return vanishes
		})
		a, b := ackEntry("zhujian", label("a"), "minzheng"), ackEntry("zhujian", label("b"), "minzheng")
		if _, err := n.Append(t.Context(), a); !errors.Is(err, ErrUndetermined) {
			t.Fatalf("append: %v", err)
		}
		var late sync.Once
		w.setFate(func(exchange.Dept, []byte) fate {
			late.Do(func() { w.commit(lost) })
			return commits
		})
		size := n.Size()
		if p, err := n.Append(t.Context(), b); err != nil || p.Index != size+1 {
			t.Errorf("the next: %v %v", p, err)
		}
		if p, err := n.Append(t.Context(), a); err != nil || p.Index != size {
			t.Errorf("the lost one: %v %v", p, err)
		}
	})
}

// TestAppendGathers: what arrives while a frame is in flight goes into the next
// one, and one id sent by many callers is one leaf.
func TestAppendGathers(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["gongan"]
		gate := make(chan struct{})
		var frames atomic.Int32
		w.setFate(func(exchange.Dept, []byte) fate {
			if frames.Add(1) == 1 {
				<-gate
			}
			return commits
		})
		var wg sync.WaitGroup
		send := func(name string) {
			wg.Go(func() {
				if p, err := n.Append(t.Context(), ackEntry("gongan", label(name), "minzheng")); err != nil || p.Result != Committed {
					t.Errorf("%s: %v %v", name, p, err)
				}
			})
			synctest.Wait()
		}
		before := n.Size()
		send("first")
		for i := range 100 {
			send(fmt.Sprint(i))
			send(fmt.Sprint(i / 2))
		}
		close(gate)
		wg.Wait()
		if got := frames.Load(); got != 2 {
			t.Errorf("%d frames, want 2", got)
		}
		if got := n.Size() - before; got != 101 {
			t.Errorf("%d leaves, want 101", got)
		}
	})
}

func TestAppendBusy(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["gongan"]
		gate := make(chan struct{})
		w.setFate(func(exchange.Dept, []byte) fate {
			<-gate
			return commits
		})
		ctx, cancel := context.WithCancel(t.Context())
		var busy, other atomic.Int32
		var wg sync.WaitGroup
		for i := range cap(n.queue) + MaxFrameEntries + 100 {
			wg.Go(func() {
				switch _, err := n.Append(ctx, ackEntry("gongan", label(fmt.Sprint(i)), "minzheng")); {
				case errors.Is(err, ErrBusy):
					busy.Add(1)
				case err != nil && !errors.Is(err, ErrNotProposed) && !errors.Is(err, ErrUndetermined):
					other.Add(1)
				}
			})
		}
		synctest.Wait()
		if busy.Load() == 0 {
			t.Error("nobody was told that the queue is full")
		}
		cancel()
		wg.Wait()
		if other.Load() != 0 {
			t.Errorf("%d appends failed otherwise", other.Load())
		}
		close(gate)
		w.setFate(nil)
		synctest.Wait() // what nobody waits for any more leaves the queue
		if _, err := n.Append(t.Context(), ackEntry("gongan", label("after"), "minzheng")); err != nil {
			t.Errorf("after the jam: %v", err)
		}
	})
}

// TestCloseLetsGo: nobody who waits is left behind, and nothing runs on; the
// bubble fails the test if a goroutine stays.
func TestCloseLetsGo(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["renshe"]
		w.setCut("renshe", true)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := n.Append(t.Context(), ackEntry("renshe", label("x"), "minzheng")); !errors.Is(err, ErrUndetermined) {
				t.Errorf("append: %v", err)
			}
		})
		wg.Go(func() {
			if _, _, _, err := n.Await(t.Context(), "minzheng", label("never")); !errors.Is(err, ErrClosed) {
				t.Errorf("await: %v", err)
			}
		})
		synctest.Wait()
		for range 2 {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
	})
}
