package cert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"time"
)

// NewWebCA makes a P-256 certificate authority for what accepts no SM2
// certificate: browsers, curl, Prometheus. It vouches for a node towards its own
// department's systems, never for a department towards another. The key is plain
// PKCS #8: keep it in a file of mode 0600.
func NewWebCA(name string, now time.Time, life time.Duration) (certPEM, keyPEM []byte, err error) {
	if name == "" || len(name) > 64 || life <= 0 {
		return nil, nil, fmt.Errorf("make web CA: %w: a name of 1 to 64 bytes and a positive lifetime are needed", ErrRequest)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make web CA: %w", err)
	}
	template, err := newWebTemplate(name, &key.PublicKey, now, life)
	if err != nil {
		return nil, nil, fmt.Errorf("make web CA: %w", err)
	}
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.IsCA = true
	template.MaxPathLenZero = true
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make web CA: %w", err)
	}
	return encodeWeb(der, key)
}

// IssueWeb makes a P-256 key and a server certificate for hosts, which are host
// names and IP addresses; at least one is needed.
func IssueWeb(caCertPEM, caKeyPEM []byte, hosts []string, now time.Time, life time.Duration) (certPEM, keyPEM []byte, err error) {
	if len(hosts) == 0 || life <= 0 {
		return nil, nil, fmt.Errorf("issue web certificate: %w: a host and a positive lifetime are needed", ErrRequest)
	}
	pair, err := tls.X509KeyPair(caCertPEM, caKeyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("issue web certificate: read the web CA: %w", err)
	}
	ca := pair.Leaf
	if !ca.IsCA || now.Before(ca.NotBefore) || now.After(ca.NotAfter) {
		return nil, nil, fmt.Errorf("issue web certificate: %w: the web CA is no CA, or is out of its time", ErrRequest)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("issue web certificate: %w", err)
	}
	name := hosts[0] // for people only: clients look at the alternative names
	if len(name) > 64 {
		name = "xinqiao"
	}
	template, err := newWebTemplate(name, &key.PublicKey, now, life)
	if err != nil {
		return nil, nil, fmt.Errorf("issue web certificate: %w", err)
	}
	template.NotAfter = earlier(template.NotAfter, ca.NotAfter)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if len(h) <= 253 && hostForm.MatchString(h) {
			template.DNSNames = append(template.DNSNames, h)
		} else {
			return nil, nil, fmt.Errorf("issue web certificate: %w: %q is neither an IP address nor a host name in lower case", ErrRequest, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, pair.PrivateKey)
	if err != nil {
		return nil, nil, fmt.Errorf("issue web certificate: %w", err)
	}
	return encodeWeb(der, key)
}

func newWebTemplate(name string, key *ecdsa.PublicKey, now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki)
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-backdate).UTC().Truncate(time.Second),
		NotAfter:              now.Add(life).UTC().Truncate(time.Second),
		BasicConstraintsValid: true,
		SubjectKeyId:          id[:20],
	}, nil
}

func encodeWeb(der []byte, key *ecdsa.PrivateKey) (certPEM, keyPEM []byte, err error) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	defer clear(pkcs8)
	return EncodePEM(der), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}
