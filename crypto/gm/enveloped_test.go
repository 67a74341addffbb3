package gm

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"testing"

	esm2 "github.com/emmansun/gmsm/sm2"
	esm4 "github.com/emmansun/gmsm/sm4"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

func enveloped(t testing.TB) (sign, enc *PrivateKey, der []byte) {
	t.Helper()
	sign, err := GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if enc, err = GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if der, err = MarshalEnvelopedKey(Emmansun(), rand.Reader, sign.Public(), enc); err != nil {
		t.Fatal(err)
	}
	return sign, enc, der
}

func opener(e Engine, key *PrivateKey) func([]byte) ([]byte, error) {
	return func(c []byte) ([]byte, error) { return e.Decrypt(key, c) }
}

// TestEnvelopedKeyBothWays reads what emmansun's own writer makes and has its
// reader read ours.
func TestEnvelopedKeyBothWays(t *testing.T) {
	t.Parallel()
	sign, enc, der := enveloped(t)
	theirs, err := esm2.MarshalEnvelopedPrivateKey(rand.Reader, sign.public.emmansun(), enc.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"ours": der, "theirs": theirs} {
		for _, e := range []Engine{Emmansun(), Tjfoc()} {
			got, err := ParseEnvelopedKey(b, opener(e, sign))
			if err != nil || got.Public() != enc.Public() {
				t.Errorf("%s on %s: %v", name, e.Name(), err)
			}
		}
		if got, err := esm2.ParseEnvelopedPrivateKey(sign.key, b); err != nil || !got.Equal(enc.key) {
			t.Errorf("%s, read by emmansun: %v", name, err)
		}
	}
	for name, file := range map[string][]byte{"DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "SM2 ENVELOPED KEY", Bytes: der})} {
		if got, err := EnvelopedDER(file); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := EnvelopedDER(make([]byte, maxEnveloped+1)); !errors.Is(err, ErrEnveloped) {
		t.Errorf("an endless file: %v", err)
	}
}

// TestEnvelopedKeyOfFixedFields reads the private key of 64 bytes that devices
// after GM/T 0018 write, and refuses one whose leading half is not zero.
func TestEnvelopedKeyOfFixedFields(t *testing.T) {
	t.Parallel()
	sign, enc, _ := enveloped(t)
	for name, lead := range map[string]byte{"zero": 0, "not zero": 1} {
		content := bytes.Repeat([]byte{7}, SM4KeySize)
		block, err := esm4.NewCipher(content)
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := Emmansun().Encrypt(sign.Public(), content)
		if err != nil {
			t.Fatal(err)
		}
		var b cryptobyte.Builder
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidSM4()) })
			b.AddBytes(wrapped)
			b.AddASN1BitString(enc.public.point[:])
			b.AddASN1BitString(ecb(block.Encrypt, append(append([]byte{lead}, make([]byte, 31)...), enc.Scalar()...)))
		})
		got, err := ParseEnvelopedKey(b.BytesOrPanic(), opener(Emmansun(), sign))
		if want := lead == 0; (err == nil) != want || want && got.Public() != enc.Public() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEnvelopedKeyIsStrict changes each byte, cuts everywhere, and wraps what is
// no key: always the one error, never a key.
func TestEnvelopedKeyIsStrict(t *testing.T) {
	t.Parallel()
	sign, enc, der := enveloped(t)
	open := opener(Emmansun(), sign)
	refuse := func(what string, b []byte) {
		if key, err := ParseEnvelopedKey(b, open); key != nil || !errors.Is(err, ErrEnveloped) {
			t.Errorf("%s: %v, %v", what, key, err)
		}
	}
	for i := range der {
		bad := bytes.Clone(der)
		bad[i] ^= 0x01
		// The OID of SM4 and that of SM4-ECB differ in their length, not in one bit.
		refuse("changed", bad)
		refuse("cut", der[:i])
	}
	refuse("longer", append(bytes.Clone(der), 0))
	refuse("oversize", make([]byte, maxEnveloped+1))
	other, err := MarshalEnvelopedKey(Emmansun(), rand.Reader, enc.Public(), enc)
	if err != nil {
		t.Fatal(err)
	}
	refuse("to another key", other)
	mixed := bytes.Clone(der) // the public key of another pair
	copy(mixed[bytes.Index(mixed, enc.public.point[:]):], sign.public.point[:])
	refuse("another public key", mixed)
	if _, err := ParseEnvelopedKey(der, func([]byte) ([]byte, error) { return nil, io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a device that does not answer: %v", err)
	}
	for _, n := range []int{1, 15, 17, 32} {
		if _, err := ParseEnvelopedKey(der, func([]byte) ([]byte, error) { return make([]byte, n), nil }); !errors.Is(err, ErrEnveloped) {
			t.Errorf("a content key of %d bytes: %v", n, err)
		}
	}
}

func FuzzParseEnvelopedKey(f *testing.F) {
	sign, _, der := enveloped(f)
	f.Add(der)
	f.Add(der[:len(der)-1])
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParseEnvelopedKey(b, opener(Emmansun(), sign))
		if (key == nil) != (err != nil) || err != nil && !errors.Is(err, ErrEnveloped) {
			t.Errorf("%v, %v", key, err)
		}
	})
}
