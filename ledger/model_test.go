package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
)

// model says what becomes of entries in the most literal way: it keeps nothing
// but the history and searches it backwards for every question.
type model struct {
	history []happened
	now     int64 // Unix ms
}

type happened struct {
	entry  Entry
	result Result
	at     int64 // Unix ms
	first  bool  // at place 0 of its frame
	quorum int   // of the members then
}

// latest returns the last change of a fact that took effect, and its version.
func (m *model) latest(t FactType, key string) (c *FactChange, version uint64) {
	for i := len(m.history) - 1; i >= 0; i-- {
		if h := m.history[i]; h.result == Committed && h.entry.Fact != nil && h.entry.Fact.Type == t && h.entry.Fact.Key == key {
			return h.entry.Fact, uint64(i + 1)
		}
	}
	return nil, 0
}

// unbroken returns the oldest version of a fact behind which nothing was lost:
// later ones only renewed certificates, listing all that stood before.
func (m *model) unbroken(t FactType, key string) (version uint64) {
	var before *FactChange
	for i, h := range m.history {
		c := h.entry.Fact
		if c == nil || h.result != Committed || c.Type != t || c.Key != key {
			continue
		}
		if t != FactCert || before == nil || before.Action == Withdraw || c.Action == Withdraw || !listsAll(before.Content, c.Content) {
			version = uint64(i + 1)
		}
		before = c
	}
	return version
}

func listsAll(before, after []byte) bool {
	b, errBefore := DecodeCerts(before)
	a, errAfter := DecodeCerts(after)
	if errBefore != nil || errAfter != nil {
		return false
	}
	stood := append([]CertPair{{Sign: b.Sign, Enc: b.Enc}}, b.Earlier...)
	return cmp.Equal(stood, a.Earlier)
}

func (m *model) known(author exchange.Dept, id ID) bool {
	return slices.ContainsFunc(m.history, func(h happened) bool { return h.entry.Author == author && h.entry.ID == id })
}

func (m *model) active(t FactType, key string) bool {
	c, _ := m.latest(t, key)
	return c != nil && c.Action == Set
}

func (m *model) reads(consent string) (n uint32) {
	for _, h := range m.history {
		if a := h.entry.Access; a != nil && h.result == Committed && a.Outcome != exchange.Refused && a.Basis[8].Key == consent {
			n++
		}
	}
	return n
}

// witnessed returns the newest time that anybody but a leader has vouched for.
func (m *model) witnessed() (ms int64) {
	for i, h := range m.history {
		if i == 0 {
			ms = h.at
		}
		switch {
		case h.first && h.entry.Author == exchange.Authority:
			ms = max(ms, h.entry.Origin)
		case h.entry.Clock != nil && h.result == Committed:
			ms = max(ms, quorumReached(h.entry.Clock, h.quorum))
		}
	}
	return ms
}

// members counts them.
func (m *model) members() (n int) {
	for _, d := range depts() {
		if m.active(FactMember, string(d)) {
			n++
		}
	}
	return n
}

// quorum is the least q with 2q > n+f.
func quorum(n int) (q int) {
	for q = 1; 2*q <= n+(n-1)/3; q++ {
	}
	return q
}

// quorumReached is the newest time that q of the cosigners had reached.
func quorumReached(c *Clock, q int) (ms int64) {
	n, err := checkpoint.Parse(c.Note)
	if err != nil {
		return 0
	}
	for _, s := range n.Cosignatures {
		later := 0
		for _, other := range n.Cosignatures {
			if !other.Time.Before(s.Time) {
				later++
			}
		}
		if later >= q {
			ms = max(ms, s.Time.UnixMilli())
		}
	}
	return ms
}

// stands reports whether a quorum of today's members, by their certificates of
// today, stands behind a clock entry that is worth its leaf.
func (m *model) stands(c *Clock) bool {
	n, err := checkpoint.Parse(c.Note)
	if err != nil || n.Origin != testOrigin || n.Size > uint64(len(m.history)) || len(n.Cosignatures) < quorum(m.members()) {
		return false
	}
	for i, s := range n.Cosignatures {
		cert, version := m.latest(FactCert, s.Name)
		if !m.active(FactMember, s.Name) || cert == nil || cert.Action != Set || version != c.Certs[i] {
			return false
		}
	}
	return quorumReached(c, quorum(m.members())) >= m.witnessed()+60_000
}

