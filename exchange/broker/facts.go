package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/policy"
	"xinqiao/policy/authority"
	"xinqiao/policy/rule"
)

// reading is everything that one decision rests on, read from one view of the
// ledger, and the versions it was read at.
type reading struct {
	facts   policy.Facts
	basis   ledger.Basis
	revoked [][]byte // ids of materials, from the holder's status list
	encCert []byte   // the requester's encryption certificate
	gate    ledger.Gate
}

// party is what the ledger says of a department.
type party struct {
	member, cert *ledger.Fact
	certs        ledger.Certs
}

func (p party) active(now time.Time) bool { return p.member.In(now) && p.cert.In(now) }

func readParty(v *ledger.View, dept exchange.Dept) (party, error) {
	p := party{member: v.Fact(ledger.FactMember, string(dept)), cert: v.Fact(ledger.FactCert, string(dept))}
	if p.cert == nil || !p.cert.Active {
		return p, nil
	}
	var err error
	p.certs, err = ledger.DecodeCerts(p.cert.Content)
	return p, err
}

// read gathers the facts of a request. What is missing stays zero, and policy
// denies by it; only what cannot be read at all is an error.
func (b *Broker) read(ctx context.Context, q request) (reading, error) {
	var r reading
	err := b.cfg.Ledger.Read(ctx, func(v *ledger.View) error {
		r = reading{}
		holder, err := readParty(v, q.Holder)
		if err != nil {
			return err
		}
		requester, err := readParty(v, q.Requester)
		if err != nil {
			return err
		}
		r.encCert = requester.certs.Enc
		r.facts = policy.Facts{At: v.Now(), Holder: q.Holder, Requester: q.Requester,
			HolderActive: holder.active(v.Now()), RequesterActive: requester.active(v.Now()),
			Item: q.Item, Views: slices.Clone(q.Views), Purpose: q.Purpose, Matter: q.Matter}
		*r.basis.At(ledger.SlotHolderMember), *r.basis.At(ledger.SlotHolderCert) = holder.member.Ref(), holder.cert.Ref()
		*r.basis.At(ledger.SlotRequesterMember), *r.basis.At(ledger.SlotRequesterCert) = requester.member.Ref(), requester.cert.Ref()
		return errors.Join(b.readRules(v, q, &r), b.readGrant(v, q, &r), b.readAuthority(v, q, &r),
			b.readCaseAndOperator(v, q, &r), b.readStatus(v, q, &r))
	})
	return r, err
}

// readRules reads the three layers: the authority's baseline, the holder's
// rules and the requester's own restrictions.
func (b *Broker) readRules(v *ledger.View, q request, r *reading) error {
	baseline := v.Fact(ledger.FactBaseline, string(exchange.Authority))
	rules := v.Fact(ledger.FactRules, string(q.Holder))
	own := v.Fact(ledger.FactRestrictions, string(q.Requester))
	*r.basis.At(ledger.SlotBaseline), *r.basis.At(ledger.SlotHolderRules) = baseline.Ref(), rules.Ref()
	*r.basis.At(ledger.SlotRequesterRules) = own.Ref()
	words, err := b.vocabulary(v, q.Holder)
	if err != nil {
		return err
	}
	bundle := func(content []byte) (rule.Bundle, error) {
		files, err := rule.DecodeBundle(content)
		if err != nil {
			return rule.Bundle{}, err
		}
		return rule.ParseBundle(files, words)
	}
	base, err := parse(&b.mu, &b.bundles, baseline, bundle)
	if err != nil {
		return err
	}
	if r.facts.Baseline = base.Baseline; base.Baseline != nil {
		words = words.WithBaseline(*base.Baseline)
	}
	held, holderErr := parse(&b.mu, &b.bundles, rules, bundle)
	restricted, requesterErr := parse(&b.mu, &b.bundles, own, bundle)
	r.facts.Rules, r.facts.Restrictions = held.Rules, restricted.Restrictions
	return errors.Join(holderErr, requesterErr)
}

