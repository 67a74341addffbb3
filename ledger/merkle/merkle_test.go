package merkle

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"xinqiao/crypto/gm"
)

func leaves(e gm.Engine, n int) []gm.Digest {
	out := make([]gm.Digest, n)
	for i := range out {
		out[i] = LeafHash(e, binary.BigEndian.AppendUint64(nil, uint64(i)))
	}
	return out
}

func grown(e gm.Engine, leaves []gm.Digest) *Tree {
	t := New(e)
	for _, l := range leaves {
		t.Append(l)
	}
	return t
}

func TestRootAgreesWithTheDefinition(t *testing.T) {
	t.Parallel()
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		all := leaves(e, 130)
		tree := New(e)
		for i := 0; ; i++ {
			if got, want := tree.Root(), Root(e, all[:i]); got != want {
				t.Fatalf("%s: root of %d leaves: %x, want %x", e.Name(), i, got, want)
			}
			if i == len(all) {
				break
			}
			tree.Append(all[i])
		}
		for i := range all {
			if got, err := tree.RootAt(uint64(i)); err != nil || got != Root(e, all[:i]) {
				t.Fatalf("%s: RootAt(%d) = %x, %v", e.Name(), i, got, err)
			}
		}
	}
}

// The empty root is a published value: SM3 of the empty string.
func TestEmptyRoot(t *testing.T) {
	t.Parallel()
	want := "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b"
	got := New(gm.Emmansun()).Root()
	if hex.EncodeToString(got[:]) != want {
		t.Errorf("root of the empty tree is %x, want %s", got, want)
	}
}

func TestEveryProofOfSmallTrees(t *testing.T) {
	t.Parallel()
	e := gm.Emmansun()
	const n = 40
	all := leaves(e, n)
	tree := grown(e, all)
	for size := uint64(0); size <= n; size++ {
		root := Root(e, all[:size])
		for i := range size {
			path, err := tree.Inclusion(i, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyInclusion(e, all[i], i, size, path, root); err != nil {
				t.Errorf("inclusion of %d in %d: %v", i, size, err)
			}
		}
		for old := range size + 1 {
			proof, err := tree.Consistency(old, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyConsistency(e, old, size, proof, Root(e, all[:old]), root); err != nil {
				t.Errorf("consistency of %d and %d: %v", old, size, err)
			}
		}
	}
}

// mutate changes a proof in one way: a flipped bit, a dropped, doubled or
// swapped hash, one more at the end.
func mutate(rt *rapid.T, proof []gm.Digest) []gm.Digest {
	out := slices.Clone(proof)
	if len(out) == 0 {
		return append(out, gm.Digest{1})
	}
	i := rapid.IntRange(0, len(out)-1).Draw(rt, "at")
	switch rapid.IntRange(0, 3).Draw(rt, "how") {
	case 0:
		bit := rapid.IntRange(0, 255).Draw(rt, "bit")
		out[i][bit/8] ^= 1 << (bit % 8)
	case 1:
		out = slices.Delete(out, i, i+1)
	case 2:
		out = slices.Insert(out, i, out[i])
	case 3:
		out = append(out, out[i])
	}
	return out
}

func TestMutatedInclusionIsRefused(t *testing.T) {
	t.Parallel()
	e := gm.Emmansun()
	all := leaves(e, 600)
	tree := grown(e, all)
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Uint64Range(1, 600).Draw(rt, "size")
		i := rapid.Uint64Range(0, size-1).Draw(rt, "index")
		root := Root(e, all[:size])
		path, err := tree.Inclusion(i, size)
		if err != nil {
			rt.Fatal(err)
		}
		if err := VerifyInclusion(e, all[i], i, size, path, root); err != nil {
			rt.Fatalf("a good proof is refused: %v", err)
		}
		bad := mutate(rt, path)
		if err := VerifyInclusion(e, all[i], i, size, bad, root); !errors.Is(err, ErrProof) {
			rt.Fatalf("a mutated proof passes: %v", err)
		}
		if size > 1 {
			j := (i + 1) % size
			if err := VerifyInclusion(e, all[i], j, size, path, root); !errors.Is(err, ErrProof) {
				rt.Fatalf("leaf %d passes as %d of %d: %v", i, j, size, err)
			}
		}
		if err := VerifyInclusion(e, all[i], size+i, size, path, root); !errors.Is(err, ErrProof) {
			rt.Fatalf("an index beyond the tree passes: %v", err)
		}
	})
}

