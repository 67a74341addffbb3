package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
)

const (
	// ClockBound is how far ledger time may run ahead of the last witnessed time.
	ClockBound = 10 * time.Minute
	// clockMargin is how long before the bound a leader stops taking frames: one
	// that waits in its queue is judged at the time its batch gets.
	clockMargin = time.Minute
	// clockEvery is how old the witnessed time of a ledger in use gets.
	clockEvery = ClockBound / 2
	// clockStep is the least by which a clock entry advances it, so that nobody
	// fills the ledger with them.
	clockStep = time.Minute
	// clockSkew is how far ledger time may be ahead of the clock of a node that
	// is asked to cosign.
	clockSkew = 5 * time.Second
)

// Clock shows every replica that a quorum of the members saw a time go by: it
// carries a cosigned checkpoint, whose cosignatures hold their makers' times. A
// leader can hold such a note back and cannot make one.
type Clock struct {
	Note []byte `cbor:"1,keyasint"` // of this ledger, cosigners in order of name, each once
	// Certs are the versions of the certificates that were in force when the
	// cosignatures were made, in the note's order: what State compares.
	Certs []uint64 `cbor:"2,keyasint"`
}

func (c *Clock) check() error {
	n, err := checkpoint.Parse(c.Note)
	if err != nil {
		return fmt.Errorf("%w: clock: %w", ErrFormat, err)
	}
	byName := func(a, b checkpoint.Cosignature) int { return strings.Compare(a.Name, b.Name) }
	twice := slices.CompactFunc(slices.Clone(n.Cosignatures), func(a, b checkpoint.Cosignature) bool { return a.Name == b.Name })
	if len(n.Cosignatures) == 0 || len(c.Certs) != len(n.Cosignatures) || len(twice) != len(n.Cosignatures) ||
		n.Size == 0 || !slices.IsSortedFunc(n.Cosignatures, byName) {
		return fmt.Errorf("%w: clock: its cosigners and their certificates do not match", ErrFormat)
	}
	return nil
}

// admits reports whether a frame may be placed at ledger time at, Unix ms. first
// is the entry at its place 0, or the zero Entry when that one is not new: a
// frame may bring its own witness. The very first frame has nothing to be held to.
func (s *State) admits(first Entry, at int64) bool {
	return s.size == 0 || at-max(s.witnessed, s.witness(first)) <= ClockBound.Milliseconds()
}

// witness returns the time to which the first entry of a frame testifies, Unix
// ms, or 0. A quorum does so by a clock entry, the authority by its word: when no
// quorum is left, what it signs is how the ledger goes on.
func (s *State) witness(first Entry) int64 {
	if first.Author == exchange.Authority {
		return first.Origin
	}
	if first.Kind != KindClock {
		return 0
	}
	if result, _ := s.judge(first); result != Committed {
		return 0
	}
	at, _ := s.quorumTime(first.Clock)
	return at
}

// quorumTime returns the newest time that a quorum of the members has reached
// by the note, Unix ms. It counts who is named and compares certificates; the
// signatures are checked by whoever verifies the frame.
func (s *State) quorumTime(c *Clock) (ms int64, ok bool) {
	n, err := checkpoint.Parse(c.Note)
	need := checkpoint.Quorum(len(s.members()))
	if err != nil || n.Origin != s.origin || n.Size > s.size || len(n.Cosignatures) < need {
		return 0, false
	}
	var times []int64
	for i, sig := range n.Cosignatures {
		dept := exchange.Dept(sig.Name)
		fact := s.facts.get(FactCert, sig.Name)
		if dept == exchange.Authority || !s.member(dept) || fact == nil || !fact.Active || fact.Version != c.Certs[i] {
			return 0, false
		}
		times = append(times, sig.Time.UnixMilli())
	}
	slices.Sort(times)
	return times[len(times)-need], true
}

// advances reports whether a clock entry brings the witnessed time forward by
// enough to be worth a leaf.
func (s *State) advances(c *Clock) bool {
	at, ok := s.quorumTime(c)
	return ok && at-s.witnessed >= clockStep.Milliseconds()
}

// clockProof is what the signatures of a committed clock entry are checked
// against: its note, and the cosigners' certificates as they were in force.
type clockProof struct {
	note  checkpoint.Note
	certs map[exchange.Dept][]byte // DER
}

// proofOf returns the proof that the first leaf of a frame calls for, or nil.
func (s *State) proofOf(n newLeaf) *clockProof {
	if n.entry.Kind != KindClock || n.leaf.Result != Committed {
		return nil
	}
	return s.clockProof(n.entry.Clock)
}

func (s *State) clockProof(c *Clock) *clockProof {
	n, err := checkpoint.Parse(c.Note)
	if err != nil {
		return nil // no entry has such a note
	}
	p := &clockProof{note: n, certs: map[exchange.Dept][]byte{}}
	for _, sig := range n.Cosignatures {
		p.certs[exchange.Dept(sig.Name)] = s.signCert(exchange.Dept(sig.Name))
	}
	return p
}

