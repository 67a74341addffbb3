package gm

import (
	"crypto/cipher"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	esm2 "github.com/emmansun/gmsm/sm2"
	esm4 "github.com/emmansun/gmsm/sm4"
)

// BenchmarkOverEmmansun sets the hot-path engine against the same library called
// directly, as a program would that uses nothing else. The two take turns within
// one run, so that the ratio of their medians stands for itself on a busy machine too.
func BenchmarkOverEmmansun(b *testing.B) {
	key, msg, e := newKey(b), make([]byte, 200), Emmansun()
	public, err := esm2.NewPublicKey(key.Public().Bytes())
	if err != nil {
		b.Fatal(err)
	}
	sig, err := e.Sign(key, msg)
	if err != nil {
		b.Fatal(err)
	}
	der := sig.ASN1()
	b.Run("sign", func(b *testing.B) {
		compare(b, 40, func() bool {
			_, err := key.key.Sign(rand.Reader, msg, esm2.DefaultSM2SignerOpts)
			return err == nil
		}, func() bool {
			_, err := e.Sign(key, msg)
			return err == nil
		})
	})
	b.Run("verify", func(b *testing.B) {
		compare(b, 20, func() bool { return esm2.VerifyASN1WithSM2(public, nil, msg, der) },
			func() bool { return e.Verify(key.Public(), msg, sig) })
	})
	wrapped, err := e.Encrypt(key.Public(), msg[:32])
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encrypt", func(b *testing.B) {
		compare(b, 20, func() bool {
			_, err := esm2.EncryptASN1(rand.Reader, public, msg[:32])
			return err == nil
		}, func() bool {
			_, err := e.Encrypt(key.Public(), msg[:32])
			return err == nil
		})
	})
	b.Run("decrypt", func(b *testing.B) {
		compare(b, 20, func() bool {
			_, err := key.key.Decrypt(nil, wrapped, esm2.ASN1DecrypterOpts)
			return err == nil
		}, func() bool {
			_, err := e.Decrypt(key, wrapped)
			return err == nil
		})
	})
	benchSealing(b, e)
}

// benchSealing compares one message of 1 KiB under a key of its own, and a large
// one under a ready key.
func benchSealing(b *testing.B, e Engine) {
	key, nonce := make([]byte, SM4KeySize), make([]byte, NonceSize)
	direct := func() cipher.AEAD {
		block, err := esm4.NewCipher(key)
		if err != nil {
			b.Fatal(err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			b.Fatal(err)
		}
		return aead
	}
	engine := func() cipher.AEAD {
		aead, err := e.NewAEAD(key)
		if err != nil {
			b.Fatal(err)
		}
		return aead
	}
	small, large := make([]byte, 1<<10), make([]byte, 1<<20)
	out := make([]byte, 0, len(large)+TagSize)
	sealed := direct().Seal(nil, nonce, large, nil)
	b.Run("key and seal 1 KiB", func(b *testing.B) {
		compare(b, 100, func() bool { return len(direct().Seal(out, nonce, small, nil)) > 0 },
			func() bool { return len(engine().Seal(out, nonce, small, nil)) > 0 })
	})
	a, c := direct(), engine()
	b.Run("seal 1 MiB", func(b *testing.B) {
		compare(b, 1, func() bool { return len(a.Seal(out, nonce, large, nil)) > 0 },
			func() bool { return len(c.Seal(out, nonce, large, nil)) > 0 })
	})
	b.Run("open 1 MiB", func(b *testing.B) {
		open := func(aead cipher.AEAD) bool { _, err := aead.Open(out, nonce, sealed, nil); return err == nil }
		compare(b, 1, func() bool { return open(a) }, func() bool { return open(c) })
	})
	foc, err := Tjfoc().NewAEAD(key)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("tjfoc, seal 1 MiB", func(b *testing.B) {
		compare(b, 1, func() bool { return len(c.Seal(out, nonce, large, nil)) > 0 },
			func() bool { return len(foc.Seal(out, nonce, large, nil)) > 0 })
	})
}

// compare runs direct and engine in turns of n and reports the median of each and
// their ratio.
func compare(b *testing.B, n int, direct, engine func() bool) {
	var took [2][]float64
	for b.Loop() {
		for i, op := range []func() bool{direct, engine} {
			start := time.Now()
			for range n {
				if !op() {
					b.Fatal("failed")
				}
			}
			took[i] = append(took[i], float64(time.Since(start).Nanoseconds())/float64(n))
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	d, e := took[0][len(took[0])/2], took[1][len(took[1])/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(d, "direct-ns")
	b.ReportMetric(e, "engine-ns")
	b.ReportMetric(e/d, "ratio")
}
