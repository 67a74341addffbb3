package rule_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go"
	"pgregory.net/rapid"

	"xinqiao/exchange"
	"xinqiao/policy"
	"xinqiao/policy/rule"
)

// The words of the random worlds: few, so that they meet.
var (
	someDepts    = []exchange.Dept{"aa", "bb", "cc", ""}
	someItems    = []exchange.Item{"civil/xx", "civil/yy", "health/xx", "bad item"}
	someFields   = []exchange.Field{"f1", "f2", "f3", "Bad Field"}
	somePurposes = []exchange.Purpose{"p1", "p2", "p3", ""}
	someMatters  = []exchange.Matter{"000001", "000002", "x"}
	someRoles    = []exchange.Role{"r1", "r2", ""}
	someBases    = []policy.BasisKind{policy.Consent, policy.StatutoryDuty, policy.Emergency, ""}
	someStates   = []policy.AuthorityState{policy.StateActive, policy.StateActive, policy.StateActive, policy.StateWithdrawn,
		policy.StateExpired, policy.StateExhausted, policy.StateSuspended, "", "ACTIVE"}
	start = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
)

func pick[T any](t *rapid.T, from []T) T { return rapid.SampledFrom(from).Draw(t, "") }

// often is true about nine times in ten. rapid prefers small numbers and the
// ends of a range, so it picks from a list.
func often(t *rapid.T) bool {
	return pick(t, []bool{true, true, true, true, true, true, true, true, true, false})
}

func some[T comparable](t *rapid.T, from []T) []T {
	out := rapid.SliceOfNDistinct(rapid.SampledFrom(from), 0, len(from), rapid.ID[T]).Draw(t, "")
	return out
}

func drawTime(t *rapid.T) time.Time {
	if rapid.IntRange(0, 19).Draw(t, "") == 0 {
		return time.Time{}
	}
	return start.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "")) * 12 * time.Hour).
		Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "")) * time.Millisecond)
}

func period(t *rapid.T) (from, to time.Time) {
	if often(t) {
		return start.Add(-100 * time.Hour), start.Add(100 * time.Hour)
	}
	return drawTime(t), drawTime(t)
}

func drawView(t *rapid.T) exchange.View {
	v := exchange.View{Field: pick(t, someFields[:3]), Mode: pick(t, []exchange.Mode{exchange.Value, exchange.Mask, exchange.Predicate, exchange.Exists})}
	if v.Mode == exchange.Predicate {
		v.Predicate = pick(t, []string{"f1>=1", "f1>=2"})
	}
	if rapid.IntRange(0, 29).Draw(t, "") == 0 {
		v = exchange.View{Field: pick(t, someFields), Mode: exchange.Mode(rapid.IntRange(0, 9).Draw(t, "")), Predicate: pick(t, []string{"", "x"})}
	}
	return v
}

func drawViews(t *rapid.T, most int) []exchange.View {
	return rapid.SliceOfN(rapid.Custom(drawView), 0, most).Draw(t, "")
}

func drawRule(t *rapid.T) policy.Rule {
	r := policy.Rule{ID: pick(t, []string{"one", "two", "three"}), Item: pick(t, someItems[:2]), Provider: "aa",
		Purposes: some(t, somePurposes), Basis: some(t, someBases), Fields: map[exchange.Field][]exchange.View{}, Retain: "P1D"}
	if !often(t) {
		r.Provider = pick(t, someDepts)
	}
	r.NotBefore, r.NotAfter = period(t)
	if often(t) {
		r.To = []policy.Recipient{{Dept: "bb", Matters: someMatters[:2], Roles: someRoles[:2]}}
	}
	for range rapid.IntRange(0, 3).Draw(t, "") {
		r.To = append(r.To, policy.Recipient{Dept: pick(t, someDepts), Matters: some(t, someMatters), Roles: some(t, someRoles)})
	}
	if often(t) {
		r.Purposes, r.Basis = somePurposes[:2], someBases[:2]
		r.Fields["f1"] = []exchange.View{{Field: "f1", Mode: exchange.Value}}
	}
	for _, v := range drawViews(t, 8) {
		f := v.Field
		if rapid.IntRange(0, 29).Draw(t, "") == 0 {
			f = pick(t, someFields)
		}
		r.Fields[f] = append(r.Fields[f], v)
	}
	limit := []uint32{0, 0, 1, 3}
	r.Limits = policy.Limits{PerCase: pick(t, limit), PerOfficerDay: pick(t, limit), Batch: pick(t, []uint32{0, 1, 1, 1, 1, 2})}
	return r
}

