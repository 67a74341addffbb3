package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
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

// same reports whether two keyrings hold the same keys.
func same(t *testing.T, a, b *Keyring) bool {
	t.Helper()
	return slices.Equal(a.Keys(), b.Keys()) && tagOf(t, a, "2026-08", "x") == tagOf(t, b, "2026-08", "x") &&
		nameOf(t, a, "p", nil) == nameOf(t, b, "p", nil)
}

func tagOf(t testing.TB, k *Keyring, epoch, data string) [TagSize]byte {
	t.Helper()
	tag, err := k.Tag(epoch, data)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func nameOf(t testing.TB, k *Keyring, purpose string, data []byte) gm.Digest {
	t.Helper()
	tag, err := k.LocalTag(purpose, data)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

// soft returns the software keys below a keyring.
func soft(t testing.TB, k *Keyring) []*softKey {
	t.Helper()
	s, ok := k.device.(*store)
	if !ok {
		t.Fatalf("the keyring stands on a %T", k.device)
	}
	return s.keys
}

// secretsOf returns what must be seen nowhere: every scalar and master.
func secretsOf(t testing.TB, k *Keyring) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	for i, key := range soft(t, k) {
		name := fmt.Sprintf("%s key %d", key.Kind, i)
		if found[name] = key.master[:]; key.pair != nil {
			found[name] = key.pair.Scalar()
		}
	}
	return found
}

func decode(file, passphrase []byte, engine gm.Engine) (*store, error) {
	s := &store{engine: engine}
	return s, s.decode(file, func(h header) (*lock, error) { return unlock(engine, passphrase, h.Cost, h.Salt) })
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
	older := bytes.Clone(file)
	older[len(magic)] = 1
	link, pipe := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "pipe")
	if err := errors.Join(os.Symlink(path, link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
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
		"a directory":        {t.TempDir(), "correct horse", ErrNotFile},
		"a link":             {link, "correct horse", ErrNotFile},
		"a pipe":             {pipe, "correct horse", ErrNotFile},
		"a socket":           {socket, "correct horse", ErrNotFile},
		"newer":              {write(t, resum(newer), 0o600), "correct horse", ErrVersion},
		"the first format":   {write(t, resum(older), 0o600), "correct horse", ErrVersion},
		"foreign":            {write(t, resum(append([]byte("age-encryption.org"), file[18:]...)), 0o600), "correct horse", ErrDamaged},
	} {
		if _, err := Open(c.path, []byte(c.passphrase), gm.Emmansun()); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// Another's file, which only root can make and read.
	foreign := write(t, file, 0o600)
	if os.Geteuid() == 0 && os.Chown(foreign, 12345, -1) == nil {
		if _, err := Open(foreign, passphrase(), gm.Emmansun()); !errors.Is(err, ErrPermissions) {
			t.Errorf("another user's file: got %v", err)
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
	l, err := newLock(gm.Emmansun(), passphrase(), cheap())
	if err != nil {
		t.Fatal(err)
	}
	k := generate(t)
	// reseal writes a file as an attacker who knows the passphrase would.
	reseal := func(change func(h *header, s *secrets)) []byte {
		t.Helper()
		h := header{Suite: gm.Suite, Cost: l.cost, Salt: l.salt, Check: l.check}
		var s secrets
		for _, key := range soft(t, k) {
			x := secret{Kind: key.Kind, Key: key.master}
			if key.pair != nil {
				x.Key = [32]byte(key.pair.Scalar())
			}
			s.Keys = append(s.Keys, x)
		}
		change(&h, &s)
		aead, err := gm.Emmansun().NewAEAD(l.key[:])
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
	add := func(s *secrets, x secret) { s.Keys = append(s.Keys, x) }
	for name, c := range map[string]struct {
		change func(h *header, s *secrets)
		want   error
	}{
		"endless memory":      {func(h *header, _ *secrets) { h.Cost.MemoryKiB = 1 << 31 }, ErrDamaged},
		"endless time":        {func(h *header, _ *secrets) { h.Cost.Time = 1 << 31 }, ErrDamaged},
		"no passes":           {func(h *header, _ *secrets) { h.Cost.Time = 0 }, ErrDamaged},
		"no threads":          {func(h *header, _ *secrets) { h.Cost.Threads = 0 }, ErrDamaged},
		"other suite":         {func(h *header, _ *secrets) { h.Suite = "SM-2" }, ErrVersion},
		"signing key zero":    {func(_ *header, s *secrets) { clear(s.Keys[0].Key[:]) }, ErrDamaged},
		"encryption key zero": {func(_ *header, s *secrets) { clear(s.Keys[1].Key[:]) }, ErrDamaged},
		"key over the order":  {func(_ *header, s *secrets) { copy(s.Keys[1].Key[:], bytes.Repeat([]byte{255}, 32)) }, ErrDamaged},
		"no keys":             {func(_ *header, s *secrets) { s.Keys = []secret{} }, ErrDamaged},
		"no encryption key":   {func(_ *header, s *secrets) { s.Keys = slices.Delete(s.Keys, 1, 2) }, ErrDamaged},
		"one key, two uses":   {func(_ *header, s *secrets) { s.Keys[1].Key = s.Keys[0].Key }, ErrDamaged},
		"a key twice":         {func(_ *header, s *secrets) { add(s, s.Keys[0]) }, ErrDamaged},
		"unknown kind":        {func(_ *header, s *secrets) { add(s, secret{Kind: 9, Key: [32]byte{1}}) }, ErrDamaged},
		"two name masters":    {func(_ *header, s *secrets) { add(s, secret{Kind: KindName, Key: [32]byte{1}}) }, ErrDamaged},
		"no first epoch":      {func(_ *header, s *secrets) { s.Keys[2].From = "2026-01" }, ErrDamaged},
		"two first epochs":    {func(_ *header, s *secrets) { add(s, secret{Kind: KindTag, Key: [32]byte{1}}) }, ErrDamaged},
		"an epoch elsewhere":  {func(_ *header, s *secrets) { s.Keys[3].From = "2026-01" }, ErrDamaged},
		"made before time":    {func(_ *header, s *secrets) { s.Keys[0].Made = -1 }, ErrDamaged},
		"too many keys": {func(_ *header, s *secrets) {
			for i := range maxKeys {
				add(s, secret{Kind: KindLocal, Key: [32]byte{byte(i), 1}})
			}
		}, ErrDamaged},
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
	hidden := secretsOf(t, k)
	hidden["public key"], hidden["passphrase"] = k.SignPublic().Bytes()[1:33], passphrase()
	for name, secret := range hidden {
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
	for _, domain := range []string{"", "a\x00b"} {
		if _, err := k.Sign(domain, []byte("body")); !errors.Is(err, ErrRefused) {
			t.Errorf("signs under the domain %q: %v", domain, err)
		}
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
	rapid.Check(t, func(r *rapid.T) {
		epoch, data := rapid.String().Draw(r, "epoch"), rapid.String().Draw(r, "data")
		tag := tagOf(t, a, epoch, data)
		if tag != tagOf(t, a, epoch, data) {
			r.Fatal("not a function")
		}
		if tag == tagOf(t, b, epoch, data) || tag == tagOf(t, a, epoch+"x", data) || tag == tagOf(t, a, epoch, data+"x") ||
			tag == tagOf(t, a, epoch+data+"x", "") || tag == tagOf(t, a, "", epoch+data+"x") {
			r.Fatal("one tag for two")
		}
		local := nameOf(t, a, epoch, []byte(data))
		if bytes.HasPrefix(local[:], tag[:]) || local == nameOf(t, a, epoch+"x", []byte(data)) || local == nameOf(t, b, epoch, []byte(data)) {
			r.Fatal("one local tag for two")
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
		got := fmt.Sprintf(verb, k) + fmt.Sprintf(verb, soft(t, k)) + fmt.Sprintf(verb, k.device) + fmt.Sprintf(verb, k.signer())
		for _, secret := range secretsOf(t, k) {
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
