package rule

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"xinqiao/exchange"
	"xinqiao/policy"
)

// example is one case that the author of a file states, on top of facts that
// are all fine.
type example struct {
	node    node
	allow   bool
	because []exchange.Code

	holder, requester exchange.Dept
	item              exchange.Item
	matter            exchange.Matter
	purpose           exchange.Purpose
	role              exchange.Role
	basis             policy.BasisKind
	views             []exchange.View
	at                time.Time
	gone              bool                  // its item or a field of it is in no catalogue any more
	closed            bool                  // the case
	noGrant           bool                  //
	authority         policy.AuthorityState // "" is active
	noAuthority       bool
}

// examples reads a list of {allow: {...}} and {deny: {...}, because: code}.
// What an example does not state it takes from base.
func examples(n node, base example, v Vocabulary) []example {
	var out []example
	for _, e := range n.list() {
		o := e.object("allow", "deny", "because")
		if (o["allow"].at == nil) == (o["deny"].at == nil) {
			e.fail("an example either allows or denies")
			continue
		}
		x := base
		x.node, x.allow = e, o["allow"].at != nil
		body := o["allow"]
		if !x.allow {
			body = o["deny"]
		}
		if x.allow != (o["because"].at == nil) {
			e.fail(`an example that denies says "because"; one that allows does not`)
		}
		x.because = because(o["because"])
		x.read(body, v)
		out = append(out, x)
	}
	return out
}

func (x *example) read(n node, v Vocabulary) {
	o := n.object("dept", "matter", "purpose", "role", "basis", "item", "views!", "at", "time", "case", "grant", "authority")
	set(&x.requester, o["dept"], "department", codes(v.Depts))
	set(&x.matter, o["matter"], "matter", codes(v.Matters))
	set(&x.purpose, o["purpose"], "purpose", codes(v.Purposes))
	set(&x.role, o["role"], "role", codes(v.Roles))
	if o["basis"].at != nil {
		var known []string
		for _, b := range policy.Bases() {
			known = append(known, string(b))
		}
		x.basis = word[policy.BasisKind](o["basis"], "basis", known)
	}
	v.setItem(&x.item, o["item"])
	item, ok := v.item(x.item)
	if !ok && v.Published {
		x.gone = true
		return
	}
	if !ok {
		n.fail("the example names no item of the catalogue")
		return
	}
	x.holder = item.Holder
	for _, p := range o["views"].pairs() {
		cf, ok := field(item, exchange.Field(p.key))
		if !ok && v.Published {
			x.gone = true
			continue
		}
		if !ok {
			p.name.fail("%s has no field %q", item.Item, p.key)
			continue
		}
		x.views = append(x.views, views(p.value, cf)...)
	}
	if o["at"].at != nil {
		x.at = o["at"].date()
	}
	if o["time"].at != nil {
		x.at = time.Date(x.at.Year(), x.at.Month(), x.at.Day(), 0, o["time"].clock(), 0, 0, beijing())
	}
	x.closed = o["case"].at != nil && word[string](o["case"], "state of a case", []string{"open", "closed"}) == "closed"
	x.noGrant = o["grant"].at != nil && word[string](o["grant"], "state of a grant", []string{"active", "missing"}) == "missing"
	if o["authority"].at != nil {
		s := word[policy.AuthorityState](o["authority"], "state of an authority record", []string{"active", "missing",
			"pending_confirmation", "suspended", "withdrawn", "expired", "exhausted"})
		x.authority, x.noAuthority = s, s == "missing"
	}
}

func set[T ~string](to *T, n node, what string, known []string) {
	if n.at != nil {
		*to = word[T](n, what, known)
	}
}

func itemNames(v Vocabulary) []string {
	var out []string
	for _, c := range v.Items {
		out = append(out, string(c.Item))
	}
	return out
}