func terms[T ~string](list []T) []policy.Term {
	var out []policy.Term
	for _, c := range list {
		out = append(out, policy.Term{Code: string(c)})
	}
	return out
}

func drawLayers(t *rapid.T) rule.Layers {
	var l rule.Layers
	for range rapid.IntRange(0, 4).Draw(t, "") {
		l.Rules = append(l.Rules, drawRule(t))
	}
	if often(t) {
		b := &policy.Baseline{Purposes: terms(somePurposes), Matters: terms(someMatters), Roles: terms(someRoles), Bases: someBases}
		if !often(t) {
			b.Purposes, b.Matters, b.Roles, b.Bases = terms(some(t, somePurposes)), terms(some(t, someMatters)), terms(some(t, someRoles)), some(t, someBases)
		}
		for range rapid.IntRange(0, 2).Draw(t, "") {
			b.Forbid = append(b.Forbid, policy.Prohibition{ID: "f", Class: pick(t, []string{"", "civil", "health"}),
				Item: pick(t, []exchange.Item{"", "civil/xx"}), To: some(t, someDepts), Purposes: some(t, somePurposes),
				Fields: some(t, someFields), Above: exchange.Mode(rapid.IntRange(0, 5).Draw(t, ""))})
		}
		l.Baseline = b
	}
	if often(t) {
		own := &policy.Restrictions{Dept: "bb"}
		for range rapid.IntRange(0, 2).Draw(t, "") {
			r := policy.Restriction{ID: "r", Item: pick(t, []exchange.Item{"", "civil/xx"})}
			if !often(t) {
				r.Roles, r.Purposes = some(t, someRoles), some(t, somePurposes)
			}
			if !often(t) {
				r.Never = some(t, someFields)
			}
			if !often(t) {
				r.Hours = &policy.Hours{From: rapid.IntRange(0, 700).Draw(t, ""), To: rapid.IntRange(700, 1440).Draw(t, ""), Offset: pick(t, []int{0, 480, -300})}
			}
			own.Limit = append(own.Limit, r)
		}
		l.Restrictions = own
	}
	return l
}

// drawFacts starts near facts that are all fine and spoils some of them.
func drawFacts(t *rapid.T, l rule.Layers) policy.Facts {
	f := policy.Facts{At: drawTime(t), Holder: "aa", Requester: "bb", HolderActive: often(t), RequesterActive: often(t),
		Item: pick(t, someItems[:2]), Views: drawViews(t, 3), Purpose: pick(t, somePurposes[:3]), Matter: pick(t, someMatters[:2]),
		Role: pick(t, someRoles[:2]), CaseOpen: often(t), ItemKnown: often(t), MaterialsCurrent: often(t),
		OfficerReads: policy.Count{Known: often(t), N: uint32(rapid.IntRange(0, 4).Draw(t, ""))},
		Baseline:     l.Baseline, Rules: l.Rules, Restrictions: l.Restrictions}
	if !often(t) {
		f.Holder, f.Requester, f.Item = pick(t, someDepts), pick(t, someDepts), pick(t, someItems)
		f.Purpose, f.Matter, f.Role = pick(t, somePurposes), pick(t, someMatters), pick(t, someRoles)
	}
	if len(l.Rules) > 0 && often(t) { // ask for what some rule permits
		r := pick(t, l.Rules)
		f.Item, f.Views = r.Item, nil
		for _, name := range []exchange.Field{"f1", "f2", "f3"} {
			if p := r.Fields[name]; len(p) > 0 && often(t) {
				f.Views = append(f.Views, p[0])
			}
		}
		if len(r.Purposes) > 0 {
			f.Purpose = r.Purposes[0]
		}
		if len(r.To) > 0 && len(r.To[0].Matters) > 0 && len(r.To[0].Roles) > 0 {
			f.Requester, f.Matter, f.Role = r.To[0].Dept, r.To[0].Matters[0], r.To[0].Roles[0]
		}
	}
	f.Grant = policy.Grant{Present: often(t), Active: often(t)}
	f.Grant.NotBefore, f.Grant.NotAfter = period(t)
	for range rapid.IntRange(0, 2).Draw(t, "") {
		f.Grant.Items = append(f.Grant.Items, policy.GrantItem{Item: pick(t, someItems), Views: drawViews(t, 4), Purposes: some(t, somePurposes)})
	}
	if often(t) {
		f.Grant.Items = append(f.Grant.Items, policy.GrantItem{Item: f.Item, Views: f.Views, Purposes: []exchange.Purpose{f.Purpose}})
	}
	f.Authority = drawAuthority(t, f)
	return f
}

