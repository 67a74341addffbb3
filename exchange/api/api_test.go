package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
	"xinqiao/exchange/api"
)

func problemOf(t testing.TB, w *httptest.ResponseRecorder) api.Problem {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("content type %q of %s", got, w.Body)
	}
	var p api.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != w.Code || p.TraceID == "" || p.Title == "" || p.Type != "urn:xinqiao:problem:"+string(p.Code) {
		t.Errorf("incomplete problem: %+v", p)
	}
	return p
}

func TestAskHandsTheQuestionOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.call(t, "POST", "/api/v1/exchanges", question)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	want := exchange.Question{Holder: "minzheng", Item: "civil/marriage-record", Subject: exchange.Subject{Kind: exchange.Person, ID: subject},
		Views:   []exchange.View{{Field: "spouse_name", Mode: exchange.Value}, {Field: "birth_date", Mode: exchange.Predicate, Predicate: "age>=18"}},
		Purpose: "housing-eligibility", Matter: "000725001000", Case: "ZJ-2026-0001", Operator: "zj-0417"}
	if diff := cmp.Diff(want, r.question); diff != "" {
		t.Error(diff)
	}
	if r.system != "portal" || r.key != "key-0000-0001" {
		t.Errorf("asked as %q with key %q", r.system, r.key)
	}
	var a api.Answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	if len(a.Fields) != 3 || *a.Fields[0].Value != "陈𬱖" || a.Fields[1].Value == nil || *a.Fields[2].Holds || a.Fields[2].Value != nil {
		t.Errorf("fields: %s", w.Body)
	}
}

func TestDenialIsAProblemWithCompleteReasons(t *testing.T) {
	t.Parallel()
	for lang, article := range map[string]string{"": "个人信息保护法 第十五条", "en": "Personal Information Protection Law Art. 15"} {
		r := newRig(t)
		r.answer = refused()
		w := r.call(t, "POST", "/api/v1/exchanges", question, "Accept-Language", lang)
		p := problemOf(t, w)
		if w.Code != http.StatusForbidden || p.Code != exchange.DenyWithdrawn || p.Outcome != "denied" || p.ID != someID ||
			p.Receipt == nil || p.Receipt.Index != 7 || p.Retryable {
			t.Errorf("%d %+v", w.Code, p)
		}
		if len(p.Reasons) != 2 || p.Reasons[0].Article != article || p.Reasons[0].Remedy == "" || p.Reasons[1].Detail != "photo" {
			t.Errorf("reasons in %q: %+v", lang, p.Reasons)
		}
		if strings.Contains(w.Body.String(), "CANARY") {
			t.Error("a denial carries data")
		}
	}
}

func TestNoRecordCarriesNoFields(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer.Outcome = exchange.NoRecord
	w := r.call(t, "POST", "/api/v1/exchanges", question)
	if w.Code != http.StatusOK || strings.Contains(w.Body.String(), "fields") || strings.Contains(w.Body.String(), "陈") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAnswerWithoutReceiptIsWithheld(t *testing.T) {
	t.Parallel()
	for _, outcome := range []exchange.Outcome{exchange.Allowed, exchange.NoRecord} {
		r := newRig(t)
		r.answer.Outcome, r.answer.Receipt = outcome, exchange.Receipt{}
		w := r.call(t, "POST", "/api/v1/exchanges", question)
		if p := problemOf(t, w); w.Code != http.StatusInternalServerError || p.Code != exchange.CodeInternal {
			t.Errorf("%v: %d %s", outcome, w.Code, w.Body)
		}
	}
}

func TestUndetermined(t *testing.T) {
	t.Parallel()
	unknown := &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeUnknownResult, Msg: "not known"}
	r := newRig(t)
	r.answer, r.err = exchange.Answer{ID: someID}, fmt.Errorf("append: %w", unknown)
	w := r.call(t, "POST", "/api/v1/exchanges", question)
	if w.Code != http.StatusAccepted || w.Header().Get("Location") != "/api/v1/exchanges/"+someID || w.Header().Get("Retry-After") == "" {
		t.Errorf("with an id: %d %v %s", w.Code, w.Header(), w.Body)
	}
	r.answer = exchange.Answer{}
	w = r.call(t, "POST", "/api/v1/exchanges", question)
	if p := problemOf(t, w); w.Code != http.StatusServiceUnavailable || !p.Retryable || w.Header().Get("Retry-After") == "" {
		t.Errorf("without: %d %+v", w.Code, p)
	}
	r.err = nil // a zero answer says nothing
	if w = r.call(t, "POST", "/api/v1/exchanges", question); w.Code != http.StatusServiceUnavailable {
		t.Errorf("zero answer: %d %s", w.Code, w.Body)
	}
}

