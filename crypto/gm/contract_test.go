package gm

import (
	"bytes"
	"hash"
	"math/big"
	"sync"
	"testing"

	esm2 "github.com/emmansun/gmsm/sm2"
	tsm2 "github.com/tjfoc/gmsm/sm2"
	"pgregory.net/rapid"
)

// TestHashKeepsItsContract holds both engines to hash.Hash: any writes give the
// hash of what they join to, Sum appends and changes neither state nor memory that
// is not its own, Reset starts again, and two hashes have nothing in common.
func TestHashKeepsItsContract(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := drawEngine(t, "engine")
		pieces := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 150), 0, 8).Draw(t, "pieces")
		prefix := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "prefix")
		h, other := e.NewHash(), e.NewHash()
		if h.Size() != HashSize || h.BlockSize() != 64 {
			t.Fatalf("size %d, block size %d", h.Size(), h.BlockSize())
		}
		for i, p := range pieces {
			before := bytes.Clone(p)
			if n, err := h.Write(p); n != len(p) || err != nil {
				t.Fatalf("wrote %d of %d: %v", n, len(p), err)
			}
			if !bytes.Equal(p, before) {
				t.Fatal("Write changed its input")
			}
			other.Write([]byte{byte(i)})
			holdSum(t, h, e.Sum(pieces[:i+1]...), prefix)
		}
		h.Reset()
		holdSum(t, h, e.Sum(), prefix)
		h.Write(prefix)
		holdSum(t, h, e.Sum(prefix), prefix)
	})
}

// holdSum calls Sum in the ways there are.
func holdSum(t *rapid.T, h hash.Hash, want Digest, prefix []byte) {
	t.Helper()
	tight := bytes.Clone(prefix)
	if got := h.Sum(tight[:len(tight):len(tight)]); !bytes.Equal(got, append(bytes.Clone(prefix), want[:]...)) {
		t.Fatalf("Sum behind %d bytes is %x", len(prefix), got)
	}
	room := bytes.Repeat([]byte{0xee}, len(prefix)+HashSize+8)
	copy(room, prefix)
	got := h.Sum(room[:len(prefix)])
	if !bytes.Equal(got[len(prefix):], want[:]) || &got[:1][0] != &room[0] {
		t.Fatal("Sum did not append in place")
	}
	if !bytes.Equal(room[:len(prefix)], prefix) || !bytes.Equal(room[len(prefix)+HashSize:], bytes.Repeat([]byte{0xee}, 8)) {
		t.Fatal("Sum wrote beside its place")
	}
	if !bytes.Equal(h.Sum(nil), want[:]) {
		t.Fatal("Sum changed the state")
	}
}

// TestAEADKeepsItsContract: sealing and opening append, work in place, and write
// to nothing else; a nonce of a wrong length panics, as cipher.AEAD says, and never
// seals.
func TestAEADKeepsItsContract(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e Engine) {
		aead, err := e.NewAEAD(bytes.Repeat([]byte{7}, SM4KeySize))
		if err != nil {
			t.Fatal(err)
		}
		if aead.NonceSize() != NonceSize || aead.Overhead() != TagSize {
			t.Fatalf("nonce %d, overhead %d", aead.NonceSize(), aead.Overhead())
		}
		// The library's own GCM writes into what lies behind the nonce.
		memory := bytes.Repeat([]byte{0xff}, 64)
		nonce, aad := memory[:NonceSize], memory[32:40]
		plaintext := bytes.Repeat([]byte("text"), 25)
		sealed := aead.Seal([]byte("head"), nonce, plaintext, aad)
		if !bytes.Equal(memory, bytes.Repeat([]byte{0xff}, 64)) || !bytes.Equal(plaintext, bytes.Repeat([]byte("text"), 25)) {
			t.Error("sealing writes to its inputs")
		}
		if string(sealed[:4]) != "head" || len(sealed) != 4+len(plaintext)+TagSize {
			t.Errorf("sealed to %d bytes", len(sealed))
		}
		inPlace := append(bytes.Clone(plaintext), make([]byte, TagSize)...)[:len(plaintext)]
		if got := aead.Seal(inPlace[:0], nonce, inPlace, aad); !bytes.Equal(got, sealed[4:]) {
			t.Error("sealed in place to other bytes")
		}
		opened, err := aead.Open([]byte("head"), nonce, sealed[4:], aad)
		if err != nil || !bytes.Equal(opened, append([]byte("head"), plaintext...)) {
			t.Errorf("opened to %q: %v", opened, err)
		}
		for n := range TagSize + 1 {
			if got, err := aead.Open(nil, nonce, sealed[4:4+n], aad); err == nil || got != nil {
				t.Errorf("%d bytes open", n)
			}
		}
		for _, n := range []int{0, NonceSize - 1, NonceSize + 1, 16} {
			for name, f := range map[string]func(){
				"seal": func() { aead.Seal(nil, make([]byte, n), plaintext, nil) },
				"open": func() { _, _ = aead.Open(nil, make([]byte, n), sealed[4:], nil) },
			} {
				if !panics(f) {
					t.Errorf("%s with a nonce of %d bytes", name, n)
				}
			}
		}
	})
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

