package gm

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"

	tsm2 "github.com/tjfoc/gmsm/sm2"
	"pgregory.net/rapid"
)

func drawKey(t *rapid.T) *PrivateKey {
	for {
		key, err := NewPrivateKey(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "scalar"))
		if err == nil {
			return key
		}
	}
}

func drawEngine(t *rapid.T, label string) Engine {
	return rapid.SampledFrom(engines()).Draw(t, label)
}

func TestEnginesAgreeOnHashes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 200)).Draw(t, "parts")
		key := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "key")
		a, b := Emmansun(), Tjfoc()
		whole := bytes.Join(parts, nil)
		if a.Sum(parts...) != b.Sum(parts...) || a.Sum(parts...) != a.Sum(whole) {
			t.Fatal("Sum differs")
		}
		for _, e := range engines() {
			h := hmac.New(e.NewHash, key)
			h.Write(whole)
			if got := HMAC(e, key, parts...); !bytes.Equal(got[:], h.Sum(nil)) {
				t.Fatalf("%s: HMAC is not the standard library's", e.Name())
			}
		}
	})
}

func TestEnginesAgreeOnSignatures(t *testing.T) {
	t.Parallel()
	n := tsm2.P256Sm2().Params().N
	rapid.Check(t, func(t *rapid.T) {
		key := drawKey(t)
		msg := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "message")
		sig, err := drawEngine(t, "signer").Sign(key, msg)
		if err != nil {
			t.Fatal(err)
		}
		if v := VerifyBoth(Emmansun(), Tjfoc(), key.Public(), msg, sig); v != AgreeValid {
			t.Fatalf("valid signature: %v", v)
		}
		if again, err := ParseSignature(sig.ASN1()); err != nil || again != sig {
			t.Fatalf("DER: %v", err)
		}
		bad := sig
		switch rapid.SampledFrom([]string{"bit", "r=0", "s=0", "r=n", "s=n", "r+s=n", "swap", "r=e", "r+n"}).Draw(t, "malformed") {
		case "bit":
			bad[rapid.IntRange(0, 63).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		case "r=0":
			clear(bad[:32])
		case "s=0":
			clear(bad[32:])
		case "r=n":
			n.FillBytes(bad[:32])
		case "s=n":
			n.FillBytes(bad[32:])
		case "r+s=n":
			new(big.Int).Sub(n, new(big.Int).SetBytes(bad[:32])).FillBytes(bad[32:])
		case "swap":
			copy(bad[:32], sig[32:])
			copy(bad[32:], sig[:32])
		case "r=e":
			bad = splitSignature(key, msg)
		case "r+n":
			if sum := new(big.Int).Add(n, new(big.Int).SetBytes(bad[:32])); sum.BitLen() <= 256 {
				sum.FillBytes(bad[:32])
			} else {
				bad[0] ^= 1
			}
		}
		if v := VerifyBoth(Emmansun(), Tjfoc(), key.Public(), msg, bad); v != AgreeInvalid {
			t.Fatalf("malformed signature: %v", v)
		}
		if v := VerifyBoth(Emmansun(), Tjfoc(), key.Public(), append(msg, 0), sig); v != AgreeInvalid {
			t.Fatalf("another message: %v", v)
		}
	})
}

func TestEnginesAgreeOnEncryption(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := drawKey(t)
		msg := rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "message")
		sealed, err := drawEngine(t, "sealer").Encrypt(key.Public(), msg)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(sealed)
		bad[rapid.IntRange(0, len(bad)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		for _, e := range engines() {
			if got, err := e.Decrypt(key, sealed); err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("%s: %v", e.Name(), err)
			}
			if got, err := e.Decrypt(key, bad); err == nil || got != nil {
				t.Fatalf("%s decrypts changed bytes", e.Name())
			}
		}
	})
}

func TestEnginesAgreeOnAEAD(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), SM4KeySize, SM4KeySize).Draw(t, "key")
		nonce := rapid.SliceOfN(rapid.Byte(), NonceSize, NonceSize).Draw(t, "nonce")
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "plaintext")
		aad := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "aad")
		var sealed [2][]byte
		for i, e := range engines() {
			aead, err := e.NewAEAD(key)
			if err != nil {
				t.Fatal(err)
			}
			sealed[i] = aead.Seal([]byte("head"), nonce, plaintext, aad)
			got, err := aead.Open(nil, nonce, sealed[i][4:], aad)
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Fatalf("%s: %v", e.Name(), err)
			}
			bad := bytes.Clone(sealed[i][4:])
			bad[rapid.IntRange(0, len(bad)-1).Draw(t, "byte")] ^= 1
			if _, err := aead.Open(nil, nonce, bad, aad); err == nil {
				t.Fatalf("%s opens changed bytes", e.Name())
			}
		}
		if !bytes.Equal(sealed[0], sealed[1]) {
			t.Fatal("the engines seal to different bytes")
		}
	})
	eachEngine(t, func(t *testing.T, e Engine) {
		for _, n := range []int{0, 15, 17, 32} {
			if _, err := e.NewAEAD(make([]byte, n)); err == nil {
				t.Errorf("takes a key of %d bytes", n)
			}
		}
	})
}

