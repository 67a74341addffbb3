package policy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"xinqiao/exchange"
	"xinqiao/policy"
)

var at = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func value(f exchange.Field) exchange.View { return exchange.View{Field: f, Mode: exchange.Value} }

// fine returns facts under which the request is allowed.
func fine() policy.Facts {
	views := []exchange.View{value("marital_status"), value("spouse_name")}
	f := policy.Facts{
		At: at, Holder: "minzheng", Requester: "zhujian", HolderActive: true, RequesterActive: true,
		Item: "civil/marriage-record", Views: views, Purpose: "housing-eligibility", Matter: "000725001000",
		Role: "case_handler", CaseOpen: true, ItemKnown: true, MaterialsCurrent: true,
		Baseline: &policy.Baseline{Purposes: []policy.Term{{Code: "housing-eligibility"}, {Code: "other"}},
			Matters: []policy.Term{{Code: "000725001000"}, {Code: "000000001"}},
			Roles:   []policy.Term{{Code: "case_handler"}, {Code: "reviewer"}}, Bases: policy.Bases()},
		Rules: []policy.Rule{{ID: "r1", Item: "civil/marriage-record", Provider: "minzheng",
			To:       []policy.Recipient{{Dept: "zhujian", Matters: []exchange.Matter{"000725001000"}, Roles: []exchange.Role{"case_handler"}}},
			Purposes: []exchange.Purpose{"housing-eligibility"}, Basis: []policy.BasisKind{policy.Consent},
			Fields: map[exchange.Field][]exchange.View{"marital_status": views[:1], "spouse_name": views[1:]},
			Limits: policy.Limits{PerCase: 3, Batch: 1}, Retain: "P30D", Onward: "deny", NotAfter: at.AddDate(1, 0, 0)}},
		Restrictions: &policy.Restrictions{ID: "own", Dept: "zhujian"},
		Grant: policy.Grant{Present: true, Active: true, NotAfter: at.AddDate(1, 0, 0), Items: []policy.GrantItem{
			{Item: "civil/marriage-record", Views: slices.Clone(views), Purposes: []exchange.Purpose{"housing-eligibility"}}}},
		Authority: policy.Authority{Present: true, State: policy.StateActive, Basis: policy.Consent, Provider: "minzheng",
			Grantee: "zhujian", SubjectMatches: true, CaseMatches: true, Matter: "000725001000",
			Purposes: []exchange.Purpose{"housing-eligibility"}, NotAfter: at.AddDate(0, 0, 30), MaxReads: 3, ReadsLeft: 1},
	}
	for _, v := range views {
		f.Authority.Views = append(f.Authority.Views, exchange.ItemView{Item: f.Item, View: v})
	}
	return f
}

