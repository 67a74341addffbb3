package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/envelope"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
	"xinqiao/policy"
	"xinqiao/policy/authority"
	"xinqiao/policy/rule"
)

// The departments of these tests, and what the exchanges are about.
const (
	holder exchange.Dept = "minzheng"
	asker  exchange.Dept = "zhujian"
	other  exchange.Dept = "gongan" // before the holder in order of name

	marriage   exchange.Item     = "civil/marriage-record"
	testMatter exchange.Matter   = "000725001000"
	purpose    exchange.Purpose  = "housing-eligibility"
	testCase   exchange.Case     = "ZJ-2026-0417"
	handler    exchange.Operator = "op-0417"
	reviewer   exchange.Operator = "op-0502"
	origin                       = "test.xinqiao.example/ledger"
	spouseName                   = "配偶甲"
)

const baselineText = `baseline: test-baseline
purposes: [{code: housing-eligibility, zh: 住房保障, en: Housing}, {code: social-subsidy, zh: 补贴, en: Subsidy}]
matters: [{code: 000725001000, zh: 住房保障, en: Housing}, {code: 000714003000, zh: 补贴, en: Subsidy}]
roles: [{code: case_handler, zh: 经办人, en: case handler}, {code: reviewer, zh: 复核人, en: reviewer}]
bases: [consent]
forbid: [{id: no-photo, fields: [photo], above: never, article: 个人信息保护法 第二十八条}]
examples:
  - allow: {dept: zhujian, item: civil/marriage-record, views: {marital_status: value}}
  - deny: {dept: zhujian, item: civil/marriage-record, views: {photo: value}}
    because: baseline
`

const ruleText = `rule: marriage-01
item: civil/marriage-record
provider: minzheng
to: [{dept: zhujian, matters: [000725001000], roles: [case_handler]}, {dept: gongan, matters: [000725001000], roles: [case_handler]}]
purposes: [housing-eligibility]
basis: [consent]
fields: {marital_status: value, spouse_name: value, registered_on: value, remarks: mask, photo: never}
limits: {per_case: 10, batch: 1}
retain: P30D
onward: deny
valid: {from: 2025-08-01, to: 2036-01-01}
examples:
  - allow: {views: {marital_status: value}}
  - allow: {views: {spouse_name: value}}
  - deny: {views: {photo: value}}
    because: field
  - deny: {purpose: social-subsidy, views: {marital_status: value}}
    because: purpose
  - deny: {role: reviewer, views: {marital_status: value}}
    because: operator
`

func restrictionsText(dept exchange.Dept) string {
	return "restrictions: own-01\ndept: " + string(dept) + `
limit: [{id: handlers, roles: [case_handler]}]
examples:
  - allow: {item: civil/marriage-record, views: {marital_status: value}}
  - deny: {item: civil/marriage-record, purpose: social-subsidy, role: reviewer, views: {marital_status: value}}
    because: requester
`
}

// person returns a synthetic subject: its check character is wrong.
func person(digits string) exchange.Subject {
	last := byte('0')
	if exchange.CitizenCheck(digits) == last {
		last = '1'
	}
	return exchange.Subject{Kind: exchange.Person, ID: digits + string(last)}
}

func wife() exchange.Subject     { return person("99010119900307001") }
func stranger() exchange.Subject { return person("99010119850101002") } // on record nowhere
func value(f exchange.Field) exchange.View {
	return exchange.View{Field: f, Mode: exchange.Value}
}

// member is one department with its keys, which outlive the worlds of a test.
type member struct {
	dept      exchange.Dept
	keys      *keyring.Keyring
	sign, enc []byte
	tickets   []authority.Ticket
}

