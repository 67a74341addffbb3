package cert_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
)

// checkWeb has the standard library decide, as a browser would.
func checkWeb(t *testing.T, caCert, crt, key []byte) {
	t.Helper()
	pair, err := tls.X509KeyPair(crt, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(caCert)
	for _, name := range []string{"node.example", "127.0.0.1", "::1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: epoch}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "other.example", CurrentTime: epoch}); err == nil {
		t.Error("valid for another host")
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: x509.NewCertPool(), CurrentTime: epoch}); err == nil {
		t.Error("valid under no root")
	}
	if !pair.Leaf.NotAfter.Equal(epoch.Add(year)) {
		t.Errorf("ends at %v, after its CA", pair.Leaf.NotAfter)
	}
}
