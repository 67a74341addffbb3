package ledger

import (
	"time"

	"xinqiao/exchange"
)

// judge compares an entry with the state in force and says what becomes of it.
// It asks whether the author may write this and whether what the author rested
// on still holds; whether the decision was right is not its business.
func (s *State) judge(e Entry) (Result, Slot) {
	switch e.Kind {
	case KindAccess:
		if e.Access.Outcome == exchange.Refused {
			break // a denial rests on nothing but its author's membership
		}
		if slot := s.basisHolds(e.Access); slot != SlotNone {
			return Stale, slot
		}
	case KindFact:
		return s.judgeFact(e.Author, e.Fact)
	case KindClock:
		if s.member(e.Author) && !s.advances(e.Clock) {
			return Stale, SlotClock
		}
	}
	if !s.member(e.Author) {
		return Rejected, SlotRights
	}
	return Committed, SlotNone
}

// basisHolds returns the first slot of the access's basis that is missing, not
// current or not in force at ledger time, or SlotNone.
func (s *State) basisHolds(a *Access) Slot {
	now := time.UnixMilli(s.time)
	for _, slot := range Slots() {
		ref := a.Basis.At(slot)
		t, key := slotFact(slot, a.Holder, a.Requester)
		if key != "" && ref.Key != key {
			return slot
		}
		fact := s.facts.get(t, ref.Key)
		if fact == nil || !fact.continues(ref.Version) || !fact.In(now) {
			return slot
		}
		if t.pair() && (fact.Provider != a.Holder || fact.Grantee != a.Requester) {
			return slot
		}
	}
	if s.facts.get(FactAuthority, a.Basis.At(SlotAuthority).Key).Left() == 0 {
		return SlotQuota
	}
	return SlotNone
}

func (s *State) judgeFact(author exchange.Dept, c *FactChange) (Result, Slot) {
	old := s.facts.get(c.Type, c.Key)
	if !s.member(author) || !c.mayWrite(author, old) {
		return Rejected, SlotRights
	}
	switch {
	case c.Action == Withdraw && (old == nil || !old.Active):
		return Rejected, SlotOrder
	case c.Action == Set && old != nil && c.Type.pair():
		return Rejected, SlotOrder
	case c.Action == Set && old == nil && c.Replaces != 0, c.Action == Set && old != nil && c.Replaces != old.Version:
		return Stale, SlotOrder
	}
	return Committed, SlotNone
}

// member reports whether dept may write: the authority, or an active member.
func (s *State) member(dept exchange.Dept) bool {
	if dept == exchange.Authority {
		return true
	}
	fact := s.facts.get(FactMember, string(dept))
	return fact != nil && fact.Active
}