// cast is who plays: keys, certificates and the first frames of the ledger.
type cast struct {
	engine    gm.Engine
	ca        *cert.CA
	root      *cert.Root
	authority *member
	members   map[exchange.Dept]*member
	base      time.Time
	frames    [][]byte
	record    material.Material // of the wife

	mu    sync.Mutex
	known map[string]identified
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func newCast(t testing.TB) *cast {
	t.Helper()
	c := &cast{engine: gm.Emmansun(), base: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC), members: map[exchange.Dept]*member{}, known: map[string]identified{}}
	caKeys := must[*keyring.Keyring](t)(keyring.Generate(c.engine))
	ca, _, err := cert.NewCA("test root", caKeys.TLSSigner(), c.base.Add(-time.Hour), 5*365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c.ca, c.root = ca, ca.Root()
	for _, dept := range []exchange.Dept{exchange.Authority, holder, asker, other} {
		m := c.enrol(t, dept, c.base)
		if dept == exchange.Authority {
			c.authority = m
		} else {
			c.members[dept] = m
		}
	}
	c.found(t)
	c.record = c.issue(t, wife(), marriage)
	return c
}

// enrol gives a department new keys and certificates of them, for a year.
func (c *cast) enrol(t testing.TB, dept exchange.Dept, at time.Time) *member {
	t.Helper()
	m := &member{dept: dept, keys: must[*keyring.Keyring](t)(keyring.Generate(c.engine))}
	issue := func(u cert.Usage, k gm.PublicKey) []byte {
		return must[[]byte](t)(c.ca.Issue(cert.Request{Dept: string(dept), Usage: u, Key: k, Lifetime: 365 * 24 * time.Hour}, at))
	}
	m.sign, m.enc = issue(cert.Signing, m.keys.SignPublic()), issue(cert.Encryption, m.keys.EncPublic())
	return m
}

// issue certifies a record of the holder's about a subject.
func (c *cast) issue(t testing.TB, subject exchange.Subject, item exchange.Item) material.Material {
	t.Helper()
	m := c.members[holder]
	return must[material.Material](t)(material.Issue(c.engine, m.keys, rand.Reader, material.Draft{Item: item, Schema: 1,
		Subject: subject, Issuer: holder, Cert: c.engine.Sum(m.sign), IssuedAt: c.base.Add(-24 * time.Hour),
		Fields: []material.FieldValue{{Field: "marital_status", Value: "married"}, {Field: "spouse_name", Value: spouseName},
			{Field: "registered_on", Value: "2019-05-20"}, {Field: "remarks", Value: "none"}}}))
}

func catalogueOf(dept exchange.Dept) []exchange.CatalogueItem {
	if dept != holder {
		return []exchange.CatalogueItem{}
	}
	item := exchange.CatalogueItem{Item: marriage, Holder: holder, Title: "婚姻登记信息", TitleEN: "Marriage record", Version: 1, Sharing: "conditional"}
	for _, f := range []exchange.Field{"marital_status", "spouse_name", "registered_on", "remarks", "photo"} {
		item.Fields = append(item.Fields, exchange.CatalogueField{Name: f, Title: string(f), TitleEN: string(f), Type: "text"})
	}
	return []exchange.CatalogueItem{item}
}

// found makes the first frame of each author.
func (c *cast) found(t testing.TB) {
	t.Helper()
	bundle := func(name, text string) []byte {
		return must[[]byte](t)(rule.EncodeBundle(map[string][]byte{name: []byte(text)}))
	}
	certs := func(m *member) []byte { return canon.MustMarshal(ledger.Certs{Sign: m.sign, Enc: m.enc}) }
	changes := []ledger.FactChange{
		{Type: ledger.FactCert, Key: string(exchange.Authority), Content: certs(c.authority)},
		{Type: ledger.FactBaseline, Key: string(exchange.Authority), Content: bundle(rule.BaselineFile, baselineText)}}
	for _, dept := range []exchange.Dept{holder, asker, other} {
		changes = append(changes, ledger.FactChange{Type: ledger.FactMember, Key: string(dept), Content: canon.MustMarshal(ledger.Member{Name: string(dept), NameEN: string(dept), Voter: true})},
			ledger.FactChange{Type: ledger.FactCert, Key: string(dept), Content: certs(c.members[dept])})
	}
	for _, to := range []exchange.Dept{asker, other} {
		g := authority.Grant{Suite: gm.Suite, ID: must[ledger.ID](t)(ledger.NewID()), Provider: holder, Requester: to, Class: marriage.Class(),
			Scenario: "test", Basis: "test", NotBefore: c.base.Add(-time.Hour).Unix(), NotAfter: c.base.Add(300 * 24 * time.Hour).Unix(),
			Items: []policy.GrantItem{{Item: marriage, Purposes: []exchange.Purpose{purpose}, Views: []exchange.View{value("marital_status"),
				value("spouse_name"), value("registered_on"), {Field: "remarks", Mode: exchange.Mask}}}}}
		changes = append(changes, ledger.FactChange{Type: ledger.FactGrant, Key: ledger.ID(g.ID).String(), Provider: holder, Grantee: to,
			NotBefore: g.NotBefore, NotAfter: g.NotAfter, Content: must[[]byte](t)(g.Encode())})
	}
	c.frames = append(c.frames, c.frame(t, c.authority, changes))
	for _, dept := range []exchange.Dept{holder, asker, other} {
		m := c.members[dept]
		roster, tickets, err := authority.NewRoster(c.engine, rand.Reader, []authority.Operator{{ID: handler, Role: "case_handler"}})
		if err != nil {
			t.Fatal(err)
		}
		m.tickets = tickets
		own := []ledger.FactChange{
			{Type: ledger.FactCatalogue, Key: string(dept), Content: canon.MustMarshal(catalogueOf(dept))},
			{Type: ledger.FactRestrictions, Key: string(dept), Content: bundle(rule.RestrictionsFile, restrictionsText(dept))},
			{Type: ledger.FactRoster, Key: string(dept), Content: must[[]byte](t)(roster.Encode())},
			{Type: ledger.FactStatus, Key: string(dept), Content: canon.MustMarshal([][]byte{})}}
		if dept == holder {
			own = append(own, ledger.FactChange{Type: ledger.FactRules, Key: string(dept), Content: bundle("marriage.yaml", ruleText)})
		}
		c.frames = append(c.frames, c.frame(t, m, own))
	}
}

func (c *cast) frame(t testing.TB, m *member, changes []ledger.FactChange) []byte {
	t.Helper()
	var entries [][]byte
	for _, change := range changes {
		change.Action = ledger.Set
		e := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: must[ledger.ID](t)(ledger.NewID()), Author: m.dept, Origin: c.base.UnixMilli(), Fact: &change}
		entries = append(entries, must[[]byte](t)(e.Encode()))
	}
	return must[[]byte](t)(ledger.NewFrame(c.engine, m.keys, origin, m.dept, c.engine.Sum(m.sign), 1, gm.Digest{}, entries))
}

