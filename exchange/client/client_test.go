package client_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

func (b *broker) Ask(_ context.Context, _, key string, q exchange.Question) (exchange.Answer, error) {
	b.keys, b.got = append(b.keys, key), q
	return b.answer, b.next()
}

func (b *broker) Answered(context.Context, string, string) (exchange.Answer, error) {
	return b.answer, b.next()
}

func (b *broker) Register(_ context.Context, _, key string, f exchange.ConsentForm) (exchange.AuthorityInfo, error) {
	b.keys, b.form = append(b.keys, key), f
	return authority, b.next()
}

func (b *broker) Authority(context.Context, string) (exchange.AuthorityInfo, error) {
	return authority, b.next()
}

func (b *broker) Withdraw(_ context.Context, _, _, reason string) (exchange.AuthorityInfo, error) {
	b.reason = reason
	return authority, b.next()
}

func (b *broker) Catalogue(context.Context) ([]exchange.CatalogueItem, error) {
	var items []exchange.CatalogueItem
	for i := range 450 {
		items = append(items, exchange.CatalogueItem{Item: exchange.Item("civil/record-" + strings.Repeat("x", i%20) + string(rune('a'+i%26))),
			Holder: exchange.Dept("dept-" + string(rune('a'+i/26))), Sharing: "conditional", Fields: []exchange.CatalogueField{}})
	}
	return items, b.next()
}

func (b *broker) Search(_ context.Context, q exchange.LedgerQuery) ([]exchange.LedgerRow, string, error) {
	b.query = q
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
	busy = &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum, Msg: "no quorum"}
)

// dial serves the API over TLS and returns a client that does not wait.
func dial(t *testing.T, b *broker) *client.Client {
	t.Helper()
	e := gm.Emmansun()
	h, err := api.New(api.Config{Exchanges: b, Authorities: b, Catalogue: b, Ledger: b, Population: exchange.Synthetic, Explain: policy.Explain,
		Engine: e, Clock: func() time.Time { return noon }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Systems: []api.System{{Name: "portal", TokenHash: e.Sum([]byte(token)), Expires: noon.Add(time.Hour),
			Scopes: []api.Scope{api.ScopeExchange, api.ScopeConsent, api.ScopeCatalogue, api.ScopeLedger}}}})
	if err != nil {
		t.Fatal(err)
	}
	return dialHandler(t, h, token)
}

func dialHandler(t *testing.T, h http.Handler, token string) *client.Client {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	c, err := client.New(srv.URL, pool, token)
	if err != nil {
		t.Fatal(err)
	}
	c.SetWait(func(ctx context.Context, _ time.Duration) error { return ctx.Err() })
	return c
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
	form := exchange.ConsentForm{Provider: "minzheng", Subject: question.Subject, Matter: question.Matter, Case: "ZJ-1",
		Purposes: []exchange.Purpose{"housing-eligibility"}, Views: []exchange.ItemView{{Item: question.Item, View: question.Views[0]}},
		NotAfter: noon, MaxReads: 2, Notice: exchange.Notice{Template: "t", Version: 1, Hash: leaf, Lang: "zh-CN"}, Channel: "window",
		Evidence: []string{leaf}, Officers: []exchange.Operator{"a", "b"}}
	info, err := c.RegisterConsent(ctx, client.NewKey(), form)
	same("RegisterConsent", err, authority, info)
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
	same("Catalogue", err, len(want), len(items))
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

func TestSameKeyUntilItEnds(t *testing.T) {
	t.Parallel()
	unknown := &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeUnknownResult}
	b := &broker{answer: allowed, errs: []error{busy, unknown, busy}}
	if _, err := dial(t, b).Ask(t.Context(), "key-0000-0001", question); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"key-0000-0001", "key-0000-0001", "key-0000-0001", "key-0000-0001"}, b.keys); diff != "" {
		t.Error(diff)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	b := &broker{errs: []error{busy, busy, busy, busy, busy, busy, busy, busy}}
	_, err := dial(t, b).Ask(t.Context(), "key-0000-0001", question)
	if e := exchange.AsError(err); e.Kind != exchange.Unavailable || e.Code != exchange.CodeNoQuorum || len(b.keys) != 5 {
		t.Errorf("%d attempts, %v", len(b.keys), err)
	}
	unknown := &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeUnknownResult}
	b = &broker{answer: exchange.Answer{ID: someID}, errs: []error{unknown, unknown, unknown, unknown, unknown}}
	a, err := dial(t, b).Ask(t.Context(), "key-0000-0001", question)
	if exchange.KindOf(err) != exchange.Undetermined || a.ID != someID || a.Outcome != exchange.Undecided {
		t.Errorf("%+v %v", a, err)
	}
}

