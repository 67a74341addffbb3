package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

func passphrase() []byte { return []byte("correct horse") }

func cheap() Cost { return Cost{Time: 1, MemoryKiB: 8, Threads: 1} }

func create(t *testing.T) (*Keyring, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.keys")
	k, err := CreateWithCost(path, passphrase(), gm.Emmansun(), cheap())
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

func generate(t *testing.T) *Keyring {
	t.Helper()
	k, err := Generate(gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// same reports whether two keyrings hold the same four keys.
func same(t *testing.T, a, b *Keyring) bool {
	t.Helper()
	return a.SignPublic() == b.SignPublic() && a.EncPublic() == b.EncPublic() &&
		a.Tag("2026-08", "x") == b.Tag("2026-08", "x") && a.LocalTag("p", nil) == b.LocalTag("p", nil)
}

func TestCreateOpen(t *testing.T) {
	t.Parallel()
	k, path := create(t)
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		got, err := Open(path, passphrase(), e)
		if err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
		if !same(t, k, got) {
			t.Errorf("%s reads other keys", e.Name())
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("%d files are left beside the keyring", len(entries)-1)
	}
}

func TestDefaultCostIsUsed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node.keys")
	k, err := Create(path, passphrase(), gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(path, passphrase(), gm.Emmansun())
	if err != nil || !same(t, k, got) {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if h := headerOf(t, file); h.Cost != (Cost{Time: 3, MemoryKiB: 64 << 10, Threads: 1}) {
		t.Errorf("cost %+v", h.Cost)
	}
}

func TestCreateRefusesToReplace(t *testing.T) {
	t.Parallel()
	k, path := create(t)
	if _, err := CreateWithCost(path, passphrase(), gm.Emmansun(), cheap()); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v", err)
	}
	got, err := Open(path, passphrase(), gm.Emmansun())
	if err != nil || !same(t, k, got) {
		t.Fatalf("the first keyring is gone: %v", err)
	}
}

// TestCreateRace: of many creators of one file exactly one wins, and the file
// holds its keys.
func TestCreateRace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node.keys")
	var mu sync.Mutex
	var won []*Keyring
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			k, err := CreateWithCost(path, passphrase(), gm.Emmansun(), cheap())
			if err != nil && !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				won = append(won, k)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	got, err := Open(path, passphrase(), gm.Emmansun())
	if err != nil || len(won) != 1 || !same(t, won[0], got) {
		t.Fatalf("%d creators won; %v", len(won), err)
	}
}

func TestOpenTellsFailuresApart(t *testing.T) {
	t.Parallel()
	_, path := create(t)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(t *testing.T, content []byte, mode fs.FileMode) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newer := bytes.Clone(file)
	newer[len(magic)] = version + 1
	for name, c := range map[string]struct {
		path       string
		passphrase string
		want       error
	}{
		"wrong passphrase":   {path, "wrong", ErrPassphrase},
		"no passphrase":      {path, "", ErrPassphrase},
		"endless passphrase": {path, strings.Repeat("x", maxPassphrase+1), ErrPassphrase},
		"missing":            {path + "x", "x", fs.ErrNotExist},
		"readable by group":  {write(t, file, 0o640), "correct horse", ErrPermissions},
		"readable by all":    {write(t, file, 0o604), "correct horse", ErrPermissions},
		"empty":              {write(t, nil, 0o600), "correct horse", ErrDamaged},
		"cut":                {write(t, file[:len(file)-1], 0o600), "correct horse", ErrDamaged},
		"longer":             {write(t, append(bytes.Clone(file), 0), 0o600), "correct horse", ErrDamaged},
		"oversize":           {write(t, make([]byte, maxFile+1), 0o600), "correct horse", ErrDamaged},
		"a directory":        {t.TempDir(), "correct horse", ErrDamaged},
		"newer":              {write(t, resum(newer), 0o600), "correct horse", ErrVersion},
	} {
		if _, err := Open(c.path, []byte(c.passphrase), gm.Emmansun()); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// resum makes the plain hash at the end of a changed file right again, as an
// attacker would.
func resum(file []byte) []byte {
	body := file[:len(file)-gm.HashSize]
	sum := gm.Emmansun().Sum(body)
	return append(bytes.Clone(body), sum[:]...)
}

func headerOf(t *testing.T, file []byte) header {
	t.Helper()
	var b box
	var h header
	if err := canon.Unmarshal(file[len(magic)+1:len(file)-gm.HashSize], &b); err != nil {
		t.Fatal(err)
	}
	if err := canon.Unmarshal(b.Header, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTrap16EveryChangedByteIsNoticed(t *testing.T) {
	t.Parallel()
	_, path := create(t)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 0x01
		if _, err := decode(bad, passphrase(), gm.Emmansun()); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d, disk fault: %v", i, err)
		}
		if i >= len(file)-gm.HashSize {
			continue
		}
		if _, err := decode(resum(bad), passphrase(), gm.Emmansun()); err == nil {
			t.Fatalf("byte %d, attacker: the file opens", i)
		}
	}
}

func TestTrap16CraftedFiles(t *testing.T) {
	t.Parallel()
	k := generate(t)
	reseal := func(change func(h *header, s *secrets)) []byte {
		t.Helper()
		h := header{Suite: gm.Suite, Cost: cheap()}
		s := secrets{Tag: k.tag, Local: k.local, Sign: [32]byte(k.sign.Scalar()), Enc: [32]byte(k.enc.Scalar())}
		before := h.Cost
		change(&h, &s)
		derive := h
		derive.Cost = before // never pay a crafted price in the test
		key, check, err := unlock(gm.Emmansun(), passphrase(), derive)
		if err != nil {
			t.Fatal(err)
		}
		h.Check = check
		aead, err := gm.Emmansun().NewAEAD(key)
		if err != nil {
			t.Fatal(err)
		}
		head := canon.MustMarshal(h)
		b := box{Header: head, Sealed: aead.Seal(nil, h.Nonce[:], canon.MustMarshal(s), gm.Preimage(fileDomain, head))}
		file := append(append([]byte(magic), version), canon.MustMarshal(b)...)
		return resum(append(file, make([]byte, gm.HashSize)...))
	}
	if _, err := decode(reseal(func(*header, *secrets) {}), passphrase(), gm.Emmansun()); err != nil {
		t.Fatalf("the unchanged file: %v", err)
	}
	for name, c := range map[string]struct {
		change func(h *header, s *secrets)
		want   error
	}{
		"endless memory":      {func(h *header, _ *secrets) { h.Cost.MemoryKiB = 1 << 31 }, ErrDamaged},
		"endless time":        {func(h *header, _ *secrets) { h.Cost.Time = 1 << 31 }, ErrDamaged},
		"no passes":           {func(h *header, _ *secrets) { h.Cost.Time = 0 }, ErrDamaged},
		"no threads":          {func(h *header, _ *secrets) { h.Cost.Threads = 0 }, ErrDamaged},
		"other suite":         {func(h *header, _ *secrets) { h.Suite = "SM-2" }, ErrVersion},
		"signing key zero":    {func(_ *header, s *secrets) { clear(s.Sign[:]) }, ErrDamaged},
		"encryption key zero": {func(_ *header, s *secrets) { clear(s.Enc[:]) }, ErrDamaged},
		"key over the order":  {func(_ *header, s *secrets) { copy(s.Enc[:], bytes.Repeat([]byte{255}, 32)) }, ErrDamaged},
	} {
		if _, err := decode(reseal(c.change), passphrase(), gm.Emmansun()); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestFileHoldsNoKey(t *testing.T) {
	t.Parallel()
	k, path := create(t)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	public := k.SignPublic().Bytes()
	for name, secret := range map[string][]byte{
		"signing key": k.sign.Scalar(), "encryption key": k.enc.Scalar(), "tag master": k.tag[:], "local master": k.local[:],
		"public key": public[1:33], "passphrase": passphrase(),
	} {
		if bytes.Contains(file, secret) {
			t.Errorf("the file holds the %s", name)
		}
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	k := generate(t)
	sig, err := k.Sign("xinqiao/frame/v1", []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	verdict := func(domain, body string) gm.Verdict {
		return gm.VerifyBoth(gm.Emmansun(), gm.Tjfoc(), k.SignPublic(), gm.Preimage(domain, []byte(body)), sig)
	}
	if verdict("xinqiao/frame/v1", "body") != gm.AgreeValid {
		t.Error("its signature is rejected")
	}
	if verdict("xinqiao/entry/v1", "body") != gm.AgreeInvalid || verdict("xinqiao/frame/v1", "bodY") != gm.AgreeInvalid {
		t.Error("its signature passes for another object's")
	}
	if _, err := k.Sign("", []byte("body")); err == nil {
		t.Error("signs without a domain")
	}
	if _, err := k.TLSSigner().Sign(nil, gm.Preimage("xinqiao/frame/v1", []byte("body")), nil); err == nil {
		t.Error("a handshake signs an object")
	}
}

func TestUnwrap(t *testing.T) {
	t.Parallel()
	k := generate(t)
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		sealed, err := e.Encrypt(k.EncPublic(), []byte("content key"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Unwrap(sealed); err != nil || string(got) != "content key" {
			t.Errorf("%s: %q, %v", e.Name(), got, err)
		}
		sealed, err = e.Encrypt(k.SignPublic(), []byte("content key"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Unwrap(sealed); !errors.Is(err, gm.ErrDecrypt) {
			t.Errorf("%s: the signing key decrypts: %v", e.Name(), err)
		}
	}
}

func TestTagsAreUnlinkable(t *testing.T) {
	t.Parallel()
	a, b := generate(t), generate(t)
	rapid.Check(t, func(t *rapid.T) {
		epoch, data := rapid.String().Draw(t, "epoch"), rapid.String().Draw(t, "data")
		tag := a.Tag(epoch, data)
		if tag != a.Tag(epoch, data) {
			t.Fatal("not a function")
		}
		if tag == b.Tag(epoch, data) || tag == a.Tag(epoch+"x", data) || tag == a.Tag(epoch, data+"x") {
			t.Fatal("one tag for two")
		}
		local := a.LocalTag(epoch, []byte(data))
		if bytes.HasPrefix(local[:], tag[:]) || local == a.LocalTag(epoch+"x", []byte(data)) || local == b.LocalTag(epoch, []byte(data)) {
			t.Fatal("one local tag for two")
		}
	})
}

func TestSealLocal(t *testing.T) {
	t.Parallel()
	k, other := generate(t), generate(t)
	rapid.Check(t, func(t *rapid.T) {
		purpose := rapid.StringN(0, 10, -1).Draw(t, "purpose")
		aad := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "aad")
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "plaintext")
		sealed, err := k.SealLocal(purpose, aad, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.OpenLocal(purpose, aad, sealed); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("does not open: %v", err)
		}
		again, err := k.SealLocal(purpose, aad, plaintext)
		if err != nil || bytes.Equal(again, sealed) {
			t.Fatal("sealed twice to the same bytes")
		}
		refuse := func(what string, k *Keyring, purpose string, aad, sealed []byte) {
			if got, err := k.OpenLocal(purpose, aad, sealed); !errors.Is(err, ErrSealed) || got != nil {
				t.Fatalf("%s: %x, %v", what, got, err)
			}
		}
		refuse("another purpose", k, purpose+"x", aad, sealed)
		refuse("other additional data", k, purpose, append(bytes.Clone(aad), 0), sealed)
		refuse("another keyring", other, purpose, aad, sealed)
		refuse("cut", k, purpose, aad, sealed[:rapid.IntRange(0, len(sealed)-1).Draw(t, "length")])
		refuse("longer", k, purpose, aad, append(bytes.Clone(sealed), 0))
		bad := bytes.Clone(sealed)
		bad[rapid.IntRange(0, len(bad)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		refuse("changed", k, purpose, aad, bad)
	})
}

func TestPrintsRedacted(t *testing.T) {
	t.Parallel()
	k := generate(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		got := fmt.Sprintf(verb, k)
		for _, secret := range [][]byte{k.sign.Scalar(), k.enc.Scalar(), k.tag[:], k.local[:]} {
			if strings.Contains(got, new(big.Int).SetBytes(secret).Text(16)) || strings.Contains(got, fmt.Sprint(secret[:8])) {
				t.Errorf("%s prints a key", verb)
			}
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		k, err := Generate(e)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for range 10 {
					body := []byte{byte(i)}
					sig, err := k.Sign("d", body)
					if err != nil || !e.Verify(k.SignPublic(), gm.Preimage("d", body), sig) {
						t.Errorf("sign: %v", err)
					}
					sealed, err := k.SealLocal("p", nil, body)
					if err != nil {
						t.Error(err)
					}
					if got, err := k.OpenLocal("p", nil, sealed); err != nil || !bytes.Equal(got, body) {
						t.Errorf("open: %v", err)
					}
				}
			})
		}
		wg.Wait()
	}
}
