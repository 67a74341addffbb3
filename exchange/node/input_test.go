package node_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"xinqiao/exchange"
	"xinqiao/exchange/api"
	"xinqiao/exchange/client"
	"xinqiao/exchange/demo"
)

// badInput sends what programs with mistakes send, and what people send who look
// for some. Each gets its stable code; nothing of it reaches the ledger, and the
// node goes on.
func badInput(t *testing.T, n *network) {
	good := string(inJSON(t, question(demo.Wife(), "ZJ-BAD", "")))
	with := func(old, instead string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the question has no %s", old)
		}
		return strings.Replace(good, old, instead, 1)
	}
	wife := demo.Wife().ID
	for _, c := range []struct {
		name, body string
		status     int
		code       exchange.Code
		header     []string
	}{
		{"empty", "", 400, exchange.CodeJSON, nil},
		{"not JSON", "holder=minzheng", 400, exchange.CodeJSON, nil},
		{"half", good[:len(good)/2], 400, exchange.CodeJSON, nil},
		{"array", "[" + good + "]", 400, "", nil},
		{"null", "null", 400, "", nil},
		{"two values", good + good, 400, exchange.CodeJSON, nil},
		{"not UTF-8", with("minzheng", "minzh\xffng"), 400, exchange.CodeJSON, nil},
		{"unknown member", with(`"holder"`, `"admin":true,"holder"`), 400, exchange.CodeJSON, nil},
		{"member twice", with(`"holder"`, `"holder":"gongan","holder"`), 400, exchange.CodeJSON, nil},
		{"member in capitals", with(`"holder"`, `"Holder"`), 400, exchange.CodeJSON, nil},
		{"unknown member of a field", with(`"mode"`, `"x":1,"mode"`), 400, exchange.CodeJSON, nil},
		{"deep", strings.Repeat(`{"subject":`, 5000), 400, "", nil},
		{"oversize", with(`"holder"`, strings.Repeat(" ", 65<<10)+`"holder"`), 413, exchange.CodeTooLarge, nil},
		{"content type", good, 415, exchange.CodeContentType, []string{"Content-Type", "text/plain"}},
		{"compressed", good, 415, exchange.CodeContentType, []string{"Content-Encoding", "gzip"}},
		{"no token", good, 401, exchange.CodeCredentials, []string{"Authorization", ""}},
		{"wrong token", good, 401, exchange.CodeCredentials, []string{"Authorization", "Bearer " + strings.Repeat("0", 32)}},
		{"another node's token", good, 401, exchange.CodeCredentials, []string{"Authorization", "Bearer " + n.Site(demo.Weijian).Token}},
		{"short key", good, 400, exchange.CodeIdempotency, []string{"Idempotency-Key", "1"}},
		{"key with spaces", good, 400, exchange.CodeIdempotency, []string{"Idempotency-Key", "a b c d e f g h"}},
		{"unknown department", with("minzheng", "nobody"), 404, exchange.CodeUnknownDept, nil},
		{"the authority", with("minzheng", "authority"), 404, exchange.CodeUnknownDept, nil},
		{"itself", with("minzheng", "zhujian"), 400, exchange.CodeField, nil},
		{"unknown item", with("civil/marriage-record", "civil/love-letter"), 404, exchange.CodeUnknownItem, nil},
		{"malformed item", with("civil/marriage-record", "../keys.xq"), 400, exchange.CodeField, nil},
		{"empty holder", with("minzheng", ""), 400, exchange.CodeField, nil},
		{"empty case", with("ZJ-BAD", ""), 400, exchange.CodeField, nil},
		{"empty operator", with("op-0417", ""), 400, exchange.CodeField, nil},
		{"empty purpose", with(`"housing-eligibility"`, `""`), 400, exchange.CodeField, nil},
		{"matter in words", with("000725001000", "housing"), 400, exchange.CodeField, nil},
		{"matter as number", with(`"000725001000"`, "725001000"), 400, exchange.CodeField, nil},
		{"unknown mode", with(`"mode":"value"`, `"mode":"everything"`), 400, "", nil},
		{"mode never", with(`"mode":"value"`, `"mode":"never"`), 400, exchange.CodeField, nil},
		{"authority in words", with(`"case"`, `"authority":"yes","case"`), 400, exchange.CodeField, nil},
		{"short number", with(wife, wife[:17]), 400, exchange.CodeSubject, nil},
		{"letters in the number", with(wife, "A"+wife[1:]), 400, exchange.CodeSubject, nil},
		{"no such day", with(wife, "990102199402310025"), 400, exchange.CodeSubject, nil},
		{"full-width digits", with(wife, strings.Repeat("９", 6)), 400, exchange.CodeSubject, nil},
		{"a real person", with(wife, realPerson()), 400, exchange.CodeSubject, nil},
		{"unknown kind of subject", with(`"person"`, `"animal"`), 400, exchange.CodeSubject, nil},
	} {
		key, header := client.NewKey(), c.header
		status, body := n.call(t, demo.Zhujian, "POST", "/api/v1/exchanges", key, []byte(c.body), header...)
		var p api.Problem
		if err := json.Unmarshal(body, &p); err != nil || status != c.status || p.Status != status || p.TraceID == "" || p.Retryable {
			t.Errorf("%s: status %d, want %d: %s", c.name, status, c.status, body)
			continue
		}
		if !strings.HasPrefix(string(p.Code), "XQ-") || c.code != "" && p.Code != c.code {
			t.Errorf("%s: code %s, want %s", c.name, p.Code, c.code)
		}
		for _, secret := range []string{wife, realPerson(), n.Site(demo.Weijian).Token, "goroutine"} {
			if bytes.Contains(body, []byte(secret)) {
				t.Errorf("%s: the problem repeats what it must not", c.name)
			}
		}
	}
	n.badConsents(t)
	n.badAddresses(t)
	if rows := n.accesses(t, demo.Minzheng, "ZJ-BAD"); len(rows) != 0 {
		t.Errorf("malformed questions stand on the ledger: %d", len(rows))
	}
	if a := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-BAD-AFTER", "")); a.Outcome != exchange.Refused {
		t.Errorf("a good question afterwards: %s", a.Outcome)
	}
}

