package ledger

import (
	"fmt"
	"math/bits"
	"regexp"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// A Tag stands for a subject towards one department within one epoch:
// HMAC-SM3 under that department's key of the epoch, truncated. It links
// accesses within a department and an epoch and never across.
type Tag [16]byte

// Access records one decided exchange; the holder is its author.
type Access struct {
	Holder       exchange.Dept    `cbor:"1,keyasint"`
	Requester    exchange.Dept    `cbor:"2,keyasint"`
	Class        string           `cbor:"3,keyasint"` // of the item; the item is in the body
	Outcome      exchange.Outcome `cbor:"4,keyasint"`
	Basis        Basis            `cbor:"5,keyasint"`
	Request      gm.Digest        `cbor:"6,keyasint"`  // salted commitment to the signed request
	Response     gm.Digest        `cbor:"7,keyasint"`  // SM3 of the sealed response; zero when refused
	Body         gm.Digest        `cbor:"8,keyasint"`  // salted commitment to the body
	HolderTag    Tag              `cbor:"9,keyasint"`  // another one for denials than for answers
	RequesterTag Tag              `cbor:"10,keyasint"` // from the signed request
	Size         uint8            `cbor:"11,keyasint"` // SizeBucket of the sealed response
	Epoch        string           `cbor:"12,keyasint"` // of the tags, "2026-11"
	Corrects     ID               `cbor:"13,keyasint"` // the stale entry that this one replaces, or zero
}

// Epoch names the epoch of t for tags and body keys: its month in UTC.
func Epoch(t time.Time) string { return t.UTC().Format("2006-01") }

// SizeBucket returns the size class of n bytes: the number of bits of n, so a
// bucket tells a size to a factor of two.
func SizeBucket(n int) uint8 { return uint8(bits.Len(uint(n))) }

var epochForm = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])$`)

func (a *Access) check(author exchange.Dept) error {
	bad := func(what string) error { return fmt.Errorf("%w: access: %s", ErrFormat, what) }
	none := gm.Digest{}
	switch {
	case author != a.Holder:
		return bad("its author is not the holder")
	case !a.Requester.Valid() || a.Requester == a.Holder:
		return bad("the requester is missing or is the holder")
	case !exchange.Field(a.Class).Valid():
		return bad("the item class is malformed")
	case a.Outcome != exchange.Allowed && a.Outcome != exchange.NoRecord && a.Outcome != exchange.Refused:
		return bad("unknown outcome")
	case (a.Outcome == exchange.Refused) != (a.Response == none):
		return bad("a response is named exactly when one is released")
	case a.Request == none || a.Body == none:
		return bad("the commitment to request or body is missing")
	case !epochForm.MatchString(a.Epoch):
		return bad("the epoch is malformed")
	}
	return a.Basis.check()
}
