package cert_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

func TestCSR(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	hosts := []string{"node.example", "10.1.0.5", "::1"}
	der, err := cert.NewCSR("minzheng", cert.Signing, hosts, signerOf(key))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := cert.ParseCSR(der)
	if err != nil || csr.Dept != "minzheng" || csr.Usage != cert.Signing || csr.Key != key.Public() || !slices.Equal(csr.Hosts, hosts) {
		t.Errorf("%+v, %v", csr, err)
	}
	back, err := cert.DecodeCSR(cert.EncodeCSR(der))
	if err != nil || !bytes.Equal(back, der) {
		t.Errorf("PEM: %v", err)
	}
	if der, err := cert.NewCSR("minzheng", cert.Encryption, nil, signerOf(key)); err != nil {
		t.Error(err)
	} else if csr, err := cert.ParseCSR(der); err != nil || csr.Usage != cert.Encryption {
		t.Errorf("%+v, %v", csr, err)
	}
	if _, err := cert.NewCSR("minzheng", cert.NoUsage, nil, signerOf(key)); !errors.Is(err, cert.ErrRequest) {
		t.Errorf("a key for nothing: %v", err)
	}
	_, root := newCA(t)
	for name, file := range map[string][]byte{
		"two": bytes.Repeat(cert.EncodeCSR(der), 2), "certificate": cert.EncodePEM(root), "DER": der, "empty": nil,
		"mislabelled": cert.EncodePEM(der), "chain in one": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: bytes.Repeat(der, 2)}),
	} {
		if _, err := cert.DecodeCSR(file); !errors.Is(err, cert.ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string]struct {
		dept  string
		hosts []string
	}{"department": {"Min Zheng", nil}, "host": {"minzheng", []string{"gongan.xinqiao"}}, "wildcard": {"minzheng", []string{"*.example"}}} {
		if _, err := cert.NewCSR(bad.dept, cert.Signing, bad.hosts, signerOf(key)); !errors.Is(err, cert.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := cert.NewCSR("minzheng", cert.Signing, nil, twoFaced{signerOf(newKey(t)), signerOf(key)}); !errors.Is(err, cert.ErrCSR) {
		t.Errorf("a signer with another key: %v", err)
	}
}

func TestCSRAnyByte(t *testing.T) {
	t.Parallel()
	der, err := cert.NewCSR("minzheng", cert.Signing, []string{"node.example"}, signerOf(newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range der {
		bad := bytes.Clone(der)
		bad[i] ^= 1 << (i % 8)
		if csr, err := cert.ParseCSR(bad); !errors.Is(err, cert.ErrCSR) {
			t.Fatalf("byte %d: %+v, %v", i, csr, err)
		}
		if _, err := cert.ParseCSR(der[:i]); !errors.Is(err, cert.ErrCSR) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := cert.ParseCSR(make([]byte, 1<<20)); !errors.Is(err, cert.ErrCSR) {
		t.Errorf("huge: %v", err)
	}
}

// TestCSRAsksForMore makes well-signed requests for what is not granted.
func TestCSRAsksForMore(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	base := func() *tx509.CertificateRequest {
		return &tx509.CertificateRequest{Subject: pkix.Name{CommonName: "minzheng"}, SignatureAlgorithm: tx509.SM2WithSM3, DNSNames: []string{"node.example"}}
	}
	make := func(c *tx509.CertificateRequest) []byte {
		der, err := tx509.CreateCertificateRequest(rand.Reader, c, signerOf(key))
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if csr, err := cert.ParseCSR(make(base())); err != nil || csr.Dept != "minzheng" {
		t.Fatalf("negative control: %v", err)
	}
	for name, change := range map[string]func(*tx509.CertificateRequest){
		"to be a CA": func(c *tx509.CertificateRequest) {
			c.ExtraExtensions = []pkix.Extension{extension(false, []byte{0x30, 3, 1, 1, 0xff}, 2, 5, 29, 19)}
		},
		"to sign certificates": func(c *tx509.CertificateRequest) {
			c.DNSNames = nil
			c.ExtraExtensions = []pkix.Extension{extension(false, []byte{3, 2, 1, 6}, 2, 5, 29, 15)}
		},
		"another department":     func(c *tx509.CertificateRequest) { c.DNSNames = []string{"gongan.xinqiao"} },
		"department, other case": func(c *tx509.CertificateRequest) { c.DNSNames = []string{"MINZHENG.xinqiao"} },
		"the same twice":         func(c *tx509.CertificateRequest) { c.DNSNames = []string{"minzheng.xinqiao", "minzheng.xinqiao"} },
		"a wildcard":             func(c *tx509.CertificateRequest) { c.DNSNames = []string{"*.example"} },
		"a mail address":         func(c *tx509.CertificateRequest) { c.EmailAddresses = []string{"a@b.example"} },
		"no name":                func(c *tx509.CertificateRequest) { c.Subject = pkix.Name{} },
		"another form of name":   func(c *tx509.CertificateRequest) { c.Subject.CommonName = "minzheng.xinqiao" },
		"a longer subject":       func(c *tx509.CertificateRequest) { c.Subject.Organization = []string{"民政局"} },
		"a password": func(c *tx509.CertificateRequest) {
			c.Attributes = []pkix.AttributeTypeAndValueSET{{Type: []int{1, 2, 840, 113549, 1, 9, 7}, Value: [][]pkix.AttributeTypeAndValue{{{Type: []int{1, 2}, Value: "x"}}}}}
		},
	} {
		c := base()
		change(c)
		if csr, err := cert.ParseCSR(make(c)); !errors.Is(err, cert.ErrCSR) {
			t.Errorf("%s: %+v, %v", name, csr, err)
		}
	}
	// The corner that only tjfoc accepts (trap 6).
	der, err := tx509.CreateCertificateRequest(rand.Reader, base(), cornerSigner{signerOf(key), new(big.Int).SetBytes(key.Scalar())})
	if err != nil {
		t.Fatal(err)
	}
	c, err := tx509.ParseCertificateRequest(der)
	if err != nil || c.CheckSignature() != nil {
		t.Fatalf("negative control: tjfoc alone: %v", err)
	}
	if _, err := cert.ParseCSR(der); !errors.Is(err, cert.ErrCSR) {
		t.Errorf("split verdict: %v", err)
	}
}

// tool finds openssl, or skips the test.
func tool(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is missing")
	}
	return func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput()
		return string(out), err
	}
}

const distid = "distid:" + gm.DefaultUID

// TestCSRWithOpenSSL has openssl verify our request, and makes us read openssl's.
func TestCSRWithOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := tool(t)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	der, err := cert.NewCSR("minzheng", cert.Signing, []string{"10.0.0.1"}, signerOf(newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("our.csr"), cert.EncodeCSR(der), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := openssl("req", "-verify", "-in", path("our.csr"), "-noout", "-text", "-vfyopt", distid); err != nil ||
		!strings.Contains(out, "verify OK") || !strings.Contains(out, "DNS:minzheng.xinqiao, IP Address:10.0.0.1") {
		t.Errorf("openssl req -verify: %v\n%s", err, out)
	}
	if out, err := openssl("req", "-verify", "-in", path("our.csr"), "-noout", "-vfyopt", "distid:another"); err == nil && strings.Contains(out, "verify OK") {
		t.Errorf("openssl verifies under another id:\n%s", out)
	}
	if out, err := openssl("genpkey", "-algorithm", "SM2", "-out", path("their.key")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	theirs := func(id string, more ...string) (cert.CSR, error) {
		t.Helper()
		args := []string{"req", "-new", "-key", path("their.key"), "-sm3", "-sigopt", id, "-subj", "/CN=minzheng", "-out", path("their.csr")}
		if out, err := openssl(append(args, more...)...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		file, err := os.ReadFile(path("their.csr"))
		if err != nil {
			t.Fatal(err)
		}
		der, err := cert.DecodeCSR(file)
		if err != nil {
			t.Fatal(err)
		}
		return cert.ParseCSR(der)
	}
	csr, err := theirs(distid, "-addext", "subjectAltName=DNS:minzheng.xinqiao,DNS:node.example,IP:10.0.0.9")
	if err != nil || !slices.Equal(csr.Hosts, []string{"node.example", "10.0.0.9"}) {
		t.Errorf("openssl's request: %+v, %v", csr, err)
	}
	csr, err = theirs(distid, "-addext", "keyUsage=critical,keyEncipherment,dataEncipherment")
	if err != nil || csr.Usage != cert.Encryption {
		t.Errorf("openssl's request for an encryption key: %+v, %v", csr, err)
	}
	if csr, err := theirs(distid); err != nil || csr.Hosts != nil || csr.Usage != cert.NoUsage {
		t.Errorf("openssl's request without names: %+v, %v", csr, err)
	}
	ca, root := newCA(t)
	leaf := issue(t, ca, cert.Request{Dept: csr.Dept, Usage: cert.Signing, Key: csr.Key, Hosts: csr.Hosts, Lifetime: year})
	if id, err := cert.Verify(root, leaf, epoch); err != nil || id.Key != csr.Key {
		t.Errorf("granted: %+v, %v", id, err)
	}
	if _, err := theirs("distid:another"); !errors.Is(err, cert.ErrCSR) {
		t.Errorf("openssl's request under another id: %v", err)
	}
	if _, err := theirs(distid, "-addext", "basicConstraints=CA:TRUE"); !errors.Is(err, cert.ErrCSR) {
		t.Errorf("openssl's request to be a CA: %v", err)
	}
}