// identified is what checking a certificate came to. Nothing but the arguments
// goes into it, so the worlds of a test share it.
type identified struct {
	dept string
	key  gm.PublicKey
	err  error
}

func (c *cast) identify(usage cert.Usage) Identify {
	return func(der []byte, at time.Time) (string, gm.PublicKey, error) {
		name := fmt.Sprint(usage, at.UnixMilli(), "\x00", string(der))
		c.mu.Lock()
		id, known := c.known[name]
		c.mu.Unlock()
		if !known {
			who, err := c.root.Verify(der, at)
			if err == nil && who.Usage != usage {
				err = errors.New("the certificate is for another use")
			}
			id = identified{who.Dept, who.Key, err}
			c.mu.Lock()
			c.known[name] = id
			c.mu.Unlock()
		}
		return id.dept, id.key, id.err
	}
}

// world is three nodes over one order of frames. Its clock moves by hand.
type world struct {
	*cast
	t     testing.TB
	sites map[exchange.Dept]*site
	clock atomic.Int64 // Unix ms
	logs  *syncBuffer
	// ask carries a request; a test that plays a man in the middle replaces it.
	ask func(ctx context.Context, from, to exchange.Dept, msg []byte) ([]byte, error)

	mu    sync.Mutex
	log   [][]byte // batches
	late  [][]byte // frames that were dropped, and are on their way still
	fate  func(from exchange.Dept) fate
	order []exchange.Dept
}