func TestKindsAndStatus(t *testing.T) {
	t.Parallel()
	for kind, want := range map[exchange.Kind]int{exchange.Internal: 500, exchange.Invalid: 400, exchange.Unauthenticated: 401,
		exchange.Denied: 403, exchange.NotFound: 404, exchange.Conflict: 409, exchange.TooLarge: 413, exchange.Unsupported: 415,
		exchange.Forged: 502, exchange.Expired: 422, exchange.Unavailable: 503, exchange.Undetermined: 503, exchange.Integrity: 500, 200: 500} {
		r := newRig(t)
		r.answer = exchange.Answer{}
		r.err = &exchange.Error{Kind: kind, Code: exchange.CodeNoQuorum, Msg: "m", Err: errors.New("SECRET cause")}
		w := r.call(t, "POST", "/api/v1/exchanges", question)
		p := problemOf(t, w)
		if w.Code != want || p.Code != exchange.CodeNoQuorum || (w.Code == 503) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("%v: %d %+v", kind, w.Code, p)
		}
		if strings.Contains(w.Body.String(), "SECRET") {
			t.Errorf("%v: the cause went out", kind)
		}
	}
}

func TestForeignErrorsTellNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.err = errors.New("open /secret/path: denied")
	w := r.call(t, "POST", "/api/v1/exchanges", question)
	if p := problemOf(t, w); p.Code != exchange.CodeInternal || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%s", w.Body)
	}
	if !strings.Contains(r.log.String(), "/secret/path") {
		t.Error("the cause is not in the log")
	}
}

