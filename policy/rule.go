package policy

import (
	"time"

	"xinqiao/exchange"
)

// Rule is what the holder of an item permits: who may see which fields of it
// in which mode, for what. It is a closed form without expressions, negation or
// wildcards. Only a holder's rule can permit the holder's data.
type Rule struct {
	ID        string
	Item      exchange.Item
	Provider  exchange.Dept
	To        []Recipient // of a department named twice only the first counts
	Purposes  []exchange.Purpose
	Basis     []BasisKind
	Statute   []string                           // the law it is made under, as cited by its owner
	Fields    map[exchange.Field][]exchange.View // what is permitted; a field with no view, or absent, is never shown
	Limits    Limits
	Retain    string    // how long the requester may keep it, ISO 8601 duration
	Onward    string    // "deny": may not be passed on
	NotBefore time.Time //
	NotAfter  time.Time // the rule ends at this time; zero has ended
}

// Recipient is one department that a rule opens the item to.
type Recipient struct {
	Dept    exchange.Dept
	Matters []exchange.Matter
	Roles   []exchange.Role
}

// Limits bounds how often a rule may be used. Zero is no bound.
type Limits struct {
	PerCase       uint32 // reads that an authority record, which is for one case, may carry
	PerOfficerDay uint32 // reads of the item by one operator on one day
	Batch         uint32 // subjects in one request; a request has one, so only 1 has a meaning
}

// Baseline is what the sharing authority (共享主管部门) demands of every exchange:
// closed code lists and prohibitions. It can forbid and never permit.
type Baseline struct {
	ID       string
	Purposes []Term      // the purpose list
	Matters  []Term      // the matters that may be handled through the exchange
	Roles    []Term      // the roles a roster may hold
	Bases    []BasisKind // the kinds of basis accepted at all
	Forbid   []Prohibition
}

// Term is one entry of a code list with its names.
type Term struct{ Code, ZH, EN string }

// Prohibition forbids views above a mode. Each part that is set narrows it: one
// that names nothing covers every item, department, purpose and field.
type Prohibition struct {
	ID       string
	Class    string
	Item     exchange.Item
	To       []exchange.Dept
	Purposes []exchange.Purpose
	Fields   []exchange.Field
	Above    exchange.Mode // views that disclose more than this are forbidden
	Article  string        // the law it rests on
}

// Restrictions is how a requester holds back its own staff, beyond what holders
// demand. It can forbid and never permit.
type Restrictions struct {
	ID    string
	Dept  exchange.Dept // whose they are
	Limit []Restriction
}

// Restriction is one rule of a department for its own staff. Item selects what
// it applies to; the other parts are conditions, and one left empty is none.
type Restriction struct {
	ID       string
	Item     exchange.Item      // "" is every item
	Roles    []exchange.Role    // only these roles may ask
	Purposes []exchange.Purpose // only for these purposes
	Never    []exchange.Field   // fields not to be asked for in any mode
	Hours    *Hours             // only at this time of day
}

// Hours is a part of the day, From ≤ t < To, in minutes since midnight at a
// fixed offset from UTC.
type Hours struct {
	From, To int
	Offset   int // minutes east of UTC
}

// Includes reports whether t, after 1970, lies in the hours.
func (h Hours) Includes(t time.Time) bool {
	const day = 24 * 60 * 60 * 1000
	ms := (t.UnixMilli() + int64(h.Offset)*60_000) % day
	return ms >= int64(h.From)*60_000 && ms < int64(h.To)*60_000
}

// recipient returns the entry of dept.
func (r *Rule) recipient(dept exchange.Dept) (Recipient, bool) {
	for _, to := range r.To {
		if to.Dept == dept {
			return to, true
		}
	}
	return Recipient{}, false
}

// covers reports whether a request for v is within the prohibition's reach.
func (p *Prohibition) covers(f *Facts, v exchange.View) bool {
	return (p.Class == "" || p.Class == f.Item.Class()) && (p.Item == "" || p.Item == f.Item) &&
		within(p.To, f.Requester) && within(p.Purposes, f.Purpose) && within(p.Fields, v.Field) && v.Mode > p.Above
}

// lists reports whether terms has an entry with the code.
func lists(terms []Term, code string) bool {
	for _, t := range terms {
		if t.Code == code {
			return true
		}
	}
	return false
}
