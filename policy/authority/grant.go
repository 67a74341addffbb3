package authority

import (
	"fmt"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/policy"
)

// Grant is a share grant (共享授权, ShareGrant): the outcome of the statutory
// application between two departments for one class of items (State Council
// Decree 809 Arts. 20 to 22). Times are Unix seconds.
type Grant struct {
	Suite     string             `cbor:"1,keyasint"`
	ID        [16]byte           `cbor:"2,keyasint"`
	Provider  exchange.Dept      `cbor:"3,keyasint"`
	Requester exchange.Dept      `cbor:"4,keyasint"`
	Class     string             `cbor:"5,keyasint"` // of every item in it
	Items     []policy.GrantItem `cbor:"6,keyasint"`
	Scenario  string             `cbor:"7,keyasint"` // 使用场景
	Basis     string             `cbor:"8,keyasint"` // 使用依据: the article it rests on
	NotBefore int64              `cbor:"9,keyasint"`
	NotAfter  int64              `cbor:"10,keyasint"` // it ends at this second
}

// Encode returns the canonical bytes, which stand on the ledger.
func (g Grant) Encode() ([]byte, error) {
	if err := g.form(); err != nil {
		return nil, err
	}
	return encode(g, ErrGrant)
}

// DecodeGrant reads what Encode wrote and refuses everything else.
func DecodeGrant(b []byte) (Grant, error) {
	var g Grant
	if err := decode(b, &g, ErrGrant); err != nil {
		return Grant{}, err
	}
	if err := g.form(); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// Check reports why the grant cannot be issued at the given time, or nil.
func (g Grant) Check(at time.Time) error {
	if err := g.form(); err != nil {
		return err
	}
	if at.Unix() >= g.NotAfter {
		return fmt.Errorf("%w: it has ended", ErrGrant)
	}
	return nil
}

func (g *Grant) form() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrGrant, what) }
	switch {
	case g.Suite != gm.Suite:
		return bad("unknown suite")
	case g.ID == [16]byte{}:
		return bad("it has no id")
	case !g.Provider.Valid() || !g.Requester.Valid() || g.Provider == g.Requester:
		return bad("provider and requester must be two departments")
	case len(g.Items) == 0 || len(g.Items) > 64:
		return bad("it opens no item, or too many")
	case g.Scenario == "" || g.Basis == "":
		return bad("scenario and basis must be stated")
	case g.NotBefore <= 0 || g.NotAfter <= g.NotBefore:
		return bad("it ends before it begins, or has no beginning")
	}
	for _, item := range g.Items {
		if !item.Item.Valid() || item.Item.Class() != g.Class {
			return bad("an item is malformed or of another class")
		}
		if len(item.Views) == 0 || !distinct(item.Views) || len(item.Purposes) == 0 || !distinct(item.Purposes) {
			return bad("an item has no field or purpose, or one twice")
		}
		for _, v := range item.Views {
			if !v.Valid() {
				return bad("a field is malformed or discloses nothing")
			}
		}
		for _, p := range item.Purposes {
			if !p.Valid() {
				return bad("a purpose is malformed")
			}
		}
	}
	return nil
}