func TestBadBodies(t *testing.T) {
	t.Parallel()
	with := func(old, new string) string {
		if !strings.Contains(question, old) {
			t.Fatalf("%s is not in the question", old)
		}
		return strings.Replace(question, old, new, 1)
	}
	for name, c := range map[string]struct {
		body    string
		status  int
		code    exchange.Code
		pointer string
	}{
		"empty":             {" ", 400, exchange.CodeJSON, ""},
		"not json":          {"holder=minzheng", 400, exchange.CodeJSON, ""},
		"truncated":         {question[:len(question)-1], 400, exchange.CodeJSON, ""},
		"array":             {"[]", 400, exchange.CodeField, ""},
		"scalar":            {"1", 400, exchange.CodeField, ""},
		"null":              {"null", 400, exchange.CodeField, ""},
		"trailing":          {question + "{}", 400, exchange.CodeJSON, ""},
		"trailing bracket":  {question + "]", 400, exchange.CodeJSON, ""},
		"unknown":           {with(`"holder"`, `"admin":true,"holder"`), 400, exchange.CodeJSON, ""},
		"unknown deep":      {with(`"mode":"value"`, `"mode":"value","all":true`), 400, exchange.CodeJSON, "/fields/0"},
		"duplicate":         {with(`"holder"`, `"holder":"gongan","holder"`), 400, exchange.CodeJSON, "/holder"},
		"duplicate escaped": {with(`"holder"`, `"h\u006flder":"gongan","holder"`), 400, exchange.CodeJSON, "/holder"},
		"duplicate deep":    {with(`"id":`, `"id":"1","id":`), 400, exchange.CodeJSON, "/subject/id"},
		"other case":        {with(`"holder"`, `"Holder"`), 400, exchange.CodeJSON, ""},
		"null member":       {with(`"minzheng"`, `null`), 400, exchange.CodeField, "/holder"},
		"wrong type":        {with(`"minzheng"`, `7`), 400, exchange.CodeField, "/holder"},
		"object for string": {with(`"minzheng"`, `{}`), 400, exchange.CodeField, "/holder"},
		"array for string":  {with(`"minzheng"`, `[]`), 400, exchange.CodeField, "/holder"},
		"string for array":  {with(`[{"field":"spouse_name","mode":"value"},`, `"all",[`), 400, exchange.CodeField, "/fields"},
		"unknown mode":      {with(`"mode":"value"`, `"mode":"everything"`), 400, exchange.CodeField, "/fields/0/mode"},
		"never":             {with(`"mode":"value"`, `"mode":"never"`), 400, exchange.CodeField, "/fields/0"},
		"missing mode":      {with(`,"mode":"value"`, ``), 400, exchange.CodeField, "/fields/0"},
		"no predicate":      {with(`,"predicate":"age>=18"`, ``), 400, exchange.CodeField, "/fields/1"},
		"twice the field":   {with(`{"field":"birth_date","mode":"predicate","predicate":"age>=18"}`, `{"field":"spouse_name","mode":"value"}`), 400, exchange.CodeField, "/fields/1"},
		"no fields":         {with(`{"field":"spouse_name","mode":"value"},{"field":"birth_date","mode":"predicate","predicate":"age>=18"}`, ``), 400, exchange.CodeNoViews, "/fields"},
		"too many fields":   {with(`{"field":"spouse_name","mode":"value"}`, manyFields(65)), 400, exchange.CodeField, "/fields"},
		"bad utf-8":         {with("ZJ-2026", "ZJ\xff2026"), 400, exchange.CodeJSON, ""},
		"lone surrogate":    {with("ZJ-2026", `ZJ\ud800`), 400, exchange.CodeJSON, "/case"},
		"deep":              {strings.Repeat("[", 5000), 400, exchange.CodeField, ""},
		"deep member":       {with(`"minzheng"`, strings.Repeat("[", 5000)), 400, exchange.CodeField, "/holder"},
		"large":             {with("ZJ-2026", strings.Repeat("Z", 64<<10)), 413, exchange.CodeTooLarge, ""},
		"large white space": {question + strings.Repeat(" ", 64<<10), 413, exchange.CodeTooLarge, ""},
		"traversal holder":  {with("minzheng", "../etc"), 400, exchange.CodeField, "/holder"},
		"bad item":          {with("civil/marriage-record", "civil"), 400, exchange.CodeField, "/item"},
		"bad purpose":       {with("housing-eligibility", "Because I can"), 400, exchange.CodeField, "/purpose"},
		"bad matter":        {with("000725001000", "123"), 400, exchange.CodeField, "/matter"},
		"newline in case":   {with("ZJ-2026", `ZJ\n2026`), 400, exchange.CodeField, "/case"},
		"bad operator":      {with("zj-0417", `<script>`), 400, exchange.CodeField, "/operator"},
		"bad authority":     {with(`"operator"`, `"authority":"xyz","operator"`), 400, exchange.CodeField, "/authority"},
		"real person":       {with(subject, "110101199003070011"), 400, exchange.CodeSubject, "/subject/id"},
		"short id":          {with(subject, "1101"), 400, exchange.CodeSubject, "/subject/id"},
		"bad subject kind":  {with(`"person"`, `"robot"`), 400, exchange.CodeSubject, "/subject/id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			w := r.call(t, "POST", "/api/v1/exchanges", c.body)
			p := problemOf(t, w)
			if w.Code != c.status || p.Code != c.code || p.Pointer != c.pointer {
				t.Errorf("got %d %s %q (%s), want %d %s %q", w.Code, p.Code, p.Pointer, p.Detail, c.status, c.code, c.pointer)
			}
			if r.asked != 0 {
				t.Error("the broker was asked")
			}
			if strings.Contains(w.Body.String(), subject) || strings.Contains(r.log.String(), subject) {
				t.Error("the identifier came back or was logged")
			}
		})
	}
}

