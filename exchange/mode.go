package exchange

import "fmt"

// Mode says how much of a field is disclosed (提供方式). Modes are ordered: each
// discloses more than the one before. The zero Mode is Never.
type Mode uint8

// The modes, in the order of what they disclose. The numbers are on the wire
// and are never changed.
const (
	Never     Mode = iota // nothing
	Exists                // whether the field has a value
	Compare               // whether it equals a value that the requester states
	Predicate             // whether a listed predicate holds, e.g. age>=18
	Mask                  // part of the value
	Value                 // the value
)

var modeNames = [...]string{"never", "exists", "compare", "predicate", "mask", "value"}

// String returns the mode's name in rules and in the API.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// ParseMode reads a mode's name.
func ParseMode(s string) (Mode, error) {
	for i, n := range modeNames {
		if n == s {
			return Mode(i), nil
		}
	}
	return Never, fmt.Errorf("unknown mode %q: want one of %v", s, modeNames)
}

// MarshalText writes the mode's name.
func (m Mode) MarshalText() ([]byte, error) {
	if int(m) >= len(modeNames) {
		return nil, fmt.Errorf("unknown mode %d", uint8(m))
	}
	return []byte(modeNames[m]), nil
}

// UnmarshalText reads a mode's name.
func (m *Mode) UnmarshalText(b []byte) error {
	v, err := ParseMode(string(b))
	if err == nil {
		*m = v
	}
	return err
}

// A View is one field in one mode: what a request asks for and what a rule or
// an authority record permits. Predicate is set exactly when Mode is Predicate.
type View struct {
	Field     Field  `json:"field" cbor:"1,keyasint"`
	Mode      Mode   `json:"mode" cbor:"2,keyasint"`
	Predicate string `json:"predicate,omitempty" cbor:"3,keyasint,omitempty"`
}

// Valid reports whether the view is well formed and discloses something.
func (v View) Valid() bool {
	return v.Field.Valid() && v.Mode > Never && v.Mode <= Value && (v.Mode == Predicate) == (v.Predicate != "")
}

// Covers reports whether a permission for v permits w: the same field, and the
// same mode (with the same predicate), or Value. Modes between are not
// comparable in what they prove, so one never stands in for another.
func (v View) Covers(w View) bool {
	if !v.Valid() || !w.Valid() || v.Field != w.Field {
		return false
	}
	return v.Mode == Value || v == w
}