func TestContextEndsTheWait(t *testing.T) {
	t.Parallel()
	b := &broker{errs: []error{busy, busy, busy}}
	c := dial(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	c.SetWait(func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() })
	_, err := c.Ask(ctx, "key-0000-0001", question)
	if exchange.KindOf(err) != exchange.Unavailable || len(b.keys) != 1 {
		t.Errorf("%d attempts, %v", len(b.keys), err)
	}
}

func TestProblemsBecomeErrors(t *testing.T) {
	t.Parallel()
	b := &broker{answer: allowed}
	bad := question
	bad.Views = nil
	c := dial(t, b)
	_, err := c.Ask(t.Context(), client.NewKey(), bad)
	if e := exchange.AsError(err); e.Kind != exchange.Invalid || e.Code != exchange.CodeNoViews || e.Pointer != "/fields" {
		t.Errorf("%v", err)
	}
	if strings.Contains(err.Error(), subject) {
		t.Error("the error names the subject")
	}
	b.errs = []error{&exchange.Error{Kind: exchange.Conflict, Code: exchange.CodeConflict, Msg: "reused"}}
	if _, err := c.RegisterConsent(t.Context(), "short", exchange.ConsentForm{}); exchange.AsError(err).Code != exchange.CodeIdempotency {
		t.Errorf("%v", err)
	}
	if _, err := c.Ask(t.Context(), client.NewKey(), question); exchange.AsError(err).Code != exchange.CodeConflict || exchange.KindOf(err) != exchange.Conflict {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNotANode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		kind    exchange.Kind
	}{
		"html":      {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, exchange.Internal},
		"404 html":  {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 404) }, exchange.Internal},
		"proxy":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", 502) }, exchange.Undetermined},
		"hangs up":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, exchange.Undetermined},
		"undecided": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"id":"x","outcome":"undecided"}`) }, exchange.Internal},
	} {
		_, err := dialHandler(t, c.handler, token).Ask(t.Context(), client.NewKey(), question)
		if err == nil || exchange.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokenGoesNowhereElse(t *testing.T) {
	t.Parallel()
	other := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed, with token %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(other.Close)
	c := dialHandler(t, http.RedirectHandler(other.URL, http.StatusTemporaryRedirect), token)
	if _, err := c.Ask(t.Context(), client.NewKey(), question); err == nil {
		t.Error("a redirect is an answer")
	}
	for _, address := range []string{"http://node.example", "http://192.0.2.1:80", "node.example", "ftp://127.0.0.1", "https://user@node.example",
		"https://node.example/?x=1", "http://localhost.example:1", ""} {
		if _, err := client.New(address, nil, token); err == nil {
			t.Errorf("%q is accepted", address)
		}
	}
	if _, err := client.New("https://node.example", nil, ""); err == nil {
		t.Error("no token is accepted")
	}
}

func TestUnknownAuthorityOfTheNodeIsRefused(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = nil
	c, err := client.New(srv.URL, x509.NewCertPool(), token)
	if err != nil {
		t.Fatal(err)
	}
	c.SetWait(func(context.Context, time.Duration) error { return errors.New("once") })
	if _, err := c.Checkpoint(t.Context()); exchange.KindOf(err) != exchange.Unavailable {
		t.Errorf("%v", err)
	}
}
