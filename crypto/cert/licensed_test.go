package cert_test

import (
	"bytes"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

// licensedCA is one CA of somebody else's hierarchy.
type licensedCA struct {
	der    []byte
	parsed *tx509.Certificate
	key    *gm.PrivateKey
}

func (ca licensedCA) certify(t testing.TB, key gm.PublicKey, c *tx509.Certificate) []byte {
	t.Helper()
	der, err := tx509.CreateCertificate(c, ca.parsed, key.Tjfoc(), signerOf(ca.key))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// newLicensedCA makes a CA under another, or a root.
func newLicensedCA(t testing.TB, above *licensedCA, name string, change func(*tx509.Certificate)) licensedCA {
	t.Helper()
	key := newKey(t)
	c := &tx509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{Country: []string{"CN"}, Organization: []string{"电子认证"}, CommonName: name},
		SignatureAlgorithm: tx509.SM2WithSM3, NotBefore: epoch, NotAfter: epoch.Add(5 * year), BasicConstraintsValid: true, IsCA: true,
		MaxPathLen: -1, KeyUsage: tx509.KeyUsageCertSign | tx509.KeyUsageCRLSign, SubjectKeyId: key.Public().Bytes()[1:9],
	}
	if change != nil {
		change(c)
	}
	if above == nil {
		above = &licensedCA{parsed: c, key: key}
	}
	der := above.certify(t, key.Public(), c)
	parsed, err := tx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return licensedCA{der, parsed, key}
}

func licensedLeaf(usage tx509.KeyUsage) *tx509.Certificate {
	return &tx509.Certificate{SerialNumber: big.NewInt(0xabc), Subject: pkix.Name{Organization: []string{"民政局"}, CommonName: "民政局\x1b[2J"},
		SignatureAlgorithm: tx509.SM2WithSM3, NotBefore: epoch, NotAfter: epoch.Add(year), BasicConstraintsValid: true, KeyUsage: usage}
}

func TestLicensed(t *testing.T) {
	t.Parallel()
	const signs, encrypts = tx509.KeyUsageDigitalSignature | tx509.KeyUsageContentCommitment, tx509.KeyUsageKeyEncipherment | tx509.KeyUsageDataEncipherment | tx509.KeyUsageKeyAgreement
	root := newLicensedCA(t, nil, "root", nil)
	middle := newLicensedCA(t, &root, "middle", nil)
	low := newLicensedCA(t, &middle, "low", func(c *tx509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	key := newKey(t)
	good := low.certify(t, key.Public(), licensedLeaf(signs))
	between := slices.Concat(low.der, middle.der)
	licensed, got, err := cert.VerifyLicensed(root.der, good, between, cert.Signing, epoch)
	if err != nil || got != key.Public() || licensed.Serial != "abc" || len(licensed.Fingerprint) != 64 {
		t.Fatalf("%+v, %v", licensed, err)
	}
	if !strings.Contains(licensed.Subject, "民政局") || strings.Contains(licensed.Subject, "\x1b") {
		t.Errorf("the subject %q reaches a terminal", licensed.Subject)
	}
	enc := root.certify(t, key.Public(), licensedLeaf(encrypts))
	if _, _, err := cert.VerifyLicensed(root.der, enc, nil, cert.Encryption, epoch); err != nil {
		t.Errorf("an encryption certificate under the root: %v", err)
	}
	other := newLicensedCA(t, nil, "root", nil)
	lowFrom := func(above *licensedCA, change func(*tx509.Certificate)) ([]byte, []byte) {
		ca := newLicensedCA(t, above, "low", change)
		return ca.certify(t, newKey(t).Public(), licensedLeaf(signs)), ca.der
	}
	type path struct{ root, leaf, between []byte }
	under := func(change func(*tx509.Certificate)) path {
		leaf, ca := lowFrom(&root, change)
		return path{root.der, leaf, ca}
	}
	if p := under(nil); second2(cert.VerifyLicensed(p.root, p.leaf, p.between, cert.Signing, epoch)) != nil {
		t.Fatal("negative control")
	}
	leafWith := func(usage tx509.KeyUsage, change func(*tx509.Certificate)) path {
		c := licensedLeaf(usage)
		if change != nil {
			change(c)
		}
		return path{root.der, root.certify(t, newKey(t).Public(), c), nil}
	}
	short := newLicensedCA(t, nil, "root", func(c *tx509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	shortLeaf, shortCA := lowFrom(&short, nil)
	self := newLicensedCA(t, nil, "low", nil)
	for name, p := range map[string]path{
		"another root of the name": {other.der, good, between},
		"no CAs between":           {root.der, good, nil},
		"one CA missing":           {root.der, good, low.der},
		"in another order":         {root.der, good, slices.Concat(middle.der, low.der)},
		"a CA twice":               {root.der, good, slices.Concat(low.der, low.der)},
		"the root between":         {root.der, good, slices.Concat(low.der, root.der)},
		"four links":               {root.der, good, slices.Concat(low.der, middle.der, middle.der)},
		"an intermediate as root":  {middle.der, good, low.der},
		"a leaf as root":           {good, good, nil},
		"a leaf between":           {root.der, good, good},
		"garbage between":          {root.der, good, []byte{0x30, 1}},
		"no leaf":                  {root.der, nil, between},
		"no root":                  {nil, good, between},
		"a CA as leaf":             {root.der, middle.der, nil},
		"path too short":           {short.der, shortLeaf, shortCA},
		"a self-issued CA":         {root.der, self.certify(t, newKey(t).Public(), licensedLeaf(signs)), self.der},
		"CA without keyCertSign":   under(func(c *tx509.Certificate) { c.KeyUsage = tx509.KeyUsageDigitalSignature }),
		"CA that is none":          under(func(c *tx509.Certificate) { c.IsCA, c.MaxPathLen = false, 0 }),
		"CA with name constraints": under(func(c *tx509.Certificate) { c.PermittedDNSDomains = []string{"example"} }),
		"CA, unknown critical":     under(extra(extension(true, []byte{5, 0}, 1, 2, 3))),
		"CA expired":               under(func(c *tx509.Certificate) { c.NotAfter = epoch.Add(-time.Second) }),
		"leaf expired":             leafWith(signs, func(c *tx509.Certificate) { c.NotAfter = epoch.Add(-time.Second) }),
		"leaf not yet valid":       leafWith(signs, func(c *tx509.Certificate) { c.NotBefore = epoch.Add(time.Second) }),
		"leaf, unknown critical":   leafWith(signs, extra(extension(true, []byte{5, 0}, 1, 2, 3))),
		"a key for both":           leafWith(signs|encrypts, nil),
		"a key for encryption":     leafWith(encrypts, nil),
		"a key that certifies":     leafWith(signs|tx509.KeyUsageCertSign, nil),
		"a key for nothing":        leafWith(0, nil),
		"another's authority key": {root.der, root.certify(t, newKey(t).Public(), func() *tx509.Certificate {
			c := licensedLeaf(signs)
			extra(extension(false, []byte{0x30, 3, 0x80, 1, 9}, 2, 5, 29, 35))(c)
			return c
		}()), nil},
		"signed by the name's twin": {root.der, other.certify(t, newKey(t).Public(), licensedLeaf(signs)), nil},
	} {
		if got, _, err := cert.VerifyLicensed(p.root, p.leaf, p.between, cert.Signing, epoch); !errors.Is(err, cert.ErrLicensed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		} else if expired := strings.Contains(name, "expired") || strings.Contains(name, "yet"); expired != errors.Is(err, cert.ErrExpired) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if _, _, err := cert.VerifyLicensed(root.der, bad, between, cert.Signing, epoch); !errors.Is(err, cert.ErrLicensed) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	// The corner that only tjfoc accepts (trap 6).
	corner := forge{cornerSigner{signerOf(root.key), new(big.Int).SetBytes(root.key.Scalar())}, root.parsed, root.der}
	if _, _, err := cert.VerifyLicensed(root.der, corner.sign(t, licensedLeaf(signs)), nil, cert.Signing, epoch); !errors.Is(err, cert.ErrLicensed) {
		t.Errorf("split verdict: %v", err)
	}
}

func second2[A, B any](_ A, _ B, err error) error { return err }
