package rule_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"xinqiao/policy/rule"
)

// TestRefusals edits a rule that loads, one edit at a time. Each edit must be
// refused, with the line it stands on where that is one.
func TestRefusals(t *testing.T) {
	t.Parallel()
	v, _ := demoVocabulary(t)
	good := string(readFile(t, "minzheng", "civil-marriage-record.yaml"))
	if _, err := rule.ParseRule("r.yaml", []byte(good), v); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"unknown key":                {"retain: P30D", "retain: P30D\nretian: P30D"},
		"duplicate key":              {"retain: P30D", "retain: P30D\nretain: P30D"},
		"duplicate key inside":       {"spouse_name: value", "spouse_name: value\n  spouse_name: value"},
		"missing key":                {"onward: deny\n", ""},
		"onward transfer":            {"onward: deny", "onward: allow"},
		"wildcard field":             {"spouse_name: value", `"*": value`},
		"unknown field":              {"spouse_name: value", "spouse_nam: value"},
		"unknown mode":               {"spouse_name: value", "spouse_name: all"},
		"unnamed predicate":          {"spouse_name: value", "spouse_name: predicate"},
		"predicate not in catalogue": {"spouse_name: value", `spouse_name: {predicate: ["age>=18"]}`},
		"mode twice":                 {"spouse_name: value", "spouse_name: [value, value]"},
		"unknown department":         {"dept: zhujian", "dept: zhujiam"},
		"shared with itself":         {"dept: zhujian", "dept: minzheng"},
		"unknown matter":             {"matters: [000725001000]", "matters: [725001000]"},
		"unknown role":               {"roles: [case_handler]", "roles: [anyone]"},
		"unknown purpose":            {"purposes: [housing-eligibility]", "purposes: [marketing]"},
		"empty purposes":             {"purposes: [housing-eligibility]", "purposes: []"},
		"purposes not a list":        {"purposes: [housing-eligibility]", "purposes: housing-eligibility"},
		"unknown basis":              {"basis: [consent,", "basis: [curiosity,"},
		"duty without statute":       {"statute: [\"公共租赁住房管理办法 第七条\"]\n", ""},
		"item of another holder":     {"provider: minzheng", "provider: gongan"},
		"limit nothing enforces":     {"batch: 1", "batch: 5"},
		"limit of zero":              {"per_case: 10", "per_case: 0"},
		"negative limit":             {"per_case: 10", "per_case: -1"},
		"retention in prose":         {"retain: P30D", "retain: a month"},
		"retention of nothing":       {"retain: P30D", "retain: P"},
		"ends before it begins":      {"to: 2036-01-01}", "to: 2020-01-01}"},
		"no such date":               {"to: 2036-01-01}", "to: 2036-02-30}"},
		"anchor":                     {"retain: P30D", "retain: &x P30D"},
		"tag":                        {"retain: P30D", "retain: !!str P30D"},
		"alias":                      {"retain: P30D", "retain: *x"},
		"null":                       {"retain: P30D", "retain: ~"},
		"two documents":              {"retain: P30D", "retain: P30D\n---\na: b"},
		"not YAML":                   {"retain: P30D", "retain: [P30D"},
		"invalid UTF-8":              {"retain: P30D", "retain: \xff"},
		"example that lies":          {"because: operator", "because: basis"},
		"example of an allow denied": {"- allow: {views: {marital_status: value}}", "- allow: {views: {photo: value}}"},
		"deny without a reason":      {"    because: operator\n", ""},
		"unknown reason":             {"because: operator", "because: dislike"},
		"example without views":      {"- allow: {views: {marital_status: value}}", "- allow: {role: case_handler}"},
		"widened by mistake":         {"photo: never", "photo: value"},
		"narrowed by mistake":        {"marital_status: value\n  spouse_name", "marital_status: exists\n  spouse_name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := strings.Replace(good, edit[0], edit[1], 1)
			if src == good {
				t.Fatalf("the edit %q does nothing", edit[0])
			}
			_, err := rule.ParseRule("r.yaml", []byte(src), v)
			var e *rule.Error
			if !errors.As(err, &e) || e.File != "r.yaml" {
				t.Fatalf("accepted, or without its place: %v", err)
			}
		})
	}
}

func TestErrorsNameLineAndColumnAndComeTogether(t *testing.T) {
	t.Parallel()
	v, _ := demoVocabulary(t)
	src := strings.NewReplacer("roles: [case_handler]", "roles: [nobody]", "purposes: [housing-eligibility]", "purposes: [marketing]").
		Replace(string(readFile(t, "minzheng", "civil-marriage-record.yaml")))
	_, err := rule.ParseRule("m.yaml", []byte(src), v)
	for _, place := range []string{"m.yaml:5:", "m.yaml:6:12:"} {
		if err == nil || !strings.Contains(err.Error(), place) {
			t.Errorf("%s is not named in: %v", place, err)
		}
	}
}

