package cert

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"math/big"
	"time"

	tx509 "github.com/tjfoc/gmsm/x509"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"xinqiao/crypto/gm"
)

const (
	pemCRL   = "X509 CRL"
	maxCRL   = 1 << 20 // some 25,000 certificates
	maxLists = 32      // blocks of one file: a CA has one list, and an exchange few CAs
)

// Numbers under id-ce of a revocation list's extensions.
const (
	extCRLNumber  = 20
	extReasonCode = 21
)

// Errors of revocation lists. A list whose issuer is neither the root nor an
// issuing CA of the root's is ErrForeign.
var (
	// ErrList reports bytes that are no revocation list, or one of another form than
	// this package writes.
	ErrList = errors.New("not a revocation list of the exchange's profile")
	// ErrListExpired reports a genuine list whose successor is due, or that is from
	// the future. What it revokes stays revoked; what it does not may be, by now.
	ErrListExpired = errors.New("the revocation list is not current")
	// ErrListOlder reports a list older than one seen before: a replay, or a file
	// brought back from a backup.
	ErrListOlder = errors.New("the revocation list is older than one seen before")
)

// Reason says why a certificate was revoked, in the words of RFC 5280 5.3.1.
type Reason string

// The reasons. A hold is not among them: a withdrawal is final.
const (
	Unspecified          Reason = "unspecified"
	KeyCompromise        Reason = "keyCompromise"
	CACompromise         Reason = "cACompromise"
	AffiliationChanged   Reason = "affiliationChanged"
	Superseded           Reason = "superseded"
	CessationOfOperation Reason = "cessationOfOperation"
	PrivilegeWithdrawn   Reason = "privilegeWithdrawn"
)

// Reasons lists the reasons, the commonest first.
func Reasons() []Reason {
	return []Reason{KeyCompromise, Superseded, CessationOfOperation, AffiliationChanged, PrivilegeWithdrawn, CACompromise, Unspecified}
}

func (r Reason) code() (int, bool) {
	code, ok := map[Reason]int{Unspecified: 0, KeyCompromise: 1, CACompromise: 2, AffiliationChanged: 3, Superseded: 4,
		CessationOfOperation: 5, PrivilegeWithdrawn: 9}[r]
	return code, ok
}

// Revoked is one revoked certificate of a CA.
type Revoked struct {
	Serial string    `json:"serial"` // hexadecimal, as in Identity
	At     time.Time `json:"at"`
	Reason Reason    `json:"reason"`
}

// Revocations is a CA's revocation list (X.509 version 2, RFC 5280 5) that was
// verified, or only read, see InspectRevocations. It is safe for concurrent use.
type Revocations struct {
	Issuer     string // common name of the CA
	IssuerKey  string // the CA's subject key identifier, hexadecimal: two CAs may have one name
	Number     uint64 // grows from list to list of one CA
	ThisUpdate time.Time
	NextUpdate time.Time
	List       []Revoked

	issuer   []byte // subject of the CA, DER
	key      []byte // the CA's subject key identifier
	bySerial map[string]Revoked
}

// IssueRevocations returns the CA's revocation list (DER), followed by the CA's
// certificate if it is an issuing CA. The number must be greater than any before;
// the caller keeps count. Errors of the arguments are ErrRequest.
func (ca *CA) IssueRevocations(list []Revoked, number uint64, now, next time.Time) ([]byte, error) {
	der, err := ca.issueRevocations(list, number, now, next)
	if err != nil {
		return nil, fmt.Errorf("issue revocation list: %w", err)
	}
	return der, nil
}

func (ca *CA) issueRevocations(list []Revoked, number uint64, now, next time.Time) ([]byte, error) {
	if number == 0 || number > math.MaxInt64 || !next.After(now) {
		return nil, fmt.Errorf("%w: a positive number and a later end are needed", ErrRequest)
	}
	r := Revocations{Number: number, List: list, issuer: ca.cert.RawSubject, key: ca.cert.SubjectKeyId,
		ThisUpdate: later(now.Add(-backdate), ca.cert.NotBefore).UTC().Truncate(time.Second),
		NextUpdate: earlier(next, ca.cert.NotAfter).UTC().Truncate(time.Second)}
	tbs, err := r.marshal()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	signature, err := ca.signer.Sign(rand.Reader, tbs, nil)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(signatureAlgorithm())
		b.AddASN1BitString(signature)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	der = append(der, ca.issuing...)
	// A signer that answers with another key's signature shows here.
	if _, err := ParseRevocations(ca.root, der, now); err != nil {
		return nil, err
	}
	return der, nil
}

// marshal returns what is signed of a list. Reading compares with it, so that a
// list has one form.
func (r *Revocations) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1) // version 2
		b.AddBytes(signatureAlgorithm())
		b.AddBytes(r.issuer)
		addTime(b, r.ThisUpdate)
		addTime(b, r.NextUpdate)
		if len(r.List) > 0 {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, one := range r.List {
					one.marshal(b)
				}
			})
		}
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addExtension(b, extAuthorityKeyID, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(r.key) })
					})
				})
				addExtension(b, extCRLNumber, func(b *cryptobyte.Builder) { b.AddASN1Uint64(r.Number) })
			})
		})
	})
	return b.Bytes()
}

