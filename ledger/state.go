package ledger

import (
	"fmt"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/merkle"
)

// State is what the committed entries add up to. It is the same on every node
// because it is a pure function of the batches in their order: it knows no
// clock, no randomness, no signature and no policy. The Ledger that owns it
// guards it.
type State struct {
	engine gm.Engine
	origin string
	time   int64 // of the newest leaf, Unix ms
	// witnessed is the newest time that a quorum or the authority has vouched for,
	// Unix ms; the time of the first leaf before that. See admits.
	witnessed int64
	size      uint64
	facts     factTable
	authors   map[exchange.Dept]authorState
	ids       map[authorID]placed
	back      map[tagKey]uint64 // 1 + index of the last access with the tag
	root      []byte            // the authority's first certificate, from genesis
}

// factTable holds the present version of each fact, by type and key.
type factTable map[FactType]map[string]*Fact

func (t factTable) get(typ FactType, key string) *Fact { return t[typ][key] }

func (t factTable) put(f *Fact) {
	if t[f.Type] == nil {
		t[f.Type] = map[string]*Fact{}
	}
	t[f.Type][f.Key] = f
}

type authorState struct {
	Seq  uint64
	Last gm.Digest
}

type authorID struct {
	author exchange.Dept
	id     ID
}

type placed struct {
	index uint64
	hash  gm.Digest // merkle.LeafHash of the entry
}

type tagKey struct {
	holder exchange.Dept
	epoch  string
	tag    Tag
}

func newState(e gm.Engine, origin string, authorityCert []byte) *State {
	return &State{engine: e, origin: origin, root: authorityCert, facts: factTable{},
		authors: map[exchange.Dept]authorState{}, ids: map[authorID]placed{}, back: map[tagKey]uint64{}}
}

// newLeaf is a leaf that Apply made, with what the ledger needs to go on.
type newLeaf struct {
	index uint64
	leaf  Leaf
	bytes []byte
	entry Entry
}

// acceptedFrame is a frame that brought leaves, with the certificate that was
// in force for its author when it came: what the verifier checks it against.
type acceptedFrame struct {
	*parsedFrame
	cert  []byte      // DER of the signing certificate
	clock *clockProof // of a committed clock entry
}

// parseBatch decodes a command of the replicated log. What does not parse must
// halt the node: an honest leader never proposes it, and skipping it could let
// two versions of the program differ.
// known, which may be nil, gives frames that this node has parsed before.
func parseBatch(e gm.Engine, cmd []byte, known func([]byte) *parsedFrame) (Batch, []*parsedFrame, error) {
	var b Batch
	if err := canon.Unmarshal(cmd, &b); err != nil {
		return b, nil, fmt.Errorf("%w: batch: %w", ErrFormat, err)
	}
	if b.Version != 1 {
		return b, nil, fmt.Errorf("%w: batch of version %d", ErrFormat, b.Version)
	}
	frames := make([]*parsedFrame, len(b.Frames))
	for i, raw := range b.Frames {
		if known != nil {
			if frames[i] = known(raw); frames[i] != nil {
				continue
			}
		}
		f, err := parseFrame(e, raw)
		if err != nil {
			return b, nil, err
		}
		frames[i] = f
	}
	return b, frames, nil
}

// apply brings the state forward by one batch. Frames that do not follow their
// author's last one, are by nobody who may write, or come later than anybody has
// witnessed leave no trace: their author learns it from its own replica and sends
// the entries again. late is the number of the last.
func (s *State) apply(b Batch, frames []*parsedFrame) (leaves []newLeaf, accepted []acceptedFrame, late int) {
	for _, f := range frames {
		cert, ok := s.accepts(f)
		if !ok {
			continue
		}
		at := max(s.time, b.Time)
		first := f.entries[0]
		if _, known := s.ids[authorID{f.Dept, first.ID}]; known {
			first = Entry{}
		}
		if !s.admits(first, at) {
			late++
			continue
		}
		s.time = at
		from := len(leaves)
		for pos, e := range f.entries {
			if _, known := s.ids[authorID{f.Dept, e.ID}]; known {
				continue
			}
			leaves = append(leaves, s.place(f, pos, e))
		}
		s.authors[f.Dept] = authorState{Seq: f.Seq, Last: f.hash}
		accepted = append(accepted, acceptedFrame{parsedFrame: f, cert: cert, clock: s.proofOf(leaves[from])})
	}
	return leaves, accepted, late
}

