package demo

import (
	"embed"
	"fmt"
	"time"

	"xinqiao/exchange"
	"xinqiao/policy"
	"xinqiao/policy/rule"
)

//go:embed rules
var ruleFiles embed.FS

// Rules returns every holder's shipped rules.
func Rules() ([]policy.Rule, error) {
	words := rule.Vocabulary{}
	for _, d := range Departments() {
		words.Depts = append(words.Depts, policy.Term{Code: string(d.Dept), ZH: d.Name, EN: d.NameEN})
		words.Items = append(words.Items, Catalogue(d.Dept)...)
	}
	raw, err := ruleFiles.ReadFile("rules/" + rule.BaselineFile)
	if err != nil {
		return nil, err
	}
	baseline, err := rule.ParseBaseline(rule.BaselineFile, raw, words)
	if err != nil {
		return nil, err
	}
	words = words.WithBaseline(baseline)
	var all []policy.Rule
	for _, d := range Departments() {
		files, err := filesOf(d.Dept)
		if err != nil {
			return nil, err
		}
		delete(files, rule.RestrictionsFile)
		bundle, err := rule.ParseBundle(files, words)
		if err != nil {
			return nil, fmt.Errorf("rules of %s: %w", d.Dept, err)
		}
		all = append(all, bundle.Rules...)
	}
	return all, nil
}

// filesOf returns a department's shipped rule files by name.
func filesOf(dept exchange.Dept) (map[string][]byte, error) {
	names, err := ruleFiles.ReadDir("rules/" + string(dept))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, entry := range names {
		if files[entry.Name()], err = ruleFiles.ReadFile("rules/" + string(dept) + "/" + entry.Name()); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// ReadsPerConsent is how many reads the shipped rules allow a consent to carry.
const ReadsPerConsent = 10

// Subsidy is the i-th case of a subsidy in which 人社 asks 税务 whether an income
// lies under a bound: the consent to register, and the question to ask under it.
// It repeats after as many cases as there are certificates.
func Subsidy(i int) (exchange.ConsentForm, exchange.Question, error) {
	people, err := People()
	if err != nil {
		return exchange.ConsentForm{}, exchange.Question{}, err
	}
	records := people.Records(Shuiwu)
	subject := records[i%len(records)].Subject
	view := exchange.View{Field: "taxable_income", Mode: exchange.Predicate, Predicate: "taxable_income<=120000"}
	number := exchange.Case(fmt.Sprintf("RS-2026-%04d", i))
	form := consentFor(subject, number, ReadsPerConsent)
	form.Provider, form.Matter, form.Purposes = Shuiwu, "000714003000", []exchange.Purpose{"social-subsidy"}
	form.Views = []exchange.ItemView{{Item: IncomeCertificate, View: view}}
	form.NotAfter = form.NotAfter.Truncate(24 * time.Hour)
	return form, exchange.Question{Holder: Shuiwu, Item: IncomeCertificate, Subject: subject, Purpose: "social-subsidy",
		Matter: form.Matter, Case: number, Operator: operator, Views: []exchange.View{view}}, nil
}
