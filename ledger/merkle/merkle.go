// Package merkle hashes the ledger's entries into a tree of the shape of RFC
// 9162 section 2.1, with SM3 (GB/T 32905) in the place of SHA-256, and makes
// and checks inclusion and consistency proofs.
//
// A Tree keeps every hash of a complete subtree, 64 bytes a leaf, so that a
// proof costs one look-up a level. The verifying functions trust none of their
// arguments but the root.
package merkle

import (
	"errors"
	"fmt"
	"math/bits"

	"xinqiao/crypto/gm"
)

// Errors of this package.
var (
	// ErrProof reports a proof that does not lead to the root it should.
	ErrProof = errors.New("the proof does not hold")
	// ErrRange reports an index or a size that the tree does not have.
	ErrRange = errors.New("outside the tree")
)

// LeafHash returns SM3(0x00 || data): the hash of one leaf.
func LeafHash(e gm.Engine, data []byte) gm.Digest { return e.Sum([]byte{0}, data) }

// NodeHash returns SM3(0x01 || left || right): the hash of an inner node.
func NodeHash(e gm.Engine, left, right gm.Digest) gm.Digest {
	return e.Sum([]byte{1}, left[:], right[:])
}

// Root returns the root over leaf hashes by the recursive definition of RFC 9162
// section 2.1.1. The empty tree's root is SM3 of the empty string.
func Root(e gm.Engine, leaves []gm.Digest) gm.Digest {
	switch len(leaves) {
	case 0:
		return e.Sum()
	case 1:
		return leaves[0]
	}
	k := 1 << (bits.Len(uint(len(leaves)-1)) - 1) // the largest power of two below len
	return NodeHash(e, Root(e, leaves[:k]), Root(e, leaves[k:]))
}

// A Tree is an append-only Merkle tree in memory. It is not safe for concurrent
// use; whoever owns it locks.
type Tree struct {
	engine gm.Engine
	// levels[h][i] is the hash of the complete subtree over leaves
	// i<<h up to (i+1)<<h. Values never change once appended.
	levels [][]gm.Digest
}

// New returns an empty tree that hashes with e.
func New(e gm.Engine) *Tree { return &Tree{engine: e, levels: [][]gm.Digest{nil}} }

// Append adds a leaf hash, as LeafHash gives it, at index Size.
func (t *Tree) Append(leaf gm.Digest) {
	node := leaf
	for h := 0; ; h++ {
		if h == len(t.levels) {
			t.levels = append(t.levels, nil)
		}
		t.levels[h] = append(t.levels[h], node)
		n := len(t.levels[h])
		if n%2 != 0 {
			return
		}
		node = NodeHash(t.engine, t.levels[h][n-2], t.levels[h][n-1])
	}
}

// Size returns the number of leaves.
func (t *Tree) Size() uint64 { return uint64(len(t.levels[0])) }

// Leaf returns the leaf hash at index i.
func (t *Tree) Leaf(i uint64) (gm.Digest, error) {
	if i >= t.Size() {
		return gm.Digest{}, fmt.Errorf("leaf %d of a tree of %d: %w", i, t.Size(), ErrRange)
	}
	return t.levels[0][i], nil
}

// Root returns the root over all leaves.
func (t *Tree) Root() gm.Digest {
	if t.Size() == 0 {
		return t.engine.Sum()
	}
	return t.hash(0, t.Size())
}

// RootAt returns the root that the tree had when it held size leaves.
func (t *Tree) RootAt(size uint64) (gm.Digest, error) {
	if size > t.Size() {
		return gm.Digest{}, fmt.Errorf("root at %d of a tree of %d: %w", size, t.Size(), ErrRange)
	}
	if size == 0 {
		return t.engine.Sum(), nil
	}
	return t.hash(0, size), nil
}

// hash returns the hash over leaves start to end, where the range is one that
// RFC 9162 splits trees into: start is a multiple of the power of two that is
// at or above end-start.
func (t *Tree) hash(start, end uint64) gm.Digest {
	n := end - start
	if n&(n-1) == 0 {
		h := bits.TrailingZeros64(n)
		return t.levels[h][start>>h]
	}
	k := split(n)
	return NodeHash(t.engine, t.hash(start, start+k), t.hash(start+k, end))
}

