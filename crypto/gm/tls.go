package gm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"math/big"

	esm2 "github.com/emmansun/gmsm/sm2"
	tsm2 "github.com/tjfoc/gmsm/sm2"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// NewSigner gives key the shape that tjfoc's x509 and gmtls ask of a private
// key. Unlike a standard-library signer its Sign takes the message, not a
// digest, and ignores opts: it signs under DefaultUID and returns DER. A
// certificate template must therefore name SM2WithSM3, or tjfoc hashes first.
// Public returns tjfoc's public key.
//
// It refuses a message that begins like a Preimage: a client of a handshake
// chooses the first 32 bytes that the server signs, and could otherwise have it
// sign the beginning of one of this exchange's own objects.
func NewSigner(e Engine, key *PrivateKey) crypto.Signer {
	return SignerFunc(key.public, func(msg []byte) (Signature, error) { return e.Sign(key, msg) })
}

// SignerFunc is NewSigner for a key that is held elsewhere: sign signs a message
// with the private key of pub.
func SignerFunc(pub PublicKey, sign func(msg []byte) (Signature, error)) crypto.Signer {
	return tlsSigner{pub, sign}
}

// NewDecrypter gives key the shape that gmtls asks of an encryption key. Its
// Decrypt takes the raw form 04 C1 C3 C2, checks it as Engine.Decrypt does, and
// never returns plaintext beside an error. This is what keeps a ClientKeyExchange
// with a crafted point from reading the key.
func NewDecrypter(e Engine, key *PrivateKey) crypto.Decrypter {
	return DecrypterFunc(key.public, func(ciphertext []byte) ([]byte, error) { return e.Decrypt(key, ciphertext) })
}

// DecrypterFunc is NewDecrypter for a key that is held elsewhere: decrypt does
// what Engine.Decrypt does, with the private key of pub.
func DecrypterFunc(pub PublicKey, decrypt func(ciphertext []byte) ([]byte, error)) crypto.Decrypter {
	return tlsDecrypter{pub, decrypt}
}

type tlsSigner struct {
	public PublicKey
	sign   func(msg []byte) (Signature, error)
}

func (k tlsSigner) Public() crypto.PublicKey { return k.public.Tjfoc() }

func (k tlsSigner) Sign(_ io.Reader, msg []byte, _ crypto.SignerOpts) ([]byte, error) {
	if bytes.HasPrefix(msg, []byte(Suite+"\x00")) {
		return nil, errors.New("sm2 sign: a handshake or certificate cannot begin as a signed object does")
	}
	sig, err := k.sign(msg)
	if err != nil {
		return nil, err
	}
	return sig.ASN1(), nil
}

type tlsDecrypter struct {
	public  PublicKey
	decrypt func(ciphertext []byte) ([]byte, error)
}

func (k tlsDecrypter) Public() crypto.PublicKey { return k.public.Tjfoc() }

func (k tlsDecrypter) Decrypt(_ io.Reader, raw []byte, _ crypto.DecrypterOpts) ([]byte, error) {
	const head = PublicKeySize + HashSize
	if len(raw) <= head || raw[0] != 4 {
		return nil, ErrDecrypt
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[1:33]))
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[33:65]))
		b.AddASN1OctetString(raw[PublicKeySize:head])
		b.AddASN1OctetString(raw[head:])
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, ErrDecrypt
	}
	return k.decrypt(der)
}

// Tjfoc returns p as tjfoc's x509 takes it. The zero PublicKey gives a key that
// verifies nothing.
func (p PublicKey) Tjfoc() *tsm2.PublicKey {
	x, y := p.xy()
	return &tsm2.PublicKey{Curve: tsm2.P256Sm2(), X: x, Y: y}
}

// PublicKeyOf reads the key out of a parsed certificate of either library and
// refuses other curves, missing coordinates and points off the curve: tjfoc's
// parser hands out all three without an error.
func PublicKeyOf(pub crypto.PublicKey) (PublicKey, error) {
	var x, y *big.Int
	switch k := pub.(type) {
	case *tsm2.PublicKey:
		if k != nil && k.Curve == tsm2.P256Sm2() {
			x, y = k.X, k.Y
		}
	case *ecdsa.PublicKey:
		// tjfoc hands out an ecdsa key over its own SM2 curve.
		if k != nil && (k.Curve == esm2.P256() || k.Curve == tsm2.P256Sm2()) {
			//lint:ignore SA1019 the standard library has no encoding for points of the SM2 curve
			x, y = k.X, k.Y
		}
	}
	if x == nil || y == nil || x.Sign() < 0 || y.Sign() < 0 || x.BitLen() > 256 || y.BitLen() > 256 {
		return PublicKey{}, fmt.Errorf("%w: %T on another curve or without a point", ErrKey, pub)
	}
	var point [PublicKeySize]byte
	point[0] = 4
	x.FillBytes(point[1:33])
	y.FillBytes(point[33:])
	return ParsePublicKey(point[:])
}
