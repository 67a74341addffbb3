package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

const origin = "bench.xinqiao/sm"

// depts run the nodes. Each answers the next one's requests.
func depts() []exchange.Dept {
	return []exchange.Dept{"department-north", "department-river", "department-south"}
}

// asker is whom a holder answers.
func asker(holder exchange.Dept) exchange.Dept {
	list := depts()
	for i, d := range list {
		if d == holder {
			return list[(i+1)%len(list)]
		}
	}
	return ""
}

// party is one department's key and certificate.
type party struct {
	dept exchange.Dept
	keys *keyring.Keyring
	cert []byte
}

// realm holds the identities of a run.
type realm struct {
	root    []byte
	parties map[exchange.Dept]*party
}

func newRealm(e gm.Engine, now time.Time) (*realm, error) {
	caKeys, err := keyring.Generate(e)
	if err != nil {
		return nil, err
	}
	ca, root, err := cert.NewCA("benchmark root", caKeys.TLSSigner(), now, 48*time.Hour)
	if err != nil {
		return nil, err
	}
	r := &realm{root: root, parties: map[exchange.Dept]*party{}}
	for _, d := range append(depts(), exchange.Authority) {
		keys, err := keyring.Generate(e)
		if err != nil {
			return nil, err
		}
		der, err := ca.Issue(cert.Request{Dept: string(d), Usage: cert.Signing, Key: keys.SignPublic(), Lifetime: 24 * time.Hour}, now)
		if err != nil {
			return nil, err
		}
		r.parties[d] = &party{d, keys, der}
	}
	return r, nil
}

func (r *realm) identify(der []byte, at time.Time) (string, gm.PublicKey, error) {
	who, err := cert.Verify(r.root, der, at)
	if err == nil && who.Usage != cert.Signing {
		err = errors.New("not a signing certificate")
	}
	return who.Dept, who.Key, err
}

// pairKey names what lies between a holder and its asker.
func pairKey(what string, holder exchange.Dept) string {
	d := gm.Emmansun().Sum([]byte(what), []byte(holder))
	return ledger.ID(d[:16]).String()
}

// founding returns the frames that make a ledger in which everyone may answer
// its asker, with the nodes at their raft addresses.
func (r *realm) founding(e gm.Engine, addrs map[exchange.Dept]string) ([][]byte, error) {
	set := func(author exchange.Dept, c ledger.FactChange) (ledger.Entry, error) {
		id, err := ledger.NewID()
		c.Action = ledger.Set
		return ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: id, Author: author, Fact: &c}, err
	}
	changes := map[exchange.Dept][]ledger.FactChange{}
	add := func(author exchange.Dept, c ledger.FactChange) { changes[author] = append(changes[author], c) }
	add(exchange.Authority, ledger.FactChange{Type: ledger.FactBaseline, Key: string(exchange.Authority), Content: []byte("baseline")})
	for _, d := range depts() {
		m := ledger.Member{Name: string(d), Voter: true, Raft: addrs[d], Peer: addrs[d]}
		add(exchange.Authority, ledger.FactChange{Type: ledger.FactMember, Key: string(d), Content: canon.MustMarshal(m)})
		add(exchange.Authority, ledger.FactChange{Type: ledger.FactCert, Key: string(d), Content: canon.MustMarshal(ledger.Certs{Sign: r.parties[d].cert})})
	}
	for _, d := range depts() {
		add(exchange.Authority, ledger.FactChange{Type: ledger.FactGrant, Key: pairKey("grant", d), Provider: d, Grantee: asker(d)})
		for _, t := range []ledger.FactType{ledger.FactRules, ledger.FactRestrictions, ledger.FactRoster, ledger.FactStatus, ledger.FactCatalogue} {
			add(d, ledger.FactChange{Type: t, Key: string(d), Content: []byte{byte(t)}})
		}
		add(asker(d), ledger.FactChange{Type: ledger.FactAuthority, Key: pairKey("authority", d), Provider: d, Grantee: asker(d)})
		add(asker(d), ledger.FactChange{Type: ledger.FactCase, Key: pairKey("case", d), Provider: d, Grantee: asker(d)})
	}
	var frames [][]byte
	for _, author := range append([]exchange.Dept{exchange.Authority}, depts()...) {
		var raw [][]byte
		for _, c := range changes[author] {
			entry, err := set(author, c)
			if err != nil {
				return nil, err
			}
			b, err := entry.Encode()
			if err != nil {
				return nil, err
			}
			raw = append(raw, b)
		}
		p := r.parties[author]
		f, err := ledger.NewFrame(e, p.keys, origin, author, e.Sum(p.cert), 1, gm.Digest{}, raw)
		if err != nil {
			return nil, fmt.Errorf("found the ledger: %w", err)
		}
		frames = append(frames, f)
	}
	return frames, nil
}

