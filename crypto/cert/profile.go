package cert

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"regexp"
	"slices"

	tx509 "github.com/tjfoc/gmsm/x509"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"xinqiao/crypto/gm"
)

// maxCertificate bounds what is parsed at all; our certificates have about 600 bytes.
const maxCertificate = 8 << 10

// The key usages of the profile (RFC 5280 4.2.1.3, GM/T 0015).
const (
	signUsage = tx509.KeyUsageDigitalSignature | tx509.KeyUsageContentCommitment
	encUsage  = tx509.KeyUsageKeyEncipherment | tx509.KeyUsageDataEncipherment
	rootUsage = tx509.KeyUsageCertSign | tx509.KeyUsageCRLSign
)

// Numbers under id-ce (2.5.29) of the extensions that the profile knows.
const (
	extSubjectKeyID     = 14
	extKeyUsage         = 15
	extSubjectAltName   = 17
	extBasicConstraints = 19
	extNameConstraints  = 30
	extAuthorityKeyID   = 35
	extExtendedKeyUsage = 37
)

var hostForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// signatureAlgorithm is the DER form of AlgorithmIdentifier{sm2-with-sm3}
// (1.2.156.10197.1.501, GM/T 0006), without parameters. It stands in a certificate
// twice, and only the inner one is signed.
func signatureAlgorithm() []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 501})
	})
	return b.BytesOrPanic()
}