func TestMutatedConsistencyIsRefused(t *testing.T) {
	t.Parallel()
	e := gm.Emmansun()
	all := leaves(e, 600)
	tree := grown(e, all)
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Uint64Range(1, 600).Draw(rt, "size")
		old := rapid.Uint64Range(0, size).Draw(rt, "old")
		oldRoot, root := Root(e, all[:old]), Root(e, all[:size])
		proof, err := tree.Consistency(old, size)
		if err != nil {
			rt.Fatal(err)
		}
		if err := VerifyConsistency(e, old, size, proof, oldRoot, root); err != nil {
			rt.Fatalf("a good proof is refused: %v", err)
		}
		if err := VerifyConsistency(e, old, size, mutate(rt, proof), oldRoot, root); !errors.Is(err, ErrProof) {
			rt.Fatalf("a mutated proof passes: %v", err)
		}
		other := oldRoot
		other[0] ^= 1
		if err := VerifyConsistency(e, old, size, proof, other, root); !errors.Is(err, ErrProof) {
			rt.Fatalf("another old root passes: %v", err)
		}
		if old != size {
			if err := VerifyConsistency(e, size, old, proof, root, oldRoot); !errors.Is(err, ErrProof) {
				rt.Fatalf("a shrinking tree passes: %v", err)
			}
		}
	})
}

// A rewritten history must not be provable as a continuation.
func TestForkIsNotConsistent(t *testing.T) {
	t.Parallel()
	e := gm.Emmansun()
	all := leaves(e, 20)
	forked := slices.Clone(all)
	forked[7][3] ^= 1
	fork := grown(e, forked)
	for old := uint64(8); old < 20; old++ {
		proof, err := fork.Consistency(old, 20)
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyConsistency(e, old, 20, proof, Root(e, all[:old]), fork.Root()); !errors.Is(err, ErrProof) {
			t.Errorf("a fork before %d passes as its continuation: %v", old, err)
		}
	}
}

func TestRangesAreChecked(t *testing.T) {
	t.Parallel()
	tree := grown(gm.Emmansun(), leaves(gm.Emmansun(), 5))
	_, leaf := tree.Leaf(5)
	_, root := tree.RootAt(6)
	_, inc := tree.Inclusion(5, 5)
	_, big := tree.Inclusion(0, 6)
	_, con := tree.Consistency(4, 6)
	_, back := tree.Consistency(5, 4)
	for _, err := range []error{leaf, root, inc, big, con, back} {
		if !errors.Is(err, ErrRange) {
			t.Errorf("got %v, want ErrRange", err)
		}
	}
}

// FuzzVerifyInclusion feeds arbitrary proofs: none may panic, and none but the
// honest one may lead to the root.
func FuzzVerifyInclusion(f *testing.F) {
	e := gm.Emmansun()
	all := leaves(e, 33)
	tree := grown(e, all)
	good, err := tree.Inclusion(20, 33)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(20), uint64(33), flat(good))
	f.Add(^uint64(0), ^uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, index, size uint64, raw []byte) {
		path := unflat(raw)
		err := VerifyInclusion(e, all[20], index, size, path, tree.Root())
		if err == nil && (index != 20 || !slices.Equal(path, good)) {
			// Another size may share a path's shape; another index or path may not.
			t.Errorf("index %d, size %d: a forged path passes", index, size)
		}
	})
}

// FuzzVerifyConsistency does the same for consistency proofs.
func FuzzVerifyConsistency(f *testing.F) {
	e := gm.Emmansun()
	tree := grown(e, leaves(e, 33))
	oldRoot, err := tree.RootAt(21)
	if err != nil {
		f.Fatal(err)
	}
	good, err := tree.Consistency(21, 33)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(21), uint64(33), flat(good))
	f.Add(uint64(0), ^uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, old, size uint64, raw []byte) {
		proof := unflat(raw)
		err := VerifyConsistency(e, old, size, proof, oldRoot, tree.Root())
		if err == nil && !slices.Equal(proof, good) {
			t.Errorf("%d to %d: a forged proof passes", old, size)
		}
	})
}

func flat(p []gm.Digest) []byte {
	var b []byte
	for _, d := range p {
		b = append(b, d[:]...)
	}
	return b
}

func unflat(b []byte) []gm.Digest {
	var p []gm.Digest
	for ; len(b) >= gm.HashSize; b = b[gm.HashSize:] {
		p = append(p, gm.Digest(b))
	}
	return p
}
