package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/merkle"
)

// verifyItem is a leaf that waits for its author's signature to be checked;
// frame is set on the first leaf of each frame.
type verifyItem struct {
	leaf  newLeaf
	hash  gm.Digest
	frame *acceptedFrame
}

// verifyStride is how many leaves the watermark waits for at most: after a
// restart the whole ledger is in line.
const verifyStride = 256

// verifyLoop moves the watermark. The leader has checked the same signatures
// before it proposed; this node does not take its word. It stops at the first
// that does not hold, and with it everything that reads behind the watermark.
func (l *Ledger) verifyLoop() {
	closed := make(chan struct{})
	close(closed)
	for {
		l.mu.RLock()
		items, changed := l.toVerify, l.changed
		l.mu.RUnlock()
		n := min(len(items), verifyStride)
		for i, item := range items[:n] {
			if item.frame != nil {
				if err := l.verifyFrame(items[i:]); err != nil {
					l.haltWith(fmt.Errorf("leaf %d: %w", item.leaf.index, err))
					return
				}
			}
			if l.cfg.Verified != nil {
				l.cfg.Verified(item.leaf.index, item.leaf.leaf, item.leaf.entry, item.hash)
			}
		}
		if n > 0 {
			l.mu.Lock()
			l.verified = items[n-1].leaf.index + 1
			clear(l.toVerify[:n])
			l.toVerify = l.toVerify[n:]
			l.wake()
			l.mu.Unlock()
			changed = closed // there may be more
		}
		select {
		case <-l.stop:
			return
		case <-l.halt:
			return
		case <-changed:
		}
	}
}

// verifyFrame checks the certificate and signature of the frame that the first
// of items began, and the cosignatures of a clock entry. Frames that carry facts
// or a clock entry pass both engines on every node,
// others pass the second engine on the one node that the frame's hash chooses:
// the second verdict costs a millisecond. What the engines disagree about is
// counted; it is a failure for those, on which everything rests, and makes any
// other frame disputed: its entries are never released or handed on here.
func (l *Ledger) verifyFrame(items []verifyItem) error {
	f := items[0].frame
	fail := func(err error) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stats.VerifyFailures++
		return err
	}
	dept, key, err := l.idents.At(f.cert, items[0].leaf.leaf.At())
	switch {
	case err != nil:
		return fail(fmt.Errorf("certificate of %s: %w", f.Dept, err))
	case dept != string(f.Dept):
		return fail(fmt.Errorf("certificate of %s names %s", f.Dept, dept))
	}
	controls := false
	for _, item := range items {
		if item.leaf.leaf.Frame != f.hash {
			break
		}
		controls = controls || item.leaf.entry.Kind.controls()
	}
	if f.clock != nil {
		if err := l.verifyClock(f.clock, items[0].leaf.leaf.At()); err != nil {
			return fail(err)
		}
	}
	msg := gm.Preimage(DomainFrame, f.record.Body)
	first := !controls && l.vouched.signature(f.hash, f.Cert) || l.cfg.Engine.Verify(key, msg, f.record.Sig)
	if first && !controls && !l.chosen(f.hash) {
		return nil
	}
	second := l.cfg.Second.Verify(key, msg, f.record.Sig)
	if !first && !second {
		return fail(fmt.Errorf("frame %d of %s: its signature does not hold", f.Seq, f.Dept))
	}
	if first == second {
		return nil
	}
	l.mu.Lock()
	l.disputed[f.hash] = struct{}{}
	l.mu.Unlock()
	l.reportSplit(f.parsedFrame, first, second)
	if controls {
		return fail(fmt.Errorf("frame %d of %s: the engines disagree about its signature", f.Seq, f.Dept))
	}
	return nil
}

// reportSplit counts a signature on which the engines disagree, and says what
// each makes of it: one of them is wrong, or somebody has crafted it.
func (l *Ledger) reportSplit(f *parsedFrame, first, second bool) {
	l.mu.Lock()
	l.stats.EngineMismatches++
	l.mu.Unlock()
	l.cfg.Log.Error("the engines disagree about a signature", "author", string(f.Dept), "frame", f.Seq,
		l.cfg.Engine.Name(), first, l.cfg.Second.Name(), second)
}

