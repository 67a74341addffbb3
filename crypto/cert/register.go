package cert

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"time"

	"xinqiao/crypto/gm"
)

// maxRecord bounds a line of a register; ours have some 500 bytes.
const maxRecord = 16 << 10

// ErrRegister reports a register that holds a line it should not, or that a record
// does not fit.
var ErrRegister = errors.New("not a register of a CA")

// Event says what a record of a CA's register records.
type Event string

// The events.
const (
	Issued  Event = "issued"  // a certificate
	Revoke  Event = "revoked" // a certificate, by its serial number
	ListOut Event = "list"    // a revocation list, by its number
)

// Record is one line of a CA's register: what it did, in the order in which it did
// it. A line is written, and is on disk, before a certificate leaves the CA.
type Record struct {
	Event Event     `json:"event"`
	At    time.Time `json:"at"`

	// Of Issued and Revoke.
	Serial string `json:"serial,omitempty"`

	// Of Issued.
	Kind        Kind      `json:"kind,omitempty"` // KindDepartment or KindIssuingCA
	Name        string    `json:"name,omitempty"` // of the department, or of the issuing CA
	Usage       string    `json:"usage,omitempty"`
	Hosts       []string  `json:"hosts,omitempty"`
	Key         string    `json:"key,omitempty"` // see KeyFingerprint
	From        time.Time `json:"from,omitzero"`
	Until       time.Time `json:"until,omitzero"`
	Fingerprint string    `json:"fingerprint,omitempty"` // SM3 of the chain as it was given out
	Licensed    *Licensed `json:"licensed,omitempty"`

	// Of Revoke.
	Reason Reason `json:"reason,omitempty"`

	// Of ListOut.
	Number uint64 `json:"number,omitempty"`
}

// Licensed names the certificate of a licensed CA on whose strength, beside the
// department's own word, a certificate was issued.
type Licensed struct {
	Subject     string `json:"subject"`
	Serial      string `json:"serial"`
	Fingerprint string `json:"fingerprint"` // SM3 of the certificate
}

// The forms of serial numbers and of digests in records.
var (
	serialForm = regexp.MustCompile(`^[1-9a-f][0-9a-f]{0,39}$`)
	digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// KeyFingerprint names a key in a register: SM3 of its uncompressed point,
// hexadecimal.
func KeyFingerprint(key gm.PublicKey) string {
	sum := gm.Emmansun().Sum(key.Bytes())
	return hex.EncodeToString(sum[:])
}

// RecordOf returns the record of a certificate that was just issued: a
// department's chain, or an issuing CA's certificate (DER).
func RecordOf(chain []byte, at time.Time) (Record, error) {
	d, err := Describe(chain)
	if err != nil {
		return Record{}, err
	}
	_, key, err := parse(Leaf(chain))
	if err != nil {
		return Record{}, err
	}
	return Record{Event: Issued, At: at.UTC().Truncate(time.Second), Serial: d.Serial, Kind: d.Kind, Name: d.Name, Usage: d.Usage,
		Hosts: d.Hosts, Key: KeyFingerprint(key), From: d.NotBefore.UTC(), Until: d.NotAfter.UTC(), Fingerprint: d.Fingerprint}, nil
}

// Encode returns the record as a line with its end. What it returns, ParseRecord
// reads; a record that it would not is ErrRegister.
func (r Record) Encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRegister, err)
	}
	if _, err := ParseRecord(b); err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// ParseRecord reads a line without its end. Unknown and foreign fields, and values
// of another form than Encode writes, are ErrRegister.
func ParseRecord(line []byte) (Record, error) {
	var r Record
	if len(line) > maxRecord {
		return r, fmt.Errorf("%w: a line of %d bytes", ErrRegister, len(line))
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRegister, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Record{}, fmt.Errorf("%w: something follows a record", ErrRegister)
	}
	if err := r.check(); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRegister, err)
	}
	return r, nil
}

// check holds a record to the fields of its event.
func (r Record) check() error {
	if r.At.IsZero() {
		return errors.New("a record without a time")
	}
	rest := r // what is left when the event's own fields are taken away
	rest.Event, rest.At = "", time.Time{}
	switch r.Event {
	case Issued:
		departments := r.Kind == KindDepartment && deptForm.MatchString(r.Name) &&
			(r.Usage == Signing.String() || r.Usage == Encryption.String())
		issuing := r.Kind == KindIssuingCA && issuingName(r.Name) && r.Usage == ""
		if !departments && !issuing || !serialForm.MatchString(r.Serial) || !digestForm.MatchString(r.Key) ||
			!digestForm.MatchString(r.Fingerprint) || r.From.IsZero() || !r.Until.After(r.From) {
			return errors.New("an issued certificate with a missing or malformed field")
		}
		rest = Record{Reason: r.Reason, Number: r.Number}
	case Revoke:
		if _, ok := r.Reason.code(); !ok || !serialForm.MatchString(r.Serial) {
			return errors.New("a revocation with a malformed serial number or reason")
		}
		rest.Serial, rest.Reason = "", ""
	case ListOut:
		if r.Number == 0 || r.Number >= math.MaxInt64 {
			return errors.New("a revocation list without a number that has a next one")
		}
		rest.Number = 0
	default:
		return fmt.Errorf("event %q", r.Event)
	}
	if rest.Serial+string(rest.Kind)+rest.Name+rest.Usage+rest.Key+rest.Fingerprint+string(rest.Reason) != "" || rest.Number != 0 ||
		len(rest.Hosts) > 0 || rest.Licensed != nil || !rest.From.IsZero() || !rest.Until.IsZero() {
		return fmt.Errorf("a record of %q with another's fields", r.Event)
	}
	return nil
}

