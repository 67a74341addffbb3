package gm

import (
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"testing"

	esm2 "github.com/emmansun/gmsm/sm2"
	esm4 "github.com/emmansun/gmsm/sm4"
)

func BenchmarkEngine(b *testing.B) {
	key := newKey(b)
	msg := make([]byte, 200)
	for _, e := range engines() {
		sig, err := e.Sign(key, msg)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(e.Name()+"/sign", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Sign(key, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(e.Name()+"/verify", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !e.Verify(key.Public(), msg, sig) {
					b.Fatal("rejected")
				}
			}
		})
		for _, size := range []int{64, 1 << 10, 64 << 10, 1 << 20} {
			data := make([]byte, size)
			b.Run(fmt.Sprintf("%s/sm3/%d", e.Name(), size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					e.Sum(data)
				}
			})
			aead, err := e.NewAEAD(make([]byte, SM4KeySize))
			if err != nil {
				b.Fatal(err)
			}
			benchmarkAEAD(b, e.Name(), aead, data)
		}
	}
}

func benchmarkAEAD(b *testing.B, name string, aead cipher.AEAD, data []byte) {
	nonce, out := make([]byte, NonceSize), make([]byte, 0, len(data)+TagSize)
	b.Run(fmt.Sprintf("%s/seal/%d", name, len(data)), func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			aead.Seal(out, nonce, data, nil)
		}
	})
	sealed := aead.Seal(nil, nonce, data, nil)
	b.Run(fmt.Sprintf("%s/open/%d", name, len(data)), func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := aead.Open(out, nonce, sealed, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkDirect is emmansun's library as a program would call it without this
// package: what the wrap costs is the difference to BenchmarkEngine/emmansun.
func BenchmarkDirect(b *testing.B) {
	key, msg := newKey(b), make([]byte, 200)
	pub := key.Public().emmansun()
	sig, err := key.key.SignWithSM2(rand.Reader, []byte(DefaultUID), msg)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("sign", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := key.key.SignWithSM2(rand.Reader, []byte(DefaultUID), msg); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !esm2.VerifyASN1WithSM2(pub, []byte(DefaultUID), msg, sig) {
				b.Fatal("rejected")
			}
		}
	})
	for _, size := range []int{1 << 10, 1 << 20} {
		block, err := esm4.NewCipher(make([]byte, SM4KeySize))
		if err != nil {
			b.Fatal(err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			b.Fatal(err)
		}
		benchmarkAEAD(b, "emmansun", aead, make([]byte, size))
	}
}