func (one Revoked) marshal(b *cryptobyte.Builder) {
	serial, ok := new(big.Int).SetString(one.Serial, 16)
	code, known := one.Reason.code()
	if !ok || serial.Sign() <= 0 || serial.BitLen() > 159 || !known {
		b.SetError(fmt.Errorf("certificate %q, reason %q", one.Serial, one.Reason))
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(serial)
		addTime(b, one.At)
		if one.Reason == Unspecified { // RFC 5280 5.3.1: absent rather than 0
			return
		}
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addExtension(b, extReasonCode, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(code)) })
		})
	})
}

// addTime adds a time as RFC 5280 5.1.2.4 wants it.
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t = t.UTC(); t.Year() < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
}

func addExtension(b *cryptobyte.Builder, n int, value cryptobyte.BuilderContinuation) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 5, 29, n})
		b.AddASN1(cbasn1.OCTET_STRING, value)
	})
}

// ParseRevocations verifies a revocation list (DER), followed by its issuing CA's
// certificate if it is not the root's own. Both engines must accept the signature.
// If the list is genuine and not current, it is returned beside ErrListExpired.
func ParseRevocations(root *Root, list []byte, at time.Time) (*Revocations, error) {
	r, signed, signature, issuing, err := readRevocations(list)
	if err != nil {
		return nil, err
	}
	ca, key := root.cert, root.key
	if len(issuing) > 0 {
		if ca, key, err = root.parseIssuing(issuing); err != nil {
			return nil, fmt.Errorf("revocation list: %w", err)
		}
	}
	switch {
	case !bytes.Equal(r.issuer, ca.RawSubject) || !bytes.Equal(r.key, ca.SubjectKeyId):
		return nil, fmt.Errorf("revocation list: %w: it is by %q", ErrForeign, r.Issuer)
	case !bothAccept(key, signed, signature):
		return nil, fmt.Errorf("revocation list: %w: the signature does not hold", ErrForeign)
	case r.ThisUpdate.Before(ca.NotBefore) || r.NextUpdate.After(ca.NotAfter):
		return nil, fmt.Errorf("%w: its CA was not valid", ErrList)
	case at.Before(r.ThisUpdate) || at.After(r.NextUpdate):
		return r, fmt.Errorf("%w: from %s until %s", ErrListExpired, r.ThisUpdate.Format(time.RFC3339), r.NextUpdate.Format(time.RFC3339))
	}
	return r, nil
}

// InspectRevocations reads a list without trusting it, for display.
func InspectRevocations(list []byte) (*Revocations, error) {
	r, _, _, _, err := readRevocations(list)
	return r, err
}

// readRevocations reads the list and returns what is signed, the signature, and
// what follows the list. It accepts nothing that marshal would write in another way.
func readRevocations(list []byte) (r *Revocations, tbs, signature, rest []byte, err error) {
	bad := func(what string) (*Revocations, []byte, []byte, []byte, error) {
		return nil, nil, nil, nil, fmt.Errorf("%w: %s", ErrList, what)
	}
	if len(list) > maxCRL {
		return bad("too many bytes")
	}
	in, outer := cryptobyte.String(list), cryptobyte.String(nil)
	var info, algorithm cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1Element(&info, cbasn1.SEQUENCE) ||
		!outer.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) || !outer.ReadASN1BitStringAsBytes(&signature) || !outer.Empty() {
		return bad("malformed")
	}
	if !bytes.Equal(algorithm, signatureAlgorithm()) {
		return bad("it is not signed with SM2 and SM3")
	}
	if _, err := gm.ParseSignature(signature); err != nil {
		return bad(err.Error())
	}
	r = &Revocations{bySerial: map[string]Revoked{}}
	if !r.read(info) {
		return bad("malformed, or of another form than this CA writes")
	}
	if again, err := r.marshal(); err != nil || !bytes.Equal(again, info) {
		return bad("another encoding")
	}
	for _, one := range r.List {
		if _, twice := r.bySerial[one.Serial]; twice {
			return bad("it names a certificate twice")
		}
		r.bySerial[one.Serial] = one
	}
	return r, info, signature, in, nil
}

