package gm

import (
	"crypto/cipher"
	"fmt"
	"testing"
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

// BenchmarkDerive is what a message's own keys cost, as an envelope derives them.
func BenchmarkDerive(b *testing.B) {
	secret, salt, info := make([]byte, 32), make([]byte, 32), string(make([]byte, 84))
	for _, e := range engines() {
		b.Run(e.Name()+"/hmac", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				HMAC(e, secret, salt)
			}
		})
		b.Run(e.Name()+"/derive", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Derive(e, secret, salt, info, HashSize+SM4KeySize)
			}
		})
	}
}
