package cert

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"

	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/gm"
)

// backdate lets a certificate be used at once by nodes whose clocks run a
// little behind the issuer's.
const backdate = 5 * time.Minute

// ErrRequest reports a certificate request that the CA does not grant.
var ErrRequest = errors.New("the certificate cannot be issued")

// CA issues departments' certificates: a root, or an issuing CA below one. Its
// key stays in the signer. What it issued is recorded by its caller, see Record;
// membership and withdrawal are ledger entries.
type CA struct {
	root    *Root
	issuing []byte             // DER; nil for a root
	cert    *tx509.Certificate // the CA's own
	key     gm.PublicKey
	signer  crypto.Signer
}

// Request asks for one certificate. The CA takes Dept and Key on the word of
// whoever calls: proof that the department holds the key is the caller's to get.
type Request struct {
	Dept     string
	Usage    Usage
	Key      gm.PublicKey
	Hosts    []string      // host names and IP addresses beside Name(Dept), which is always there
	Lifetime time.Duration // cut at the CA's own end
}

// NewCA makes a root certificate for the signer's key, valid from five minutes
// before now, and returns it beside the CA. The signer has the shape of
// gm.NewSigner: it signs messages, not digests.
func NewCA(name string, signer crypto.Signer, now time.Time, life time.Duration) (*CA, []byte, error) {
	if name == "" || len(name) > 64 || life <= 0 {
		return nil, nil, fmt.Errorf("make root certificate: %w: a name of 1 to 64 bytes and a positive lifetime are needed", ErrRequest)
	}
	key, err := gm.PublicKeyOf(signer.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("make root certificate: %w", err)
	}
	template, err := newTemplate(name, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make root certificate: %w", err)
	}
	template.NotBefore = now.Add(-backdate).UTC().Truncate(time.Second)
	template.NotAfter = now.Add(life).UTC().Truncate(time.Second)
	template.KeyUsage = rootUsage
	template.IsCA = true
	template.MaxPathLen = 1 // an issuing CA, and nothing below that
	template.AuthorityKeyId = template.SubjectKeyId
	der, err := tx509.CreateCertificate(template, template, key.Tjfoc(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("make root certificate: %w", err)
	}
	ca, err := OpenCA(der, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("make root certificate: %w", err)
	}
	return ca, der, nil
}

// OpenCA joins a root certificate (DER) with the signer of its key.
func OpenCA(root []byte, signer crypto.Signer) (*CA, error) {
	r, err := ParseRoot(root)
	if err != nil {
		return nil, err
	}
	return openCA(&CA{root: r, cert: r.cert, key: r.key, signer: signer})
}

// OpenIssuingCA joins an issuing CA's certificate (DER), which root issued, with
// the signer of its key. An issuing CA that root did not issue is ErrForeign.
func OpenIssuingCA(root, issuing []byte, signer crypto.Signer) (*CA, error) {
	r, err := ParseRoot(root)
	if err != nil {
		return nil, err
	}
	c, key, err := r.parseIssuing(issuing)
	if err != nil {
		return nil, err
	}
	return openCA(&CA{root: r, issuing: bytes.Clone(issuing), cert: c, key: key, signer: signer})
}

func openCA(ca *CA) (*CA, error) {
	key, err := gm.PublicKeyOf(ca.signer.Public())
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	if key != ca.key {
		return nil, fmt.Errorf("open CA: %w: the CA's certificate belongs to another key", ErrRequest)
	}
	return ca, nil
}

// Root returns the root above what the CA issues.
func (ca *CA) Root() *Root { return ca.root }

// Issuing returns the CA's own certificate (DER) if it is an issuing CA, and nil
// if it is a root.
func (ca *CA) Issuing() []byte { return bytes.Clone(ca.issuing) }

// IssueCA returns the certificate (DER) of an issuing CA: the root's key can then
// go offline. Only a root issues one. Errors of the request are ErrRequest.
func (ca *CA) IssueCA(name string, key gm.PublicKey, now time.Time, life time.Duration) ([]byte, error) {
	der, err := ca.issueCA(name, key, now, life)
	if err != nil {
		return nil, fmt.Errorf("issue CA certificate for %q: %w", name, err)
	}
	return der, nil
}

func (ca *CA) issueCA(name string, key gm.PublicKey, now time.Time, life time.Duration) ([]byte, error) {
	switch {
	case ca.issuing != nil || ca.cert.MaxPathLen == 0:
		return nil, fmt.Errorf("%w: this CA may have none below it", ErrRequest)
	case !issuingName(name) || name == ca.cert.Subject.CommonName:
		return nil, fmt.Errorf("%w: a name of 1 to 64 bytes is needed, other than the root's and not below %s", ErrRequest, nameSuffix)
	case key.IsZero() || key == ca.key || life <= 0:
		return nil, fmt.Errorf("%w: a key other than the root's and a positive lifetime are needed", ErrRequest)
	}
	template, err := newTemplate(name, key)
	if err != nil {
		return nil, err
	}
	ca.limit(template, now, life)
	template.KeyUsage = rootUsage
	template.IsCA = true
	template.MaxPathLenZero = true
	der, err := tx509.CreateCertificate(template, ca.cert, key.Tjfoc(), ca.signer)
	if err != nil {
		return nil, err
	}
	if _, _, err := ca.root.parseIssuing(der); err != nil {
		return nil, err
	}
	return der, nil
}

// limit gives a template the CA's key identifier, and times within the CA's own.
func (ca *CA) limit(template *tx509.Certificate, now time.Time, life time.Duration) {
	template.NotBefore = later(now.Add(-backdate).UTC().Truncate(time.Second), ca.cert.NotBefore)
	template.NotAfter = earlier(now.Add(life).UTC().Truncate(time.Second), ca.cert.NotAfter)
	template.AuthorityKeyId = ca.cert.SubjectKeyId
}

// Issue returns a certificate, followed by the CA's own if it is an issuing CA
// (both DER), valid from five minutes before now. What it returns has passed
// Verify. Errors of the request are ErrRequest; a CA out of its time is ErrExpired.
func (ca *CA) Issue(r Request, now time.Time) ([]byte, error) {
	der, err := ca.issue(r, now)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %q: %w", r.Dept, err)
	}
	return der, nil
}