// fineFacts is what a rule, and everything else but baseline and restrictions,
// permits, with up to two parts taken from facts drawn at random.
func fineFacts(t *rapid.T, l rule.Layers) policy.Facts {
	other := drawFacts(t, l)
	f := policy.Facts{At: start, Holder: "aa", Requester: "bb", HolderActive: true, RequesterActive: true, Purpose: "p1",
		Matter: "000001", Role: "r1", CaseOpen: true, ItemKnown: true, MaterialsCurrent: true, OfficerReads: policy.Count{Known: true},
		Baseline: l.Baseline, Rules: l.Rules, Restrictions: l.Restrictions}
	r := pick(t, append(slices.Clone(l.Rules), policy.Rule{Item: "civil/xx"}))
	f.Item = r.Item
	for _, name := range someFields[:3] {
		f.Views = append(f.Views, r.Fields[name]...)
	}
	if len(r.Purposes) > 0 {
		f.Purpose = r.Purposes[0]
	}
	for _, to := range r.To {
		if to.Dept == f.Requester && len(to.Matters) > 0 && len(to.Roles) > 0 {
			f.Matter, f.Role = to.Matters[0], to.Roles[0]
		}
	}
	slices.SortFunc(f.Views, func(a, b exchange.View) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	f.Views = slices.Compact(f.Views)
	f.Grant = policy.Grant{Present: true, Active: true, NotAfter: start.AddDate(1, 0, 0), Items: []policy.GrantItem{
		{Item: f.Item, Views: f.Views, Purposes: []exchange.Purpose{f.Purpose}}}}
	f.Authority = policy.Authority{Present: true, State: policy.StateActive, Basis: policy.Consent, Provider: "aa", Grantee: "bb",
		SubjectMatches: true, CaseMatches: true, Matter: f.Matter, Purposes: []exchange.Purpose{f.Purpose},
		NotAfter: start.AddDate(1, 0, 0), MaxReads: 1, ReadsLeft: 1}
	if len(r.Basis) > 0 {
		f.Authority.Basis = r.Basis[0]
	}
	for _, v := range f.Views {
		f.Authority.Views = append(f.Authority.Views, exchange.ItemView{Item: f.Item, View: v})
	}
	spoil := []func(){
		func() { f.At = other.At }, func() { f.Holder = other.Holder }, func() { f.Requester = other.Requester },
		func() { f.HolderActive = false }, func() { f.RequesterActive = false }, func() { f.Item = other.Item },
		func() { f.Views = other.Views }, func() { f.Purpose = other.Purpose }, func() { f.Matter = other.Matter },
		func() { f.Role = other.Role }, func() { f.CaseOpen = false }, func() { f.ItemKnown = false },
		func() { f.MaterialsCurrent = false }, func() { f.OfficerReads = other.OfficerReads }, func() { f.Grant = other.Grant },
		func() { f.Grant.Active = false }, func() { f.Grant.Items = other.Grant.Items }, func() { f.Authority = other.Authority },
		func() { f.Authority.State = other.Authority.State }, func() { f.Authority.ReadsLeft = other.Authority.ReadsLeft },
		func() { f.Authority.MaxReads = other.Authority.MaxReads }, func() { f.Authority.SubjectMatches = false },
		func() { f.Authority.CaseMatches = false }, func() { f.Authority.Views = other.Authority.Views },
		func() { f.Authority.NotAfter = other.Authority.NotAfter }, func() { f.Authority.Basis = other.Authority.Basis },
	}
	for range pick(t, []int{0, 1, 1, 2}) {
		pick(t, spoil)()
	}
	return f
}

func drawAuthority(t *rapid.T, f policy.Facts) policy.Authority {
	a := policy.Authority{Present: often(t), State: pick(t, someStates), Basis: pick(t, someBases[:2]), Provider: f.Holder,
		Grantee: f.Requester, SubjectMatches: often(t), CaseMatches: often(t), Matter: f.Matter,
		Purposes: []exchange.Purpose{f.Purpose}, MaxReads: rapid.IntRange(-1, 4).Draw(t, ""), ReadsLeft: rapid.IntRange(-1, 4).Draw(t, "")}
	a.NotBefore, a.NotAfter = period(t)
	for _, v := range f.Views {
		if often(t) {
			a.Views = append(a.Views, exchange.ItemView{Item: f.Item, View: v})
		}
	}
	for _, v := range drawViews(t, 2) {
		a.Views = append(a.Views, exchange.ItemView{Item: pick(t, someItems), View: v})
	}
	if !often(t) {
		a.Provider, a.Grantee, a.Matter, a.Purposes = pick(t, someDepts), pick(t, someDepts), pick(t, someMatters), some(t, somePurposes)
		a.Basis = pick(t, someBases)
	}
	return a
}

// world is one draw: layers, and many facts about them.
type world struct {
	layers rule.Layers
	facts  []policy.Facts
}

func worlds(facts int) *rapid.Generator[world] {
	return rapid.Custom(func(t *rapid.T) world {
		w := world{layers: drawLayers(t)}
		for range facts {
			draw := pick(t, []func(*rapid.T, rule.Layers) policy.Facts{drawFacts, fineFacts, fineFacts})
			w.facts = append(w.facts, draw(t, w.layers))
		}
		return w
	})
}

// The two judges agree on the decision and on the codes. With the default of
// 100 checks this is 20 000 cases.
func TestJudgesAgree(t *testing.T) {
	t.Parallel()
	var allowed, denied int
	perCode := map[exchange.Code]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := worlds(200).Draw(t, "world")
		c, err := rule.CompileCedar(w.layers)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range w.facts {
			d := policy.Decide(f)
			if d.Allow == (len(d.Reasons) > 0) {
				t.Fatalf("allow is %t with reasons %v", d.Allow, d.Reasons)
			}
			if !c.Agree(f, d) {
				allow, failed, err := c.Decide(f)
				t.Fatalf("plain: %t %v\ncedar: %t %v %v\nfacts: %+v\n%s", d.Allow, d.Reasons, allow, failed, err, f, c.Text())
			}
			if d.Allow {
				allowed++
			} else {
				denied++
			}
			for _, code := range codesOf(d.Reasons) {
				perCode[code]++
			}
		}
	})
	t.Logf("%d allowed, %d denied, %v", allowed, denied, perCode)
	if allowed < 100 || denied < 100 {
		t.Errorf("the cases are one-sided: %d allowed, %d denied", allowed, denied)
	}
}

