package gm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"math/big"
	"testing"

	esm2 "github.com/emmansun/gmsm/sm2"
	tsm2 "github.com/tjfoc/gmsm/sm2"
)

// More seeds are in testdata/fuzz: one for each malformation that a parser here
// refuses and each vector that it takes. `go test` runs them all.

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

// FuzzVerify: the engines never differ, and with the key of GM/T 0003.5 nothing
// verifies but the standard's own example.
func FuzzVerify(f *testing.F) {
	key, err := NewPrivateKey(unhex(vectorKey))
	if err != nil {
		f.Fatal(err)
	}
	message := []byte("message digest")
	vector := unhex("f5a03b0648d2c463 0eeac513e1bb81a1 5944da3827d5b741 43ac7eaceee720b3" +
		"b1b6aa29df212fd8 763182bc0d421ca1 bb9038fd1f7f42d4 840b69c485bbc1aa")
	f.Add(message, vector)
	f.Fuzz(func(t *testing.T, msg, b []byte) {
		var sig Signature
		copy(sig[:], b)
		want := AgreeInvalid
		if bytes.Equal(msg, message) && sig == Signature(vector) {
			want = AgreeValid
		}
		if got := VerifyBoth(Emmansun(), Tjfoc(), key.Public(), msg, sig); got != want {
			t.Errorf("%q, %x: %v", msg, sig, got)
		}
	})
}

// FuzzPublicKeyOf plays a certificate with any numbers on any curve.
func FuzzPublicKeyOf(f *testing.F) {
	key, err := NewPrivateKey(unhex(vectorKey))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key.Public().Bytes()[1:33], key.Public().Bytes()[33:], byte(0))
	f.Fuzz(func(t *testing.T, bx, by []byte, kind byte) {
		x, y := new(big.Int).SetBytes(bx), new(big.Int).SetBytes(by)
		if kind&0x80 != 0 {
			x.Neg(x)
		}
		var pub any
		switch kind & 3 {
		case 0:
			pub = &tsm2.PublicKey{Curve: tsm2.P256Sm2(), X: x, Y: y}
		case 1:
			//lint:ignore SA1019 raw points are what must be refused
			pub = &ecdsa.PublicKey{Curve: esm2.P256(), X: x, Y: y}
		case 2:
			//lint:ignore SA1019 raw points are what must be refused
			pub = &ecdsa.PublicKey{Curve: elliptic.P256(), X: x, Y: y}
		case 3:
			pub = &tsm2.PublicKey{Curve: elliptic.P256(), X: x, Y: y}
		}
		p, err := PublicKeyOf(pub)
		if err != nil {
			if !p.IsZero() {
				t.Error("a key beside an error")
			}
			return
		}
		px, py := p.xy()
		if kind&3 > 1 || px.Cmp(x) != 0 || py.Cmp(y) != 0 || !p.Tjfoc().IsOnCurve(x, y) {
			t.Errorf("%T with %x, %x is taken for %v", pub, x, y, p)
		}
	})
}

func FuzzNewPrivateKey(f *testing.F) {
	f.Add(unhex(vectorKey))
	f.Fuzz(func(t *testing.T, scalar []byte) {
		key, err := NewPrivateKey(scalar)
		d, n := new(big.Int).SetBytes(scalar), tsm2.P256Sm2().Params().N
		if ok := len(scalar) == 32 && d.Sign() > 0 && d.Cmp(new(big.Int).Sub(n, big.NewInt(2))) <= 0; ok != (err == nil) {
			t.Fatalf("%x: %v", scalar, err)
		}
		if err == nil && !bytes.Equal(key.Scalar(), scalar) {
			t.Errorf("%x comes back as another scalar", scalar)
		}
	})
}
