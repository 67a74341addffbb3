package api_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/api"
	"xinqiao/policy"
)

var noon = time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)

const (
	token   = "a-token-that-nobody-guesses-0001" // of the system "portal", which may do everything
	narrow  = "a-token-that-nobody-guesses-0002" // of "reader", catalogue only
	expired = "a-token-that-nobody-guesses-0003"
	someID  = "0123456789abcdef0123456789abcdef"
	subject = "110101199003070012" // wrong check character: no real person
	leaf    = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// fake is a broker and a ledger whose outcomes a test sets.
type fake struct {
	answer    exchange.Answer
	err       error
	panic     any
	authority exchange.AuthorityInfo
	items     []exchange.CatalogueItem
	rows      []exchange.LedgerRow
	block     chan struct{}

	mu sync.Mutex
	// mu protects what was asked.
	system, key, reason string
	question            exchange.Question
	form                exchange.ConsentForm
	query               exchange.LedgerQuery
	indices             []uint64
	asked               int
}

func (f *fake) Ask(_ context.Context, system, key string, q exchange.Question) (exchange.Answer, error) {
	if f.block != nil {
		<-f.block
	}
	if f.panic != nil {
		panic(f.panic)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.system, f.key, f.question = system, key, q
	f.asked++
	return f.answer, f.err
}

func (f *fake) Answered(_ context.Context, system, _ string) (exchange.Answer, error) {
	f.system = system
	return f.answer, f.err
}

func (f *fake) Register(_ context.Context, system, key string, c exchange.ConsentForm) (exchange.AuthorityInfo, error) {
	f.system, f.key, f.form = system, key, c
	return f.authority, f.err
}

func (f *fake) Authority(context.Context, string) (exchange.AuthorityInfo, error) {
	return f.authority, f.err
}

func (f *fake) Withdraw(_ context.Context, _, _, reason string) (exchange.AuthorityInfo, error) {
	f.reason = reason
	return f.authority, f.err
}

func (f *fake) Catalogue(context.Context) ([]exchange.CatalogueItem, error) { return f.items, f.err }

func (f *fake) Search(_ context.Context, q exchange.LedgerQuery) ([]exchange.LedgerRow, string, error) {
	f.query = q
	return f.rows, "more", f.err
}

func (f *fake) Row(context.Context, uint64) (exchange.LedgerRow, error) {
	if f.err != nil {
		return exchange.LedgerRow{}, f.err
	}
	return f.rows[0], nil
}

func (f *fake) Proof(_ context.Context, index uint64) (exchange.LedgerProof, error) {
	return exchange.LedgerProof{Index: index, Leaf: []byte{1}, Frame: []byte{2}, Size: 1, Checkpoint: "note\n"}, f.err
}

func (f *fake) Checkpoint(context.Context) (string, error) { return "origin\n1\nroot\n", f.err }

func (f *fake) Evidence(_ context.Context, indices []uint64) ([]byte, error) {
	f.indices = indices
	return []byte("PK\x03\x04"), f.err
}

// rig is a handler over a fake, and what it logged and observed.
type rig struct {
	*fake
	handler http.Handler
	log     *bytes.Buffer
	seeing  sync.Mutex // of seen
	seen    []string
}

func newRig(t testing.TB, change ...func(*api.Config)) *rig {
	t.Helper()
	r := &rig{fake: &fake{}, log: &bytes.Buffer{}}
	r.answer = allowed()
	r.authority = exchange.AuthorityInfo{ID: someID, State: "active", Basis: "consent", Provider: "minzheng", Grantee: "zhujian",
		NotAfter: noon.Add(time.Hour), MaxReads: 3, Receipt: receipt()}
	r.items = []exchange.CatalogueItem{{Item: "civil/marriage-record", Holder: "minzheng", Title: "婚姻登记信息", TitleEN: "Marriage record",
		Version: 1, Sharing: "conditional", Provider: "11", Fields: []exchange.CatalogueField{{Name: "spouse_name", Title: "配偶姓名",
			TitleEN: "Spouse", Type: "text", Sensitive: true}}},
		{Item: "tax/income-certificate", Holder: "shuiwu", Title: "收入证明", TitleEN: "Income", Sharing: "conditional", Fields: []exchange.CatalogueField{}}}
	r.rows = []exchange.LedgerRow{{Index: 7, Entry: someID, Kind: "access", Result: "committed", Time: noon, Author: "minzheng", Holder: "minzheng",
		Requester: "zhujian", Class: "civil", Outcome: exchange.Refused, Leaf: leaf, Open: true, Item: "civil/marriage-record",
		Views: []exchange.View{{Field: "photo", Mode: exchange.Value}}, Purpose: "housing-eligibility", Case: "ZJ-1", Operator: "zj-1",
		Reasons: []exchange.Reason{{Code: exchange.DenyField, Detail: "photo"}}},
		{Index: 6, Entry: someID, Kind: "fact", Result: "committed", Time: noon, Author: "gongan", Leaf: leaf, Item: "hidden/item"}}
	e := gm.Emmansun()
	cfg := api.Config{Exchanges: r, Authorities: r, Catalogue: r, Ledger: r, Population: exchange.Synthetic, Explain: policy.Explain, Engine: e,
		Clock: func() time.Time { return noon }, Log: slog.New(slog.NewJSONHandler(r.log, nil)),
		Observe: func(route string, status int, _ float64) {
			r.seeing.Lock()
			defer r.seeing.Unlock()
			r.seen = append(r.seen, route+" "+http.StatusText(status))
		},
		Systems: []api.System{
			{Name: "portal", TokenHash: e.Sum([]byte(token)), Expires: noon.Add(time.Hour),
				Scopes: []api.Scope{api.ScopeExchange, api.ScopeConsent, api.ScopeCatalogue, api.ScopeLedger}},
			{Name: "reader", TokenHash: e.Sum([]byte(narrow)), Expires: noon.Add(time.Hour), Scopes: []api.Scope{api.ScopeCatalogue}},
			{Name: "old", TokenHash: e.Sum([]byte(expired)), Expires: noon, Scopes: []api.Scope{api.ScopeExchange}}}}
	for _, c := range change {
		c(&cfg)
	}
	h, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.handler = h
	return r
}

func receipt() exchange.Receipt {
	return exchange.Receipt{Origin: "example", Entry: someID, Author: "minzheng", Index: 7, LeafHash: leaf, Time: noon}
}

func allowed() exchange.Answer {
	return exchange.Answer{ID: someID, Outcome: exchange.Allowed, Holder: "minzheng", Item: "civil/marriage-record", AsOf: noon, IssuedAt: noon,
		Retain: "P30D", Receipt: receipt(), Fields: []exchange.Disclosed{
			{View: exchange.View{Field: "spouse_name", Mode: exchange.Value}, Value: "陈𬱖"},
			{View: exchange.View{Field: "remarks", Mode: exchange.Value}, Value: ""},
			{View: exchange.View{Field: "birth_date", Mode: exchange.Predicate, Predicate: "age>=18"}, Holds: false}}}
}

func refused() exchange.Answer {
	return exchange.Answer{ID: someID, Outcome: exchange.Refused, Holder: "minzheng", Item: "civil/marriage-record", Receipt: receipt(),
		Reasons: []exchange.Reason{{Code: exchange.DenyWithdrawn}, {Code: exchange.DenyField, Detail: "photo"}},
		// A broken broker that leaves data in a denial must not leak it here.
		Fields: []exchange.Disclosed{{View: exchange.View{Field: "photo", Mode: exchange.Value}, Value: "CANARY"}}}
}

const question = `{"holder":"minzheng","item":"civil/marriage-record","subject":{"kind":"person","id":"` + subject + `"},` +
	`"fields":[{"field":"spouse_name","mode":"value"},{"field":"birth_date","mode":"predicate","predicate":"age>=18"}],` +
	`"purpose":"housing-eligibility","matter":"000725001000","case":"ZJ-2026-0001","operator":"zj-0417"}`

const consent = `{"provider":"minzheng","subject":{"kind":"person","id":"` + subject + `"},"matter":"000725001000","case":"ZJ-2026-0001",` +
	`"purposes":["housing-eligibility"],"views":[{"item":"civil/marriage-record","field":"spouse_name","mode":"value"}],` +
	`"notAfter":"2026-12-31T00:00:00Z","maxReads":2,"notice":{"template":"housing","version":1,"hash":"` + leaf + `","lang":"zh-CN"},` +
	`"channel":"window","officers":["zj-0417","zj-0418"]}`

// call sends one request with the all-powerful token; headers come in pairs and
// replace what is there, "" removes.
func (r *rig) call(t testing.TB, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req := httptest.NewRequestWithContext(t.Context(), method, target, in)
	req.Header.Set("Authorization", "Bearer "+token)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "key-0000-0001")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Del(headers[i])
		if headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	validate(t, req, w)
	return w
}
