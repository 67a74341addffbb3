package channel

import (
	"fmt"
	"time"

	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/cert"
)

// verify verifies one certificate that came over a hop, or a chain of our own. The
// issuing CA that the verdict rests on is added to pool: gmtls verifies again, and
// knows no other way to the root. A CA enters that pool only by a verified leaf of
// its own, in that leaf's handshake.
func (e *Endpoint) verify(leaf []byte, at time.Time, pool *tx509.CertPool) (cert.Identity, error) {
	var issuers [][]byte
	if e.cfg.Issuers != nil {
		issuers = e.cfg.Issuers()
	}
	id, chain, err := e.root.VerifyLeaf(leaf, issuers, at)
	if err != nil {
		return cert.Identity{}, err
	}
	if issuer := cert.Issuer(chain); issuer != nil {
		c, err := tx509.ParseCertificate(issuer)
		if err != nil {
			return cert.Identity{}, fmt.Errorf("issuing CA: %w", err)
		}
		pool.AddCert(c)
	}
	return id, nil
}

// leavesOnly refuses a chain in the place of one certificate: gmtls would read
// something else out of it than was verified.
func leavesOnly(certs [][]byte) error {
	for _, c := range certs {
		if cert.Issuer(c) != nil {
			return fmt.Errorf("%w: a chain in the place of a certificate", ErrProtocol)
		}
	}
	return nil
}