// fate is what becomes of a proposed frame.
type fate int

const (
	deliver fate = iota
	refuse       // certainly not handed on
	drop         // lost, and nobody knows
	lose         // committed, and the proposer does not learn it
)

// site is one node.
type site struct {
	*member
	w      *world
	ledger *ledger.Ledger
	broker *Broker
	store  *memStore
	source *records
	later  atomic.Pointer[member] // the keys and certificates that renew member's
	crash  atomic.Pointer[func(point string)]
	gate   atomic.Pointer[func(e ledger.Entry)] // before a leaf counts as verified
	pos    int                                  // world.mu: batches delivered
	held   bool                                 // world.mu: nothing is delivered
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// play runs fn in a world of its own, under virtual time: what a node waits for
// in vain costs nothing.
func (c *cast) play(t *testing.T, fn func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := c.newWorld(t)
		fn(t, w)
	})
}

func (c *cast) newWorld(t testing.TB) *world {
	w := &world{cast: c, t: t, sites: map[exchange.Dept]*site{}, logs: &syncBuffer{}, order: []exchange.Dept{holder, asker, other}}
	w.clock.Store(c.base.UnixMilli())
	w.ask = func(ctx context.Context, from, to exchange.Dept, msg []byte) ([]byte, error) {
		return w.sites[to].broker.Answer(ctx, from, msg)
	}
	for _, dept := range w.order {
		s := &site{member: c.members[dept], w: w, store: newMemStore(), source: &records{}}
		if dept == holder {
			s.source.put(wife(), c.record)
		}
		var err error
		s.ledger, err = ledger.Open(ledger.Config{Origin: origin, Self: dept, Signers: s.signers,
			AuthorityCert: c.authority.sign, Engine: c.engine, Second: c.engine, Storage: newMemLedger(),
			Identify: c.identify(cert.Signing), Clock: w.now, Log: w.logger(), Verified: func(_ uint64, _ ledger.Leaf, e ledger.Entry, _ gm.Digest) {
				if fn := s.gate.Load(); fn != nil {
					(*fn)(e)
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
		w.sites[dept] = s
		s.restart()
	}
	for _, frame := range c.frames {
		w.mu.Lock()
		w.commit(frame)
		w.mu.Unlock()
	}
	for _, s := range w.sites {
		s.ledger.Start(s)
		t.Cleanup(func() {
			if err := s.ledger.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return w
}

func (w *world) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// restart puts a new Broker over the same ledger and store.
func (s *site) restart() {
	c := s.w.cast
	s.broker = New(Config{Self: s.dept, Population: exchange.Synthetic, Engine: c.engine, Ledger: s.ledger, Keys: s.keys,
		Signers: s.signers, Openers: s.openers,
		Authority:   envelope.Recipient{ID: c.engine.Sum(c.authority.enc), Key: c.authority.keys.EncPublic()},
		SigningCert: c.identify(cert.Signing), SealingCert: c.identify(cert.Encryption), Source: s.source, Peer: carrier{s.w, s.dept},
		Store: s.store, Roster: s.tickets, Clock: s.w.now, Log: s.w.logger(), Observe: func(string, time.Duration, time.Duration) {},
		Crash: func(point string) {
			if fn := s.crash.Load(); fn != nil {
				(*fn)(point)
			}
		}})
}

// signers and openers have the keys of the first certificates and of the later.
func (s *site) signers(cert gm.Digest) (ledger.SigningKey, bool) {
	for _, m := range s.generations() {
		if s.w.engine.Sum(m.sign) == cert {
			return ledger.SigningKey{Signer: m.keys, Public: m.keys.SignPublic()}, true
		}
	}
	return ledger.SigningKey{}, false
}

func (s *site) openers() (list []Opener) {
	for _, m := range s.generations() {
		list = append(list, Opener{ID: s.w.engine.Sum(m.enc), Unwrapper: m.keys})
	}
	return list
}

func (s *site) generations() []*member {
	if m := s.later.Load(); m != nil {
		return []*member{m, s.member}
	}
	return []*member{s.member}
}

// once runs fn the first time that the node reaches the point.
func (s *site) once(point string, fn func()) {
	var done atomic.Bool
	hook := func(at string) {
		if at == point && !done.Swap(true) {
			fn()
		}
	}
	s.crash.Store(&hook)
}

type carrier struct {
	w    *world
	from exchange.Dept
}

func (c carrier) Ask(ctx context.Context, to exchange.Dept, msg []byte) ([]byte, error) {
	return c.w.ask(ctx, c.from, to, msg)
}

func (w *world) now() time.Time { return time.UnixMilli(w.clock.Load()).UTC() }

// advance moves the clock, with a checkpoint before and after, as it would be.
func (w *world) advance(d time.Duration) {
	w.t.Helper()
	w.cosign()
	w.clock.Add(d.Milliseconds())
	w.cosign()
}

// cosign brings a checkpoint over the whole ledger to every node.
func (w *world) cosign() {
	w.t.Helper()
	first := w.sites[holder].ledger
	size := first.Size()
	root := must[gm.Digest](w.t)(first.Root(size))
	note := checkpoint.Note{Checkpoint: checkpoint.Checkpoint{Origin: origin, Size: size, Root: root}}
	for _, dept := range w.order {
		note.Cosignatures = append(note.Cosignatures, must[checkpoint.Cosignature](w.t)(w.sites[dept].ledger.Cosign(w.t.Context(), size, root)))
	}
	for _, dept := range w.order {
		if err := w.sites[dept].ledger.Accept(w.t.Context(), note.Encode()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// Propose is the consensus: one order, delivered to every node that is not held.
func (s *site) Propose(_ context.Context, frame []byte) error {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	f := deliver
	if w.fate != nil {
		f = w.fate(s.dept)
	}
	switch f {
	case refuse:
		return ledger.ErrNotProposed
	case drop:
		w.late = append(w.late, frame)
		return ledger.ErrUndetermined
	}
	if err := s.ledger.CheckFrame(frame); err != nil {
		return err
	}
	w.commit(frame)
	if f == lose {
		return ledger.ErrUndetermined
	}
	return nil
}

// commit orders a frame. The caller holds mu.
func (w *world) commit(frame []byte) {
	w.log = append(w.log, must[[]byte](w.t)(ledger.EncodeBatch(w.now(), [][]byte{frame})))
	for _, dept := range w.order {
		w.catchUp(w.sites[dept])
	}
}

func (w *world) catchUp(s *site) {
	for !s.held && s.pos < len(w.log) {
		s.pos++
		if err := s.ledger.ApplyBatch(uint64(s.pos), w.log[s.pos-1]); err != nil {
			w.t.Errorf("%s: apply: %v", s.dept, err)
			return
		}
	}
}

// hold keeps batches from a node, or lets them through.
func (w *world) hold(dept exchange.Dept, held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sites[dept].held = held
	w.catchUp(w.sites[dept])
}

// setFate decides about the frames that come; nil delivers.
func (w *world) setFate(fn func(from exchange.Dept) fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fate = fn
}

// deliverLate brings what was dropped after all.
func (w *world) deliverLate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, frame := range w.late {
		w.commit(frame)
	}
	w.late = nil
}

// decree has the sharing authority change one fact. It runs no node; its second
// frame follows the one that founded the ledger.
func (w *world) decree(change ledger.FactChange) {
	w.t.Helper()
	var first ledger.Frame
	w.ok(canon.Unmarshal(w.frames[0], &first))
	e := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: must[ledger.ID](w.t)(ledger.NewID()), Author: exchange.Authority,
		Origin: w.now().UnixMilli(), Fact: &change}
	frame := must[[]byte](w.t)(ledger.NewFrame(w.engine, w.authority.keys, origin, exchange.Authority, w.engine.Sum(w.authority.sign), 2,
		ledger.FrameHash(w.engine, first.Body, first.Sig), [][]byte{must[[]byte](w.t)(e.Encode())}))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commit(frame)
}

// publish has a department change a fact of its own.
func (w *world) publish(dept exchange.Dept, change ledger.FactChange) {
	w.t.Helper()
	b := w.sites[dept].broker
	if change.Action == ledger.Set {
		change.Replaces = w.factRef(change.Type, change.Key).Version
	}
	w.ok(b.append(w.t.Context(), "test", must[ledger.Entry](w.t)(b.factEntry(change))))
}

// reads returns how often the ledger says that the authority was read.
func (w *world) reads(id string) uint32 {
	w.t.Helper()
	return must[exchange.AuthorityInfo](w.t)(w.sites[holder].broker.Authority(w.t.Context(), id)).Reads
}

// access is one access entry as the ledger has it.
type access struct {
	ledger.Access
	id     ledger.ID
	result ledger.Result
}

// delivered waits until what is being committed has reached every node: it
// reaches the requester, who goes on, before the last.
func (w *world) delivered() {
	w.mu.Lock()
	defer w.mu.Unlock()
}

// accesses lists the access entries that a node's replica holds.
func (w *world) accesses(at exchange.Dept) (list []access) {
	w.t.Helper()
	w.delivered()
	l := w.sites[at].ledger
	for i := range l.Size() {
		leaf, e, err := ledger.DecodeLeaf(must[[]byte](w.t)(l.Leaf(i)))
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Access != nil {
			list = append(list, access{*e.Access, e.ID, leaf.Result})
		}
	}
	return list
}

// released counts committed accesses that let an answer out.
func (w *world) released(at exchange.Dept) (n int) {
	for _, a := range w.accesses(at) {
		if a.result == ledger.Committed && a.Outcome != exchange.Refused {
			n++
		}
	}
	return n
}

// form is the wife's consent towards the holder.
func (w *world) form(reads uint32) exchange.ConsentForm {
	return exchange.ConsentForm{Provider: holder, Subject: wife(), Matter: testMatter, Case: testCase, Purposes: []exchange.Purpose{purpose},
		Views:    []exchange.ItemView{{Item: marriage, View: value("marital_status")}, {Item: marriage, View: value("spouse_name")}},
		NotAfter: w.now().Add(72 * time.Hour), MaxReads: reads, Channel: "window", Officers: []exchange.Operator{handler, reviewer},
		Notice:   exchange.Notice{Template: "N-17", Version: 4, Hash: strings.Repeat("5a", 32), Lang: "zh-CN"},
		Evidence: []string{strings.Repeat("a5", 32)}}
}

// consent registers one and returns its id.
func (w *world) consent(reads uint32) string {
	w.t.Helper()
	return must[exchange.AuthorityInfo](w.t)(w.sites[asker].broker.Register(w.t.Context(), "counter", rand.Text(), w.form(reads))).ID
}

func question(authorityID string) exchange.Question {
	return exchange.Question{Holder: holder, Item: marriage, Subject: wife(), Views: []exchange.View{value("marital_status"), value("spouse_name")},
		Purpose: purpose, Matter: testMatter, Case: testCase, Operator: handler, Authority: authorityID}
}

func (w *world) askWith(key string, q exchange.Question) (exchange.Answer, error) {
	return w.sites[asker].broker.Ask(w.t.Context(), "counter", key, q)
}
