package verify

import (
	"crypto/rand"
	"encoding/binary"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
	"xinqiao/ledger/merkle"
)

const origin = "test.xinqiao/sm"

var (
	engine = gm.Emmansun()
	// ledgerTime is that of the entries; certificates are made a day before.
	ledgerTime = time.Date(2026, 3, 2, 8, 30, 0, 0, time.UTC)
)

// dept is one department with its key in hand.
type dept struct {
	Certificate
	key *gm.PrivateKey
}

func (d dept) Sign(domain string, body []byte) (gm.Signature, error) {
	return engine.Sign(d.key, gm.Preimage(domain, body))
}

// world is a small ledger made without a node.
type world struct {
	ca    *cert.CA
	below *cert.CA // under ca: issues for minzheng
	root  []byte
	depts map[exchange.Dept]dept
	tree  *merkle.Tree
	leaf  map[uint64][]byte
	frame map[uint64][]byte // encoded record
	seq   map[exchange.Dept]uint64
	prev  map[exchange.Dept]gm.Digest
	body  map[uint64][]byte
}

func newKey(t testing.TB) *gm.PrivateKey {
	t.Helper()
	k, err := gm.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{depts: map[exchange.Dept]dept{}, tree: merkle.New(engine), leaf: map[uint64][]byte{}, frame: map[uint64][]byte{},
		seq: map[exchange.Dept]uint64{}, prev: map[exchange.Dept]gm.Digest{}, body: map[uint64][]byte{}}
	var err error
	w.ca, w.root, err = cert.NewCA("test root", gm.NewSigner(engine, newKey(t)), ledgerTime.AddDate(0, 0, -1), 10*365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	k := newKey(t)
	der, err := w.ca.IssueCA("test issuing CA", k.Public(), ledgerTime.AddDate(0, 0, -1), 10*365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if w.below, err = cert.OpenIssuingCA(w.root, der, gm.NewSigner(engine, k)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []exchange.Dept{"minzheng", "zhujian", "gongan", exchange.Authority} {
		w.depts[name] = w.admit(t, name, cert.Signing)
	}
	return w
}

// admit issues a certificate for a new key.
func (w *world) admit(t testing.TB, name exchange.Dept, usage cert.Usage) dept {
	t.Helper()
	return w.admitFor(t, name, usage, 365*24*time.Hour)
}

func (w *world) admitFor(t testing.TB, name exchange.Dept, usage cert.Usage, life time.Duration) dept {
	t.Helper()
	k, ca := newKey(t), w.ca
	if name == "minzheng" {
		ca = w.below
	}
	der, err := ca.Issue(cert.Request{Dept: string(name), Usage: usage, Key: k.Public(), Lifetime: life},
		ledgerTime.AddDate(0, 0, -1))
	if err != nil {
		t.Fatal(err)
	}
	return dept{Certificate{Dept: name, DER: der, Key: k.Public()}, k}
}

// add appends entries of one author as one frame and returns the first index.
func (w *world) add(t testing.TB, entries ...ledger.Entry) uint64 {
	t.Helper()
	author := w.depts[entries[0].Author]
	first := w.tree.Size()
	var raw [][]byte
	for i, e := range entries {
		e.Suite, e.Origin = gm.Suite, ledgerTime.UnixMilli()
		e.ID = ledger.ID(binary.BigEndian.AppendUint64([]byte("entry id"), first+uint64(i)))
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, b)
	}
	name := author.Dept
	w.seq[name]++
	encoded, err := ledger.NewFrame(engine, author, origin, name, engine.Sum(author.DER), w.seq[name], w.prev[name], raw)
	if err != nil {
		t.Fatal(err)
	}
	var f ledger.Frame
	if err := canon.Unmarshal(encoded, &f); err != nil {
		t.Fatal(err)
	}
	record := ledger.FrameRecord{Body: f.Body, Sig: f.Sig}
	for _, b := range raw {
		record.Leaves = append(record.Leaves, merkle.LeafHash(engine, b))
	}
	hash := ledger.FrameHash(engine, f.Body, f.Sig)
	w.prev[name] = hash
	for i, b := range raw {
		index := w.tree.Size()
		w.leaf[index] = canon.MustMarshal(ledger.Leaf{Entry: b, Frame: hash, Pos: uint32(i),
			Time: ledgerTime.Add(time.Duration(index) * time.Second).UnixMilli(), Result: ledger.Committed})
		w.frame[index] = canon.MustMarshal(record)
		w.tree.Append(merkle.LeafHash(engine, w.leaf[index]))
	}
	return first
}

// access is an entry by minzheng about an answer to zhujian, with its body.
func access(t testing.TB, outcome exchange.Outcome, person string) (ledger.Entry, []byte) {
	t.Helper()
	b := ledger.Body{Salt: gm.Digest{1, 2, 3}, Item: "civil/marriage-record", Subject: exchange.Subject{Kind: exchange.Person, ID: person},
		Views:   []exchange.View{{Field: "status", Mode: exchange.Value}, {Field: "registered_on", Mode: exchange.Value}},
		Purpose: "housing-eligibility", Matter: "000123456789", Case: "ZJ-2026-0001", Operator: "op-17", Rule: "marriage-for-housing"}
	a := ledger.Access{Holder: "minzheng", Requester: "zhujian", Class: "civil", Outcome: outcome, Request: gm.Digest{1},
		HolderTag: ledger.Tag{1}, RequesterTag: ledger.Tag{2}, Epoch: "2026-03"}
	if outcome == exchange.Refused {
		b.Reasons = []exchange.Reason{{Code: exchange.DenyNoAuthority}}
	} else {
		a.Response = gm.Digest{2}
	}
	raw, commitment, err := b.Encode(engine)
	if err != nil {
		t.Fatal(err)
	}
	a.Body = commitment
	return ledger.Entry{Kind: ledger.KindAccess, Author: "minzheng", Access: &a}, raw
}

// story fills a ledger and returns the indices that the evidence is about: an
// allowed access with its body, a denied one, an acknowledgement and a fact.
func (w *world) story(t testing.TB) []uint64 {
	t.Helper()
	view := ledger.Entry{Kind: ledger.KindView, Author: "gongan", View: &ledger.Viewing{Action: "search", Body: gm.Digest{4}}}
	fact := ledger.Entry{Kind: ledger.KindFact, Author: exchange.Authority, Fact: &ledger.FactChange{Type: ledger.FactMember,
		Key: "zhujian", Action: ledger.Set, Content: []byte("…")}}
	allowed, body := access(t, exchange.Allowed, "11010119900307000X")
	denied, _ := access(t, exchange.Refused, "11010119900307000X")
	ack := ledger.Entry{Kind: ledger.KindAck, Author: "zhujian", Ack: &ledger.Ack{Holder: "minzheng", Entries: []ledger.ID{{9}}}}
	about := []uint64{w.add(t, fact), w.add(t, view, view, view) + 3}
	w.add(t, allowed, denied)
	w.body[about[1]] = body
	about = append(about, about[1]+1, w.add(t, ack))
	for range 7 {
		w.add(t, view, view)
	}
	return about
}

// note is the present head with the cosignatures of by.
func (w *world) note(t testing.TB, by ...exchange.Dept) []byte {
	t.Helper()
	n := checkpoint.Note{Checkpoint: checkpoint.Checkpoint{Origin: origin, Size: w.tree.Size(), Root: w.tree.Root()}}
	for _, name := range by {
		d := w.depts[name]
		c, err := checkpoint.Cosign(d, engine, string(name), d.Key, ledgerTime.Add(time.Minute), n.Checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		n.Cosignatures = append(n.Cosignatures, c)
	}
	return n.Encode()
}

func (w *world) selection(t testing.TB, about []uint64) Selection {
	t.Helper()
	s := Selection{Exporter: "minzheng", Created: ledgerTime.Add(time.Hour), Bodies: w.body}
	note := string(w.note(t, "minzheng", "zhujian", "gongan"))
	for _, i := range about {
		path, err := w.tree.Inclusion(i, w.tree.Size())
		if err != nil {
			t.Fatal(err)
		}
		p := exchange.LedgerProof{Index: i, Leaf: w.leaf[i], Frame: w.frame[i], Size: w.tree.Size(), Checkpoint: note}
		for _, h := range path {
			p.Path = append(p.Path, h[:])
		}
		s.Proofs = append(s.Proofs, p)
	}
	for _, d := range w.depts {
		s.Certificates = append(s.Certificates, d.Certificate)
	}
	return s
}

func (w *world) trust() Trust {
	t := Trust{Format: FormatTrust, Origin: origin, Root: w.root, Quorum: 2,
		Authority: Fingerprint(engine, w.depts[exchange.Authority].DER)}
	for _, name := range []exchange.Dept{"gongan", "minzheng", "zhujian"} {
		t.Members = append(t.Members, Member{Dept: name, Name: string(name), Certificates: []string{Fingerprint(engine, w.depts[name].DER)}})
	}
	return t
}

func (w *world) evidence(t testing.TB) []byte {
	t.Helper()
	b, err := Export(engine, w.depts["minzheng"], w.selection(t, w.story(t)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
