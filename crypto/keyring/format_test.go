package keyring

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"xinqiao/crypto/gm"
)

var update = flag.Bool("update", false, "write testdata/v2.* anew: the format of keyrings, tags or local data changes")

// golden is what the keyring in testdata/v2.xq gives for fixed inputs.
type golden struct {
	Sign, Enc string            // public keys
	Tags      map[string]string // by epoch, of "x"
	Name      string            // of "x" for "p"
	Sealed    string            // "plain" for "p" with "aad"
}

// TestFormat opens a keyring that was written when the format was made, with the
// passphrase "correct horse": what was tagged and sealed with it must stay found
// and readable.
func TestFormat(t *testing.T) {
	t.Parallel()
	if *update {
		writeGolden(t)
	}
	file, err := os.ReadFile("testdata/v2.xq")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/v2.json")
	if err != nil {
		t.Fatal(err)
	}
	var want golden
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/v2.xq" // a checkout's mode is not a keyring's
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	k := reopen(t, path)
	if hex.EncodeToString(k.SignPublic().Bytes()) != want.Sign || hex.EncodeToString(k.EncPublic().Bytes()) != want.Enc {
		t.Error("other keys")
	}
	for epoch, tag := range want.Tags {
		if got := tagOf(t, k, epoch, "x"); hex.EncodeToString(got[:]) != tag {
			t.Errorf("epoch %s: tag %x, want %s", epoch, got, tag)
		}
	}
	if got := nameOf(t, k, "p", []byte("x")); hex.EncodeToString(got[:]) != want.Name {
		t.Errorf("name %x, want %s", got, want.Name)
	}
	sealed, err := hex.DecodeString(want.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.OpenLocal("p", []byte("aad"), sealed); err != nil || !bytes.Equal(got, []byte("plain")) {
		t.Errorf("what was sealed: %q, %v", got, err)
	}
	if made := k.Keys()[0].Made; !made.Equal(time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("made at %v", made)
	}
}

func writeGolden(t *testing.T) {
	t.Helper()
	path := t.TempDir() + "/v2.xq"
	k, err := CreateFrom(path, passphrase(), gm.Emmansun(), First{At: noon(), Cost: cheap()})
	if err != nil {
		t.Fatal(err)
	}
	sealed := must[[]byte](t)(k.SealLocal("p", []byte("aad"), []byte("plain")))
	if err := k.AddTag("2026-12", noon()); err != nil {
		t.Fatal(err)
	}
	if err := k.AddLocal(noon()); err != nil {
		t.Fatal(err)
	}
	g := golden{Sign: hex.EncodeToString(k.SignPublic().Bytes()), Enc: hex.EncodeToString(k.EncPublic().Bytes()),
		Tags: map[string]string{}, Sealed: hex.EncodeToString(sealed)}
	for _, epoch := range []string{"2026-11", "2026-11 denied", "2026-12"} {
		tag := tagOf(t, k, epoch, "x")
		g.Tags[epoch] = hex.EncodeToString(tag[:])
	}
	name := nameOf(t, k, "p", []byte("x"))
	g.Name = hex.EncodeToString(name[:])
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"testdata/v2.xq": file, "testdata/v2.json": append(text, '\n')} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
