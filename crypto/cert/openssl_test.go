package cert_test

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"xinqiao/crypto/cert"
)

// TestChainWithOpenSSL has openssl verify our chain, link by link: its command
// takes the SM2 id for the certificate at the end only, and none for those between.
func TestChainWithOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := tool(t)
	dir, now := t.TempDir(), time.Now()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, file []byte) {
		t.Helper()
		if err := os.WriteFile(path(name), file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca, root, err := cert.NewCA("openssl root", signerOf(newKey(t)), now, year)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	der, err := ca.IssueCA("openssl issuing CA", key.Public(), now, year)
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := cert.OpenIssuingCA(root, der, signerOf(key))
	if err != nil {
		t.Fatal(err)
	}
	for _, usage := range []cert.Usage{cert.Signing, cert.Encryption} {
		chain, err := issuing.Issue(request(t, "minzheng", usage), now)
		if err != nil {
			t.Fatal(err)
		}
		write("root.pem", cert.EncodePEM(root))
		write("chain.pem", cert.EncodePEM(chain))
		write("issuing.pem", cert.EncodePEM(cert.Issuer(chain)))
		verify := func(args ...string) (string, error) {
			return openssl(append([]string{"verify", "-x509_strict", "-vfyopt", distid}, args...)...)
		}
		// The first block of a chain's file is the leaf, and that is what openssl reads.
		for name, args := range map[string][]string{
			"leaf": {"-partial_chain", "-trusted", path("issuing.pem"), path("chain.pem")}, "issuing CA": {"-CAfile", path("root.pem"), path("issuing.pem")},
		} {
			if out, err := verify(args...); err != nil {
				t.Errorf("%s: openssl verify of the %s: %v\n%s", usage, name, err, out)
			}
		}
		if out, err := verify("-CAfile", path("root.pem"), path("chain.pem")); err == nil {
			t.Errorf("%s: openssl verifies the leaf without its issuer:\n%s", usage, out)
		}
	}
}

// TestOpenSSLMakesCertificates has openssl make a root, an issuing CA and leaves:
// those of our profile verify here, the others are refused for what they lack.
func TestOpenSSLMakesCertificates(t *testing.T) {
	t.Parallel()
	openssl := tool(t)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must := func(args ...string) {
		t.Helper()
		if out, err := openssl(args...); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	read := func(name string) []byte {
		t.Helper()
		file, err := os.ReadFile(path(name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(file)
		return block.Bytes
	}
	for _, name := range []string{"root", "sub", "leaf"} {
		must("genpkey", "-algorithm", "SM2", "-out", path(name+".key"))
	}
	must("req", "-x509", "-new", "-key", path("root.key"), "-sm3", "-sigopt", distid, "-subj", "/CN=their root", "-days", "3000",
		"-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", path("root.pem"))
	// certify makes one certificate; id is the SM2 id under which its issuer signs.
	certify := func(name, above, subject, extensions, id string) []byte {
		t.Helper()
		if err := os.WriteFile(path("ext"), []byte(extensions+"\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		must("req", "-new", "-key", path(name+".key"), "-sm3", "-sigopt", distid, "-subj", subject, "-out", path("csr"))
		must("x509", "-req", "-in", path("csr"), "-CA", path(above+".pem"), "-CAkey", path(above+".key"), "-CAcreateserial", "-sm3",
			"-sigopt", id, "-vfyopt", distid, "-days", "1000", "-extfile", path("ext"), "-out", path(name+".pem"))
		return read(name + ".pem")
	}
	const (
		caExt   = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign"
		leafExt = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=DNS:minzheng.xinqiao,IP:10.0.0.1\n"
		signs   = leafExt + "keyUsage=critical,digitalSignature,nonRepudiation"
	)
	root, sub := read("root.pem"), certify("sub", "root", "/C=CN/CN=their issuing CA", caExt, distid)
	for name, test := range map[string]struct {
		chain []byte
		want  error
	}{
		"under the root":       {certify("leaf", "root", "/CN=minzheng", signs, distid), nil},
		"under the issuing CA": {slices.Concat(certify("leaf", "sub", "/CN=minzheng", signs, distid), sub), nil},
		"for encryption":       {certify("leaf", "root", "/CN=minzheng", leafExt+"keyUsage=critical,keyEncipherment,dataEncipherment", distid), nil},
		"half a usage":         {certify("leaf", "root", "/CN=minzheng", leafExt+"keyUsage=critical,digitalSignature", distid), cert.ErrProfile},
		"another subject":      {certify("leaf", "root", "/CN=gongan", signs, distid), cert.ErrProfile},
		"more extensions":      {certify("leaf", "root", "/CN=minzheng", signs+"\nnsComment=x", distid), cert.ErrProfile},
		"signed by another id": {certify("leaf", "root", "/CN=minzheng", signs, "distid:another"), cert.ErrForeign},
	} {
		id, err := cert.Verify(root, test.chain, time.Now())
		if !errors.Is(err, test.want) || err == nil && id.Dept != "minzheng" {
			t.Errorf("%s: %+v, %v, want %v", name, id, err, test.want)
		}
	}
	if err := os.Remove(path("sub.pem")); err != nil {
		t.Fatal(err)
	}
	deep := certify("sub", "root", "/CN=their issuing CA", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign", distid)
	if _, err := cert.Verify(root, slices.Concat(certify("leaf", "sub", "/CN=minzheng", signs, distid), deep), time.Now()); !errors.Is(err, cert.ErrProfile) {
		t.Errorf("an issuing CA without path length: %v", err)
	}
}