// admits says whether a frame whose first new entry stands at place 0, or not,
// may come at a time.
func (m *model) admits(first *Entry, at int64) bool {
	limit := m.witnessed()
	switch {
	case len(m.history) == 0:
		return true
	case first == nil:
	case first.Author == exchange.Authority:
		limit = max(limit, first.Origin)
	case first.Clock != nil && m.judge(*first) == Committed:
		limit = max(limit, quorumReached(first.Clock, quorum(m.members())))
	}
	return at <= limit+600_000
}

func (m *model) judge(e Entry) Result {
	writer := e.Author == exchange.Authority || m.active(FactMember, string(e.Author))
	switch {
	case e.Clock != nil && writer && !m.stands(e.Clock):
		return Stale
	case e.Access != nil && e.Access.Outcome != exchange.Refused:
		if !m.holds(e.Access) {
			return Stale
		}
	case e.Fact != nil:
		return m.judgeFact(e.Author, e.Fact, writer)
	}
	if !writer {
		return Rejected
	}
	return Committed
}

func (m *model) holds(a *Access) bool {
	h, r := string(a.Holder), string(a.Requester)
	for i, want := range []struct {
		t   FactType
		key string
	}{{FactBaseline, "authority"}, {FactRules, h}, {FactRestrictions, r}, {FactMember, h}, {FactMember, r}, {FactCert, h}, {FactCert, r},
		{FactGrant, ""}, {FactAuthority, ""}, {FactCase, ""}, {FactRoster, r}, {FactStatus, h}} {
		ref := a.Basis[i]
		c, version := m.latest(want.t, ref.Key)
		switch {
		case c == nil || ref.Version < m.unbroken(want.t, ref.Key) || ref.Version > version || c.Action != Set || want.key != "" && ref.Key != want.key:
			return false
		case want.key == "" && (c.Provider != a.Holder || c.Grantee != a.Requester):
			return false
		case c.NotBefore > 0 && m.now < 1000*c.NotBefore || c.NotAfter > 0 && m.now >= 1000*c.NotAfter:
			return false
		case c.MaxReads > 0 && want.t == FactAuthority && m.reads(ref.Key) >= c.MaxReads:
			return false
		}
	}
	return true
}

func (m *model) judgeFact(author exchange.Dept, c *FactChange, writer bool) Result {
	old, version := m.latest(c.Type, c.Key)
	self, by := string(author) == c.Key, author == exchange.Authority
	var may bool
	switch c.Type {
	case FactBaseline, FactMember:
		may = by
	case FactCert:
		may = by || self && (c.Action == Withdraw || old != nil)
	case FactGrant:
		may = by || c.Action == Withdraw && author == c.Provider
	case FactAuthority:
		may = author == c.Grantee || c.Action == Withdraw && (author == c.Provider || by)
	case FactCase:
		may = author == c.Grantee
	default:
		may = self
	}
	samePair := old == nil || old.Provider == c.Provider && old.Grantee == c.Grantee
	switch {
	case !writer || !may || !samePair:
		return Rejected
	case c.Action == Withdraw && (old == nil || old.Action == Withdraw):
		return Rejected
	case c.Action == Set && c.Provider != "" && old != nil:
		return Rejected
	case c.Action == Set && c.Replaces != version:
		return Stale
	}
	return Committed
}

// replica is a node of a property test: it applies when it is told to.
type replica struct {
	*Ledger
	storage *memStorage
	lags    bool
}

// machine drives replicas and the model through one random history.
type machine struct {
	t        *testing.T
	realm    *realm
	model    model
	log      [][]byte
	replicas []*replica // the first never lags
	chains   map[exchange.Dept]authorState
	bases    []Basis
	clock    int64 // of the leader, seconds; not monotone
	serial   int
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, realm: paperRealm(), chains: map[exchange.Dept]authorState{}, clock: 1_000_000}
	for range 3 {
		s := newMemStorage()
		m.replicas = append(m.replicas, &replica{Ledger: paperLedger(t, s), storage: s})
	}
	for _, entries := range m.realm.founding() {
		m.commit(t, entries, true)
	}
	return m
}

