package gm

import (
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"
	"hash"
	"math/big"

	esm2 "github.com/emmansun/gmsm/sm2"
	esm3 "github.com/emmansun/gmsm/sm3"
	esm4 "github.com/emmansun/gmsm/sm4"
)

type emmansun struct{}

// Emmansun returns the engine over github.com/emmansun/gmsm: constant time,
// hedged nonces, point checks.
func Emmansun() Engine { return emmansun{} }

func (emmansun) Name() string { return "emmansun" }

func (emmansun) NewHash() hash.Hash { return esm3.New() }

func (emmansun) Sum(parts ...[]byte) Digest {
	if len(parts) == 1 {
		return esm3.Sum(parts[0])
	}
	h := esm3.New()
	for _, p := range parts {
		h.Write(p)
	}
	var d Digest
	h.Sum(d[:0])
	return d
}

func (emmansun) Sign(key *PrivateKey, msg []byte) (Signature, error) {
	// Hashed here, because the library refuses to hash an empty message.
	digest, err := esm2.CalculateSM2Hash(&key.key.PublicKey, msg, []byte(DefaultUID))
	if err != nil {
		return Signature{}, fmt.Errorf("sm2 sign: %w", err)
	}
	der, err := key.key.Sign(rand.Reader, digest, nil)
	if err != nil {
		return Signature{}, fmt.Errorf("sm2 sign: %w", err)
	}
	return ParseSignature(der)
}

func (emmansun) Verify(key PublicKey, msg []byte, sig Signature) bool {
	if key.IsZero() {
		return false
	}
	pub := key.emmansun()
	digest, err := esm2.CalculateSM2Hash(pub, msg, []byte(DefaultUID))
	if err != nil {
		return false
	}
	return verifyEmmansun(pub, digest, sig)
}

func (emmansun) verifyDigest(key PublicKey, digest Digest, sig Signature) bool {
	return !key.IsZero() && verifyEmmansun(key.emmansun(), digest[:], sig)
}

func verifyEmmansun(pub *ecdsa.PublicKey, digest []byte, sig Signature) bool {
	return esm2.Verify(pub, digest, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}

func (emmansun) Encrypt(key PublicKey, msg []byte) ([]byte, error) {
	if err := checkPlaintext(key, msg); err != nil {
		return nil, err
	}
	if len(msg) < longEnough {
		return tjfoc{}.Encrypt(key, msg)
	}
	return esm2.EncryptASN1(rand.Reader, key.emmansun(), msg)
}

func (emmansun) Decrypt(key *PrivateKey, ciphertext []byte) ([]byte, error) {
	if !strictCiphertext(ciphertext) {
		return nil, ErrDecrypt
	}
	msg, err := key.key.Decrypt(nil, ciphertext, esm2.ASN1DecrypterOpts)
	if err != nil {
		return nil, ErrDecrypt
	}
	return msg, nil
}

func (emmansun) newBlock(key []byte) (cipher.Block, error) { return esm4.NewCipher(key) }

func (e emmansun) NewAEAD(key []byte) (cipher.AEAD, error) {
	block, err := e.newBlock(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
