package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/api"
	"xinqiao/exchange/client"
	"xinqiao/policy"
)

const (
	token   = "a-token-that-nobody-guesses-0001"
	someID  = "0123456789abcdef0123456789abcdef"
	subject = "110101199003070012" // wrong check character: no real person
	leaf    = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

var noon = time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)

// broker answers from a script: errors first, in order, then the answer.
type broker struct {
	mu sync.Mutex
	// mu protects everything below.
	errs   []error
	answer exchange.Answer
	keys   []string
	got    exchange.Question
	form   exchange.ConsentForm
	query  exchange.LedgerQuery
	reason string
}

func (b *broker) next() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.errs) == 0 {
		return nil
	}
	err := b.errs[0]
	b.errs = b.errs[1:]
	return err
}

func (b *broker) note(set func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	set()
}

func (b *broker) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.keys)
}

func (b *broker) Ask(_ context.Context, _, key string, q exchange.Question) (exchange.Answer, error) {
	b.note(func() { b.keys, b.got = append(b.keys, key), q })
	return b.answer, b.next()
}

func (b *broker) Answered(context.Context, string, string) (exchange.Answer, error) {
	return b.answer, b.next()
}

func (b *broker) Register(_ context.Context, _, key string, f exchange.ConsentForm) (exchange.AuthorityInfo, error) {
	b.note(func() { b.keys, b.form = append(b.keys, key), f })
	return authority, b.next()
}

func (b *broker) Authority(context.Context, string) (exchange.AuthorityInfo, error) {
	return authority, b.next()
}

func (b *broker) Withdraw(_ context.Context, _, _, reason string) (exchange.AuthorityInfo, error) {
	b.note(func() { b.reason = reason; b.keys = append(b.keys, "withdraw") })
	return authority, b.next()
}

func (b *broker) Catalogue(context.Context) ([]exchange.CatalogueItem, error) {
	items := []exchange.CatalogueItem{}
	for i := range 450 {
		items = append(items, exchange.CatalogueItem{Item: exchange.Item(fmt.Sprintf("civil/record-%03d", i)), Holder: "minzheng",
			Sharing: "conditional", Fields: []exchange.CatalogueField{}})
	}
	return items, b.next()
}

func (b *broker) Search(_ context.Context, q exchange.LedgerQuery) ([]exchange.LedgerRow, string, error) {
	b.note(func() { b.query = q })
	return []exchange.LedgerRow{row, {Index: 6, Entry: someID, Kind: "fact", Result: "committed", Time: noon, Author: "gongan", Leaf: leaf}}, "more", b.next()
}

func (b *broker) Row(context.Context, uint64) (exchange.LedgerRow, error) { return row, b.next() }

func (b *broker) Proof(_ context.Context, i uint64) (exchange.LedgerProof, error) {
	return exchange.LedgerProof{Index: i, Leaf: []byte{1, 2}, Frame: []byte{3}, Size: 9, Path: [][]byte{{4}, {5}}, Checkpoint: "note"}, b.next()
}

func (b *broker) Checkpoint(context.Context) (string, error) { return "note\n", b.next() }

func (b *broker) Evidence(context.Context, []uint64) ([]byte, error) { return []byte("PK"), b.next() }

