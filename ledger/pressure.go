package ledger

import (
	"time"

	"xinqiao/exchange"
)

// Pressure says what was full when an entry was refused as ErrBusy.
type Pressure string

// The pressures. Each has a bound, so that load ends in refusals and not in
// memory, and a node that has fallen behind is not pushed further.
const (
	PressureQueue  Pressure = "queue"  // entries wait for a frame, or frames for the leader
	PressureBytes  Pressure = "bytes"  // of what waits
	PressureFlush  Pressure = "flush"  // the disk is behind what is applied
	PressureCosign Pressure = "cosign" // released answers have gone without a checkpoint for too long
)

// Pressures lists them.
func Pressures() []Pressure {
	return []Pressure{PressureQueue, PressureBytes, PressureFlush, PressureCosign}
}

const (
	maxPending      = 4096     // entries that wait for a frame
	maxPendingBytes = 32 << 20 // of their bytes
	maxUnflushed    = 20000    // leaves that are in memory alone
	maxFlushLag     = 2 * time.Second
)

// busyError is ErrBusy with its pressure.
type busyError struct{ pressure Pressure }

func (e busyError) Error() string { return ErrBusy.Error() + ": " + string(e.pressure) }

func (busyError) Unwrap() error { return ErrBusy }

// Busy returns the error for an entry that a bound keeps out: an *exchange.Error
// of kind Unavailable with code CodeBusy that is ErrBusy. Nothing has happened.
func Busy(op string, p Pressure) error {
	return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeBusy, Op: op,
		Msg: "more is being recorded than the ledger can take now", Hint: "try again in a moment", Err: busyError{p}}
}

// pressed returns what keeps e out now, or "". While releases stay uncosigned no
// answer may leave (mode A), so none is recorded as given; everything else is,
// withdrawals and denials above all. The caller holds mu.
func (l *Ledger) pressed(e Entry) Pressure {
	switch {
	case len(l.leaves) >= maxUnflushed, !l.unflushed.IsZero() && time.Since(l.unflushed) > maxFlushLag:
		return PressureFlush
	case e.Access != nil && e.Access.Outcome != exchange.Refused && l.cosigned.overdue(l.now()):
		return PressureCosign
	}
	return ""
}

// admit reports why e may not join the queue now, as an error that is ErrBusy.
func (l *Ledger) admit(e Entry, a *appending) error {
	l.mu.RLock()
	p := l.pressed(e)
	l.mu.RUnlock()
	size := int64(len(a.raw))
	switch {
	case p != "":
	case l.pending.Add(size) > maxPendingBytes:
		l.pending.Add(-size)
		p = PressureBytes
	default:
		select {
		case l.queue <- a:
			return nil
		default:
			l.pending.Add(-size)
			p = PressureQueue
		}
	}
	return l.refuseBusy("ledger.Append", p)
}

func (l *Ledger) refuseBusy(op string, p Pressure) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[p]++
	return Busy(op, p)
}