func manyFields(n int) string {
	var fields []string
	for i := range n {
		fields = append(fields, fmt.Sprintf(`{"field":"f%d","mode":"value"}`, i))
	}
	return strings.Join(fields, ",")
}

func TestBadHeaders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		headers []string
		status  int
		code    exchange.Code
	}{
		"no content type":      {[]string{"Content-Type", ""}, 415, exchange.CodeContentType},
		"form":                 {[]string{"Content-Type", "application/x-www-form-urlencoded"}, 415, exchange.CodeContentType},
		"other charset":        {[]string{"Content-Type", "application/json; charset=gb18030"}, 415, exchange.CodeContentType},
		"malformed type":       {[]string{"Content-Type", "application/json; charset"}, 415, exchange.CodeContentType},
		"compressed":           {[]string{"Content-Encoding", "gzip"}, 415, exchange.CodeContentType},
		"no key":               {[]string{"Idempotency-Key", ""}, 400, exchange.CodeIdempotency},
		"short key":            {[]string{"Idempotency-Key", "1"}, 400, exchange.CodeIdempotency},
		"long key":             {[]string{"Idempotency-Key", strings.Repeat("k", 129)}, 400, exchange.CodeIdempotency},
		"key with a space":     {[]string{"Idempotency-Key", "key 0000 0001"}, 400, exchange.CodeIdempotency},
		"no token":             {[]string{"Authorization", ""}, 401, exchange.CodeCredentials},
		"basic":                {[]string{"Authorization", "Basic " + token}, 401, exchange.CodeCredentials},
		"unknown token":        {[]string{"Authorization", "Bearer " + token + "x"}, 401, exchange.CodeCredentials},
		"empty token":          {[]string{"Authorization", "Bearer "}, 401, exchange.CodeCredentials},
		"huge token":           {[]string{"Authorization", "Bearer " + strings.Repeat("x", 5000)}, 401, exchange.CodeCredentials},
		"expired at its end":   {[]string{"Authorization", "Bearer " + expired}, 401, exchange.CodeCredentials},
		"token of a narrow":    {[]string{"Authorization", "Bearer " + narrow}, 403, exchange.CodeScope},
		"case-sensitive token": {[]string{"Authorization", "Bearer " + strings.ToUpper(token)}, 401, exchange.CodeCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			w := r.call(t, "POST", "/api/v1/exchanges", question, c.headers...)
			if p := problemOf(t, w); w.Code != c.status || p.Code != c.code {
				t.Errorf("%d %s: %s", w.Code, p.Code, p.Detail)
			}
			if (w.Code == 401) != (w.Header().Get("WWW-Authenticate") != "") {
				t.Error("WWW-Authenticate belongs to 401")
			}
			if r.asked != 0 || strings.Contains(r.log.String(), "a-token") {
				t.Error("the broker was asked, or the token logged")
			}
		})
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, target := range []string{"/api/v1/exchanges/" + someID, "/api/v1/exchanges/" + someID + "/receipt", "/api/v1/authorities/" + someID,
		"/api/v1/ledger/entries", "/api/v1/ledger/entries/1", "/api/v1/ledger/entries/1/proof", "/api/v1/ledger/checkpoint", "/api/v1/ledger/evidence?entry=1"} {
		if w := r.call(t, "GET", target, "", "Authorization", "Bearer "+narrow); w.Code != 403 || problemOf(t, w).Code != exchange.CodeScope {
			t.Errorf("%s: %d", target, w.Code)
		}
		if w := r.call(t, "GET", target, ""); w.Code != 200 {
			t.Errorf("%s with every scope: %d %s", target, w.Code, w.Body)
		}
	}
	if w := r.call(t, "GET", "/api/v1/catalogue", "", "Authorization", "Bearer "+narrow); w.Code != 200 {
		t.Errorf("catalogue: %d", w.Code)
	}
	if w := r.call(t, "GET", "/api/v1/openapi.yaml", "", "Authorization", ""); w.Code != 200 || !strings.HasPrefix(w.Body.String(), "openapi: 3.1") {
		t.Errorf("the contract: %d", w.Code)
	}
}

