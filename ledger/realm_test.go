package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
)

const testOrigin = "test.xinqiao/sm"

// depts run nodes in these tests; the first of them leads.
func depts() []exchange.Dept { return []exchange.Dept{"minzheng", "zhujian", "gongan", "renshe"} }

// party is one department: what it signs with, and its certificate.
type party struct {
	dept   exchange.Dept
	signer Signer
	key    gm.PublicKey
	cert   []byte
}

// signers is what Config.Signers asks: this party has the key of one certificate.
func (p *party) signers(cert gm.Digest) (SigningKey, bool) {
	return SigningKey{Signer: p.signer, Public: p.key}, cert == gm.Emmansun().Sum(p.cert)
}

// realm holds the identities of a test, the authority's among them.
type realm struct {
	ca      *cert.CA
	root    []byte
	parties map[exchange.Dept]*party
}

// newRealm makes real keys and issues certificates that are valid for life
// from at.
func newRealm(t testing.TB, at time.Time, life time.Duration) *realm {
	t.Helper()
	caKeys, err := keyring.Generate(gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	ca, root, err := cert.NewCA("test root", caKeys.TLSSigner(), at, 1000*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r := &realm{ca: ca, root: root, parties: map[exchange.Dept]*party{}}
	for _, dept := range append(depts(), exchange.Authority) {
		r.parties[dept] = r.enrol(t, dept, at, life)
	}
	return r
}

// enrol gives dept a new key and a certificate of it.
func (r *realm) enrol(t testing.TB, dept exchange.Dept, at time.Time, life time.Duration) *party {
	t.Helper()
	keys, err := keyring.Generate(gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	der, err := r.ca.Issue(cert.Request{Dept: string(dept), Usage: cert.Signing, Key: keys.SignPublic(), Lifetime: life}, at)
	if err != nil {
		t.Fatal(err)
	}
	return &party{dept, keys, keys.SignPublic(), der}
}

func (r *realm) identify(der []byte, at time.Time) (string, gm.PublicKey, error) {
	who, err := cert.Verify(r.root, der, at)
	if err == nil && who.Usage != cert.Signing {
		err = errors.New("not a signing certificate")
	}
	return who.Dept, who.Key, err
}

// paperRealm has identities that verify nowhere and are the same in every run:
// for tests of what does not look at signatures.
func paperRealm() *realm {
	r := &realm{parties: map[exchange.Dept]*party{}}
	for _, dept := range append(depts(), exchange.Authority) {
		r.parties[dept] = &party{dept: dept, signer: paperSigner{}, cert: []byte("certificate of " + dept)}
	}
	return r
}

type paperSigner struct{}

func (paperSigner) Sign(domain string, body []byte) (sig gm.Signature, err error) {
	d := gm.Emmansun().Sum(gm.Preimage(domain, body))
	copy(sig[:], d[:])
	return sig, nil
}

// label turns a name in a test into the id it stands for.
func label(name string) ID {
	d := gm.Emmansun().Sum([]byte(name))
	return ID(d[:16])
}

func factEntry(author exchange.Dept, id ID, c FactChange) Entry {
	return Entry{Suite: gm.Suite, Kind: KindFact, ID: id, Author: author, Fact: &c}
}

func ackEntry(author exchange.Dept, id ID, holder exchange.Dept) Entry {
	return Entry{Suite: gm.Suite, Kind: KindAck, ID: id, Author: author, Ack: &Ack{Holder: holder, Entries: []ID{label("any")}}}
}

// clockEntry has the departments cosign a head at a time, each by its
// certificate of the given version.
func (r *realm) clockEntry(t testing.TB, author exchange.Dept, id ID, head checkpoint.Checkpoint, at time.Time, certs map[exchange.Dept]uint64) Entry {
	t.Helper()
	n, c := checkpoint.Note{Checkpoint: head}, &Clock{}
	for _, dept := range slices.Sorted(maps.Keys(certs)) {
		p := r.parties[dept]
		sig := checkpoint.Cosignature{Name: string(dept), Time: time.Unix(at.Unix(), 0).UTC()}
		if !p.key.IsZero() { // a paper realm's verify nowhere
			var err error
			if sig, err = checkpoint.Cosign(p.signer, gm.Emmansun(), string(dept), p.key, at, head); err != nil {
				t.Fatal(err)
			}
		}
		n.Cosignatures, c.Certs = append(n.Cosignatures, sig), append(c.Certs, certs[dept])
	}
	c.Note = n.Encode()
	return Entry{Suite: gm.Suite, Kind: KindClock, ID: id, Author: author, Clock: c}
}

// accessEntry is an allowed access; its response digest follows from the id.
func accessEntry(holder, requester exchange.Dept, id ID, b Basis) Entry {
	return Entry{Suite: gm.Suite, Kind: KindAccess, ID: id, Author: holder, Access: &Access{Holder: holder, Requester: requester,
		Class: "civil", Outcome: exchange.Allowed, Basis: b, Request: gm.Digest{1}, Response: responseOf(id), Body: gm.Digest{3},
		HolderTag: Tag{7}, RequesterTag: Tag{8}, Size: 12, Epoch: "2026-03"}}
}

// deniedEntry is an access that was refused.
func deniedEntry(holder, requester exchange.Dept, id ID) Entry {
	e := accessEntry(holder, requester, id, Basis{})
	e.Access.Outcome, e.Access.Response = exchange.Refused, gm.Digest{}
	return e
}

func responseOf(id ID) gm.Digest { return gm.Emmansun().Sum([]byte("response"), id[:]) }

func encode(t testing.TB, e Entry) []byte {
	t.Helper()
	b, err := e.Encode()
	if err != nil {
		t.Fatalf("entry %s: %v", e.ID, err)
	}
	return b
}

// frameOf signs entries as the frame of p that follows last.
func (p *party) frameOf(t testing.TB, last authorState, entries ...Entry) []byte {
	t.Helper()
	var raw [][]byte
	for _, e := range entries {
		raw = append(raw, encode(t, e))
	}
	b, err := NewFrame(gm.Emmansun(), p.signer, testOrigin, p.dept, gm.Emmansun().Sum(p.cert), last.Seq+1, last.Last, raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func batchOf(t testing.TB, at time.Time, frames ...[]byte) []byte {
	t.Helper()
	cmd, err := EncodeBatch(at, frames)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// The facts between minzheng, who holds, and zhujian, who asks, that founding
// sets: their keys.
func grantKey() string   { return label("grant").String() }
func consentKey() string { return label("consent").String() }
func caseKey() string    { return label("case").String() }

// founding returns the entries that make a ledger in which minzheng may answer
// zhujian, by author, in the order they must be written.
func (r *realm) founding() (frames [][]Entry) {
	serial := 0
	set := func(author exchange.Dept, c FactChange) Entry {
		serial++
		c.Action = Set
		return factEntry(author, label(fmt.Sprintf("founding %d", serial)), c)
	}
	admit := []Entry{set(exchange.Authority, FactChange{Type: FactBaseline, Key: string(exchange.Authority), Content: []byte("baseline")})}
	for _, d := range depts() {
		admit = append(admit,
			set(exchange.Authority, FactChange{Type: FactMember, Key: string(d), Content: canon.MustMarshal(Member{Name: string(d)})}),
			set(exchange.Authority, FactChange{Type: FactCert, Key: string(d), Content: canon.MustMarshal(Certs{Sign: r.parties[d].cert})}))
	}
	admit = append(admit, set(exchange.Authority, FactChange{Type: FactGrant, Key: grantKey(), Provider: "minzheng", Grantee: "zhujian"}))
	frames = append(frames, admit)
	for _, d := range depts() {
		var own []Entry
		for _, t := range []FactType{FactRules, FactRestrictions, FactRoster, FactStatus, FactCatalogue} {
			own = append(own, set(d, FactChange{Type: t, Key: string(d), Content: []byte{byte(t)}}))
		}
		frames = append(frames, own)
	}
	return append(frames, []Entry{
		set("zhujian", FactChange{Type: FactAuthority, Key: consentKey(), Provider: "minzheng", Grantee: "zhujian"}),
		set("zhujian", FactChange{Type: FactCase, Key: caseKey(), Provider: "minzheng", Grantee: "zhujian"}),
	})
}

// basisOf fills a basis with what s has in force for the pair.
func basisOf(s *State, holder, requester exchange.Dept, grant, consent, matter string) (b Basis) {
	named := map[FactType]string{FactGrant: grant, FactAuthority: consent, FactCase: matter}
	for _, slot := range Slots() {
		t, key := slotFact(slot, holder, requester)
		if key == "" {
			key = named[t]
		}
		*b.At(slot) = s.facts.get(t, key).Ref()
	}
	return b
}

func usualBasis(s *State) Basis {
	return basisOf(s, "minzheng", "zhujian", grantKey(), consentKey(), caseKey())
}