// TestConcurrentUse: one engine and one key serve many goroutines; run with -race
// it also shows that they share no state.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e Engine) {
		key := newKey(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				msg := bytes.Repeat([]byte{byte(i)}, 40+i)
				for range 5 {
					sig, err := e.Sign(key, msg)
					if err != nil || !e.Verify(key.Public(), msg, sig) {
						t.Errorf("sign and verify: %v", err)
					}
					sealed, err := e.Encrypt(key.Public(), msg)
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := e.Decrypt(key, sealed); err != nil || !bytes.Equal(got, msg) {
						t.Errorf("decrypt: %v", err)
					}
					if HMAC(e, msg, msg) != HMAC(Emmansun(), msg, msg) {
						t.Error("another HMAC beside other goroutines")
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestEmptyMessage(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for _, e := range engines() {
		for _, empty := range [][]byte{nil, {}} {
			sig, err := e.Sign(key, empty)
			if err != nil {
				t.Fatalf("%s: %v", e.Name(), err)
			}
			if v := VerifyBoth(Emmansun(), Tjfoc(), key.Public(), nil, sig); v != AgreeValid {
				t.Errorf("%s: verdict %v", e.Name(), v)
			}
			if v := VerifyBoth(Emmansun(), Tjfoc(), key.Public(), []byte{0}, sig); v != AgreeInvalid {
				t.Errorf("%s: of a zero byte: %v", e.Name(), v)
			}
			if _, err := e.Encrypt(key.Public(), empty); err == nil {
				t.Errorf("%s encrypts nothing", e.Name())
			}
		}
		if e.Sum() != e.Sum(nil, []byte{}) {
			t.Errorf("%s: two hashes of nothing", e.Name())
		}
	}
}

// stuck is a random source that always says the same.
type stuck struct{}

func (stuck) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 0x5a
	}
	return len(b), nil
}

// TestNoncesSurviveAStuckSource: with two signatures under one nonce anybody
// computes the key, d = (s1 − s2) / (s2 + r2 − s1 − r1). That works on the bare
// customer's library when its random source is stuck, and not on the engine that signs
// on the hot path.
func TestNoncesSurviveAStuckSource(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	n := tsm2.P256Sm2().Params().N
	keyFrom := func(a, b Signature) []byte {
		r1, s1 := new(big.Int).SetBytes(a[:32]), new(big.Int).SetBytes(a[32:])
		r2, s2 := new(big.Int).SetBytes(b[:32]), new(big.Int).SetBytes(b[32:])
		below := new(big.Int).Add(s2, r2)
		below.Sub(below, s1).Sub(below, r1).Mod(below, n)
		if below.ModInverse(below, n) == nil {
			return nil
		}
		d := new(big.Int).Sub(s1, s2)
		return d.Mul(d, below).Mod(d, n).FillBytes(make([]byte, 32))
	}
	sign := func(f func(msg []byte) Signature) (a, b Signature) { return f([]byte("one")), f([]byte("two")) }
	tjfoc := func(msg []byte) (sig Signature) {
		r, s, err := tsm2.Sm2Sign(key.tjfoc(), msg, []byte(DefaultUID), stuck{})
		if err != nil {
			t.Fatal(err)
		}
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		return sig
	}
	emmansun := func(msg []byte) Signature {
		der, err := key.key.Sign(stuck{}, msg, esm2.DefaultSM2SignerOpts)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := ParseSignature(der)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	if a, b := sign(tjfoc); !bytes.Equal(keyFrom(a, b), key.Scalar()) {
		t.Error("the customer's library survives a stuck source now")
	}
	if a, b := sign(emmansun); bytes.Equal(keyFrom(a, b), key.Scalar()) {
		t.Error("two signatures tell the key")
	}
}
