package cert_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/cert"
)

const month = 30 * 24 * time.Hour

func serialOf(t testing.TB, chain []byte) string {
	t.Helper()
	d, err := cert.Describe(chain)
	if err != nil {
		t.Fatal(err)
	}
	return d.Serial
}

func revocations(t testing.TB, ca *cert.CA, number uint64, list ...cert.Revoked) []byte {
	t.Helper()
	der, err := ca.IssueRevocations(list, number, epoch, epoch.Add(month))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	gone := issue(t, h.issuing, request(t, "minzheng", cert.Signing))
	kept := issue(t, h.issuing, request(t, "minzheng", cert.Encryption))
	direct := issue(t, h.offline, request(t, "gongan", cert.Signing))
	one := cert.Revoked{Serial: serialOf(t, gone), At: epoch.Add(-time.Hour), Reason: cert.KeyCompromise}
	var all []cert.Revoked
	for i, reason := range cert.Reasons() {
		all = append(all, cert.Revoked{Serial: string(rune('1' + i)), At: epoch, Reason: reason})
	}
	der := revocations(t, h.issuing, 7, append(all, one)...)
	list, err := cert.ParseRevocations(h.offline.Root(), der, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if list.Number != 7 || list.Issuer != "Xinqiao issuing CA 1" || !list.NextUpdate.Equal(epoch.Add(month)) || !slices.Equal(list.List, append(all, one)) {
		t.Errorf("list %+v", list)
	}
	for name, test := range map[string]struct {
		chain []byte
		want  bool
	}{
		"revoked": {gone, true}, "its leaf alone": {cert.Leaf(gone), true}, "another": {kept, false}, "another CA's": {direct, false},
		"no certificate": {[]byte{1}, false}, "nothing": {nil, false},
	} {
		if got, ok := list.Revoked(test.chain); ok != test.want || ok && got != one {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	// The root revokes the issuing CA, and with it all that it issued.
	upper, err := cert.ParseRevocations(h.offline.Root(), revocations(t, h.offline, 1,
		cert.Revoked{Serial: serialOf(t, h.issuing.Issuing()), At: epoch, Reason: cert.CACompromise}), epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := upper.Revoked(kept); !ok {
		t.Error("a certificate of a revoked CA is not revoked")
	}
	if _, ok := upper.Revoked(direct); ok {
		t.Error("the root's own leaf is revoked with the issuing CA")
	}
	// An empty list is a list.
	if empty, err := cert.ParseRevocations(h.offline.Root(), revocations(t, h.offline, 1), epoch); err != nil || len(empty.List) != 0 {
		t.Errorf("empty: %+v, %v", empty, err)
	}
	if err := errors.Join(list.Follows(0), list.Follows(6), list.Follows(7)); err != nil {
		t.Error(err)
	}
	if err := list.Follows(8); !errors.Is(err, cert.ErrListOlder) {
		t.Errorf("an older list: %v", err)
	}
	for at, want := range map[time.Time]error{
		epoch.Add(-5 * time.Minute): nil, epoch.Add(-6 * time.Minute): cert.ErrListExpired,
		epoch.Add(month): nil, epoch.Add(month + time.Second): cert.ErrListExpired, {}: cert.ErrListExpired,
	} {
		got, err := cert.ParseRevocations(h.offline.Root(), der, at)
		if !errors.Is(err, want) || got == nil {
			t.Errorf("at %v: %+v, %v", at, got, err)
		}
	}
	file := append(cert.EncodeRevocations(der), cert.EncodeRevocations(revocations(t, h.offline, 2))...)
	lists, err := cert.DecodeRevocations(file)
	if err != nil || len(lists) != 2 || !bytes.Equal(lists[0], der) {
		t.Errorf("file: %d lists, %v", len(lists), err)
	}
	for name, bad := range map[string][]byte{
		"certificate": cert.EncodePEM(h.root), "empty": nil, "text": []byte("x"), "two certificates": append(file[:len(file):len(file)], slices.Concat(cert.EncodePEM(h.root), cert.EncodePEM(h.root))...),
		"tail": append(file[:len(file):len(file)], 'x'), "many": bytes.Repeat(file, 20), "request": cert.EncodeCSR(der),
	} {
		if _, err := cert.DecodeRevocations(bad); !errors.Is(err, cert.ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRevocationsRefuses(t *testing.T) {
	t.Parallel()
	h, other := newHierarchy(t), newHierarchy(t)
	one := cert.Revoked{Serial: "1f", At: epoch, Reason: cert.Superseded}
	der := revocations(t, h.issuing, 3, one)
	bare := der[:len(der)-len(h.issuing.Issuing())]
	root := h.offline.Root()
	for name, test := range map[string]struct {
		list []byte
		want error
	}{
		"without its CA":        {bare, cert.ErrForeign},
		"with another CA":       {slices.Concat(bare, h.below(t, "another", newKey(t)).Issuing()), cert.ErrForeign},
		"with a foreign CA":     {slices.Concat(bare, other.issuing.Issuing()), cert.ErrForeign},
		"of a foreign CA":       {revocations(t, other.issuing, 3, one), cert.ErrForeign},
		"of a foreign root":     {revocations(t, other.offline, 3, one), cert.ErrForeign},
		"with the root":         {slices.Concat(bare, h.root), cert.ErrProfile},
		"with a leaf":           {slices.Concat(bare, cert.Leaf(issue(t, h.issuing, request(t, "minzheng", cert.Signing)))), cert.ErrProfile},
		"with its CA twice":     {slices.Concat(der, h.issuing.Issuing()), cert.ErrProfile},
		"something behind":      {append(bytes.Clone(der), 0), cert.ErrProfile},
		"twice":                 {slices.Concat(bare, bare), cert.ErrProfile},
		"a certificate":         {h.root, cert.ErrList},
		"nothing":               {nil, cert.ErrList},
		"huge":                  {make([]byte, 2<<20), cert.ErrList},
		"one certificate twice": {revocationsTwice(t, h), cert.ErrList},
	} {
		if got, err := cert.ParseRevocations(root, test.list, epoch); !errors.Is(err, test.want) || got != nil {
			t.Errorf("%s: %+v, %v, want %v", name, got, err, test.want)
		}
	}
	for i := range der {
		bad := bytes.Clone(der)
		bad[i] ^= 1 << (i % 8)
		if _, err := cert.ParseRevocations(root, bad, epoch); err == nil {
			t.Fatalf("byte %d changed: accepted", i)
		}
		if _, err := cert.ParseRevocations(root, der[:i], epoch); err == nil {
			t.Fatalf("cut to %d bytes: accepted", i)
		}
	}
	for name, err := range map[string]error{
		"no number":      second(h.issuing.IssueRevocations(nil, 0, epoch, epoch.Add(month))),
		"no time":        second(h.issuing.IssueRevocations(nil, 1, epoch, epoch)),
		"no reason":      second(h.issuing.IssueRevocations([]cert.Revoked{{Serial: "1", At: epoch}}, 1, epoch, epoch.Add(month))),
		"no serial":      second(h.issuing.IssueRevocations([]cert.Revoked{{At: epoch, Reason: cert.Superseded}}, 1, epoch, epoch.Add(month))),
		"negative":       second(h.issuing.IssueRevocations([]cert.Revoked{{Serial: "-1", At: epoch, Reason: cert.Superseded}}, 1, epoch, epoch.Add(month))),
		"not in numbers": second(h.issuing.IssueRevocations([]cert.Revoked{{Serial: "xyz", At: epoch, Reason: cert.Superseded}}, 1, epoch, epoch.Add(month))),
	} {
		if !errors.Is(err, cert.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A signer with another key.
	ca, err := cert.OpenIssuingCA(h.root, h.issuing.Issuing(), twoFaced{signerOf(newKey(t)), signerOf(h.key)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.IssueRevocations(nil, 1, epoch, epoch.Add(month)); !errors.Is(err, cert.ErrForeign) {
		t.Errorf("another's signature: %v", err)
	}
}

// revocationsTwice is a genuinely signed list that names a certificate twice.
func revocationsTwice(t testing.TB, h hierarchy) []byte {
	t.Helper()
	a := cert.Revoked{Serial: "1111", At: epoch, Reason: cert.Superseded}
	b := a
	b.Serial = "2222"
	der := revocations(t, h.issuing, 1, a, b)
	bad := bytes.ReplaceAll(der, []byte{0x22, 0x22}, []byte{0x11, 0x11})
	tbs, alg, _ := splitCertificate(t, bad)
	sig, err := signerOf(h.key).Sign(nil, tbs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(sequence(tbs, alg, bitString(sig)), h.issuing.Issuing())
}

// TestRevocationsWithOthers has tjfoc and openssl read a list. openssl's command
// has no way to name the SM2 id for lists, so it cannot verify any.
func TestRevocationsWithOthers(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	der := revocations(t, h.issuing, 12, cert.Revoked{Serial: "abcdef", At: epoch, Reason: cert.KeyCompromise},
		cert.Revoked{Serial: "f1", At: epoch, Reason: cert.Unspecified})
	list, err := tx509.ParseDERCRL(der[:len(der)-len(h.issuing.Issuing())])
	if err != nil {
		t.Fatal(err)
	}
	ca, err := tx509.ParseCertificate(h.issuing.Issuing())
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.CheckCRLSignature(list); err != nil || len(list.TBSCertList.RevokedCertificates) != 2 {
		t.Errorf("tjfoc: %v", err)
	}
	openssl := tool(t)
	path := filepath.Join(t.TempDir(), "crl.pem")
	if err := os.WriteFile(path, cert.EncodeRevocations(der), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := openssl("crl", "-in", path, "-noout", "-text")
	for _, want := range []string{"Version 2", "SM2-with-SM3", "Xinqiao issuing CA 1", "X509v3 CRL Number", "12", "ABCDEF", "Key Compromise", "Serial Number: F1"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("openssl crl does not say %q: %v\n%s", want, err, out)
		}
	}
}