// split returns the largest power of two below n, for n > 1.
func split(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// Inclusion returns the path from the leaf at index to the root of the first
// size leaves, lowest sibling first (RFC 9162 section 2.1.3.1).
func (t *Tree) Inclusion(index, size uint64) ([]gm.Digest, error) {
	if size > t.Size() || index >= size {
		return nil, fmt.Errorf("inclusion of %d in %d, tree of %d: %w", index, size, t.Size(), ErrRange)
	}
	return t.path(index, 0, size), nil
}

func (t *Tree) path(index, start, end uint64) []gm.Digest {
	if end-start == 1 {
		return nil
	}
	mid := start + split(end-start)
	if index < mid {
		return append(t.path(index, start, mid), t.hash(mid, end))
	}
	return append(t.path(index, mid, end), t.hash(start, mid))
}

// Consistency returns the proof that the tree of the first old leaves is a
// prefix of the tree of the first size leaves (RFC 9162 section 2.1.4.1). It is
// empty when old is zero or equals size.
func (t *Tree) Consistency(old, size uint64) ([]gm.Digest, error) {
	if size > t.Size() || old > size {
		return nil, fmt.Errorf("consistency of %d and %d, tree of %d: %w", old, size, t.Size(), ErrRange)
	}
	if old == 0 || old == size {
		return nil, nil
	}
	return t.subproof(old, 0, size, true), nil
}

// subproof is SUBPROOF of the RFC over leaves start to end; whole says that the
// old tree's hash of this range is its root, which the verifier has.
func (t *Tree) subproof(old, start, end uint64, whole bool) []gm.Digest {
	if old == end {
		if whole {
			return nil
		}
		return []gm.Digest{t.hash(start, end)}
	}
	mid := start + split(end-start)
	if old <= mid {
		return append(t.subproof(old, start, mid, whole), t.hash(mid, end))
	}
	return append(t.subproof(old, mid, end, false), t.hash(start, mid))
}

// VerifyInclusion checks that leaf stands at index in the tree of size leaves
// with root (RFC 9162 section 2.1.3.2). Any failure is ErrProof.
func VerifyInclusion(e gm.Engine, leaf gm.Digest, index, size uint64, path []gm.Digest, root gm.Digest) error {
	if index >= size {
		return fmt.Errorf("index %d in a tree of %d: %w", index, size, ErrProof)
	}
	fn, sn, r := index, size-1, leaf
	for _, p := range path {
		if sn == 0 {
			return fmt.Errorf("a path of %d hashes is too long: %w", len(path), ErrProof)
		}
		if fn&1 == 1 || fn == sn {
			r = NodeHash(e, p, r)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			r = NodeHash(e, r, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 {
		return fmt.Errorf("a path of %d hashes is too short: %w", len(path), ErrProof)
	}
	if r != root {
		return fmt.Errorf("the path leads to another root: %w", ErrProof)
	}
	return nil
}

// VerifyConsistency checks that the tree of old leaves with oldRoot is a prefix
// of the tree of size leaves with newRoot (RFC 9162 section 2.1.4.2). The empty
// tree is a prefix of every tree; its root must still be SM3 of nothing. Any
// failure is ErrProof.
func VerifyConsistency(e gm.Engine, old, size uint64, proof []gm.Digest, oldRoot, newRoot gm.Digest) error {
	switch {
	case old > size:
		return fmt.Errorf("a tree of %d shrank to %d: %w", old, size, ErrProof)
	case old == size && (oldRoot != newRoot || len(proof) != 0):
		return fmt.Errorf("two roots of a tree of %d: %w", size, ErrProof)
	case old == 0 && (oldRoot != e.Sum() || len(proof) != 0):
		return fmt.Errorf("not the empty tree's root: %w", ErrProof)
	case old == 0 || old == size:
		return nil
	case len(proof) == 0:
		return fmt.Errorf("an empty proof: %w", ErrProof)
	}
	if old&(old-1) == 0 {
		proof = append([]gm.Digest{oldRoot}, proof...)
	}
	fn, sn := old-1, size-1
	for fn&1 == 1 {
		fn, sn = fn>>1, sn>>1
	}
	fr, sr := proof[0], proof[0]
	for _, c := range proof[1:] {
		if sn == 0 {
			return fmt.Errorf("the proof is too long: %w", ErrProof)
		}
		if fn&1 == 1 || fn == sn {
			fr, sr = NodeHash(e, c, fr), NodeHash(e, c, sr)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			sr = NodeHash(e, sr, c)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 {
		return fmt.Errorf("the proof is too short: %w", ErrProof)
	}
	if fr != oldRoot || sr != newRoot {
		return fmt.Errorf("the proof leads to other roots: %w", ErrProof)
	}
	return nil
}
