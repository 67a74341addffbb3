package keyring

import (
	"crypto/rand"
	"encoding/pem"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"xinqiao/crypto/gm"
)

// requestInfo is what is signed of a signing request, in any form.
func requestInfo(version int64, key gm.PublicKey, tail ...byte) []byte {
	block, _ := pem.Decode(gm.MarshalPublicPEM(key))
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		b.AddASN1(asn1.SEQUENCE, func(*cryptobyte.Builder) {})
		b.AddBytes(block.Bytes)
		b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(*cryptobyte.Builder) {})
		b.AddBytes(tail)
	})
	return b.BytesOrPanic()
}

// TestEncRequestSigner has the encryption key sign its own request, and nothing
// that could be taken for anything else.
func TestEncRequestSigner(t *testing.T) {
	t.Parallel()
	k := generate(t)
	s := k.EncRequestSigner()
	if key, err := gm.PublicKeyOf(s.Public()); err != nil || key != k.EncPublic() {
		t.Errorf("public key %v, %v", key, err)
	}
	info := requestInfo(0, k.EncPublic())
	der, err := s.Sign(rand.Reader, info, nil)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := gm.ParseSignature(der)
	if err != nil || gm.VerifyBoth(gm.Emmansun(), gm.Tjfoc(), k.EncPublic(), info, sig) != gm.AgreeValid {
		t.Errorf("the signature does not verify: %v", err)
	}
	for name, msg := range map[string][]byte{
		"nothing":          nil,
		"text":             []byte("hello"),
		"signed object":    gm.Preimage("xinqiao/frame/v1", []byte("body")),
		"a handshake":      append(make([]byte, 64), k.EncPublic().Bytes()...),
		"request for sign": requestInfo(0, k.SignPublic()),
		"other version":    requestInfo(2, k.EncPublic()),
		"more inside":      requestInfo(0, k.EncPublic(), 5, 0),
		"more behind":      append(requestInfo(0, k.EncPublic()), 0),
		"cut short":        info[:len(info)-1],
	} {
		if sig, err := s.Sign(rand.Reader, msg, nil); err == nil || sig != nil {
			t.Errorf("%s: signed", name)
		}
	}
}
