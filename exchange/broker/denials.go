package broker

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

const (
	// denialQuota is how many denials to one requester have an entry of their own
	// within a window; the rest has one together.
	denialQuota  = 100
	denialWindow = 10 * time.Minute
	// summariseEvery bounds how long a window that has ended waits for its summary.
	summariseEvery = 5 * time.Second
)

// DenialStats counts what was denied without an entry of its own.
type DenialStats struct {
	Counted    uint64 // since this node started
	Summarised uint64 // of them and of earlier ones, those whose summary is on the ledger
}

// tally is what one requester was denied within one window. It is durable
// before any denial leaves, so a restart neither forgets a denial nor opens the
// quota anew.
type tally struct {
	Recorded uint64    `cbor:"1,keyasint"` // with an entry each
	Counted  uint64    `cbor:"2,keyasint"` // without
	Chain    gm.Digest `cbor:"3,keyasint"` // over the requests counted
	Entry    ledger.ID `cbor:"4,keyasint"` // of the summary, chosen once
	Closed   bool      `cbor:"5,keyasint"` // the summary may be on its way: nothing is added any more
}

// tallyKey names a window by its requester and number.
func tallyKey(requester exchange.Dept, window int64) []byte {
	return binary.BigEndian.AppendUint64([]byte(requester+"\x00"), uint64(window))
}

func readTallyKey(key []byte) (requester exchange.Dept, window int64, ok bool) {
	at := len(key) - 9
	if at < 1 || key[at] != 0 {
		return "", 0, false
	}
	return exchange.Dept(key[:at]), int64(binary.BigEndian.Uint64(key[at+1:])), true
}

func windowOf(t time.Time) int64 { return t.UnixMilli() / denialWindow.Milliseconds() }

// tallyLock guards the windows of a requester. No department's name begins with
// a zero byte, so no request has the name of a lock like it.
func tallyLock(requester exchange.Dept) string { return "\x00denials\x00" + string(requester) }

// spend counts a denial. It returns nil when the denial gets an entry of its
// own, and otherwise the error that the requester gets instead of an answer. It
// must not be called for what is not denied: nobody's answers count.
func (b *Broker) spend(requester exchange.Dept, request gm.Digest) error {
	defer b.locks.lock(tallyLock(requester))()
	window := windowOf(b.cfg.Clock())
	var t tally
	for {
		known, err := b.load(kindDenials, tallyKey(requester, window), &t)
		if err != nil {
			return err
		}
		if !known || !t.Closed {
			break
		}
		window, t = window+1, tally{} // the clock has gone back behind a summary
	}
	over := t.Recorded >= denialQuota
	if !over {
		t.Recorded++
	} else {
		if t.Counted == 0 {
			id, err := ledger.NewID()
			if err != nil {
				return err
			}
			t.Entry = id
		}
		t.Counted++
		t.Chain = ledger.ChainDenial(b.cfg.Engine, t.Chain, request)
	}
	if err := b.save(kindDenials, tallyKey(requester, window), t); err != nil {
		return err
	}
	if !over {
		return nil
	}
	b.countDenials(1, 0)
	b.cfg.Crash("holder-after-count")
	return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeQuota, Op: "broker.Answer",
		Msg:  fmt.Sprintf("more than %d requests of this department were denied within %v; this one is counted on the ledger, as number %d", denialQuota, denialWindow, t.Counted),
		Hint: "find out why the earlier ones were denied; the same request gets an answer of its own once the time is over"}
}

// SummariseLoop puts on the ledger what was counted, until ctx ends.
func (b *Broker) SummariseLoop(ctx context.Context) {
	b.every(ctx, summariseEvery, "summaries of denials wait", b.summarise)
}

// summarise appends the summaries of the windows that have ended. One that fails
// does not hold up the others.
func (b *Broker) summarise(ctx context.Context) error {
	var failed error
	err := b.cfg.Store.Each(kindDenials, func(key, _ []byte) error {
		requester, window, ok := readTallyKey(key)
		if !ok {
			return fmt.Errorf("tally of denials under a malformed key %x", key)
		}
		if window >= windowOf(b.cfg.Clock()) {
			return nil
		}
		if err := b.sumUp(ctx, requester, window); err != nil {
			failed = fmt.Errorf("denials to %s: %w", requester, err)
		}
		return ctx.Err()
	})
	if err == nil {
		err = failed
	}
	return err
}

// sumUp closes a window, appends its summary and forgets it. Whatever fails, the
// same entry is appended again.
func (b *Broker) sumUp(ctx context.Context, requester exchange.Dept, window int64) error {
	key := tallyKey(requester, window)
	t, err := b.closeTally(requester, key)
	if err != nil {
		return err
	}
	if t.Counted > 0 {
		from := window * denialWindow.Milliseconds()
		to := from + denialWindow.Milliseconds()
		e := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindDenied, ID: t.Entry, Author: b.cfg.Self, Origin: to,
			Denied: &ledger.Denials{Requester: requester, From: from, To: to, Count: t.Counted, Chain: t.Chain}}
		b.cfg.Crash("holder-before-summary")
		// Whatever the ledger made of it, it is a leaf.
		if _, err := b.cfg.Ledger.Append(ctx, e); err != nil {
			return appendError("broker.summarise", err)
		}
		b.countDenials(0, t.Counted)
		b.cfg.Crash("holder-after-summary")
	}
	return b.cfg.Store.Delete(kindDenials, key)
}

func (b *Broker) closeTally(requester exchange.Dept, key []byte) (t tally, err error) {
	defer b.locks.lock(tallyLock(requester))()
	known, err := b.load(kindDenials, key, &t)
	if err != nil || !known || t.Closed {
		return t, err
	}
	t.Closed = true
	return t, b.save(kindDenials, key, t)
}

func (b *Broker) countDenials(counted, summarised uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.denials.Counted += counted
	b.denials.Summarised += summarised
}

// Denials returns what was denied without an entry of its own.
func (b *Broker) Denials() DenialStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.denials
}
