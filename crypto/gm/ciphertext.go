package gm

import (
	"fmt"
	"math/big"

	esm2 "github.com/emmansun/gmsm/sm2"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// maxPlaintext bounds what is encrypted under SM2: keys, not documents.
const maxPlaintext = 4096

// checkPlaintext refuses what makes an engine hang (an empty message) or
// encrypt to nobody (a key that was never parsed).
func checkPlaintext(key PublicKey, msg []byte) error {
	if key.IsZero() {
		return ErrKey
	}
	if len(msg) == 0 || len(msg) > maxPlaintext {
		return fmt.Errorf("sm2 encrypt: message of %d bytes: want 1 to %d", len(msg), maxPlaintext)
	}
	return nil
}

// longEnough is the length from which a key stream of nothing but zeros does not
// happen; for a shorter message the sender has to draw another nonce then (GB/T
// 32918.4 section 6). emmansun v0.44.1 draws again and multiplies what is left of
// the first attempt instead of the recipient's key, so nobody can decrypt the
// result. Of one byte it happens once in 256 times. tjfoc does it right.
const longEnough = 16

// strictCiphertext reports whether b is exactly SEQUENCE{x, y, C3, C2} with a
// point on the curve. A point that is off the curve must never meet the private
// key: its multiples tell the key.
func strictCiphertext(b []byte) bool {
	x, y := new(big.Int), new(big.Int)
	var in, seq, c3, c2 cryptobyte.String
	in = b
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadASN1Integer(x) || !seq.ReadASN1Integer(y) ||
		!seq.ReadASN1(&c3, asn1.OCTET_STRING) || !seq.ReadASN1(&c2, asn1.OCTET_STRING) || !seq.Empty() ||
		len(c3) != HashSize || len(c2) == 0 || len(c2) > maxPlaintext ||
		x.Sign() < 0 || y.Sign() < 0 || x.BitLen() > 256 || y.BitLen() > 256 {
		return false
	}
	var point [PublicKeySize]byte
	point[0] = 4
	x.FillBytes(point[1:33])
	y.FillBytes(point[33:])
	_, err := esm2.NewPublicKey(point[:])
	return err == nil
}
