package exchange

import "fmt"

// Outcome is how one exchange ended. The numbers are on the ledger and are
// never changed; the zero Outcome means that it has not ended.
type Outcome uint8

// The outcomes.
const (
	Undecided Outcome = iota
	Allowed           // the permitted fields were released
	NoRecord          // permitted, and the holder has no record as of the stated time
	Refused           // denied; the reasons are complete
)

var outcomeNames = [...]string{"undecided", "allowed", "no_record", "denied"}

// String returns the outcome's name in the API, logs and metrics.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// ParseOutcome reads an outcome's name.
func ParseOutcome(s string) (Outcome, error) {
	for i, n := range outcomeNames {
		if n == s && i > 0 {
			return Outcome(i), nil
		}
	}
	return Undecided, fmt.Errorf("unknown outcome %q: want allowed, no_record or denied", s)
}

// MarshalText writes the outcome's name; on the wire between nodes it is a number.
func (o Outcome) MarshalText() ([]byte, error) {
	if int(o) >= len(outcomeNames) {
		return nil, fmt.Errorf("unknown outcome %d", uint8(o))
	}
	return []byte(outcomeNames[o]), nil
}

// UnmarshalText reads the name of an outcome that has ended an exchange.
func (o *Outcome) UnmarshalText(b []byte) error {
	v, err := ParseOutcome(string(b))
	if err == nil {
		*o = v
	}
	return err
}
