package cert_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tsm2 "github.com/tjfoc/gmsm/sm2"
	tx509 "github.com/tjfoc/gmsm/x509"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

// forge is a CA that signs anything: a root whose holder does not use this
// package, or was talked into something.
type forge struct {
	signer crypto.Signer
	root   *tx509.Certificate
	der    []byte
}

func newForge(t testing.TB) forge {
	t.Helper()
	signer := signerOf(newKey(t))
	_, der, err := cert.NewCA("root", signer, epoch, 10*year)
	if err != nil {
		t.Fatal(err)
	}
	root, err := tx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return forge{signer, root, der}
}

// template returns what Issue would sign for a signing key.
func (f forge) template(t testing.TB) *tx509.Certificate {
	t.Helper()
	return &tx509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "minzheng"}, SignatureAlgorithm: tx509.SM2WithSM3,
		NotBefore: epoch, NotAfter: epoch.Add(year), BasicConstraintsValid: true,
		SubjectKeyId: []byte{1, 2, 3}, AuthorityKeyId: f.root.SubjectKeyId,
		KeyUsage:    tx509.KeyUsageDigitalSignature | tx509.KeyUsageContentCommitment,
		ExtKeyUsage: []tx509.ExtKeyUsage{tx509.ExtKeyUsageServerAuth, tx509.ExtKeyUsageClientAuth},
		DNSNames:    []string{cert.Name("minzheng"), "node.example"},
	}
}

func (f forge) sign(t testing.TB, template *tx509.Certificate) []byte {
	t.Helper()
	der, err := tx509.CreateCertificate(template, f.root, newKey(t).Public().Tjfoc(), f.signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func extension(critical bool, value []byte, id ...int) pkix.Extension {
	return pkix.Extension{Id: id, Critical: critical, Value: value}
}

func extra(e pkix.Extension) func(*tx509.Certificate) {
	return func(c *tx509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, e) }
}

// names is a SubjectAltName of any kinds of name.
func names(tags map[cbasn1.Tag]string, dns ...string) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, n := range dns {
			b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(n)) })
		}
		for tag, n := range tags {
			b.AddASN1(tag.ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(n)) })
		}
	})
	return b.BytesOrPanic()
}

