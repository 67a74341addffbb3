package authority

import (
	"errors"
	"fmt"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/policy"
)

// Domain separates commitments to records from everything else that is hashed.
const Domain = "xinqiao/authority/v1"

// Schema names the form of a record.
const Schema = "xinqiao.authority/1"

// MaxSize bounds an encoded record, grant or roster, in bytes.
const MaxSize = 64 << 10

// MinSalt is the least length of the salt of a commitment, in bytes. A shorter
// one would let identity numbers be guessed from the ledger.
const MinSalt = 16

// Errors of this package.
var (
	ErrRecord = errors.New("unacceptable authority record")
	ErrGrant  = errors.New("unacceptable share grant")
	ErrRoster = errors.New("unacceptable roster")
	ErrSalt   = errors.New("the salt of a commitment is too short")
)

// Assurance says who vouches that the subject gave the authority, and how.
type Assurance string

// The levels of assurance. C5 (agents) and C6 (organisations acting through a
// handler) are not supported yet and are refused.
const (
	C1        Assurance = "C1" // the subject's own key (Electronic Signature Law Art. 13)
	C2        Assurance = "C2" // authenticated by the government identity platform, witnessed by the department
	C3        Assurance = "C3" // at a window, on paper, before two officers
	C4        Assurance = "C4" // a guardian through C1 to C3, with evidence of guardianship
	Statutory Assurance = "S"  // no signature of the subject: a statutory duty
)

// Record is one authority record (授权记录). Times are Unix seconds.
type Record struct {
	Suite      string              `cbor:"1,keyasint"`
	Schema     string              `cbor:"2,keyasint"`
	ID         [16]byte            `cbor:"3,keyasint"`
	Basis      policy.BasisKind    `cbor:"4,keyasint"`
	Statute    []Statute           `cbor:"5,keyasint,omitempty"` // of a statutory duty
	Subject    exchange.Subject    `cbor:"6,keyasint"`
	Provider   exchange.Dept       `cbor:"7,keyasint"`
	Grantee    exchange.Dept       `cbor:"8,keyasint"`
	Matter     exchange.Matter     `cbor:"9,keyasint"`
	Case       exchange.Case       `cbor:"10,keyasint"`
	Purposes   []exchange.Purpose  `cbor:"11,keyasint"`
	Views      []exchange.ItemView `cbor:"12,keyasint"`
	Use        Use                 `cbor:"13,keyasint"`
	NotBefore  int64               `cbor:"14,keyasint"`
	NotAfter   int64               `cbor:"15,keyasint"` // it ends at this second
	Retain     string              `cbor:"16,keyasint"` // ISO 8601 duration, then erased
	Notice     exchange.Notice     `cbor:"17,keyasint"`
	Collection Collection          `cbor:"18,keyasint"`
	Withdraw   []string            `cbor:"19,keyasint"` // the ways to withdraw that the subject was told
}

// Statute cites the duty that an access serves (PIPL Art. 34).
type Statute struct {
	Act     string `cbor:"1,keyasint"`
	Article string `cbor:"2,keyasint"`
	Duty    string `cbor:"3,keyasint"`
}

// Use says how the record may be used.
type Use struct {
	Fetch    string `cbor:"1,keyasint"` // "once": within one case; "periodic"
	MaxReads uint32 `cbor:"2,keyasint"` // 1 to 1000
	Onward   string `cbor:"3,keyasint"` // "deny"
}

// Collection is how the authority was obtained, with its evidence.
type Collection struct {
	Channel   string            `cbor:"1,keyasint"` // "window", "authenticated", "subject_key", "none"
	Assurance Assurance         `cbor:"2,keyasint"`
	Evidence  []gm.Digest       `cbor:"3,keyasint,omitempty"` // SM3 of the signed form or assertion
	Officer   exchange.Operator `cbor:"4,keyasint,omitempty"`
	Second    exchange.Operator `cbor:"5,keyasint,omitempty"`
}

// Encode returns the canonical bytes: what is sealed, stored and committed to.
func (r Record) Encode() ([]byte, error) {
	if err := r.form(); err != nil {
		return nil, err
	}
	return encode(r, ErrRecord)
}

// Decode reads what Encode wrote and refuses everything else.
func Decode(b []byte) (Record, error) {
	var r Record
	if err := decode(b, &r, ErrRecord); err != nil {
		return Record{}, err
	}
	if err := r.form(); err != nil {
		return Record{}, err
	}
	return r, nil
}

// Commitment returns what the ledger holds of the record. The salt is at least
// MinSalt bytes long, random, and stays with the record; destroying both makes
// the commitment meaningless (PIPL Art. 47).
func (r Record) Commitment(e gm.Engine, salt []byte) (gm.Digest, error) {
	if len(salt) < MinSalt {
		return gm.Digest{}, ErrSalt
	}
	b, err := r.Encode()
	if err != nil {
		return gm.Digest{}, err
	}
	return gm.Commit(e, Domain, salt, b), nil
}

// Check reports why the record cannot be registered at the given time, or nil:
// its form, its limits by level of assurance, and that it has not ended.
func (r Record) Check(at time.Time) error {
	if err := r.form(); err != nil {
		return err
	}
	if at.Unix() >= r.NotAfter {
		return fmt.Errorf("%w: it has ended", ErrRecord)
	}
	return nil
}