// The comparison is worth something: a judge that is wrong in one place is
// caught, whichever place it is.
func TestWrongJudgesAreCaught(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*policy.Facts, *rule.Layers){
		"a field too many": func(_ *policy.Facts, l *rule.Layers) {
			l.Rules = slices.Clone(l.Rules)
			for i := range l.Rules {
				l.Rules[i].Fields = map[exchange.Field][]exchange.View{"f1": {{Field: "f1", Mode: exchange.Value}},
					"f2": l.Rules[i].Fields["f2"], "f3": l.Rules[i].Fields["f3"]}
			}
		},
		"no end of validity": func(_ *policy.Facts, l *rule.Layers) {
			l.Rules = slices.Clone(l.Rules)
			for i := range l.Rules {
				l.Rules[i].NotAfter = start.AddDate(9, 0, 0)
			}
		},
		"no prohibitions": func(_ *policy.Facts, l *rule.Layers) {
			if l.Baseline != nil {
				b := *l.Baseline
				b.Forbid, l.Baseline = nil, &b
			}
		},
		"no restrictions": func(_ *policy.Facts, l *rule.Layers) {
			if l.Restrictions != nil {
				l.Restrictions = &policy.Restrictions{Dept: l.Restrictions.Dept}
			}
		},
		"blind to withdrawal":    func(f *policy.Facts, _ *rule.Layers) { f.Authority.State = policy.StateActive },
		"blind to the quota":     func(f *policy.Facts, _ *rule.Layers) { f.Authority.ReadsLeft = 1 },
		"blind to the case":      func(f *policy.Facts, _ *rule.Layers) { f.CaseOpen = true },
		"blind to the subject":   func(f *policy.Facts, _ *rule.Layers) { f.Authority.SubjectMatches = true },
		"blind to the grant":     func(f *policy.Facts, _ *rule.Layers) { f.Grant.Active = true },
		"blind to materials":     func(f *policy.Facts, _ *rule.Layers) { f.MaterialsCurrent = true },
		"late by a millisecond":  func(f *policy.Facts, _ *rule.Layers) { f.At = f.At.Add(-time.Millisecond) },
		"blind to the last view": func(f *policy.Facts, _ *rule.Layers) { f.Views = f.Views[:min(1, len(f.Views))] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gen := worlds(40)
			for seed := range 60 {
				w := gen.Example(seed)
				for _, f := range w.facts {
					seen, layers := f, w.layers
					spoil(&seen, &layers)
					c, err := rule.CompileCedar(layers)
					if err != nil {
						t.Fatal(err)
					}
					if !c.Agree(seen, policy.Decide(f)) {
						return
					}
				}
			}
			t.Error("the wrong judge was not caught")
		})
	}
}