// Entry is one certificate in a register and what became of it.
type Entry struct {
	Record
	Revoked *Record // nil while it is not revoked
}

// Status returns how an entry stands: valid, expiring (less than near to its end),
// expired, not_yet_valid or revoked.
func (e Entry) Status(at time.Time, near time.Duration) string {
	if e.Revoked != nil {
		return "revoked"
	}
	return Status(e.From, e.Until, at, near)
}

// Status returns how a validity stands; see Entry.Status.
func Status(from, until, at time.Time, near time.Duration) string {
	switch {
	case at.Before(from):
		return "not_yet_valid"
	case at.After(until):
		return "expired"
	case until.Sub(at) < near:
		return "expiring"
	}
	return "valid"
}

// Register is what the records of a CA add up to. It is not safe for concurrent use.
type Register struct {
	entries []*Entry
	number  uint64 // of the last list
}

// ReadRegister reads a register's file. What stands behind the last line end and is
// no record is torn: a crash cut its writing short, and nothing that it would
// record has left the CA. Every other line that does not fit is ErrRegister.
func ReadRegister(file []byte) (r *Register, torn []byte, err error) {
	r = &Register{}
	for n := 1; len(file) > 0; n++ {
		line, rest, ended := bytes.Cut(file, []byte("\n"))
		record, err := ParseRecord(line)
		if err != nil && !ended {
			return r, line, nil
		}
		if err == nil {
			err = r.Add(record)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", n, err)
		}
		file = rest
	}
	return r, nil, nil
}

// Add takes a record into account. One that contradicts those before is ErrRegister.
func (r *Register) Add(record Record) error {
	switch e := r.find(record.Serial); record.Event {
	case Issued:
		if e != nil {
			return fmt.Errorf("%w: serial number %s is issued twice", ErrRegister, record.Serial)
		}
		r.entries = append(r.entries, &Entry{Record: record})
	case Revoke:
		if e == nil {
			return fmt.Errorf("%w: no certificate %s was issued", ErrRegister, record.Serial)
		}
		if e.Revoked != nil {
			return fmt.Errorf("%w: certificate %s is revoked already", ErrRegister, record.Serial)
		}
		e.Revoked = &record
	case ListOut:
		if record.Number <= r.number {
			return fmt.Errorf("%w: list %d after %d", ErrRegister, record.Number, r.number)
		}
		r.number = record.Number
	}
	return nil
}

func (r *Register) find(serial string) *Entry {
	for _, e := range r.entries {
		if e.Serial == serial {
			return e
		}
	}
	return nil
}

// Entries returns the certificates in the order of their issue.
func (r *Register) Entries() []Entry {
	list := make([]Entry, len(r.entries))
	for i, e := range r.entries {
		list[i] = *e
	}
	return list
}

// Find returns the certificate with this serial number.
func (r *Register) Find(serial string) (Entry, bool) {
	if e := r.find(serial); e != nil {
		return *e, true
	}
	return Entry{}, false
}

// Holder returns for whom a key was certified, if it was: a key names one
// department and one usage for ever, or whoever holds it could be either.
func (r *Register) Holder(key gm.PublicKey) (Entry, bool) {
	if list := r.SameKey(KeyFingerprint(key)); len(list) > 0 {
		return list[0], true
	}
	return Entry{}, false
}

// SameKey returns the certificates for the key with this fingerprint.
func (r *Register) SameKey(fingerprint string) []Entry {
	var list []Entry
	for _, e := range r.entries {
		if e.Key == fingerprint {
			list = append(list, *e)
		}
	}
	return list
}

// Compromised reports whether a certificate for the key was revoked because others
// may have the key: then no other certificate makes it good again.
func (r *Register) Compromised(key gm.PublicKey) bool {
	return slices.ContainsFunc(r.SameKey(KeyFingerprint(key)), func(e Entry) bool {
		return e.Revoked != nil && (e.Revoked.Reason == KeyCompromise || e.Revoked.Reason == CACompromise)
	})
}

// Current returns the department's certificates that are valid at the time and not
// revoked, the one that lasts longest first.
func (r *Register) Current(dept string, at time.Time) []Entry {
	var list []Entry
	for _, e := range r.entries {
		if e.Kind == KindDepartment && e.Name == dept && e.Revoked == nil && !at.Before(e.From) && !at.After(e.Until) {
			list = append(list, *e)
		}
	}
	slices.SortStableFunc(list, func(a, b Entry) int { return b.Until.Compare(a.Until) })
	return list
}

// Revocations returns what the CA's next list has to name, and that list's number.
// Certificates that have expired stay on it: it costs little, and somebody's clock
// is wrong.
func (r *Register) Revocations() (list []Revoked, number uint64) {
	for _, e := range r.entries {
		if e.Revoked != nil {
			list = append(list, Revoked{Serial: e.Serial, At: e.Revoked.At, Reason: e.Revoked.Reason})
		}
	}
	return list, r.number + 1
}
