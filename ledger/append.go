package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/ledger/merkle"
)

// appending is an entry on its way into a frame.
type appending struct {
	id    ID
	raw   []byte
	hash  gm.Digest
	fail  chan error  // the append loop has given up; holds one
	once  bool        // not to be sent again after a refusal
	tried atomic.Bool // handed to the replicator with an outcome other than ErrNotProposed

	// Who stops waiting sets gone and then looks at flying; the append loop sets
	// flying and then looks at gone. So an entry of which its caller was told that
	// nothing happened is never sent.
	flying atomic.Bool // in a frame that the replicator has or is about to get
	gone   atomic.Bool // nobody waits any more
}

// Placed is where an entry stands on this node's replica.
type Placed struct {
	Index  uint64
	Result Result
	Slot   Slot
	Time   time.Time
	Hash   gm.Digest // leaf hash
}

// Append has this department's entry committed and applied on this node. An
// entry with the same id and bytes that is there already is found again; with
// other bytes it is ErrConflict. ErrNotProposed and ErrBusy mean that nothing
// happened, ErrUndetermined that it may have: append the same entry again.
func (l *Ledger) Append(ctx context.Context, e Entry) (Placed, error) {
	a, err := l.newAppending(e)
	if err != nil {
		return Placed{}, err
	}
	if p, ok, err := l.find(a); ok || err != nil {
		return p, err
	}
	if err := l.admit(e, a); err != nil {
		return Placed{}, err
	}
	return l.await(ctx, a)
}

func (l *Ledger) newAppending(e Entry) (*appending, error) {
	raw, err := e.Encode()
	if err != nil {
		return nil, err
	}
	if e.Author != l.cfg.Self {
		return nil, fmt.Errorf("%w: entry of another department", ErrFormat)
	}
	return &appending{id: e.ID, raw: raw, hash: merkle.LeafHash(l.cfg.Engine, raw), fail: make(chan error, 1),
		once: e.Kind == KindClock}, nil
}

// find looks for the entry on this replica.
func (l *Ledger) find(a *appending) (Placed, bool, error) {
	l.mu.RLock()
	at, known := l.state.ids[authorID{l.cfg.Self, a.id}]
	halted := l.haltErr
	l.mu.RUnlock()
	switch {
	case !known:
		return Placed{}, false, halted
	case at.hash != a.hash:
		l.mu.Lock()
		l.stats.Conflicts++
		l.mu.Unlock()
		return Placed{}, false, ErrConflict
	}
	leaf, _, hash, err := l.read(at.index)
	return Placed{at.index, leaf.Result, leaf.Slot, leaf.At(), hash}, err == nil, err
}

func (l *Ledger) await(ctx context.Context, a *appending) (Placed, error) {
	defer a.gone.Store(true)
	for {
		l.mu.RLock()
		changed := l.changed
		l.mu.RUnlock()
		if p, ok, err := l.find(a); ok || err != nil {
			return p, err
		}
		select {
		case <-changed:
		case err := <-a.fail:
			return Placed{}, err
		case <-l.stop:
			return Placed{}, ErrUndetermined
		case <-ctx.Done():
			a.gone.Store(true)
			if a.tried.Load() || a.flying.Load() {
				return Placed{}, fmt.Errorf("%w: %w", ErrUndetermined, ctx.Err())
			}
			return Placed{}, fmt.Errorf("%w: %w", ErrNotProposed, ctx.Err())
		}
	}
}

const (
	proposeWithin = 3 * time.Second
	giveUpAfter   = 8 * time.Second
	retryPause    = 30 * time.Millisecond
)

// appendLoop is the department's one writer: it gathers what arrives while a
// frame is in flight into the next, so frames follow each other without a gap.
func (l *Ledger) appendLoop(r Replicator) {
	var next crowd
	for {
		select {
		case <-l.stop:
			return
		case <-l.halt:
			return
		case clock := <-l.clocks:
			l.carry(r, []*appending{clock})
		case first := <-l.queue:
			l.pending.Add(-int64(len(first.raw)))
			batch := l.gather(first, &next)
			began := time.Now() // a duration is measured, not a time told
			l.carry(r, batch)
			next.expect(len(batch)+len(l.queue), time.Since(began))
		}
	}
}

func (l *Ledger) gather(first *appending, c *crowd) []*appending {
	batch, size := []*appending{first}, len(first.raw)
	late := c.wait()
	for len(batch) < MaxFrameEntries && size < MaxFrame/2 {
		var a *appending
		select {
		case a = <-l.queue:
		default:
			if len(batch) >= c.entries {
				c.came(late)
				return batch
			}
			select {
			case a = <-l.queue:
			case <-late.C:
				c.missed = min(c.missed+1, maxMissed)
				return batch
			case <-l.stop:
				return batch
			}
		}
		l.pending.Add(-int64(len(a.raw)))
		batch, size = append(batch, a), size+len(a.raw)
	}
	c.came(late)
	return batch
}

