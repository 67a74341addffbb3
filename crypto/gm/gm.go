// Package gm gives SM2, SM3 and SM4 in standard-library shapes, with two
// complete engines behind one small interface.
//
// It is the only door to github.com/tjfoc/gmsm (the customer's library) and
// github.com/emmansun/gmsm (constant time, and 8 to 18 times faster). Each known
// trap of either is closed here and has a test named after it; DESIGN.md lists
// them. crypto/cert and crypto/channel open the same door for the customer's
// X.509 and GM TLS.
package gm

import (
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
)

// Suite is the one cryptographic suite: SM2 signatures with SM3, SM2 key
// wrapping, SM4-GCM. Its id stands inside every signed object; nothing is
// negotiated.
const Suite = "SM-1"

// Sizes in bytes.
const (
	HashSize      = 32
	SignatureSize = 64
	PublicKeySize = 65
	SM4KeySize    = 16
	NonceSize     = 12
	TagSize       = 16 // of SM4-GCM
)

// DefaultUID is the signer id of GM/T 0009 that enters every signature's Z
// value. openssl takes it as -sigopt distid:1234567812345678.
const DefaultUID = "1234567812345678"

// A Digest is an SM3 hash value.
type Digest = [HashSize]byte

// A Signature is r and s of an SM2 signature, 32 bytes each, big-endian. It is
// the only form inside this exchange's own objects; ASN1 gives the DER form.
type Signature [SignatureSize]byte

// Errors of this package.
var (
	ErrKey       = errors.New("not a usable SM2 key")
	ErrDecrypt   = errors.New("SM2 decryption failed")
	ErrSignature = errors.New("not a DER-encoded SM2 signature")
)

// Engine is one complete implementation of the suite. Engines hold no private
// keys and are safe for concurrent use. A program makes one and passes it on.
type Engine interface {
	// Name identifies the engine in logs and metrics.
	Name() string
	// NewHash returns an SM3 hash that obeys the hash.Hash contract.
	NewHash() hash.Hash
	// Sum returns the SM3 hash of the concatenation of parts.
	Sum(parts ...[]byte) Digest
	// Sign signs msg under DefaultUID (GB/T 32918.2).
	Sign(key *PrivateKey, msg []byte) (Signature, error)
	// Verify reports whether sig is key's signature of msg under DefaultUID.
	// The zero PublicKey verifies nothing.
	Verify(key PublicKey, msg []byte, sig Signature) bool
	// Encrypt encrypts msg of 1 to 4096 bytes to key; the result is the ASN.1
	// form of GM/T 0009 (C1 C3 C2).
	Encrypt(key PublicKey, msg []byte) ([]byte, error)
	// Decrypt is the reverse of Encrypt. Any failure is ErrDecrypt and tells no more.
	Decrypt(key *PrivateKey, ciphertext []byte) ([]byte, error)
	// NewAEAD returns SM4-GCM (12-byte nonce, 16-byte tag) under a 16-byte key,
	// safe for concurrent use.
	NewAEAD(key []byte) (cipher.AEAD, error)
}

// ByName returns the engines of a configuration: "auto" runs emmansun and
// checks with tjfoc, "tjfoc" runs everything on tjfoc and checks with emmansun.
func ByName(name string) (engine, second Engine, err error) {
	switch name {
	case "", "auto":
		return Emmansun(), Tjfoc(), nil
	case "tjfoc":
		return Tjfoc(), Emmansun(), nil
	}
	return nil, nil, fmt.Errorf(`unknown crypto engine %q: want "auto" or "tjfoc"`, name)
}

// Preimage returns the bytes that are signed or hashed for an object: the
// suite, the object's domain ("xinqiao/frame/v1") and its canonical bytes,
// separated by zero bytes, so that no object can pass for one of another kind.
func Preimage(domain string, body []byte) []byte {
	b := make([]byte, 0, len(Suite)+len(domain)+2+len(body))
	b = append(append(b, Suite...), 0)
	b = append(append(b, domain...), 0)
	return append(b, body...)
}

// Commit returns the salted commitment to body in domain: the SM3 hash of its
// preimage with the salt in front of the body.
func Commit(e Engine, domain string, salt, body []byte) Digest {
	return e.Sum(Preimage(domain, nil), salt, body)
}

// HMAC returns HMAC-SM3 (RFC 2104) of the concatenation of parts.
func HMAC(e Engine, key []byte, parts ...[]byte) Digest {
	const block = 64
	if len(key) > block {
		d := e.Sum(key)
		key = d[:]
	}
	var in, out [block]byte
	copy(in[:], key)
	copy(out[:], key)
	for i := range block {
		in[i] ^= 0x36
		out[i] ^= 0x5c
	}
	inner := e.Sum(append([][]byte{in[:]}, parts...)...)
	return e.Sum(out[:], inner[:])
}

// Derive returns n bytes of HKDF-SM3 (RFC 5869). It panics above 255·32 bytes,
// where HKDF ends.
func Derive(e Engine, secret, salt []byte, info string, n int) []byte {
	if n > 255*HashSize {
		panic("gm: Derive of more than HKDF gives")
	}
	prk := HMAC(e, salt, secret)
	var out, prev []byte
	for i := byte(1); len(out) < n; i++ {
		t := HMAC(e, prk[:], prev, []byte(info), []byte{i})
		prev = t[:]
		out = append(out, prev...)
	}
	return out[:n]
}

// Equal compares two secrets in constant time.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