// follows reports whether f continues its author's chain in this ledger under
// the certificate in force, which it returns.
func (s *State) follows(f *parsedFrame) (cert []byte, ok bool) {
	last := s.authors[f.Dept]
	if f.Origin != s.origin || f.Seq != last.Seq+1 || f.Prev != last.Last {
		return nil, false
	}
	cert = s.signCert(f.Dept)
	return cert, cert != nil && s.engine.Sum(cert) == f.Cert
}

// accepts reports whether f follows and carries something new.
func (s *State) accepts(f *parsedFrame) (cert []byte, ok bool) {
	if cert, ok = s.follows(f); !ok {
		return nil, false
	}
	for _, e := range f.entries {
		if _, known := s.ids[authorID{f.Dept, e.ID}]; !known {
			return cert, true
		}
	}
	return nil, false
}

// signCert returns the signing certificate in force for dept, or nil.
func (s *State) signCert(dept exchange.Dept) []byte {
	fact := s.facts.get(FactCert, string(dept))
	if fact == nil {
		if dept == exchange.Authority {
			return s.root
		}
		return nil
	}
	if !fact.Active {
		return nil
	}
	certs, err := DecodeCerts(fact.Content)
	if err != nil {
		return nil
	}
	return certs.Sign
}

// renewal reports whether c sets certificates that follow old without a break.
func renewal(old *Fact, c *FactChange) bool {
	if c.Type != FactCert || old == nil || !old.Active {
		return false
	}
	before, err := DecodeCerts(old.Content)
	if err != nil {
		return false
	}
	next, err := DecodeCerts(c.Content)
	return err == nil && next.renews(before)
}

func (s *State) place(f *parsedFrame, pos int, e Entry) newLeaf {
	leaf := Leaf{Entry: f.raw[pos], Frame: f.hash, Pos: uint32(pos), Time: s.time}
	leaf.Result, leaf.Slot = s.judge(e)
	leaf.Back = s.backOf(e)
	n := newLeaf{index: s.size, leaf: leaf, bytes: canon.MustMarshal(leaf), entry: e}
	s.take(n, f.record.Leaves[pos])
	return n
}

// backOf returns the back-link of an entry that is about to be placed.
func (s *State) backOf(e Entry) uint64 {
	if e.Kind != KindAccess {
		return 0
	}
	return s.back[tagKey{e.Author, e.Access.Epoch, e.Access.HolderTag}]
}

// take records a judged leaf: the one way in which state changes, for new
// batches and for what is read back from disk.
func (s *State) take(n newLeaf, entryHash gm.Digest) {
	if n.leaf.Pos == 0 {
		s.witnessed = max(s.witnessed, s.witness(n.entry))
	}
	if n.index == 0 {
		s.witnessed = max(s.witnessed, n.leaf.Time)
	}
	s.size = n.index + 1
	s.time = n.leaf.Time
	s.ids[authorID{n.entry.Author, n.entry.ID}] = placed{n.index, entryHash}
	if a := n.entry.Access; a != nil {
		s.back[tagKey{n.entry.Author, a.Epoch, a.HolderTag}] = s.size
	}
	if n.leaf.Result != Committed {
		return
	}
	switch n.entry.Kind {
	case KindAccess:
		s.countRead(n.entry.Access)
	case KindFact:
		s.takeFact(n)
	}
}

func (s *State) countRead(a *Access) {
	if fact := s.facts.get(FactAuthority, a.Basis.At(SlotAuthority).Key); fact != nil && a.Outcome != exchange.Refused {
		next := *fact
		next.Reads++
		s.facts.put(&next)
	}
}

