package gm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"testing"

	esm2 "github.com/emmansun/gmsm/sm2"
	tsm2 "github.com/tjfoc/gmsm/sm2"
)

// The vectors here take too long for SelfTest, or force a nonce, which no engine
// lets a caller do; the others are in selftest.go and run with each engine.

// TestSM4MillionRounds: GM/T 0002-2012, annex A, example 2.
func TestSM4MillionRounds(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e Engine) {
		key := unhex("0123456789abcdef fedcba9876543210")
		block, err := e.(blockMaker).newBlock(key)
		if err != nil {
			t.Fatal(err)
		}
		got := bytes.Clone(key)
		for range 1_000_000 {
			block.Encrypt(got, got)
		}
		if want := unhex("595298c7c6fd271f 0402f804c33d3f66"); !bytes.Equal(got, want) {
			t.Errorf("%x", got)
		}
		for range 1_000_000 {
			block.Decrypt(got, got)
		}
		if !bytes.Equal(got, key) {
			t.Errorf("back: %x", got)
		}
	})
}

// fixed yields the same bytes once, and then an error: a nonce is read once.
type fixed []byte

func (f *fixed) Read(b []byte) (int, error) {
	if len(*f) < len(b) {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(b, *f)
	*f = (*f)[n:]
	return n, nil
}

// nonce is k of GM/T 0003.5-2012, annexes A and C.
func nonce() *big.Int {
	return new(big.Int).SetBytes(unhex("59276e27d506861a 16680f3ad9c02dcc ef3cc1fa3cdbe4ce 6d54b80deac1bc21"))
}

// tjfocNonce makes tjfoc choose nonce: it takes 40 bytes modulo n−1 and adds one.
func tjfocNonce() *fixed {
	f := fixed(new(big.Int).Sub(nonce(), big.NewInt(1)).FillBytes(make([]byte, 40)))
	return &f
}

// TestForcedNonceSignature: GM/T 0003.5-2012, annex A, the signing half. emmansun
// mixes the key and the message into every nonce and so cannot be forced.
func TestForcedNonceSignature(t *testing.T) {
	t.Parallel()
	key, err := NewPrivateKey(unhex(vectorKey))
	if err != nil {
		t.Fatal(err)
	}
	r, s, err := tsm2.Sm2Sign(key.tjfoc(), []byte("message digest"), []byte(DefaultUID), tjfocNonce())
	if err != nil {
		t.Fatal(err)
	}
	want := unhex("f5a03b0648d2c463 0eeac513e1bb81a1 5944da3827d5b741 43ac7eaceee720b3" +
		"b1b6aa29df212fd8 763182bc0d421ca1 bb9038fd1f7f42d4 840b69c485bbc1aa")
	if got := fmt.Sprintf("%064x%064x", r, s); got != hex.EncodeToString(want) {
		t.Errorf("signature %s", got)
	}
	if v := VerifyBoth(Emmansun(), Tjfoc(), key.Public(), []byte("message digest"), Signature(want)); v != AgreeValid {
		t.Errorf("verdict %v", v)
	}
}

// TestForcedNonceEncryption: GM/T 0003.5-2012, annex C, the encrypting half, with
// both libraries.
func TestForcedNonceEncryption(t *testing.T) {
	t.Parallel()
	key, err := NewPrivateKey(unhex(vectorKey))
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("encryption standard")
	theirs, err := tsm2.EncryptAsn1(key.Public().Tjfoc(), message, tjfocNonce())
	if err != nil {
		t.Fatal(err)
	}
	k := fixed(nonce().FillBytes(make([]byte, 32)))
	ours, err := esm2.EncryptASN1(&k, key.Public().emmansun(), message)
	if err != nil {
		t.Fatal(err)
	}
	want := vectorCiphertext()
	if !bytes.Equal(theirs, want) || !bytes.Equal(ours, want) {
		t.Errorf("tjfoc  %x\nemmansun %x\nwant   %x", theirs, ours, want)
	}
}

// TestVectorHasNoSlack: the ciphertext of the standard with any byte changed is
// refused by both engines.
func TestVectorHasNoSlack(t *testing.T) {
	t.Parallel()
	key, err := NewPrivateKey(unhex(vectorKey))
	if err != nil {
		t.Fatal(err)
	}
	sealed := vectorCiphertext()
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1 << (i % 8)
		for _, e := range engines() {
			if got, err := e.Decrypt(key, bad); err == nil || got != nil {
				t.Errorf("%s: byte %d: %q", e.Name(), i, got)
			}
		}
	}
}