var (
	receipt = exchange.Receipt{Origin: "example", Entry: someID, Author: "minzheng", Index: 7, LeafHash: leaf, Time: noon}
	allowed = exchange.Answer{ID: someID, Outcome: exchange.Allowed, Holder: "minzheng", Item: "civil/marriage-record", AsOf: noon, IssuedAt: noon,
		Retain: "P30D", Receipt: receipt, Fields: []exchange.Disclosed{
			{View: exchange.View{Field: "spouse_name", Mode: exchange.Value}, Value: "陈𬱖"},
			{View: exchange.View{Field: "birth_date", Mode: exchange.Predicate, Predicate: "age>=18"}, Holds: true}}}
	authority = exchange.AuthorityInfo{ID: someID, State: "active", Basis: "consent", Provider: "minzheng", Grantee: "zhujian", NotAfter: noon,
		MaxReads: 2, Reads: 1, Receipt: receipt}
	row = exchange.LedgerRow{Index: 7, Entry: someID, Kind: "access", Result: "committed", Time: noon, Author: "minzheng", Holder: "minzheng",
		Requester: "zhujian", Class: "civil", Outcome: exchange.NoRecord, Leaf: leaf, Cosigned: true, Open: true, Item: "civil/marriage-record",
		Views: []exchange.View{{Field: "photo", Mode: exchange.Exists}}, Purpose: "housing-eligibility", Case: "ZJ-1", Operator: "zj-1"}
	question = exchange.Question{Holder: "minzheng", Item: "civil/marriage-record", Subject: exchange.Subject{Kind: exchange.Person, ID: subject},
		Views: []exchange.View{{Field: "spouse_name", Mode: exchange.Value}}, Purpose: "housing-eligibility", Matter: "000725001000",
		Case: "ZJ-1", Operator: "zj-1", Authority: someID}
	form = exchange.ConsentForm{Provider: "minzheng", Subject: question.Subject, Matter: question.Matter, Case: "ZJ-1",
		Purposes: []exchange.Purpose{"housing-eligibility"}, Views: []exchange.ItemView{{Item: question.Item, View: question.Views[0]}},
		NotAfter: noon, MaxReads: 2, Notice: exchange.Notice{Template: "t", Version: 1, Hash: leaf, Lang: "zh-CN"}, Channel: "window",
		Evidence: []string{leaf}, Officers: []exchange.Operator{"a", "b"}}
	busy = &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum, Msg: "no quorum"}
)

