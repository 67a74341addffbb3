package ledger

import (
	"context"
	"fmt"

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

// verifyLoop moves the watermark. The leader has checked the same signatures
// before it proposed; this node does not take its word. It stops at the first
// that does not hold, and with it everything that reads behind the watermark.
func (l *Ledger) verifyLoop() {
	keys := keyCache{}
	for {
		l.mu.RLock()
		items, changed := l.toVerify, l.changed
		l.mu.RUnlock()
		for _, item := range items {
			if item.frame != nil {
				if err := l.verifyFrame(keys, item); err != nil {
					l.haltWith(fmt.Errorf("leaf %d: %w", item.leaf.index, err))
					return
				}
			}
			if l.cfg.Verified != nil {
				l.cfg.Verified(item.leaf.index, item.leaf.leaf, item.leaf.entry, item.hash)
			}
		}
		if len(items) > 0 {
			l.mu.Lock()
			l.toVerify = l.toVerify[len(items):]
			l.verified = items[len(items)-1].leaf.index + 1
			l.wake()
			l.mu.Unlock()
			continue
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

type keyCache map[gm.Digest]gm.PublicKey

// verifyFrame checks the certificate and signature of a frame. Frames that
// carry facts pass both engines on every node, others pass the second engine on
// the one node that the frame's hash chooses: the second verdict costs a
// millisecond. A split verdict is counted and treated as a failure.
func (l *Ledger) verifyFrame(keys keyCache, item verifyItem) error {
	f := item.frame
	key, known := keys[f.Cert]
	if !known {
		dept, k, err := l.cfg.Identify(f.cert, item.leaf.leaf.At())
		if err != nil {
			return l.verifyFailed(fmt.Errorf("certificate of %s: %w", f.Dept, err))
		}
		if dept != string(f.Dept) {
			return l.verifyFailed(fmt.Errorf("certificate of %s names %s", f.Dept, dept))
		}
		key, keys[f.Cert] = k, k
	}
	msg := gm.Preimage(DomainFrame, f.record.Body)
	if !l.cfg.Engine.Verify(key, msg, f.record.Sig) {
		return l.verifyFailed(fmt.Errorf("frame %d of %s: its signature does not hold", f.Seq, f.Dept))
	}
	if (item.leaf.entry.Kind == KindFact || l.chosen(f.hash)) && !l.cfg.Second.Verify(key, msg, f.record.Sig) {
		l.mu.Lock()
		l.stats.EngineMismatches++
		l.mu.Unlock()
		return l.verifyFailed(fmt.Errorf("frame %d of %s: %s accepts its signature and %s does not", f.Seq, f.Dept,
			l.cfg.Engine.Name(), l.cfg.Second.Name()))
	}
	return nil
}

func (l *Ledger) verifyFailed(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.VerifyFailures++
	return err
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

// CheckFrame is what the leader asks of a frame before it proposes it: that it
// is well formed and that its author, who must be a member now, signed it.
func (l *Ledger) CheckFrame(frame []byte) error {
	f, err := parseFrame(l.cfg.Engine, frame)
	if err != nil {
		return err
	}
	l.mu.RLock()
	cert, halted := l.state.signCert(f.Dept), l.haltErr
	now := l.cfg.Clock()
	l.mu.RUnlock()
	if halted != nil {
		return halted
	}
	forged := &exchange.Error{Kind: exchange.Forged, Code: exchange.CodeSignature,
		Msg: "the frame is not signed by a member", Hint: "check that the node's certificate is the one on the ledger"}
	if cert == nil || l.cfg.Engine.Sum(cert) != f.Cert || f.Origin != l.cfg.Origin {
		return forged
	}
	dept, key, err := l.cfg.Identify(cert, now)
	if err != nil || dept != string(f.Dept) {
		forged.Err = err
		return forged
	}
	msg := gm.Preimage(DomainFrame, f.record.Body)
	if !l.cfg.Engine.Verify(key, msg, f.record.Sig) {
		return forged
	}
	for _, e := range f.entries {
		if e.Kind == KindFact && !l.cfg.Second.Verify(key, msg, f.record.Sig) {
			return forged
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
	b, err := l.Leaf(index)
	if err != nil {
		return gm.Digest{}, err
	}
	return merkle.LeafHash(l.cfg.Engine, b), nil
}

// Root returns the root of the first size leaves.
func (l *Ledger) Root(size uint64) (gm.Digest, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.tree.RootAt(size)
}
