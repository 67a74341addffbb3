package ledger

import (
	"testing"
	"time"
)

// crowdLedger is just enough to gather.
func crowdLedger(waiting int) *Ledger {
	l := &Ledger{queue: make(chan *appending, maxPending), stop: make(chan struct{})}
	for range waiting {
		l.queue <- &appending{raw: []byte("entry")}
	}
	return l
}

// TestLoneWriterNeverWaits: after a frame of one entry with nobody behind it, the
// next leaves at once, whatever the last round took. A crowd that comes is waited
// for, and one that does not is waited for less and less.
func TestLoneWriterNeverWaits(t *testing.T) {
	t.Parallel()
	first := &appending{raw: []byte("entry")}
	alone := crowd{entries: 1, patience: time.Hour}
	if batch := crowdLedger(0).gather(first, &alone); len(batch) != 1 || alone.missed != 0 {
		t.Errorf("%d entries, missed %d", len(batch), alone.missed)
	}
	l, some := crowdLedger(1), crowd{entries: 3, patience: time.Hour, missed: 2}
	go func() { l.queue <- &appending{raw: []byte("late")} }()
	if batch := l.gather(first, &some); len(batch) != 3 || some.missed != 0 {
		t.Errorf("%d entries of a crowd of 3, missed %d", len(batch), some.missed)
	}
	none := crowd{}
	for i := range 2 * maxMissed {
		none.expect(5, time.Millisecond)
		if want := time.Millisecond / 4 >> min(i, maxMissed); none.patience != want {
			t.Errorf("patience %v after %d misses, want %v", none.patience, i, want)
		}
		if batch := crowdLedger(0).gather(first, &none); len(batch) != 1 {
			t.Errorf("%d entries out of nowhere", len(batch))
		}
	}
	if none.expect(5, time.Hour); none.patience > maxPatience {
		t.Errorf("patience %v", none.patience)
	}
	// Those who wait already are taken without patience, and no more than fit.
	full := crowd{entries: 1}
	if batch := crowdLedger(2*MaxFrameEntries).gather(first, &full); len(batch) != MaxFrameEntries {
		t.Errorf("%d entries in a frame", len(batch))
	}
}
