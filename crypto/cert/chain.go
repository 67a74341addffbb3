package cert

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	tx509 "github.com/tjfoc/gmsm/x509"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"xinqiao/crypto/gm"
)

// ErrChain reports certificates that are no chain: not a department's certificate
// followed by at most the issuing CA that its names say. It is an ErrProfile.
var ErrChain = fmt.Errorf("%w: not a department's certificate with at most its issuing CA", ErrProfile)

// maxLinks is a leaf and an issuing CA. The root is an anchor and never travels.
const maxLinks = 2

// A chain is a department's certificate and the CA between it and the root, if
// there is one.
type chain struct {
	leaf   *tx509.Certificate
	issuer *tx509.Certificate // nil if the root issued the leaf
	key    gm.PublicKey       // of the issuer
	id     Identity
}

// Leaf returns the first certificate of a chain: what travels on a TLCP hop,
// which has no place for more. It is nil if chain is none.
func Leaf(chain []byte) []byte {
	list, err := links(chain)
	if err != nil {
		return nil
	}
	return list[0]
}

// Issuer returns the issuing CA's certificate of a chain, or nil if there is none.
func Issuer(chain []byte) []byte {
	list, err := links(chain)
	if err != nil || len(list) < maxLinks {
		return nil
	}
	return list[1]
}

// links takes a chain apart at its DER lengths, which say where each certificate ends.
func links(der []byte) ([][]byte, error) {
	if len(der) > maxLinks*maxCertificate {
		return nil, fmt.Errorf("%w: %d bytes are too many", ErrProfile, len(der))
	}
	in := cryptobyte.String(der)
	var list [][]byte
	for len(list) == 0 || !in.Empty() {
		var one cryptobyte.String
		if len(list) == maxLinks || !in.ReadASN1Element(&one, cbasn1.SEQUENCE) {
			return nil, ErrChain
		}
		list = append(list, one)
	}
	return list, nil
}

// parseChain reads a chain and holds it to the profile. Signatures and times are
// for verify.
func parseChain(der []byte) (chain, error) {
	list, err := links(der)
	if err != nil {
		return chain{}, err
	}
	leaf, key, err := parse(list[0])
	if err != nil {
		return chain{}, err
	}
	c := chain{leaf: leaf}
	if c.id, err = identify(leaf, key); err != nil {
		return chain{}, err
	}
	c.id.Chain = string(der)
	if len(list) == 1 {
		return c, nil
	}
	if c.issuer, c.key, err = parse(list[1]); err != nil {
		return chain{}, fmt.Errorf("issuing CA: %w", err)
	}
	if err := checkIssuing(c.issuer); err != nil {
		return chain{}, fmt.Errorf("issuing CA: %w", err)
	}
	if !issuedBy(leaf, c.issuer) || key == c.key {
		return chain{}, fmt.Errorf("%w: the second did not issue the first", ErrChain)
	}
	c.id.Fingerprint = gm.Emmansun().Sum(der)
	return c, nil
}

