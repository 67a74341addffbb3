package cert_test

import (
	"crypto"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

var epoch = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

func newKey(t testing.TB) *gm.PrivateKey {
	t.Helper()
	key, err := gm.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signerOf(key *gm.PrivateKey) crypto.Signer { return gm.NewSigner(gm.Emmansun(), key) }

func newCA(t testing.TB) (*cert.CA, []byte) {
	t.Helper()
	ca, root, err := cert.NewCA("Xinqiao test root", signerOf(newKey(t)), epoch, 10*year)
	if err != nil {
		t.Fatal(err)
	}
	return ca, root
}

func request(t testing.TB, dept string, usage cert.Usage) cert.Request {
	t.Helper()
	return cert.Request{Dept: dept, Usage: usage, Key: newKey(t).Public(), Lifetime: year}
}

func TestIssueVerify(t *testing.T) {
	t.Parallel()
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		rootKey := newKey(t)
		ca, root, err := cert.NewCA("根", gm.NewSigner(e, rootKey), epoch, 10*year)
		if err != nil {
			t.Fatal(err)
		}
		for _, usage := range []cert.Usage{cert.Signing, cert.Encryption} {
			r := request(t, "minzheng", usage)
			r.Hosts = []string{"node1.minzheng.example", "10.1.2.3", "::1", "localhost"}
			der, err := ca.Issue(r, epoch)
			if err != nil {
				t.Fatal(err)
			}
			got, err := cert.Verify(root, der, epoch)
			if err != nil {
				t.Fatal(err)
			}
			want := cert.Identity{
				Dept: "minzheng", Usage: usage, Key: r.Key, Chain: string(der), Fingerprint: gm.Tjfoc().Sum(der), Leaf: gm.Tjfoc().Sum(der),
				NotBefore: epoch.Add(-5 * time.Minute), NotAfter: epoch.Add(year), Serial: got.Serial,
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(gm.PublicKey{})); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
			if len(got.Serial) < 16 {
				t.Errorf("serial number %q is too short to be random", got.Serial)
			}
			inspected, err := cert.Inspect(der)
			if err != nil || inspected != got {
				t.Errorf("Inspect = %+v, %v", inspected, err)
			}
		}
		// The key stays in the signer: a CA opens again with it, and with no other.
		if _, err := cert.OpenCA(root, gm.NewSigner(e, rootKey)); err != nil {
			t.Error(err)
		}
		if _, err := cert.OpenCA(root, signerOf(newKey(t))); !errors.Is(err, cert.ErrRequest) {
			t.Errorf("OpenCA with another key: %v", err)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	rootKey := newKey(t)
	ca, _, err := cert.NewCA("root", signerOf(rootKey), epoch, 10*year)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*cert.Request){
		"no usage":             func(r *cert.Request) { r.Usage = cert.NoUsage },
		"unknown usage":        func(r *cert.Request) { r.Usage = 3 },
		"no key":               func(r *cert.Request) { r.Key = gm.PublicKey{} },
		"root's key":           func(r *cert.Request) { r.Key = rootKey.Public() },
		"no lifetime":          func(r *cert.Request) { r.Lifetime = 0 },
		"empty department":     func(r *cert.Request) { r.Dept = "" },
		"upper case":           func(r *cert.Request) { r.Dept = "Minzheng" },
		"dotted department":    func(r *cert.Request) { r.Dept = "a.minzheng" },
		"second identity":      func(r *cert.Request) { r.Hosts = []string{"gongan.xinqiao"} },
		"identity below":       func(r *cert.Request) { r.Hosts = []string{"x.gongan.xinqiao"} },
		"wildcard":             func(r *cert.Request) { r.Hosts = []string{"*.example"} },
		"upper-case host":      func(r *cert.Request) { r.Hosts = []string{"GONGAN.XINQIAO"} },
		"trailing dot":         func(r *cert.Request) { r.Hosts = []string{"gongan.xinqiao."} },
		"host with NUL":        func(r *cert.Request) { r.Hosts = []string{"gongan.xinqiao\x00.example"} },
		"empty host":           func(r *cert.Request) { r.Hosts = []string{""} },
		"overlong host":        func(r *cert.Request) { r.Hosts = []string{strings.Repeat("abc.", 64) + "cn"} },
		"department with line": func(r *cert.Request) { r.Dept = "minzheng\n" },
	} {
		r := request(t, "minzheng", cert.Signing)
		change(&r)
		if _, err := ca.Issue(r, epoch); !errors.Is(err, cert.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ca.Issue(request(t, "minzheng", cert.Signing), epoch.Add(11*year)); !errors.Is(err, cert.ErrExpired) {
		t.Errorf("under an expired root: %v", err)
	}
	if _, err := ca.Issue(request(t, "minzheng", cert.Signing), epoch.Add(-time.Hour)); !errors.Is(err, cert.ErrExpired) {
		t.Errorf("before the root: %v", err)
	}
	for _, name := range []string{"", strings.Repeat("x", 65)} {
		if _, _, err := cert.NewCA(name, signerOf(rootKey), epoch, year); !errors.Is(err, cert.ErrRequest) {
			t.Errorf("CA named %q: %v", name, err)
		}
	}
}

func TestIssueNoticesWrongSigner(t *testing.T) {
	t.Parallel()
	shown, used := signerOf(newKey(t)), signerOf(newKey(t))
	if _, _, err := cert.NewCA("root", twoFaced{used, shown}, epoch, year); !errors.Is(err, cert.ErrProfile) {
		t.Errorf("root: %v", err)
	}
	_, root, err := cert.NewCA("root", shown, epoch, year)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := cert.OpenCA(root, twoFaced{used, shown})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(request(t, "minzheng", cert.Signing), epoch); !errors.Is(err, cert.ErrForeign) {
		t.Errorf("leaf: %v", err)
	}
}

// twoFaced signs with another key than it shows.
type twoFaced struct {
	crypto.Signer
	face crypto.Signer
}

func (s twoFaced) Public() crypto.PublicKey { return s.face.Public() }

func TestVerifyTime(t *testing.T) {
	t.Parallel()
	ca, root := newCA(t)
	r := request(t, "minzheng", cert.Signing)
	r.Lifetime = 20 * year // outlives the root
	der, err := ca.Issue(r, epoch)
	if err != nil {
		t.Fatal(err)
	}
	id, err := cert.Verify(root, der, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if !id.NotAfter.Equal(epoch.Add(10 * year)) {
		t.Errorf("the certificate ends at %v, after its root", id.NotAfter)
	}
	for at, want := range map[time.Time]error{
		id.NotBefore:                       nil,
		id.NotBefore.Add(-time.Nanosecond): cert.ErrExpired,
		id.NotAfter:                        nil,
		id.NotAfter.Add(time.Nanosecond):   cert.ErrExpired,
		{}:                                 cert.ErrExpired,
	} {
		if _, err := cert.Verify(root, der, at); !errors.Is(err, want) {
			t.Errorf("at %v: %v", at, err)
		}
	}
}

func TestVerifyForeign(t *testing.T) {
	t.Parallel()
	ca, root := newCA(t)
	_, otherRoot := newCA(t) // of the same name
	der, err := ca.Issue(request(t, "minzheng", cert.Signing), epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(otherRoot, der, epoch); !errors.Is(err, cert.ErrForeign) {
		t.Errorf("root of the same name: %v", err)
	}
	// Any changed byte is refused, whatever the reason; nothing panics.
	for i := range der {
		for _, flip := range []byte{1, 0x80, 0xff} {
			bad := append([]byte(nil), der...)
			bad[i] ^= flip
			if id, err := cert.Verify(root, bad, epoch); err == nil {
				t.Fatalf("byte %d changed by %#x still verifies as %+v", i, flip, id)
			} else if !errors.Is(err, cert.ErrProfile) && !errors.Is(err, cert.ErrForeign) && !errors.Is(err, cert.ErrExpired) {
				t.Fatalf("byte %d: %v is none of the sentinels", i, err)
			}
		}
	}
	for n := range der {
		if _, err := cert.Verify(root, der[:n], epoch); !errors.Is(err, cert.ErrProfile) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "trailing": append(append([]byte(nil), der...), 0), "root as leaf": root,
		"huge": make([]byte, 1<<20), "twice": append(append([]byte(nil), der...), der...),
	} {
		if _, err := cert.Verify(root, bad, epoch); !errors.Is(err, cert.ErrProfile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := cert.Verify(der, der, epoch); !errors.Is(err, cert.ErrProfile) {
		t.Errorf("leaf as root: %v", err)
	}
}

func TestPEM(t *testing.T) {
	t.Parallel()
	_, root := newCA(t)
	file := cert.EncodePEM(root)
	got, err := cert.DecodePEM(append([]byte("Certificate:\n  some text\n"), file...))
	if err != nil || cmp.Diff(root, got) != "" {
		t.Errorf("round trip: %v", err)
	}
	key := gm.MarshalPublicPEM(newKey(t).Public())
	for name, bad := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "key": key, "two": append(append([]byte(nil), file...), file...),
		"tail": append(append([]byte(nil), file...), "x"...),
	} {
		if _, err := cert.DecodePEM(bad); !errors.Is(err, cert.ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	ca, root := newCA(f)
	for _, usage := range []cert.Usage{cert.Signing, cert.Encryption} {
		der, err := ca.Issue(request(f, "minzheng", usage), epoch)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Add(root)
	f.Fuzz(func(t *testing.T, der []byte) {
		if id, err := cert.Verify(root, der, epoch); err == nil && (id.Dept != "minzheng" || id.Usage == cert.NoUsage) {
			t.Errorf("accepted a certificate of %+v", id)
		}
		cert.ParseRoot(der)
	})
}