// TestTrap10LenientX509 has the root sign what it should not. Each case but the
// first is a certificate that tjfoc reads, and mostly accepts.
func TestTrap10LenientX509(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	if _, err := cert.Verify(f.der, f.sign(t, f.template(t)), epoch); err != nil {
		t.Fatalf("negative control: the unchanged template: %v", err)
	}
	null := []byte{5, 0}
	for name, change := range map[string]func(*tx509.Certificate){
		"unknown critical extension":    extra(extension(true, null, 1, 2, 3, 4)),
		"unknown extension":             extra(extension(false, null, 1, 2, 3, 4)),
		"name constraints":              func(c *tx509.Certificate) { c.PermittedDNSDomains = []string{"example"} },
		"no SAN, CN matches":            func(c *tx509.Certificate) { c.DNSNames = nil },
		"no identity name":              func(c *tx509.Certificate) { c.DNSNames = []string{"node.example"} },
		"two identity names":            func(c *tx509.Certificate) { c.DNSNames = append(c.DNSNames, cert.Name("gongan")) },
		"identity twice":                func(c *tx509.Certificate) { c.DNSNames = append(c.DNSNames, cert.Name("minzheng")) },
		"identity in other case":        func(c *tx509.Certificate) { c.DNSNames = append(c.DNSNames, "GongAn.XinQiao") },
		"identity with trailing dot":    func(c *tx509.Certificate) { c.DNSNames = append(c.DNSNames, "gongan.xinqiao.") },
		"name with wrong suffix":        func(c *tx509.Certificate) { c.DNSNames = []string{"minzheng.xinqiao.example"} },
		"name without a department":     func(c *tx509.Certificate) { c.DNSNames = []string{".xinqiao"} },
		"identity below another":        func(c *tx509.Certificate) { c.DNSNames = []string{"minzheng.gongan.xinqiao"} },
		"wildcard":                      func(c *tx509.Certificate) { c.DNSNames = append(c.DNSNames, "*.example") },
		"wildcard identity":             func(c *tx509.Certificate) { c.DNSNames = []string{"*.xinqiao"} },
		"NUL in a name":                 func(c *tx509.Certificate) { c.DNSNames = append(c.DNSNames, "gongan.xinqiao\x00.example") },
		"mail address":                  func(c *tx509.Certificate) { c.EmailAddresses = []string{"gongan@gongan.xinqiao"} },
		"URI":                           extra(extension(false, names(map[cbasn1.Tag]string{6: "https://gongan.xinqiao"}, "minzheng.xinqiao"), 2, 5, 29, 17)),
		"other kinds of name only":      extra(extension(false, names(map[cbasn1.Tag]string{6: "https://gongan.xinqiao"}), 2, 5, 29, 17)),
		"critical SAN":                  extra(extension(true, names(nil, "minzheng.xinqiao"), 2, 5, 29, 17)),
		"subject is another department": func(c *tx509.Certificate) { c.Subject.CommonName = "gongan" },
		"no subject":                    func(c *tx509.Certificate) { c.Subject = pkix.Name{} },
		"a CA":                          func(c *tx509.Certificate) { c.IsCA = true },
		"a CA with keyCertSign":         func(c *tx509.Certificate) { c.IsCA = true; c.KeyUsage = tx509.KeyUsageCertSign },
		"no basic constraints":          func(c *tx509.Certificate) { c.BasicConstraintsValid = false },
		"no key usage":                  func(c *tx509.Certificate) { c.KeyUsage = 0 },
		"signing and encryption": func(c *tx509.Certificate) {
			c.KeyUsage |= tx509.KeyUsageKeyEncipherment | tx509.KeyUsageDataEncipherment
		},
		"half a signing usage":           func(c *tx509.Certificate) { c.KeyUsage = tx509.KeyUsageDigitalSignature },
		"signing and keyCertSign":        func(c *tx509.Certificate) { c.KeyUsage |= tx509.KeyUsageCertSign },
		"key agreement":                  func(c *tx509.Certificate) { c.KeyUsage = tx509.KeyUsageKeyAgreement },
		"no extended key usage":          func(c *tx509.Certificate) { c.ExtKeyUsage = nil },
		"any extended key usage":         func(c *tx509.Certificate) { c.ExtKeyUsage = []tx509.ExtKeyUsage{tx509.ExtKeyUsageAny} },
		"code signing too":               func(c *tx509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, tx509.ExtKeyUsageCodeSigning) },
		"unknown extended key usage too": func(c *tx509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} },
		"no subject key identifier":      func(c *tx509.Certificate) { c.SubjectKeyId = nil },
		"zero serial number":             func(c *tx509.Certificate) { c.SerialNumber = new(big.Int) },
		"negative serial number":         func(c *tx509.Certificate) { c.SerialNumber = big.NewInt(-5) },
		"overlong serial number":         func(c *tx509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 200) },
	} {
		c := f.template(t)
		change(c)
		der := f.sign(t, c)
		if id, err := cert.Verify(f.der, der, epoch); !errors.Is(err, cert.ErrProfile) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
		if _, err := cert.Inspect(der); !errors.Is(err, cert.ErrProfile) {
			t.Errorf("%s: Inspect: %v", name, err)
		}
	}
}