func (ca *CA) issue(r Request, now time.Time) ([]byte, error) {
	if !deptForm.MatchString(r.Dept) {
		return nil, fmt.Errorf("%w: a department's name has 2 to 32 of a-z, 0-9 and -, and begins with a letter", ErrRequest)
	}
	if r.Key.IsZero() || r.Lifetime <= 0 {
		return nil, fmt.Errorf("%w: a key and a positive lifetime are needed", ErrRequest)
	}
	if r.Key == ca.root.key || r.Key == ca.key {
		return nil, fmt.Errorf("%w: a CA's own key cannot be a department's", ErrRequest)
	}
	template, err := newTemplate(r.Dept, r.Key)
	if err != nil {
		return nil, err
	}
	switch r.Usage {
	case Signing:
		template.KeyUsage = signUsage
	case Encryption:
		template.KeyUsage = encUsage
	default:
		return nil, fmt.Errorf("%w: the key's usage must be signing or encryption", ErrRequest)
	}
	ca.limit(template, now, r.Lifetime)
	template.ExtKeyUsage = []tx509.ExtKeyUsage{tx509.ExtKeyUsageServerAuth, tx509.ExtKeyUsageClientAuth}
	if template.DNSNames, template.IPAddresses, err = splitHosts(r.Dept, r.Hosts); err != nil {
		return nil, err
	}
	leaf, err := tx509.CreateCertificate(template, ca.cert, r.Key.Tjfoc(), ca.signer)
	if err != nil {
		return nil, err
	}
	der := slices.Concat(leaf, ca.issuing)
	// A signer that answers with another key's signature shows here, and so does
	// a template that drifts away from the profile.
	if _, err := ca.root.Verify(der, now); err != nil {
		return nil, err
	}
	return der, nil
}

// newTemplate returns what all SM2 certificates have in common.
func newTemplate(name string, key gm.PublicKey) (*tx509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	id := gm.Emmansun().Sum(key.Bytes())
	return &tx509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		SignatureAlgorithm:    tx509.SM2WithSM3, // see gm.NewSigner
		BasicConstraintsValid: true,
		SubjectKeyId:          id[:20],
	}, nil
}

// newSerial returns 127 random bits, never zero: 16 bytes at most, positive
// (RFC 5280 4.1.2.2).
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return n.SetBit(n, 126, 1), nil
}

func splitHosts(dept string, hosts []string) (names []string, ips []net.IP, err error) {
	names = []string{Name(dept)}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			if v4 := ip.To4(); v4 != nil {
				ip = v4
			}
			ips = append(ips, ip)
			continue
		}
		if len(h) > 253 || !hostForm.MatchString(h) || strings.HasSuffix(h, nameSuffix) {
			return nil, nil, fmt.Errorf("%w: %q is neither an IP address nor a host name in lower case outside %s", ErrRequest, h, nameSuffix)
		}
		names = append(names, h)
	}
	return names, ips, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
