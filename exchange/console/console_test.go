package console_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
	"xinqiao/exchange/console"
)

func TestNothingWithoutASession(t *testing.T) {
	t.Parallel()
	g := newRig(t, newReplica(t, 4))
	for _, target := range []string{"/console/", "/console/ledger", "/console/entries/8", "/console/entries/8/evidence", "/console/nothing"} {
		w := g.do(t, "GET", target, nil)
		if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/console/login") {
			t.Errorf("%s: %d %s", target, w.Code, w.Header().Get("Location"))
		}
	}
	w := g.do(t, "GET", "/console/ledger", nil, "Cookie", "__Host-xinqiao-session=forged")
	if w.Code != http.StatusSeeOther {
		t.Errorf("a forged session: %d", w.Code)
	}
}

func TestOneTimeLinkSurvivesPrefetchAndWorksOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t, newReplica(t, 4))
	code, _ := g.codes.Issue("auditor")
	for range 3 { // whatever fetches the link ahead of the officer
		w := g.do(t, "GET", "/console/login?code="+code, nil)
		if w.Code != 200 || !strings.Contains(w.Body.String(), `value="`+code+`"`) || len(g.cookies) != 0 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	if w := g.do(t, "POST", "/console/login", url.Values{"code": {strings.ToLower(strings.ReplaceAll(code, "-", " "))}, "next": {"/console/entries/8"}}); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/console/entries/8" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	c := g.cookies[0]
	if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("session cookie: %v", c)
	}
	if w := g.do(t, "GET", "/console/ledger", nil); w.Code != 200 {
		t.Errorf("with the session: %d", w.Code)
	}
	g.cookies = nil
	if w := g.do(t, "POST", "/console/login", url.Values{"code": {code}}); w.Code != http.StatusForbidden || len(g.cookies) != 0 {
		t.Errorf("the code works twice: %d", w.Code)
	}
	if log := g.log.String(); strings.Contains(log, code) || !strings.Contains(log, `"officer":"auditor"`) || !strings.Contains(log, "refused") {
		t.Errorf("log-ins are not logged, or the code is: %s", log)
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Unix(1e9, 0)}
	codes := console.NewCodes(c.Now)
	first, _ := codes.Issue("a")
	second, _ := codes.Issue("a")
	if _, ok := codes.Redeem(first); ok {
		t.Error("a replaced code works")
	}
	c.add(10 * time.Minute)
	if _, ok := codes.Redeem(second); ok {
		t.Error("a code works at its end")
	}
	if _, ok := codes.Issue(""); ok {
		t.Error("nobody got a code")
	}
	if _, ok := codes.Redeem(""); ok {
		t.Error("the empty code works")
	}
}