// commit sends entries as their author's next frame, and checks what became of
// them; follows is false for a frame that was made not to.
func (m *machine) commit(t rapid.TB, entries []Entry, follows bool) {
	author := entries[0].Author
	chain := m.chains[author]
	if !follows {
		chain.Seq++
	}
	frame := m.realm.parties[author].frameOf(m.t, chain, entries...)
	m.push(t, batchOf(m.t, time.Unix(m.clock, 0), frame))
	first, fresh := len(m.model.history), false
	at := max(m.model.now, 1000*m.clock)
	head := &entries[0]
	if m.model.known(author, head.ID) {
		head = nil
	}
	c, _ := m.model.latest(FactCert, string(author))
	if follows && (c == nil && author == exchange.Authority || c != nil && c.Action == Set) && m.model.admits(head, at) {
		for i, e := range entries {
			if !m.model.known(author, e.ID) {
				m.model.now = at
				h := happened{entry: e, result: m.model.judge(e), at: at, first: i == 0, quorum: quorum(m.model.members())}
				m.model.history = append(m.model.history, h)
				fresh = true
			}
		}
	}
	if fresh {
		p, err := parseFrame(gm.Emmansun(), frame)
		if err != nil {
			t.Fatal(err)
		}
		m.chains[author] = authorState{p.Seq, p.hash}
	}
	m.check(t, first)
}

func (m *machine) push(t rapid.TB, cmd []byte) {
	m.log = append(m.log, cmd)
	for _, r := range m.replicas {
		if !r.lags {
			m.deliver(t, r)
		}
	}
}

func (m *machine) deliver(t rapid.TB, r *replica) {
	for next := r.AppliedIndex(); next < uint64(len(m.log)); next++ {
		if err := r.ApplyBatch(next+1, m.log[next]); err != nil {
			t.Fatal(err)
		}
	}
}

// check compares the leaves from first on with the model, and the replicas with
// each other.
func (m *machine) check(t rapid.TB, first int) {
	ref := m.replicas[0]
	if ref.Size() != uint64(len(m.model.history)) {
		t.Fatalf("%d leaves, want %d", ref.Size(), len(m.model.history))
	}
	for i := first; i < len(m.model.history); i++ {
		b, err := ref.Leaf(uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		leaf, entry, err := DecodeLeaf(b)
		want := m.model.history[i]
		if err != nil || leaf.Result != want.result || entry.ID != want.entry.ID || leaf.Time != want.at {
			t.Fatalf("leaf %d (%s): %s %s, want %s: %v", i, entry.Kind, leaf.Result, leaf.Slot, want.result, err)
		}
		if (leaf.Slot == SlotNone) != (leaf.Result == Committed) {
			t.Fatalf("leaf %d: %s with slot %s", i, leaf.Result, leaf.Slot)
		}
	}
	for _, f := range ref.state.facts[FactAuthority] {
		if f.MaxReads > 0 && f.Reads > f.MaxReads {
			t.Fatalf("%d reads of %d", f.Reads, f.MaxReads)
		}
	}
	m.compare(t)
}

func (m *machine) compare(t rapid.TB) {
	ref := m.replicas[0]
	for i, r := range m.replicas {
		mine, err := r.Root(r.Size())
		if own, err2 := ref.Root(r.Size()); err != nil || err2 != nil || mine != own {
			t.Fatalf("replica %d has another tree at size %d", i, r.Size())
		}
	}
}

// crash opens a replica again on what its storage holds.
func (m *machine) crash(t rapid.TB, r *replica) {
	s := r.storage.clone()
	l, err := Open(paperConfig(s))
	if err != nil {
		t.Fatal(err)
	}
	r.Ledger, r.storage = l, s
	m.deliver(t, r)
	if r.lags = false; r.Size() != m.replicas[0].Size() {
		t.Fatalf("%d leaves after the crash", r.Size())
	}
	opts := cmp.Options{cmp.AllowUnexported(State{}, authorID{}, placed{}, tagKey{}), cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".engine"
	}, cmp.Ignore())}
	if d := cmp.Diff(m.replicas[0].state, r.state, opts); d != "" {
		t.Fatalf("state after the crash: %s", d)
	}
	m.compare(t)
}