func TestRootProfile(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	signer := signerOf(key)
	base := func() *tx509.Certificate {
		return &tx509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, SignatureAlgorithm: tx509.SM2WithSM3,
			NotBefore: epoch, NotAfter: epoch.Add(year), BasicConstraintsValid: true, IsCA: true,
			KeyUsage: tx509.KeyUsageCertSign, SubjectKeyId: []byte{1},
		}
	}
	for name, test := range map[string]struct {
		change func(*tx509.Certificate)
		ok     bool
	}{
		"plain":                      {func(*tx509.Certificate) {}, true},
		"unknown extension":          {extra(extension(false, []byte{5, 0}, 1, 2, 3)), true},
		"unknown critical extension": {extra(extension(true, []byte{5, 0}, 1, 2, 3)), false},
		"no CA":                      {func(c *tx509.Certificate) { c.IsCA = false }, false},
		"no basic constraints":       {func(c *tx509.Certificate) { c.BasicConstraintsValid = false }, false},
		"no keyCertSign":             {func(c *tx509.Certificate) { c.KeyUsage = tx509.KeyUsageCRLSign }, false},
		"no key usage":               {func(c *tx509.Certificate) { c.KeyUsage = 0 }, false},
		"signs messages too":         {func(c *tx509.Certificate) { c.KeyUsage |= tx509.KeyUsageDigitalSignature }, false},
		"name constraints":           {func(c *tx509.Certificate) { c.PermittedDNSDomains = []string{"example"} }, false},
		"no subject key identifier":  {func(c *tx509.Certificate) { c.SubjectKeyId = nil }, false},
		"extended key usage":         {func(c *tx509.Certificate) { c.ExtKeyUsage = []tx509.ExtKeyUsage{tx509.ExtKeyUsageClientAuth} }, false},
	} {
		c := base()
		test.change(c)
		der, err := tx509.CreateCertificate(c, c, key.Public().Tjfoc(), signer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.ParseRoot(der); test.ok && err != nil || !test.ok && !errors.Is(err, cert.ErrProfile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Signed by another key, and issued under another name.
	c := base()
	for name, parent := range map[string]*tx509.Certificate{"same name": c, "other name": {Subject: pkix.Name{CommonName: "above"}}} {
		der, err := tx509.CreateCertificate(c, parent, key.Public().Tjfoc(), signerOf(newKey(t)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.ParseRoot(der); !errors.Is(err, cert.ErrProfile) {
			t.Errorf("not self-signed, %s: %v", name, err)
		}
	}
}

// TestIntermediateIsForeign has a sub-CA under the root issue a certificate.
func TestIntermediateIsForeign(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	subKey := newKey(t)
	sub := f.template(t)
	sub.Subject.CommonName, sub.IsCA, sub.KeyUsage = "sub", true, tx509.KeyUsageCertSign
	subDER, err := tx509.CreateCertificate(sub, f.root, subKey.Public().Tjfoc(), f.signer)
	if err != nil {
		t.Fatal(err)
	}
	parent, err := tx509.ParseCertificate(subDER)
	if err != nil {
		t.Fatal(err)
	}
	leaf := f.template(t)
	leaf.AuthorityKeyId = parent.SubjectKeyId
	der, err := tx509.CreateCertificate(leaf, parent, newKey(t).Public().Tjfoc(), signerOf(subKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(f.der, der, epoch); !errors.Is(err, cert.ErrForeign) {
		t.Errorf("chain of three: %v", err)
	}
	// The sub-CA claims the root's name and key identifier.
	leaf = f.template(t)
	der, err = tx509.CreateCertificate(leaf, f.root, newKey(t).Public().Tjfoc(), signerOf(subKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(f.der, der, epoch); !errors.Is(err, cert.ErrForeign) {
		t.Errorf("the root's name, another's key: %v", err)
	}
}

// splitCertificate takes a certificate apart and lets a test put it together in
// another way, with the signature still good.
func splitCertificate(t testing.TB, der []byte) (tbs, alg, sig []byte) {
	t.Helper()
	in, seq := cryptobyte.String(der), cryptobyte.String(nil)
	var a, b, c cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1Element(&a, cbasn1.SEQUENCE) ||
		!seq.ReadASN1Element(&b, cbasn1.SEQUENCE) || !seq.ReadASN1Element(&c, cbasn1.BIT_STRING) {
		t.Fatal("not a certificate")
	}
	return a, b, c
}

func sequence(parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return b.BytesOrPanic()
}

func bitString(content []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1BitString(content)
	return b.BytesOrPanic()
}

// TestOneEncoding shows that a certificate has one fingerprint: nothing outside
// what is signed can be changed.
func TestOneEncoding(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	der := f.sign(t, f.template(t))
	tbs, alg, sig := splitCertificate(t, der)
	if again := sequence(tbs, alg, sig); !bytes.Equal(der, again) {
		t.Fatal("the test cannot put a certificate together")
	}
	c, err := tx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	oid := func(id ...int) []byte {
		b, err := asn1.Marshal(asn1.ObjectIdentifier(id))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sm2 := oid(1, 2, 156, 10197, 1, 501)
	for name, bad := range map[string][]byte{
		"outer algorithm is another":   sequence(tbs, sequence(oid(1, 2, 840, 10045, 4, 3, 2)), sig),
		"outer algorithm with NULL":    sequence(tbs, sequence(sm2, []byte{5, 0}), sig),
		"outer algorithm empty":        sequence(tbs, sequence(), sig),
		"element after the signature":  sequence(tbs, alg, sig, []byte{5, 0}),
		"signature with trailing byte": sequence(tbs, alg, bitString(append(bytes.Clone(c.Signature), 0))),
		"signature with third number":  sequence(tbs, alg, bitString(sequence(c.Signature[2:], []byte{2, 1, 1}))),
		"signature empty":              sequence(tbs, alg, bitString(nil)),
		"unused bits in the signature": sequence(tbs, alg, append(bytes.Clone(sig[:2]), append([]byte{1}, sig[3:]...)...)),
		"length in long form":          append([]byte{0x30, 0x83, 0, der[2], der[3]}, der[4:]...),
	} {
		if _, err := cert.Verify(f.der, bad, epoch); !errors.Is(err, cert.ErrProfile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOtherKeys has the root certify keys that are no SM2 keys.
func TestOtherKeys(t *testing.T) {
	t.Parallel()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := newForge(t)
	_, alg, _ := splitCertificate(t, f.sign(t, f.template(t)))
	c, err := tx509.ParseCertificate(f.sign(t, f.template(t)))
	if err != nil {
		t.Fatal(err)
	}
	spki := c.RawSubjectPublicKeyInfo
	tbs := bytes.Clone(c.RawTBSCertificate)
	at := bytes.Index(tbs, spki)
	replace := func(point []byte) []byte {
		b := bytes.Clone(tbs)
		copy(b[at+len(spki)-65:], point)
		sig, err := f.signer.Sign(rand.Reader, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		return sequence(b, alg, bitString(sig))
	}
	good := newKey(t).Public().Bytes()
	if _, err := cert.Verify(f.der, replace(good), epoch); err != nil {
		t.Fatalf("negative control: %v", err)
	}
	nist, err := p256.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	off := bytes.Clone(good)
	off[64] ^= 1
	for name, point := range map[string][]byte{
		"of another curve": nist, "off the curve": off, "zero": append([]byte{4}, make([]byte, 64)...), "hybrid form": append([]byte{6}, good[1:]...),
	} {
		if _, err := cert.Verify(f.der, replace(point), epoch); !errors.Is(err, cert.ErrProfile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWeb(t *testing.T) {
	t.Parallel()
	caCert, caKey, err := cert.NewWebCA("民政 web", epoch, year)
	if err != nil {
		t.Fatal(err)
	}
	crt, key, err := cert.IssueWeb(caCert, caKey, []string{"node.example", "127.0.0.1", "::1"}, epoch, 2*year)
	if err != nil {
		t.Fatal(err)
	}
	checkWeb(t, caCert, crt, key)
	for name, hosts := range map[string][]string{"none": nil, "wildcard": {"*.example"}, "empty": {""}, "space": {"a b"}} {
		if _, _, err := cert.IssueWeb(caCert, caKey, hosts, epoch, year); !errors.Is(err, cert.ErrRequest) {
			t.Errorf("hosts %s: %v", name, err)
		}
	}
	for name, at := range map[string]time.Time{"early": epoch.Add(-time.Hour), "late": epoch.Add(2 * year)} {
		if _, _, err := cert.IssueWeb(caCert, caKey, []string{"a.example"}, at, year); !errors.Is(err, cert.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := cert.IssueWeb(crt, key, []string{"a.example"}, epoch, year); !errors.Is(err, cert.ErrRequest) {
		t.Errorf("a leaf as CA: %v", err)
	}
	if _, _, err := cert.IssueWeb(caCert, key, []string{"a.example"}, epoch, year); err == nil {
		t.Error("issued with another's key")
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	ca, root := newCA(t)
	r := request(t, "minzheng", cert.Encryption)
	r.Hosts = []string{"node.example", "10.0.0.1"}
	leaf, err := ca.Issue(r, epoch)
	if err != nil {
		t.Fatal(err)
	}
	webCA, webCAKey, err := cert.NewWebCA("web", epoch, year)
	if err != nil {
		t.Fatal(err)
	}
	web, _, err := cert.IssueWeb(webCA, webCAKey, r.Hosts, epoch, year)
	if err != nil {
		t.Fatal(err)
	}
	decode := func(file []byte) []byte {
		der, err := cert.DecodePEM(file)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, test := range []struct {
		der         []byte
		kind        cert.Kind
		name, usage string
		hosts       string
	}{
		{root, cert.KindRoot, "Xinqiao test root", "", ""},
		{leaf, cert.KindDepartment, "minzheng", "encryption", "node.example 10.0.0.1"},
		{decode(webCA), cert.KindWebCA, "web", "", ""},
		{decode(web), cert.KindWeb, "node.example", "", "node.example 10.0.0.1"},
	} {
		d, err := cert.Describe(test.der)
		if err != nil || d.Kind != test.kind || d.Name != test.name || d.Usage != test.usage || strings.Join(d.Hosts, " ") != test.hosts {
			t.Errorf("%s: %+v, %v", test.kind, d, err)
		}
	}
	for _, bad := range [][]byte{nil, {0x30, 0}, leaf[:100]} {
		if _, err := cert.Describe(bad); !errors.Is(err, cert.ErrProfile) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

// TestOpenSSL has an independent implementation verify our chain.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is missing")
	}
	dir := t.TempDir()
	now := time.Now()
	ca, root, err := cert.NewCA("openssl root", signerOf(newKey(t)), now, year)
	if err != nil {
		t.Fatal(err)
	}
	_, otherRoot, err := cert.NewCA("openssl root", signerOf(newKey(t)), now, year)
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string, der []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, cert.EncodePEM(der), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	rootFile, otherFile := path("root.pem", root), path("other.pem", otherRoot)
	for usage, text := range map[cert.Usage]string{
		cert.Signing: "Digital Signature, Non Repudiation", cert.Encryption: "Key Encipherment, Data Encipherment",
	} {
		r := request(t, "minzheng", usage)
		r.Hosts = []string{"10.0.0.1"}
		der, err := ca.Issue(r, now)
		if err != nil {
			t.Fatal(err)
		}
		leaf := path(usage.String()+".pem", der)
		verify := func(root string) ([]byte, error) {
			return exec.Command(openssl, "verify", "-x509_strict", "-vfyopt", "distid:"+gm.DefaultUID, "-CAfile", root, leaf).CombinedOutput()
		}
		if out, err := verify(rootFile); err != nil {
			t.Errorf("openssl verify: %v\n%s", err, out)
		}
		if out, err := verify(otherFile); err == nil {
			t.Errorf("openssl verifies under another root:\n%s", out)
		}
		out, err := exec.Command(openssl, "x509", "-in", leaf, "-noout", "-text").CombinedOutput()
		for _, want := range []string{text, "DNS:minzheng.xinqiao, IP Address:10.0.0.1", "CA:FALSE", "SM2-with-SM3"} {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("openssl x509 does not say %q: %v\n%s", want, err, out)
			}
		}
	}
}

// cornerSigner signs with r ≡ e, which only the key's owner can do and only tjfoc
// accepts (trap 6).
type cornerSigner struct {
	crypto.Signer
	d *big.Int
}

func (s cornerSigner) Sign(_ io.Reader, msg []byte, _ crypto.SignerOpts) ([]byte, error) {
	za, err := tsm2.ZA(s.Public().(*tsm2.PublicKey), []byte(gm.DefaultUID))
	if err != nil {
		return nil, err
	}
	digest := gm.Emmansun().Sum(za, msg)
	n := tsm2.P256Sm2().Params().N
	e := new(big.Int).SetBytes(digest[:])
	e.Mod(e, n)
	inverse := new(big.Int).Sub(big.NewInt(1), s.d)
	inverse.ModInverse(inverse.Mod(inverse, n), n)
	sig := e.Mul(e, s.d).Mul(e, inverse).Mod(e, n)
	var out gm.Signature
	new(big.Int).Mod(new(big.Int).SetBytes(digest[:]), n).FillBytes(out[:32])
	sig.FillBytes(out[32:])
	return out.ASN1(), nil
}

// TestSplitVerdict has the root sign what a court's verifier would reject.
func TestSplitVerdict(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	signer := signerOf(key)
	_, root, err := cert.NewCA("root", signer, epoch, year)
	if err != nil {
		t.Fatal(err)
	}
	parent, err := tx509.ParseCertificate(root)
	if err != nil {
		t.Fatal(err)
	}
	f := forge{cornerSigner{signer, new(big.Int).SetBytes(key.Scalar())}, parent, root}
	der := f.sign(t, f.template(t))
	leaf, err := tx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.CheckSignatureFrom(parent); err != nil {
		t.Fatalf("negative control: tjfoc alone: %v", err)
	}
	if _, err := cert.Verify(root, der, epoch); !errors.Is(err, cert.ErrForeign) {
		t.Errorf("Verify: %v", err)
	}
}
