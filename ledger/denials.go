package ledger

import (
	"fmt"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// DomainDenials is that of the chain over summarised denials.
const DomainDenials = "xinqiao/denials/v1"

// Denials sums up what its author, a holder, has denied to one requester within
// a time beyond what it records one by one: a flood of requests that come to
// nothing must not fill everybody's ledger, and must not go unrecorded either.
type Denials struct {
	Requester exchange.Dept `cbor:"1,keyasint"`
	From      int64         `cbor:"2,keyasint"` // by the author's clock, Unix ms
	To        int64         `cbor:"3,keyasint"` // exclusive
	Count     uint64        `cbor:"4,keyasint"`
	Chain     gm.Digest     `cbor:"5,keyasint"` // ChainDenial over the requests, in their order
}

// ChainDenial returns the chain with one more denied request, which its digest
// names as an access names it. The chain of none is zero.
func ChainDenial(e gm.Engine, chain, request gm.Digest) gm.Digest {
	return e.Sum(gm.Preimage(DomainDenials, append(chain[:], request[:]...)))
}

func (d *Denials) check(author exchange.Dept) error {
	switch {
	case !d.Requester.Valid() || d.Requester == author:
		return fmt.Errorf("%w: denials: the requester is missing or is the author", ErrFormat)
	case d.From < 0 || d.To <= d.From || d.To-d.From > (24*time.Hour).Milliseconds():
		return fmt.Errorf("%w: denials: not of a time within a day", ErrFormat)
	case d.Count == 0 || d.Chain == gm.Digest{}:
		return fmt.Errorf("%w: denials: of nothing", ErrFormat)
	}
	return nil
}