// chosen reports whether this node is the one that gives a frame its second
// verdict: members in order of name, picked by the frame's hash.
func (l *Ledger) chosen(hash gm.Digest) bool {
	members := l.Members()
	if len(members) == 0 {
		return false
	}
	pick := (int(hash[0])<<16 | int(hash[1])<<8 | int(hash[2])) % len(members)
	return members[pick] == l.cfg.Self
}

// expiryMargin is how much longer than now an author's certificate must be
// valid when its frame is proposed: the frame is judged at the time that its
// batch gets, and one that is past the certificate's end would halt every node.
const expiryMargin = 10 * time.Minute

// CheckFrame is what the leader asks of a frame before it proposes it: that it
// is well formed, that its author, who must be a member now, signed it, and
// that its place in the author's chain is not taken. A frame that was committed
// already is refused too; its author finds it on its own replica.
func (l *Ledger) CheckFrame(frame []byte) error {
	f, err := parseFrame(l.cfg.Engine, frame)
	if err != nil {
		return err
	}
	l.mu.RLock()
	cert, halted := l.state.signCert(f.Dept), l.haltErr
	now, last := l.now(), l.state.authors[f.Dept].Seq
	pressure := l.pressed(Entry{})
	l.mu.RUnlock()
	switch {
	case halted != nil:
		return halted
	case pressure != "":
		return l.refuseBusy("ledger.CheckFrame", pressure)
	}
	forged := &exchange.Error{Kind: exchange.Forged, Code: exchange.CodeSignature,
		Msg: "the frame is not signed by a member", Hint: "check that the node's certificate is the one on the ledger"}
	if cert == nil || l.cfg.Engine.Sum(cert) != f.Cert || f.Origin != l.cfg.Origin {
		return forged
	}
	dept, key, err := l.idents.At(cert, now)
	if err == nil {
		_, _, err = l.idents.At(cert, now.Add(expiryMargin))
	}
	if err != nil || dept != string(f.Dept) {
		forged.Err = err
		return forged
	}
	msg := gm.Preimage(DomainFrame, f.record.Body)
	first := l.cfg.Engine.Verify(key, msg, f.record.Sig)
	if slices.ContainsFunc(f.entries, func(e Entry) bool { return e.Kind.controls() }) {
		// What everything later rests on is asked of both, whatever the first says.
		if second := l.cfg.Second.Verify(key, msg, f.record.Sig); second != first {
			l.reportSplit(f, first, second)
			return forged
		}
	}
	if !first {
		return forged
	}
	if err := l.checkRenewals(f, now); err != nil {
		return err
	}
	if err := l.checkClock(f, now); err != nil {
		return err
	}
	if f.Seq <= last {
		return &exchange.Error{Kind: exchange.Conflict, Code: exchange.CodeConflict, Op: "ledger.CheckFrame",
			Msg: fmt.Sprintf("frame %d of %s: the ledger has its frame %d", f.Seq, f.Dept, last), Hint: "look the entries up on the own replica"}
	}
	l.vouched.add(frame, f)
	return nil
}

// checkRenewals keeps a department from locking itself out: certificates that it
// sets for itself must be its own, with time left. A leader that lies could let
// others through; they would bind nobody but that department, whose next frame
// nobody takes.
func (l *Ledger) checkRenewals(f *parsedFrame, now time.Time) error {
	for _, e := range f.entries {
		if e.Fact == nil || e.Fact.Type != FactCert || e.Fact.Action != Set || e.Fact.Key != string(f.Dept) {
			continue
		}
		certs, err := DecodeCerts(e.Fact.Content)
		if err != nil {
			return err
		}
		dept, _, err := l.idents.At(certs.Sign, now)
		if err == nil {
			_, _, err = l.idents.At(certs.Sign, now.Add(expiryMargin))
		}
		if err != nil || dept != string(f.Dept) {
			return &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Op: "ledger.CheckFrame", Err: err,
				Msg: "the certificate that the department sets for itself is not its own, or about to end", Hint: "ask the authority for a certificate of this department"}
		}
	}
	return nil
}