// read takes a TBSCertList apart, without care for what marshal will hold it to.
func (r *Revocations) read(info cryptobyte.String) bool {
	var body, algorithm, issuer, exts, extension, value, id cryptobyte.String
	var version int64
	if !info.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1Integer(&version) || !body.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!body.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !readTime(&body, &r.ThisUpdate) || !readTime(&body, &r.NextUpdate) {
		return false
	}
	r.issuer = issuer
	name, err := commonName(issuer)
	if err != nil {
		return false
	}
	r.Issuer = printable(name)
	if body.PeekASN1Tag(cbasn1.SEQUENCE) {
		var list cryptobyte.String
		if !body.ReadASN1(&list, cbasn1.SEQUENCE) {
			return false
		}
		for !list.Empty() {
			var one Revoked
			if !one.read(&list) {
				return false
			}
			r.List = append(r.List, one)
		}
	}
	// The authority's key identifier, and the number; marshal holds their frames.
	if !body.ReadASN1(&exts, cbasn1.Tag(0).ContextSpecific().Constructed()) || !exts.ReadASN1(&exts, cbasn1.SEQUENCE) ||
		!exts.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.SkipASN1(cbasn1.OBJECT_IDENTIFIER) ||
		!extension.ReadASN1(&value, cbasn1.OCTET_STRING) || !value.ReadASN1(&value, cbasn1.SEQUENCE) ||
		!value.ReadASN1(&id, cbasn1.Tag(0).ContextSpecific()) {
		return false
	}
	r.key, r.IssuerKey = id, hex.EncodeToString(id)
	return exts.ReadASN1(&extension, cbasn1.SEQUENCE) && extension.SkipASN1(cbasn1.OBJECT_IDENTIFIER) &&
		extension.ReadASN1(&value, cbasn1.OCTET_STRING) && value.ReadASN1Integer(&r.Number)
}

func (one *Revoked) read(list *cryptobyte.String) bool {
	var entry, exts, extension, value cryptobyte.String
	serial, code := new(big.Int), 0
	if !list.ReadASN1(&entry, cbasn1.SEQUENCE) || !entry.ReadASN1Integer(serial) || !readTime(&entry, &one.At) {
		return false
	}
	if !entry.Empty() && (!entry.ReadASN1(&exts, cbasn1.SEQUENCE) || !exts.ReadASN1(&extension, cbasn1.SEQUENCE) ||
		!extension.SkipASN1(cbasn1.OBJECT_IDENTIFIER) || !extension.ReadASN1(&value, cbasn1.OCTET_STRING) || !value.ReadASN1Enum(&code)) {
		return false
	}
	one.Serial = fmt.Sprintf("%x", serial)
	for _, reason := range Reasons() {
		if c, _ := reason.code(); c == code {
			one.Reason = reason
			return true
		}
	}
	return false
}

func readTime(in *cryptobyte.String, t *time.Time) bool {
	if in.PeekASN1Tag(cbasn1.UTCTime) {
		return in.ReadASN1UTCTime(t)
	}
	return in.ReadASN1GeneralizedTime(t)
}

// Follows returns ErrListOlder if the list is older than one of the same CA with
// this number.
func (r *Revocations) Follows(number uint64) error {
	if r.Number < number {
		return fmt.Errorf("%w: number %d of %q after %d", ErrListOlder, r.Number, r.Issuer, number)
	}
	return nil
}

// Revoked reports whether a chain that passed Verify ends in this list: its leaf,
// or the issuing CA in it.
func (r *Revocations) Revoked(chain []byte) (Revoked, bool) {
	list, err := links(chain)
	if err != nil {
		return Revoked{}, false
	}
	for _, der := range list {
		c, err := tx509.ParseCertificate(der)
		if err != nil || !bytes.Equal(c.RawIssuer, r.issuer) || !bytes.Equal(c.AuthorityKeyId, r.key) {
			continue
		}
		if one, ok := r.bySerial[fmt.Sprintf("%x", c.SerialNumber)]; ok {
			return one, true
		}
	}
	return Revoked{}, false
}

// EncodeRevocations returns a list as openssl reads it. The certificate of an
// issuing CA follows in a block of its own.
func EncodeRevocations(list []byte) []byte {
	in, crl := cryptobyte.String(list), cryptobyte.String(nil)
	if !in.ReadASN1Element(&crl, cbasn1.SEQUENCE) {
		crl, in = list, nil
	}
	file := pem.EncodeToMemory(&pem.Block{Type: pemCRL, Bytes: crl})
	if len(in) > 0 {
		file = append(file, EncodePEM(in)...)
	}
	return file
}

// DecodeRevocations returns the lists of a file, each with the certificate that
// follows it: the lists of several CAs may stand in one file. Errors are ErrFile.
func DecodeRevocations(file []byte) ([][]byte, error) {
	blocks, err := decodeBlocks(file, maxLists, pemCRL, pemCertificate)
	if err != nil {
		return nil, err
	}
	var lists [][]byte
	open := false // a list that no certificate has followed yet
	for _, b := range blocks {
		switch {
		case b.Type == pemCRL:
			lists = append(lists, b.Bytes)
		case !open:
			return nil, fmt.Errorf("%w: a certificate that follows no revocation list", ErrFile)
		default:
			lists[len(lists)-1] = append(bytes.Clone(lists[len(lists)-1]), b.Bytes...)
		}
		open = b.Type == pemCRL
	}
	return lists, nil
}
