package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
)

// cosignState is the newest checkpoint with a quorum of cosignatures and the
// releases that it does not cover yet. Ledger.mu protects it.
type cosignState struct {
	size     uint64
	note     []byte
	at       time.Time // when this node accepted it
	released []release // not covered, oldest first
}

type release struct {
	index uint64
	at    time.Time
}

// mayRelease records a release at index unless an earlier one has waited too
// long for its checkpoint.
func (c *cosignState) mayRelease(index uint64, now time.Time) bool {
	if len(c.released) > 0 && now.Sub(c.released[0].at) > uncosignedRelease {
		return false
	}
	if index >= c.size {
		c.released = append(c.released, release{index, now})
	}
	return true
}

func (c *cosignState) accept(size uint64, note []byte, now time.Time) {
	c.size, c.note, c.at = size, note, now
	var waiting []release
	for _, r := range c.released {
		if r.index >= size {
			waiting = append(waiting, r)
		}
	}
	c.released = waiting
}

// openCosigned refuses a ledger that is behind what this node has cosigned: it
// was rolled back, or rots.
func (l *Ledger) openCosigned() error {
	size, root, err := l.cfg.Storage.Cosigned()
	if err != nil {
		return err
	}
	// What was cosigned was verified, hence applied, but perhaps not flushed: the
	// replicated log then brings it back and cosign compares again.
	if size > 0 && size <= l.tree.Size() {
		if now, err := l.tree.RootAt(size); err != nil || now != root {
			return fmt.Errorf("%w: the stored ledger is not the one this node has cosigned at size %d: restore it from a peer", ErrHalted, size)
		}
	}
	size, note, err := l.cfg.Storage.Checkpoint()
	if err == nil && size > 0 {
		l.cosigned = cosignState{size: size, note: note, at: l.cfg.Clock()}
		if size > l.tree.Size() {
			l.cosigned = cosignState{}
		}
	}
	return err
}