func TestAddressesAndMethods(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, target string
		status         int
		code           exchange.Code
		allow          string
	}{
		{"GET", "/api/v1/nothing", 404, exchange.CodeNotFound, ""},
		{"GET", "/", 404, exchange.CodeNotFound, ""},
		{"GET", "/api/v1//exchanges/" + someID, 404, exchange.CodeNotFound, ""},
		{"GET", "/api/v1/exchanges/../exchanges/" + someID, 404, exchange.CodeNotFound, ""},
		{"GET", "/api/v1/exchanges/" + someID + "/", 404, exchange.CodeNotFound, ""},
		{"GET", "/api/v1/exchanges", 405, exchange.CodeMethod, "POST"},
		{"DELETE", "/api/v1/exchanges/" + someID, 405, exchange.CodeMethod, "GET"},
		{"GET", "/api/v1/ledger/entries/search", 405, exchange.CodeMethod, "POST"},
		{"BREW", "/api/v1/catalogue", 405, exchange.CodeMethod, "GET"},
		{"GET", "/api/v1/exchanges/0", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/exchanges/" + strings.ToUpper(someID), 400, exchange.CodeField, ""},
		{"GET", "/api/v1/authorities/..%2f", 404, exchange.CodeNotFound, ""},
		{"GET", "/api/v1/ledger/entries/-1", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries/007", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries/99999999999999999999/proof", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries?subject=" + subject, 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries/1?subject=" + subject, 400, exchange.CodeField, ""},
		{"GET", "/api/v1/exchanges/" + someID + "?subject=" + subject, 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/checkpoint?x=1", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries?limit=0", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries?limit=201", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries?limit=1&limit=2", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries?outcome=undecided", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries?from=yesterday", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries?department=A%27--", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries?cursor=%00", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/entries?a;b", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/evidence", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/evidence?entry=x", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/ledger/evidence?" + strings.Repeat("entry=1&", 101), 400, exchange.CodeField, ""},
		{"GET", "/api/v1/catalogue?cursor=!!", 400, exchange.CodeField, ""},
		{"GET", "/api/v1/catalogue/civil/nothing", 404, exchange.CodeUnknownItem, ""},
		{"GET", "/api/v1/catalogue/civil/Nothing", 400, exchange.CodeField, ""},
	} {
		r := newRig(t)
		w := r.call(t, c.method, c.target, "")
		if p := problemOf(t, w); w.Code != c.status || p.Code != c.code || w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d %s allow %q", c.method, c.target, w.Code, p.Code, w.Header().Get("Allow"))
		}
		if strings.Contains(r.log.String(), subject) || strings.Contains(r.log.String(), "BREW") {
			t.Errorf("%s: the log repeats what the caller sent", c.target)
		}
	}
}

