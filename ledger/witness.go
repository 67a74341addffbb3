package ledger

import (
	"slices"
	"time"

	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
)

// lagAfter is how long checkpoints may go without a member's cosignature before
// the member counts as lagging.
const lagAfter = time.Minute

// witnessed is what this node last saw a member cosign.
type witnessed struct {
	size uint64
	at   time.Time // this node's clock
}

// sawCosignatures records who has cosigned a head; the cosignatures have been verified.
func (l *Ledger) sawCosignatures(c checkpoint.Checkpoint, names ...string) {
	now := l.cfg.Clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		dept := exchange.Dept(name)
		if c.Size >= l.witnesses[dept].size {
			l.witnesses[dept] = witnessed{c.Size, now}
		}
	}
}

// CaughtUp reports whether dept's node has shown this one, by a cosignature, that
// it has verified the whole ledger with the same root: the newest cosigned
// checkpoint at least, and the entry that made it the member that it is. Only
// such a node may get a vote.
func (l *Ledger) CaughtUp(dept exchange.Dept) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	member := l.state.facts.get(FactMember, string(dept))
	return member != nil && member.Active && l.witnesses[dept].size >= max(member.Version, l.cosigned.size)
}

// lagging lists the members whose cosignature the checkpoints have gone without
// for too long. An idle ledger has no new checkpoints, so nobody lags behind it.
// The caller holds mu.
func (l *Ledger) lagging() []exchange.Dept {
	return slices.DeleteFunc(l.state.members(), func(dept exchange.Dept) bool {
		seen := l.witnesses[dept].at
		if seen.Before(l.opened) {
			seen = l.opened
		}
		return l.cosigned.at.Sub(seen) <= lagAfter
	})
}
