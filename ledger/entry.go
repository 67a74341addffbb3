package ledger

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// Kind says what an entry records. Kinds are on the ledger and are never
// renumbered; a node halts at one it does not know.
type Kind uint8

// The kinds.
const (
	KindAccess Kind = 1 // one exchange was decided, allowed or denied
	KindAck    Kind = 2 // the requester has opened answers
	KindFact   Kind = 3 // a fact that decisions rest on was set or withdrawn
	KindView   Kind = 4 // a person has searched, revealed or exported
	KindClock  Kind = 5 // a quorum of the members has seen a time go by
	KindDenied Kind = 6 // a holder has denied more than it records one by one
)

var kindNames = map[Kind]string{KindAccess: "access", KindAck: "ack", KindFact: "fact", KindView: "view",
	KindClock: "clock", KindDenied: "denials"}

// String returns the kind's name in the API and in metrics.
func (k Kind) String() string {
	if n, ok := kindNames[k]; ok {
		return n
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// controls reports whether later decisions rest on entries of the kind, so that
// both engines verify their frames on every node.
func (k Kind) controls() bool { return k == KindFact || k == KindClock }

// ID identifies an entry; its author chooses it (UUIDv7, RFC 9562) and uses it
// again when it sends the entry again. IDs are unique per author.
type ID [16]byte

// NewID makes an id.
func NewID() (ID, error) {
	u, err := uuid.NewV7()
	return ID(u), err
}

// ParseID reads the 32 hexadecimal digits that String writes.
func ParseID(s string) (ID, error) {
	var id ID
	if !exchange.ValidID(s) {
		return id, fmt.Errorf("%w: an entry id has 32 hexadecimal digits", ErrFormat)
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err
}

// String returns 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is no id.
func (id ID) IsZero() bool { return id == ID{} }

// MaxEntry bounds an encoded entry, in bytes.
const MaxEntry = 128 << 10

// An Entry is what its author signs, through a frame, and every node
// replicates. It holds no personal data: what an access was about lies in a
// body that only the parties and the authority can open, and to which the
// entry commits.
type Entry struct {
	Suite  string        `cbor:"1,keyasint"`
	Kind   Kind          `cbor:"2,keyasint"`
	ID     ID            `cbor:"3,keyasint"`
	Author exchange.Dept `cbor:"4,keyasint"`
	Origin int64         `cbor:"5,keyasint"` // the author's clock, Unix ms; informative, the leaf's time counts
	Access *Access       `cbor:"6,keyasint,omitempty"`
	Ack    *Ack          `cbor:"7,keyasint,omitempty"`
	Fact   *FactChange   `cbor:"8,keyasint,omitempty"`
	View   *Viewing      `cbor:"9,keyasint,omitempty"`
	Clock  *Clock        `cbor:"10,keyasint,omitempty"`
	Denied *Denials      `cbor:"11,keyasint,omitempty"`
}

// Ack tells that the requester has opened the answers of these accesses.
type Ack struct {
	Holder  exchange.Dept `cbor:"1,keyasint"`
	Entries []ID          `cbor:"2,keyasint"` // of the holder's access entries, at most 256
}

// Viewing tells that a person at the author's node has searched, revealed or
// exported ledger content: officers are themselves recorded.
type Viewing struct {
	Action string    `cbor:"1,keyasint"` // search | show | export
	Body   gm.Digest `cbor:"2,keyasint"` // commitment to who and what, kept by the author
	Rows   uint32    `cbor:"3,keyasint"` // how many entries were shown
}

// Encode returns the bytes that are framed, stored and hashed.
func (e Entry) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	b, err := canon.Marshal(e)
	if err == nil && len(b) > MaxEntry {
		err = fmt.Errorf("%w: entry of %d bytes is over the limit of %d", ErrFormat, len(b), MaxEntry)
	}
	return b, err
}

// DecodeEntry reads what Encode wrote and refuses everything else.
func DecodeEntry(b []byte) (Entry, error) {
	var e Entry
	if len(b) > MaxEntry {
		return e, fmt.Errorf("%w: entry of %d bytes is over the limit of %d", ErrFormat, len(b), MaxEntry)
	}
	if err := canon.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%w: entry: %w", ErrFormat, err)
	}
	return e, e.check()
}

// Time returns the author's clock.
func (e Entry) Time() time.Time { return time.UnixMilli(e.Origin).UTC() }

// check holds what every entry satisfies whatever the state, so that nothing
// that would surprise State is ever proposed.
func (e Entry) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: entry: %s", ErrFormat, what) }
	switch {
	case e.Suite != gm.Suite:
		return bad("unknown suite")
	case e.ID.IsZero():
		return bad("no id")
	case !e.Author.Valid():
		return bad("no author")
	}
	var present [7]bool
	present[KindAccess], present[KindAck] = e.Access != nil, e.Ack != nil
	present[KindFact], present[KindView] = e.Fact != nil, e.View != nil
	present[KindClock], present[KindDenied] = e.Clock != nil, e.Denied != nil
	for kind, there := range present {
		if there != (Kind(kind) == e.Kind) {
			return bad("content does not match the kind")
		}
	}
	switch e.Kind {
	case KindAccess:
		return e.Access.check(e.Author)
	case KindFact:
		return e.Fact.check()
	case KindClock:
		return e.Clock.check()
	case KindDenied:
		return e.Denied.check(e.Author)
	case KindAck:
		if !e.Ack.Holder.Valid() || len(e.Ack.Entries) == 0 || len(e.Ack.Entries) > 256 {
			return bad("an acknowledgement names a holder and 1 to 256 entries")
		}
	case KindView:
		if a := e.View.Action; a != "search" && a != "show" && a != "export" {
			return bad("unknown action of a viewing")
		}
	default:
		return bad("unknown kind")
	}
	return nil
}
