package gm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"math/big"
	"sync"
	"testing"

	esm2 "github.com/emmansun/gmsm/sm2"
	tsm2 "github.com/tjfoc/gmsm/sm2"
	tsm3 "github.com/tjfoc/gmsm/sm3"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The tests here are numbered as the table of traps in crypto/DESIGN.md. Where
// it is cheap they first show the trap in the bare library, so that a test which
// cannot fail would be noticed. Traps 10, 11, 12 and 14 are tested in crypto/cert
// and crypto/channel, 15 in ledger, 16 in crypto/keyring.

func newKey(t testing.TB) *PrivateKey {
	t.Helper()
	k, err := GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTrap01SharedSM4Block(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e Engine) {
		aead, err := e.NewAEAD(bytes.Repeat([]byte{7}, SM4KeySize))
		if err != nil {
			t.Fatal(err)
		}
		nonce := func(i int) []byte { return append(make([]byte, NonceSize-1), byte(i)) }
		var want [8][]byte
		for i := range want {
			want[i] = aead.Seal(nil, nonce(i), bytes.Repeat([]byte{byte(i)}, 100+i), nil)
		}
		var wg sync.WaitGroup
		for i := range want {
			wg.Go(func() {
				plaintext := bytes.Repeat([]byte{byte(i)}, 100+i)
				for range 100 {
					if !bytes.Equal(aead.Seal(nil, nonce(i), plaintext, nil), want[i]) {
						t.Error("sealed to other bytes beside another goroutine")
						return
					}
					if got, err := aead.Open(nil, nonce(i), want[i], nil); err != nil || !bytes.Equal(got, plaintext) {
						t.Errorf("does not open beside another goroutine: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestTrap03SumPrefix(t *testing.T) {
	t.Parallel()
	bare := tsm3.New()
	bare.Write([]byte("abc"))
	if bytes.HasPrefix(bare.Sum([]byte("prefix")), []byte("prefix")) {
		t.Error("the library keeps the contract now: the wrap can go")
	}
	eachEngine(t, func(t *testing.T, e Engine) {
		h := e.NewHash()
		h.Write([]byte("ab"))
		first := e.Sum([]byte("ab"))
		buffer := append(make([]byte, 0, 64), "prefix"...)
		if got := h.Sum(buffer); !bytes.Equal(got, append([]byte("prefix"), first[:]...)) {
			t.Errorf("Sum(prefix) = %x", got)
		}
		h.Write([]byte("c"))
		both := e.Sum([]byte("abc"))
		if got := h.Sum(nil); !bytes.Equal(got, both[:]) {
			t.Error("Sum changed the state")
		}
		h.Reset()
		h.Write([]byte("ab"))
		if got := h.Sum(nil); !bytes.Equal(got, first[:]) {
			t.Error("Reset does not start again")
		}
		if h.Size() != HashSize || h.BlockSize() != 64 {
			t.Errorf("size %d, block size %d", h.Size(), h.BlockSize())
		}
	})
}

// ciphertext builds the ASN.1 form from any numbers.
func ciphertext(x, y *big.Int, c3, c2 []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(x)
		b.AddASN1BigInt(y)
		b.AddASN1OctetString(c3)
		b.AddASN1OctetString(c2)
	})
	return b.BytesOrPanic()
}

// craftedCiphertext is what an attacker sends who guesses a multiple of a point
// that is not on the curve: its hash fits, so only a point check refuses it.
func craftedCiphertext(key *PrivateKey, x, y *big.Int) []byte {
	msg := []byte("guess")
	//lint:ignore SA1019 the attack needs the raw, unchecked multiplication
	x2, y2 := tsm2.P256Sm2().ScalarMult(x, y, key.Scalar())
	a, b := x2.FillBytes(make([]byte, 32)), y2.FillBytes(make([]byte, 32))
	mask := Emmansun().Sum(a, b, []byte{0, 0, 0, 1})
	c3 := Emmansun().Sum(a, msg, b)
	for i := range msg {
		msg[i] ^= mask[i]
	}
	return ciphertext(x, y, c3[:], msg)
}

func TestTrap04InvalidPoint(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	crafted := craftedCiphertext(key, big.NewInt(1), big.NewInt(1))
	if got, err := tsm2.DecryptAsn1(key.tjfoc(), crafted); err != nil || string(got) != "guess" {
		t.Errorf("the library refuses the crafted point now: %q, %v", got, err)
	}
	x, y := key.Public().xy()
	honest := craftedCiphertext(key, x, y)
	for _, e := range engines() {
		if got, err := e.Decrypt(key, crafted); !errors.Is(err, ErrDecrypt) || got != nil {
			t.Errorf("%s answers the attacker's guess: %q, %v", e.Name(), got, err)
		}
		if got, err := e.Decrypt(key, honest); err != nil || string(got) != "guess" {
			t.Errorf("%s refuses the same with a point on the curve: %v", e.Name(), err)
		}
	}
}

func TestTrap04Decrypt(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	one, p := big.NewInt(1), tsm2.P256Sm2().Params().P
	x, y := key.Public().xy()
	c3, c2 := make([]byte, 32), make([]byte, 16)
	offCurve := ciphertext(one, one, c3, c2)
	if leak, err := tsm2.DecryptAsn1(key.tjfoc(), offCurve); err == nil || len(leak) == 0 {
		t.Error("the library returns no plaintext beside its error now")
	}
	valid, err := Emmansun().Encrypt(key.Public(), []byte("content key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"nothing":               nil,
		"one byte":              {0x30},
		"off the curve":         offCurve,
		"zero point":            ciphertext(new(big.Int), new(big.Int), c3, c2),
		"x is p":                ciphertext(p, y, c3, c2),
		"x over p":              ciphertext(new(big.Int).Add(x, p), y, c3, c2),
		"x negative":            ciphertext(new(big.Int).Neg(x), y, c3, c2),
		"x of 257 bits":         ciphertext(new(big.Int).Lsh(one, 256), y, c3, c2),
		"C3 short":              ciphertext(x, y, c3[:31], c2),
		"C3 wrong":              ciphertext(x, y, c3, c2),
		"C2 empty":              ciphertext(x, y, c3, nil),
		"C2 over the limit":     ciphertext(x, y, c3, make([]byte, maxPlaintext+1)),
		"cut":                   valid[:len(valid)-1],
		"trailing byte":         append(bytes.Clone(valid), 0),
		"raw form":              append([]byte{4}, make([]byte, 112)...),
		"raw form, too short":   {4, 1, 2, 3},
		"last byte of C2 wrong": append(bytes.Clone(valid[:len(valid)-1]), valid[len(valid)-1]^1),
	} {
		for _, e := range engines() {
			if got, err := e.Decrypt(key, bad); !errors.Is(err, ErrDecrypt) || got != nil {
				t.Errorf("%s, %s: got %x, %v", e.Name(), name, got, err)
			}
		}
	}
}

func TestTrap05EncryptToNobody(t *testing.T) {
	t.Parallel()
	public := newKey(t).Public()
	eachEngine(t, func(t *testing.T, e Engine) {
		if _, err := e.Encrypt(public, nil); err == nil {
			t.Error("encrypts an empty message")
		}
		if _, err := e.Encrypt(public, make([]byte, maxPlaintext+1)); err == nil {
			t.Error("encrypts over the limit")
		}
		if _, err := e.Encrypt(PublicKey{}, []byte("x")); !errors.Is(err, ErrKey) {
			t.Errorf("encrypts to the zero key: %v", err)
		}
		if e.Verify(PublicKey{}, []byte("x"), Signature{1}) {
			t.Error("the zero key verifies")
		}
	})
	bad := public.Bytes()
	bad[64] ^= 1
	if _, err := ParsePublicKey(bad); !errors.Is(err, ErrKey) {
		t.Errorf("a point off the curve is a key: %v", err)
	}
}

// splitSignature is what the owner of a key can make so that tjfoc accepts it
// and nobody else does: r = e, s = e·d/(1−d), so that both points are the same.
func splitSignature(key *PrivateKey, msg []byte) Signature {
	n := tsm2.P256Sm2().Params().N
	za, err := tsm2.ZA(key.Public().Tjfoc(), []byte(DefaultUID))
	if err != nil {
		panic(err)
	}
	digest := Tjfoc().Sum(za, msg)
	d := new(big.Int).SetBytes(key.Scalar())
	r := new(big.Int).SetBytes(digest[:])
	r.Mod(r, n)
	s := new(big.Int).Sub(big.NewInt(1), d)
	s.ModInverse(s.Mod(s, n), n)
	s.Mul(s, d).Mul(s, r).Mod(s, n)
	var sig Signature
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig
}

// bareTjfoc verifies without the wrap.
type bareTjfoc struct{ Engine }

func (bareTjfoc) Verify(key PublicKey, msg []byte, sig Signature) bool {
	return key.Tjfoc().Verify(msg, sig.ASN1())
}

func TestTrap06SplitVerdict(t *testing.T) {
	t.Parallel()
	key, msg := newKey(t), []byte("an approval that a court would reject")
	sig := splitSignature(key, msg)
	if got := VerifyBoth(Emmansun(), bareTjfoc{Tjfoc()}, key.Public(), msg, sig); got != Split {
		t.Errorf("the bare library no longer splits: %v", got)
	}
	if got := VerifyBoth(Emmansun(), Tjfoc(), key.Public(), msg, sig); got != AgreeInvalid {
		t.Errorf("verdict %v", got)
	}
}

func TestTrap06SignatureHasOneForm(t *testing.T) {
	t.Parallel()
	key, msg := newKey(t), []byte("one form")
	sig, err := Emmansun().Sign(key, msg)
	if err != nil {
		t.Fatal(err)
	}
	der := sig.ASN1()
	if !key.Public().Tjfoc().Verify(msg, append(bytes.Clone(der), 0)) {
		t.Error("the library refuses trailing bytes now")
	}
	if got, err := ParseSignature(der); err != nil || got != sig {
		t.Fatalf("its own form is refused: %v", err)
	}
	seq := func(f func(b *cryptobyte.Builder)) []byte {
		var b cryptobyte.Builder
		b.AddASN1(asn1.SEQUENCE, f)
		return b.BytesOrPanic()
	}
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	for name, bad := range map[string][]byte{
		"nothing":       nil,
		"trailing byte": append(bytes.Clone(der), 0),
		"cut":           der[:len(der)-1],
		"third number": seq(func(b *cryptobyte.Builder) {
			b.AddASN1BigInt(r)
			b.AddASN1BigInt(s)
			b.AddASN1Int64(1)
		}),
		"padded number": seq(func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(append([]byte{0, 0}, sig[:32]...)) })
			b.AddASN1BigInt(s)
		}),
		"negative": seq(func(b *cryptobyte.Builder) { b.AddASN1BigInt(new(big.Int).Neg(r)); b.AddASN1BigInt(s) }),
		"zero":     seq(func(b *cryptobyte.Builder) { b.AddASN1Int64(0); b.AddASN1BigInt(s) }),
		"257 bits": seq(func(b *cryptobyte.Builder) {
			b.AddASN1BigInt(new(big.Int).Lsh(big.NewInt(1), 256))
			b.AddASN1BigInt(s)
		}),
	} {
		if _, err := ParseSignature(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTrap07KeysOutOfRange(t *testing.T) {
	t.Parallel()
	n := tsm2.P256Sm2().Params().N
	scalar := func(v *big.Int) []byte { return v.FillBytes(make([]byte, 32)) }
	plus := func(i int64) []byte { return scalar(new(big.Int).Add(n, big.NewInt(i))) }
	for name, bad := range map[string][]byte{
		"0": make([]byte, 32), "n-1": plus(-1), "n": plus(0), "n+1": plus(1),
		"all ones": bytes.Repeat([]byte{255}, 32), "31 bytes": make([]byte, 31), "33 bytes": append(plus(-2), 0), "none": nil,
	} {
		if _, err := NewPrivateKey(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, good := range map[string][]byte{"1": scalar(big.NewInt(1)), "n-2": plus(-2)} {
		key, err := NewPrivateKey(good)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, e := range engines() {
			sig, err := e.Sign(key, []byte("edge"))
			if err != nil || VerifyBoth(Emmansun(), Tjfoc(), key.Public(), []byte("edge"), sig) != AgreeValid {
				t.Errorf("%s, %s: %v", e.Name(), name, err)
			}
		}
	}
	for name, bad := range map[string]any{
		"nil":           nil,
		"nil pointer":   (*tsm2.PublicKey)(nil),
		"no point":      &tsm2.PublicKey{Curve: tsm2.P256Sm2()},
		"off the curve": &tsm2.PublicKey{Curve: tsm2.P256Sm2(), X: big.NewInt(1), Y: big.NewInt(1)},
		"negative":      &tsm2.PublicKey{Curve: tsm2.P256Sm2(), X: big.NewInt(-1), Y: big.NewInt(1)},
		"oversize":      &tsm2.PublicKey{Curve: tsm2.P256Sm2(), X: new(big.Int).Lsh(n, 9), Y: big.NewInt(1)},
		//lint:ignore SA1019 the standard library's raw points are what must be refused
		"NIST P-256": &ecdsa.PublicKey{Curve: elliptic.P256(), X: elliptic.P256().Params().Gx, Y: elliptic.P256().Params().Gy},
		//lint:ignore SA1019 the standard library's raw points are what must be refused
		"no curve":       &ecdsa.PublicKey{X: big.NewInt(1), Y: big.NewInt(1)},
		"not a key":      "key",
		"uncompressed":   newKey(t).Public().Bytes(),
		"private tjfoc":  newKey(t).tjfoc(),
		"value of a key": *newKey(t).Public().Tjfoc(),
	} {
		if _, err := PublicKeyOf(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	public := newKey(t).Public()
	for _, good := range []any{public.Tjfoc(), public.emmansun()} {
		if got, err := PublicKeyOf(good); err != nil || got != public {
			t.Errorf("%T: %v", good, err)
		}
	}
}

func TestTrap07KeyFiles(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	file := MarshalPrivatePEM(key)
	got, err := ParsePrivatePEM(file)
	if err != nil || got.Public() != key.Public() || !bytes.Equal(got.Scalar(), key.Scalar()) {
		t.Fatalf("its own key file: %v", err)
	}
	public, err := ParsePublicPEM(MarshalPublicPEM(key.Public()))
	if err != nil || public != key.Public() {
		t.Fatalf("its own public key file: %v", err)
	}
	change := func(file []byte, from, to []byte) []byte {
		block, _ := pem.Decode(file)
		if !bytes.Contains(block.Bytes, from) {
			t.Fatalf("the file does not contain %x", from)
		}
		return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: bytes.Replace(block.Bytes, from, to, 1)})
	}
	sm2OID := []byte{0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d}
	p256OID := []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	other := newKey(t)
	block, _ := pem.Decode(file)
	for name, bad := range map[string][]byte{
		"not PEM":            []byte("key"),
		"a public key":       MarshalPublicPEM(key.Public()),
		"encrypted":          pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: block.Bytes}),
		"NIST curve":         change(file, sm2OID, p256OID),
		"scalar 0":           change(file, key.Scalar(), make([]byte, 32)),
		"another public key": change(file, key.Public().Bytes(), other.Public().Bytes()),
		"another scalar":     change(file, key.Scalar(), other.Scalar()),
		"trailing byte":      pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: append(bytes.Clone(block.Bytes), 0)}),
		"cut":                pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: block.Bytes[:len(block.Bytes)-4]}),
	} {
		if _, err := ParsePrivatePEM(bad); !errors.Is(err, ErrKeyFile) && !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	off := key.Public().Bytes()
	off[64] ^= 1
	for name, bad := range map[string][]byte{
		"a private key": file,
		"NIST curve":    change(MarshalPublicPEM(key.Public()), sm2OID, p256OID),
		"off the curve": change(MarshalPublicPEM(key.Public()), key.Public().Bytes(), off),
		"compressed":    change(MarshalPublicPEM(key.Public()), key.Public().Bytes()[:1], []byte{2}),
	} {
		if _, err := ParsePublicPEM(bad); !errors.Is(err, ErrKeyFile) && !errors.Is(err, ErrKey) {
			t.Errorf("public, %s: %v", name, err)
		}
	}
}

// TestTrap13CraftedPoint plays gmtls: it hands the raw form of a
// ClientKeyExchange to the decrypter.
func TestTrap13CraftedPoint(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	premaster := bytes.Repeat([]byte{3}, 48)
	raw, err := tsm2.Encrypt(key.Public().Tjfoc(), premaster, rand.Reader, tsm2.C1C3C2)
	if err != nil {
		t.Fatal(err)
	}
	eachEngine(t, func(t *testing.T, e Engine) {
		d := NewDecrypter(e, key)
		if got, err := d.Decrypt(nil, raw, nil); err != nil || !bytes.Equal(got, premaster) {
			t.Fatalf("an honest key exchange fails: %v", err)
		}
		if _, ok := d.Public().(*tsm2.PublicKey); !ok {
			t.Errorf("Public is a %T", d.Public())
		}
		for i := range raw {
			bad := bytes.Clone(raw)
			bad[i] ^= 0x10
			if got, err := d.Decrypt(nil, bad, nil); !errors.Is(err, ErrDecrypt) || got != nil {
				t.Fatalf("byte %d changed: got %x, %v", i, got, err)
			}
		}
		for n := range len(raw) {
			if got, err := d.Decrypt(nil, raw[:n], nil); !errors.Is(err, ErrDecrypt) || got != nil {
				t.Fatalf("cut to %d bytes: got %x, %v", n, got, err)
			}
		}
	})
}

func TestTLSSignerRefusesSignedObjects(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	eachEngine(t, func(t *testing.T, e Engine) {
		s := NewSigner(e, key)
		if _, err := s.Sign(rand.Reader, Preimage("xinqiao/frame/v1", []byte("body")), nil); err == nil {
			t.Error("a handshake signs an object")
		}
		der, err := s.Sign(rand.Reader, []byte("to be signed"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Public().(*tsm2.PublicKey).Verify([]byte("to be signed"), der) {
			t.Error("tjfoc does not accept the signature")
		}
	})
}

// TestTrap17ShortMessages: of a message of one byte the key stream is all zeros
// once in 256 times. First the library alone, then both engines.
func TestTrap17ShortMessages(t *testing.T) {
	t.Parallel()
	key, lost := newKey(t), 0
	for range 2000 {
		sealed, err := esm2.EncryptASN1(rand.Reader, key.Public().emmansun(), []byte{7})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Emmansun().Decrypt(key, sealed); err != nil {
			lost++
		}
	}
	if lost == 0 {
		t.Error("the library does it right now: encrypt short messages with it again")
	}
	for e, times := range map[Engine]int{Emmansun(): 600, Tjfoc(): 300} {
		for i := range times {
			msg := []byte{byte(i)}
			sealed, err := e.Encrypt(key.Public(), msg)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Emmansun().Decrypt(key, sealed); err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("%s, message %d: %v", e.Name(), i, err)
			}
		}
	}
}
