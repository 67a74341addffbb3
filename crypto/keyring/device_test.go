package keyring

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"xinqiao/crypto/gm"
)

// card behaves as a cryptographic device behind GM/T 0018 does, function by
// function: keys under an index, masters as blobs wrapped by the card's KEK and
// used through handles, signatures over e, ciphertexts in fields. What a function
// cannot do there it cannot do here.
type card struct {
	mu      sync.Mutex
	pairs   map[int]struct{ sign, enc *gm.PrivateKey } // by index
	kek     [gm.SM4KeySize]byte
	handles map[int][]byte // session keys
}

type eccCipher struct {
	x, y [64]byte
	m    [32]byte
	c    []byte
}

func fixed(v []byte) (f [64]byte) { copy(f[64-len(v):], v); return f }

func (c *card) exportSignPublicKeyECC(index int) (x, y [64]byte, ok bool) {
	p, ok := c.pairs[index]
	if !ok {
		return x, y, false
	}
	b := p.sign.Public().Bytes()
	return fixed(b[1:33]), fixed(b[33:]), true
}

func (c *card) exportEncPublicKeyECC(index int) (x, y [64]byte, ok bool) {
	p, ok := c.pairs[index]
	if !ok {
		return x, y, false
	}
	b := p.enc.Public().Bytes()
	return fixed(b[1:33]), fixed(b[33:]), true
}

// hashInit..Final with a public key and an id: e of GB/T 32918.2.
func (c *card) hash(pub gm.PublicKey, id string, msg []byte) gm.Digest {
	p := pub.Tjfoc().Params()
	a := new(big.Int).Sub(p.P, big.NewInt(3))
	za := gm.Emmansun().Sum([]byte{byte(len(id) * 8 >> 8), byte(len(id) * 8)}, []byte(id), a.FillBytes(make([]byte, 32)),
		p.B.FillBytes(make([]byte, 32)), p.Gx.FillBytes(make([]byte, 32)), p.Gy.FillBytes(make([]byte, 32)), pub.Bytes()[1:])
	return gm.Emmansun().Sum(za[:], msg)
}

// internalSignECC signs e, which is all that it sees.
func (c *card) internalSignECC(index int, e gm.Digest) (r, s [64]byte, err error) {
	key, ok := c.pairs[index]
	if !ok {
		return r, s, errors.New("SDR_KEYNOTEXIST")
	}
	var curve elliptic.Curve = key.sign.Public().Tjfoc().Curve
	n, d := curve.Params().N, new(big.Int).SetBytes(key.sign.Scalar())
	for {
		k, err := rand.Int(rand.Reader, n)
		if err != nil {
			return r, s, err
		}
		//lint:ignore SA1019 a textbook signature, to be independent of the engines
		x, _ := curve.ScalarBaseMult(k.Bytes())
		R := new(big.Int).Mod(new(big.Int).Add(new(big.Int).SetBytes(e[:]), x), n)
		if R.Sign() == 0 || new(big.Int).Add(R, k).Cmp(n) == 0 {
			continue
		}
		S := new(big.Int).ModInverse(new(big.Int).Add(d, big.NewInt(1)), n)
		S.Mul(S, new(big.Int).Sub(k, new(big.Int).Mul(R, d))).Mod(S, n)
		if S.Sign() != 0 {
			return fixed(R.Bytes()), fixed(S.Bytes()), nil
		}
	}
}

// internalDecryptECC is no function of the standard; vendors add it.
func (c *card) internalDecryptECC(index int, in eccCipher) ([]byte, error) {
	key, ok := c.pairs[index]
	if !ok {
		return nil, errors.New("SDR_KEYNOTEXIST")
	}
	der, err := asn1.Marshal(struct {
		X, Y *big.Int
		M, C []byte
	}{new(big.Int).SetBytes(in.x[:]), new(big.Int).SetBytes(in.y[:]), in.m[:], in.c})
	if err != nil {
		return nil, err
	}
	out, err := gm.Emmansun().Decrypt(key.enc, der)
	if err != nil {
		return nil, errors.New("SDR_ENCDATAERR")
	}
	return out, nil
}

// wrapped is what SDF_GenerateKeyWithKEK gives to keep outside.
func (c *card) wrapped(t testing.TB, master []byte) []byte {
	t.Helper()
	aead, err := gm.Emmansun().NewAEAD(c.kek[:])
	if err != nil {
		t.Fatal(err)
	}
	return aead.Seal(nil, make([]byte, gm.NonceSize), master, nil)
}