func (s *State) takeFact(n newLeaf) {
	c := n.entry.Fact
	next := Fact{Type: c.Type, Key: c.Key, Active: true, Provider: c.Provider, Grantee: c.Grantee, NotBefore: c.NotBefore,
		NotAfter: c.NotAfter, MaxReads: c.MaxReads, Content: c.Content, Commitment: c.Commitment}
	old := s.facts.get(c.Type, c.Key)
	if c.Action == Withdraw {
		next = *old
		next.Active = false
	}
	next.Version, next.Time, next.Entry, next.Author = n.index+1, n.leaf.At(), n.entry.ID, n.entry.Author
	if next.Since = next.Version; c.Action == Set && renewal(old, c) {
		next.Since = old.Since
	}
	s.facts.put(&next)
}

// restore takes back a leaf that was stored, with the record of its frame, and
// returns the frame when the leaf is its first. The disk is not believed: the
// leaf is judged again, and what comes out otherwise is refused.
func (s *State) restore(index uint64, b []byte, r FrameRecord) (newLeaf, *acceptedFrame, error) {
	bad := func(what string) error { return fmt.Errorf("%w: stored leaf %d: %s", ErrFormat, index, what) }
	leaf, entry, err := DecodeLeaf(b)
	if err != nil {
		return newLeaf{}, nil, fmt.Errorf("stored leaf %d: %w", index, err)
	}
	_, known := s.ids[authorID{entry.Author, entry.ID}]
	switch {
	case index != s.size || known:
		return newLeaf{}, nil, bad("it does not continue the leaves before it")
	case int(leaf.Pos) >= len(r.Leaves) || FrameHash(s.engine, r.Body, r.Sig) != leaf.Frame ||
		merkle.LeafHash(s.engine, leaf.Entry) != r.Leaves[leaf.Pos]:
		return newLeaf{}, nil, bad("it does not match its frame")
	case leaf.Time < s.time:
		return newLeaf{}, nil, bad("its time is before the one in front")
	case entry.Kind == KindClock && len(r.Leaves) > 1:
		return newLeaf{}, nil, bad("a clock entry is not alone in its frame")
	}
	var first Entry
	if leaf.Pos == 0 {
		first = entry
	}
	if !s.admits(first, leaf.Time) {
		return newLeaf{}, nil, bad("nobody has witnessed its time")
	}
	var accepted *acceptedFrame
	if s.authors[entry.Author].Last != leaf.Frame {
		if accepted, err = s.restoreFrame(leaf.Frame, r); err != nil {
			return newLeaf{}, nil, fmt.Errorf("stored leaf %d: %w", index, err)
		}
		if accepted.Dept != entry.Author {
			return newLeaf{}, nil, bad("its frame is another department's")
		}
		s.authors[entry.Author] = authorState{Seq: accepted.Seq, Last: leaf.Frame}
	}
	s.time = leaf.Time
	if result, slot := s.judge(entry); result != leaf.Result || slot != leaf.Slot || s.backOf(entry) != leaf.Back {
		return newLeaf{}, nil, bad("the leaves before it give it another result")
	}
	n := newLeaf{index: index, leaf: leaf, bytes: b, entry: entry}
	s.take(n, r.Leaves[leaf.Pos])
	if accepted != nil {
		accepted.clock = s.proofOf(n)
	}
	return n, accepted, nil
}

// restoreFrame checks a stored frame record as apply checked the frame: its
// body must cover its leaves and follow its author's chain.
func (s *State) restoreFrame(hash gm.Digest, r FrameRecord) (*acceptedFrame, error) {
	f := &parsedFrame{hash: hash, record: r}
	if err := canon.Unmarshal(r.Body, &f.FrameBody); err != nil {
		return nil, fmt.Errorf("%w: frame body: %w", ErrFormat, err)
	}
	if f.Suite != gm.Suite || int(f.Count) != len(r.Leaves) || merkle.Root(s.engine, r.Leaves) != f.Root {
		return nil, fmt.Errorf("%w: frame %d of %s does not cover its leaves", ErrFormat, f.Seq, f.Dept)
	}
	cert, ok := s.follows(f)
	if !ok {
		return nil, fmt.Errorf("%w: frame %d of %s does not follow the one before", ErrFormat, f.Seq, f.Dept)
	}
	return &acceptedFrame{parsedFrame: f, cert: cert}, nil
}
