package console_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/console"
	"xinqiao/ledger/checkpoint"
	"xinqiao/ledger/merkle"
	"xinqiao/policy"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	// mu protects now.
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type signer struct{ key *gm.PrivateKey }

func (s signer) Sign(domain string, body []byte) (gm.Signature, error) {
	return gm.Emmansun().Sign(s.key, gm.Preimage(domain, body))
}

// replica is a small ledger with a true tree and true cosignatures.
type replica struct {
	rows  []exchange.LedgerRow
	bytes [][]byte // of the leaves
	tree  *merkle.Tree
	keys  map[string]gm.PublicKey
	note  string
	query exchange.LedgerQuery
	next  string
	err   error
	panic bool
}

func newReplica(t testing.TB, cosigners int) *replica {
	t.Helper()
	e := gm.Emmansun()
	r := &replica{tree: merkle.New(e), keys: map[string]gm.PublicKey{}}
	base := time.Date(2026, 11, 23, 1, 12, 0, 0, time.UTC)
	add := func(row exchange.LedgerRow) {
		row.Index, row.Entry, row.Result = uint64(len(r.rows)), fmt.Sprintf("%032x", len(r.rows)+1), "committed"
		row.Time = base.Add(time.Duration(len(r.rows)) * 7 * time.Minute)
		leaf := fmt.Appendf(nil, "leaf %d", row.Index)
		h := merkle.LeafHash(e, leaf)
		row.Leaf = hex.EncodeToString(h[:])
		row.Cosigned = row.Index < 9
		r.tree.Append(h)
		r.rows, r.bytes = append(r.rows, row), append(r.bytes, leaf)
	}
	access := func(holder, requester exchange.Dept, item exchange.Item, o exchange.Outcome, open bool, reasons ...exchange.Reason) {
		row := exchange.LedgerRow{Kind: "access", Author: holder, Holder: holder, Requester: requester, Class: item.Class(), Outcome: o, Open: open}
		if open {
			row.Item, row.Purpose, row.Case, row.Operator, row.Reasons = item, "housing-eligibility", "ZJ-2026-0117", "zj-0417", reasons
			row.Views = []exchange.View{{Field: "marital_status", Mode: exchange.Value}, {Field: "spouse_name", Mode: exchange.Value},
				{Field: "birth_date", Mode: exchange.Predicate, Predicate: "age>=18"}}
		}
		add(row)
	}
	add(exchange.LedgerRow{Kind: "fact", Author: "minzheng"})
	add(exchange.LedgerRow{Kind: "fact", Author: "zhujian"})
	access("minzheng", "zhujian", "civil/marriage-record", exchange.Allowed, true)
	access("gongan", "zhujian", "population/household-record", exchange.Allowed, true)
	access("shuiwu", "renshe", "tax/income-certificate", exchange.Allowed, false)
	access("minzheng", "zhujian", "civil/marriage-record", exchange.NoRecord, true)
	add(exchange.LedgerRow{Kind: "ack", Author: "zhujian"})
	access("weijian", "gongan", "health/birth-certificate", exchange.Refused, false)
	access("minzheng", "zhujian", "civil/marriage-record", exchange.Refused, true,
		exchange.Reason{Code: exchange.DenyWithdrawn}, exchange.Reason{Code: exchange.DenyField, Detail: "photo"})
	add(exchange.LedgerRow{Kind: "view", Author: "zhujian"})
	head := checkpoint.Checkpoint{Origin: "xinqiao.example/sm/2026", Size: r.tree.Size(), Root: r.tree.Root()}
	note := checkpoint.Note{Checkpoint: head}
	for i, name := range []string{"gongan", "minzheng", "zhujian", "renshe"} {
		key, err := gm.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		r.keys[name] = key.Public()
		if i < cosigners {
			c, err := checkpoint.Cosign(signer{key}, e, name, key.Public(), base, head)
			if err != nil {
				t.Fatal(err)
			}
			note.Cosignatures = append(note.Cosignatures, c)
		}
	}
	r.note = string(note.Encode())
	return r
}

func (r *replica) Search(_ context.Context, q exchange.LedgerQuery) ([]exchange.LedgerRow, string, error) {
	if r.panic {
		panic("boom")
	}
	r.query = q
	var out []exchange.LedgerRow
	for i := len(r.rows) - 1; i >= 0; i-- {
		row := r.rows[i]
		if q.Outcome != exchange.Undecided && row.Outcome != q.Outcome {
			continue
		}
		out = append(out, row)
	}
	return out, r.next, r.err
}