func TestLoginIsRateLimited(t *testing.T) {
	t.Parallel()
	g := newRig(t, newReplica(t, 4))
	for i := range 7 {
		w := g.do(t, "POST", "/console/login", url.Values{"code": {"AAAA-AAAA-AAAA-AAAA"}})
		if want := http.StatusForbidden; i < 5 && w.Code != want {
			t.Errorf("attempt %d: %d", i, w.Code)
		} else if i >= 5 && w.Code != http.StatusTooManyRequests {
			t.Errorf("attempt %d: %d", i, w.Code)
		}
	}
	code, _ := g.codes.Issue("auditor")
	if w := g.do(t, "POST", "/console/login", url.Values{"code": {code}}); w.Code != http.StatusTooManyRequests {
		t.Errorf("a right code within the limit's minute: %d", w.Code)
	}
	g.clock.add(time.Minute)
	if w := g.do(t, "POST", "/console/login", url.Values{"code": {code}}); w.Code != http.StatusSeeOther {
		t.Errorf("a refused attempt has used the code up: %d", w.Code)
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	open := func(g *rig) bool { return g.do(t, "GET", "/console/ledger", nil).Code == 200 }
	g := newRig(t, newReplica(t, 4))
	g.enter(t)
	g.clock.add(14 * time.Minute)
	if !open(g) {
		t.Error("ended while in use")
	}
	g.clock.add(15 * time.Minute)
	if open(g) {
		t.Error("open after 15 idle minutes")
	}
	g.enter(t)
	for range 48 {
		g.clock.add(10 * time.Minute)
		open(g)
	}
	if open(g) {
		t.Error("open after 8 hours")
	}
	g.enter(t)
	old := slices.Clone(g.cookies)
	g.cookies = nil
	g.enter(t)
	fresh := g.cookies
	if g.cookies = old; open(g) {
		t.Error("an officer has two sessions")
	}
	g.cookies = slices.Clone(fresh)
	g.do(t, "POST", "/console/logout", url.Values{})
	if g.cookies = fresh; open(g) {
		t.Error("open after logging out")
	}
}

func TestCrossSiteFormsAreRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t, newReplica(t, 4))
	g.enter(t)
	for _, target := range []string{"/console/login", "/console/logout", "/console/language"} {
		w := g.do(t, "POST", target, url.Values{"lang": {"en"}}, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
	if w := g.do(t, "GET", "/console/ledger", nil); w.Code != 200 {
		t.Error("a cross-site form logged the officer out")
	}
}

func TestNextStaysHere(t *testing.T) {
	t.Parallel()
	for _, next := range []string{"https://evil.example/console/", "//evil.example/console/", "/\\evil.example", "/console/../api", "/console//evil",
		"javascript:alert(1)", "/other", "", "/console/%2e%2e/x", "/console/\r\nSet-Cookie: x=y"} {
		g := newRig(t, newReplica(t, 4))
		code, _ := g.codes.Issue("auditor")
		w := g.do(t, "POST", "/console/login", url.Values{"code": {code}, "next": {next}})
		if got := w.Header().Get("Location"); got != "/console/ledger" {
			t.Errorf("%q leads to %q", next, got)
		}
	}
}

func TestHeadersOnEveryPage(t *testing.T) {
	t.Parallel()
	g := newRig(t, newReplica(t, 4))
	check := func(target string) {
		h := g.do(t, "GET", target, nil).Header()
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: policy lacks %s", target, want)
			}
		}
		if strings.Contains(csp, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" {
			t.Errorf("%s: %v", target, h)
		}
		if !strings.Contains(target, "static") && h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be stored", target)
		}
	}
	check("/console/login")
	check("/console/ledger")
	g.enter(t)
	for _, target := range []string{"/console/ledger", "/console/entries/8", "/console/entries/99", "/console/nothing", "/console/entries/8/evidence", "/console/static/x.css"} {
		check(target)
	}
}