// Members returns the active members in order of name.
func (l *Ledger) Members() []exchange.Dept {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.members()
}

// waitFor blocks until cond holds, asking it under the read lock after every
// change.
func (l *Ledger) waitFor(ctx context.Context, cond func() bool) error {
	for {
		l.mu.RLock()
		ok, changed, halted := cond(), l.changed, l.haltErr
		l.mu.RUnlock()
		switch {
		case halted != nil:
			return halted
		case ok:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.stop:
			return ErrClosed
		}
	}
}

// AwaitVerified blocks until this node has verified size leaves or ctx ends.
func (l *Ledger) AwaitVerified(ctx context.Context, size uint64) error {
	return l.waitFor(ctx, func() bool { return l.verified >= size })
}

// Leaf returns the exact bytes of a leaf that was applied here.
func (l *Ledger) Leaf(index uint64) ([]byte, error) {
	l.mu.RLock()
	if n := uint64(len(l.leaves)); n > 0 && index >= l.leaves[0].index && index < l.leaves[0].index+n {
		b := l.leaves[index-l.leaves[0].index].bytes
		l.mu.RUnlock()
		return b, nil
	}
	l.mu.RUnlock()
	return l.cfg.Storage.Leaf(index)
}

// read returns a leaf that was applied here, and its hash as the tree has it. What
// is not flushed yet need not be decoded again; the caller changes nothing in it.
func (l *Ledger) read(index uint64) (Leaf, Entry, gm.Digest, error) {
	l.mu.RLock()
	if n := uint64(len(l.leaves)); n > 0 && index >= l.leaves[0].index && index < l.leaves[0].index+n {
		defer l.mu.RUnlock()
		hash, err := l.tree.Leaf(index)
		recent := l.leaves[index-l.leaves[0].index]
		return recent.leaf, recent.entry, hash, err
	}
	l.mu.RUnlock()
	b, err := l.cfg.Storage.Leaf(index)
	if err != nil {
		return Leaf{}, Entry{}, gm.Digest{}, err
	}
	leaf, entry, err := DecodeLeaf(b)
	return leaf, entry, merkle.LeafHash(l.cfg.Engine, b), err
}

// Proof returns what proves a leaf to an outsider: leaf, frame record and the
// path to the newest checkpoint that covers it. It waits for that checkpoint.
func (l *Ledger) Proof(ctx context.Context, index uint64) (exchange.LedgerProof, error) {
	var p exchange.LedgerProof
	if index >= l.Size() {
		return p, ErrNotFound
	}
	if err := l.waitFor(ctx, func() bool { return l.cosigned.size > index && l.stats.Flushed > index }); err != nil {
		return p, fmt.Errorf("no cosigned checkpoint covers the entry yet: %w", err)
	}
	b, err := l.Leaf(index)
	if err != nil {
		return p, err
	}
	leaf, _, err := DecodeLeaf(b)
	if err != nil {
		return p, err
	}
	frame, err := l.cfg.Storage.Frame(leaf.Frame)
	if err != nil {
		return p, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	path, err := l.tree.Inclusion(index, l.cosigned.size)
	if err != nil {
		return p, err
	}
	p = exchange.LedgerProof{Index: index, Leaf: b, Frame: frame, Size: l.cosigned.size, Checkpoint: string(l.cosigned.note)}
	for _, h := range path {
		p.Path = append(p.Path, h[:])
	}
	return p, nil
}

// LeafHash returns the hash that the tree holds for a leaf.
func (l *Ledger) LeafHash(index uint64) (gm.Digest, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.tree.Leaf(index)
}

// Root returns the root of the first size leaves.
func (l *Ledger) Root(size uint64) (gm.Digest, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.tree.RootAt(size)
}
