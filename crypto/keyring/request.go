package keyring

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"errors"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"xinqiao/crypto/gm"
)

// EncRequestSigner returns a signer with the encryption key that signs one thing:
// a certificate signing request for that very key (the CertificationRequestInfo of
// RFC 2986), in the shape of gm.NewSigner. A CA wants proof that a department holds
// the key for which it asks. An encryption key must sign nothing else, because it
// may lie in escrow: what it signs could be somebody else's word.
func (k *Keyring) EncRequestSigner() crypto.Signer {
	return requestSigner{gm.NewSigner(k.engine, k.enc), k.EncPublic()}
}

type requestSigner struct {
	crypto.Signer
	key gm.PublicKey
}

func (s requestSigner) Sign(rand io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	if !isRequestInfo(msg, s.key) {
		return nil, errors.New("sign with the encryption key: only a signing request for that key")
	}
	return s.Signer.Sign(rand, msg, opts)
}

// isRequestInfo reports whether msg is the part of a signing request that is
// signed, and names key.
func isRequestInfo(msg []byte, key gm.PublicKey) bool {
	in, info := cryptobyte.String(msg), cryptobyte.String(nil)
	var version int64
	var spki cryptobyte.String
	own, _ := pem.Decode(gm.MarshalPublicPEM(key))
	return in.ReadASN1(&info, asn1.SEQUENCE) && in.Empty() &&
		info.ReadASN1Integer(&version) && version == 0 &&
		info.SkipASN1(asn1.SEQUENCE) && // subject
		info.ReadASN1Element(&spki, asn1.SEQUENCE) && bytes.Equal(spki, own.Bytes) &&
		info.SkipASN1(asn1.Tag(0).ContextSpecific().Constructed()) && info.Empty()
}
