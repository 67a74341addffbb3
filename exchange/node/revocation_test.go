package node

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

// revoker is a CA and one certificate of its.
type revoker struct {
	t      *testing.T
	now    time.Time
	ca     *cert.CA
	root   []byte
	path   string
	clock  time.Time // of the file: a test writes faster than a disk's clock ticks
	log    bytes.Buffer
	logger *slog.Logger
}

func newRevoker(t *testing.T) *revoker {
	t.Helper()
	r := &revoker{t: t, now: time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC), path: filepath.Join(t.TempDir(), "crl.pem")}
	var err error
	if r.ca, r.root, err = cert.NewCA("root", gm.NewSigner(gm.Emmansun(), r.key()), r.now, 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	r.clock, r.logger = r.now, slog.New(slog.NewTextHandler(&r.log, nil))
	return r
}

func (r *revoker) key() *gm.PrivateKey {
	r.t.Helper()
	key, err := gm.GenerateKey(rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	return key
}

func (r *revoker) issue(dept string) (id cert.Identity, serial string) {
	r.t.Helper()
	chain, err := r.ca.Issue(cert.Request{Dept: dept, Usage: cert.Signing, Key: r.key().Public(), Lifetime: 500 * time.Hour}, r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	if id, err = cert.Inspect(chain); err != nil {
		r.t.Fatal(err)
	}
	return id, id.Serial
}

// list is a file with a list of this number.
func (r *revoker) list(number uint64, serials ...string) []byte {
	r.t.Helper()
	var list []cert.Revoked
	for _, s := range serials {
		list = append(list, cert.Revoked{Serial: s, At: r.now, Reason: cert.KeyCompromise})
	}
	der, err := r.ca.IssueRevocations(list, number, r.now, r.now.Add(24*time.Hour))
	if err != nil {
		r.t.Fatal(err)
	}
	return cert.EncodeRevocations(der)
}

func (r *revoker) write(file []byte) {
	r.t.Helper()
	r.clock = r.clock.Add(time.Second)
	if err := errors.Join(os.WriteFile(r.path, file, 0o600), os.Chtimes(r.path, r.clock, r.clock)); err != nil {
		r.t.Fatal(err)
	}
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	r := newRevoker(t)
	good, _ := r.issue("minzheng")
	bad, serial := r.issue("gongan")
	none, err := openRevocations("", r.root, r.logger, r.now)
	if err != nil || none.refuse(bad, r.now) != nil {
		t.Errorf("without a file: %v", err)
	}
	if _, err := openRevocations(r.path, r.root, r.logger, r.now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is named and missing: %v", err)
	}
	r.write([]byte("x"))
	if _, err := openRevocations(r.path, r.root, r.logger, r.now); !errors.Is(err, cert.ErrFile) {
		t.Errorf("a malformed file: %v", err)
	}
	r.write(newRevoker(t).list(1))
	if _, err := openRevocations(r.path, r.root, r.logger, r.now); !errors.Is(err, cert.ErrForeign) {
		t.Errorf("another exchange's list: %v", err)
	}
	r.write(r.list(5))
	lists, err := openRevocations(r.path, r.root, r.logger, r.now)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, at time.Time, want error) {
		t.Helper()
		if err := lists.refuse(good, at); err != nil {
			t.Errorf("%s: a good peer: %v", what, err)
		}
		if err := lists.refuse(bad, at); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	check("an empty list", r.now, nil)
	r.write(r.list(6, serial))
	check("the next list", r.now, ErrRevoked)
	// Whoever can exchange the file cannot take a revocation back.
	other := newRevoker(t)
	for name, file := range map[string][]byte{
		"an older list": r.list(5), "another's list": other.list(9), "garbage": []byte("-----BEGIN"), "nothing": nil,
		"its list and another's": append(r.list(7), other.list(9)...), "its list twice": append(r.list(7), r.list(8)...),
	} {
		r.write(file)
		check(name, r.now, ErrRevoked)
	}
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	check("no file", r.now, ErrRevoked)
	r.log.Reset()
	check("still no file", r.now, ErrRevoked)
	if n := strings.Count(r.log.String(), "\n"); n > 0 {
		t.Errorf("one complaint is made %d times more", n)
	}
	r.write(r.list(6, serial))
	check("an expired list", r.now.Add(48*time.Hour), ErrRevoked)
	if n := strings.Count(r.log.String(), "\n"); n != 1 {
		t.Errorf("an expired list is told %d times:\n%s", n, r.log.String())
	}
	r.write(r.list(7))
	check("a list without it", r.now, nil)
}
