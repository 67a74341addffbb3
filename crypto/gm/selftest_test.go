package gm

import (
	"crypto/cipher"
	"errors"
	"testing"
)

func engines() []Engine { return []Engine{Emmansun(), Tjfoc()} }

func eachEngine(t *testing.T, f func(t *testing.T, e Engine)) {
	t.Helper()
	for _, e := range engines() {
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			f(t, e)
		})
	}
}

func TestSelfTest(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e Engine) {
		if err := SelfTest(e); err != nil {
			t.Fatal(err)
		}
	})
}

// Engines that are each wrong in one place.
type (
	wrongHash    struct{ Engine }
	wrongBlock   struct{ Engine }
	wrongAEAD    struct{ Engine }
	acceptsAll   struct{ Engine }
	rejectsCarry struct{ Engine }
	wrongPlain   struct{ Engine }
)

func (w wrongHash) Sum(parts ...[]byte) Digest { d := w.Engine.Sum(parts...); d[31] ^= 1; return d }

func (w wrongBlock) newBlock(key []byte) (cipher.Block, error) {
	other := append([]byte(nil), key...)
	other[0] ^= 1
	return w.Engine.(blockMaker).newBlock(other)
}

func (w wrongAEAD) NewAEAD(key []byte) (cipher.AEAD, error) {
	other := append([]byte(nil), key...)
	other[15] ^= 1
	return w.Engine.NewAEAD(other)
}

func (acceptsAll) Verify(PublicKey, []byte, Signature) bool { return true }

func (rejectsCarry) verifyDigest(PublicKey, Digest, Signature) bool { return false }

func (w wrongPlain) Decrypt(key *PrivateKey, c []byte) ([]byte, error) {
	b, err := w.Engine.Decrypt(key, c)
	if err == nil {
		b[0] ^= 1
	}
	return b, err
}

func TestSelfTestCatchesABrokenEngine(t *testing.T) {
	t.Parallel()
	e := Emmansun()
	for _, broken := range []Engine{wrongHash{e}, wrongBlock{e}, wrongAEAD{e}, acceptsAll{e}, rejectsCarry{e}, wrongPlain{e}} {
		if err := SelfTest(broken); !errors.Is(err, ErrSelfTest) {
			t.Errorf("%T passes: %v", broken, err)
		}
	}
}