// vocabulary is the closed set of words that rules may use: the members' names
// and what their catalogues list, the holder's own first. The baseline adds its
// code lists. A member can add words by its catalogue and never take any away,
// or it could have others' rules refused: a catalogue that does not read is left
// out, and an item that several list has the fields of all.
func (b *Broker) vocabulary(v *ledger.View, holder exchange.Dept) (rule.Vocabulary, error) {
	words := rule.Vocabulary{Published: true}
	for _, f := range v.All(ledger.FactMember) {
		m, err := ledger.DecodeMember(f.Content)
		if err != nil {
			return words, err
		}
		words.Depts = append(words.Depts, policy.Term{Code: f.Key, ZH: m.Name, EN: m.NameEN})
	}
	at := map[exchange.Item]int{}
	for _, f := range append([]*ledger.Fact{v.Fact(ledger.FactCatalogue, string(holder))}, v.All(ledger.FactCatalogue)...) {
		items, err := b.catalogue(f)
		if err != nil {
			continue // Catalogue tells of it; a decision about its own items is denied
		}
		for _, item := range items {
			if i, known := at[item.Item]; !known {
				at[item.Item] = len(words.Items)
				words.Items = append(words.Items, item)
			} else if words.Items[i].Holder != item.Holder {
				words.Items[i].Fields = join(words.Items[i].Fields, item.Fields)
			}
		}
	}
	return words, nil
}

// join returns the fields of both lists, with the predicates of both.
func join(a, b []exchange.CatalogueField) []exchange.CatalogueField {
	all := slices.Clone(a)
	for _, f := range b {
		i := slices.IndexFunc(all, func(have exchange.CatalogueField) bool { return have.Name == f.Name })
		if i < 0 {
			all = append(all, f)
			continue
		}
		all[i].Sensitive = all[i].Sensitive || f.Sensitive
		for _, p := range f.Predicates {
			if !slices.Contains(all[i].Predicates, p) {
				all[i].Predicates = append(slices.Clip(all[i].Predicates), p)
			}
		}
	}
	return all
}

// readGrant finds the share grant for the item's class; one in force wins over
// one that is not.
func (b *Broker) readGrant(v *ledger.View, q request, r *reading) error {
	var found *ledger.Fact
	var grant authority.Grant
	for _, f := range v.All(ledger.FactGrant) {
		if f.Provider != q.Holder || f.Grantee != q.Requester || found.In(v.Now()) {
			continue
		}
		g, err := authority.DecodeGrant(f.Content)
		if err != nil {
			return err
		}
		if g.Class == q.Item.Class() && ledger.ID(g.ID).String() == f.Key && g.NotBefore == f.NotBefore && g.NotAfter == f.NotAfter {
			found, grant = f, g
		}
	}
	if found != nil {
		r.facts.Grant = grant.Facts(found.Active, found.Provider, found.Grantee)
		*r.basis.At(ledger.SlotGrant) = found.Ref()
	}
	return nil
}

// readAuthority opens the commitment of the authority fact that the request
// names. One that does not open it is no authority.
func (b *Broker) readAuthority(v *ledger.View, q request, r *reading) error {
	if q.Authority == nil {
		return nil
	}
	f := v.Fact(ledger.FactAuthority, q.Authority.Key)
	record, err := authority.Decode(q.Authority.Record)
	if f == nil || err != nil || ledger.ID(record.ID).String() != f.Key {
		// What is not a record on the ledger is no authority, and policy denies by
		// that. Nor is one under another key: it would be read twice as often.
		return nil
	}
	r.facts.Authority = record.Facts(b.cfg.Engine, q.Authority.Salt[:], standing(f), q.Subject, q.Case.Case)
	*r.basis.At(ledger.SlotAuthority) = f.Ref()
	return nil
}

// standing is what the ledger says of an authority record.
func standing(f *ledger.Fact) authority.Standing {
	s := authority.Standing{Commitment: f.Commitment, Provider: f.Provider, Grantee: f.Grantee, State: policy.StateActive,
		NotBefore: f.NotBefore, NotAfter: f.NotAfter, MaxReads: f.MaxReads, Reads: f.Reads}
	if !f.Active {
		s.State = policy.StateWithdrawn
	}
	return s
}

