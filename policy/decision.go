package policy

import (
	"slices"

	"xinqiao/exchange"
)

// Decision is the outcome of Decide. The zero Decision denies. It permits
// nothing by itself: what opens a source is its Permit.
type Decision struct {
	Allow       bool
	Reasons     []exchange.Reason // every guard that failed, in a fixed order; empty exactly when Allow
	Rule        string            // the rule that permitted, or came closest to it; "" when the holder has none
	Obligations Obligations       // of the requester; set exactly when Allow

	permit Permit
}

// Obligations is what the holder's rule demands of the requester afterwards.
type Obligations struct {
	Retain string // how long it may keep the material, ISO 8601 duration
	Onward string // "deny": it may not be passed on
}

// Permit is a decision that allowed. Only Decide makes a valid one, and its
// zero value refuses, so a source that asks for a Permit cannot be opened
// without a decision.
type Permit struct {
	valid     bool
	holder    exchange.Dept
	requester exchange.Dept
	item      exchange.Item
	purpose   exchange.Purpose
	views     []exchange.View
	rule      string
}

// Permit returns the permit of a decision that allowed. Setting Allow on a
// denial, or removing its reasons, does not make one.
func (d Decision) Permit() (Permit, bool) {
	if !d.Allow || len(d.Reasons) > 0 || !d.permit.valid {
		return Permit{}, false
	}
	return d.permit, true
}

// Valid reports whether the permit permits anything.
func (p Permit) Valid() bool { return p.valid }

// Holder returns whose data may be opened.
func (p Permit) Holder() exchange.Dept { return p.holder }

// Requester returns for whom.
func (p Permit) Requester() exchange.Dept { return p.requester }

// Item returns the item that may be opened.
func (p Permit) Item() exchange.Item { return p.item }

// Purpose returns what for.
func (p Permit) Purpose() exchange.Purpose { return p.purpose }

// Rule returns the id of the holder's rule that permitted.
func (p Permit) Rule() string { return p.rule }

// Views returns a copy of exactly what may be disclosed.
func (p Permit) Views() []exchange.View { return slices.Clone(p.views) }
