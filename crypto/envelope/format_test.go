package envelope

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"

	"xinqiao/crypto/gm"
)

var update = flag.Bool("update", false, "write testdata/sealed.golden anew: the format of envelopes changes")

// The fixed envelope of testdata/sealed.golden.
const (
	sealedFile    = "testdata/sealed.golden"
	sealedContext = "a context"
	sealedText    = "不动产登记 sealed once, to be opened for ever"
)

// oldHolder has the private key whose scalar is n, n+1, n+2 and so on.
func oldHolder(t testing.TB, e gm.Engine, n byte) holder {
	t.Helper()
	scalar := make([]byte, 32)
	for i := range scalar {
		scalar[i] = n + byte(i)
	}
	key, err := gm.NewPrivateKey(scalar)
	if err != nil {
		t.Fatal(err)
	}
	return holder{Recipient{KeyID(e, key.Public()), key.Public()}, t, e, key}
}

func sealedOnce(t testing.TB) []byte {
	t.Helper()
	if *update {
		e := gm.Emmansun()
		b := seal(t, []byte(sealedContext), []byte(sealedText), oldHolder(t, e, 1), oldHolder(t, e, 9))
		if err := os.WriteFile(sealedFile, []byte(hex.EncodeToString(b)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(sealedFile)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) == 0 {
		t.Fatalf("%s: no bytes in hexadecimal: %v", sealedFile, err)
	}
	return b
}

// TestFormat pins an envelope, in both directions.
func TestFormat(t *testing.T) {
	t.Parallel()
	sealed := sealedOnce(t)
	holdOpening(t, sealed)
	holdSealing(t, sealed)
}

// holdOpening: what was sealed once opens for each recipient with both engines,
// and not with a byte of it changed.
func holdOpening(t *testing.T, sealed []byte) {
	t.Helper()
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		for _, n := range []byte{1, 9} {
			got, err := oldHolder(t, e, n).open([]byte(sealedContext), sealed)
			if err != nil || string(got) != sealedText {
				t.Errorf("%s, key %d: %q, %v", e.Name(), n, got, err)
			}
		}
		if _, err := oldHolder(t, e, 1).open([]byte("another"), sealed); err == nil {
			t.Errorf("%s: it opens in another context", e.Name())
		}
	}
	h := oldHolder(t, gm.Emmansun(), 1)
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := h.open([]byte(sealedContext), changed); err == nil {
			t.Errorf("it opens with byte %d changed", i)
		}
	}
}

// holdSealing: with the content key and the salt of the stored envelope, Seal
// makes the same bytes again; and of a text that fills one chunk and begins
// another, always the same.
func holdSealing(t *testing.T, sealed []byte) {
	t.Helper()
	e := gm.Emmansun()
	header, head, rest, err := parse(sealed)
	if err != nil {
		t.Fatal(err)
	}
	h := oldHolder(t, e, 9)
	key, err := h.Unwrap(header.find(h.ID).Key)
	if err != nil {
		t.Fatal(err)
	}
	s := &Sealer{engine: e, rand: bytes.NewReader(rest[:saltSize]), head: head, headSum: e.Sum(head), key: [contentKeySize]byte(key)}
	if got, err := s.Seal([]byte(sealedContext), []byte(sealedText)); err != nil || !bytes.Equal(got, sealed) {
		t.Errorf("sealed again with the same salt: %v\n%x\nwas\n%x", err, got, sealed)
	}
	// A fixed content key and header, so that nothing here changes with -update.
	fixed := &Sealer{engine: e, rand: bytes.NewReader(bytes.Repeat([]byte{5}, saltSize)), head: []byte("a header"), headSum: e.Sum([]byte("a header")),
		key: [contentKeySize]byte(bytes.Repeat([]byte{6}, contentKeySize))}
	long, err := fixed.Seal([]byte(sealedContext), bytes.Repeat([]byte{7}, chunkSize+1))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := e.Sum(long), "05f4872cd8e1030a7e66c4e831ff7836d2c9b7eb8ca663af06b6f356cf770e3c"; hex.EncodeToString(got[:]) != want {
		t.Errorf("two chunks hash to %x and did to %s", got, want)
	}
	if id := oldHolder(t, e, 1).ID; hex.EncodeToString(id[:]) != "6c7450e4bce17228bc6162570f3643fd93b936b9be056bd72463372eabccbc6e" {
		t.Errorf("the id of a bare key is %x", id)
	}
}