// TestPreimageIsUnambiguous: no two (domain, body) pairs with NUL-free domains
// share a preimage.
func TestPreimageIsUnambiguous(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		domain := rapid.StringMatching(`xinqiao/[a-z]{1,8}/v[1-9]`)
		body := rapid.SliceOfN(rapid.Byte(), 0, 8)
		d1, d2 := domain.Draw(t, "domain 1"), domain.Draw(t, "domain 2")
		b1, b2 := body.Draw(t, "body 1"), body.Draw(t, "body 2")
		same := d1 == d2 && bytes.Equal(b1, b2)
		if bytes.Equal(Preimage(d1, b1), Preimage(d2, b2)) != same {
			t.Fatal("two objects share a preimage")
		}
	})
}

// TestSuiteIsSigned: what was signed, committed to or derived under another suite
// or none holds under this one nowhere.
func TestSuiteIsSigned(t *testing.T) {
	t.Parallel()
	const domain = "xinqiao/test/v1"
	key, body := newKey(t), []byte("body")
	this := Preimage(domain, body)
	if !bytes.HasPrefix(this, []byte(Suite+"\x00"+domain+"\x00")) {
		t.Fatalf("the preimage is %q", this)
	}
	for name, other := range map[string][]byte{
		"another suite": append([]byte("SM-2"), this[len(Suite):]...),
		"an empty one":  this[len(Suite):],
		"no suite":      this[len(Suite)+1:],
		"its beginning": append([]byte("SM-"), this[len(Suite):]...),
		"lower case":    append([]byte("sm-1"), this[len(Suite):]...),
	} {
		for _, e := range engines() {
			sig, err := e.Sign(key, other)
			if err != nil {
				t.Fatal(err)
			}
			if v := VerifyBoth(Emmansun(), Tjfoc(), key.Public(), this, sig); v != AgreeInvalid {
				t.Errorf("%s, %s: verdict %v", e.Name(), name, v)
			}
			if e.Sum(other) == Commit(e, domain, nil, body) {
				t.Errorf("%s, %s: the same commitment", e.Name(), name)
			}
		}
	}
}

// TestDerive checks HKDF-SM3 against the vectors of no standard (there is none):
// against RFC 5869's definition, written the other way round.
func TestDerive(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e Engine) {
		secret, salt, info := []byte("secret"), []byte("salt"), "info"
		prk := HMAC(e, salt, secret)
		t1 := HMAC(e, prk[:], []byte("info\x01"))
		t2 := HMAC(e, prk[:], append(append([]byte{}, t1[:]...), "info\x02"...))
		want := append(append([]byte{}, t1[:]...), t2[:]...)
		for _, n := range []int{0, 1, 31, 32, 33, 64} {
			if got := Derive(e, secret, salt, info, n); !bytes.Equal(got, want[:n]) {
				t.Errorf("%d bytes: %s", n, hex.EncodeToString(got))
			}
		}
		defer func() {
			if recover() == nil {
				t.Error("more than HKDF gives is derived")
			}
		}()
		Derive(e, secret, salt, info, 255*HashSize+1)
	})
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	if NoVerdict.Valid() || AgreeInvalid.Valid() || Split.Valid() || !AgreeValid.Valid() {
		t.Error("only AgreeValid accepts")
	}
	key := newKey(t)
	sig, err := Emmansun().Sign(key, []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]Engine{{Emmansun(), rejectsEverything{}}, {rejectsEverything{}, Emmansun()}} {
		if got := VerifyBoth(pair[0], pair[1], key.Public(), []byte("m"), sig); got != Split {
			t.Errorf("verdict %v", got)
		}
	}
}

type rejectsEverything struct{ Engine }

func (rejectsEverything) Verify(PublicKey, []byte, Signature) bool { return false }

func TestPrivateKeyPrintsRedacted(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	d := new(big.Int).SetBytes(key.Scalar())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		got := strings.ToLower(fmt.Sprintf(verb, key))
		if strings.Contains(got, d.Text(10)) || strings.Contains(got, d.Text(16)) {
			t.Errorf("%s prints the key", verb)
		}
	}
}

func TestByName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"": "emmansun", "auto": "emmansun", "tjfoc": "tjfoc"} {
		engine, second, err := ByName(name)
		if err != nil || engine.Name() != want || second.Name() == want {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, _, err := ByName("emmansun"); err == nil {
		t.Error("an unknown name is accepted")
	}
}
