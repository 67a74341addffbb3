package gm

import (
	stdasn1 "encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// PEM block types of the key files that openssl 3 writes.
const (
	pemPrivate   = "PRIVATE KEY"
	pemEncrypted = "ENCRYPTED PRIVATE KEY"
	pemPublic    = "PUBLIC KEY"
)

// MaxKeyFile bounds a key file, in bytes. Even with a page of text around the key
// it is far from that; a parser of PEM looks at all of a file for its first block.
const MaxKeyFile = 64 << 10

// ErrKeyFile reports a file that is no SM2 key in the form that is asked for.
var ErrKeyFile = errors.New("not an SM2 key file")

// oidECPublicKey is id-ecPublicKey (RFC 5480).
func oidECPublicKey() stdasn1.ObjectIdentifier {
	return stdasn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
}

// oidSM2 is the curve sm2p256v1 (GM/T 0006).
func oidSM2() stdasn1.ObjectIdentifier {
	return stdasn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301}
}

// MarshalPrivatePEM returns key as plain PKCS #8 (RFC 5208, RFC 5915), the form
// `openssl genpkey -algorithm SM2` writes. The result is the key in the clear:
// it is for tools, never for a node.
func MarshalPrivatePEM(key *PrivateKey) []byte {
	scalar := key.Scalar()
	defer clear(scalar)
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		addAlgorithm(b)
		b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1OctetString(scalar)
				b.AddASN1(asn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1BitString(key.public.point[:])
				})
			})
		})
	})
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: b.BytesOrPanic()})
}

// ParsePrivatePEM reads the first block of a plain PKCS #8 file. It refuses
// other curves, scalars out of range, and a public key that does not belong to
// the private one. Its errors are ErrKeyFile and ErrKey.
func ParsePrivatePEM(file []byte) (*PrivateKey, error) {
	block, err := firstBlock(file)
	switch {
	case err != nil:
		return nil, err
	case block.Type == pemEncrypted:
		return nil, fmt.Errorf("%w: it is encrypted; decrypt it with `openssl pkcs8 -in KEY -out PLAIN`", ErrKeyFile)
	case block.Type != pemPrivate:
		return nil, fmt.Errorf("%w: it begins with %q, want %q; convert it with `openssl pkcs8 -topk8 -nocrypt`", ErrKeyFile, block.Type, pemPrivate)
	}
	var inner cryptobyte.String
	var version int
	in, seq := cryptobyte.String(block.Bytes), cryptobyte.String(nil)
	// RFC 5208 allows attributes after the key; openssl writes none, and they are not read.
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&version) || version != 0 ||
		!readAlgorithm(&seq) || !seq.ReadASN1(&inner, asn1.OCTET_STRING) ||
		!seq.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) || !seq.Empty() {
		return nil, fmt.Errorf("%w: not PKCS #8 for the SM2 curve", ErrKeyFile)
	}
	return parseECPrivateKey(inner)
}

// firstBlock finds the first PEM block of a key file.
func firstBlock(file []byte) (*pem.Block, error) {
	if len(file) > MaxKeyFile {
		return nil, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrKeyFile, len(file), MaxKeyFile)
	}
	block, _ := pem.Decode(file)
	if block == nil {
		return nil, fmt.Errorf("%w: it holds no PEM block", ErrKeyFile)
	}
	return block, nil
}

// parseECPrivateKey reads the ECPrivateKey of RFC 5915.
func parseECPrivateKey(in cryptobyte.String) (*PrivateKey, error) {
	malformed := fmt.Errorf("%w: malformed ECPrivateKey", ErrKeyFile)
	var seq, scalar, params, public cryptobyte.String
	var version int
	var hasParams, hasPublic bool
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&version) || version != 1 ||
		!seq.ReadASN1(&scalar, asn1.OCTET_STRING) ||
		!seq.ReadOptionalASN1(&params, &hasParams, asn1.Tag(0).ContextSpecific().Constructed()) ||
		!seq.ReadOptionalASN1(&public, &hasPublic, asn1.Tag(1).ContextSpecific().Constructed()) || !seq.Empty() {
		return nil, malformed
	}
	var curve stdasn1.ObjectIdentifier
	if hasParams && (!params.ReadASN1ObjectIdentifier(&curve) || !params.Empty() || !curve.Equal(oidSM2())) {
		return nil, fmt.Errorf("%w: another curve", ErrKeyFile)
	}
	key, err := NewPrivateKey(scalar)
	if err != nil {
		return nil, err
	}
	if hasPublic {
		var point []byte
		if !public.ReadASN1BitStringAsBytes(&point) || !public.Empty() || string(point) != string(key.public.point[:]) {
			return nil, fmt.Errorf("%w: the public key is not that of the private key", ErrKeyFile)
		}
	}
	return key, nil
}

// MarshalPublicPEM returns key as SubjectPublicKeyInfo (RFC 5480), the form
// `openssl pkey -pubout` writes.
func MarshalPublicPEM(key PublicKey) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addAlgorithm(b)
		b.AddASN1BitString(key.point[:])
	})
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: b.BytesOrPanic()})
}

// ParsePublicPEM reads the first block of a SubjectPublicKeyInfo file with an
// uncompressed point on the SM2 curve. Its errors are ErrKeyFile and ErrKey.
func ParsePublicPEM(file []byte) (PublicKey, error) {
	block, err := firstBlock(file)
	if err != nil {
		return PublicKey{}, err
	}
	if block.Type != pemPublic {
		return PublicKey{}, fmt.Errorf("%w: it begins with %q, want %q", ErrKeyFile, block.Type, pemPublic)
	}
	var point []byte
	in, seq := cryptobyte.String(block.Bytes), cryptobyte.String(nil)
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() || !readAlgorithm(&seq) ||
		!seq.ReadASN1BitStringAsBytes(&point) || !seq.Empty() {
		return PublicKey{}, fmt.Errorf("%w: not a public key on the SM2 curve", ErrKeyFile)
	}
	return ParsePublicKey(point)
}

func addAlgorithm(b *cryptobyte.Builder) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidECPublicKey())
		b.AddASN1ObjectIdentifier(oidSM2())
	})
}

func readAlgorithm(in *cryptobyte.String) bool {
	var seq cryptobyte.String
	var algorithm, curve stdasn1.ObjectIdentifier
	return in.ReadASN1(&seq, asn1.SEQUENCE) &&
		seq.ReadASN1ObjectIdentifier(&algorithm) && algorithm.Equal(oidECPublicKey()) &&
		seq.ReadASN1ObjectIdentifier(&curve) && curve.Equal(oidSM2()) && seq.Empty()
}
