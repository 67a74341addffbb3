package material

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"
	"unicode/utf8"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// Domains of what is signed and hashed.
const (
	domainBody    = "xinqiao/material/v1"
	domainField   = "xinqiao/material-field/v1"
	domainSubject = "xinqiao/material-subject/v1"
	domainDecoy   = "xinqiao/material-decoy/v1"
)

// Limits of one material.
const (
	MaxFields = exchange.MaxViews
	MaxValue  = 256 << 10 // bytes of one value; a photograph is the largest
	MaxDecoys = 7
	maxTotal  = canon.MaxSize - 64<<10 // bytes of all values
)

// Errors of this package; all are found with errors.Is.
var (
	ErrDraft     = errors.New("the draft cannot be issued")
	ErrForm      = errors.New("the material is malformed")
	ErrForged    = errors.New("the material is not what its issuer signed")
	ErrOther     = errors.New("the material is about something else")
	ErrViews     = errors.New("the material does not show exactly what was asked for")
	ErrNoField   = errors.New("the material has no such field")
	ErrMode      = errors.New("the mode is not supported")
	ErrPredicate = errors.New("the predicate cannot be decided")
	ErrValidity  = errors.New("the material is outside its validity")
)

// Signer signs gm.Preimage(domain, body) with the issuer's key; crypto/keyring
// is one.
type Signer interface {
	Sign(domain string, body []byte) (gm.Signature, error)
}

// FieldValue is one field of a record. An empty value certifies that the record
// has none.
type FieldValue struct {
	Field exchange.Field
	Value string
}

// Draft is what an issuer certifies.
type Draft struct {
	Item      exchange.Item
	Schema    uint32 // version of the item's schema in the catalogue
	Subject   exchange.Subject
	Issuer    exchange.Dept
	Cert      gm.Digest // SM3 of the issuer's signing certificate
	IssuedAt  time.Time // kept to the second
	ValidFrom time.Time // zero: no bound
	ValidTo   time.Time // zero: no bound; otherwise the first second after it
	Fields    []FieldValue
}

// Head is what a material says about itself without showing a field.
type Head struct {
	ID        [16]byte
	Item      exchange.Item
	Schema    uint32
	Issuer    exchange.Dept
	Cert      gm.Digest
	IssuedAt  time.Time
	ValidFrom time.Time // zero: no bound
	ValidTo   time.Time // zero: no bound
}

// body is what the issuer signs. Field numbers are final.
type body struct {
	Suite     string        `cbor:"1,keyasint"`
	Item      exchange.Item `cbor:"2,keyasint"`
	Schema    uint32        `cbor:"3,keyasint"`
	ID        [16]byte      `cbor:"4,keyasint"`
	Issuer    exchange.Dept `cbor:"5,keyasint"`
	Cert      gm.Digest     `cbor:"6,keyasint"`
	Subject   gm.Digest     `cbor:"7,keyasint"`
	IssuedAt  int64         `cbor:"8,keyasint"` // Unix seconds
	ValidFrom int64         `cbor:"9,keyasint,omitempty"`
	ValidTo   int64         `cbor:"10,keyasint,omitempty"`
	Digests   []gm.Digest   `cbor:"11,keyasint"` // strictly ascending: the order tells nothing
}

// Disclosure is one field with the salt that opens its digest. Without the salt
// the digest tells nothing, however few values the field can have.
type Disclosure struct {
	Salt  gm.Digest      `cbor:"1,keyasint"`
	Field exchange.Field `cbor:"2,keyasint"`
	Value string         `cbor:"3,keyasint"`
}

// Material is a whole certified material. It holds every field and stays with
// its holder; what leaves is a Presentation. It prints redacted.
type Material struct {
	Body        []byte       `cbor:"1,keyasint"` // exactly what was signed
	Sig         gm.Signature `cbor:"2,keyasint"`
	SubjectSalt gm.Digest    `cbor:"3,keyasint"`
	Disclosures []Disclosure `cbor:"4,keyasint"`
}

