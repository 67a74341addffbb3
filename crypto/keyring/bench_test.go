package keyring

import (
	"testing"

	"xinqiao/crypto/gm"
)

// BenchmarkDevice compares the software store with an agent in front of it: the
// price of keeping keys out of a node's memory.
func BenchmarkDevice(b *testing.B) {
	soft, err := Generate(gm.Emmansun())
	if err != nil {
		b.Fatal(err)
	}
	path := socketPath(b)
	serveAgent(b, soft, quiet(), path)
	sealed, err := gm.Emmansun().Encrypt(soft.EncPublic(), make([]byte, gm.SM4KeySize))
	if err != nil {
		b.Fatal(err)
	}
	for name, k := range map[string]*Keyring{"software": soft, "agent": dialed(b, path)} {
		for use, do := range map[string]func() error{
			"sign":   func() error { _, err := k.Sign("xinqiao/frame/v1", make([]byte, 300)); return err },
			"unwrap": func() error { _, err := k.Unwrap(sealed); return err },
			"tag":    func() error { _, err := k.Tag("2026-11", "x"); return err },
		} {
			b.Run(use+"/"+name, func(b *testing.B) {
				for b.Loop() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