func (b *Broker) readCaseAndOperator(v *ledger.View, q request, r *reading) error {
	if f := v.Fact(ledger.FactCase, q.Case.Key); q.Case.Key != "" && f != nil {
		r.facts.CaseOpen = f.In(v.Now()) && f.Provider == q.Holder && f.Grantee == q.Requester &&
			f.Commitment == caseCommitment(b.cfg.Engine, q.Case.Salt, q.Case.Case, q.Holder)
		*r.basis.At(ledger.SlotCase) = f.Ref()
	}
	f := v.Fact(ledger.FactRoster, string(q.Requester))
	if f == nil || !f.Active {
		return nil
	}
	*r.basis.At(ledger.SlotRoster) = f.Ref()
	roster, err := authority.DecodeRoster(f.Content)
	if err != nil {
		return err
	}
	ticket := authority.Ticket{Operator: q.Operator.Operator, Role: q.Operator.Role, Salt: q.Operator.Salt}
	if roster.Holds(b.cfg.Engine, ticket) {
		r.facts.Role = ticket.Role
	}
	return nil
}

func (b *Broker) readStatus(v *ledger.View, q request, r *reading) error {
	items, err := b.catalogue(v.Fact(ledger.FactCatalogue, string(q.Holder)))
	if err != nil {
		return err
	}
	for _, item := range items {
		if item.Item == q.Item {
			r.facts.ItemKnown, r.gate = true, gateOf(item, q.Views)
		}
	}
	f := v.Fact(ledger.FactStatus, string(q.Holder))
	*r.basis.At(ledger.SlotStatus) = f.Ref()
	if f == nil || !f.In(v.Now()) {
		return nil
	}
	if err := canon.Unmarshal(f.Content, &r.revoked); err != nil {
		return err
	}
	r.facts.MaterialsCurrent = true
	return nil
}

// gateOf holds back an answer that may give away the value of a field which the
// holder's catalogue calls sensitive until a quorum of departments has cosigned
// its record; a lying leader alone must not get at those.
func gateOf(item exchange.CatalogueItem, views []exchange.View) ledger.Gate {
	for _, v := range views {
		named := slices.ContainsFunc(item.Fields, func(f exchange.CatalogueField) bool { return f.Name == v.Field && !f.Sensitive })
		if v.Mode == exchange.Value && !named {
			return ledger.Cosigned
		}
	}
	return ledger.OwnNode
}

func (b *Broker) catalogue(f *ledger.Fact) ([]exchange.CatalogueItem, error) {
	return parse(&b.mu, &b.catalogues, f, func(content []byte) (items []exchange.CatalogueItem, err error) {
		if err := canon.Unmarshal(content, &items); err != nil {
			return nil, err
		}
		for _, item := range items {
			if string(item.Holder) != f.Key || !item.Item.Valid() {
				return nil, fmt.Errorf("the catalogue of %s lists an item of another department, or a malformed one", f.Key)
			}
		}
		return items, nil
	})
}

// Catalogue lists what every active member holds, in order of item.
func (b *Broker) Catalogue(ctx context.Context) ([]exchange.CatalogueItem, error) {
	var all []exchange.CatalogueItem
	err := b.cfg.Ledger.Read(ctx, func(v *ledger.View) error {
		all = nil
		for _, f := range v.All(ledger.FactCatalogue) {
			if m := v.Fact(ledger.FactMember, f.Key); !f.In(v.Now()) || !m.In(v.Now()) {
				continue
			}
			items, err := b.catalogue(f)
			if err != nil {
				b.cfg.Log.Warn("catalogue left out: it does not decode", "dept", f.Key, "err", err)
				continue
			}
			all = append(all, items...)
		}
		return nil
	})
	slices.SortFunc(all, func(x, y exchange.CatalogueItem) int {
		if x.Item < y.Item {
			return -1
		}
		return 1
	})
	return all, err
}