// parse reads a certificate whose form leaves no choice: what encoding/asn1 and
// tjfoc overlook is checked on the bytes first. It never panics, whatever it is given.
func parse(der []byte) (c *tx509.Certificate, key gm.PublicKey, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, err = nil, fmt.Errorf("%w: it cannot be parsed", ErrProfile)
		}
	}()
	if len(der) > maxCertificate {
		return nil, key, fmt.Errorf("%w: %d bytes are too many", ErrProfile, len(der))
	}
	spki, err := walk(der)
	if err != nil {
		return nil, key, err
	}
	c, err = tx509.ParseCertificate(der)
	if err != nil {
		return nil, key, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	if key, err = gm.PublicKeyOf(c.PublicKey); err != nil {
		return nil, key, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	canonical, err := tx509.MarshalPKIXPublicKey(key.Tjfoc())
	if err != nil || !bytes.Equal(spki, canonical) {
		return nil, key, fmt.Errorf("%w: another encoding of the public key", ErrProfile)
	}
	if c.Version != 3 || c.SerialNumber.Sign() <= 0 || c.SerialNumber.BitLen() > 159 || len(c.UnhandledCriticalExtensions) > 0 {
		return nil, key, fmt.Errorf("%w: version, serial number or a critical extension", ErrProfile)
	}
	return c, key, nil
}

// walk checks the frame of a certificate (RFC 5280 4.1) and returns its
// SubjectPublicKeyInfo. encoding/asn1 accepts extra elements at the end of a
// sequence, and tjfoc does not compare the two algorithm identifiers; either would
// give one certificate several encodings and so several fingerprints.
func walk(der []byte) (spki []byte, err error) {
	malformed := fmt.Errorf("%w: malformed", ErrProfile)
	in, outer := cryptobyte.String(der), cryptobyte.String(nil)
	var tbs, inner, outerAlg, exts cryptobyte.String
	var signature []byte
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() ||
		!outer.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!outer.ReadASN1Element(&outerAlg, cbasn1.SEQUENCE) ||
		!outer.ReadASN1BitStringAsBytes(&signature) || !outer.Empty() {
		return nil, malformed
	}
	var version, key cryptobyte.String
	if !tbs.ReadASN1Element(&version, cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!bytes.Equal(version, []byte{0xa0, 3, 2, 1, 2}) {
		return nil, fmt.Errorf("%w: not version 3", ErrProfile)
	}
	if !tbs.SkipASN1(cbasn1.INTEGER) || // serial number
		!tbs.ReadASN1Element(&inner, cbasn1.SEQUENCE) ||
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // issuer
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // validity
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // subject
		!tbs.ReadASN1Element(&key, cbasn1.SEQUENCE) ||
		!tbs.ReadASN1(&exts, cbasn1.Tag(3).ContextSpecific().Constructed()) || !tbs.Empty() {
		return nil, malformed
	}
	if !bytes.Equal(inner, signatureAlgorithm()) || !bytes.Equal(outerAlg, inner) {
		return nil, fmt.Errorf("%w: the signature algorithm is not SM2 with SM3, inside and outside", ErrProfile)
	}
	if _, err := gm.ParseSignature(signature); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	if !walkExtensions(exts) {
		return nil, malformed
	}
	return key, nil
}

// walkExtensions refuses malformed and repeated extensions, and a critical flag
// that is spelt out as false.
func walkExtensions(in cryptobyte.String) bool {
	var list cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() {
		return false
	}
	seen := map[string]bool{}
	for !list.Empty() {
		var ext, value cryptobyte.String
		var id asn1.ObjectIdentifier
		if !list.ReadASN1(&ext, cbasn1.SEQUENCE) || !ext.ReadASN1ObjectIdentifier(&id) || seen[id.String()] {
			return false
		}
		seen[id.String()] = true
		if ext.PeekASN1Tag(cbasn1.BOOLEAN) {
			var critical bool
			if !ext.ReadASN1Boolean(&critical) || !critical {
				return false
			}
		}
		if !ext.ReadASN1(&value, cbasn1.OCTET_STRING) || !ext.Empty() {
			return false
		}
	}
	return true
}

// checkRoot holds a root to what tjfoc's verification and this package's own
// understand. Unknown extensions may be there if they are not critical.
func checkRoot(c *tx509.Certificate) error {
	switch {
	case !bytes.Equal(c.RawSubject, c.RawIssuer):
		return fmt.Errorf("%w: subject and issuer differ", ErrProfile)
	case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&tx509.KeyUsageCertSign == 0:
		return fmt.Errorf("%w: it may not sign certificates", ErrProfile)
	case c.KeyUsage&^rootUsage != 0:
		return fmt.Errorf("%w: its key has other uses beside signing certificates", ErrProfile)
	case len(c.SubjectKeyId) == 0:
		return fmt.Errorf("%w: it has no subject key identifier", ErrProfile)
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0:
		return fmt.Errorf("%w: it limits the use of what it issues", ErrProfile)
	}
	for _, e := range c.Extensions {
		if number(e.Id) == extNameConstraints {
			return fmt.Errorf("%w: name constraints are not understood here", ErrProfile)
		}
	}
	return nil
}

// checkLeaf holds a certificate to exactly the extensions that Issue writes.
func checkLeaf(c *tx509.Certificate) (Usage, error) {
	want := []int{extSubjectKeyID, extKeyUsage, extSubjectAltName, extBasicConstraints, extAuthorityKeyID, extExtendedKeyUsage}
	var have []int
	for _, e := range c.Extensions {
		n := number(e.Id)
		critical := n == extKeyUsage || n == extBasicConstraints
		if e.Critical != critical {
			return NoUsage, fmt.Errorf("%w: extension %v is critical where it should not be, or the reverse", ErrProfile, e.Id)
		}
		if n == extSubjectAltName && !plainNames(e.Value) {
			return NoUsage, fmt.Errorf("%w: a subject alternative name that is neither DNS name nor IP address", ErrProfile)
		}
		have = append(have, n)
	}
	slices.Sort(have)
	if !slices.Equal(have, want) {
		return NoUsage, fmt.Errorf("%w: extensions %v, want exactly %v of 2.5.29", ErrProfile, have, want)
	}
	if !c.BasicConstraintsValid || c.IsCA {
		return NoUsage, fmt.Errorf("%w: a department's certificate may not be a CA", ErrProfile)
	}
	purposes := []tx509.ExtKeyUsage{tx509.ExtKeyUsageServerAuth, tx509.ExtKeyUsageClientAuth}
	if !slices.Equal(c.ExtKeyUsage, purposes) || len(c.UnknownExtKeyUsage) > 0 {
		return NoUsage, fmt.Errorf("%w: extended key usage is not server and client authentication", ErrProfile)
	}
	switch c.KeyUsage {
	case signUsage:
		return Signing, nil
	case encUsage:
		return Encryption, nil
	}
	return NoUsage, fmt.Errorf("%w: the key usage is neither that of a signing nor of an encryption key", ErrProfile)
}

// issuedBy compares the names and key identifiers of a chain.
func issuedBy(leaf, root *tx509.Certificate) bool {
	return bytes.Equal(leaf.RawIssuer, root.RawSubject) && bytes.Equal(leaf.AuthorityKeyId, root.SubjectKeyId) &&
		!bytes.Equal(leaf.RawSubject, root.RawSubject)
}

// plainNames reports whether a SubjectAltName holds DNS names and IP addresses
// only. tjfoc's parser skips the other kinds without a word.
func plainNames(value []byte) bool {
	in, names := cryptobyte.String(value), cryptobyte.String(nil)
	if !in.ReadASN1(&names, cbasn1.SEQUENCE) || !in.Empty() {
		return false
	}
	for !names.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&name, &tag) ||
			tag != cbasn1.Tag(2).ContextSpecific() && tag != cbasn1.Tag(7).ContextSpecific() {
			return false
		}
	}
	return true
}

// number returns n of the identifier 2.5.29.n, and -1 for others.
func number(id asn1.ObjectIdentifier) int {
	if len(id) == 4 && id[0] == 2 && id[1] == 5 && id[2] == 29 {
		return id[3]
	}
	return -1
}

// commonName returns the common name in a distinguished name (DER).
func commonName(der []byte) (string, error) {
	var list pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("%w: a malformed name", ErrProfile)
	}
	var name pkix.Name
	name.FillFromRDNSequence(&list)
	return name.CommonName, nil
}