// badConsents are forms that the SDK sends as they are.
func (n *network) badConsents(t *testing.T) {
	t.Helper()
	for name, change := range map[string]func(*exchange.ConsentForm){
		"no reads":            func(f *exchange.ConsentForm) { f.MaxReads = 0 },
		"no end":              func(f *exchange.ConsentForm) { f.NotAfter = f.NotBefore },
		"ended already":       func(f *exchange.ConsentForm) { f.NotAfter = f.NotAfter.AddDate(-1, 0, 0) },
		"no views":            func(f *exchange.ConsentForm) { f.Views = nil },
		"no purpose":          func(f *exchange.ConsentForm) { f.Purposes = nil },
		"no evidence":         func(f *exchange.ConsentForm) { f.Evidence = nil },
		"one officer":         func(f *exchange.ConsentForm) { f.Officers = f.Officers[:1] },
		"one officer, twice":  func(f *exchange.ConsentForm) { f.Officers = []exchange.Operator{handler, handler} },
		"evidence in words":   func(f *exchange.ConsentForm) { f.Evidence = []string{"she signed"} },
		"unknown channel":     func(f *exchange.ConsentForm) { f.Channel = "telephone" },
		"notice without hash": func(f *exchange.ConsentForm) { f.Notice.Hash = "" },
		"a real person":       func(f *exchange.ConsentForm) { f.Subject.ID = realPerson() },
		"no provider":         func(f *exchange.ConsentForm) { f.Provider = "" },
	} {
		f := form(demo.Wife(), "ZJ-BAD-FORM", 1)
		change(&f)
		info, err := n.sdk[demo.Zhujian].Register(t.Context(), client.NewKey(), f)
		if e := exchange.AsError(err); err == nil || e.Kind != exchange.Invalid || !strings.HasPrefix(string(e.Code), "XQ-REQ-") {
			t.Errorf("a consent with %s: %q, %v", name, info.State, err)
		}
	}
}

// badAddresses are asked for with every method.
func (n *network) badAddresses(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/api/v1/exchanges/" + strings.Repeat("0", 32), "/api/v1/exchanges/x", "/api/v1/authorities/" + strings.Repeat("0", 32),
		"/api/v1/ledger/entries/99999999999999999999", "/api/v1/ledger/entries/-1", "/api/v1/ledger/entries/18446744073709551615/proof",
		"/api/v1/ledger/entries/4000000000/proof", "/api/v1/ledger/evidence?entry=4000000000", "/api/v1/ledger/evidence", "/api/v1/nothing",
		"/api/v1/catalogue/../../etc/passwd", "/api/v1/catalogue?limit=100000", "/api/v1/ledger/entries?cursor=%00"} {
		for _, method := range []string{"GET", "POST", "DELETE", "BREW"} {
			status, body := n.call(t, demo.Zhujian, method, path, "", nil)
			if status < 400 || status >= 500 || status == http.StatusRequestTimeout {
				t.Errorf("%s", fmt.Sprintf("%s %s: status %d %s", method, path, status, body))
			}
		}
	}
}