func TestTooFewExamplesAreRefused(t *testing.T) {
	t.Parallel()
	v, _ := demoVocabulary(t)
	src := string(readFile(t, "minzheng", "civil-marriage-record.yaml"))
	head, _, _ := strings.Cut(src, "examples:\n")
	few := head + `examples:
  - allow: {views: {marital_status: value}}
  - allow: {views: {spouse_name: value}}
  - deny: {role: reviewer, views: {marital_status: value}}
    because: operator
  - deny: {views: {photo: value}}
    because: field
`
	if _, err := rule.ParseRule("r.yaml", []byte(few), v); err == nil {
		t.Error("two examples that deny are enough")
	}
	more := few + "  - deny: {authority: missing, views: {spouse_name: value}}\n    because: no_authority\n"
	if _, err := rule.ParseRule("r.yaml", []byte(more), v); err != nil {
		t.Error(err)
	}
}

func TestBundlesAreCheckedAsAWhole(t *testing.T) {
	t.Parallel()
	v, _ := demoVocabulary(t)
	a, b := readFile(t, "shuiwu", "income-for-housing.yaml"), readFile(t, "minzheng", "civil-marriage-record.yaml")
	same := []byte(strings.Replace(string(a), "shuiwu-income-01", "shuiwu-income-09", 1))
	for name, files := range map[string]map[string][]byte{
		"none":                  {},
		"same id twice":         {"a.yaml": a, "b.yaml": a},
		"same purpose twice":    {"a.yaml": a, "b.yaml": same},
		"two holders":           {"a.yaml": a, "b.yaml": b},
		"path in a name":        {"../a.yaml": a},
		"not a YAML name":       {"a.txt": a},
		"baseline among rules":  {"a.yaml": a, rule.BaselineFile: readFile(t, "baseline.yaml")},
		"one of the files bad":  {"a.yaml": a, "b.yaml": []byte("rule: x")},
		"baseline of two files": {rule.BaselineFile: readFile(t, "baseline.yaml"), rule.RestrictionsFile: readFile(t, "zhujian", "restrictions.yaml")},
	} {
		if got, err := rule.ParseBundle(files, v); err == nil || len(got.Rules) > 0 || got.Owner() != "" {
			t.Errorf("%s: accepted: %v, %v", name, got, err)
		}
	}
}

func TestBundleEncoding(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"b.yaml": []byte("b"), "a.yaml": []byte("a")}
	x, err := rule.EncodeBundle(files)
	if err != nil {
		t.Fatal(err)
	}
	y, _ := rule.EncodeBundle(map[string][]byte{"a.yaml": []byte("a"), "b.yaml": []byte("b")})
	if string(x) != string(y) {
		t.Error("the encoding depends on the order of the map")
	}
	for i := range x {
		for _, bit := range []byte{1, 0x80} {
			z := append([]byte(nil), x...)
			z[i] ^= bit
			got, err := rule.DecodeBundle(z)
			if err == nil && string(got["a.yaml"]) == "a" && string(got["b.yaml"]) == "b" {
				t.Errorf("a flip in byte %d is not noticed", i)
			}
		}
	}
	if _, err := rule.DecodeBundle(append(x, 0)); err == nil {
		t.Error("trailing bytes are accepted")
	}
	if _, err := rule.DecodeBundle(x[:len(x)-1]); err == nil {
		t.Error("a truncated bundle is accepted")
	}
	if _, err := rule.EncodeBundle(map[string][]byte{"a.yaml": make([]byte, rule.MaxBundle)}); !errors.Is(err, rule.ErrBundle) {
		t.Errorf("a bundle over the limit: %v", err)
	}
}

// FuzzParseRule looks for panics, and for files that load and were not meant
// to: whatever loads again has a rule with an item, recipients and an end.
func FuzzParseRule(f *testing.F) {
	v, _ := demoVocabulary(f)
	for _, d := range depts() {
		entries, err := os.ReadDir(demoRules + "/" + d)
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range entries {
			f.Add(readFile(f, d, e.Name()))
		}
	}
	f.Add([]byte("a: &a [*a, *a]"))
	f.Add([]byte("? {a: b}\n: c"))
	f.Add([]byte(strings.Repeat("[", 20000)))
	f.Add([]byte("<<: *x"))
	f.Fuzz(func(t *testing.T, src []byte) {
		r, err := rule.ParseRule("f.yaml", src, v)
		if err == nil && (r.Item == "" || len(r.To) == 0 || len(r.Purposes) == 0 || len(r.Basis) == 0 || r.NotAfter.IsZero()) {
			t.Errorf("an incomplete rule was loaded: %+v", r)
		}
	})
}
