package ledger

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
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
	if c.overdue(now) {
		return false
	}
	if index >= c.size {
		c.released = append(c.released, release{index, now})
	}
	return true
}

// overdue reports whether a released answer has gone without a checkpoint over its
// entry for too long.
func (c *cosignState) overdue(now time.Time) bool {
	return len(c.released) > 0 && now.Sub(c.released[0].at) > uncosignedRelease
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
	l.cosigned.released = l.perhapsReleased()
	return err
}

// perhapsReleased lists the answers of this department that no checkpoint here
// covers. Which of them left before the restart is not known, so all count, from
// now on. The tail that the replicated log brings back is not among them.
func (l *Ledger) perhapsReleased() (list []release) {
	for _, item := range l.toVerify {
		e, index := item.leaf.entry, item.leaf.index
		if index >= l.cosigned.size && e.Author == l.cfg.Self && e.Access != nil && e.Access.Outcome != exchange.Refused && item.leaf.leaf.Result == Committed {
			list = append(list, release{index, l.opened})
		}
	}
	return list
}

// Cosign gives this node's cosignature to a tree head that is its own: of a
// size it has verified, with the root it computed itself, and never smaller
// than one it cosigned before. The size is on disk before the signature leaves.
func (l *Ledger) Cosign(ctx context.Context, size uint64, root gm.Digest) (checkpoint.Cosignature, error) {
	var none checkpoint.Cosignature
	if err := l.waitFor(ctx, func() bool { return l.verified >= size }); err != nil {
		return none, fmt.Errorf("this node has not verified %d leaves: %w", size, err)
	}
	l.cosigning.Lock()
	defer l.cosigning.Unlock()
	lastSize, lastRoot, err := l.cfg.Storage.Cosigned()
	if err != nil {
		return none, l.haltWith(err)
	}
	if err := l.mayCosign(size, root, lastSize, lastRoot); err != nil {
		return none, err
	}
	if lastSize < size {
		l.cfg.Crash("cosign-before-persist")
		if err := l.cfg.Storage.PutCosigned(size, root); err != nil {
			return none, l.haltWith(err)
		}
		l.cfg.Crash("cosign-after-persist")
	}
	if err := l.Halted(); err != nil {
		return none, err
	}
	l.mu.RLock()
	key, ok := l.cfg.Signers(l.signingCert())
	l.mu.RUnlock()
	if !ok {
		return none, errNoKey
	}
	return checkpoint.Cosign(key, l.cfg.Engine, string(l.cfg.Self), key.Public, l.cfg.Clock(),
		checkpoint.Checkpoint{Origin: l.cfg.Origin, Size: size, Root: root})
}

// mayCosign compares a head with this node's tree and with the head that it
// cosigned last.
func (l *Ledger) mayCosign(size uint64, root gm.Digest, lastSize uint64, lastRoot gm.Digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.haltErr != nil {
		return l.haltErr
	}
	own, err := l.tree.RootAt(size)
	if err != nil {
		return err
	}
	if ahead := time.UnixMilli(l.state.time).Sub(l.cfg.Clock()); ahead > clockSkew {
		return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum, Op: "ledger.Cosign",
			Msg:  fmt.Sprintf("ledger time is %v ahead of this node's clock", ahead.Round(time.Second)),
			Hint: "compare the clocks of this node and of the leader"}
	}
	if own != root {
		l.stats.RefusedHeads++ // anyone may ask: it accuses the asker, and is no fork yet
		return &exchange.Error{Kind: exchange.Integrity, Code: exchange.CodeLedgerBroken, Op: "ledger.Cosign",
			Msg: fmt.Sprintf("this node has another root at size %d", size), Hint: "compare the two nodes' ledgers: one of them lies or rots"}
	}
	if lastSize > size {
		return &exchange.Error{Kind: exchange.Conflict, Code: exchange.CodeConflict, Op: "ledger.Cosign",
			Msg: fmt.Sprintf("this node has cosigned size %d, beyond %d", lastSize, size), Hint: "ask for a newer head"}
	}
	if was, err := l.tree.RootAt(lastSize); lastSize > 0 && (err != nil || was != lastRoot) {
		return l.haltLocked(fmt.Errorf("this node has cosigned another history at size %d", lastSize))
	}
	return nil
}

