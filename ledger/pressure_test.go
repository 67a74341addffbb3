package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/exchange"
)

// pressedBy fails unless err is the one that callers match, for this reason.
func pressedBy(t *testing.T, err error, want Pressure) {
	t.Helper()
	var e *exchange.Error
	var b busyError
	if !errors.As(err, &e) || e.Kind != exchange.Unavailable || e.Code != exchange.CodeBusy || !errors.Is(err, ErrBusy) ||
		!errors.As(err, &b) || b.pressure != want {
		t.Errorf("got %v, want to be kept out by %s", err, want)
	}
}

// TestPressureOfWhatWaits: the number of entries that wait is bounded, and their
// bytes are; what is kept out leaves no trace, and nothing stays counted.
func TestPressureOfWhatWaits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want    Pressure
		entries int
		content int
	}{
		{PressureQueue, maxPending + MaxFrameEntries + 1, 1},
		{PressureBytes, maxPendingBytes/maxContent + MaxFrame/maxContent + 2, maxContent},
	} {
		t.Run(string(c.want), func(t *testing.T) {
			t.Parallel()
			inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
				n := w.node("gongan")
				w.setFate(func(exchange.Dept, []byte) fate { return drops })
				version := n.version(FactCatalogue, "gongan")
				ctx, cancel := context.WithCancel(t.Context())
				failed := make(chan error, c.entries)
				var wg sync.WaitGroup
				for i := range c.entries {
					e := factEntry("gongan", label(fmt.Sprint(i)), FactChange{Type: FactCatalogue, Key: "gongan", Action: Set,
						Content: bytes.Repeat([]byte{1}, c.content), Replaces: version})
					wg.Go(func() {
						if _, err := n.Append(ctx, e); errors.Is(err, ErrBusy) {
							failed <- err
						}
					})
				}
				synctest.Wait()
				cancel()
				wg.Wait()
				close(failed)
				if len(failed) == 0 || len(failed) > c.entries/2 {
					t.Errorf("%d of %d were kept out", len(failed), c.entries)
				}
				if got := n.Stats().Busy[c.want]; got != uint64(len(failed)) {
					t.Errorf("%d are counted, %d kept out", got, len(failed))
				}
				for err := range failed {
					pressedBy(t, err, c.want)
				}
				w.setFate(nil)
				time.Sleep(giveUpAfter + time.Second)
				if got := n.pending.Load(); got != 0 {
					t.Errorf("%d bytes stay counted", got)
				}
				if _, err := n.ack("after"); err != nil {
					t.Errorf("after the rush: %v", err)
				}
			})
		})
	}
}

// slowStorage holds up its flushes while it is stuck.
type slowStorage struct {
	*memStorage
	mu    sync.Mutex
	stuck chan struct{}
}

func (s *slowStorage) Flush(f Flush) error {
	s.mu.Lock()
	stuck := s.stuck
	s.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	return s.memStorage.Flush(f)
}

func (s *slowStorage) set(stuck chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck = stuck
}

// TestPressureOfASlowDisk: what is in memory alone is bounded by time, on the
// node whose disk is slow: for its own entries and, where it leads, for frames.
func TestPressureOfASlowDisk(t *testing.T) {
	t.Parallel()
	slow := &slowStorage{memStorage: newMemStorage()}
	storage := func(d exchange.Dept) Storage {
		if d == depts()[0] {
			return slow
		}
		return newMemStorage()
	}
	inWorld(t, worldConfig{storage: storage}, func(t *testing.T, w *world) {
		stuck := make(chan struct{})
		slow.set(stuck)
		if _, err := w.leader().ack("a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(maxFlushLag - flushEvery)
		if _, err := w.leader().ack("b"); err != nil {
			t.Errorf("within the bound: %v", err)
		}
		time.Sleep(2 * flushEvery)
		_, err := w.leader().ack("c")
		pressedBy(t, err, PressureFlush)
		other := w.node("gongan")
		frame := other.frameOf(t, w.last("gongan"), ackEntry("gongan", label("d"), "minzheng"))
		pressedBy(t, w.leader().CheckFrame(frame), PressureFlush)
		done := make(chan error, 1)
		go func() {
			_, err := other.ack("d")
			done <- err
		}()
		time.Sleep(time.Second)
		slow.set(nil)
		close(stuck)
		if err := <-done; err != nil {
			t.Errorf("another's entry, which waited: %v", err)
		}
		if _, err := w.leader().ack("c"); err != nil {
			t.Errorf("with the disk well again: %v", err)
		}
	})
}

// TestPressureOfUnflushedLeaves: and by number, however fast they come.
func TestPressureOfUnflushedLeaves(t *testing.T) {
	t.Parallel()
	l := paperLedger(t, newMemStorage()) // nothing flushes it
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	at := uint64(0)
	history(t, maxUnflushed, func(cmd []byte) {
		at++
		if err := l.ApplyBatch(at, cmd); err != nil {
			t.Fatal(err)
		}
	})
	e := ackEntry(l.cfg.Self, label("a"), "zhujian")
	_, err := l.Append(ctx, e)
	pressedBy(t, err, PressureFlush)
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(ctx, e); !errors.Is(err, ErrNotProposed) || errors.Is(err, ErrBusy) {
		t.Errorf("after the flush: %v", err)
	}
}

// TestPressureOfUncosignedReleases: while no answer could leave, none is recorded
// as given; denials and withdrawals are.
func TestPressureOfUncosignedReleases(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.node("minzheng")
		r, err := n.answer("a")
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Release(r, OwnNode, responseOf(label("a"))); err != nil {
			t.Fatal(err)
		}
		w.advance(uncosignedRelease)
		if _, err := n.answer("b"); err != nil {
			t.Errorf("within the bound: %v", err)
		}
		w.advance(time.Second)
		_, err = n.answer("c")
		pressedBy(t, err, PressureCosign)
		if _, err := n.Append(t.Context(), deniedEntry("minzheng", "zhujian", label("d"))); err != nil {
			t.Errorf("a denial: %v", err)
		}
		if _, err := n.Append(t.Context(), withdrawConsent("minzheng")); err != nil {
			t.Errorf("a withdrawal: %v", err)
		}
		if _, err := w.node("gongan").Append(t.Context(), accessEntry("gongan", "zhujian", label("e"), Basis{})); errors.Is(err, ErrBusy) {
			t.Errorf("another holder, which has released nothing: %v", err)
		}
		w.publishing(t, &witnesses{world: w}, func() { time.Sleep(time.Second) })
		if _, err := n.answer("f"); errors.Is(err, ErrBusy) {
			t.Errorf("with a checkpoint: %v", err)
		}
	})
}