// because reads one or several reason codes in their short form: no_rule for
// XQ-DENY-NO-RULE.
func because(n node) []exchange.Code {
	if n.at == nil {
		return nil
	}
	read := func(n node) exchange.Code {
		s := n.text()
		code := exchange.Code("XQ-DENY-" + strings.ToUpper(strings.ReplaceAll(s, "_", "-")))
		if text, _, _ := policy.Explain(code, policy.LangEN); text == "" && s != "" {
			n.fail("unknown reason %q: want the end of a code, such as no_rule or field", s)
		}
		return code
	}
	if !n.isList() {
		return []exchange.Code{read(n)}
	}
	var out []exchange.Code
	for _, e := range n.list() {
		out = append(out, read(e))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// enough demands a number of examples of either kind.
func (d *doc) enough(n node, cases []example, allow, deny int) {
	for _, x := range cases {
		if x.allow {
			allow--
		} else {
			deny--
		}
	}
	if len(d.problems) == 0 && (allow > 0 || deny > 0) {
		n.fail("examples are too few: %d more that allow and %d more that deny are wanted", max(allow, 0), max(deny, 0))
	}
}

// check decides each example, with the part under test put into its facts, and
// demands exactly the outcome and the codes that it states. One about an item
// that is gone says nothing any more.
func check(cases []example, put func(*policy.Facts)) {
	for _, x := range cases {
		if x.gone {
			continue
		}
		f := x.facts()
		put(&f)
		d := policy.Decide(f)
		if got := codesOf(d.Reasons); d.Allow != x.allow || !slices.Equal(got, x.because) {
			x.node.fail("the example says %s, the decision is %s", verdict(x.allow, x.because), verdict(d.Allow, got))
		}
	}
}

func verdict(allow bool, because []exchange.Code) string {
	if allow {
		return "allow"
	}
	return fmt.Sprintf("deny because %v", because)
}

// codesOf returns the different codes, sorted.
func codesOf(reasons []exchange.Reason) []exchange.Code {
	var out []exchange.Code
	for _, r := range reasons {
		out = append(out, r.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// facts builds facts under which everything but what the example states is in
// order, and every layer permits what is asked.
func (x *example) facts() policy.Facts {
	f := policy.Facts{
		At: x.at, Holder: x.holder, Requester: x.requester, HolderActive: true, RequesterActive: true,
		Item: x.item, Views: x.views, Purpose: x.purpose, Matter: x.matter, Role: x.role,
		OfficerReads: policy.Count{Known: true}, CaseOpen: !x.closed, ItemKnown: true, MaterialsCurrent: true,
		Restrictions: &policy.Restrictions{Dept: x.requester},
		Baseline: &policy.Baseline{Bases: policy.Bases(), Purposes: []policy.Term{{Code: string(x.purpose)}},
			Matters: []policy.Term{{Code: string(x.matter)}}, Roles: []policy.Term{{Code: string(x.role)}}},
	}
	permit := policy.Rule{ID: "example", Item: x.item, Provider: x.holder, Purposes: []exchange.Purpose{x.purpose},
		To:    []policy.Recipient{{Dept: x.requester, Matters: []exchange.Matter{x.matter}, Roles: []exchange.Role{x.role}}},
		Basis: []policy.BasisKind{x.basis}, Fields: map[exchange.Field][]exchange.View{}, NotAfter: x.at.AddDate(1, 0, 0)}
	a := policy.Authority{Present: !x.noAuthority, State: x.authority, Basis: x.basis, Provider: x.holder,
		Grantee: x.requester, SubjectMatches: true, CaseMatches: true, Matter: x.matter,
		Purposes: []exchange.Purpose{x.purpose}, NotAfter: x.at.AddDate(1, 0, 0), MaxReads: 1, ReadsLeft: 1}
	if a.State == "" {
		a.State = policy.StateActive
	}
	for _, v := range x.views {
		permit.Fields[v.Field] = append(permit.Fields[v.Field], v)
		a.Views = append(a.Views, exchange.ItemView{Item: x.item, View: v})
	}
	f.Rules, f.Authority = []policy.Rule{permit}, a
	f.Grant = policy.Grant{Present: !x.noGrant, Active: true, NotAfter: x.at.AddDate(1, 0, 0),
		Items: []policy.GrantItem{{Item: x.item, Views: x.views, Purposes: []exchange.Purpose{x.purpose}}}}
	return f
}
