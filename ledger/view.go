package ledger

import (
	"context"
	"fmt"
	"sort"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// members lists the active members in order of name. The authority is not one.
func (s *State) members() []exchange.Dept {
	var list []exchange.Dept
	for key, fact := range s.facts[FactMember] {
		if fact.Active {
			list = append(list, exchange.Dept(key))
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return list
}

// A View is one consistent reading of the facts, all of them behind the
// verified watermark. It is valid inside the function that Read calls.
type View struct {
	state *State
	now   time.Time
	high  uint64 // newest version read
}

// Fact returns a fact, or nil. The Fact must not be changed and may be kept.
func (v *View) Fact(t FactType, key string) *Fact {
	f := v.state.facts.get(t, key)
	if f != nil {
		v.high = max(v.high, f.Version)
	}
	return f
}

// Pair returns the facts of type t between provider and grantee that are in
// force, in order of key.
func (v *View) Pair(t FactType, provider, grantee exchange.Dept) []*Fact {
	var list []*Fact
	for _, f := range v.state.facts[t] {
		if f.Provider == provider && f.Grantee == grantee {
			v.high = max(v.high, f.Version)
			if f.In(v.now) {
				list = append(list, f)
			}
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Key < list[j].Key })
	return list
}

// All returns every fact of type t, withdrawn ones too, in order of key.
func (v *View) All(t FactType) []*Fact {
	var list []*Fact
	for _, f := range v.state.facts[t] {
		v.high = max(v.high, f.Version)
		list = append(list, f)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Key < list[j].Key })
	return list
}

// Chain returns the number and the hash of dept's last frame here. It may be ahead
// of what this node has verified: it says where the next frame goes, no more.
func (v *View) Chain(dept exchange.Dept) (seq uint64, last gm.Digest) {
	a := v.state.authors[dept]
	return a.Seq, a.Last
}

// SignCert returns the fingerprint of dept's signing certificate in force, or zero.
func (v *View) SignCert(dept exchange.Dept) gm.Digest {
	if c := v.state.signCert(dept); c != nil {
		return v.state.engine.Sum(c)
	}
	return gm.Digest{}
}

// Ref returns the reference to f for a Basis; the zero Ref for nil.
func (f *Fact) Ref() Ref {
	if f == nil {
		return Ref{}
	}
	return Ref{Key: f.Key, Version: f.Version}
}

// Now is the time that validity is judged by: ledger time, or this node's clock
// where that is ahead of it.
func (v *View) Now() time.Time { return v.now }

// Read calls fn with a View. When fn has read a fact whose author this node has
// not verified yet, Read waits for that and calls fn again: fn must be free of
// effects other than what it assigns.
func (l *Ledger) Read(ctx context.Context, fn func(*View) error) error {
	for {
		l.mu.RLock()
		if l.haltErr != nil {
			l.mu.RUnlock()
			return l.haltErr
		}
		v := &View{state: l.state, now: l.now()}
		err := fn(v)
		seen := v.high <= l.verified
		l.mu.RUnlock()
		if seen {
			return err
		}
		if err := l.waitFor(ctx, func() bool { return l.verified >= v.high }); err != nil {
			return fmt.Errorf("wait for the verified watermark: %w", err)
		}
	}
}

// Lookup returns where this node's replica has the entry, without waiting.
func (l *Ledger) Lookup(author exchange.Dept, id ID) (index uint64, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p, ok := l.state.ids[authorID{author, id}]
	return p.index, ok
}

// Await blocks until this node has applied and itself verified the entry, and
// returns its leaf: what the receiver of an answer does before it opens it. An
// entry about whose signature the engines disagree is refused.
func (l *Ledger) Await(ctx context.Context, author exchange.Dept, id ID) (index uint64, leaf Leaf, entry Entry, err error) {
	err = l.waitFor(ctx, func() bool {
		p, ok := l.state.ids[authorID{author, id}]
		index = p.index
		return ok && l.verified > p.index
	})
	if err != nil {
		return 0, leaf, entry, err
	}
	if leaf, entry, _, err = l.read(index); err != nil {
		return 0, leaf, entry, err
	}
	l.mu.RLock()
	_, disputed := l.disputed[leaf.Frame]
	l.mu.RUnlock()
	if disputed {
		return 0, Leaf{}, Entry{}, &exchange.Error{Kind: exchange.Integrity, Code: exchange.CodeSignature, Op: "ledger.Await",
			Msg: fmt.Sprintf("the two engines disagree about the signature of entry %s", id), Hint: "tell the node's operator; do not use the answer"}
	}
	return index, leaf, entry, nil
}

// AppliedMembers returns the active members of the applied state, which may be
// ahead of the watermark: for admitting connections, never for a decision.
func (l *Ledger) AppliedMembers() map[exchange.Dept]Member {
	l.mu.RLock()
	defer l.mu.RUnlock()
	found := map[exchange.Dept]Member{}
	for key, fact := range l.state.facts[FactMember] {
		if m, err := DecodeMember(fact.Content); err == nil && fact.Active {
			found[exchange.Dept(key)] = m
		}
	}
	return found
}

// MemberChanged reports whether dept's membership was changed or withdrawn within
// the time, as the applied state has it.
func (l *Ledger) MemberChanged(dept exchange.Dept, within time.Duration) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	fact := l.state.facts.get(FactMember, string(dept))
	return fact != nil && l.now().Sub(fact.Time) <= within
}

// AppliedCerts returns the certificates in force for dept in the applied state,
// or none: for admitting connections and for choosing this department's own
// keys, never for a decision about another's word.
func (l *Ledger) AppliedCerts(dept exchange.Dept) (Certs, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	fact := l.state.facts.get(FactCert, string(dept))
	if fact == nil || !fact.Active {
		return Certs{}, false
	}
	certs, err := DecodeCerts(fact.Content)
	return certs, err == nil
}