// Accept takes a cosigned checkpoint from anyone. It must carry a quorum of the
// members' cosignatures; one that does and contradicts this node's tree, at
// whatever size, is proof of a fork and halts the node.
func (l *Ledger) Accept(ctx context.Context, note []byte) error {
	n, err := checkpoint.Parse(note)
	if err != nil {
		return err
	}
	if n.Origin != l.cfg.Origin {
		return &exchange.Error{Kind: exchange.Forged, Code: exchange.CodeBinding, Msg: "the checkpoint is of another ledger"}
	}
	if l.covers(n.Checkpoint) {
		return nil
	}
	voters := l.electorate()
	valid, err := checkpoint.Verify([]gm.Engine{l.cfg.Engine}, n, voters.keys, checkpoint.Quorum(voters.members))
	if err != nil {
		return err
	}
	if err := l.waitFor(ctx, func() bool { return l.verified >= max(n.Size, voters.high) }); err != nil {
		return err
	}
	l.cosigning.Lock()
	defer l.cosigning.Unlock()
	if known, err := l.contradicts(n.Checkpoint); known || err != nil {
		return err
	}
	l.sawCosignatures(n.Checkpoint, valid...)
	if err := l.cfg.Storage.PutCheckpoint(n.Size, note); err != nil {
		return l.haltWith(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cosigned.accept(n.Size, note, l.cfg.Clock())
	l.wake()
	return nil
}

// covers reports whether the newest checkpoint here says all that c says.
func (l *Ledger) covers(c checkpoint.Checkpoint) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if c.Size > l.cosigned.size {
		return false
	}
	own, err := l.tree.RootAt(c.Size)
	return err == nil && own == c.Root
}

// contradicts halts the ledger when a head that a quorum has cosigned is not
// that of this node's tree, and reports otherwise whether it is known already.
func (l *Ledger) contradicts(c checkpoint.Checkpoint) (known bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own, err := l.tree.RootAt(c.Size)
	if err != nil {
		return false, err
	}
	if own != c.Root {
		l.stats.SplitViews++
		return false, l.haltLocked(fmt.Errorf("a quorum has cosigned another root at size %d: the ledger was forked", c.Size))
	}
	return c.Size <= l.cosigned.size, l.haltErr
}

// electorate is who may cosign: a quorum is counted over all members, also
// those whose certificates have expired and who therefore have no key in it.
type electorate struct {
	members int
	keys    map[string]gm.PublicKey
	high    uint64 // newest version of the facts that say so
}

func (l *Ledger) electorate() electorate {
	v := electorate{keys: map[string]gm.PublicKey{}}
	certs := map[exchange.Dept][]byte{}
	l.mu.RLock()
	for _, dept := range l.state.members() {
		v.members++
		v.high = max(v.high, l.state.facts.get(FactMember, string(dept)).Version)
		if cert := l.state.signCert(dept); cert != nil {
			certs[dept] = cert
			v.high = max(v.high, l.state.facts.get(FactCert, string(dept)).Version)
		}
	}
	l.mu.RUnlock()
	now := l.cfg.Clock()
	for dept, cert := range certs {
		// An expired or foreign certificate cosigns nothing.
		if who, key, err := l.idents.At(cert, now); err == nil && who == string(dept) {
			v.keys[string(dept)] = key
		}
	}
	return v
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
// about every 100 ms when something has changed, and a clock entry when frames
// wait for one, until ctx ends. In quiet times it sends the newest checkpoint again
// now and then: a node that was down must not wait for the next entry.
func (l *Ledger) PublishLoop(ctx context.Context, w Witnesses, leading func() bool) {
	tick := time.NewTicker(publishEvery)
	defer tick.Stop()
	failing := false // said once, not ten times a second
	quiet := 0
	var wg sync.WaitGroup
	defer wg.Wait()
	var witnessing atomic.Bool
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
		clock := l.wantsClock()
		if !leading() || err != nil {
			continue
		}
		if size <= done && !clock {
			if _, text, err := l.Checkpoint(); err == nil && quiet%spreadTicks == spreadTicks-1 {
				l.spread(ctx, w, text)
			}
			quiet++
			continue
		}
		note, err := l.publish(ctx, w, size, root)
		if err == nil && clock && witnessing.CompareAndSwap(false, true) {
			wg.Go(func() {
				defer witnessing.Store(false)
				l.witness(ctx, note)
			})
		}
		if err != nil && !failing {
			l.cfg.Log.Warn("no quorum of cosignatures", "size", size, "err", err)
		}
		failing = err != nil
	}
}

// publish asks every member at once and goes on when a quorum has answered. What
// does not verify is dropped here: one member's garbage must not spoil the note.
func (l *Ledger) publish(ctx context.Context, w Witnesses, size uint64, root gm.Digest) (checkpoint.Note, error) {
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	head := checkpoint.Checkpoint{Origin: l.cfg.Origin, Size: size, Root: root}
	voters, members := l.electorate(), l.Members()
	answers := make(chan *checkpoint.Cosignature, len(members))
	for _, dept := range members {
		go func() {
			c, err := l.ask(ctx, w, dept, head)
			if err == nil {
				alone := checkpoint.Note{Checkpoint: head, Cosignatures: []checkpoint.Cosignature{c}}
				own := map[string]gm.PublicKey{string(dept): voters.keys[string(dept)]}
				_, err = checkpoint.Verify([]gm.Engine{l.cfg.Engine}, alone, own, 1)
			}
			if err != nil {
				l.cfg.Log.Debug("no cosignature", "dept", string(dept), "size", size, "err", err)
				answers <- nil
				return
			}
			l.sawCosignatures(head, string(dept))
			answers <- &c
		}()
	}
	note := checkpoint.Note{Checkpoint: head}
	need := checkpoint.Quorum(voters.members)
	if note.Cosignatures = collect(ctx, answers, len(members), need); len(note.Cosignatures) < need {
		return note, fmt.Errorf("%d of %d cosignatures", len(note.Cosignatures), need)
	}
	text := note.Encode()
	if err := l.Accept(ctx, text); err != nil {
		return note, err
	}
	l.spread(ctx, w, text)
	return note, nil
}

// spread sends a checkpoint to all others and does not wait for them.
func (l *Ledger) spread(ctx context.Context, w Witnesses, text []byte) {
	for _, dept := range l.Members() {
		if dept == l.cfg.Self {
			continue
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishWithin)
			defer cancel()
			if err := w.Publish(ctx, dept, text); err != nil {
				l.cfg.Log.Debug("checkpoint not delivered", "dept", string(dept), "err", err)
			}
		}()
	}
}