func TestConsent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.call(t, "POST", "/api/v1/authorities", consent)
	if w.Code != http.StatusCreated || w.Header().Get("Location") != "/api/v1/authorities/"+someID {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	want := exchange.ConsentForm{Provider: "minzheng", Subject: exchange.Subject{Kind: exchange.Person, ID: subject}, Matter: "000725001000",
		Case: "ZJ-2026-0001", Purposes: []exchange.Purpose{"housing-eligibility"},
		Views:    []exchange.ItemView{{Item: "civil/marriage-record", View: exchange.View{Field: "spouse_name", Mode: exchange.Value}}},
		NotAfter: time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC), MaxReads: 2, Channel: "window",
		Notice: exchange.Notice{Template: "housing", Version: 1, Hash: leaf, Lang: "zh-CN"}, Officers: []exchange.Operator{"zj-0417", "zj-0418"}}
	if diff := cmp.Diff(want, r.form); diff != "" {
		t.Error(diff)
	}
	for name, c := range map[string]struct{ old, new, pointer string }{
		"reads":      {`"maxReads":2`, `"maxReads":0`, "/maxReads"},
		"fraction":   {`"maxReads":2`, `"maxReads":1.5`, "/maxReads"},
		"overflow":   {`"maxReads":2`, `"maxReads":4294967296`, "/maxReads"},
		"negative":   {`"maxReads":2`, `"maxReads":-1`, "/maxReads"},
		"no end":     {`"notAfter":"2026-12-31T00:00:00Z",`, ``, "/notAfter"},
		"bad time":   {`2026-12-31T00:00:00Z`, `2026-12-31`, "/notAfter"},
		"backwards":  {`"notAfter":"2026-12-31T00:00:00Z"`, `"notBefore":"2027-01-01T00:00:00Z","notAfter":"2026-12-31T00:00:00Z"`, "/notAfter"},
		"channel":    {`"window"`, `"phone"`, "/channel"},
		"no views":   {`{"item":"civil/marriage-record","field":"spouse_name","mode":"value"}`, ``, "/views"},
		"bad view":   {`"mode":"value"`, `"mode":"never"`, "/views/0"},
		"no purpose": {`"purposes":["housing-eligibility"]`, `"purposes":[]`, "/purposes"},
		"bad hash":   {leaf, strings.ToUpper(leaf), "/notice/hash"},
		"evidence":   {`"officers"`, `"evidence":["x"],"officers"`, "/evidence/0"},
		"officer":    {`"zj-0418"`, `"张三"`, "/officers/1"},
		"officers":   {`"zj-0418"`, `"a","b","c","d"`, "/officers"},
		"subject":    {subject, "1", "/subject/id"},
	} {
		body := strings.Replace(consent, c.old, c.new, 1)
		w := r.call(t, "POST", "/api/v1/authorities", body)
		if p := problemOf(t, w); w.Code != 400 || p.Pointer != c.pointer {
			t.Errorf("%s: %d %q %s", name, w.Code, p.Pointer, p.Detail)
		}
	}
}

func TestWithdrawalTakesACode(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if w := r.call(t, "POST", "/api/v1/authorities/"+someID+"/withdrawal", `{"reason":"subject-request"}`); w.Code != 200 || r.reason != "subject-request" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := r.call(t, "POST", "/api/v1/authorities/"+someID+"/withdrawal", `{"reason":"Ms Chen asked"}`); w.Code != 400 || problemOf(t, w).Pointer != "/reason" {
		t.Errorf("free text: %d", w.Code)
	}
}

func TestCataloguePages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var got []exchange.Item
	cursor := ""
	for range 3 {
		w := r.call(t, "GET", "/api/v1/catalogue?limit=1&cursor="+cursor, "")
		var page api.CataloguePage
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
			t.Fatal(err)
		}
		for _, i := range page.Items {
			got = append(got, i.Item)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if diff := cmp.Diff([]exchange.Item{"civil/marriage-record", "tax/income-certificate"}, got); diff != "" {
		t.Error(diff)
	}
	w := r.call(t, "GET", "/api/v1/catalogue?q=%E9%85%8D%E5%81%B6", "")
	if !strings.Contains(w.Body.String(), "marriage-record") || strings.Contains(w.Body.String(), "income") {
		t.Errorf("search: %s", w.Body)
	}
	if w := r.call(t, "GET", "/api/v1/catalogue/civil/marriage-record", ""); w.Code != 200 {
		t.Errorf("item: %d", w.Code)
	}
}