// Cedar skips a forbid that fails to evaluate, which would allow. Here the hours
// cannot be computed, the permit holds, and the judge must not allow.
func TestErrorsOfCedarDeny(t *testing.T) {
	t.Parallel()
	f := story(t)
	f.At = time.UnixMilli(math.MaxInt64)
	f.Restrictions = &policy.Restrictions{Dept: f.Requester, Limit: []policy.Restriction{{ID: "x", Hours: &policy.Hours{To: 24 * 60, Offset: 480}}}}
	c, err := rule.CompileCedar(rule.LayersOf(f))
	if err != nil {
		t.Fatal(err)
	}
	if allow, failed, err := c.Decide(f); allow || failed != nil || !errors.Is(err, rule.ErrCedar) {
		t.Errorf("got %t %v %v", allow, failed, err)
	}
	if c.Agree(f, policy.Decide(f)) {
		t.Error("an error counts as agreement")
	}
}

// What Text writes is Cedar that parses, and policies read from it decide like
// those compiled: an auditor needs nothing else.
func TestTextIsCedar(t *testing.T) {
	t.Parallel()
	f := story(t)
	c, err := rule.CompileCedar(rule.LayersOf(f))
	if err != nil {
		t.Fatal(err)
	}
	again, err := rule.CompileCedar(rule.LayersOf(f))
	if err != nil || !bytes.Equal(c.Text(), again.Text()) {
		t.Error("the text is not the same each time")
	}
	set, err := cedar.NewPolicySetFromBytes("policies.cedar", c.Text())
	if err != nil {
		t.Fatal(err)
	}
	permits, forbids := 0, 0
	for _, p := range set.All() {
		if p.Effect() == cedar.Permit {
			permits++
			continue
		}
		forbids++
		if text, _, _ := policy.Explain(exchange.Code(p.Annotations()["code"]), policy.LangEN); text == "" {
			t.Errorf("a forbid without a code: %s", p.MarshalCedar())
		}
	}
	if permits != len(f.Rules) || forbids < 30 {
		t.Errorf("%d permits and %d forbids", permits, forbids)
	}
}

func BenchmarkDecide(b *testing.B) {
	f := story(b)
	c, err := rule.CompileCedar(rule.LayersOf(f))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !policy.Decide(f).Allow {
				b.Fatal("denied")
			}
		}
	})
	b.Run("cedar", func(b *testing.B) {
		for b.Loop() {
			if allow, _, err := c.Decide(f); !allow {
				b.Fatal(fmt.Errorf("denied: %w", err))
			}
		}
	})
}
