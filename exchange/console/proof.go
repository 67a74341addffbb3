package console

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
	"xinqiao/ledger/merkle"
)

// proofView is what this node found when it checked a proof just now. The zero
// value proves nothing.
type proofView struct {
	Leaf      string // hexadecimal, as computed from the leaf's bytes
	Matches   bool   // it is the row's leaf hash
	Included  bool   // the path leads from it to the checkpoint's root
	Origin    string
	Size      uint64
	Root      string
	Cosigners []exchange.Dept // whose cosignatures verify
	Needed    int             // how many make a quorum
	Quorum    bool
	Path      int // number of hashes
}

// Proven reports whether every step holds.
func (v proofView) Proven() bool { return v.Matches && v.Included && v.Quorum }

// check verifies a proof from its bytes; it takes nothing from the row on trust.
// An error says that the members' keys could not be read.
func (c *console) check(ctx context.Context, row exchange.LedgerRow, p exchange.LedgerProof) (proofView, error) {
	e := c.cfg.Engines[0]
	leaf := merkle.LeafHash(e, p.Leaf)
	v := proofView{Leaf: hex.EncodeToString(leaf[:]), Path: len(p.Path)}
	v.Matches = len(p.Leaf) > 0 && strings.EqualFold(v.Leaf, row.Leaf) && p.Index == row.Index
	note, err := checkpoint.Parse([]byte(p.Checkpoint))
	if err != nil {
		return v, nil // nothing more can be said, and the page says so
	}
	v.Origin, v.Size, v.Root = note.Origin, note.Size, hex.EncodeToString(note.Root[:])
	path := make([]gm.Digest, len(p.Path))
	for i, h := range p.Path {
		if len(h) != gm.HashSize {
			return v, nil
		}
		path[i] = gm.Digest(h)
	}
	v.Included = p.Size == note.Size && merkle.VerifyInclusion(e, leaf, p.Index, p.Size, path, note.Root) == nil
	keys, err := c.cfg.Members(ctx)
	if err != nil {
		return v, err
	}
	v.Needed = checkpoint.Quorum(len(keys))
	names, err := checkpoint.Verify(c.cfg.Engines, note, keys, v.Needed)
	for _, name := range names {
		v.Cosigners = append(v.Cosigners, exchange.Dept(name))
	}
	v.Quorum = err == nil
	if err != nil && !errors.Is(err, checkpoint.ErrQuorum) {
		c.cfg.Log.WarnContext(ctx, "checkpoint does not verify", "size", note.Size, "cause", err.Error())
	}
	return v, nil
}
