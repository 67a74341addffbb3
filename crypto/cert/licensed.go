package cert

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/gm"
)

// ErrLicensed reports a certificate of a licensed CA on which nothing can rest.
var ErrLicensed = errors.New("not a certificate of the licensed CA for this use")

// Bits that tell a licensed signing certificate from an encryption certificate
// (GM/T 0015): each has some of its own and none of the other's.
const (
	licensedSign = tx509.KeyUsageDigitalSignature
	licensedEnc  = tx509.KeyUsageKeyEncipherment | tx509.KeyUsageDataEncipherment
)

// InspectLicensed reads a department's certificate (DER) of a licensed CA, without
// trusting it: its form, its one use, its key. Errors are ErrLicensed.
//
// The exchange issues certificates of its own for keys that a licensed CA has
// certified already, so that one narrow profile is verified wherever it matters. The
// licensed certificate is looked at once, when that happens.
func InspectLicensed(der []byte, usage Usage) (Licensed, gm.PublicKey, error) {
	c, key, err := parseLicensed(der, usage)
	if err != nil {
		return Licensed{}, key, err
	}
	sum := gm.Emmansun().Sum(c.Raw)
	return Licensed{Subject: printable(c.Subject.String()), Serial: fmt.Sprintf("%x", c.SerialNumber),
		Fingerprint: hex.EncodeToString(sum[:])}, key, nil
}

// VerifyLicensed is InspectLicensed for a certificate that must come from the
// licensed CA's root (DER) by way of at most two CAs (DER, concatenated, the leaf's
// issuer first). Names, times, key usage and path length are checked here, and each
// signature by both engines: tjfoc's own verification overlooks too much (trap 10).
// What the CA has revoked since, its own list says; it is not asked. Errors are
// ErrLicensed, those of time ErrExpired as well.
func VerifyLicensed(root, leaf, between []byte, usage Usage, at time.Time) (Licensed, gm.PublicKey, error) {
	licensed, key, err := InspectLicensed(leaf, usage)
	if err == nil {
		err = verifyLicensed(root, leaf, between, usage, at)
	}
	if err != nil {
		return Licensed{}, gm.PublicKey{}, err
	}
	return licensed, key, nil
}

func verifyLicensed(root, leaf, between []byte, usage Usage, at time.Time) error {
	var above [][]byte
	if len(between) > 0 {
		var err error
		if above, err = links(between); err != nil {
			return fmt.Errorf("%w: the CAs between: %w", ErrLicensed, err)
		}
	}
	child, key, err := parseLicensed(leaf, usage)
	if err != nil {
		return err
	}
	keys := []gm.PublicKey{key}
	for i, der := range append(above, root) {
		ca, key, err := parse(der)
		if err != nil {
			return fmt.Errorf("%w: CA: %w", ErrLicensed, err)
		}
		switch self := bytes.Equal(ca.RawSubject, ca.RawIssuer); {
		case self != (i == len(above)):
			return fmt.Errorf("%w: a root stands where none belongs, or none where one does", ErrLicensed)
		case !mayCertify(ca, i):
			return fmt.Errorf("%w: %q may not certify this", ErrLicensed, printable(ca.Subject.CommonName))
		case slices.Contains(keys, key):
			return fmt.Errorf("%w: one key stands in it twice", ErrLicensed)
		case !bytes.Equal(child.RawIssuer, ca.RawSubject) || len(child.AuthorityKeyId) > 0 && !bytes.Equal(child.AuthorityKeyId, ca.SubjectKeyId):
			return fmt.Errorf("%w: %q did not issue %q", ErrLicensed, printable(ca.Subject.CommonName), printable(child.Subject.CommonName))
		case !bothAccept(key, child.RawTBSCertificate, child.Signature):
			return fmt.Errorf("%w: the signature of %q does not hold", ErrLicensed, printable(child.Subject.CommonName))
		case self && !bothAccept(key, ca.RawTBSCertificate, ca.Signature):
			return fmt.Errorf("%w: the root is not signed by its own key", ErrLicensed)
		}
		for _, c := range []*tx509.Certificate{child, ca} {
			if at.Before(c.NotBefore) || at.After(c.NotAfter) {
				return fmt.Errorf("%w: %w: %q from %s until %s", ErrLicensed, ErrExpired, printable(c.Subject.CommonName),
					c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
			}
		}
		child, keys = ca, append(keys, key)
	}
	return nil
}

// mayCertify reports whether a CA may stand above so many CAs and a leaf. One with
// name constraints may not: nothing here understands them.
func mayCertify(ca *tx509.Certificate, below int) bool {
	constrained := slices.ContainsFunc(ca.Extensions, func(e pkix.Extension) bool { return number(e.Id) == extNameConstraints })
	return ca.BasicConstraintsValid && ca.IsCA && ca.KeyUsage&tx509.KeyUsageCertSign != 0 && !constrained &&
		(ca.MaxPathLen < 0 || ca.MaxPathLen >= below)
}

// parseLicensed reads a licensed certificate for one of the two uses.
func parseLicensed(der []byte, usage Usage) (*tx509.Certificate, gm.PublicKey, error) {
	c, key, err := parse(der)
	if err != nil {
		return nil, key, fmt.Errorf("%w: %w", ErrLicensed, err)
	}
	sign, enc := c.KeyUsage&licensedSign != 0, c.KeyUsage&licensedEnc != 0
	switch {
	case c.IsCA || c.KeyUsage&rootUsage != 0:
		return nil, key, fmt.Errorf("%w: it is a CA's", ErrLicensed)
	case usage == Signing && sign && !enc, usage == Encryption && enc && !sign:
		return c, key, nil
	}
	return nil, key, fmt.Errorf("%w: its key usage is not that of a key for %s alone", ErrLicensed, usage)
}

// printable returns a name from somebody else's certificate as a terminal may show it.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, name)
}