// Cosign gives this node's cosignature to a tree head that is its own: of a
// size it has verified, with the root it computed itself, and never smaller
// than one it cosigned before. The size is on disk before the signature leaves.
func (l *Ledger) Cosign(ctx context.Context, size uint64, root gm.Digest) (checkpoint.Cosignature, error) {
	var none checkpoint.Cosignature
	if err := l.waitFor(ctx, func() bool { return l.verified >= size }); err != nil {
		return none, fmt.Errorf("this node has not verified %d leaves: %w", size, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.haltErr != nil {
		return none, l.haltErr
	}
	own, err := l.tree.RootAt(size)
	if err != nil {
		return none, err
	}
	if own != root {
		l.stats.SplitViews++
		return none, &exchange.Error{Kind: exchange.Integrity, Code: exchange.CodeLedgerBroken, Op: "ledger.Cosign",
			Msg: fmt.Sprintf("this node has another root at size %d", size), Hint: "compare the two nodes' ledgers: one of them lies or rots"}
	}
	lastSize, lastRoot, err := l.cfg.Storage.Cosigned()
	if err != nil {
		return none, l.haltLocked(err)
	}
	if lastSize > size {
		return none, &exchange.Error{Kind: exchange.Conflict, Code: exchange.CodeConflict, Op: "ledger.Cosign",
			Msg: fmt.Sprintf("this node has cosigned size %d, beyond %d", lastSize, size), Hint: "ask for a newer head"}
	}
	if was, err := l.tree.RootAt(lastSize); lastSize > 0 && (err != nil || was != lastRoot) {
		return none, l.haltLocked(fmt.Errorf("this node has cosigned another history at size %d", lastSize))
	}
	if lastSize < size {
		l.cfg.Crash("cosign-before-persist")
		if err := l.cfg.Storage.PutCosigned(size, root); err != nil {
			return none, l.haltLocked(err)
		}
		l.cfg.Crash("cosign-after-persist")
	}
	return checkpoint.Cosign(l.cfg.Signer, l.cfg.Engine, string(l.cfg.Self), l.cfg.Key, l.cfg.Clock(),
		checkpoint.Checkpoint{Origin: l.cfg.Origin, Size: size, Root: root})
}

// Accept takes a cosigned checkpoint from anyone. It must carry a quorum of the
// members' cosignatures; one that does and contradicts this node's tree is proof of a fork and halts the node.
func (l *Ledger) Accept(ctx context.Context, note []byte) error {
	n, err := checkpoint.Parse(note)
	if err != nil {
		return err
	}
	l.mu.RLock()
	known := n.Size <= l.cosigned.size
	keys, err := l.memberKeys()
	l.mu.RUnlock()
	if err != nil || known {
		return err
	}
	if n.Origin != l.cfg.Origin {
		return &exchange.Error{Kind: exchange.Forged, Code: exchange.CodeBinding, Msg: "the checkpoint is of another ledger"}
	}
	if _, err := checkpoint.Verify([]gm.Engine{l.cfg.Engine}, n, keys, checkpoint.Quorum(len(keys))); err != nil {
		return err
	}
	if err := l.waitFor(ctx, func() bool { return l.verified >= n.Size }); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	own, err := l.tree.RootAt(n.Size)
	if err != nil {
		return err
	}
	if own != n.Root {
		l.stats.SplitViews++
		return l.haltLocked(fmt.Errorf("a quorum has cosigned another root at size %d: the ledger was forked", n.Size))
	}
	if n.Size <= l.cosigned.size {
		return nil
	}
	if err := l.cfg.Storage.PutCheckpoint(n.Size, note); err != nil {
		return l.haltLocked(err)
	}
	l.cosigned.accept(n.Size, note, l.cfg.Clock())
	l.wake()
	return nil
}

// memberKeys returns the signing keys of the active members. The caller holds mu.
func (l *Ledger) memberKeys() (map[string]gm.PublicKey, error) {
	keys := map[string]gm.PublicKey{}
	for _, dept := range l.state.members() {
		cert := l.state.signCert(dept)
		if cert == nil {
			continue
		}
		_, key, err := l.cfg.Identify(cert, l.cfg.Clock())
		if err != nil {
			continue // an expired or foreign certificate cosigns nothing
		}
		keys[string(dept)] = key
	}
	if len(keys) == 0 {
		return nil, errors.New("the ledger has no members yet")
	}
	return keys, nil
}

// Checkpoint returns the newest cosigned checkpoint and its size; ErrNotFound
// before the first.
func (l *Ledger) Checkpoint() (size uint64, note []byte, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.cosigned.size == 0 {
		return 0, nil, ErrNotFound
	}
	return l.cosigned.size, l.cosigned.note, nil
}

// Witnesses reaches the other departments' nodes.
type Witnesses interface {
	// Cosign asks dept for its cosignature over a head of this ledger.
	Cosign(ctx context.Context, dept exchange.Dept, size uint64, root gm.Digest) (checkpoint.Cosignature, error)
	// Publish hands dept a cosigned checkpoint.
	Publish(ctx context.Context, dept exchange.Dept, note []byte) error
}

// PublishLoop gathers cosignatures for new heads while leading reports true,
// about every 100 ms when something has changed, until ctx ends.
func (l *Ledger) PublishLoop(ctx context.Context, w Witnesses, leading func() bool) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.RLock()
		size, done := l.verified, l.cosigned.size
		root, err := l.tree.RootAt(size)
		l.mu.RUnlock()
		if !leading() || size <= done || err != nil {
			continue
		}
		if err := l.publish(ctx, w, size, root); err != nil {
			l.cfg.Log.Warn("no quorum of cosignatures", "size", size, "err", err)
		}
	}
}

func (l *Ledger) publish(ctx context.Context, w Witnesses, size uint64, root gm.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	members := l.Members()
	answers := make(chan *checkpoint.Cosignature, len(members))
	for _, dept := range members {
		go func() {
			var c checkpoint.Cosignature
			var err error
			if dept == l.cfg.Self {
				c, err = l.Cosign(ctx, size, root)
			} else {
				c, err = w.Cosign(ctx, dept, size, root)
			}
			if err != nil {
				l.cfg.Log.Debug("no cosignature", "dept", string(dept), "size", size, "err", err)
				answers <- nil
				return
			}
			answers <- &c
		}()
	}
	note := checkpoint.Note{Checkpoint: checkpoint.Checkpoint{Origin: l.cfg.Origin, Size: size, Root: root}}
	need := checkpoint.Quorum(len(members))
	grace := make(<-chan time.Time)
	for range members {
		select {
		case c := <-answers:
			if c != nil {
				note.Cosignatures = append(note.Cosignatures, *c)
			}
			if len(note.Cosignatures) == need {
				grace = time.After(150 * time.Millisecond) // for the members that are a little later
			}
			continue
		case <-grace:
		}
		break
	}
	if len(note.Cosignatures) < need {
		return fmt.Errorf("%d of %d cosignatures", len(note.Cosignatures), need)
	}
	text := note.Encode()
	if err := l.Accept(ctx, text); err != nil {
		return err
	}
	for _, dept := range members {
		if dept != l.cfg.Self {
			go func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
				defer cancel()
				if err := w.Publish(ctx, dept, text); err != nil {
					l.cfg.Log.Debug("checkpoint not delivered", "dept", string(dept), "err", err)
				}
			}()
		}
	}
	return nil
}
