package envelope

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"xinqiao/crypto/gm"
)

// TestTenThousandChanges: of 10,000 random changes of one byte, none is accepted.
// The seed is fixed, so that a failure comes again.
func TestTenThousandChanges(t *testing.T) {
	t.Parallel()
	a, b := newHolder(t, gm.Emmansun()), newHolder(t, gm.Emmansun())
	short, long := text(1000), text(chunkSize+500)
	envelopes := [][]byte{seal(t, []byte("case 7"), short, a, b), seal(t, []byte("case 7"), long, a, b)}
	for i, want := range [][]byte{short, long} {
		if got, err := a.open([]byte("case 7"), envelopes[i]); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("unchanged: %v", err)
		}
	}
	r := rand.New(rand.NewPCG(20261101, 1))
	for i := range 10_000 {
		sealed := envelopes[0]
		if i%10 == 0 {
			sealed = envelopes[1]
		}
		at, by := r.IntN(len(sealed)), byte(1+r.IntN(255))
		bad := bytes.Clone(sealed)
		bad[at] ^= by
		got, err := a.open([]byte("case 7"), bad)
		if got != nil || !errors.Is(err, ErrOpen) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrNotRecipient) {
			t.Fatalf("change %d: byte %d of %d xor %#x: %d bytes, %v", i, at, len(sealed), by, len(got), err)
		}
	}
}

// FuzzOpen: of all bytes there are, only the stored envelope opens, because
// nobody here seals another for that context.
func FuzzOpen(f *testing.F) {
	golden := sealedOnce(f)
	h := oldHolder(f, gm.Emmansun(), 1)
	f.Add(golden)
	f.Fuzz(func(t *testing.T, b []byte) {
		h := h
		h.t = t
		if _, err := h.open([]byte(sealedContext), b); err == nil && !bytes.Equal(b, golden) {
			t.Error("opens")
		}
	})
}

// FuzzStream seals content in pieces of any length, and then changes a byte or
// cuts: the first gives Seal's bytes, the second does not open.
func FuzzStream(f *testing.F) {
	h := oldHolder(f, gm.Emmansun(), 1)
	s, err := NewSealer(gm.Emmansun(), sameSalt{}, h.Recipient)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("content"), uint(3), uint(1), uint(20), byte(1))
	f.Fuzz(func(t *testing.T, content []byte, times, piece, at uint, by byte) {
		h := h
		h.t = t
		content = bytes.Repeat(content, min(int(times%4096), 3*chunkSize/max(1, len(content))))
		sealed, err := s.Seal(nil, content)
		if err != nil {
			t.Fatal(err)
		}
		var stream bytes.Buffer
		if err := sealStream(s, &stream, nil, content, 1+int(piece%(2*chunkSize))); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stream.Bytes(), sealed) {
			t.Error("Writer and Seal write different bytes")
		}
		if got, err := h.open(nil, sealed); err != nil || !bytes.Equal(got, content) {
			t.Errorf("does not open: %v", err)
		}
		n := int(at % uint(len(sealed)))
		if by == 0 {
			sealed = sealed[:n]
		} else {
			sealed[n] ^= by
		}
		if got, err := h.open(nil, sealed); err == nil || got != nil {
			t.Errorf("opens, with byte %d changed by %d", n, by)
		}
	})
}
