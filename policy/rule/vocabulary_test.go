package rule_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"xinqiao/exchange"
	"xinqiao/policy"
	"xinqiao/policy/rule"
)

// demoItems is the catalogue that the demo's rules are written against:
// holder, item, and its fields; a field's predicates follow it in parentheses.
const demoItems = `
minzheng civil/marriage-record record_no marital_status registered_on registry holder_name holder_id_no spouse_name spouse_id_no certificate_no remarks photo
gongan population/household-record name sex birth_date(age>=18|age>=60) id_no ethnicity address household_no relation_to_head photo
renshe social/insurance-record name id_no insured_since months_paid(months_paid>=12|months_paid>=24) employer_name employer_uscc status monthly_base
shuiwu tax/income-certificate name id_no year taxable_income(taxable_income<=60000|taxable_income<=120000) tax_paid certificate_no issued_on
zhujian housing/property-record name id_no property_no address area_sqm registered_on mortgage status
weijian health/birth-certificate certificate_no child_name born_on mother_name mother_id_no father_name father_id_no hospital
weijian licence/practising-certificate name id_no licence_no category valid_from valid_to status`

// vocabulary returns the demo's departments and catalogue, without code lists.
func vocabulary() rule.Vocabulary {
	var v rule.Vocabulary
	for _, d := range [][3]string{{"gongan", "公安", "Public Security"}, {"minzheng", "民政", "Civil Affairs"},
		{"renshe", "人社", "Human Resources"}, {"zhujian", "住建", "Housing"}, {"shuiwu", "税务", "Taxation"},
		{"weijian", "卫健", "Health"}} {
		v.Depts = append(v.Depts, policy.Term{Code: d[0], ZH: d[1], EN: d[2]})
	}
	for _, line := range strings.Split(strings.TrimSpace(demoItems), "\n") {
		words := strings.Fields(line)
		c := exchange.CatalogueItem{Holder: exchange.Dept(words[0]), Item: exchange.Item(words[1])}
		for _, w := range words[2:] {
			name, rest, _ := strings.Cut(w, "(")
			f := exchange.CatalogueField{Name: exchange.Field(name)}
			if rest != "" {
				f.Predicates = strings.Split(strings.TrimSuffix(rest, ")"), "|")
			}
			c.Fields = append(c.Fields, f)
		}
		v.Items = append(v.Items, c)
	}
	return v
}

var demoRules = filepath.Join("..", "..", "exchange", "demo", "rules")

func readFile(t testing.TB, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{demoRules}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// demoVocabulary is vocabulary with the code lists of the demo's baseline.
func demoVocabulary(t testing.TB) (rule.Vocabulary, policy.Baseline) {
	t.Helper()
	v := vocabulary()
	b, err := rule.ParseBaseline("baseline.yaml", readFile(t, "baseline.yaml"), v)
	if err != nil {
		t.Fatal(err)
	}
	return v.WithBaseline(b), b
}

// demoBundles reads a department's rules and restrictions.
func demoBundles(t testing.TB, dept string, v rule.Vocabulary) (rules, restrictions rule.Bundle) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(demoRules, dept, "*.yaml"))
	if err != nil || len(names) < 2 {
		t.Fatalf("%s: want rules and restrictions, have %v, %v", dept, names, err)
	}
	files := map[string][]byte{}
	for _, n := range names {
		files[filepath.Base(n)] = readFile(t, dept, filepath.Base(n))
	}
	own := map[string][]byte{rule.RestrictionsFile: files[rule.RestrictionsFile]}
	delete(files, rule.RestrictionsFile)
	for _, b := range []struct {
		files map[string][]byte
		to    *rule.Bundle
	}{{files, &rules}, {own, &restrictions}} {
		encoded, err := rule.EncodeBundle(b.files)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := rule.DecodeBundle(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if *b.to, err = rule.ParseBundle(decoded, v); err != nil {
			t.Fatal(err)
		}
		if b.to.Owner() != exchange.Dept(dept) {
			t.Errorf("%s: owner is %q", dept, b.to.Owner())
		}
	}
	return rules, restrictions
}

func depts() []string {
	return []string{"gongan", "minzheng", "renshe", "shuiwu", "weijian", "zhujian"}
}

func codesOf(reasons []exchange.Reason) []exchange.Code {
	var out []exchange.Code
	for _, r := range reasons {
		out = append(out, r.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
