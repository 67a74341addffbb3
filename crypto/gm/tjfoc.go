package gm

import (
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"hash"
	"math/big"

	tsm2 "github.com/tjfoc/gmsm/sm2"
	tsm3 "github.com/tjfoc/gmsm/sm3"
	tsm4 "github.com/tjfoc/gmsm/sm4"
)

type tjfoc struct{}

// Tjfoc returns the engine over github.com/tjfoc/gmsm v1.4.1, behind the wraps
// that DESIGN.md lists.
func Tjfoc() Engine { return tjfoc{} }

func (tjfoc) Name() string { return "tjfoc" }

// tjfocHash repairs Sum: the library hashes a non-empty prefix into the state.
type tjfocHash struct{ *tsm3.SM3 }

func (h tjfocHash) Sum(b []byte) []byte {
	state := *h.SM3
	return append(b, state.Sum(nil)...)
}

func (tjfoc) NewHash() hash.Hash { return tjfocHash{tsm3.New().(*tsm3.SM3)} }

func (e tjfoc) Sum(parts ...[]byte) Digest {
	h := tsm3.New()
	for _, p := range parts {
		h.Write(p)
	}
	return Digest(h.Sum(nil))
}

func (tjfoc) Sign(key *PrivateKey, msg []byte) (Signature, error) {
	r, s, err := tsm2.Sm2Sign(key.tjfoc(), msg, []byte(DefaultUID), rand.Reader)
	if err != nil {
		return Signature{}, fmt.Errorf("sm2 sign: %w", err)
	}
	var sig Signature
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig, nil
}

func (e tjfoc) Verify(key PublicKey, msg []byte, sig Signature) bool {
	if key.IsZero() {
		return false
	}
	pub := key.Tjfoc()
	za, err := tsm2.ZA(pub, []byte(DefaultUID))
	if err != nil {
		return false
	}
	return verifyTjfoc(pub, e.Sum(za, msg), sig)
}

func (tjfoc) verifyDigest(key PublicKey, digest Digest, sig Signature) bool {
	return !key.IsZero() && verifyTjfoc(key.Tjfoc(), digest, sig)
}

// verifyTjfoc adds the one check the library lacks: its point addition returns
// infinity for P+P, so it accepts a signature with r ≡ e that every other
// verifier rejects.
func verifyTjfoc(pub *tsm2.PublicKey, digest Digest, sig Signature) bool {
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	e := new(big.Int).SetBytes(digest[:])
	if new(big.Int).Mod(new(big.Int).Sub(r, e), pub.Params().N).Sign() == 0 {
		return false
	}
	return tsm2.Verify(pub, digest[:], r, s)
}

func (tjfoc) Encrypt(key PublicKey, msg []byte) ([]byte, error) {
	if err := checkPlaintext(key, msg); err != nil {
		return nil, err
	}
	return tsm2.EncryptAsn1(key.Tjfoc(), msg, rand.Reader)
}

func (tjfoc) Decrypt(key *PrivateKey, ciphertext []byte) (msg []byte, err error) {
	if !strictCiphertext(ciphertext) {
		return nil, ErrDecrypt
	}
	defer func() {
		if recover() != nil {
			msg, err = nil, ErrDecrypt
		}
	}()
	msg, err = tsm2.DecryptAsn1(key.tjfoc(), ciphertext)
	if err != nil {
		return nil, ErrDecrypt // the library returns wrong plaintext beside its error
	}
	return msg, nil
}

// tjfocAEAD makes a new block for every operation: the library's block holds
// scratch buffers, and one shared by two goroutines corrupts silently.
type tjfocAEAD struct{ key [SM4KeySize]byte }

func (tjfoc) newBlock(key []byte) (cipher.Block, error) { return tsm4.NewCipher(key) }

func (tjfoc) NewAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != SM4KeySize {
		return nil, fmt.Errorf("sm4: key of %d bytes: want %d", len(key), SM4KeySize)
	}
	return &tjfocAEAD{key: [SM4KeySize]byte(key)}, nil
}

func (a *tjfocAEAD) fresh() cipher.AEAD {
	block, err := tsm4.NewCipher(a.key[:])
	if err != nil {
		panic(err) // only for a wrong key size, which NewAEAD refused
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

func (a *tjfocAEAD) NonceSize() int { return NonceSize }
func (a *tjfocAEAD) Overhead() int  { return TagSize }

func (a *tjfocAEAD) Seal(dst, nonce, plaintext, aad []byte) []byte {
	return a.fresh().Seal(dst, nonce, plaintext, aad)
}

func (a *tjfocAEAD) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	return a.fresh().Open(dst, nonce, ciphertext, aad)
}