// carry brings a batch onto this node's replica, or tells each waiter why not.
// It signs a new frame only when the author's chain has moved on or an entry
// that was never handed on is no longer wanted or another certificate is in
// force; otherwise it sends the same bytes again.
func (l *Ledger) carry(r Replicator, batch []*appending) {
	started := time.Now()
	var frame []byte
	var seq uint64
	var cert gm.Digest
	for {
		author, inForce, missing := l.board(batch)
		if len(missing) == 0 || l.Halted() != nil {
			return
		}
		if frame == nil || seq != author.Seq+1 || cert != inForce || len(missing) != len(batch) {
			batch, seq, cert = missing, author.Seq+1, inForce
			var err error
			if frame, err = l.sign(batch, author, cert); err != nil {
				giveUp(batch, err)
				return
			}
		}
		l.cfg.Crash("append-before-propose")
		ctx, cancel := context.WithTimeout(context.Background(), proposeWithin)
		err := r.Propose(ctx, frame)
		cancel()
		switch {
		case err == nil:
			mark(batch)
			l.waitApplied(batch, seq)
		case errors.Is(err, ErrNotProposed):
			for _, a := range batch {
				a.flying.Store(false)
			}
			if batch[0].once {
				giveUp(batch, err)
				return
			}
			l.carryClock(r)
			pause(l.stop, retryPause)
		default:
			mark(batch)
			pause(l.stop, retryPause)
		}
		select {
		case <-l.stop:
			return
		default:
		}
		if time.Since(started) > giveUpAfter {
			giveUp(batch, nil)
			return
		}
	}
}

// carryClock brings a waiting clock entry forward of the frame that the leader
// refuses without it.
func (l *Ledger) carryClock(r Replicator) {
	select {
	case clock := <-l.clocks:
		l.carry(r, []*appending{clock})
	default:
	}
}

func (l *Ledger) sign(batch []*appending, author authorState, cert gm.Digest) ([]byte, error) {
	key, ok := l.cfg.Signers(cert)
	if !ok {
		return nil, errNoKey
	}
	entries := make([][]byte, len(batch))
	for i, a := range batch {
		entries[i] = a.raw
	}
	return NewFrame(l.cfg.Engine, key, l.cfg.Origin, l.cfg.Self, cert, author.Seq+1, author.Last, entries)
}

// errNoKey means that nothing can be signed: the certificate in force was
// withdrawn, or its key is not in this node's keyring.
var errNoKey = fmt.Errorf("%w: this node has no key for the certificate that the ledger holds for its department", ErrNotProposed)

// signingCert returns the fingerprint of this department's signing certificate
// in force; no certificate has the zero one. The caller holds mu.
func (l *Ledger) signingCert() gm.Digest {
	if cert := l.state.signCert(l.cfg.Self); cert != nil {
		return l.cfg.Engine.Sum(cert)
	}
	return gm.Digest{}
}

// board returns the author's chain, its certificate in force, and what of the
// batch is not yet applied and still of interest to someone, marked as flying.
func (l *Ledger) board(batch []*appending) (author authorState, cert gm.Digest, left []*appending) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, a := range batch {
		if _, known := l.state.ids[authorID{l.cfg.Self, a.id}]; known {
			continue
		}
		a.flying.Store(true)
		if a.gone.Load() && !a.tried.Load() {
			a.flying.Store(false)
			continue
		}
		left = append(left, a)
	}
	return l.state.authors[l.cfg.Self], l.signingCert(), left
}

// waitApplied gives the own replica time to catch up with what the leader has
// said is committed.
func (l *Ledger) waitApplied(batch []*appending, seq uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), proposeWithin)
	defer cancel()
	// A timeout shows as entries that are still missing.
	_ = l.waitFor(ctx, func() bool {
		_, known := l.state.ids[authorID{l.cfg.Self, batch[0].id}]
		return known || l.state.authors[l.cfg.Self].Seq >= seq
	})
}

func mark(batch []*appending) {
	for _, a := range batch {
		a.tried.Store(true)
	}
}

func giveUp(batch []*appending, cause error) {
	for _, a := range batch {
		err := cause
		switch {
		case a.tried.Load() && cause != nil:
			err = fmt.Errorf("%w: %w", ErrUndetermined, cause)
		case a.tried.Load():
			err = ErrUndetermined
		case cause == nil:
			err = ErrNotProposed
		}
		select {
		case a.fail <- err:
		default:
		}
	}
}

func pause(stop <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-stop:
	case <-t.C:
	}
}