func (m *machine) drawEntry(t *rapid.T, author exchange.Dept) Entry {
	m.serial++
	id := label(fmt.Sprint("entry ", m.serial))
	if past := m.model.history; rapid.IntRange(0, 9).Draw(t, "reuse") == 0 {
		id = past[rapid.IntRange(0, len(past)-1).Draw(t, "past")].entry.ID
	}
	dept := rapid.SampledFrom(depts())
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		return ackEntry(author, id, dept.Draw(t, "of"))
	case 1, 2, 3:
		if author == exchange.Authority {
			break
		}
		requester := dept.Filter(func(d exchange.Dept) bool { return d != author }).Draw(t, "requester")
		if author == "minzheng" && rapid.Bool().Draw(t, "usual") {
			requester = "zhujian"
		}
		if rapid.IntRange(0, 4).Draw(t, "denied") == 0 {
			return deniedEntry(author, requester, id)
		}
		b := basisOf(m.replicas[0].state, author, requester, m.drawKey(t, "grant"), m.drawKey(t, "consent"), m.drawKey(t, "case"))
		if rapid.IntRange(0, 3).Draw(t, "old") == 0 && len(m.bases) > 0 {
			b = rapid.SampledFrom(m.bases).Draw(t, "basis")
		}
		m.bases = append(m.bases, b)
		return accessEntry(author, requester, id, b)
	}
	return factEntry(author, id, m.drawChange(t, author))
}

// drawClock is mostly one that stands.
func (m *machine) drawClock(t *rapid.T, author exchange.Dept) Entry {
	m.serial++
	certs := map[exchange.Dept]uint64{}
	for _, d := range depts() {
		if rapid.IntRange(0, 5).Draw(t, "cosigns") > 0 || len(certs) == 0 {
			_, certs[d] = m.model.latest(FactCert, string(d))
		}
		if rapid.IntRange(0, 19).Draw(t, "old") == 0 {
			certs[d]--
		}
	}
	size := rapid.Uint64Range(1, uint64(len(m.model.history))).Draw(t, "size")
	if rapid.IntRange(0, 9).Draw(t, "future") == 0 {
		size += 100000
	}
	head := checkpoint.Checkpoint{Origin: testOrigin, Size: size}
	if rapid.IntRange(0, 9).Draw(t, "foreign") == 0 {
		head.Origin = "another/ledger"
	}
	e := m.realm.clockEntry(m.t, author, label(fmt.Sprint("clock ", m.serial)), head, time.Unix(m.clock, 0), certs)
	n, err := checkpoint.Parse(e.Clock.Note)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n.Cosignatures {
		n.Cosignatures[i].Time = time.Unix(m.clock+rapid.Int64Range(-300, 300).Draw(t, "skew"), 0)
	}
	e.Clock.Note = n.Encode()
	return e
}

// drawKey is mostly the one of the founding.
func (m *machine) drawKey(t *rapid.T, kind string) string {
	return label(rapid.SampledFrom([]string{kind, kind, kind, kind + "2", kind + "3"}).Draw(t, kind)).String()
}

