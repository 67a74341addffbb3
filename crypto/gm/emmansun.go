package gm

import (
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"
	"hash"
	"math/big"
	"sync"

	esm2 "github.com/emmansun/gmsm/sm2"
	esm3 "github.com/emmansun/gmsm/sm3"
	esm4 "github.com/emmansun/gmsm/sm4"
)

// emmansun keeps the library's form of the public keys it has met. The library
// holds what it derives from a key under the key's address, so that a new form for
// each signature costs it a tenth of the verification and a weak pointer to clean up.
type emmansun struct {
	mu   sync.RWMutex // mu protects keys
	keys map[PublicKey]*ecdsa.PublicKey
}

// maxKeys bounds what an engine remembers. Members of an exchange are fewer;
// where a stranger sends more, all are forgotten and met again.
const maxKeys = 1024

// Emmansun returns the engine over github.com/emmansun/gmsm: constant time,
// hedged nonces, point checks.
func Emmansun() Engine { return new(emmansun) }

// public returns the library's form of key, which nobody changes.
func (e *emmansun) public(key PublicKey) *ecdsa.PublicKey {
	e.mu.RLock()
	p := e.keys[key]
	e.mu.RUnlock()
	if p != nil {
		return p
	}
	p = key.emmansun()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keys == nil || len(e.keys) >= maxKeys {
		e.keys = map[PublicKey]*ecdsa.PublicKey{}
	}
	e.keys[key] = p
	return p
}

func (*emmansun) Name() string { return "emmansun" }

func (*emmansun) NewHash() hash.Hash { return esm3.New() }

func (*emmansun) Sum(parts ...[]byte) Digest {
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

func (*emmansun) Sign(key *PrivateKey, msg []byte) (Signature, error) {
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

func (e *emmansun) Verify(key PublicKey, msg []byte, sig Signature) bool {
	if key.IsZero() {
		return false
	}
	pub := e.public(key)
	digest, err := esm2.CalculateSM2Hash(pub, msg, []byte(DefaultUID))
	if err != nil {
		return false
	}
	return verifyEmmansun(pub, digest, sig)
}

func (e *emmansun) verifyDigest(key PublicKey, digest Digest, sig Signature) bool {
	return !key.IsZero() && verifyEmmansun(e.public(key), digest[:], sig)
}

func verifyEmmansun(pub *ecdsa.PublicKey, digest []byte, sig Signature) bool {
	return esm2.Verify(pub, digest, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}

func (e *emmansun) Encrypt(key PublicKey, msg []byte) ([]byte, error) {
	if err := checkPlaintext(key, msg); err != nil {
		return nil, err
	}
	if len(msg) < longEnough {
		return tjfoc{}.Encrypt(key, msg)
	}
	return esm2.EncryptASN1(rand.Reader, e.public(key), msg)
}

func (*emmansun) Decrypt(key *PrivateKey, ciphertext []byte) ([]byte, error) {
	if !strictCiphertext(ciphertext) {
		return nil, ErrDecrypt
	}
	msg, err := key.key.Decrypt(nil, ciphertext, esm2.ASN1DecrypterOpts)
	if err != nil {
		return nil, ErrDecrypt
	}
	return msg, nil
}

func (*emmansun) newBlock(key []byte) (cipher.Block, error) { return esm4.NewCipher(key) }

func (e *emmansun) NewAEAD(key []byte) (cipher.AEAD, error) {
	block, err := e.newBlock(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
