package gm

import (
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// ASN1 returns the DER form SEQUENCE{r, s} that openssl writes.
func (s Signature) ASN1() []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(s[:32]))
		b.AddASN1BigInt(new(big.Int).SetBytes(s[32:]))
	})
	return b.BytesOrPanic()
}

// ParseSignature reads the DER form and refuses every other encoding of the
// same numbers with ErrSignature: trailing bytes, extra elements, padding, negative
// numbers, long forms of lengths.
func ParseSignature(der []byte) (Signature, error) {
	var sig Signature
	r, s := new(big.Int), new(big.Int)
	in, seq := cryptobyte.String(der), cryptobyte.String(nil)
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadASN1Integer(r) || !seq.ReadASN1Integer(s) || !seq.Empty() ||
		r.Sign() <= 0 || s.Sign() <= 0 || r.BitLen() > 256 || s.BitLen() > 256 {
		return sig, ErrSignature
	}
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig, nil
}
