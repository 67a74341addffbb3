package authority

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

const rosterDomain = "xinqiao/roster/v1"

// Roster is what the ledger holds of a department's operators and their roles:
// sorted salted digests, which name nobody. It does tell how many there are.
type Roster struct {
	Suite   string      `cbor:"1,keyasint"`
	Digests []gm.Digest `cbor:"2,keyasint"`
}

// Operator is one operator in one role. An operator with two roles has two.
type Operator struct {
	ID   exchange.Operator
	Role exchange.Role
}

// Ticket proves to whoever is shown it that an operator holds a role. It stays
// with the department and travels only inside sealed requests.
type Ticket struct {
	Operator exchange.Operator `cbor:"1,keyasint"`
	Role     exchange.Role     `cbor:"2,keyasint"`
	Salt     [32]byte          `cbor:"3,keyasint"`
}

// NewRoster makes a roster and the tickets of its operators, in the order given.
func NewRoster(e gm.Engine, rand io.Reader, entries []Operator) (Roster, []Ticket, error) {
	r := Roster{Suite: gm.Suite}
	if !distinct(entries) {
		return r, nil, fmt.Errorf("%w: an operator stands twice in one role", ErrRoster)
	}
	tickets := make([]Ticket, 0, len(entries))
	for _, entry := range entries {
		t := Ticket{Operator: entry.ID, Role: entry.Role}
		if _, err := io.ReadFull(rand, t.Salt[:]); err != nil {
			return r, nil, fmt.Errorf("draw the salt of a roster ticket: %w", err)
		}
		if !t.valid() {
			return r, nil, fmt.Errorf("%w: an operator or role is malformed", ErrRoster)
		}
		r.Digests = append(r.Digests, t.digest(e))
		tickets = append(tickets, t)
	}
	slices.SortFunc(r.Digests, compare)
	return r, tickets, r.form()
}

// Holds reports whether the roster has the ticket's operator in its role.
func (r Roster) Holds(e gm.Engine, t Ticket) bool {
	if !t.valid() || r.form() != nil {
		return false
	}
	_, found := slices.BinarySearchFunc(r.Digests, t.digest(e), compare)
	return found
}

// Encode returns the canonical bytes, which stand on the ledger.
func (r Roster) Encode() ([]byte, error) {
	if err := r.form(); err != nil {
		return nil, err
	}
	return encode(r, ErrRoster)
}

// DecodeRoster reads what Encode wrote and refuses everything else.
func DecodeRoster(b []byte) (Roster, error) {
	var r Roster
	if err := decode(b, &r, ErrRoster); err != nil {
		return Roster{}, err
	}
	if err := r.form(); err != nil {
		return Roster{}, err
	}
	return r, nil
}

func (r *Roster) form() error {
	if r.Suite != gm.Suite {
		return fmt.Errorf("%w: unknown suite", ErrRoster)
	}
	for i := 1; i < len(r.Digests); i++ {
		if compare(r.Digests[i-1], r.Digests[i]) >= 0 {
			return fmt.Errorf("%w: the digests are not in order", ErrRoster)
		}
	}
	return nil
}

func (t *Ticket) valid() bool {
	return t.Operator.Valid() && exchange.Field(t.Role).Valid() && t.Salt != [32]byte{}
}

func (t *Ticket) digest(e gm.Engine) gm.Digest {
	return gm.Commit(e, rosterDomain, t.Salt[:], []byte(string(t.Operator)+"\x00"+string(t.Role)))
}

func compare(a, b gm.Digest) int { return bytes.Compare(a[:], b[:]) }