func TestLedgerSearch(t *testing.T) {
	t.Parallel()
	g := newRig(t, newReplica(t, 4))
	g.enter(t)
	g.next = "c2"
	w := g.do(t, "GET", "/console/ledger?department=minzheng&outcome=denied&kind=access&from=2026-11-23T08:00&to=2026-11-24T08:00&item=civil/marriage-record&operator=zj-0417&cursor=c1", nil)
	want := exchange.LedgerQuery{Dept: "minzheng", Outcome: exchange.Refused, Kind: "access", From: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC),
		To: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), Item: "civil/marriage-record", Operator: "zj-0417", Page: exchange.Page{Cursor: "c1", Limit: 50}}
	if diff := cmp.Diff(want, g.query); diff != "" {
		t.Error(diff)
	}
	body := w.Body.String()
	if !strings.Contains(body, "cursor=c2") || !strings.Contains(body, "department=minzheng") || !strings.Contains(body, "婚姻登记信息") {
		t.Errorf("%s", body)
	}
	for _, bad := range []string{"department=A", "outcome=x", "kind=x", "from=x", "to=x", "item=x", "operator=%3Cscript%3E"} {
		g.query = exchange.LedgerQuery{}
		w := g.do(t, "GET", "/console/ledger?"+bad, nil)
		if w.Code != 400 || !cmp.Equal(g.query, exchange.LedgerQuery{}) || strings.Contains(w.Body.String(), "<script") {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
}

func TestEntryShowsReasonsAndProof(t *testing.T) {
	t.Parallel()
	g := newRig(t, newReplica(t, 3))
	g.enter(t)
	body := g.do(t, "GET", "/console/entries/8", nil).Body.String()
	for _, want := range []string{"授权已被撤回。", "个人信息保护法 第十五条", "XQ-DENY-FIELD", "photo", "配偶姓名", "zj-0417", g.rows[8].Leaf, "存证成立", "xinqiao.example/sm/2026", "minzheng"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	english := g.do(t, "GET", "/console/entries/8", nil, "Accept-Language", "en-US,en;q=0.9").Body.String()
	for _, want := range []string{"The authority was withdrawn.", "Marital status", "Proven", "Civil Affairs"} {
		if !strings.Contains(english, want) {
			t.Errorf("the English page lacks %q", want)
		}
	}
	if w := g.do(t, "GET", "/console/entries/8/evidence", nil); w.Code != 200 || w.Header().Get("Content-Type") != "application/zip" {
		t.Errorf("evidence: %d", w.Code)
	}
	for _, bad := range []string{"99", "x", "-1", "08"} {
		if w := g.do(t, "GET", "/console/entries/"+bad, nil); w.Code != 404 {
			t.Errorf("entry %s: %d", bad, w.Code)
		}
	}
}

func TestNothingIsCalledProvenThatIsNot(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*replica){
		"too few cosigners": func(r *replica) { *r = *newReplica(t, 2) },
		"nobody cosigned":   func(r *replica) { *r = *newReplica(t, 0) },
		"other row":         func(r *replica) { r.rows[8].Leaf = r.rows[7].Leaf },
		"other leaf":        func(r *replica) { r.bytes[8] = []byte("another") },
		"no leaf":           func(r *replica) { r.bytes[8] = nil },
		"foreign note":      func(r *replica) { r.note = newReplica(t, 4).note },
		"no note":           func(r *replica) { r.note = "" },
		"broken note":       func(r *replica) { r.note = strings.Replace(r.note, "\n10\n", "\n11\n", 1) },
		"no members":        func(r *replica) { clear(r.keys) },
	} {
		r := newReplica(t, 4)
		spoil(r)
		g := newRig(t, r)
		g.enter(t)
		body := g.do(t, "GET", "/console/entries/8", nil).Body.String()
		if strings.Contains(body, "存证成立") || !strings.Contains(body, "尚未证实") {
			t.Errorf("%s: called proven", name)
		}
	}
}

func TestClosedRowsShowNoDetail(t *testing.T) {
	t.Parallel()
	r := newReplica(t, 4)
	// A ledger that fills in what this node may not see must not show it.
	r.rows[7].Item, r.rows[7].Reasons = "hidden/item", []exchange.Reason{{Code: exchange.DenyCase}}
	r.rows[7].Views = []exchange.View{{Field: "hidden_field", Mode: exchange.Value}}
	g := newRig(t, r)
	g.enter(t)
	for _, target := range []string{"/console/entries/7", "/console/ledger"} {
		if body := g.do(t, "GET", target, nil).Body.String(); strings.Contains(body, "hidden/item") || strings.Contains(body, "hidden_field") || strings.Contains(body, "XQ-DENY-CASE") {
			t.Errorf("%s shows detail of a closed row", target)
		}
	}
}

func TestHostileValuesAreText(t *testing.T) {
	t.Parallel()
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	r := newReplica(t, 4)
	row := &r.rows[8]
	row.Purpose, row.Case, row.Operator, row.Item, row.Class = evil, evil, evil, evil, evil
	row.Holder, row.Requester, row.Author = evil, evil, evil
	row.Kind, row.Result, row.Entry = evil, evil, evil
	row.Views = []exchange.View{{Field: evil, Mode: exchange.Predicate, Predicate: evil}}
	row.Reasons = []exchange.Reason{{Code: evil, Detail: evil, Article: evil}}
	g := newRig(t, r)
	g.enter(t)
	for _, target := range []string{"/console/entries/8", "/console/ledger", "/console/ledger?operator=" + url.QueryEscape(evil), "/console/login?code=" + url.QueryEscape(evil)} {
		body := g.do(t, "GET", target, nil).Body.String()
		if strings.Contains(body, "<script") || strings.Contains(body, "<img src=x") {
			t.Errorf("%s: not escaped", target)
		}
	}
}

func TestFailuresArePages(t *testing.T) {
	t.Parallel()
	g := newRig(t, newReplica(t, 4))
	g.enter(t)
	g.err = errors.New("open /secret/path")
	w := g.do(t, "GET", "/console/ledger", nil)
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || !strings.Contains(g.log.String(), "/secret/path") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	g.err = &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum}
	if w := g.do(t, "GET", "/console/ledger", nil); w.Code != 503 {
		t.Errorf("unavailable: %d", w.Code)
	}
	g.panic = true
	if w := g.do(t, "GET", "/console/ledger", nil); w.Code != 500 || !strings.Contains(w.Body.String(), "</html>") {
		t.Errorf("panic: %d", w.Code)
	}
	if w := g.do(t, "POST", "/console/ledger", url.Values{"a": {"b"}}); w.Code != 404 && w.Code != 405 {
		t.Errorf("a write: %d", w.Code)
	}
	if got := g.last(2); got != "/console/ledger 500" {
		t.Errorf("observed %q", got)
	}
}

