// Package cert answers whose certificate this is: it issues the two
// certificates of a department, one for signatures and one for encryption, and
// verifies them against the exchange's root, with at most one issuing CA between,
// under a profile far narrower than X.509. A certificate is withdrawn by a ledger
// entry that names its fingerprint; a CA's revocation list beside it only narrows
// whom a channel admits.
package cert

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/gm"
)

// Errors of Verify and Inspect. An error of these functions is always one of
// them, wrapped with the reason.
var (
	// ErrProfile reports bytes that are no certificate, or one of another form
	// than this package issues. The profile is stated in DESIGN.md.
	ErrProfile = errors.New("not a certificate of the exchange's profile")
	// ErrForeign reports a certificate that the root did not issue.
	ErrForeign = errors.New("the certificate was not issued by this exchange's root")
	// ErrExpired reports a certificate, or a root, that is not valid at the time
	// asked about: expired, or not yet valid.
	ErrExpired = errors.New("the certificate is not valid at this time")
)

// Usage says what a department's key is for. GB/T 38636 (TLCP) gives every
// party one key of each. The zero Usage permits nothing.
type Usage uint8

// The usages.
const (
	NoUsage    Usage = iota
	Signing          // proves identity; the key never leaves the department
	Encryption       // receives keys; may be escrowed by a key management centre, so it never proves identity
)

// String returns a word for tables and logs.
func (u Usage) String() string {
	switch u {
	case Signing:
		return "signing"
	case Encryption:
		return "encryption"
	}
	return "none"
}

// Identity is what a certificate says about its holder. Only the result of
// Verify may be trusted.
type Identity struct {
	Dept        string
	Usage       Usage
	Key         gm.PublicKey
	Chain       string    // the bytes that were verified, DER: leaf, and issuing CA if there is one
	Fingerprint gm.Digest // SM3 of Chain
	Leaf        gm.Digest // SM3 of the leaf alone; the same as Fingerprint if the root issued it
	NotBefore   time.Time
	NotAfter    time.Time // inclusive
	Serial      string    // hexadecimal, lower case
}

// nameSuffix ends the one name in a certificate that is a department's.
const nameSuffix = ".xinqiao"

// The same form as exchange.Dept: packages under crypto do not see the nouns.
var deptForm = regexp.MustCompile(`^[a-z][a-z0-9-]{1,31}$`)

// Name returns the subject alternative name that binds a certificate to a
// department, "<dept>.xinqiao".
func Name(dept string) string { return dept + nameSuffix }

// Root is a root certificate that was found fit to issue departments'
// certificates. It is safe for concurrent use.
type Root struct {
	cert *tx509.Certificate
	key  gm.PublicKey
}

// ParseRoot reads a root certificate (DER): version 3, self-signed with SM2, a
// CA with the right to sign certificates, without name constraints, which
// tjfoc's verification would ignore. Errors are ErrProfile.
func ParseRoot(der []byte) (*Root, error) {
	c, key, err := parse(der)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	if err := checkRoot(c); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	if !bothAccept(key, c.RawTBSCertificate, c.Signature) {
		return nil, fmt.Errorf("root: %w: it is not signed by its own key", ErrProfile)
	}
	return &Root{cert: c, key: key}, nil
}

// DER returns the root certificate.
func (r *Root) DER() []byte { return append([]byte(nil), r.cert.Raw...) }

// Pool returns the root as tjfoc's gmtls takes it, in a pool that is the caller's:
// the issuing CAs of what VerifyLeaf accepted may be added.
func (r *Root) Pool() *tx509.CertPool {
	pool := tx509.NewCertPool()
	pool.AddCert(r.cert)
	return pool
}

// Verify returns the identity of a department's certificate that the root, or an
// issuing CA of the root's, issued and that is valid at the time. The chain is
// the leaf, followed by the issuing CA if there is one. Both engines must accept
// each signature. Whether the department is a member, and the certificate not
// withdrawn, is for the caller to ask.
func (r *Root) Verify(chain []byte, at time.Time) (Identity, error) {
	c, err := parseChain(chain)
	if err != nil {
		return Identity{}, err
	}
	if err := r.verify(c, at); err != nil {
		return Identity{}, err
	}
	return c.id, nil
}

// Verify is ParseRoot and Root.Verify in one, for a single chain.
func Verify(root, chain []byte, at time.Time) (Identity, error) {
	r, err := ParseRoot(root)
	if err != nil {
		return Identity{}, err
	}
	return r.Verify(chain, at)
}

// Inspect reads a department's chain without trusting it, for display. It holds
// it to the profile, and to nothing else.
func Inspect(chain []byte) (Identity, error) {
	c, err := parseChain(chain)
	return c.id, err
}

// signedBy reports whether emmansun's engine accepts key's signature of c. It
// refuses the encodings and the r = e corner that tjfoc lets pass.
func signedBy(c *tx509.Certificate, key gm.PublicKey) bool {
	sig, err := gm.ParseSignature(c.Signature)
	return err == nil && gm.Emmansun().Verify(key, c.RawTBSCertificate, sig)
}

// bothAccept reports whether both engines accept key's signature (DER) of signed.
func bothAccept(key gm.PublicKey, signed, signature []byte) bool {
	sig, err := gm.ParseSignature(signature)
	return err == nil && gm.VerifyBoth(gm.Emmansun(), gm.Tjfoc(), key, signed, sig) == gm.AgreeValid
}

// identify reads the identity out of a certificate that passed parse.
func identify(c *tx509.Certificate, key gm.PublicKey) (Identity, error) {
	usage, err := checkLeaf(c)
	if err != nil {
		return Identity{}, err
	}
	dept, err := deptOf(c)
	if err != nil {
		return Identity{}, err
	}
	sum := gm.Emmansun().Sum(c.Raw)
	return Identity{
		Dept:        dept,
		Usage:       usage,
		Key:         key,
		Fingerprint: sum,
		Leaf:        sum,
		NotBefore:   c.NotBefore,
		NotAfter:    c.NotAfter,
		Serial:      fmt.Sprintf("%x", c.SerialNumber),
	}, nil
}

// deptOf finds the one identity name. A second one, or one in another spelling,
// would make the identity depend on who reads it.
func deptOf(c *tx509.Certificate) (string, error) {
	dept := ""
	for _, name := range c.DNSNames {
		if !strings.HasSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), nameSuffix) {
			if !hostForm.MatchString(name) {
				return "", fmt.Errorf("%w: %q is no host name", ErrProfile, name)
			}
			continue
		}
		if dept != "" {
			return "", fmt.Errorf("%w: it names two departments", ErrProfile)
		}
		dept = strings.TrimSuffix(name, nameSuffix)
		if !deptForm.MatchString(dept) {
			return "", fmt.Errorf("%w: %q names no department", ErrProfile, name)
		}
	}
	if dept == "" {
		return "", fmt.Errorf("%w: it names no department", ErrProfile)
	}
	if c.Subject.CommonName != dept {
		return "", fmt.Errorf("%w: the subject %q is not the department %q", ErrProfile, c.Subject.CommonName, dept)
	}
	return dept, nil
}