func TestLedgerRows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.call(t, "GET", "/api/v1/ledger/entries?department=minzheng&outcome=denied&kind=access&operator=zj-1&from=2026-01-01T00:00:00%2B08:00&limit=2", "",
		"Accept-Language", "en-GB,zh;q=0.5")
	var page api.LedgerPage
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
		t.Fatal(err)
	}
	want := exchange.LedgerQuery{Dept: "minzheng", Outcome: exchange.Refused, Kind: "access", Operator: "zj-1",
		From: time.Date(2025, 12, 31, 16, 0, 0, 0, time.UTC), Page: exchange.Page{Limit: 2}}
	if diff := cmp.Diff(want, r.query); diff != "" {
		t.Error(diff)
	}
	if len(page.Rows) != 2 || page.Next != "more" || page.Rows[0].Reasons[0].Text != "The rule does not permit this field in this mode." {
		t.Errorf("%s", w.Body)
	}
	if strings.Contains(w.Body.String(), "hidden/item") {
		t.Error("a row that is not open shows its item")
	}
	r.call(t, "POST", "/api/v1/ledger/entries/search", `{"subject":"`+subject+`"}`)
	if r.query.Subject != subject || r.query.Page.Limit != 50 {
		t.Errorf("subject search: %+v", r.query.Page)
	}
	if strings.Contains(r.log.String(), subject) {
		t.Error("the subject was logged")
	}
	r.call(t, "GET", "/api/v1/ledger/evidence?entry=9&entry=7&entry=9", "")
	if diff := cmp.Diff([]uint64{7, 9}, r.indices); diff != "" {
		t.Error(diff)
	}
}

func TestPanicIsAProblemAndCountsOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.panic = "boom " + subject
	w := r.call(t, "POST", "/api/v1/exchanges", question)
	if p := problemOf(t, w); w.Code != 500 || p.Code != exchange.CodeInternal || strings.Contains(w.Body.String(), "boom") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if strings.Contains(r.log.String(), subject) || !strings.Contains(r.log.String(), "panic of type string") {
		t.Errorf("log: %s", r.log)
	}
	if diff := cmp.Diff([]string{"/api/v1/exchanges Internal Server Error"}, r.seen); diff != "" {
		t.Error(diff)
	}
}

func TestOneLineNamesNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.call(t, "POST", "/api/v1/exchanges", question, "Traceparent", "00-"+someID+"-0123456789abcdef-01")
	if w.Header().Get("Trace-Id") != someID {
		t.Errorf("the caller's trace was not taken over: %q", w.Header().Get("Trace-Id"))
	}
	line := r.log.String()
	for _, secret := range []string{subject, "ZJ-2026-0001", "zj-0417", token, "陈"} {
		if strings.Contains(line, secret) {
			t.Errorf("the log names %q", secret)
		}
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(line), &fields); err != nil { // one line only
		t.Fatal(err)
	}
	if fields["route"] != "/api/v1/exchanges" || fields["system"] != "portal" || fields["trace_id"] != someID {
		t.Errorf("%v", fields)
	}
}

func TestBusyNodeRefusesAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *api.Config) { c.MaxInFlight = 1 })
	r.block = make(chan struct{})
	done := make(chan int, 1)
	go func() {
		code := http.StatusServiceUnavailable
		for code == http.StatusServiceUnavailable { // it may meet one of the others
			code = r.call(t, "POST", "/api/v1/exchanges", question).Code
		}
		done <- code
	}()
	for deadline := time.Now().Add(10 * time.Second); ; {
		w := r.call(t, "GET", "/api/v1/catalogue", "")
		if w.Code == 503 && problemOf(t, w).Code == exchange.CodeBusy {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never busy")
		}
	}
	close(r.block)
	if code := <-done; code != 200 {
		t.Errorf("the request in flight got %d", code)
	}
}

func TestConfigDenies(t *testing.T) {
	t.Parallel()
	if _, err := api.New(api.Config{}); err == nil {
		t.Error("the zero Config is accepted")
	}
	r := newRig(t)
	for name, sys := range map[string]api.System{
		"zero":     {},
		"no hash":  {Name: "portal", Expires: noon},
		"no end":   {Name: "portal", TokenHash: [32]byte{1}},
		"no scope": {Name: "portal", TokenHash: [32]byte{1}, Expires: noon, Scopes: []api.Scope{"admin"}},
	} {
		cfg := api.Config{Exchanges: r, Authorities: r, Catalogue: r, Ledger: r, Systems: []api.System{sys}}
		if _, err := api.New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