// handler is the API over b.
func handler(t *testing.T, b *broker) http.Handler {
	t.Helper()
	e := gm.Emmansun()
	h, err := api.New(api.Config{Exchanges: b, Authorities: b, Catalogue: b, Ledger: b, Population: exchange.Synthetic, Explain: policy.Explain,
		Engine: e, Clock: func() time.Time { return noon }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Host: func(host string) bool { return host == "127.0.0.1" },
		Systems: []api.System{{Name: "signer", Key: testKey(t).Public(), Signed: true, Expires: noon.Add(time.Hour),
			Scopes: []api.Scope{api.ScopeExchange, api.ScopeCatalogue}}, {Name: "portal", TokenHash: e.Sum([]byte(token)), Expires: noon.Add(time.Hour),
			Scopes: []api.Scope{api.ScopeExchange, api.ScopeConsent, api.ScopeCatalogue, api.ScopeLedger}}}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// dial serves the API over TLS and returns a client that does not wait.
func dial(t *testing.T, b *broker) *client.Client {
	t.Helper()
	return dialHandler(t, handler(t, b), token)
}

func dialHandler(t *testing.T, h http.Handler, token string) *client.Client {
	t.Helper()
	url, pool := serve(t, h)
	c := client.New(url, pool, token)
	c.SetWait(func(ctx context.Context, _ time.Duration) error { return ctx.Err() })
	return c
}

func serve(t *testing.T, h http.Handler) (string, *x509.CertPool) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	return srv.URL, pool
}

func names(items []exchange.CatalogueItem) []exchange.Item {
	var out []exchange.Item
	for _, i := range items {
		out = append(out, i.Item)
	}
	slices.Sort(out)
	return out
}

func TestNounsSurviveTheWire(t *testing.T) {
	t.Parallel()
	b := &broker{answer: allowed}
	c := dial(t, b)
	ctx := t.Context()
	same := func(name string, err error, want, got any) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	a, err := c.Ask(ctx, client.NewKey(), question)
	same("Ask", err, allowed, a)
	same("the question", nil, question, b.got)
	a, err = c.Answer(ctx, someID)
	same("Answer", err, allowed, a)
	r, err := c.Receipt(ctx, someID)
	same("Receipt", err, receipt, r)
	info, err := c.Register(ctx, client.NewKey(), form)
	same("Register", err, authority, info)
	same("the form", nil, form, b.form)
	info, err = c.Authority(ctx, someID)
	same("Authority", err, authority, info)
	info, err = c.Withdraw(ctx, someID, "subject-request")
	same("Withdraw", err, authority, info)
	same("the reason", nil, "subject-request", b.reason)
	query := exchange.LedgerQuery{Dept: "minzheng", Outcome: exchange.Refused, Kind: "access", From: noon, To: noon, Item: question.Item,
		Operator: "zj-1", Subject: subject, Page: exchange.Page{Cursor: "abc", Limit: 7}}
	rows, next, err := c.Search(ctx, query)
	same("Search", err, "more", next)
	same("rows", nil, []exchange.LedgerRow{row, {Index: 6, Entry: someID, Kind: "fact", Result: "committed", Time: noon, Author: "gongan", Leaf: leaf}}, rows)
	same("the query", nil, query, b.query)
	one, err := c.Row(ctx, 7)
	same("Row", err, row, one)
	p, err := c.Proof(ctx, 7)
	same("Proof", err, exchange.LedgerProof{Index: 7, Leaf: []byte{1, 2}, Frame: []byte{3}, Size: 9, Path: [][]byte{{4}, {5}}, Checkpoint: "note"}, p)
	note, err := c.Checkpoint(ctx)
	same("Checkpoint", err, "note\n", note)
	zip, err := c.Evidence(ctx, 7, 8)
	same("Evidence", err, []byte("PK"), zip)
	items, err := c.Catalogue(ctx, "")
	want, _ := b.Catalogue(ctx)
	same("Catalogue", err, names(want), names(items))
}

func TestDenialIsAnAnswer(t *testing.T) {
	t.Parallel()
	want := exchange.Answer{ID: someID, Outcome: exchange.Refused, Holder: "minzheng", Item: "civil/marriage-record", Receipt: receipt,
		Reasons: []exchange.Reason{{Code: exchange.DenyField, Article: "Personal Information Protection Law Art. 6", Detail: "photo"}}}
	got, err := dial(t, &broker{answer: want}).In("en").Ask(t.Context(), client.NewKey(), question)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOnceDoesNotRepeat(t *testing.T) {
	t.Parallel()
	b := &broker{answer: allowed, errs: []error{busy}}
	once := dial(t, b).Once()
	if _, err := once.Ask(t.Context(), "key-0000-0001", question); exchange.KindOf(err) != exchange.Unavailable || len(b.seen()) != 1 {
		t.Errorf("%d attempts, %v", len(b.seen()), err)
	}
	if a, err := once.Ask(t.Context(), "key-0000-0001", question); err != nil || a.Outcome != exchange.Allowed {
		t.Errorf("%+v %v", a, err)
	}
}

func TestPendingKeepsTheID(t *testing.T) {
	t.Parallel()
	b := &broker{answer: exchange.Answer{ID: someID}}
	a, err := dial(t, b).Once().Ask(t.Context(), "key-0000-0001", question)
	if exchange.KindOf(err) != exchange.Undetermined || a.ID != someID || a.Outcome != exchange.Undecided {
		t.Errorf("%+v %v", a, err)
	}
}

func TestEveryKind(t *testing.T) {
	t.Parallel()
	for kind, code := range map[exchange.Kind]exchange.Code{
		exchange.Internal: exchange.CodeInternal, exchange.Invalid: exchange.CodeField, exchange.Unauthenticated: exchange.CodeCredentials,
		exchange.Denied: exchange.CodeScope, exchange.NotFound: exchange.CodeNotFound, exchange.Conflict: exchange.CodeConflict,
		exchange.TooLarge: exchange.CodeTooLarge, exchange.Unsupported: exchange.CodeMethod, exchange.Forged: exchange.CodeSignature,
		exchange.Expired: exchange.CodeExpired, exchange.Unavailable: exchange.CodeNoQuorum,
		exchange.Undetermined: exchange.CodeUnknownResult, exchange.Integrity: exchange.CodeLedgerBroken,
	} {
		b := &broker{errs: []error{&exchange.Error{Kind: kind, Code: code, Msg: "what", Hint: "next", Pointer: "/x"}}}
		_, err := dial(t, b).In("en").Once().Ask(t.Context(), client.NewKey(), question)
		var e *exchange.Error
		if !errors.As(err, &e) || e.Kind != kind || e.Code != code || e.Msg == "" || e.Pointer != "/x" {
			t.Errorf("%v: %#v", kind, err)
		}
	}
}

func TestProblemsOfTheRequest(t *testing.T) {
	t.Parallel()
	c := dial(t, &broker{answer: allowed})
	bad := question
	bad.Views = nil
	_, err := c.Ask(t.Context(), client.NewKey(), bad)
	if e := exchange.AsError(err); e.Kind != exchange.Invalid || e.Code != exchange.CodeNoViews || e.Pointer != "/fields" {
		t.Errorf("%v", err)
	}
	if strings.Contains(err.Error(), subject) {
		t.Error("the error names the subject")
	}
	if _, err := c.Register(t.Context(), "short", exchange.ConsentForm{}); exchange.AsError(err).Code != exchange.CodeIdempotency {
		t.Errorf("%v", err)
	}
	if _, err := c.Evidence(t.Context()); exchange.KindOf(err) != exchange.Invalid {
		t.Errorf("%v", err)
	}
}

// reply is what a hostile or broken node sends.
func reply(status int, media, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestStrangeResponses(t *testing.T) {
	t.Parallel()
	const (
		doc   = "application/json"
		prob  = "application/problem+json"
		rcpt  = `"receipt":{"origin":"o","entry":"` + someID + `","author":"minzheng","index":7,"leafHash":"` + leaf + `","time":"2026-11-23T04:00:00Z"}`
		begin = `{"id":"` + someID + `","outcome":"allowed",` + rcpt + `,"fields":[`
	)
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		kind    exchange.Kind
	}{
		"html":                  {reply(200, "text/html", "<html>"), exchange.Internal},
		"JSON called text":      {reply(200, "text/plain", begin+`{"field":"f","mode":"value","value":"v"}]}`), exchange.Internal},
		"truncated":             {reply(200, doc, begin), exchange.Internal},
		"trailing":              {reply(200, doc, begin+`{"field":"f","mode":"value","value":"v"}]}{}`), exchange.Internal},
		"empty":                 {reply(200, doc, ""), exchange.Internal},
		"null":                  {reply(200, doc, "null"), exchange.Internal},
		"undecided":             {reply(200, doc, `{"id":"`+someID+`","outcome":"undecided"}`), exchange.Internal},
		"denied with 200":       {reply(200, doc, `{"id":"`+someID+`","outcome":"denied",`+rcpt+`}`), exchange.Internal},
		"no receipt":            {reply(200, doc, `{"id":"`+someID+`","outcome":"no_record"}`), exchange.Internal},
		"bad id":                {reply(200, doc, `{"id":"x","outcome":"no_record",`+rcpt+`}`), exchange.Internal},
		"allowed nothing":       {reply(200, doc, begin+`]}`), exchange.Internal},
		"no record and fields":  {reply(200, doc, strings.Replace(begin, "allowed", "no_record", 1)+`{"field":"f","mode":"value","value":"v"}]}`), exchange.Internal},
		"value missing":         {reply(200, doc, begin+`{"field":"f","mode":"value"}]}`), exchange.Internal},
		"truth missing":         {reply(200, doc, begin+`{"field":"f","mode":"predicate","predicate":"age>=18"}]}`), exchange.Internal},
		"truth with a value":    {reply(200, doc, begin+`{"field":"f","mode":"exists","holds":true,"value":"v"}]}`), exchange.Internal},
		"unknown mode":          {reply(200, doc, begin+`{"field":"f","mode":"all","value":"v"}]}`), exchange.Internal},
		"204":                   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, exchange.Internal},
		"404 html":              {reply(404, "text/html", "no"), exchange.Internal},
		"proxy":                 {reply(502, "text/html", "bad gateway"), exchange.Undetermined},
		"problem, other status": {reply(403, prob, `{"status":503,"kind":"unavailable","code":"XQ-LEDGER-NO-QUORUM"}`), exchange.Internal},
		"problem, other kind":   {reply(403, prob, `{"status":403,"kind":"unavailable","code":"XQ-AUTH-SCOPE"}`), exchange.Denied},
		"problem, no kind":      {reply(503, prob, `{"status":503,"code":"XQ-NODE-BUSY"}`), exchange.Undetermined},
		"denial, no reasons":    {reply(403, prob, `{"status":403,"code":"XQ-DENY-FIELD","outcome":"denied","id":"`+someID+`"}`), exchange.Internal},
		"denial with 500":       {reply(500, prob, `{"status":500,"code":"XQ-DENY-FIELD","outcome":"denied","id":"`+someID+`","reasons":[{"code":"XQ-DENY-FIELD"}]}`), exchange.Internal},
		"hangs up":              {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, exchange.Undetermined},
		"oversize":              {func(w http.ResponseWriter, _ *http.Request) { flood(w, doc, 200, 17<<20) }, exchange.TooLarge},
		"oversize problem":      {func(w http.ResponseWriter, _ *http.Request) { flood(w, prob, 503, 2<<20) }, exchange.TooLarge},
	} {
		a, err := dialHandler(t, c.handler, token).Once().Ask(t.Context(), client.NewKey(), question)
		if err == nil || exchange.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
		if len(a.Fields) > 0 || a.Outcome != exchange.Undecided {
			t.Errorf("%s: an answer came with the error", name)
		}
	}
}

func flood(w http.ResponseWriter, media string, status, n int) {
	w.Header().Set("Content-Type", media)
	w.WriteHeader(status)
	chunk := []byte(strings.Repeat(" ", 1<<16))
	for ; n > 0; n -= len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestReadsOfAnotherEntryAreRefused(t *testing.T) {
	t.Parallel()
	c := dial(t, &broker{})
	if _, err := c.Row(t.Context(), 8); exchange.KindOf(err) != exchange.Internal { // the broker always gives 7
		t.Errorf("%v", err)
	}
	c = dialHandler(t, reply(200, "application/json", `{"index":7}`), token)
	if _, err := c.Proof(t.Context(), 8); exchange.KindOf(err) != exchange.Internal {
		t.Errorf("%v", err)
	}
	if _, err := c.Authority(t.Context(), someID); exchange.KindOf(err) != exchange.Internal { // {} is no record
		t.Errorf("%v", err)
	}
}

func TestListingThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	c := dialHandler(t, reply(200, "application/json", `{"items":[],"next":"again"}`), token)
	if _, err := c.Catalogue(t.Context(), ""); exchange.KindOf(err) != exchange.Internal {
		t.Errorf("%v", err)
	}
}

func TestTokenGoesNowhereElse(t *testing.T) {
	t.Parallel()
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(other.Close)
	c := dialHandler(t, http.RedirectHandler(other.URL, http.StatusTemporaryRedirect), token)
	if _, err := c.Ask(t.Context(), client.NewKey(), question); err == nil {
		t.Error("a redirect is an answer")
	}
	for _, address := range []string{"http://node.example", "http://127.0.0.1:80", "node.example", "ftp://127.0.0.1", "https://user@node.example",
		"https://node.example/?x=1", "https://:443", ""} {
		if _, err := client.New(address, nil, token).Checkpoint(t.Context()); exchange.KindOf(err) != exchange.Invalid {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, bad := range []string{"", "a b", "a\r\nX: y"} {
		if _, err := client.New("https://node.example", nil, bad).Checkpoint(t.Context()); exchange.KindOf(err) != exchange.Invalid {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%v", *c)} {
		if strings.Contains(s, token) {
			t.Errorf("the client prints its token: %s", s)
		}
	}
}

func TestNodeThatIsNotTheNode(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the token was sent") }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	if _, err := client.New(srv.URL, pool, token).Once().Checkpoint(t.Context()); exchange.KindOf(err) != exchange.Unavailable { // TLS 1.2
		t.Errorf("%v", err)
	}
	modern := httptest.NewUnstartedServer(http.NotFoundHandler())
	modern.Config.ErrorLog = log.New(io.Discard, "", 0)
	modern.StartTLS()
	t.Cleanup(modern.Close)
	// No Once: what cannot get better is not tried again, or this would not return.
	if _, err := client.New(modern.URL, x509.NewCertPool(), token).Checkpoint(t.Context()); exchange.KindOf(err) != exchange.Forged {
		t.Errorf("%v", err)
	}
}

func TestDisclosureModesSurviveTheWire(t *testing.T) {
	t.Parallel()
	want := allowed
	want.Fields = []exchange.Disclosed{
		{View: exchange.View{Field: "a", Mode: exchange.Exists}}, {View: exchange.View{Field: "b", Mode: exchange.Compare}, Holds: true},
		{View: exchange.View{Field: "c", Mode: exchange.Mask}, Value: "陈*"}, {View: exchange.View{Field: "d", Mode: exchange.Value}}}
	got, err := dial(t, &broker{answer: want}).Ask(t.Context(), client.NewKey(), question)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if raw, err := json.Marshal(got.Fields[0]); err != nil || strings.Contains(string(raw), "true") {
		t.Errorf("%s %v", raw, err)
	}
}
