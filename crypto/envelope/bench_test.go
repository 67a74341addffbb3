package envelope

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"testing"

	"xinqiao/crypto/gm"
)

// BenchmarkEnvelope sets an envelope against what it cannot do without. "bare"
// is one SM4-GCM call under a ready key; "sealer" adds the message's own key,
// "seal" the wrapping of a content key for one recipient, "open" its unwrapping.
// The stream is of 16 MiB, which the in-memory form also takes.
func BenchmarkEnvelope(b *testing.B) {
	e := gm.Emmansun()
	to := newHolder(b, e)
	s, err := NewSealer(e, rand.Reader, to.Recipient)
	if err != nil {
		b.Fatal(err)
	}
	aead, err := e.NewAEAD(make([]byte, gm.SM4KeySize))
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, size int, op func() error) {
		b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := op(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, n := range []int{1 << 10, 10 << 10, 1 << 20, 16 << 20} {
		plaintext, out := text(n), make([]byte, 0, n+gm.TagSize)
		nonce := make([]byte, gm.NonceSize)
		sealed, err := s.Seal(nil, plaintext)
		if err != nil {
			b.Fatal(err)
		}
		run("bare", n, func() error { aead.Seal(out, nonce, plaintext, nil); return nil })
		run("sealer", n, func() error { _, err := s.Seal(nil, plaintext); return err })
		run("seal", n, func() error { _, err := Seal(e, rand.Reader, nil, plaintext, to.Recipient); return err })
		run("open", n, func() error { _, err := Open(e, to.ID, to, nil, sealed); return err })
		if n < 16<<20 {
			continue
		}
		run("writer", n, func() error { return sealStream(s, io.Discard, nil, plaintext, 32<<10) })
		run("reader", n, func() error {
			r, err := NewReader(e, to.ID, to, nil, bytes.NewReader(sealed))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			return err
		})
	}
}