// verify follows the chain to the root: names, key identifiers, times, and every
// signature by both engines.
func (r *Root) verify(c chain, at time.Time) error {
	above, key, valid := r.cert, r.key, []*tx509.Certificate{c.leaf, r.cert}
	if c.issuer != nil {
		if err := r.verifyIssuing(c.issuer, c.key); err != nil {
			return err
		}
		above, key, valid = c.issuer, c.key, append(valid, c.issuer)
	}
	if !issuedBy(c.leaf, above) || !signedBy(c.leaf, key) {
		return ErrForeign
	}
	for _, v := range valid {
		if at.Before(v.NotBefore) || at.After(v.NotAfter) {
			return fmt.Errorf("%w: valid from %s until %s", ErrExpired,
				v.NotBefore.UTC().Format(time.RFC3339), v.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	if err := r.second(c, at); err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return nil
}

// parseIssuing reads the certificate of an issuing CA of the root's, and nothing
// else; both engines must accept its signature.
func (r *Root) parseIssuing(der []byte) (*tx509.Certificate, gm.PublicKey, error) {
	c, key, err := parse(der)
	if err == nil {
		err = checkIssuing(c)
	}
	if err != nil {
		return nil, key, fmt.Errorf("issuing CA: %w", err)
	}
	if err := r.verifyIssuing(c, key); err != nil {
		return nil, key, err
	}
	if !bothAccept(r.key, c.RawTBSCertificate, c.Signature) {
		return nil, key, fmt.Errorf("issuing CA: %w", ErrForeign)
	}
	return c, key, nil
}

// verifyIssuing holds an issuing CA to the root; tjfoc's verdict on its signature
// comes with second.
func (r *Root) verifyIssuing(c *tx509.Certificate, key gm.PublicKey) error {
	switch {
	case !issuedBy(c, r.cert) || !signedBy(c, r.key):
		return fmt.Errorf("issuing CA: %w", ErrForeign)
	case r.cert.MaxPathLen == 0:
		return fmt.Errorf("issuing CA: %w: the root permits no CA below it", ErrForeign)
	case key == r.key:
		return fmt.Errorf("issuing CA: %w: it is the root under another name", ErrChain)
	case c.NotBefore.Before(r.cert.NotBefore) || c.NotAfter.After(r.cert.NotAfter):
		return fmt.Errorf("issuing CA: %w: it outlives the root", ErrProfile)
	}
	return nil
}

// second is tjfoc's own verification, with its verdict on each signature. It must
// find the one way to the root that verify went.
func (r *Root) second(c chain, at time.Time) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("x509 failed: %v", p)
		}
	}()
	between, want := tx509.NewCertPool(), []*tx509.Certificate{c.leaf, r.cert}
	if c.issuer != nil {
		between.AddCert(c.issuer)
		want = []*tx509.Certificate{c.leaf, c.issuer, r.cert}
	}
	found, err := c.leaf.Verify(tx509.VerifyOptions{
		Roots:         r.Pool(),
		Intermediates: between,
		CurrentTime:   at,
		KeyUsages:     []tx509.ExtKeyUsage{tx509.ExtKeyUsageClientAuth, tx509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return err
	}
	same := func(a, b *tx509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) }
	if len(found) != 1 || !slices.EqualFunc(found[0], want, same) {
		return fmt.Errorf("x509 found %d other ways to the root", len(found))
	}
	return nil
}

// VerifyLeaf is Verify for a hop on which the leaf alone travels: it is verified
// as the chain that it makes with the one of issuers that its names say, or alone
// if the root issued it. It returns that chain. Issuers are not trusted: each is
// held to the profile and to the root.
func (r *Root) VerifyLeaf(leaf []byte, issuers [][]byte, at time.Time) (Identity, []byte, error) {
	alone, err := parseChain(leaf)
	if err != nil {
		return Identity{}, nil, err
	}
	if alone.issuer != nil || issuedBy(alone.leaf, r.cert) {
		if err := r.verify(alone, at); err != nil {
			return Identity{}, nil, err
		}
		return alone.id, leaf, nil
	}
	err = ErrForeign
	for _, issuer := range issuers {
		der := slices.Concat(leaf, issuer)
		c, reason := parseChain(der)
		if reason != nil || c.issuer == nil {
			continue // of another department's issuer, most likely
		}
		if err = r.verify(c, at); err == nil {
			return c.id, der, nil
		}
	}
	return Identity{}, nil, err
}

// checkIssuing holds an issuing CA to exactly what IssueCA writes.
func checkIssuing(c *tx509.Certificate) error {
	if bytes.Equal(c.RawSubject, c.RawIssuer) {
		return fmt.Errorf("%w: it issued itself", ErrChain)
	}
	want := []int{extSubjectKeyID, extKeyUsage, extBasicConstraints, extAuthorityKeyID}
	var have []int
	for _, e := range c.Extensions {
		n := number(e.Id)
		if critical := n == extKeyUsage || n == extBasicConstraints; e.Critical != critical {
			return fmt.Errorf("%w: extension %v is critical where it should not be, or the reverse", ErrProfile, e.Id)
		}
		have = append(have, n)
	}
	slices.Sort(have)
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return fmt.Errorf("%w: it is no CA", ErrChain)
	case !slices.Equal(have, want):
		return fmt.Errorf("%w: extensions %v, want exactly %v of 2.5.29", ErrProfile, have, want)
	case c.MaxPathLen != 0:
		return fmt.Errorf("%w: it may have CAs below it", ErrProfile)
	case c.KeyUsage != rootUsage:
		return fmt.Errorf("%w: its key is not for certificates and revocation lists, and for nothing else", ErrProfile)
	case len(c.SubjectKeyId) == 0:
		return fmt.Errorf("%w: it has no subject key identifier", ErrProfile)
	case !issuingName(c.Subject.CommonName):
		return fmt.Errorf("%w: %q cannot name an issuing CA", ErrProfile, c.Subject.CommonName)
	}
	return nil
}

// issuingName reports whether a name is fit for an issuing CA: one that cannot be
// taken for a department's.
func issuingName(name string) bool {
	return name != "" && len(name) <= 64 &&
		!strings.HasSuffix(strings.ToLower(strings.TrimRight(name, ". ")), nameSuffix)
}
