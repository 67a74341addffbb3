package rule_test

import (
	"strings"
	"testing"
	"time"

	"xinqiao/exchange"
	"xinqiao/policy"
	"xinqiao/policy/rule"
)

func TestDemoRulesLoadAndOpenEveryItem(t *testing.T) {
	t.Parallel()
	v, _ := demoVocabulary(t)
	opened := map[exchange.Item]bool{}
	for _, d := range depts() {
		rules, own := demoBundles(t, d, v)
		if own.Restrictions == nil || rules.Baseline != nil || rules.Restrictions != nil {
			t.Errorf("%s: bundles are of the wrong kind", d)
		}
		for _, r := range rules.Rules {
			opened[r.Item] = true
		}
	}
	for _, c := range v.Items {
		if !opened[c.Item] {
			t.Errorf("no rule opens %s", c.Item)
		}
	}
}

// story builds the facts of the demo's main exchange: housing asks civil
// affairs for two fields of a marriage record.
func story(t testing.TB) policy.Facts {
	t.Helper()
	v, base := demoVocabulary(t)
	rules, _ := demoBundles(t, "minzheng", v)
	_, own := demoBundles(t, "zhujian", v)
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	views := []exchange.View{{Field: "marital_status", Mode: exchange.Value}, {Field: "spouse_name", Mode: exchange.Value}}
	f := policy.Facts{
		At: at, Holder: "minzheng", Requester: "zhujian", HolderActive: true, RequesterActive: true,
		Item: "civil/marriage-record", Views: views, Purpose: "housing-eligibility", Matter: "000725001000",
		Role: "case_handler", CaseOpen: true, ItemKnown: true, MaterialsCurrent: true,
		Baseline: &base, Rules: rules.Rules, Restrictions: own.Restrictions,
		Grant: policy.Grant{Present: true, Active: true, NotAfter: at.AddDate(1, 0, 0), Items: []policy.GrantItem{
			{Item: "civil/marriage-record", Views: views, Purposes: []exchange.Purpose{"housing-eligibility"}}}},
		Authority: policy.Authority{Present: true, State: policy.StateActive, Basis: policy.Consent, Provider: "minzheng",
			Grantee: "zhujian", SubjectMatches: true, CaseMatches: true, Matter: "000725001000",
			Purposes: []exchange.Purpose{"housing-eligibility"}, NotAfter: at.AddDate(0, 0, 30), MaxReads: 3, ReadsLeft: 3},
	}
	for _, w := range views {
		f.Authority.Views = append(f.Authority.Views, exchange.ItemView{Item: f.Item, View: w})
	}
	return f
}

func TestStoryIsAllowedByBothJudges(t *testing.T) {
	t.Parallel()
	f := story(t)
	d := policy.Decide(f)
	permit, ok := d.Permit()
	if !ok || !permit.Valid() || permit.Rule() != "minzheng-marriage-01" {
		t.Fatalf("denied: %v", d.Reasons)
	}
	if d.Obligations.Retain != "P30D" || d.Obligations.Onward != "deny" {
		t.Errorf("obligations are %+v", d.Obligations)
	}
	c, err := rule.CompileCedar(rule.LayersOf(f))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Agree(f, d) {
		allow, failed, err := c.Decide(f)
		t.Errorf("cedar says %t %v %v", allow, failed, err)
	}
}

// A real record with the photo is refused by baseline, rule, restriction, grant
// and consent at once, and each of them is named.
func TestPhotoIsRefusedByEveryLayer(t *testing.T) {
	t.Parallel()
	f := story(t)
	f.Views = append(f.Views, exchange.View{Field: "photo", Mode: exchange.Value})
	d := policy.Decide(f)
	want := []exchange.Code{exchange.DenyAuthScope, exchange.DenyBaseline, exchange.DenyField, exchange.DenyGrantScope, exchange.DenyRequester}
	got := codesOf(d.Reasons)
	if strings.Join(strs(got), " ") != strings.Join(strs(want), " ") {
		t.Errorf("got %v, want %v", got, want)
	}
}

func strs[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

func TestParaphraseNamesEveryFieldInBothLanguages(t *testing.T) {
	t.Parallel()
	v, _ := demoVocabulary(t)
	for _, d := range depts() {
		rules, _ := demoBundles(t, d, v)
		for _, r := range rules.Rules {
			zh, en := rule.Paraphrase(r, v, policy.LangZH), rule.Paraphrase(r, v, policy.LangEN)
			if zh == en {
				t.Errorf("%s: the languages do not differ", r.ID)
			}
			for _, c := range v.Items {
				if c.Item != r.Item {
					continue
				}
				for _, f := range c.Fields {
					if !strings.Contains(zh, string(f.Name)) || !strings.Contains(en, string(f.Name)) {
						t.Errorf("%s: the paraphrase is silent about %s", r.ID, f.Name)
					}
				}
			}
			for _, s := range []string{zh, en} {
				if strings.Contains(s, "%!") || strings.Contains(s, "XQ-") {
					t.Errorf("%s: malformed paraphrase %q", r.ID, s)
				}
			}
		}
	}
}