func TestLanguages(t *testing.T) {
	t.Parallel()
	g := newRig(t, newReplica(t, 4))
	if body := g.do(t, "GET", "/console/login", nil, "Accept-Language", "fr").Body.String(); !strings.Contains(body, `lang="zh-CN"`) || !strings.Contains(body, "登录") {
		t.Error("Chinese is not the default")
	}
	w := g.do(t, "POST", "/console/language", url.Values{"lang": {"en"}, "next": {"/console/login"}})
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/console/login" {
		t.Fatalf("%d", w.Code)
	}
	if body := g.do(t, "GET", "/console/login", nil, "Accept-Language", "zh-CN").Body.String(); !strings.Contains(body, "Log in") {
		t.Error("the cookie does not decide")
	}
	if w := g.do(t, "POST", "/console/language", url.Values{"lang": {"../../etc"}}); w.Code != 400 {
		t.Errorf("unknown language: %d", w.Code)
	}
}

func readWords(t *testing.T, lang string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("i18n", lang+".json"))
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBothLanguagesSayEverything(t *testing.T) {
	t.Parallel()
	zh, en := readWords(t, "zh-CN"), readWords(t, "en")
	verbs := regexp.MustCompile(`%[a-z]`)
	for key, text := range zh {
		if other, ok := en[key]; !ok || other == "" || text == "" {
			t.Errorf("%s is missing in one language", key)
		} else if !slices.Equal(verbs.FindAllString(text, -1), verbs.FindAllString(other, -1)) {
			t.Errorf("%s has other placeholders", key)
		}
	}
	for key := range en {
		if _, ok := zh[key]; !ok {
			t.Errorf("%s is missing in Chinese", key)
		}
	}
}

func TestTemplatesHoldNoWordsAndNoStrayKeys(t *testing.T) {
	t.Parallel()
	zh := readWords(t, "zh-CN")
	names, err := filepath.Glob("templates/*.html")
	if err != nil || len(names) == 0 {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`\.T "([^"]+)"`)
	family := regexp.MustCompile(`printf "([a-z]+)\.%s"`)
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range string(raw) {
			if unicode.Is(unicode.Han, r) {
				t.Errorf("%s holds %q", name, r)
			}
		}
		for _, m := range key.FindAllStringSubmatch(string(raw), -1) {
			if _, ok := zh[m[1]]; !ok {
				t.Errorf("%s uses %s, which has no words", name, m[1])
			}
		}
		for _, m := range family.FindAllStringSubmatch(string(raw), -1) {
			if !slices.ContainsFunc(keys(zh), func(k string) bool { return strings.HasPrefix(k, m[1]+".") }) {
				t.Errorf("%s uses %s.*, which has no words", name, m[1])
			}
		}
		if regexp.MustCompile(`(?i)<script|style=|\son[a-z]+=|https?://`).Match(raw) {
			t.Errorf("%s has a script, an inline style or an outside address", name)
		}
	}
	for m := exchange.Never; m <= exchange.Value; m++ {
		if zh["mode."+m.String()] == "" {
			t.Errorf("mode %v has no word", m)
		}
	}
}

func keys(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	if _, err := console.New(console.Config{}); err == nil {
		t.Error("the zero Config is accepted")
	}
}