// witness has the note's times recorded, and says why when it cannot.
func (l *Ledger) witness(ctx context.Context, note checkpoint.Note) {
	ctx, cancel := context.WithTimeout(ctx, giveUpAfter)
	defer cancel()
	if err := l.appendClock(ctx, note); err != nil {
		l.cfg.Log.Warn("the ledger's clock was not advanced", "err", err)
	}
}

const (
	publishWithin = 2 * time.Second
	publishEvery  = 100 * time.Millisecond
	spreadTicks   = int(uncosignedRelease / publishEvery / 2) // in time for a node whose releases wait for it
	publishGrace  = 150 * time.Millisecond                    // for the members that are a little later than the quorum
)

func (l *Ledger) ask(ctx context.Context, w Witnesses, dept exchange.Dept, c checkpoint.Checkpoint) (checkpoint.Cosignature, error) {
	if dept == l.cfg.Self {
		return l.Cosign(ctx, c.Size, c.Root)
	}
	return w.Cosign(ctx, dept, c.Size, c.Root)
}

// collect gathers up to n answers, and stops a little after the quorum.
func collect(ctx context.Context, answers <-chan *checkpoint.Cosignature, n, need int) []checkpoint.Cosignature {
	var got []checkpoint.Cosignature
	var grace <-chan time.Time
	for range n {
		select {
		case c := <-answers:
			if c == nil {
				continue
			}
			if got = append(got, *c); len(got) == need {
				timer := time.NewTimer(publishGrace)
				defer timer.Stop()
				grace = timer.C
			}
		case <-grace:
			return got
		case <-ctx.Done():
			return got
		}
	}
	return got
}