func (c *card) importKeyWithKEK(blob []byte) (handle int, err error) {
	aead, err := gm.Emmansun().NewAEAD(c.kek[:])
	if err != nil {
		return 0, err
	}
	key, err := aead.Open(nil, make([]byte, gm.NonceSize), blob, nil)
	if err != nil {
		return 0, errors.New("SDR_KEYERR")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handles[len(c.handles)] = key
	return len(c.handles) - 1, nil
}

// hmac is SDF_HMACInit, Update and Final.
func (c *card) hmac(handle int, data []byte) (gm.Digest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key, ok := c.handles[handle]
	if !ok {
		return gm.Digest{}, errors.New("SDR_KEYNOTEXIST")
	}
	return gm.HMAC(gm.Emmansun(), key, data), nil
}

// cardDevice is a Device over a card. It is what a real one would be, with the
// calls into the vendor's library in the place of the methods of card.
type cardDevice struct {
	card *card
	list []Key
	at   map[ID]int // index, or handle of a master
}

func cardPoint(x, y [64]byte) (gm.PublicKey, error) {
	return gm.ParsePublicKey(slices.Concat([]byte{4}, x[32:], y[32:]))
}

// openCard finds the keys of some indices, and imports masters.
func openCard(c *card, indices []int, masters []struct {
	kind Kind
	from string
	blob []byte
}) (*cardDevice, error) {
	d := &cardDevice{card: c, at: map[ID]int{}}
	add := func(k Key, at int) { d.list, d.at[k.ID] = append(d.list, k), at }
	for _, i := range indices {
		x, y, ok := c.exportSignPublicKeyECC(i)
		ex, ey, okEnc := c.exportEncPublicKeyECC(i)
		sign, err := cardPoint(x, y)
		enc, encErr := cardPoint(ex, ey)
		if !ok || !okEnc || err != nil || encErr != nil {
			return nil, fmt.Errorf("no keys under index %d", i)
		}
		add(Key{ID: publicID(gm.Emmansun(), KindSign, sign), Kind: KindSign, Public: sign}, i)
		add(Key{ID: publicID(gm.Emmansun(), KindEnc, enc), Kind: KindEnc, Public: enc}, i)
	}
	for _, m := range masters {
		handle, err := c.importKeyWithKEK(m.blob)
		if err != nil {
			return nil, err
		}
		id, err := c.hmac(handle, gm.Preimage(idDomain, []byte{byte(m.kind)}))
		if err != nil {
			return nil, err
		}
		add(Key{ID: ID(id[:16]), Kind: m.kind, From: m.from}, handle)
	}
	return d, nil
}

func (d *cardDevice) Keys() ([]Key, error) { return slices.Clone(d.list), nil }

func (d *cardDevice) find(id ID) (Key, int, error) {
	at, ok := d.at[id]
	if !ok {
		return Key{}, 0, ErrNoKey
	}
	i := slices.IndexFunc(d.list, func(k Key) bool { return k.ID == id })
	return d.list[i], at, nil
}

func (d *cardDevice) Sign(id ID, use Use, msg []byte) (sig gm.Signature, err error) {
	key, index, err := d.find(id)
	if err == nil {
		err = CheckSign(key, use, msg)
	}
	if err == nil && key.Kind != KindSign { // SDF_InternalSign_ECC has the signing pair only
		err = ErrRefused
	}
	if err != nil {
		return sig, err
	}
	r, s, err := d.card.internalSignECC(index, d.card.hash(key.Public, gm.DefaultUID, msg))
	copy(sig[:32], r[32:])
	copy(sig[32:], s[32:])
	return sig, err
}

func (d *cardDevice) Decrypt(id ID, ciphertext []byte) ([]byte, error) {
	key, index, err := d.find(id)
	if err != nil {
		return nil, err
	}
	if key.Kind != KindEnc {
		return nil, ErrRefused
	}
	var in struct {
		X, Y *big.Int
		M, C []byte
	}
	if rest, err := asn1.Unmarshal(ciphertext, &in); err != nil || len(rest) > 0 || len(in.M) != 32 || in.X.Sign() < 0 || in.Y.Sign() < 0 ||
		in.X.BitLen() > 256 || in.Y.BitLen() > 256 {
		return nil, gm.ErrDecrypt
	}
	out, err := d.card.internalDecryptECC(index, eccCipher{fixed(in.X.Bytes()), fixed(in.Y.Bytes()), [32]byte(in.M), in.C})
	if err != nil {
		return nil, gm.ErrDecrypt
	}
	return out, nil
}

func (d *cardDevice) MAC(id ID, input []byte) (gm.Digest, error) {
	key, handle, err := d.find(id)
	if err == nil {
		err = CheckMAC(key, input)
	}
	if err != nil {
		return gm.Digest{}, err
	}
	return d.card.hmac(handle, input)
}

// cardOf puts the keys of a software keyring on a card.
func cardOf(t testing.TB, k *Keyring) *cardDevice {
	t.Helper()
	c := &card{pairs: map[int]struct{ sign, enc *gm.PrivateKey }{}, handles: map[int][]byte{}}
	if _, err := rand.Read(c.kek[:]); err != nil {
		t.Fatal(err)
	}
	var signs, encs []*gm.PrivateKey
	var masters []struct {
		kind Kind
		from string
		blob []byte
	}
	for _, key := range soft(t, k) {
		switch key.Kind {
		case KindSign:
			signs = append(signs, key.pair)
		case KindEnc:
			encs = append(encs, key.pair)
		default:
			masters = append(masters, struct {
				kind Kind
				from string
				blob []byte
			}{key.Kind, key.From, c.wrapped(t, key.master[:])})
		}
	}
	var indices []int
	for i := range signs {
		c.pairs[i+1] = struct{ sign, enc *gm.PrivateKey }{signs[i], encs[i]}
		indices = append(indices, i+1)
	}
	d, err := openCard(c, indices, masters)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// serveAgent serves k at a socket until the test, or stop, ends it.
func serveAgent(t testing.TB, k *Keyring, log *slog.Logger, path string) (a *Agent, stop func()) {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a = NewAgent(k, log)
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return a, stop
}

// socketPath returns a path that is short enough for a socket.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "xq-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "agent.sock")
}

func dialed(t testing.TB, path string) *Keyring {
	t.Helper()
	d, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	k, err := New(gm.Emmansun(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestEveryDevice holds the software store, an agent in front of it and a device
// behind SDF to one contract, with the same keys on all three: what one signs,
// seals and tags is what another does.
func TestEveryDevice(t *testing.T) {
	t.Parallel()
	k, _ := create(t)
	must[gm.PublicKey](t)(k.AddSign(noon()))
	must[gm.PublicKey](t)(k.AddEnc(noon()))
	if err := errors.Join(k.AddTag("2026-12", noon()), k.AddLocal(noon())); err != nil {
		t.Fatal(err)
	}
	path := socketPath(t)
	serveAgent(t, k, quiet(), path)
	onCard := must[*Keyring](t)(New(gm.Emmansun(), cardOf(t, k)))
	for name, got := range map[string]*Keyring{"software": k, "agent": dialed(t, path), "card": onCard} {
		t.Run(name, func(t *testing.T) { testDevice(t, got, k) })
	}
}

func testDevice(t *testing.T, k, reference *Keyring) {
	for _, pub := range reference.SignKeys() {
		h, ok := k.SignerOf(pub)
		if !ok {
			t.Fatalf("it does not hold %s", pub)
		}
		for _, body := range [][]byte{nil, []byte("body"), make([]byte, 100<<10)} {
			sig, err := h.Sign("xinqiao/frame/v1", body)
			if err != nil || gm.VerifyBoth(gm.Emmansun(), gm.Tjfoc(), pub, gm.Preimage("xinqiao/frame/v1", body), sig) != gm.AgreeValid {
				t.Errorf("signature of %d bytes: %v", len(body), err)
			}
		}
		der, err := h.TLSSigner().Sign(nil, []byte("handshake"), nil)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := gm.ParseSignature(der)
		if err != nil || !gm.Tjfoc().Verify(pub, []byte("handshake"), sig) {
			t.Errorf("handshake: %v", err)
		}
	}
	for _, pub := range reference.EncKeys() {
		h, ok := k.DecrypterOf(pub)
		if !ok {
			t.Fatalf("it does not hold %s", pub)
		}
		sealed := must[[]byte](t)(gm.Tjfoc().Encrypt(pub, []byte("content key")))
		if got, err := h.Unwrap(sealed); err != nil || string(got) != "content key" {
			t.Errorf("unwrap: %q, %v", got, err)
		}
		sealed[len(sealed)-1] ^= 1
		for _, bad := range [][]byte{nil, {0x30}, sealed, make([]byte, MaxMessage+1)} {
			if got, err := h.Unwrap(bad); !errors.Is(err, gm.ErrDecrypt) || got != nil {
				t.Errorf("unwrap %d bad bytes: %v", len(bad), err)
			}
		}
	}
	for _, epoch := range []string{"2026-11", "2026-12 denied"} {
		if tagOf(t, k, epoch, "x") != tagOf(t, reference, epoch, "x") {
			t.Errorf("epoch %q: another tag than the software gives", epoch)
		}
	}
	if nameOf(t, k, "p", []byte("x")) != nameOf(t, reference, "p", []byte("x")) {
		t.Error("another local tag than the software gives")
	}
	sealed := must[[]byte](t)(k.SealLocal("p", []byte("aad"), []byte("plain")))
	if got, err := reference.OpenLocal("p", []byte("aad"), sealed); err != nil || string(got) != "plain" {
		t.Errorf("what it seals does not open: %q, %v", got, err)
	}
	testRefusals(t, k)
}

// testRefusals puts to a device what no caller of a Keyring can, as a process
// that was taken over would.
func testRefusals(t *testing.T, k *Keyring) {
	object, empty := gm.Preimage("xinqiao/frame/v1", []byte("body")), gm.Preimage("", []byte("body"))
	byKind := map[Kind]ID{}
	for _, key := range k.Keys() {
		byKind[key.Kind] = key.ID
	}
	for name, c := range map[string]struct {
		kind Kind
		use  Use
		msg  []byte
	}{
		"an object without a domain":     {KindSign, UseObject, empty},
		"what is no object":              {KindSign, UseObject, []byte("free text")},
		"a preimage that ends early":     {KindSign, UseObject, []byte("SM-1\x00domain")},
		"an object in a handshake":       {KindSign, UseHandshake, object},
		"an empty domain in a handshake": {KindSign, UseHandshake, empty},
		"a request with a signing key":   {KindSign, UseRequest, []byte("x")},
		"a use that is none":             {KindSign, 0, object},
		"an object, encryption key":      {KindEnc, UseObject, object},
		"a handshake, encryption key":    {KindEnc, UseHandshake, []byte("x")},
		"no request, encryption key":     {KindEnc, UseRequest, object},
		"an object, master":              {KindTag, UseObject, object},
		"endless":                        {KindSign, UseObject, append(bytes.Clone(object), make([]byte, MaxMessage)...)},
	} {
		if sig, err := k.device.Sign(byKind[c.kind], c.use, c.msg); !errors.Is(err, ErrRefused) || sig != (gm.Signature{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		kind  Kind
		input []byte
	}{
		"a free input":        {KindTag, []byte("x")},
		"another's domain":    {KindTag, macInput(KindLocal, []byte("x"))},
		"the id's domain":     {KindLocal, gm.Preimage(idDomain, []byte{byte(KindLocal)})},
		"under a signing key": {KindSign, macInput(KindTag, []byte("x"))},
		"endless":             {KindName, macInput(KindName, make([]byte, MaxMessage))},
	} {
		if d, err := k.device.MAC(byKind[c.kind], c.input); !errors.Is(err, ErrRefused) || d != (gm.Digest{}) {
			t.Errorf("mac of %s: %v", name, err)
		}
	}
	if _, err := k.device.Decrypt(byKind[KindSign], nil); !errors.Is(err, ErrRefused) {
		t.Errorf("a signing key decrypts: %v", err)
	}
	_, errSign := k.device.Sign(ID{1}, UseObject, object)
	_, errDecrypt := k.device.Decrypt(ID{1}, nil)
	_, errMAC := k.device.MAC(ID{1}, macInput(KindTag))
	for _, err := range []error{errSign, errDecrypt, errMAC} {
		if !errors.Is(err, ErrNoKey) {
			t.Errorf("a key that is not held: %v", err)
		}
	}
}

// TestKeysAreMadeWhereTheyAreHeld: through an agent or a card nobody makes,
// retires or re-seals a key.
func TestKeysAreMadeWhereTheyAreHeld(t *testing.T) {
	t.Parallel()
	soft, _ := create(t)
	path := socketPath(t)
	serveAgent(t, soft, quiet(), path)
	for name, k := range map[string]*Keyring{"agent": dialed(t, path), "card": must[*Keyring](t)(New(gm.Emmansun(), cardOf(t, soft)))} {
		_, errSign := k.AddSign(noon())
		_, errEnc := k.AddEnc(noon())
		_, errEnveloped := k.AddEnveloped(nil, noon())
		for _, err := range []error{errSign, errEnc, errEnveloped, k.AddTag("2027-01", noon()), k.AddLocal(noon()),
			k.Retire(k.SignPublic()), k.Rekey(passphrase(), cheap())} {
			if !errors.Is(err, ErrFixed) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
