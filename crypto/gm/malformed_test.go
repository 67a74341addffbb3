package gm

import (
	"bytes"
	"encoding/pem"
	"errors"
	"math/big"
	"runtime"
	"strings"
	"testing"

	tsm2 "github.com/tjfoc/gmsm/sm2"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// der is an element of any tag, length form and content.
func der(tag byte, content ...[]byte) []byte {
	c := bytes.Join(content, nil)
	switch {
	case len(c) < 128:
		return append([]byte{tag, byte(len(c))}, c...)
	case len(c) < 256:
		return append([]byte{tag, 0x81, byte(len(c))}, c...)
	}
	return append([]byte{tag, 0x82, byte(len(c) >> 8), byte(len(c))}, c...)
}

// TestMalformedSignatures: what BER allows and DER does not, and what is no
// signature at all.
func TestMalformedSignatures(t *testing.T) {
	t.Parallel()
	r, s := der(2, []byte{1, 2, 3}), der(2, []byte{4, 5, 6})
	if _, err := ParseSignature(der(0x30, r, s)); err != nil {
		t.Fatalf("the well-formed one: %v", err)
	}
	for name, bad := range map[string][]byte{
		"empty sequence":        der(0x30),
		"one number":            der(0x30, r),
		"three numbers":         der(0x30, r, s, s),
		"a null behind":         der(0x30, r, s, []byte{5, 0}),
		"bytes behind":          append(der(0x30, r, s), 0, 0),
		"twice":                 append(der(0x30, r, s), der(0x30, r, s)...),
		"a set":                 der(0x31, r, s),
		"primitive sequence":    der(0x10, r, s),
		"octets for a number":   der(0x30, der(4, []byte{1}), s),
		"number without bytes":  der(0x30, der(2), s),
		"leading zero":          der(0x30, der(2, []byte{0, 1}), s),
		"leading ones":          der(0x30, der(2, []byte{0xff, 0x80}), s),
		"r zero":                der(0x30, der(2, []byte{0}), s),
		"s zero":                der(0x30, r, der(2, []byte{0})),
		"r negative":            der(0x30, der(2, []byte{0x80}), s),
		"s negative":            der(0x30, r, der(2, []byte{0x80})),
		"s of 257 bits":         der(0x30, r, der(2, append([]byte{1}, make([]byte, 32)...))),
		"r of 1 MiB":            append([]byte{0x30, 0x83, 0x10, 0, 8, 2, 0x83, 0x10, 0, 0}, append(bytes.Repeat([]byte{1}, 1<<20), s...)...),
		"long form of length":   append([]byte{0x30, 0x81, byte(len(r) + len(s))}, append(bytes.Clone(r), s...)...),
		"long form inside":      der(0x30, []byte{2, 0x81, 1, 1}, s),
		"length with zero":      append([]byte{0x30, 0x82, 0, byte(len(r) + len(s))}, append(bytes.Clone(r), s...)...),
		"indefinite length":     append([]byte{0x30, 0x80}, append(append(bytes.Clone(r), s...), 0, 0)...),
		"length beyond the end": {0x30, 0x20, 2, 1, 1, 2, 1, 1},
		"length of 4 GiB":       {0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 2, 1, 1},
		"length of length 127":  {0x30, 0xff, 2, 1, 1},
		"high tag":              {0x3f, 0x30, 6, 2, 1, 1, 2, 1, 1},
	} {
		if sig, err := ParseSignature(bad); !errors.Is(err, ErrSignature) || sig != (Signature{}) {
			t.Errorf("%s: %x, %v", name, sig, err)
		}
	}
}

// TestMalformedCiphertexts adds to TestTrap04Decrypt what BER allows.
func TestMalformedCiphertexts(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	valid, err := Emmansun().Encrypt(key.Public(), []byte("content key"))
	if err != nil {
		t.Fatal(err)
	}
	// The four elements of a valid ciphertext, to be put together in other ways.
	var seq cryptobyte.String
	var part [4]cryptobyte.String
	in := cryptobyte.String(valid)
	if !in.ReadASN1(&seq, asn1.SEQUENCE) {
		t.Fatal("not a sequence")
	}
	for i := range part {
		if !seq.ReadAnyASN1Element(&part[i], nil) {
			t.Fatal("not four elements")
		}
	}
	x, y, c3, c2 := part[0], part[1], part[2], part[3]
	if got, err := Emmansun().Decrypt(key, der(0x30, x, y, c3, c2)); err != nil || string(got) != "content key" {
		t.Fatalf("put together again: %v", err)
	}
	point := key.Public()
	px, py := point.xy()
	for name, bad := range map[string][]byte{
		"a fifth element":   der(0x30, x, y, c3, c2, []byte{5, 0}),
		"three elements":    der(0x30, x, y, c3),
		"C1 C2 C3":          der(0x30, x, y, c2, c3),
		"a set":             der(0x31, x, y, c3, c2),
		"padded x":          der(0x30, der(2, []byte{0, 0}, px.Bytes()), y, c3, c2),
		"y negative":        ciphertext(px, new(big.Int).Neg(py), c3[2:], c2[2:]),
		"y over p":          ciphertext(px, new(big.Int).Add(py, tsm2.P256Sm2().Params().P), c3[2:], c2[2:]),
		"x without bytes":   der(0x30, der(2), y, c3, c2),
		"x of 1 MiB":        ciphertext(new(big.Int).Lsh(big.NewInt(1), 8<<20), py, c3[2:], c2[2:]),
		"constructed C2":    der(0x30, x, y, c3, der(0x24, c2)),
		"indefinite length": append(append([]byte{0x30, 0x80}, valid[2:]...), 0, 0),
		"C3 of 33 bytes":    der(0x30, x, y, der(4, c3[2:], []byte{0}), c2),
		"raw, compressed":   append([]byte{2}, valid[5:]...),
	} {
		for _, e := range engines() {
			if got, err := e.Decrypt(key, bad); !errors.Is(err, ErrDecrypt) || got != nil {
				t.Errorf("%s, %s: %x, %v", e.Name(), name, got, err)
			}
		}
	}
}

// secondForm returns a point of the curve and its encoding with p added to x,
// which names the same point to whoever reduces first.
func secondForm(t *testing.T) (point, second []byte) {
	t.Helper()
	c := tsm2.P256Sm2().Params()
	for i := int64(1); ; i++ {
		x := big.NewInt(i)
		y := new(big.Int).Exp(x, big.NewInt(3), c.P)
		y.Sub(y, new(big.Int).Mul(x, big.NewInt(3))).Add(y, c.B).Mod(y, c.P)
		if y.ModSqrt(y, c.P) == nil {
			continue
		}
		form := func(x *big.Int) []byte {
			b := append([]byte{4}, make([]byte, PublicKeySize-1)...)
			x.FillBytes(b[1:33])
			y.FillBytes(b[33:])
			return b
		}
		return form(x), form(new(big.Int).Add(x, c.P))
	}
}

func TestTrap07PointHasOneForm(t *testing.T) {
	t.Parallel()
	point, second := secondForm(t)
	if _, err := ParsePublicKey(point); err != nil {
		t.Fatalf("the usual form: %v", err)
	}
	if _, err := ParsePublicKey(second); !errors.Is(err, ErrKey) {
		t.Errorf("x + p: %v", err)
	}
	x, y := new(big.Int).SetBytes(second[1:33]), new(big.Int).SetBytes(second[33:])
	if _, err := PublicKeyOf(&tsm2.PublicKey{Curve: tsm2.P256Sm2(), X: x, Y: y}); !errors.Is(err, ErrKey) {
		t.Errorf("x + p in a certificate: %v", err)
	}
	crafted := craftedCiphertext(newKey(t), x, y)
	for _, e := range engines() {
		if _, err := e.Decrypt(newKey(t), crafted); !errors.Is(err, ErrDecrypt) {
			t.Errorf("%s: x + p in a ciphertext: %v", e.Name(), err)
		}
	}
	for name, bad := range map[string][]byte{
		"infinity": {0}, "04 alone": {4}, "zeros": append([]byte{4}, make([]byte, 64)...), "hybrid": append([]byte{6}, point[1:]...),
		"compressed": append([]byte{2}, point[1:33]...), "a byte more": append(bytes.Clone(point), 0), "a byte less": point[:64],
	} {
		if p, err := ParsePublicKey(bad); !errors.Is(err, ErrKey) || !p.IsZero() {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

// keyParts are the elements of a private key file, for files that are put
// together wrongly.
type keyParts struct{ version, algorithm, ecVersion, scalar, point []byte }

func partsOf(key *PrivateKey) keyParts {
	curve := append([]byte{0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01}, 0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d)
	return keyParts{der(2, []byte{0}), der(0x30, curve), der(2, []byte{1}), der(4, key.Scalar()),
		der(0xa1, der(3, []byte{0}, key.Public().Bytes()))}
}

func (k keyParts) file(behind ...[]byte) []byte {
	inner := der(4, der(0x30, k.ecVersion, k.scalar, k.point))
	all := append([][]byte{k.version, k.algorithm, inner}, behind...)
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der(0x30, all...)})
}

func TestTrap07MalformedKeyFiles(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	good := partsOf(key)
	if !bytes.Equal(good.file(), MarshalPrivatePEM(key)) {
		t.Fatal("the parts do not make up the file")
	}
	for name, ok := range map[string][]byte{"attributes behind": good.file(der(0xa0)), "no public key": func() []byte { k := good; k.point = nil; return k.file() }()} {
		if got, err := ParsePrivatePEM(ok); err != nil || got.Public() != key.Public() {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The point shifted by half a byte, with four bits of padding: its first digit is
	// 0, so right-aligned it would read as the point.
	digits := make([]byte, PublicKeySize)
	for i, b := range key.Public().Bytes() {
		digits[i] |= b << 4
		if i > 0 {
			digits[i-1] |= b >> 4
		}
	}
	change := func(f func(k *keyParts)) []byte { k := good; f(&k); return k.file() }
	for name, bad := range map[string][]byte{
		"version 1":             change(func(k *keyParts) { k.version = der(2, []byte{1}) }),
		"no version":            change(func(k *keyParts) { k.version = nil }),
		"no algorithm":          change(func(k *keyParts) { k.algorithm = nil }),
		"EC version 0":          change(func(k *keyParts) { k.ecVersion = der(2, []byte{0}) }),
		"scalar of 31 bytes":    change(func(k *keyParts) { k.scalar = der(4, key.Scalar()[1:]) }),
		"scalar of 33 bytes":    change(func(k *keyParts) { k.scalar = der(4, []byte{0}, key.Scalar()) }),
		"no scalar":             change(func(k *keyParts) { k.scalar = nil }),
		"scalar as number":      change(func(k *keyParts) { k.scalar = der(2, key.Scalar()) }),
		"point with padding":    change(func(k *keyParts) { k.point = der(0xa1, der(3, []byte{4}, digits)) }),
		"padding of 8 bits":     change(func(k *keyParts) { k.point = der(0xa1, der(3, []byte{8}, key.Public().Bytes())) }),
		"compressed point":      change(func(k *keyParts) { k.point = der(0xa1, der(3, []byte{0, 2}, key.Public().Bytes()[1:33])) }),
		"two points":            change(func(k *keyParts) { k.point = append(bytes.Clone(k.point), k.point...) }),
		"element behind":        good.file([]byte{5, 0}),
		"number behind":         good.file(der(2, []byte{1})),
		"attributes twice":      good.file(der(0xa0), der(0xa0)),
		"length beyond the end": pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: []byte{0x30, 0x82, 0xff, 0xff, 2, 1, 0}}),
		"empty block":           pem.EncodeToMemory(&pem.Block{Type: pemPrivate}),
		"empty file":            {},
	} {
		if got, err := ParsePrivatePEM(bad); !errors.Is(err, ErrKeyFile) && !errors.Is(err, ErrKey) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	public := func(content ...[]byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der(0x30, content...)})
	}
	bits := der(3, []byte{0}, key.Public().Bytes())
	if got, err := ParsePublicPEM(public(good.algorithm, bits)); err != nil || got != key.Public() {
		t.Fatalf("the public key: %v", err)
	}
	for name, bad := range map[string][]byte{
		"element behind":     public(good.algorithm, bits, []byte{5, 0}),
		"padding":            public(good.algorithm, der(3, []byte{4}, digits)),
		"no bits":            public(good.algorithm, der(3)),
		"no algorithm":       public(bits),
		"parameter missing":  public(der(0x30, good.algorithm[2:11]), bits),
		"parameter too many": public(der(0x30, good.algorithm[2:], []byte{5, 0}), bits),
		"nothing":            public(),
	} {
		if got, err := ParsePublicPEM(bad); !errors.Is(err, ErrKeyFile) && !errors.Is(err, ErrKey) || !got.IsZero() {
			t.Errorf("public, %s: %v", name, err)
		}
	}
}

// TestTrap09EncryptedKeyFiles: both libraries panic on an encrypted PKCS #8 file
// with a wrong padding, and pay any iteration count. Here it is not even parsed.
func TestTrap09EncryptedKeyFiles(t *testing.T) {
	t.Parallel()
	oid := func(b ...byte) []byte { return der(6, b) }
	salt, iterations := der(4, make([]byte, 8)), der(2, []byte{0x7f, 0xff, 0xff, 0xff})
	for name, v := range map[string]struct{ iv, sealed []byte }{
		"whole blocks":     {make([]byte, 16), make([]byte, 160)},
		"broken last":      {make([]byte, 16), make([]byte, 159)},
		"nothing sealed":   {make([]byte, 16), nil},
		"IV of 3 bytes":    {make([]byte, 3), make([]byte, 160)},
		"IV of 4096 bytes": {make([]byte, 4096), make([]byte, 160)},
	} {
		kdf := der(0x30, oid(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12), der(0x30, salt, iterations))
		cipher := der(0x30, oid(0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42), der(4, v.iv))
		pbes2 := der(0x30, oid(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13), der(0x30, kdf, cipher))
		content := der(0x30, pbes2, der(4, v.sealed))
		for _, kind := range []string{pemEncrypted, pemPrivate} {
			file := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
			if _, err := ParsePrivatePEM(file); !errors.Is(err, ErrKeyFile) {
				t.Errorf("%s as %s: %v", name, kind, err)
			}
		}
	}
}

// TestPEMBombs: files made to be slow or large to parse are refused by their
// size, and below it cost little.
func TestPEMBombs(t *testing.T) {
	key := newKey(t)
	good := string(MarshalPublicPEM(key.Public()))
	begin, line := "-----BEGIN PUBLIC KEY-----\n", strings.Repeat("A", 64)+"\n"
	fill := func(s string) string { return strings.Repeat(s, MaxKeyFile/len(s)) }
	for name, bad := range map[string]string{
		"one byte over":          fill("\n") + "\n",
		"a key behind 16 MiB":    strings.Repeat("x", 16<<20) + "\n" + good,
		"one block of 16 MiB":    begin + strings.Repeat(line, 16<<20/65) + "-----END PUBLIC KEY-----\n",
		"100,000 blocks":         strings.Repeat(good, 100_000),
		"only beginnings":        fill(begin),
		"beginnings without end": fill("-----BEGIN "),
		"only ends":              fill("-----END PUBLIC KEY-----\n"),
		"only dashes":            fill("-"),
		"only headers":           begin + strings.Repeat("k: v\n", 10_000) + "\n-----END PUBLIC KEY-----\n",
		"one block of 60 KiB":    begin + strings.Repeat(line, 900) + "-----END PUBLIC KEY-----\n",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := ParsePublicPEM([]byte(bad)); !errors.Is(err, ErrKeyFile) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ParsePrivatePEM([]byte(bad)); !errors.Is(err, ErrKeyFile) {
			t.Errorf("%s, private: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc - 2*uint64(len(bad)); n > 4<<20 && n < 1<<63 {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
	// The first block counts, and text around it is allowed.
	if got, err := ParsePublicPEM([]byte("the key of 民政\n" + good + fill(good)[:MaxKeyFile/2])); err != nil || got != key.Public() {
		t.Errorf("the first of many: %v", err)
	}
}
