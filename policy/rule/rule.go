package rule

import (
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-yaml/ast"

	"xinqiao/exchange"
	"xinqiao/policy"
)

var (
	idForm       = regexp.MustCompile(`^[a-z][a-z0-9-]{2,63}$`)
	durationForm = regexp.MustCompile(`^P([1-9][0-9]{0,3}Y)?([1-9][0-9]{0,3}M)?([1-9][0-9]{0,3}W)?([1-9][0-9]{0,3}D)?$`)
)

// beijing is the zone that dates in files are meant in (UTC+8, no summer time).
func beijing() *time.Location { return time.FixedZone("UTC+8", 8*60*60) }

// ParseRule reads one rule and checks its examples. The error lists every
// *Error found.
func ParseRule(name string, src []byte, v Vocabulary) (policy.Rule, error) {
	root, err := parse(name, src)
	if err != nil {
		return policy.Rule{}, err
	}
	o := root.object("rule!", "item!", "provider!", "to!", "purposes!", "basis!", "statute", "fields!", "limits",
		"retain!", "onward!", "valid!", "examples!")
	r := policy.Rule{
		ID:       o["rule"].id(),
		Provider: word[exchange.Dept](o["provider"], "department", codes(v.Depts)),
		Purposes: words[exchange.Purpose](o["purposes"], "purpose", codes(v.Purposes)),
		Basis:    bases(o["basis"]),
		Statute:  o["statute"].texts(),
		Retain:   o["retain"].duration(),
		Onward:   word[string](o["onward"], "onward rule", []string{"deny"}),
	}
	if slices.Contains(r.Basis, policy.StatutoryDuty) && len(r.Statute) == 0 && o["statute"].at == nil {
		o["basis"].fail("a rule that accepts statutory_duty cites the statute")
	}
	item, known := v.item(exchange.Item(o["item"].text()))
	r.Item = item.Item
	switch {
	case !known && o["item"].at != nil:
		o["item"].fail("unknown item %q", o["item"].text())
	case known && r.Provider != "" && item.Holder != r.Provider:
		o["provider"].fail("%s is held by %s", item.Item, item.Holder)
	}
	r.To = recipients(o["to"], r.Provider, v)
	r.Fields = fields(o["fields"], item)
	r.Limits = limits(o["limits"])
	r.NotBefore, r.NotAfter = o["valid"].period()
	if err := root.doc.err(); err != nil {
		return policy.Rule{}, err
	}
	base := example{requester: r.To[0].Dept, matter: r.To[0].Matters[0], role: r.To[0].Roles[0], item: r.Item,
		holder: r.Provider, purpose: r.Purposes[0], basis: r.Basis[0], at: r.NotBefore}
	cases := examples(o["examples"], base, v)
	root.doc.enough(o["examples"], cases, 2, 3)
	check(cases, func(f *policy.Facts) { f.Rules = []policy.Rule{r} })
	if err := root.doc.err(); err != nil {
		return policy.Rule{}, err
	}
	return r, nil
}

func (n node) id() string {
	s := n.text()
	if s != "" && !idForm.MatchString(s) {
		n.fail("%q is not an identifier of small letters, digits and hyphens", s)
	}
	return s
}

func (n node) duration() string {
	s := n.text()
	if s != "" && (!durationForm.MatchString(s) || s == "P") {
		n.fail("%q is not a duration such as P30D or P1Y", s)
	}
	return s
}

func bases(n node) []policy.BasisKind {
	var known []string
	for _, b := range policy.Bases() {
		known = append(known, string(b))
	}
	return words[policy.BasisKind](n, "basis", known)
}

