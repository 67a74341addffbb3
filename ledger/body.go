package ledger

import (
	"fmt"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// Body is the detail of an access entry: what it was about. The entry commits
// to its canonical bytes with its salt; the body itself lies sealed at the two
// parties and with the authority, and never enters the ledger. The field numbers
// are what the commitment covers and are never changed.
type Body struct {
	Salt      gm.Digest         `cbor:"1,keyasint"`
	Item      exchange.Item     `cbor:"2,keyasint"`
	Subject   exchange.Subject  `cbor:"3,keyasint"`
	Views     []exchange.View   `cbor:"4,keyasint"`
	Purpose   exchange.Purpose  `cbor:"5,keyasint"`
	Matter    exchange.Matter   `cbor:"6,keyasint"`
	Case      exchange.Case     `cbor:"7,keyasint"`
	Operator  exchange.Operator `cbor:"8,keyasint"`
	Authority string            `cbor:"9,keyasint,omitempty"`
	Rule      string            `cbor:"10,keyasint,omitempty"`
	Reasons   []exchange.Reason `cbor:"11,keyasint,omitempty"`
	Request   []byte            `cbor:"12,keyasint,omitempty"` // the signed request: the holder's proof of being asked
}

// Encode returns the canonical bytes and the commitment to them.
func (b Body) Encode(e gm.Engine) ([]byte, gm.Digest, error) {
	raw, err := canon.Marshal(b)
	return raw, gm.Commit(e, DomainBody, b.Salt[:], raw), err
}

// DecodeBody reads what Encode wrote and returns the commitment to it, for
// comparison with the entry's.
func DecodeBody(e gm.Engine, raw []byte) (Body, gm.Digest, error) {
	var b Body
	if err := canon.Unmarshal(raw, &b); err != nil {
		return b, gm.Digest{}, fmt.Errorf("%w: body: %w", ErrFormat, err)
	}
	return b, gm.Commit(e, DomainBody, b.Salt[:], raw), nil
}