const (
	day      = 24 * 60 * 60
	maxYear  = 366 * day
	maxViews = 256
)

// form holds what every record satisfies at any time.
func (r *Record) form() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrRecord, what) }
	switch {
	case r.Suite != gm.Suite:
		return bad("unknown suite")
	case r.Schema != Schema:
		return bad("unknown schema")
	case r.ID == [16]byte{}:
		return bad("it has no id")
	case r.Subject.Kind != exchange.Person && r.Subject.Kind != exchange.Organisation || len(r.Subject.ID) != 18:
		return bad("the subject is malformed")
	case !r.Provider.Valid() || !r.Grantee.Valid() || r.Provider == r.Grantee:
		return bad("provider and grantee must be two departments")
	case !r.Matter.Valid() || !r.Case.Valid():
		return bad("matter or case is malformed")
	case r.Use.Fetch != "once" && r.Use.Fetch != "periodic":
		return bad(`use.fetch is neither "once" nor "periodic"`)
	case r.Use.MaxReads < 1 || r.Use.MaxReads > 1000:
		return bad("use.max_reads is not between 1 and 1000")
	case r.Use.Onward != "deny":
		return bad(`use.onward must be "deny"`)
	case r.NotBefore <= 0 || r.NotAfter <= r.NotBefore:
		return bad("it ends before it begins, or has no beginning")
	case r.Retain == "":
		return bad("it does not say how long the data are kept")
	}
	if err := r.scope(); err != nil {
		return err
	}
	return r.assurance()
}

// scope checks what the record covers: something, each thing once.
func (r *Record) scope() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrRecord, what) }
	if len(r.Purposes) == 0 || len(r.Purposes) > 16 || !distinct(r.Purposes) {
		return bad("it names no purpose, too many, or one twice")
	}
	for _, p := range r.Purposes {
		if !p.Valid() {
			return bad("a purpose is malformed")
		}
	}
	if len(r.Views) == 0 || len(r.Views) > maxViews || !distinct(r.Views) {
		return bad("it lists no field, too many, or one twice")
	}
	for _, v := range r.Views {
		if !v.Item.Valid() || !v.View.Valid() {
			return bad("a field is malformed or discloses nothing")
		}
	}
	return nil
}

// assurance holds the limits that the way of collection sets.
func (r *Record) assurance() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrRecord, what) }
	c, life := &r.Collection, r.NotAfter-r.NotBefore
	switch r.Basis {
	case policy.StatutoryDuty:
		switch {
		case c.Assurance != Statutory:
			return bad("a statutory duty has assurance S")
		case len(r.Statute) == 0:
			return bad("a statutory duty cites act, article and duty")
		case life > maxYear:
			return bad("a statutory duty is registered for at most one year at a time")
		}
		for _, s := range r.Statute {
			if s.Act == "" || s.Article == "" || s.Duty == "" {
				return bad("a statutory duty cites act, article and duty")
			}
		}
		return nil
	case policy.Consent:
	default:
		return bad("this kind of basis is not supported")
	}
	window := func() error {
		switch {
		case r.Use.Fetch != "once" || life > 30*day:
			return bad("a consent at a window is for one case and at most 30 days")
		case !c.Officer.Valid() || !c.Second.Valid() || c.Officer == c.Second:
			return bad("a consent at a window has two different officers as witnesses")
		}
		return nil
	}
	switch {
	case len(r.Statute) > 0:
		return bad("a consent cites no statute")
	case r.Notice.Template == "" || r.Notice.Version == 0 || r.Notice.Hash == "" || r.Notice.Lang == "":
		return bad("the notice that the subject was shown is not identified")
	case len(r.Withdraw) == 0:
		return bad("it names no way to withdraw")
	case len(c.Evidence) == 0 || !distinct(c.Evidence) || c.Evidence[0] == gm.Digest{}:
		return bad("it has no evidence")
	}
	switch {
	case c.Assurance == C1 && c.Channel == "subject_key":
		return nil
	case (c.Assurance == C2 || c.Assurance == C4) && (c.Channel == "authenticated" || c.Channel == "subject_key"):
		if life > maxYear {
			return bad("an authenticated consent lasts at most one year")
		}
		return nil
	case (c.Assurance == C3 || c.Assurance == C4) && c.Channel == "window":
		return window()
	}
	return bad("level of assurance and channel do not fit")
}

func distinct[T comparable](list []T) bool {
	seen := make(map[T]bool, len(list))
	for _, v := range list {
		if seen[v] {
			return false
		}
		seen[v] = true
	}
	return true
}

func encode(v any, kind error) ([]byte, error) {
	b, err := canon.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: encode: %w", kind, err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes are over the limit of %d", kind, len(b), MaxSize)
	}
	return b, nil
}

func decode(b []byte, v any, kind error) error {
	if len(b) > MaxSize {
		return fmt.Errorf("%w: %d bytes are over the limit of %d", kind, len(b), MaxSize)
	}
	if err := canon.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: decode: %w", kind, err)
	}
	return nil
}