func recipients(n node, provider exchange.Dept, v Vocabulary) []policy.Recipient {
	var out []policy.Recipient
	for _, e := range n.list() {
		o := e.object("dept!", "matters!", "roles!")
		to := policy.Recipient{
			Dept:    word[exchange.Dept](o["dept"], "department", codes(v.Depts)),
			Matters: words[exchange.Matter](o["matters"], "matter", codes(v.Matters)),
			Roles:   words[exchange.Role](o["roles"], "role", codes(v.Roles)),
		}
		if slices.ContainsFunc(out, func(r policy.Recipient) bool { return r.Dept == to.Dept }) {
			o["dept"].fail("department %q stands twice", to.Dept)
		}
		if to.Dept != "" && to.Dept == provider {
			o["dept"].fail("a department does not share with itself")
		}
		out = append(out, to)
	}
	return out
}

// fields reads what is permitted of each field. A field left out is never
// shown, just as one that says so.
func fields(n node, item exchange.CatalogueItem) map[exchange.Field][]exchange.View {
	out := map[exchange.Field][]exchange.View{}
	open := 0
	for _, p := range n.pairs() {
		cf, ok := field(item, exchange.Field(p.key))
		if !ok {
			if item.Item != "" {
				p.name.fail("%s has no field %q", item.Item, p.key)
			}
			continue
		}
		out[cf.Name] = views(p.value, cf)
		open += len(out[cf.Name])
	}
	if n.at != nil && open == 0 && item.Item != "" && len(n.doc.problems) == 0 {
		n.fail("no field is permitted in any mode")
	}
	return out
}

// views reads the modes of one field: a mode, a mapping {predicate: [...]}, or
// a list of these.
func views(n node, cf exchange.CatalogueField) []exchange.View {
	switch n.at.(type) {
	case nil:
		return nil
	case *ast.SequenceNode:
		var out []exchange.View
		for _, e := range n.list() {
			for _, v := range oneMode(e, cf) {
				if slices.Contains(out, v) {
					e.fail("mode %s stands twice", v.Mode)
					continue
				}
				out = append(out, v)
			}
		}
		return out
	}
	return oneMode(n, cf)
}

func oneMode(n node, cf exchange.CatalogueField) []exchange.View {
	switch n.at.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		var out []exchange.View
		for _, p := range words[string](n.object("predicate!")["predicate"], "predicate of "+string(cf.Name), cf.Predicates) {
			out = append(out, exchange.View{Field: cf.Name, Mode: exchange.Predicate, Predicate: p})
		}
		return out
	}
	s := n.text()
	if s == "" {
		return nil
	}
	mode, err := exchange.ParseMode(s)
	switch {
	case err != nil:
		n.fail("%s", err)
		return nil
	case mode == exchange.Predicate:
		n.fail("name the predicates: {predicate: [...]}")
		return nil
	case mode == exchange.Never:
		return nil
	}
	return []exchange.View{{Field: cf.Name, Mode: mode}}
}

func limits(n node) policy.Limits {
	o := n.object("per_case", "per_officer_day", "batch")
	l := policy.Limits{PerCase: o["per_case"].number(1000), PerOfficerDay: o["per_officer_day"].number(10000)}
	l.Batch = o["batch"].number(1)
	return l
}

// number reads a number from 1 to limit, or 0 when there is none.
func (n node) number(limit uint32) uint32 {
	if n.at == nil {
		return 0
	}
	i, err := strconv.ParseUint(n.text(), 10, 32)
	if err != nil || i < 1 || i > uint64(limit) {
		n.fail("want a number from 1 to %d", limit)
		return 0
	}
	return uint32(i)
}

// period reads {from, to}: from the beginning of the one date to the beginning
// of the other, Beijing time.
func (n node) period() (from, to time.Time) {
	o := n.object("from!", "to!")
	from, to = o["from"].date(), o["to"].date()
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		n.fail("it ends before it begins")
	}
	return from, to
}

func (n node) date() time.Time {
	s := n.text()
	if s == "" {
		return time.Time{}
	}
	t, err := time.ParseInLocation("2006-01-02", s, beijing())
	if err != nil {
		n.fail("%q is not a date such as 2026-12-01", s)
	}
	return t
}
