package keyring

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"xinqiao/crypto/gm"
)

func noon() time.Time { return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) }

func reopen(t testing.TB, path string) *Keyring {
	t.Helper()
	k, err := Open(path, passphrase(), gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestAddedKeysChangeNothing: a new key is there for the certificate that will
// name it; until then everything goes on with the old one, also after a restart.
func TestAddedKeysChangeNothing(t *testing.T) {
	t.Parallel()
	k, path := create(t)
	oldSign, oldEnc := k.SignPublic(), k.EncPublic()
	sign := must[gm.PublicKey](t)(k.AddSign(noon()))
	enc := must[gm.PublicKey](t)(k.AddEnc(noon()))
	for name, k := range map[string]*Keyring{"the open keyring": k, "opened again": reopen(t, path)} {
		if k.SignPublic() != oldSign || k.EncPublic() != oldEnc {
			t.Errorf("%s: a key that was added became active", name)
		}
		if !slices.Equal(k.SignKeys(), []gm.PublicKey{sign, oldSign}) || !slices.Equal(k.EncKeys(), []gm.PublicKey{enc, oldEnc}) {
			t.Errorf("%s: the keys are not listed newest first", name)
		}
		for _, pub := range []gm.PublicKey{oldSign, sign} {
			h, ok := k.SignerOf(pub)
			if !ok {
				t.Fatalf("%s: no handle of a held key", name)
			}
			sig, err := h.Sign("d", []byte("body"))
			if err != nil || h.Public() != pub || !gm.Tjfoc().Verify(pub, gm.Preimage("d", []byte("body")), sig) {
				t.Errorf("%s: the handle of %s signs with another key: %v", name, pub, err)
			}
		}
		for _, pub := range []gm.PublicKey{oldEnc, enc} {
			sealed := must[[]byte](t)(gm.Tjfoc().Encrypt(pub, []byte("content")))
			h, ok := k.DecrypterOf(pub)
			if !ok {
				t.Fatalf("%s: no handle of a held key", name)
			}
			if got, err := h.Unwrap(sealed); err != nil || string(got) != "content" {
				t.Errorf("%s: the handle of %s: %q, %v", name, pub, got, err)
			}
		}
		if _, ok := k.SignerOf(enc); ok {
			t.Errorf("%s: an encryption key signs", name)
		}
		if _, ok := k.DecrypterOf(sign); ok {
			t.Errorf("%s: a signing key decrypts", name)
		}
		if _, ok := k.SignerOf(gm.PublicKey{}); ok {
			t.Errorf("%s: the zero key, which every master has, is found", name)
		}
	}
	made := reopen(t, path).Keys()
	if got := made[len(made)-1].Made; !got.Equal(noon()) {
		t.Errorf("made at %v", got)
	}
}

func TestUse(t *testing.T) {
	t.Parallel()
	k, _ := create(t)
	oldSign, oldEnc := k.SignPublic(), k.EncPublic()
	sign, enc := must[gm.PublicKey](t)(k.AddSign(noon())), must[gm.PublicKey](t)(k.AddEnc(noon()))
	other := generate(t)
	for name, pair := range map[string][2]gm.PublicKey{
		"a foreign signing key": {other.SignPublic(), enc}, "a foreign encryption key": {sign, other.EncPublic()},
		"the two exchanged": {enc, sign}, "no keys": {},
	} {
		if err := k.Use(pair[0], pair[1]); !errors.Is(err, ErrNoKey) || k.SignPublic() != oldSign || k.EncPublic() != oldEnc {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := k.Use(sign, enc); err != nil || k.SignPublic() != sign || k.EncPublic() != enc {
		t.Fatal("the new keys are not used", err)
	}
	if _, err := k.AddSign(noon()); err != nil || k.SignPublic() != sign {
		t.Fatal("adding a key changes what Use named", err)
	}
	sig, err := k.Sign("d", nil)
	if err != nil || !gm.Emmansun().Verify(sign, gm.Preimage("d", nil), sig) {
		t.Error("Sign does not use the active key", err)
	}
	if err := k.Retire(sign); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign("d", nil); !errors.Is(err, ErrNoKey) {
		t.Error("another key signs in the place of the retired one:", err)
	}
}

func TestRetire(t *testing.T) {
	t.Parallel()
	k, path := create(t)
	oldSign := k.SignPublic()
	handle, _ := k.SignerOf(oldSign)
	scalar := secretsOf(t, k)["sign key 0"]
	for name, c := range map[string]struct {
		pub  gm.PublicKey
		want error
	}{
		"the last signing key": {oldSign, ErrLast}, "the last encryption key": {k.EncPublic(), ErrLast},
		"a foreign key": {generate(t).SignPublic(), ErrNoKey}, "no key": {gm.PublicKey{}, ErrNoKey},
	} {
		if err := k.Retire(c.pub); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	sign := must[gm.PublicKey](t)(k.AddSign(noon()))
	// What a crash left behind would keep the retired key.
	left := filepath.Join(filepath.Dir(path), unplaced+"left")
	if err := os.WriteFile(left, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Retire(oldSign); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Error("an unplaced file outlives a retirement")
	}
	if _, err := handle.Sign("d", nil); !errors.Is(err, ErrNoKey) {
		t.Errorf("the retired key signs: %v", err)
	}
	again := reopen(t, path)
	if again.SignPublic() != sign || len(again.SignKeys()) != 1 {
		t.Error("the other key is not the one that is left")
	}
	for name, secret := range secretsOf(t, again) {
		if bytes.Equal(secret, scalar) {
			t.Errorf("the retired key is still there as %s", name)
		}
	}
}

func TestTagMastersByEpoch(t *testing.T) {
	t.Parallel()
	k, path := create(t)
	epochs := []string{"", "2025-12", "2026-11", "2026-11 denied", "2026-12", "2026-12 denied", "2027-05"}
	before := map[string][TagSize]byte{}
	for _, e := range epochs {
		before[e] = tagOf(t, k, e, "x")
	}
	if err := k.AddTag("2026-12", noon()); err != nil {
		t.Fatal(err)
	}
	for _, e := range epochs {
		if kept, want := tagOf(t, k, e, "x") == before[e], e < "2026-12"; kept != want {
			t.Errorf("epoch %q: the old master is used: %v, want %v", e, kept, want)
		}
	}
	for _, from := range []string{"", "2026-11", "2026-12"} {
		if err := k.AddTag(from, noon()); !errors.Is(err, ErrEpoch) {
			t.Errorf("a second master from %q: %v", from, err)
		}
	}
	if err := k.AddTag("2027-01", noon()); err != nil {
		t.Fatal(err)
	}
	again := reopen(t, path)
	for _, e := range epochs {
		if tagOf(t, again, e, "x") != tagOf(t, k, e, "x") {
			t.Errorf("epoch %q: another tag after a restart", e)
		}
	}
}

// TestLocalMasters: what was sealed stays readable, what is sealed names the
// newest master, and names of files stay what they are.
func TestLocalMasters(t *testing.T) {
	t.Parallel()
	k, path := create(t)
	name := nameOf(t, k, "p", []byte("x"))
	older := must[[]byte](t)(k.SealLocal("p", nil, []byte("older")))
	if err := k.AddLocal(noon()); err != nil {
		t.Fatal(err)
	}
	newer := must[[]byte](t)(k.SealLocal("p", nil, []byte("newer")))
	if bytes.Equal(older[1:17], newer[1:17]) {
		t.Error("the new master seals nothing")
	}
	k = reopen(t, path)
	for want, sealed := range map[string][]byte{"older": older, "newer": newer} {
		if got, err := k.OpenLocal("p", nil, sealed); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", want, got, err)
		}
	}
	if nameOf(t, k, "p", []byte("x")) != name {
		t.Error("a file would not be found under its name")
	}
	// A header that names a key of another kind, or none, opens nothing.
	for _, key := range k.Keys() {
		bad := bytes.Clone(newer)
		copy(bad[1:], key.ID[:])
		if _, err := k.OpenLocal("p", nil, bad); (err == nil) != bytes.Equal(bad, newer) || err != nil && !errors.Is(err, ErrSealed) {
			t.Errorf("under the %s key: %v", key.Kind, err)
		}
	}
}

func TestRekey(t *testing.T) {
	t.Parallel()
	k, path := create(t)
	behind := reopen(t, path)
	if err := k.Rekey([]byte("another"), cheap()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, passphrase(), gm.Emmansun()); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the old passphrase: %v", err)
	}
	again, err := Open(path, []byte("another"), gm.Emmansun())
	if err != nil || !same(t, k, again) {
		t.Fatal("other keys under the new passphrase", err)
	}
	if _, err := k.AddSign(noon()); err != nil {
		t.Errorf("no change is possible after it: %v", err)
	}
	// Whoever opened the file before may use its keys, and neither read nor replace
	// the new one.
	if err := behind.Reload(); !errors.Is(err, ErrPassphrase) {
		t.Errorf("reload: %v", err)
	}
	if _, err := behind.AddSign(noon()); !errors.Is(err, ErrPassphrase) {
		t.Errorf("change: %v", err)
	}
	if _, err := behind.Sign("d", nil); err != nil {
		t.Errorf("sign: %v", err)
	}
	for name, pass := range map[string][]byte{"empty": nil, "endless": make([]byte, maxPassphrase+1)} {
		if err := k.Rekey(pass, cheap()); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := k.Rekey([]byte("x"), Cost{}); err == nil {
		t.Error("a passphrase that costs nothing to guess")
	}
}

// TestChangesOfTwoProcesses: two openings of one file stand for two processes;
// no change gets lost, and Reload shows the other's.
func TestChangesOfTwoProcesses(t *testing.T) {
	t.Parallel()
	a, path := create(t)
	b := reopen(t, path)
	var wg sync.WaitGroup
	for _, k := range []*Keyring{a, b} {
		wg.Go(func() {
			for range 5 {
				if _, err := k.AddSign(noon()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, k := range []*Keyring{a, b} {
		if err := k.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	if !same(t, a, b) || len(a.SignKeys()) != 11 {
		t.Errorf("%d and %d signing keys, want 11", len(a.SignKeys()), len(b.SignKeys()))
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	k := generate(t)
	for len(k.Keys()) < maxKeys {
		if err := k.AddLocal(noon()); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.AddLocal(noon()); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
}

// TestCrashAtEveryStep ends a change at each of its steps: the file holds the
// old keys or the new ones, whole, and the next change works.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	points := []string{"created", "half written", "written", "synced", "placed", "done"}
	for name, change := range map[string]func(k *Keyring) error{
		"add":    func(k *Keyring) error { _, err := k.AddEnc(noon()); return err },
		"retire": func(k *Keyring) error { return k.Retire(k.SignKeys()[1]) },
	} {
		for i, stop := range points {
			k, path := create(t)
			must[gm.PublicKey](t)(k.AddSign(noon()))
			before := len(k.Keys())
			crash := errors.New("crash")
			reached := 0
			k.device.(*store).step = func(point string) error {
				if point != points[reached] {
					t.Errorf("step %q, want %q", point, points[reached])
				}
				reached++
				if point == stop {
					return crash
				}
				return nil
			}
			if err := change(k); !errors.Is(err, crash) {
				t.Fatalf("%s, %s: %v", name, stop, err)
			}
			again := reopen(t, path)
			if changed, want := len(again.Keys()) != before, i >= 4; changed != want {
				t.Errorf("%s, %s: the file has changed: %v, want %v", name, stop, changed, want)
			}
			if _, err := again.AddSign(noon()); err != nil {
				t.Errorf("%s, %s: the next change: %v", name, stop, err)
			}
			k.device.(*store).step = nil
			if _, err := k.AddSign(noon()); err != nil || k.Reload() != nil || again.Reload() != nil || !same(t, k, again) {
				t.Errorf("%s, %s: who failed does not come back: %v", name, stop, err)
			}
		}
	}
}

// TestEnvelopedKey adds a key that a key centre made, wrapped to any signing key
// that is held.
func TestEnvelopedKey(t *testing.T) {
	t.Parallel()
	k, path := create(t)
	oldest := k.SignPublic()
	must[gm.PublicKey](t)(k.AddSign(noon()))
	centre := must[*gm.PrivateKey](t)(gm.GenerateKey(rand.Reader))
	der := must[[]byte](t)(gm.MarshalEnvelopedKey(gm.Emmansun(), rand.Reader, oldest, centre))
	pub, err := k.AddEnveloped(der, noon())
	if err != nil || pub != centre.Public() {
		t.Fatal(pub, err)
	}
	sealed := must[[]byte](t)(gm.Tjfoc().Encrypt(pub, []byte("x")))
	h, ok := reopen(t, path).DecrypterOf(pub)
	if !ok {
		t.Fatal("the key is not on the file")
	}
	if got, err := h.Unwrap(sealed); err != nil || string(got) != "x" {
		t.Error(got, err)
	}
	if _, err := k.AddEnveloped(der, noon()); !errors.Is(err, ErrRefused) {
		t.Errorf("the same key twice: %v", err)
	}
	// The centre sends the department its own signing key back, as encryption key.
	s := soft(t, k)[0].pair
	if _, err := k.AddEnveloped(must[[]byte](t)(gm.MarshalEnvelopedKey(gm.Emmansun(), rand.Reader, oldest, s)), noon()); !errors.Is(err, ErrRefused) {
		t.Errorf("a signing key as encryption key: %v", err)
	}
	foreign := must[[]byte](t)(gm.MarshalEnvelopedKey(gm.Emmansun(), rand.Reader, generate(t).SignPublic(), centre))
	for name, der := range map[string][]byte{"to another": foreign, "cut": der[:len(der)-1], "empty": nil} {
		if _, err := k.AddEnveloped(der, noon()); !errors.Is(err, gm.ErrEnveloped) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRotationUnderLoad changes keys and passphrase while others use them:
// nothing fails, and every signature verifies under the key its handle names.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	k, path := create(t)
	e := gm.Emmansun()
	firstSign, firstEnc := k.SignPublic(), k.EncPublic()
	oldTag, oldSealed := tagOf(t, k, "2026-10", "x"), must[[]byte](t)(k.SealLocal("p", nil, []byte("x")))
	stop := make(chan struct{})
	var users, wg sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				keys := k.SignKeys()
				h, ok := k.SignerOf(keys[(i+n)%len(keys)])
				if !ok {
					t.Error("a listed key is gone")
					return
				}
				body := fmt.Append(nil, i, n)
				if sig, err := h.Sign("d", body); err != nil || !e.Verify(h.Public(), gm.Preimage("d", body), sig) {
					t.Errorf("sign: %v", err)
				}
				pub := k.EncPublic()
				sealed, err := e.Encrypt(pub, body)
				if err != nil {
					t.Error(err)
				}
				d, ok := k.DecrypterOf(pub)
				if !ok {
					t.Error("the active key is gone")
					return
				}
				if got, err := d.Unwrap(sealed); err != nil || !bytes.Equal(got, body) {
					t.Errorf("unwrap: %v", err)
				}
				if tag, err := k.Tag("2026-10", "x"); err != nil || tag != oldTag {
					t.Errorf("tag of an old epoch: %v", err)
				}
				local, err := k.SealLocal("p", body, body)
				if err != nil {
					t.Error(err)
				}
				if got, err := k.OpenLocal("p", body, local); err != nil || !bytes.Equal(got, body) {
					t.Errorf("open: %v", err)
				}
				if got, err := k.OpenLocal("p", nil, oldSealed); err != nil || string(got) != "x" {
					t.Errorf("open what is older: %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 6 {
			sign, enc := must[gm.PublicKey](t)(k.AddSign(noon())), must[gm.PublicKey](t)(k.AddEnc(noon()))
			if err := errors.Join(k.AddTag(fmt.Sprintf("2026-11.%d", i), noon()), k.AddLocal(noon()), k.Use(sign, enc),
				k.Rekey(fmt.Appendf(nil, "p%d", i), cheap()), k.Reload()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	close(stop)
	users.Wait()
	again, err := Open(path, []byte("p5"), e)
	if err != nil || !same(t, k, again) || len(again.Keys()) != 5+6*4 {
		t.Fatal("the file does not hold what is used", err)
	}
	if err := errors.Join(k.Retire(firstSign), k.Retire(firstEnc)); err != nil {
		t.Error(err)
	}
}
