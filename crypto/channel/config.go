package channel

import (
	"github.com/tjfoc/gmsm/gmtls"
	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/cert"
)

// suite is ECC_SM4_CBC_SM3, the one suite that gmtls implements: it advertises
// ECDHE_SM4_CBC_SM3 (0xe011) too, and panics when a client picks it.
const suite = gmtls.GMTLS_SM2_WITH_SM4_SM3

// newConfig returns what both sides of a handshake have in common. gmtls writes
// into its Config, and the verdict belongs to one peer, so each handshake gets its own.
func (e *Endpoint) newConfig(confirm func(certs [][]byte) error) *gmtls.Config {
	return &gmtls.Config{
		GMSupport:    gmtls.NewGMSupport(),
		Time:         e.cfg.Clock,
		CipherSuites: []uint16{suite},
		MinVersion:   gmtls.VersionGMSSL,
		MaxVersion:   gmtls.VersionGMSSL,
		// Resumption makes gmtls's server panic, and would skip the question to Admit.
		SessionTicketsDisabled:      true,
		Renegotiation:               gmtls.RenegotiateNever,
		DynamicRecordSizingDisabled: true,
		VerifyPeerCertificate: func(certs [][]byte, _ [][]*tx509.Certificate) error {
			return confirm(certs)
		},
	}
}

func (e *Endpoint) serverConfig(own *credentials, pool *tx509.CertPool, confirm func(certs [][]byte) error) *gmtls.Config {
	c := e.newConfig(confirm)
	c.Certificates = []gmtls.Certificate{
		{Certificate: [][]byte{cert.Leaf(own.SignCert)}, PrivateKey: own.Signer},
		{Certificate: [][]byte{cert.Leaf(own.EncCert)}, PrivateKey: own.Decrypter},
	}
	c.ClientAuth = gmtls.RequireAndVerifyClientCert
	c.ClientCAs = pool
	return c
}

func (e *Endpoint) clientConfig(own *credentials, dept string, pool *tx509.CertPool, confirm func(certs [][]byte) error) *gmtls.Config {
	c := e.newConfig(confirm)
	c.ServerName = cert.Name(dept)
	c.RootCAs = pool
	// gmtls's own choice would send the signing certificate alone.
	both := &gmtls.Certificate{Certificate: [][]byte{cert.Leaf(own.SignCert), cert.Leaf(own.EncCert)}, PrivateKey: own.Signer}
	c.GetClientCertificate = func(*gmtls.CertificateRequestInfo) (*gmtls.Certificate, error) { return both, nil }
	return c
}