// verifyClock checks every cosignature with both engines, under certificates
// that are valid at all these times, and the head against this node's own tree.
func (l *Ledger) verifyClock(p *clockProof, at ...time.Time) error {
	keys := map[string]gm.PublicKey{}
	for dept, cert := range p.certs {
		for _, t := range at {
			who, key, err := l.idents.At(cert, t)
			if err != nil {
				return fmt.Errorf("clock: certificate of %s: %w", dept, err)
			}
			if who != string(dept) {
				return fmt.Errorf("clock: certificate of %s names %s", dept, who)
			}
			keys[string(dept)] = key
		}
	}
	l.mu.RLock()
	own, err := l.tree.RootAt(p.note.Size)
	l.mu.RUnlock()
	if err != nil || own != p.note.Root {
		return fmt.Errorf("clock: the head of size %d is not the one here", p.note.Size)
	}
	_, err = checkpoint.Verify([]gm.Engine{l.cfg.Engine, l.cfg.Second}, p.note, keys, len(p.note.Cosignatures))
	return err
}

// checkClock is the leader's part of the bound: it takes no frame that would be
// refused for its time, and no witness that does not hold. now is the time that
// a batch would get.
func (l *Ledger) checkClock(f *parsedFrame, now time.Time) error {
	first := f.entries[0]
	l.mu.Lock()
	at, bound := now.UnixMilli(), (ClockBound - clockMargin).Milliseconds()
	late := l.state.size > 0 && at-max(l.state.witnessed, l.state.witness(first)) > bound
	if l.clockDue(now) {
		l.clockOld = l.state.witnessed
	}
	var proof *clockProof
	result := Committed
	if first.Kind == KindClock {
		result, _ = l.state.judge(first)
		proof = l.state.clockProof(first.Clock)
	}
	l.mu.Unlock()
	refuse := func(kind exchange.Kind, code exchange.Code, msg, hint string, err error) error {
		return &exchange.Error{Kind: kind, Code: code, Op: "ledger.CheckFrame", Msg: msg, Hint: hint, Err: err}
	}
	switch {
	case late:
		return refuse(exchange.Unavailable, exchange.CodeNoQuorum, "no quorum has witnessed the time of this node's clock yet",
			"wait a moment; if it stays so, compare the nodes' clocks", nil)
	case first.Author == exchange.Authority && first.Origin-at > ClockBound.Milliseconds():
		return refuse(exchange.Invalid, exchange.CodeField, "the authority's entry is from the future", "set the clock of the machine that signs for the authority", nil)
	case result != Committed:
		return refuse(exchange.Conflict, exchange.CodeStale, "the clock entry advances nothing", "gather new cosignatures", nil)
	case proof == nil:
		return nil
	}
	if err := l.verifyClock(proof, now, now.Add(expiryMargin)); err != nil {
		return refuse(exchange.Forged, exchange.CodeSignature, "the clock entry's cosignatures do not hold", "gather new cosignatures", err)
	}
	return nil
}

// clockDue reports whether the witnessed time has grown old. The caller holds mu.
func (l *Ledger) clockDue(now time.Time) bool {
	return l.state.size > 0 && now.UnixMilli()-l.state.witnessed > clockEvery.Milliseconds()
}

// wantsClock reports whether somebody has had a frame to write since the
// witnessed time grew old: an idle ledger stays as it is.
func (l *Ledger) wantsClock() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.clockOld == l.state.witnessed && l.clockDue(l.now())
}

// appendClock appends note as a clock entry. It is a frame of its
// own that does not wait its turn, because what is in line may wait for it.
func (l *Ledger) appendClock(ctx context.Context, note checkpoint.Note) error {
	e, err := l.clockEntry(note)
	if err != nil {
		return err
	}
	a, err := l.newAppending(e)
	if err != nil {
		return err
	}
	select {
	case l.clocks <- a:
	default:
		return Busy("ledger.Clock", PressureQueue) // an earlier one is on its way
	}
	_, err = l.await(ctx, a)
	return err
}

// clockEntry builds a clock entry of those cosignatures that both engines
// accept, and refuses where it would not help: then this node's clock, or a
// quorum's, is wrong.
func (l *Ledger) clockEntry(note checkpoint.Note) (Entry, error) {
	id, err := NewID()
	if err != nil {
		return Entry{}, err
	}
	voters := l.electorate()
	valid, _ := checkpoint.Verify([]gm.Engine{l.cfg.Engine, l.cfg.Second}, note, voters.keys, 1) // the count is judged below
	seen := checkpoint.Note{Checkpoint: note.Checkpoint}
	for _, name := range valid {
		i := slices.IndexFunc(note.Cosignatures, func(c checkpoint.Cosignature) bool { return c.Name == name })
		seen.Cosignatures = append(seen.Cosignatures, note.Cosignatures[i])
	}
	now := l.cfg.Clock()
	c := &Clock{Note: seen.Encode()}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, name := range valid {
		c.Certs = append(c.Certs, l.state.facts.get(FactCert, name).Ref().Version)
	}
	at, ok := l.state.quorumTime(c)
	if off := l.now().UnixMilli() - at; !ok || off > (ClockBound-clockMargin).Milliseconds() {
		return Entry{}, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum, Op: "ledger.Clock",
			Msg:  fmt.Sprintf("%d departments cosigned, and no quorum of them shares this node's time", len(valid)),
			Hint: "compare the nodes' clocks"}
	}
	return Entry{Suite: gm.Suite, Kind: KindClock, ID: id, Author: l.cfg.Self, Origin: now.UnixMilli(), Clock: c}, nil
}
