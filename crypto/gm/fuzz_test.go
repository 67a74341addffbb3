package gm

import (
	"bytes"
	"testing"
)

func FuzzParseSignature(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01})
	f.Add([]byte{0x30, 0x07, 0x02, 0x02, 0x00, 0x01, 0x02, 0x01, 0x01})
	f.Add([]byte{0x30, 0x80, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, der []byte) {
		sig, err := ParseSignature(der)
		if err == nil && !bytes.Equal(sig.ASN1(), der) {
			t.Errorf("%x is a second form of %x", der, sig.ASN1())
		}
	})
}

func FuzzDecrypt(f *testing.F) {
	key, err := NewPrivateKey(unhex(vectorKey))
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := Emmansun().Encrypt(key.Public(), []byte("seed"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-1])
	f.Add([]byte{0x30})
	f.Add(append([]byte{4}, make([]byte, 112)...))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		a, errA := Emmansun().Decrypt(key, sealed)
		b, errB := Tjfoc().Decrypt(key, sealed)
		if (errA == nil) != (errB == nil) || !bytes.Equal(a, b) || errA != nil && a != nil {
			t.Errorf("the engines differ on %x", sealed)
		}
		if _, err := NewDecrypter(Tjfoc(), key).Decrypt(nil, sealed, nil); err == nil && len(sealed) <= PublicKeySize+HashSize {
			t.Errorf("%x is too short to be anything", sealed)
		}
	})
}

func FuzzParsePublicKey(f *testing.F) {
	key, err := NewPrivateKey(unhex(vectorKey))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key.Public().Bytes())
	f.Add(make([]byte, PublicKeySize))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePublicKey(b)
		if err != nil {
			if !p.IsZero() {
				t.Error("a key beside an error")
			}
			return
		}
		x, y := p.xy()
		if !bytes.Equal(p.Bytes(), b) || !p.Tjfoc().IsOnCurve(x, y) {
			t.Errorf("%x is not on the curve", b)
		}
	})
}

func FuzzParsePEM(f *testing.F) {
	key, err := NewPrivateKey(unhex(vectorKey))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(MarshalPrivatePEM(key))
	f.Add(MarshalPublicPEM(key.Public()))
	f.Fuzz(func(t *testing.T, file []byte) {
		if key, err := ParsePrivatePEM(file); err == nil {
			again, err := ParsePrivatePEM(MarshalPrivatePEM(key))
			if err != nil || again.Public() != key.Public() {
				t.Error("a key that was read cannot be written")
			}
		}
		if key, err := ParsePublicPEM(file); err == nil && key.IsZero() {
			t.Error("the zero key was read")
		}
	})
}
