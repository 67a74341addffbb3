package ledger

import (
	"fmt"

	"xinqiao/exchange"
)

// Slot is a place in the Basis vector. The numbers are on the ledger and are
// never changed.
type Slot uint8

// The slots, in the order of the vector. SlotNone is no slot; SlotQuota and
// later are not in the vector but can be what made an entry stale or refused.
const (
	SlotNone            Slot = iota
	SlotBaseline             // the authority's baseline
	SlotHolderRules          // the holder's rule bundle
	SlotRequesterRules       // the requester's own restrictions
	SlotHolderMember         // the holder's membership
	SlotRequesterMember      //
	SlotHolderCert           // the holder's certificates
	SlotRequesterCert        //
	SlotGrant                // the share grant between the two for the item's class
	SlotAuthority            // the authority record (consent) of this person and case
	SlotCase                 // the open case
	SlotRoster               // the requester's operators
	SlotStatus               // the holder's list of revoked materials
	slotEnd

	SlotQuota  Slot = 32 // reads of the authority record are used up
	SlotRights Slot = 33 // the author may not write this
	SlotOrder  Slot = 34 // the fact has another version than the one replaced, or is final
	SlotClock  Slot = 35 // a clock entry that no quorum of today's members stands behind, or that advances nothing
)

var slotNames = map[Slot]string{
	SlotBaseline: "baseline", SlotHolderRules: "holder_rules", SlotRequesterRules: "requester_rules",
	SlotHolderMember: "holder_member", SlotRequesterMember: "requester_member", SlotHolderCert: "holder_cert",
	SlotRequesterCert: "requester_cert", SlotGrant: "grant", SlotAuthority: "authority", SlotCase: "case",
	SlotRoster: "roster", SlotStatus: "status", SlotQuota: "quota", SlotRights: "rights", SlotOrder: "order",
	SlotClock: "clock",
}

// String returns the slot's name in messages and metrics.
func (s Slot) String() string {
	if n, ok := slotNames[s]; ok {
		return n
	}
	return fmt.Sprintf("slot(%d)", uint8(s))
}

// A Ref names one version of one fact. The zero Ref names none.
type Ref struct {
	_       struct{} `cbor:",toarray"`
	Key     string
	Version uint64 // 1 + index of the leaf that set it; 0 is none
}

// Basis is the fixed vector of the versions that a decision rested on, one for
// each slot from SlotBaseline to SlotStatus.
type Basis [slotEnd - 1]Ref

// At returns the reference in slot s.
func (b *Basis) At(s Slot) *Ref { return &b[s-1] }

func (b Basis) check() error {
	for i, r := range b {
		if (r.Version == 0) != (r.Key == "") || len(r.Key) > maxKey {
			return fmt.Errorf("%w: basis: slot %s is half filled", ErrFormat, Slot(i+1))
		}
	}
	return nil
}

// slotFact says which fact a slot must name, given the parties: its type, and
// its key, or "" where the fact itself names the pair.
func slotFact(s Slot, holder, requester exchange.Dept) (t FactType, key string) {
	switch s {
	case SlotBaseline:
		return FactBaseline, string(exchange.Authority)
	case SlotHolderRules:
		return FactRules, string(holder)
	case SlotRequesterRules:
		return FactRestrictions, string(requester)
	case SlotHolderMember:
		return FactMember, string(holder)
	case SlotRequesterMember:
		return FactMember, string(requester)
	case SlotHolderCert:
		return FactCert, string(holder)
	case SlotRequesterCert:
		return FactCert, string(requester)
	case SlotGrant:
		return FactGrant, ""
	case SlotAuthority:
		return FactAuthority, ""
	case SlotCase:
		return FactCase, ""
	case SlotRoster:
		return FactRoster, string(requester)
	case SlotStatus:
		return FactStatus, string(holder)
	}
	return 0, ""
}

// Slots lists the slots of the vector in order.
func Slots() []Slot {
	s := make([]Slot, 0, slotEnd-1)
	for i := SlotBaseline; i < slotEnd; i++ {
		s = append(s, i)
	}
	return s
}