// Issue certifies d. Salts, the material's id and the number of decoys come from
// rand, which must be cryptographically secure outside tests. Errors that lie in
// the draft are ErrDraft and name no value.
func Issue(e gm.Engine, s Signer, rand io.Reader, d Draft) (Material, error) {
	if err := d.check(); err != nil {
		return Material{}, err
	}
	b := body{Suite: gm.Suite, Item: d.Item, Schema: d.Schema, Issuer: d.Issuer, Cert: d.Cert, IssuedAt: d.IssuedAt.Unix(),
		ValidFrom: seconds(d.ValidFrom), ValidTo: seconds(d.ValidTo)}
	m := Material{Disclosures: make([]Disclosure, len(d.Fields))}
	var decoys [1]byte
	random := make([]byte, len(b.ID)+len(decoys)+gm.HashSize*(1+len(d.Fields)+MaxDecoys))
	if _, err := io.ReadFull(rand, random); err != nil {
		return Material{}, fmt.Errorf("issue %s: random bytes: %w", d.Item, err)
	}
	take := func(to []byte) { random = random[copy(to, random):] }
	take(b.ID[:])
	take(decoys[:])
	take(m.SubjectSalt[:])
	b.Subject = commitSubject(e, m.SubjectSalt, d.Subject)
	for i, f := range d.Fields {
		m.Disclosures[i] = Disclosure{Field: f.Field, Value: f.Value}
		take(m.Disclosures[i].Salt[:])
		b.Digests = append(b.Digests, m.Disclosures[i].digest(e))
	}
	for range decoys[0] % (MaxDecoys + 1) {
		var opened gm.Digest // by nothing: no disclosure has this preimage
		take(opened[:])
		b.Digests = append(b.Digests, gm.Commit(e, domainDecoy, nil, opened[:]))
	}
	slices.SortFunc(b.Digests, compareDigests)
	var err error
	if m.Body, err = canon.Marshal(b); err != nil {
		return Material{}, fmt.Errorf("issue %s: %w", d.Item, err)
	}
	if m.Sig, err = s.Sign(domainBody, m.Body); err != nil {
		return Material{}, fmt.Errorf("issue %s: %w", d.Item, err)
	}
	return m, nil
}

func (d *Draft) check() error {
	wrong := func(what string) error { return fmt.Errorf("%w: %s", ErrDraft, what) }
	switch {
	case !d.Item.Valid():
		return wrong("the item is not named")
	case !d.Issuer.Valid() || d.Cert == gm.Digest{}:
		return wrong("the issuer or its certificate is not named")
	case !validSubject(d.Subject):
		return wrong("the subject is not named")
	case d.IssuedAt.Unix() <= 0:
		return wrong("the time of issue is not set")
	case badBound(d.ValidFrom) || badBound(d.ValidTo):
		return wrong("the validity lies before 1970")
	case !d.ValidFrom.IsZero() && !d.ValidTo.IsZero() && seconds(d.ValidFrom) >= seconds(d.ValidTo):
		return wrong("the validity ends before it begins")
	case len(d.Fields) == 0 || len(d.Fields) > MaxFields:
		return wrong(fmt.Sprintf("it has %d fields: want 1 to %d", len(d.Fields), MaxFields))
	}
	seen, total := map[exchange.Field]bool{}, 0
	for _, f := range d.Fields {
		switch {
		case !f.Field.Valid():
			return wrong("a field's name is malformed")
		case seen[f.Field]:
			return wrong("field " + string(f.Field) + " stands twice")
		case len(f.Value) > MaxValue || !utf8.ValidString(f.Value):
			return wrong("the value of field " + string(f.Field) + " is too long or not UTF-8")
		}
		seen[f.Field] = true
		total += len(f.Value)
	}
	if total > maxTotal {
		return wrong("its values are too long together")
	}
	return nil
}

// Verify checks a whole material, before it is taken into a source: signature,
// subject, item, issuer and certificate as in w, and that every field opens one
// digest. w.Views is not looked at.
func (m Material) Verify(e gm.Engine, issuer gm.PublicKey, w Want) error {
	b, err := verifyBody(e, issuer, m.Body, m.Sig, m.SubjectSalt, w)
	if err != nil {
		return err
	}
	return b.opened(e, m.Disclosures)
}

// About reports whether the material is about s.
func (m Material) About(e gm.Engine, s exchange.Subject) bool {
	b, err := decodeBody(m.Body)
	return err == nil && b.Subject == commitSubject(e, m.SubjectSalt, s)
}

