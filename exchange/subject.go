package exchange

import (
	"log/slog"
	"time"
)

// SubjectKind tells a person from an organisation. The zero value is invalid.
type SubjectKind string

// The kinds of subject.
const (
	Person       SubjectKind = "person"
	Organisation SubjectKind = "organisation"
)

// Subject is whom a material is about (数据主体). It is personal information:
// it never enters the ledger, a log or a metric, and prints redacted.
type Subject struct {
	Kind SubjectKind `json:"kind" cbor:"1,keyasint"`
	ID   string      `json:"id" cbor:"2,keyasint"`
}

// LogValue keeps the identifier out of logs.
func (s Subject) LogValue() slog.Value { return slog.StringValue(s.String()) }

// String returns the kind alone; the identifier is withheld.
func (s Subject) String() string { return string(s.Kind) + ":withheld" }

// GoString is String, so that %#v withholds the identifier too.
func (s Subject) GoString() string { return s.String() }

// Population says whose identity numbers an exchange accepts. A synthetic
// exchange (demo, sandbox, training) accepts only identity numbers with a wrong
// check character, so no real person can be looked up in it; a real one accepts
// only right ones.
type Population string

// The populations. The zero value is treated as Real.
const (
	Real      Population = "real"
	Synthetic Population = "synthetic"
)

// Check reports what is wrong with the subject's identifier, or nil. Persons
// carry an 18-character citizen identification number (GB 11643), organisations
// a unified social credit code (GB 32100).
func (s Subject) Check(p Population) *Error {
	bad := func(msg string) *Error {
		return &Error{Kind: Invalid, Code: CodeSubject, Msg: msg,
			Hint: "send the 18-character identifier exactly as it stands on the certificate, letters in upper case"}
	}
	if len(s.ID) != 18 {
		return bad("the subject's identifier does not have 18 characters")
	}
	var right, ok bool
	switch s.Kind {
	case Person:
		right, ok = checkCitizen(s.ID)
	case Organisation:
		right, ok = checkUSCC(s.ID)
	default:
		return bad(`the subject's kind is neither "person" nor "organisation"`)
	}
	switch {
	case !ok:
		return bad("the subject's identifier is malformed")
	case right && p == Synthetic:
		err := bad("this exchange holds synthetic people only, and the identifier could be a real one")
		err.Hint = "use a synthetic identifier, whose check character is wrong: exchange/demo/PEOPLE.md lists some"
		return err
	case !right && p != Synthetic:
		return bad("the subject's identifier has a wrong check character")
	}
	return nil
}

// CitizenCheck returns the check character of the first 17 digits of a citizen
// identification number (GB 11643, ISO 7064 MOD 11-2).
func CitizenCheck(digits string) byte {
	weights := [17]int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2}
	sum := 0
	for i, w := range weights {
		sum += int(digits[i]-'0') * w
	}
	return "10X98765432"[sum%11]
}

func checkCitizen(id string) (right, ok bool) {
	for i := range 17 {
		if id[i] < '0' || id[i] > '9' {
			return false, false
		}
	}
	if last := id[17]; last != 'X' && (last < '0' || last > '9') {
		return false, false
	}
	if _, err := time.Parse("20060102", id[6:14]); err != nil {
		return false, false
	}
	return CitizenCheck(id) == id[17], true
}

func checkUSCC(code string) (right, ok bool) {
	const alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
	weights := [17]int{1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28}
	sum, last := 0, -1
	for i := range 18 {
		v := -1
		for j := range len(alphabet) {
			if alphabet[j] == code[i] {
				v = j
			}
		}
		if v < 0 {
			return false, false
		}
		if i < 17 {
			sum += v * weights[i]
		} else {
			last = v
		}
	}
	return (31-sum%31)%31 == last, true
}