func (r *replica) Row(_ context.Context, i uint64) (exchange.LedgerRow, error) {
	if i >= uint64(len(r.rows)) {
		return exchange.LedgerRow{}, &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound}
	}
	return r.rows[i], r.err
}

func (r *replica) Proof(_ context.Context, i uint64) (exchange.LedgerProof, error) {
	path, err := r.tree.Inclusion(i, r.tree.Size())
	p := exchange.LedgerProof{Index: i, Leaf: r.bytes[i], Frame: []byte("frame"), Size: r.tree.Size(), Checkpoint: r.note}
	for _, h := range path {
		p.Path = append(p.Path, h[:])
	}
	return p, err
}

func (r *replica) Evidence(context.Context, []uint64) ([]byte, error) {
	return []byte("PK\x03\x04"), r.err
}

func (r *replica) Catalogue(context.Context) ([]exchange.CatalogueItem, error) {
	return []exchange.CatalogueItem{
		{Item: "civil/marriage-record", Title: "婚姻登记信息", TitleEN: "Marriage record", Fields: []exchange.CatalogueField{
			{Name: "marital_status", Title: "婚姻状况", TitleEN: "Marital status"}, {Name: "spouse_name", Title: "配偶姓名", TitleEN: "Spouse's name"}}},
		{Item: "population/household-record", Title: "户籍信息", TitleEN: "Household record"}}, nil
}

func department(d exchange.Dept, lang string) string {
	names := map[exchange.Dept][2]string{"minzheng": {"民政局", "Civil Affairs"}, "zhujian": {"住房和城乡建设局", "Housing"}, "gongan": {"公安局", "Public Security"},
		"shuiwu": {"税务局", "Taxation"}, "renshe": {"人力资源和社会保障局", "Human Resources"}, "weijian": {"卫生健康委员会", "Health"}}
	n := names[d]
	if lang == "en" {
		return n[1]
	}
	return n[0]
}

// rig is a console over a replica.
type rig struct {
	*replica
	clock   *clock
	codes   *console.Codes
	handler http.Handler
	log     *lockedBuffer
	cookies []*http.Cookie

	mu   sync.Mutex
	seen []string // mu protects seen: a browser asks several things at once
}

func (g *rig) observe(route string, status int, _ float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen = append(g.seen, fmt.Sprint(route, " ", status))
}

// last returns what was observed n requests ago.
func (g *rig) last(n int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[len(g.seen)-n]
}

type lockedBuffer struct {
	mu sync.Mutex
	// mu protects b.
	b bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t testing.TB, r *replica) *rig {
	t.Helper()
	g := &rig{replica: r, clock: &clock{now: time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)}, log: &lockedBuffer{}}
	g.codes = console.NewCodes(g.clock.Now)
	h, err := console.New(console.Config{Self: "zhujian", Ledger: r, Login: g.codes, Engines: []gm.Engine{gm.Emmansun(), gm.Tjfoc()},
		Members: func(context.Context) (map[string]gm.PublicKey, error) { return r.keys, nil }, Explain: policy.Explain, Name: department,
		Catalogue: r, Clock: g.clock.Now, Log: slog.New(slog.NewJSONHandler(g.log, nil)),
		Observe: g.observe})
	if err != nil {
		t.Fatal(err)
	}
	g.handler = h
	return g
}

// do sends a request with the rig's cookies and keeps what is set.
func (g *rig) do(t testing.TB, method, target string, form url.Values, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "https://node.example"+target, strings.NewReader(form.Encode()))
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	for _, c := range g.cookies {
		req.AddCookie(c)
	}
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, req)
	for _, set := range w.Result().Cookies() {
		kept := []*http.Cookie{}
		for _, c := range g.cookies {
			if c.Name != set.Name {
				kept = append(kept, c)
			}
		}
		if g.cookies = kept; set.MaxAge >= 0 {
			g.cookies = append(g.cookies, set)
		}
	}
	return w
}

func (g *rig) enter(t testing.TB) *httptest.ResponseRecorder {
	t.Helper()
	code, ok := g.codes.Issue("auditor")
	if !ok {
		t.Fatal("no code")
	}
	return g.do(t, "POST", "/console/login", url.Values{"code": {code}})
}
