package cert_test

import (
	"bytes"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

// hierarchy is a root and an issuing CA below it.
type hierarchy struct {
	root    []byte
	offline *cert.CA
	issuing *cert.CA
	key     *gm.PrivateKey // of the issuing CA
}

func newHierarchy(t testing.TB) hierarchy {
	t.Helper()
	h := hierarchy{key: newKey(t)}
	h.offline, h.root = newCA(t)
	h.issuing = h.below(t, "Xinqiao issuing CA 1", h.key)
	return h
}

func (h hierarchy) below(t testing.TB, name string, key *gm.PrivateKey) *cert.CA {
	t.Helper()
	der, err := h.offline.IssueCA(name, key.Public(), epoch, 5*year)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := cert.OpenIssuingCA(h.root, der, signerOf(key))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t testing.TB, ca *cert.CA, r cert.Request) []byte {
	t.Helper()
	der, err := ca.Issue(r, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestChain(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	for _, usage := range []cert.Usage{cert.Signing, cert.Encryption} {
		r := request(t, "minzheng", usage)
		chain := issue(t, h.issuing, r)
		leaf, issuer := cert.Leaf(chain), cert.Issuer(chain)
		if !bytes.Equal(issuer, h.issuing.Issuing()) || !bytes.Equal(slices.Concat(leaf, issuer), chain) {
			t.Fatal("a chain is not the leaf followed by its issuing CA")
		}
		id, err := cert.Verify(h.root, chain, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if id.Dept != "minzheng" || id.Usage != usage || id.Key != r.Key ||
			id.Fingerprint != gm.Tjfoc().Sum(chain) || id.Leaf != gm.Tjfoc().Sum(leaf) {
			t.Errorf("identity %+v", id)
		}
		if _, err := cert.Verify(h.root, leaf, epoch); !errors.Is(err, cert.ErrForeign) {
			t.Errorf("the leaf without its issuer: %v", err)
		}
		back, err := cert.DecodePEM(cert.EncodePEM(chain))
		if err != nil || !bytes.Equal(back, chain) {
			t.Errorf("PEM: %v", err)
		}
		d, err := cert.Describe(chain)
		if err != nil || d.Kind != cert.KindDepartment || d.Issuer != "Xinqiao issuing CA 1" {
			t.Errorf("%+v, %v", d, err)
		}
		got, whole, err := h.issuing.Root().VerifyLeaf(leaf, [][]byte{nil, h.root, leaf, h.below(t, "another", newKey(t)).Issuing(), issuer}, epoch)
		if err != nil || got != id || !bytes.Equal(whole, chain) {
			t.Errorf("VerifyLeaf: %+v, %v", got, err)
		}
		for name, issuers := range map[string][][]byte{"none": nil, "others": {h.root, leaf}} {
			if _, _, err := h.issuing.Root().VerifyLeaf(leaf, issuers, epoch); !errors.Is(err, cert.ErrForeign) {
				t.Errorf("VerifyLeaf, issuers %s: %v", name, err)
			}
		}
	}
	// The root's own leaves stay what they were.
	alone := issue(t, h.offline, request(t, "authority", cert.Signing))
	id, err := cert.Verify(h.root, alone, epoch)
	if err != nil || id.Fingerprint != id.Leaf || cert.Issuer(alone) != nil || !bytes.Equal(cert.Leaf(alone), alone) {
		t.Errorf("%+v, %v", id, err)
	}
	if d, err := cert.Describe(h.issuing.Issuing()); err != nil || d.Kind != cert.KindIssuingCA {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestChainShapes puts genuine certificates together in ways that are no chain.
func TestChainShapes(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	chain := issue(t, h.issuing, request(t, "minzheng", cert.Signing))
	other := issue(t, h.issuing, request(t, "gongan", cert.Signing))
	direct := issue(t, h.offline, request(t, "minzheng", cert.Signing))
	leaf, sub := cert.Leaf(chain), cert.Issuer(chain)
	another := h.below(t, "another", newKey(t)).Issuing()
	for name, parts := range map[string][][]byte{
		"CA first":                    {sub, leaf},
		"leaf twice":                  {leaf, leaf},
		"another leaf as its issuer":  {leaf, cert.Leaf(other)},
		"the root as issuing CA":      {leaf, h.root},
		"the root behind its leaf":    {direct, h.root},
		"an issuer that issued none":  {leaf, another},
		"an issuer of the root's":     {direct, sub},
		"with the root at the end":    {leaf, sub, h.root},
		"a loop":                      {leaf, sub, leaf},
		"issuer twice":                {leaf, sub, sub},
		"three leaves":                {leaf, leaf, leaf},
		"something behind":            {leaf, sub, {0}},
		"half a certificate behind":   {leaf, sub[:100]},
		"an empty sequence behind":    {leaf, {0x30, 0}},
		"a sequence with more behind": {leaf, {0x30, 1, 0}},
		"nothing":                     {},
		"two issuers":                 {sub, another},
	} {
		der := slices.Concat(parts...)
		for what, err := range map[string]error{"Verify": second(cert.Verify(h.root, der, epoch)), "Inspect": second(cert.Inspect(der))} {
			if !errors.Is(err, cert.ErrProfile) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
		if _, _, err := h.offline.Root().VerifyLeaf(der, [][]byte{sub, h.root}, epoch); !errors.Is(err, cert.ErrProfile) {
			t.Errorf("%s: VerifyLeaf: %v", name, err)
		}
	}
	for name, der := range map[string][]byte{"issuing CA": sub, "root": h.root} {
		if _, err := cert.Verify(h.root, der, epoch); !errors.Is(err, cert.ErrProfile) {
			t.Errorf("%s as a leaf: %v", name, err)
		}
	}
	if _, err := cert.Verify(sub, chain, epoch); !errors.Is(err, cert.ErrProfile) {
		t.Errorf("the issuing CA as an anchor: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestChainProfile has the root certify CAs that it should not.
func TestChainProfile(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	base := func() *tx509.Certificate {
		return &tx509.Certificate{
			SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "issuing"}, SignatureAlgorithm: tx509.SM2WithSM3,
			NotBefore: epoch, NotAfter: epoch.Add(5 * year), BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
			KeyUsage: tx509.KeyUsageCertSign | tx509.KeyUsageCRLSign, SubjectKeyId: []byte{7, 7}, AuthorityKeyId: f.root.SubjectKeyId,
		}
	}
	// leafUnder makes the sub-CA issue a leaf, whatever the sub-CA is.
	leafUnder := func(sub *tx509.Certificate, subKey *gm.PrivateKey, signedBy forge) []byte {
		subDER, err := tx509.CreateCertificate(sub, signedBy.root, subKey.Public().Tjfoc(), signedBy.signer)
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
		return slices.Concat(der, subDER)
	}
	if _, err := cert.Verify(f.der, leafUnder(base(), newKey(t), f), epoch); err != nil {
		t.Fatalf("negative control: %v", err)
	}
	null := []byte{5, 0}
	for name, change := range map[string]func(*tx509.Certificate){
		"no CA":                      func(c *tx509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false },
		"no basic constraints":       func(c *tx509.Certificate) { c.BasicConstraintsValid = false },
		"no path length":             func(c *tx509.Certificate) { c.MaxPathLenZero = false },
		"a CA below it":              func(c *tx509.Certificate) { c.MaxPathLenZero, c.MaxPathLen = false, 1 },
		"no keyCertSign":             func(c *tx509.Certificate) { c.KeyUsage = tx509.KeyUsageCRLSign },
		"no cRLSign":                 func(c *tx509.Certificate) { c.KeyUsage = tx509.KeyUsageCertSign },
		"signs messages too":         func(c *tx509.Certificate) { c.KeyUsage |= tx509.KeyUsageDigitalSignature },
		"name constraints":           func(c *tx509.Certificate) { c.PermittedDNSDomains = []string{"example"} },
		"extended key usage":         func(c *tx509.Certificate) { c.ExtKeyUsage = []tx509.ExtKeyUsage{tx509.ExtKeyUsageClientAuth} },
		"alternative name":           func(c *tx509.Certificate) { c.DNSNames = []string{"minzheng.xinqiao"} },
		"unknown extension":          extra(extension(false, null, 1, 2, 3)),
		"unknown critical extension": extra(extension(true, null, 1, 2, 3)),
		"no subject key identifier":  func(c *tx509.Certificate) { c.SubjectKeyId = nil },
		"a department's name":        func(c *tx509.Certificate) { c.Subject.CommonName = "minzheng.xinqiao" },
		"a department's name, upper": func(c *tx509.Certificate) { c.Subject.CommonName = "Minzheng.XinQiao." },
		"no name":                    func(c *tx509.Certificate) { c.Subject = pkix.Name{} },
		"the root's own name":        func(c *tx509.Certificate) { c.Subject = f.root.Subject },
		"the leaf's name":            func(c *tx509.Certificate) { c.Subject = pkix.Name{CommonName: "minzheng"} },
		"outlives the root":          func(c *tx509.Certificate) { c.NotAfter = f.root.NotAfter.Add(time.Second) },
		"older than the root":        func(c *tx509.Certificate) { c.NotBefore = f.root.NotBefore.Add(-time.Second) },
	} {
		c := base()
		change(c)
		if id, err := cert.Verify(f.der, leafUnder(c, newKey(t), f), epoch); !errors.Is(err, cert.ErrProfile) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	for name, test := range map[string]struct {
		chain []byte
		at    time.Time
		want  error
	}{
		"another authority key": {leafUnder(func() *tx509.Certificate {
			c := base()
			extra(extension(false, []byte{0x30, 3, 0x80, 1, 9}, 2, 5, 29, 35))(c)
			return c
		}(), newKey(t), f), epoch, cert.ErrForeign},
		"of another root":      {leafUnder(base(), newKey(t), newForge(t)), epoch, cert.ErrForeign},
		"another's signature":  {leafUnder(base(), newKey(t), forge{signerOf(newKey(t)), f.root, f.der}), epoch, cert.ErrForeign},
		"issuer not yet valid": {leafUnder(base(), newKey(t), f), epoch.Add(-time.Second), cert.ErrExpired},
		"leaf expired":         {leafUnder(base(), newKey(t), f), epoch.Add(2 * year), cert.ErrExpired},
		"expired issuer":       {leafUnder(func() *tx509.Certificate { c := base(); c.NotAfter = epoch.Add(time.Hour); return c }(), newKey(t), f), epoch.Add(2 * time.Hour), cert.ErrExpired},
		"other key of the issue": {func() []byte {
			a, b := leafUnder(base(), newKey(t), f), leafUnder(base(), newKey(t), f)
			return slices.Concat(cert.Leaf(a), cert.Issuer(b))
		}(), epoch, cert.ErrForeign},
	} {
		if _, err := cert.Verify(f.der, test.chain, test.at); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// TestRootWithoutRoom has a CA below a root that permits none: one made before
// issuing CAs were thought of, whose certificates stay good.
func TestRootWithoutRoom(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	c := &tx509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "old root"}, SignatureAlgorithm: tx509.SM2WithSM3,
		NotBefore: epoch, NotAfter: epoch.Add(10 * year), BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		KeyUsage: tx509.KeyUsageCertSign | tx509.KeyUsageCRLSign, SubjectKeyId: []byte{1}, AuthorityKeyId: []byte{1},
	}
	root, err := tx509.CreateCertificate(c, c, key.Public().Tjfoc(), signerOf(key))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := cert.OpenCA(root, signerOf(key))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(root, issue(t, ca, request(t, "minzheng", cert.Signing)), epoch); err != nil {
		t.Error(err)
	}
	if _, err := ca.IssueCA("issuing", newKey(t).Public(), epoch, year); !errors.Is(err, cert.ErrRequest) {
		t.Errorf("IssueCA: %v", err)
	}
	h := newHierarchy(t)
	if _, err := cert.OpenIssuingCA(root, h.issuing.Issuing(), signerOf(h.key)); !errors.Is(err, cert.ErrForeign) {
		t.Errorf("another root's issuing CA: %v", err)
	}
}

func TestIssueCARefuses(t *testing.T) {
	t.Parallel()
	rootKey := newKey(t)
	ca, root, err := cert.NewCA("root", signerOf(rootKey), epoch, 10*year)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	for name, test := range map[string]struct {
		ca   *cert.CA
		name string
		key  gm.PublicKey
		life time.Duration
	}{
		"no name":          {ca, "", key.Public(), year},
		"overlong name":    {ca, string(make([]byte, 65)), key.Public(), year},
		"root's name":      {ca, "root", key.Public(), year},
		"department":       {ca, "minzheng.xinqiao", key.Public(), year},
		"no key":           {ca, "issuing", gm.PublicKey{}, year},
		"root's key":       {ca, "issuing", rootKey.Public(), year},
		"no life":          {ca, "issuing", key.Public(), 0},
		"below an issuing": {hierarchy{root, ca, nil, nil}.below(t, "issuing", newKey(t)), "more", key.Public(), year},
	} {
		if _, err := test.ca.IssueCA(test.name, test.key, epoch, test.life); !errors.Is(err, cert.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	der, err := ca.IssueCA("issuing", key.Public(), epoch, 20*year)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.OpenIssuingCA(root, der, signerOf(newKey(t))); !errors.Is(err, cert.ErrRequest) {
		t.Errorf("opened with another key: %v", err)
	}
	issuing, err := cert.OpenIssuingCA(root, der, signerOf(key))
	if err != nil {
		t.Fatal(err)
	}
	for name, own := range map[string]*gm.PrivateKey{"root": rootKey, "issuing CA": key} {
		r := request(t, "minzheng", cert.Signing)
		r.Key = own.Public()
		if _, err := issuing.Issue(r, epoch); !errors.Is(err, cert.ErrRequest) {
			t.Errorf("the key of the %s for a department: %v", name, err)
		}
	}
	r := request(t, "minzheng", cert.Signing)
	r.Lifetime = 30 * year
	if id, err := cert.Inspect(issue(t, issuing, r)); err != nil || !id.NotAfter.Equal(epoch.Add(10*year)) {
		t.Errorf("ends at %v, %v", id.NotAfter, err)
	}
}

// TestChainAnyByte changes each byte of a chain: none is left that verifies.
func TestChainAnyByte(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	chain := issue(t, h.issuing, request(t, "minzheng", cert.Signing))
	root := h.offline.Root()
	for i := range chain {
		bad := bytes.Clone(chain)
		bad[i] ^= 1 << (i % 8)
		if _, err := root.Verify(bad, epoch); !errors.Is(err, cert.ErrProfile) && !errors.Is(err, cert.ErrForeign) && !errors.Is(err, cert.ErrExpired) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if _, err := root.Verify(chain[:i], epoch); i != len(cert.Leaf(chain)) && !errors.Is(err, cert.ErrProfile) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}