func codes(d policy.Decision) string {
	var out []string
	for _, r := range d.Reasons {
		c := strings.TrimPrefix(string(r.Code), "XQ-DENY-")
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestFineFactsAllow(t *testing.T) {
	t.Parallel()
	f := fine()
	d := policy.Decide(f)
	p, ok := d.Permit()
	if !ok || !p.Valid() || p.Item() != f.Item || p.Holder() != f.Holder || p.Requester() != f.Requester || p.Purpose() != f.Purpose ||
		!slices.Equal(p.Views(), f.Views) || d.Rule != "r1" || d.Obligations.Retain != "P30D" {
		t.Fatalf("decision %+v, permit %+v", d, p)
	}
}

// Every fact counts: each spoils the decision alone, and with exactly the codes
// that stand here.
func TestEachGuard(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		want  string
		spoil func(*policy.Facts)
	}{
		{"no time", "AUTH-EXPIRED NO-GRANT RULE-EXPIRED UNDETERMINED", func(f *policy.Facts) {
			f.At = time.Time{}
			f.Rules[0].NotBefore, f.Grant.NotBefore, f.Authority.NotBefore = at, at, at
		}},
		{"holder not a member", "MEMBER", func(f *policy.Facts) { f.HolderActive = false }},
		{"requester not a member", "MEMBER", func(f *policy.Facts) { f.RequesterActive = false }},
		{"no views", "BAD-MESSAGE", func(f *policy.Facts) { f.Views = nil }},
		{"a view twice", "BAD-MESSAGE", func(f *policy.Facts) { f.Views = append(f.Views, f.Views[0]) }},
		{"a view of nothing", "AUTH-SCOPE BAD-MESSAGE FIELD GRANT-SCOPE", func(f *policy.Facts) { f.Views = []exchange.View{{Field: "marital_status"}} }},
		{"a field more", "AUTH-SCOPE FIELD GRANT-SCOPE", func(f *policy.Facts) { f.Views = append(f.Views, value("photo")) }},
		{"another item", "AUTH-SCOPE NO-GRANT NO-RULE", func(f *policy.Facts) { f.Item = "civil/divorce-record" }},
		{"unknown item", "UNKNOWN-ITEM", func(f *policy.Facts) { f.ItemKnown = false }},
		{"stale materials", "MATERIAL", func(f *policy.Facts) { f.MaterialsCurrent = false }},
		{"closed case", "CASE", func(f *policy.Facts) { f.CaseOpen = false }},
		{"nobody", "OPERATOR", func(f *policy.Facts) { f.Role = "" }},
		{"wrong role", "OPERATOR", func(f *policy.Facts) { f.Role = "reviewer" }},
		{"wrong purpose", "AUTH-SCOPE GRANT-SCOPE PURPOSE", func(f *policy.Facts) { f.Purpose = "other" }},
		{"unlisted purpose", "AUTH-SCOPE BASELINE GRANT-SCOPE PURPOSE", func(f *policy.Facts) { f.Purpose = "new" }},
		{"wrong matter", "AUTH-SCOPE MATTER", func(f *policy.Facts) { f.Matter = "000000001" }},
		{"no baseline", "UNDETERMINED", func(f *policy.Facts) { f.Baseline = nil }},
		{"no restrictions known", "UNDETERMINED", func(f *policy.Facts) { f.Restrictions = nil }},
		{"restrictions of another", "UNDETERMINED", func(f *policy.Facts) { f.Restrictions = &policy.Restrictions{Dept: "shuiwu"} }},
		{"prohibition", "BASELINE", func(f *policy.Facts) {
			f.Baseline.Forbid = []policy.Prohibition{{ID: "x", Class: "civil", Fields: []exchange.Field{"spouse_name"}, Above: exchange.Mask}}
		}},
		{"basis not accepted at all", "BASELINE", func(f *policy.Facts) { f.Baseline.Bases = nil }},
		{"restricted roles", "REQUESTER", func(f *policy.Facts) {
			f.Restrictions.Limit = []policy.Restriction{{ID: "x", Roles: []exchange.Role{"reviewer"}}}
		}},
		{"outside hours", "REQUESTER", func(f *policy.Facts) {
			f.Restrictions.Limit = []policy.Restriction{{ID: "x", Hours: &policy.Hours{From: 8 * 60, To: 17 * 60, Offset: 480}}}
		}},
		{"no rules", "NO-RULE", func(f *policy.Facts) { f.Rules = nil }},
		{"a rule by another holder", "NO-RULE", func(f *policy.Facts) { f.Rules[0].Provider = "shuiwu" }},
		{"a rule for another", "NO-RULE", func(f *policy.Facts) { f.Rules[0].To[0].Dept = "shuiwu" }},
		{"rule not yet", "RULE-EXPIRED", func(f *policy.Facts) { f.Rules[0].NotBefore = at.Add(time.Millisecond) }},
		{"rule over", "RULE-EXPIRED", func(f *policy.Facts) { f.Rules[0].NotAfter = at }},
		{"rule without end", "RULE-EXPIRED", func(f *policy.Facts) { f.Rules[0].NotAfter = time.Time{} }},
		{"basis not in rule", "BASIS", func(f *policy.Facts) { f.Authority.Basis = policy.LegalClaim }},
		{"more reads than the rule allows", "AUTH-SCOPE", func(f *policy.Facts) { f.Authority.MaxReads = 4 }},
		{"reads unbounded", "AUTH-SCOPE", func(f *policy.Facts) { f.Authority.MaxReads = 0 }},
		{"daily limit, unknown count", "UNDETERMINED", func(f *policy.Facts) { f.Rules[0].Limits.PerOfficerDay = 2 }},
		{"daily limit reached", "EXHAUSTED", func(f *policy.Facts) {
			f.Rules[0].Limits.PerOfficerDay, f.OfficerReads = 2, policy.Count{Known: true, N: 2}
		}},
		{"batches", "UNDETERMINED", func(f *policy.Facts) { f.Rules[0].Limits.Batch = 2 }},
		{"no grant", "NO-GRANT", func(f *policy.Facts) { f.Grant = policy.Grant{} }},
		{"grant withdrawn", "NO-GRANT", func(f *policy.Facts) { f.Grant.Active = false }},
		{"grant over", "NO-GRANT", func(f *policy.Facts) { f.Grant.NotAfter = at }},
		{"grant of fewer fields", "GRANT-SCOPE", func(f *policy.Facts) { f.Grant.Items[0].Views = f.Grant.Items[0].Views[:1] }},
		{"grant for another purpose", "GRANT-SCOPE", func(f *policy.Facts) { f.Grant.Items[0].Purposes = []exchange.Purpose{"other"} }},
		{"no authority", "NO-AUTHORITY", func(f *policy.Facts) { f.Authority = policy.Authority{} }},
		{"pending", "NO-AUTHORITY", func(f *policy.Facts) { f.Authority.State = policy.StatePending }},
		{"suspended", "NO-AUTHORITY", func(f *policy.Facts) { f.Authority.State = policy.StateSuspended }},
		{"state unknown", "NO-AUTHORITY", func(f *policy.Facts) { f.Authority.State = "" }},
		{"withdrawn", "WITHDRAWN", func(f *policy.Facts) { f.Authority.State = policy.StateWithdrawn }},
		{"expired by state", "AUTH-EXPIRED", func(f *policy.Facts) { f.Authority.State = policy.StateExpired }},
		{"expired by time", "AUTH-EXPIRED", func(f *policy.Facts) { f.Authority.NotAfter = at }},
		{"not yet", "AUTH-EXPIRED", func(f *policy.Facts) { f.Authority.NotBefore = at.Add(time.Second) }},
		{"without end", "AUTH-EXPIRED", func(f *policy.Facts) { f.Authority.NotAfter = time.Time{} }},
		{"exhausted by state", "EXHAUSTED", func(f *policy.Facts) { f.Authority.State = policy.StateExhausted }},
		{"no reads left", "EXHAUSTED", func(f *policy.Facts) { f.Authority.ReadsLeft = 0 }},
		{"fewer than no reads left", "EXHAUSTED", func(f *policy.Facts) { f.Authority.ReadsLeft = -1 }},
		{"another person", "AUTH-SCOPE", func(f *policy.Facts) { f.Authority.SubjectMatches = false }},
		{"another case", "AUTH-SCOPE", func(f *policy.Facts) { f.Authority.CaseMatches = false }},
		{"given to another", "AUTH-SCOPE", func(f *policy.Facts) { f.Authority.Grantee = "shuiwu" }},
		{"given for another's data", "AUTH-SCOPE", func(f *policy.Facts) { f.Authority.Provider = "shuiwu" }},
		{"consent to fewer fields", "AUTH-SCOPE", func(f *policy.Facts) { f.Authority.Views = f.Authority.Views[:1] }},
		{"consent to another item", "AUTH-SCOPE", func(f *policy.Facts) { f.Authority.Views[0].Item = "civil/other" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := fine()
			c.spoil(&f)
			d := policy.Decide(f)
			if got := codes(d); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if p, ok := d.Permit(); ok || p.Valid() || d.Allow || d.Obligations != (policy.Obligations{}) {
				t.Error("a denial permits")
			}
			for _, r := range d.Reasons {
				if r.Article == "" && r.Code != exchange.DenyBaseline {
					t.Errorf("%s has no article", r.Code)
				}
			}
		})
	}
}

// Nothing is skipped because something else failed: the zero facts fail every
// guard that needs no rule, grant or record to compare with.
func TestZeroFactsFailEverything(t *testing.T) {
	t.Parallel()
	want := "BAD-MESSAGE CASE MATERIAL MEMBER NO-AUTHORITY NO-GRANT NO-RULE OPERATOR UNDETERMINED UNKNOWN-ITEM"
	d := policy.Decide(policy.Facts{})
	if got := codes(d); got != want || d.Allow {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Modes between the ends prove different things: none stands in for another.
func TestModesDoNotStandInForOneAnother(t *testing.T) {
	t.Parallel()
	modes := []exchange.View{{Field: "f", Mode: exchange.Exists}, {Field: "f", Mode: exchange.Compare}, {Field: "f", Mode: exchange.Predicate, Predicate: "f>=1"},
		{Field: "f", Mode: exchange.Predicate, Predicate: "f>=2"}, {Field: "f", Mode: exchange.Mask}, {Field: "f", Mode: exchange.Value}}
	for _, permitted := range modes {
		for _, asked := range modes {
			f := fine()
			f.Views = []exchange.View{asked}
			f.Grant.Items[0].Views = modes
			f.Authority.Views = []exchange.ItemView{{Item: f.Item, View: value("f")}}
			f.Rules[0].Fields = map[exchange.Field][]exchange.View{"f": {permitted}}
			want := permitted == asked || permitted.Mode == exchange.Value
			if d := policy.Decide(f); d.Allow != want || !want && codes(d) != "FIELD" {
				t.Errorf("%v permitted, %v asked: allow is %t, %s", permitted, asked, d.Allow, codes(d))
			}
		}
	}
}

// Of several rules one that permits suffices; when none does, the reasons are
// of the one that comes closest, and not a mixture.
func TestSeveralRules(t *testing.T) {
	t.Parallel()
	f := fine()
	far := f.Rules[0]
	far.ID, far.Purposes, far.Basis = "r0", []exchange.Purpose{"other"}, []policy.BasisKind{policy.LegalClaim}
	f.Rules = []policy.Rule{far, f.Rules[0]}
	if d := policy.Decide(f); !d.Allow || d.Rule != "r1" {
		t.Fatalf("%+v", d)
	}
	f.Rules[1].NotAfter = at
	if d := policy.Decide(f); codes(d) != "RULE-EXPIRED" || d.Rule != "r1" {
		t.Errorf("got %s of %s", codes(d), d.Rule)
	}
	// Two halves do not make a whole: fields of one rule, purpose of another.
	f = fine()
	a, b := f.Rules[0], f.Rules[0]
	a.Fields = map[exchange.Field][]exchange.View{"marital_status": {value("marital_status")}}
	b.ID, b.Fields = "r2", map[exchange.Field][]exchange.View{"spouse_name": {value("spouse_name")}}
	f.Rules = []policy.Rule{a, b}
	if d := policy.Decide(f); d.Allow {
		t.Error("two rules were added up")
	}
}

func TestPermitsCannotBeMade(t *testing.T) {
	t.Parallel()
	var zero policy.Permit
	if zero.Valid() || zero.Item() != "" || len(zero.Views()) != 0 {
		t.Error("the zero permit permits")
	}
	if _, ok := (policy.Decision{Allow: true}).Permit(); ok {
		t.Error("a decision made by hand permits")
	}
	f := fine()
	f.CaseOpen = false
	d := policy.Decide(f)
	d.Allow, d.Reasons = true, nil
	if _, ok := d.Permit(); ok {
		t.Error("an edited denial permits")
	}
	d = policy.Decide(fine())
	p, _ := d.Permit()
	p.Views()[0] = value("photo")
	if slices.Contains(p.Views(), value("photo")) {
		t.Error("a permit's views can be changed from outside")
	}
	f = fine()
	d = policy.Decide(f)
	f.Views[0] = value("photo")
	if p, _ := d.Permit(); slices.Contains(p.Views(), value("photo")) {
		t.Error("a permit changes with the facts")
	}
}

// Every code of denial has texts, article and remedy in both languages. The
// codes are read from the source, so that a new one cannot be forgotten.
func TestEveryCodeIsExplained(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../exchange/codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []exchange.Code
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(s, "XQ-DENY-") {
				all = append(all, exchange.Code(s))
			}
		}
		return true
	})
	if len(all) < 20 {
		t.Fatalf("only %d codes were found", len(all))
	}
	seen := map[string]exchange.Code{}
	for _, code := range all {
		for _, lang := range []string{policy.LangZH, policy.LangEN} {
			text, article, remedy := policy.Explain(code, lang)
			if text == "" || article == "" || remedy == "" {
				t.Errorf("%s is not explained in %s", code, lang)
			}
			if other, twice := seen[text]; twice {
				t.Errorf("%s and %s read the same", code, other)
			}
			seen[text] = code
			chinese := strings.ContainsFunc(text+remedy+article, func(r rune) bool { return r >= 0x4e00 && r <= 0x9fff })
			if chinese != (lang == policy.LangZH) {
				t.Errorf("%s in %s is in the wrong language", code, lang)
			}
		}
	}
	if text, _, _ := policy.Explain(exchange.CodeInternal, policy.LangEN); text != "" {
		t.Error("a code that denies nothing is explained")
	}
}

func TestHours(t *testing.T) {
	t.Parallel()
	h := policy.Hours{From: 8 * 60, To: 18 * 60, Offset: 480}
	for clock, want := range map[string]bool{"00:00:00.000": true, "23:59:59.999": false, "09:59:59.999": true, "10:00:00.000": false} {
		at, err := time.Parse("2006-01-02 15:04:05.000", "2026-11-23 "+clock)
		if err != nil {
			t.Fatal(err)
		}
		if h.Includes(at) != want {
			t.Errorf("%s UTC: got %t", clock, !want)
		}
	}
}