// EntrySize is how many bytes each entry of a run has.
const EntrySize = 600

// newAccess returns what holder's entries have in common: an allowed answer to
// its asker that rests on the present version of everything, padded to EntrySize.
func newAccess(ctx context.Context, l *ledger.Ledger, holder exchange.Dept) (ledger.Access, error) {
	a := ledger.Access{Holder: holder, Requester: asker(holder), Class: "c", Outcome: exchange.Allowed,
		Request: gm.Digest{1}, Response: gm.Digest{2}, Body: gm.Digest{3}, HolderTag: ledger.Tag{4}, RequesterTag: ledger.Tag{5},
		Size: 12, Epoch: ledger.Epoch(time.Now())}
	facts := map[ledger.Slot]struct {
		t   ledger.FactType
		key string
	}{
		ledger.SlotBaseline:        {ledger.FactBaseline, string(exchange.Authority)},
		ledger.SlotHolderRules:     {ledger.FactRules, string(holder)},
		ledger.SlotRequesterRules:  {ledger.FactRestrictions, string(a.Requester)},
		ledger.SlotHolderMember:    {ledger.FactMember, string(holder)},
		ledger.SlotRequesterMember: {ledger.FactMember, string(a.Requester)},
		ledger.SlotHolderCert:      {ledger.FactCert, string(holder)},
		ledger.SlotRequesterCert:   {ledger.FactCert, string(a.Requester)},
		ledger.SlotGrant:           {ledger.FactGrant, pairKey("grant", holder)},
		ledger.SlotAuthority:       {ledger.FactAuthority, pairKey("authority", holder)},
		ledger.SlotCase:            {ledger.FactCase, pairKey("case", holder)},
		ledger.SlotRoster:          {ledger.FactRoster, string(a.Requester)},
		ledger.SlotStatus:          {ledger.FactStatus, string(holder)},
	}
	err := l.Read(ctx, func(v *ledger.View) error {
		for slot, f := range facts {
			ref := v.Fact(f.t, f.key).Ref()
			if ref.Version == 0 {
				return fmt.Errorf("the founded ledger lacks the fact of slot %s", slot)
			}
			*a.Basis.At(slot) = ref
		}
		return nil
	})
	if err != nil {
		return a, err
	}
	for range 4 { // a longer class also lengthens the head of its encoding
		e, err := newEntry(a)
		if err != nil {
			return a, err
		}
		b, err := e.Encode()
		if err != nil || len(b) == EntrySize {
			return a, err
		}
		a.Class = strings.Repeat("c", max(1, len(a.Class)+EntrySize-len(b)))
	}
	return a, fmt.Errorf("entries cannot be padded to %d bytes", EntrySize)
}

// newEntry is one entry with an id, a response and a subject of its own.
func newEntry(a ledger.Access) (ledger.Entry, error) {
	id, err := ledger.NewID()
	copy(a.HolderTag[:], id[:])
	copy(a.Response[:], id[:])
	return ledger.Entry{Suite: gm.Suite, Kind: ledger.KindAccess, ID: id, Author: a.Holder, Origin: time.Now().UnixMilli(), Access: &a}, err
}
