package ledger

import (
	"context"
	"fmt"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// ReleaseWithin is how long after its entry a response may leave its holder.
const ReleaseWithin = 5 * time.Minute

// uncosignedRelease is how long a released response may stay without a cosigned
// checkpoint over its entry before further releases stop (mode A).
const uncosignedRelease = 10 * time.Second

// A Receipt says that the entry of one response is committed, applied and
// verified on this node. Only Ledger.Receipt makes one; the zero Receipt
// releases nothing.
type Receipt struct {
	ledger   *Ledger
	entry    ID
	index    uint64
	hash     gm.Digest
	at       time.Time
	access   Access
	deadline time.Time
}

// Index returns the entry's position in the ledger.
func (r Receipt) Index() uint64 { return r.index }

// Entry returns the entry's id.
func (r Receipt) Entry() ID { return r.entry }

// Public returns the receipt as it is shown to callers.
func (r Receipt) Public() exchange.Receipt {
	if r.ledger == nil {
		return exchange.Receipt{}
	}
	return PublicReceipt(r.ledger.cfg.Origin, r.access.Holder, r.entry, r.index, r.hash, r.at)
}

// PublicReceipt names a ledger position for callers.
func PublicReceipt(origin string, author exchange.Dept, entry ID, index uint64, hash gm.Digest, at time.Time) exchange.Receipt {
	return exchange.Receipt{Origin: origin, Entry: entry.String(), Author: author, Index: index,
		LeafHash: fmt.Sprintf("%x", hash), Time: at}
}

// Receipt waits until this node has verified its own committed access entry and
// returns the receipt for its response.
func (l *Ledger) Receipt(ctx context.Context, id ID) (Receipt, error) {
	index, leaf, entry, err := l.Await(ctx, l.cfg.Self, id)
	if err != nil {
		return Receipt{}, err
	}
	if entry.Kind != KindAccess || entry.Access.Outcome == exchange.Refused || leaf.Result != Committed {
		return Receipt{}, fmt.Errorf("%w: entry %s lets no response out", ErrRelease, id)
	}
	hash, err := l.LeafHash(index)
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{ledger: l, entry: id, index: index, hash: hash, at: leaf.At(), access: *entry.Access,
		deadline: leaf.At().Add(ReleaseWithin)}, nil
}

// Gate says behind what a response leaves. The zero Gate lets nothing out.
type Gate uint8

// The gates. Behind OwnNode (mode A) the entry is committed, applied and verified on
// the releasing node, which is enough as long as nodes only crash; behind Cosigned
// (mode B) a quorum of departments has cosigned a checkpoint that includes it, so
// that no leader can have shown this node an order of its own.
const (
	OwnNode  Gate = 1
	Cosigned Gate = 2
)

// AwaitCosigned blocks until a cosigned checkpoint includes the receipt's entry: what
// Release asks of a response behind Cosigned.
func (l *Ledger) AwaitCosigned(ctx context.Context, r Receipt) error {
	return l.waitFor(ctx, func() bool { return l.cosigned.size > r.index })
}

// Release is the gate: it returns nil when the response with this digest may
// leave the node now. It may not with another's receipt, after the deadline,
// once anything it rests on was withdrawn or replaced in what is applied here,
// verified or not, while earlier releases stay uncosigned, or it is itself behind
// Cosigned, or when this ledger has halted.
func (l *Ledger) Release(r Receipt, g Gate, response gm.Digest) error {
	refuse := func(code exchange.Code, kind exchange.Kind, msg, hint string) error {
		return &exchange.Error{Kind: kind, Code: code, Op: "ledger.Release", Msg: msg, Hint: hint, Err: ErrRelease}
	}
	if r.ledger == nil || r.ledger != l || response == (gm.Digest{}) || r.access.Response != response {
		return refuse(exchange.CodeBinding, exchange.Integrity, "the receipt is not for this response", "this is a fault of the node; tell its operator")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.haltErr != nil {
		return refuse(exchange.CodeLedgerBroken, exchange.Integrity, "this node's ledger does not verify", "tell the node's operator; nothing was released")
	}
	if now.After(r.deadline) {
		return refuse(exchange.CodeReleaseLate, exchange.Expired, "the answer was not fetched in time", "ask again with a new key; the record of the first stays")
	}
	if slot := l.state.stillHolds(&r.access, now); slot != SlotNone {
		return refuse(slotDenial(slot), exchange.Denied, "what the answer rested on was withdrawn or changed: "+slot.String(), "ask again; the decision is made anew")
	}
	if g != OwnNode && (g != Cosigned || l.cosigned.size <= r.index) {
		return refuse(exchange.CodeNoQuorum, exchange.Unavailable, "no quorum of departments has cosigned the record of this answer yet", "ask again with the same key in a moment")
	}
	if !l.cosigned.mayRelease(r.index, now) {
		return refuse(exchange.CodeNoQuorum, exchange.Unavailable, "earlier releases are not cosigned by a quorum of departments", "try again when the other departments' nodes can be reached")
	}
	return nil
}

// Current returns nil while everything an earlier access rested on is still in
// force: what must hold before an answer is handed out once more.
func (l *Ledger) Current(a *Access) (Slot, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	slot := l.state.stillHolds(a, l.now())
	return slot, slot == SlotNone && l.haltErr == nil
}

// stillHolds is basisHolds for an access that has been counted, at time now: the
// quota is not asked, for its own read may have been the last. What was merely
// replaced no longer holds either, but for certificates that were renewed.
func (s *State) stillHolds(a *Access, now time.Time) Slot {
	for _, slot := range Slots() {
		t, _ := slotFact(slot, a.Holder, a.Requester)
		ref := a.Basis.At(slot)
		if fact := s.facts.get(t, ref.Key); fact == nil || !fact.continues(ref.Version) || !fact.In(now) {
			return slot
		}
	}
	return SlotNone
}

// slotDenial is the code that tells a requester which guard no longer holds.
func slotDenial(s Slot) exchange.Code {
	switch s {
	case SlotAuthority:
		return exchange.DenyWithdrawn
	case SlotGrant:
		return exchange.DenyNoGrant
	case SlotCase:
		return exchange.DenyCase
	case SlotRoster:
		return exchange.DenyOperator
	case SlotStatus:
		return exchange.DenyMaterial
	case SlotHolderMember, SlotRequesterMember, SlotHolderCert, SlotRequesterCert:
		return exchange.DenyMember
	}
	return exchange.CodeStale
}
