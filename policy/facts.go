package policy

import (
	"time"

	"xinqiao/exchange"
)

// BasisKind is the legal ground of an access (合法性基础, PIPL Art. 13). The zero
// value is none and is accepted nowhere.
type BasisKind string

// The kinds of basis.
const (
	Consent        BasisKind = "consent"         // PIPL Art. 13(1)(1)
	StatutoryDuty  BasisKind = "statutory_duty"  // PIPL Arts. 13(1)(3) and 34
	Emergency      BasisKind = "emergency"       // PIPL Art. 13(1)(4)
	LegalClaim     BasisKind = "legal_claim"     // a court or an arbitration asks
	SubjectRequest BasisKind = "subject_request" // the person asks for their own material
)

// Bases lists the kinds of basis in a fixed order.
func Bases() []BasisKind {
	return []BasisKind{Consent, StatutoryDuty, Emergency, LegalClaim, SubjectRequest}
}

// AuthorityState is where an authority record stands in its life. Only
// StateActive authorises; package policy/authority holds the transitions.
type AuthorityState string

// The states of an authority record.
const (
	StateOffered     AuthorityState = "offered"
	StateRefused     AuthorityState = "refused"
	StatePending     AuthorityState = "pending_confirmation"
	StateActive      AuthorityState = "active"
	StateSuspended   AuthorityState = "suspended"
	StateWithdrawn   AuthorityState = "withdrawn"
	StateExpired     AuthorityState = "expired"
	StateExhausted   AuthorityState = "exhausted"
	StateSuperseded  AuthorityState = "superseded"
	StateInvalid     AuthorityState = "invalid"
	StateDisposalDue AuthorityState = "disposal_due"
	StateDisposed    AuthorityState = "disposed"
)

// Facts is everything a decision rests on, read by the caller from one view of
// the ledger. Zero values deny. There is no fact about whether the holder has a
// record of the person: a denial cannot tell.
type Facts struct {
	At              time.Time     // ledger time
	Holder          exchange.Dept //
	Requester       exchange.Dept //
	HolderActive    bool          // member, with a certificate in force
	RequesterActive bool          //

	Item    exchange.Item
	Views   []exchange.View
	Purpose exchange.Purpose
	Matter  exchange.Matter
	Role    exchange.Role // the operator's, proven by a roster ticket; "" is not on the roster
	// OfficerReads is what the operator has read today of this item. It matters
	// only to a rule with a daily limit; unknown then denies.
	OfficerReads Count

	CaseOpen         bool // for this requester, matter and subject
	ItemKnown        bool // to the holder's catalogue
	MaterialsCurrent bool // the holder's list of revoked materials is readable and fresh

	Baseline     *Baseline     // the authority's; nil is unknown
	Rules        []Rule        // the holder's, for any item and requester
	Restrictions *Restrictions // the requester's own; nil is unknown
	Grant        Grant
	Authority    Authority
}

// Count is a number that may be unknown. The zero Count is unknown.
type Count struct {
	Known bool
	N     uint32
}

// Grant is what the ledger says of the share grant (共享授权) between the two
// departments for the item's class.
type Grant struct {
	Present   bool
	Active    bool      // not withdrawn
	NotBefore time.Time //
	NotAfter  time.Time // the grant ends at this time; zero has ended
	Items     []GrantItem
}

// GrantItem is what a share grant opens of one item.
type GrantItem struct {
	Item     exchange.Item      `cbor:"1,keyasint" json:"item"`
	Views    []exchange.View    `cbor:"2,keyasint" json:"views"`
	Purposes []exchange.Purpose `cbor:"3,keyasint" json:"purposes"`
}

// Authority is what is known of the authority record (授权记录) that the request
// names, its content checked against the commitment on the ledger.
type Authority struct {
	Present        bool
	State          AuthorityState
	Basis          BasisKind
	Provider       exchange.Dept
	Grantee        exchange.Dept
	SubjectMatches bool // it is about the subject of the request
	CaseMatches    bool // it was given for the case of the request
	Matter         exchange.Matter
	Purposes       []exchange.Purpose
	Views          []exchange.ItemView
	NotBefore      time.Time
	NotAfter       time.Time // it ends at this time; zero has ended
	MaxReads       int       // as recorded; compared with the rule's limit for a case
	ReadsLeft      int       // none at zero and below
}

// inForce reports whether from ≤ at < to, to the millisecond. A zero from is
// the beginning of time, a zero to has passed.
func inForce(at, from, to time.Time) bool {
	t := at.UnixMilli()
	return t >= from.UnixMilli() && t < to.UnixMilli()
}

// epoch is the earliest time that counts as known, 2 January 1970: a ledger
// time before it was never set. Cedar implementations also differ on the time of
// day before 1970.
const epoch = 24 * 60 * 60 * 1000

func (f *Facts) dated() bool { return f.At.UnixMilli() >= epoch }

// WellFormed reports whether the request itself has the form that package
// exchange demands: named parties that differ, codes in their forms, at least
// one view and none twice. An empty list of views would be permitted by every
// rule and tell whether the person is on record.
func (f Facts) WellFormed() bool {
	if !f.Holder.Valid() || !f.Requester.Valid() || f.Holder == f.Requester || !f.Item.Valid() ||
		!f.Purpose.Valid() || !f.Matter.Valid() || len(f.Views) == 0 || len(f.Views) > exchange.MaxViews {
		return false
	}
	seen := make(map[exchange.View]bool, len(f.Views))
	for _, v := range f.Views {
		if !v.Valid() || seen[v] {
			return false
		}
		seen[v] = true
	}
	return true
}