func (m *machine) drawChange(t *rapid.T, author exchange.Dept) FactChange {
	c := FactChange{Type: FactType(rapid.IntRange(int(FactBaseline), int(FactCatalogue)).Draw(t, "type"))}
	if rapid.Bool().Draw(t, "consent") {
		c.Type = FactAuthority
	}
	dept := rapid.SampledFrom(depts())
	switch c.Type {
	case FactBaseline:
		c.Key = string(exchange.Authority)
	case FactGrant, FactAuthority, FactCase:
		c.Key = m.drawKey(t, map[FactType]string{FactGrant: "grant", FactAuthority: "consent", FactCase: "case"}[c.Type])
		c.Provider, c.Grantee = "minzheng", "zhujian"
		if rapid.IntRange(0, 3).Draw(t, "pair") == 0 {
			c.Provider = dept.Draw(t, "provider")
			c.Grantee = dept.Filter(func(d exchange.Dept) bool { return d != c.Provider }).Draw(t, "grantee")
		}
	case FactMember, FactCert:
		c.Key = string(dept.Draw(t, "key"))
	default:
		c.Key = string(author)
		if author == exchange.Authority || rapid.IntRange(0, 3).Draw(t, "foreign") == 0 {
			c.Key = string(dept.Draw(t, "key"))
		}
	}
	if c.Action = Withdraw; rapid.IntRange(0, 3).Draw(t, "withdraw") == 0 {
		return c
	}
	c.Action = Set
	if c.Type == FactCert {
		certs := Certs{Sign: m.realm.parties[exchange.Dept(c.Key)].cert}
		if old, _ := m.model.latest(FactCert, c.Key); old != nil && old.Action == Set && rapid.Bool().Draw(t, "renewal") {
			before, err := DecodeCerts(old.Content)
			if err != nil {
				t.Fatal(err)
			}
			certs = before.Renew(CertPair{Sign: certs.Sign, Enc: rapid.SliceOfN(rapid.Byte(), 0, 2).Draw(t, "enc")})
		}
		c.Content = canon.MustMarshal(certs)
	}
	if rapid.IntRange(0, 4).Draw(t, "replaces") > 0 {
		_, c.Replaces = m.model.latest(c.Type, c.Key)
	}
	if c.Type.pair() && rapid.Bool().Draw(t, "bounded") {
		c.MaxReads = rapid.Uint32Range(0, 2).Draw(t, "reads")
		c.NotBefore = m.clock + rapid.Int64Range(-2, 2).Draw(t, "from")
		c.NotAfter = c.NotBefore + rapid.Int64Range(1, 5).Draw(t, "for")
	}
	return c
}

// TestStateAgainstModel runs random histories on three replicas that lag and
// crash, and compares every leaf with what the history says.
func TestStateAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t)
		author := rapid.SampledFrom(append(depts(), exchange.Authority))
		other := func(rt *rapid.T) *replica { return m.replicas[rapid.IntRange(1, 2).Draw(rt, "replica")] }
		write := func(rt *rapid.T) {
			who := author.Draw(rt, "author")
			var entries []Entry
			for range rapid.IntRange(1, 4).Draw(rt, "entries") {
				entries = append(entries, m.drawEntry(rt, who))
			}
			switch rapid.IntRange(0, 5).Draw(rt, "witness") {
			case 0:
				entries = []Entry{m.drawClock(rt, who)}
			case 1:
				entries[0].Origin = 1000 * (m.clock + rapid.Int64Range(-600, 60).Draw(rt, "origin"))
			}
			m.commit(rt, entries, rapid.IntRange(0, 9).Draw(rt, "follows") > 0)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write":  write,
			"write2": write,
			"write3": write,
			"tick":   func(rt *rapid.T) { m.clock += rapid.Int64Range(-2, 3).Draw(rt, "by") },
			"jump":   func(rt *rapid.T) { m.clock += rapid.Int64Range(-500, 900).Draw(rt, "far") },
			"back":   func(*rapid.T) { m.clock = m.model.now / 1000 }, // its operator has set it right
			"resend": func(rt *rapid.T) { // the network repeats a command as a new one
				m.push(rt, m.log[len(m.log)-1])
				m.check(rt, len(m.model.history))
			},
			"lag":   func(rt *rapid.T) { other(rt).lags = true },
			"heal":  func(rt *rapid.T) { r := other(rt); r.lags = false; m.deliver(rt, r); m.compare(rt) },
			"crash": func(rt *rapid.T) { m.crash(rt, other(rt)) },
			"flush": func(rt *rapid.T) {
				if err := other(rt).flush(); err != nil {
					rt.Fatal(err)
				}
			},
		})
	})
}
