package rule

import (
	"time"

	"xinqiao/exchange"
	"xinqiao/policy"
)

// ParseBaseline reads the authority's baseline and checks its examples. Of the
// vocabulary it uses departments and items; the code lists are its own.
func ParseBaseline(name string, src []byte, v Vocabulary) (policy.Baseline, error) {
	root, err := parse(name, src)
	if err != nil {
		return policy.Baseline{}, err
	}
	o := root.object("baseline!", "purposes!", "matters!", "roles!", "bases!", "forbid", "examples!")
	b := policy.Baseline{
		ID:       o["baseline"].id(),
		Purposes: terms(o["purposes"], func(c string) bool { return exchange.Purpose(c).Valid() }),
		Matters:  terms(o["matters"], func(c string) bool { return exchange.Matter(c).Valid() }),
		Roles:    terms(o["roles"], func(c string) bool { return exchange.Field(c).Valid() }),
		Bases:    bases(o["bases"]),
	}
	v = v.WithBaseline(b)
	for _, e := range o["forbid"].list() {
		p := prohibition(e, v)
		for _, other := range b.Forbid {
			if other.ID == p.ID {
				e.fail("id %q stands twice", p.ID)
			}
		}
		b.Forbid = append(b.Forbid, p)
	}
	if err := root.doc.err(); err != nil {
		return policy.Baseline{}, err
	}
	base := example{matter: exchange.Matter(b.Matters[0].Code), purpose: exchange.Purpose(b.Purposes[0].Code),
		role: exchange.Role(b.Roles[0].Code), basis: b.Bases[0], at: sampleTime()}
	cases := examples(o["examples"], base, v)
	root.doc.enough(o["examples"], cases, 1, min(1, len(b.Forbid)))
	check(cases, func(f *policy.Facts) { f.Baseline = &b })
	if err := root.doc.err(); err != nil {
		return policy.Baseline{}, err
	}
	return b, nil
}

// sampleTime is when examples take place that state no date: a morning.
func sampleTime() time.Time { return time.Date(2026, 12, 1, 10, 0, 0, 0, beijing()) }

func terms(n node, valid func(string) bool) []policy.Term {
	var out []policy.Term
	for _, e := range n.list() {
		o := e.object("code!", "zh!", "en!")
		t := policy.Term{Code: o["code"].text(), ZH: o["zh"].text(), EN: o["en"].text()}
		if t.Code != "" && !valid(t.Code) {
			o["code"].fail("code %q is malformed", t.Code)
		}
		for _, other := range out {
			if other.Code == t.Code {
				o["code"].fail("code %q stands twice", t.Code)
			}
		}
		out = append(out, t)
	}
	return out
}

func prohibition(n node, v Vocabulary) policy.Prohibition {
	o := n.object("id!", "class", "item", "to", "purposes", "fields", "above!", "article!")
	p := policy.Prohibition{
		ID: o["id"].id(), Class: o["class"].text(), Article: o["article"].text(),
		To:       words[exchange.Dept](o["to"], "department", codes(v.Depts)),
		Purposes: words[exchange.Purpose](o["purposes"], "purpose", codes(v.Purposes)),
		Fields:   knownFields(o["fields"], v),
	}
	v.setItem(&p.Item, o["item"])
	if p.Class != "" && !v.Published && !v.hasClass(p.Class) {
		o["class"].fail("no item is of class %q", p.Class)
	}
	mode, err := exchange.ParseMode(o["above"].text())
	if err != nil || mode == exchange.Value {
		o["above"].fail("want the highest mode that stays permitted, from never to mask")
	}
	p.Above = mode
	return p
}

func knownFields(n node, v Vocabulary) []exchange.Field {
	var out []exchange.Field
	for _, e := range n.list() {
		f := exchange.Field(e.text())
		if f != "" && !v.Published && !v.hasField(f) {
			e.fail("no item has a field %q", f)
		}
		out = append(out, f)
	}
	return out
}

// ParseRestrictions reads a department's restrictions of its own staff and
// checks their examples.
func ParseRestrictions(name string, src []byte, v Vocabulary) (policy.Restrictions, error) {
	root, err := parse(name, src)
	if err != nil {
		return policy.Restrictions{}, err
	}
	o := root.object("restrictions!", "dept!", "limit", "examples!")
	r := policy.Restrictions{ID: o["restrictions"].id(), Dept: word[exchange.Dept](o["dept"], "department", codes(v.Depts))}
	for _, e := range o["limit"].list() {
		l := restriction(e, v)
		for _, other := range r.Limit {
			if other.ID == l.ID {
				e.fail("id %q stands twice", l.ID)
			}
		}
		r.Limit = append(r.Limit, l)
	}
	if err := root.doc.err(); err != nil {
		return policy.Restrictions{}, err
	}
	if len(v.Matters) == 0 || len(v.Purposes) == 0 || len(v.Roles) == 0 {
		root.fail("the vocabulary has no code lists: read the baseline first")
		return policy.Restrictions{}, root.doc.err()
	}
	base := example{requester: r.Dept, matter: exchange.Matter(v.Matters[0].Code), purpose: exchange.Purpose(v.Purposes[0].Code),
		role: exchange.Role(v.Roles[0].Code), basis: policy.Consent, at: sampleTime()}
	cases := examples(o["examples"], base, v)
	root.doc.enough(o["examples"], cases, 1, min(1, len(r.Limit)))
	check(cases, func(f *policy.Facts) { f.Restrictions = &r })
	if err := root.doc.err(); err != nil {
		return policy.Restrictions{}, err
	}
	return r, nil
}

func restriction(n node, v Vocabulary) policy.Restriction {
	o := n.object("id!", "item", "roles", "purposes", "never", "hours")
	r := policy.Restriction{
		ID:       o["id"].id(),
		Roles:    words[exchange.Role](o["roles"], "role", codes(v.Roles)),
		Purposes: words[exchange.Purpose](o["purposes"], "purpose", codes(v.Purposes)),
		Never:    knownFields(o["never"], v),
	}
	v.setItem(&r.Item, o["item"])
	if len(r.Roles)+len(r.Purposes)+len(r.Never) == 0 && o["hours"].at == nil {
		n.fail("it restricts nothing: want roles, purposes, never or hours")
	}
	if h := o["hours"]; h.at != nil {
		ho := h.object("from!", "to!")
		r.Hours = &policy.Hours{From: ho["from"].clock(), To: ho["to"].clock(), Offset: 8 * 60}
		if r.Hours.From >= r.Hours.To {
			h.fail("the hours end before they begin")
		}
	}
	return r
}

// clock reads a time of day, Beijing time, in minutes since midnight. 24:00 is
// the end of the day.
func (n node) clock() int {
	s := n.text()
	if s == "" {
		return 0
	}
	if s == "24:00" {
		return 24 * 60
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		n.fail("%q is not a time of day such as 08:30", s)
		return 0
	}
	return t.Hour()*60 + t.Minute()
}