// Head returns what the material says about itself. It verifies nothing.
func (m Material) Head() (Head, error) {
	b, err := decodeBody(m.Body)
	if err != nil {
		return Head{}, err
	}
	return b.head(), nil
}

// ID returns the material's id, by which its issuer revokes it. It verifies
// nothing.
func (m Material) ID() ([16]byte, error) {
	h, err := m.Head()
	return h.ID, err
}

// Encode returns the canonical bytes of the whole material.
func (m Material) Encode() ([]byte, error) { return canon.Marshal(m) }

// Decode reads what Encode wrote. It checks the form and verifies nothing.
func Decode(b []byte) (Material, error) {
	var m Material
	if err := canon.Unmarshal(b, &m); err != nil {
		return Material{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if _, err := decodeBody(m.Body); err != nil {
		return Material{}, err
	}
	seen := map[exchange.Field]bool{}
	for _, d := range m.Disclosures {
		if !d.Field.Valid() || seen[d.Field] {
			return Material{}, fmt.Errorf("%w: a field is malformed or stands twice", ErrForm)
		}
		seen[d.Field] = true
	}
	return m, nil
}

// String withholds the fields.
func (m Material) String() string { return "material withheld" }

// GoString withholds the fields.
func (m Material) GoString() string { return m.String() }

// LogValue withholds the fields.
func (m Material) LogValue() slog.Value { return slog.StringValue(m.String()) }

// String withholds the value.
func (d Disclosure) String() string { return string(d.Field) + " withheld" }

// GoString withholds the value.
func (d Disclosure) GoString() string { return d.String() }

func (d Disclosure) digest(e gm.Engine) gm.Digest {
	return gm.Commit(e, domainField, nil, canon.MustMarshal(d))
}

// decodeBody reads a signed body and checks its form.
func decodeBody(raw []byte) (body, error) {
	var b body
	if err := canon.Unmarshal(raw, &b); err != nil {
		return body{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if b.Suite != gm.Suite || !b.Item.Valid() || !b.Issuer.Valid() || b.IssuedAt <= 0 || b.ValidFrom < 0 || b.ValidTo < 0 ||
		len(b.Digests) == 0 || len(b.Digests) > MaxFields+MaxDecoys || !ascending(b.Digests) {
		return body{}, fmt.Errorf("%w: its signed part", ErrForm)
	}
	return b, nil
}

// opened checks that each disclosure opens a digest of its own and that no field
// stands twice.
func (b *body) opened(e gm.Engine, list []Disclosure) error {
	seen := map[exchange.Field]bool{}
	for _, d := range list {
		if seen[d.Field] || !d.Field.Valid() {
			return fmt.Errorf("%w: a field is malformed or stands twice", ErrForged)
		}
		seen[d.Field] = true
		if _, ok := slices.BinarySearchFunc(b.Digests, d.digest(e), compareDigests); !ok {
			return fmt.Errorf("%w: field %s opens no digest", ErrForged, d.Field)
		}
	}
	return nil
}

func (b *body) head() Head {
	return Head{ID: b.ID, Item: b.Item, Schema: b.Schema, Issuer: b.Issuer, Cert: b.Cert, IssuedAt: instant(b.IssuedAt),
		ValidFrom: instant(b.ValidFrom), ValidTo: instant(b.ValidTo)}
}

// inForce reports whether the validity includes at.
func (b *body) inForce(at time.Time) bool {
	s := at.Unix()
	return (b.ValidFrom == 0 || s >= b.ValidFrom) && (b.ValidTo == 0 || s < b.ValidTo)
}

func commitSubject(e gm.Engine, salt gm.Digest, s exchange.Subject) gm.Digest {
	return gm.Commit(e, domainSubject, salt[:], []byte(string(s.Kind)+"\x00"+s.ID))
}

func validSubject(s exchange.Subject) bool {
	return (s.Kind == exchange.Person || s.Kind == exchange.Organisation) && s.ID != ""
}

func compareDigests(a, b gm.Digest) int { return bytes.Compare(a[:], b[:]) }

// ascending reports whether the digests are in order, each once.
func ascending(list []gm.Digest) bool {
	for i := 1; i < len(list); i++ {
		if compareDigests(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}

func badBound(t time.Time) bool { return !t.IsZero() && t.Unix() <= 0 }

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func instant(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}
