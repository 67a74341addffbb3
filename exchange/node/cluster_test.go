package node_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xinqiao/exchange"
	"xinqiao/exchange/client"
	"xinqiao/exchange/demo"
	"xinqiao/exchange/node"
)

// network is a founded exchange whose nodes run in this process.
type network struct {
	*demo.Network
	logs  record
	skew  atomic.Int64 // of every node's clock, in nanoseconds
	http  *http.Client
	sdk   map[exchange.Dept]*client.Client
	nodes map[exchange.Dept]*node.Node // the test's own goroutine starts and stops

	change func(*node.Config) // what a test wants otherwise; nil leaves the demo's
}

// record keeps everything that the nodes log, at every level.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.text.Bytes())
}

// forget drops the lines that a test has provoked and looked at.
func (r *record) forget(provoked func(line []byte) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var kept []byte
	for line := range bytes.Lines(r.text.Bytes()) {
		if !provoked(line) {
			kept = append(kept, line...)
		}
	}
	r.text.Reset()
	r.text.Write(kept)
}

// found makes a network and starts nothing. Its directory has a short name: a
// node's administration socket lies inside, and such paths are bounded.
func found(t *testing.T) *network {
	t.Helper()
	dir, err := os.MkdirTemp("", "xq")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a temporary directory
	set, err := demo.Setup(dir, "auto", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(set.WebCA) {
		t.Fatal("the web CA does not parse")
	}
	n := &network{Network: set, nodes: map[exchange.Dept]*node.Node{}, sdk: map[exchange.Dept]*client.Client{},
		http: &http.Client{Timeout: 40 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}}}}
	for _, s := range set.Sites {
		n.sdk[s.Dept] = client.New(s.URL, pool, s.Token)
	}
	t.Cleanup(func() {
		n.stop(t, n.running()...)
		n.http.CloseIdleConnections()
		for line := range bytes.Lines(n.logs.bytes()) {
			if bytes.Contains(line, []byte(`"level":"ERROR"`)) || bytes.Contains(line, []byte("panic")) {
				t.Errorf("a node logs %s", line)
			}
		}
	})
	return n
}

// grow founds a network and starts all of it.
func grow(t *testing.T) *network {
	t.Helper()
	n := found(t)
	n.start(t, n.all()...)
	n.ready(t)
	return n
}

func (n *network) all() (depts []exchange.Dept) {
	for _, s := range n.Sites {
		depts = append(depts, s.Dept)
	}
	return depts
}

func (n *network) running() (depts []exchange.Dept) {
	for _, dept := range n.all() {
		if n.nodes[dept] != nil {
			depts = append(depts, dept)
		}
	}
	return depts
}

func (n *network) config(t *testing.T, dept exchange.Dept) node.Config {
	t.Helper()
	cfg, err := node.Load(n.Site(dept).Config)
	if err != nil {
		t.Fatal(err)
	}
	if n.change != nil {
		n.change(&cfg)
	}
	return cfg
}

func (n *network) dir(dept exchange.Dept) string { return filepath.Dir(n.Site(dept).Config) }

func (n *network) options(dept exchange.Dept) node.Options {
	log := slog.New(slog.NewJSONHandler(&n.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return node.Options{Log: log.With("department", string(dept)), Clock: func() time.Time { return time.Now().Add(time.Duration(n.skew.Load())) }}
}

func (n *network) start(t *testing.T, depts ...exchange.Dept) {
	t.Helper()
	for _, dept := range depts {
		running, err := node.Start(t.Context(), n.config(t, dept), n.options(dept))
		if err != nil {
			t.Fatalf("start %s: %v", dept, err)
		}
		n.nodes[dept] = running
	}
}

// readyWithin is patient: several nodes start on a machine that may be busy.
const readyWithin = 3 * time.Minute

func (n *network) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyWithin)
	defer cancel()
	for _, dept := range n.running() {
		if err := n.nodes[dept].WaitReady(ctx); err != nil {
			t.Fatalf("%s does not become ready: %v", dept, err)
		}
	}
}

// stop takes nodes apart, each of which must say that all went well.
func (n *network) stop(t *testing.T, depts ...exchange.Dept) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // t's context has ended in a cleanup
	defer cancel()
	var wg sync.WaitGroup
	for _, dept := range depts {
		running := n.nodes[dept]
		delete(n.nodes, dept)
		wg.Go(func() {
			if err := running.Stop(ctx); err != nil {
				t.Errorf("stop %s: %v", dept, err)
			}
			select {
			case err := <-running.Fatal():
				t.Errorf("%s wanted to stop: %v", dept, err)
			default:
			}
		})
	}
	wg.Wait()
}

// call sends an HTTP request to a department's node as its system and returns
// the status and the whole body.
func (n *network) call(t *testing.T, dept exchange.Dept, method, path, key string, body []byte, header ...string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, n.Site(dept).URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.Site(dept).Token)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := n.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

func (n *network) ask(t *testing.T, from exchange.Dept, q exchange.Question) exchange.Answer {
	t.Helper()
	a, err := n.sdk[from].Ask(t.Context(), client.NewKey(), q)
	if err != nil {
		t.Fatalf("ask: %v", err)
	}
	return a
}

func (n *network) consent(t *testing.T, f exchange.ConsentForm) exchange.AuthorityInfo {
	t.Helper()
	info, err := n.sdk[demo.Zhujian].Register(t.Context(), client.NewKey(), f)
	if err != nil {
		t.Fatalf("register a consent: %v", err)
	}
	// A node decides by what it has applied itself. Until it has seen the consent
	// it says, truly, that it knows of none.
	eventually(t, "the provider's node has the consent", func() bool {
		_, err := n.sdk[f.Provider].Authority(t.Context(), info.ID)
		return err == nil
	})
	return info
}

// rows returns the rows of a department's ledger that keep chooses.
func (n *network) rows(t *testing.T, dept exchange.Dept, keep func(exchange.LedgerRow) bool) (kept []exchange.LedgerRow) {
	t.Helper()
	query := exchange.LedgerQuery{Page: exchange.Page{Limit: 200}}
	for {
		rows, next, err := n.sdk[dept].Search(t.Context(), query)
		if err != nil {
			t.Fatalf("search the ledger of %s: %v", dept, err)
		}
		for _, r := range rows {
			if keep(r) {
				kept = append(kept, r)
			}
		}
		if next == "" {
			return kept
		}
		query.Page.Cursor = next
	}
}

// accesses returns the accesses of a case as the holder's ledger has them.
func (n *network) accesses(t *testing.T, holder exchange.Dept, number exchange.Case) []exchange.LedgerRow {
	t.Helper()
	return n.rows(t, holder, func(r exchange.LedgerRow) bool { return r.Kind == "access" && r.Case == number })
}

// eventually polls until ok holds; nothing in these tests waits for a fixed time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func value(f exchange.Field) exchange.View { return exchange.View{Field: f, Mode: exchange.Value} }

const (
	handler  exchange.Operator = "op-0417" // on every department's roster as case handler
	reviewer exchange.Operator = "op-0502"
)

// form is a consent for two fields of the marriage record, given at a window.
func form(subject exchange.Subject, number exchange.Case, reads uint32) exchange.ConsentForm {
	return exchange.ConsentForm{Provider: demo.Minzheng, Subject: subject, Matter: demo.StoryMatter, Case: number,
		Purposes: []exchange.Purpose{demo.StoryPurpose}, NotAfter: time.Now().Add(72 * time.Hour), MaxReads: reads, Channel: "window",
		Views:    []exchange.ItemView{{Item: demo.MarriageRecord, View: value("marital_status")}, {Item: demo.MarriageRecord, View: value("spouse_name")}},
		Notice:   exchange.Notice{Template: "N-17", Version: 4, Hash: strings.Repeat("5a", 32), Lang: "zh-CN"},
		Evidence: []string{strings.Repeat("a5", 32)}, Officers: []exchange.Operator{handler, reviewer}}
}

func question(subject exchange.Subject, number exchange.Case, authority string) exchange.Question {
	return exchange.Question{Holder: demo.Minzheng, Item: demo.MarriageRecord, Subject: subject, Purpose: demo.StoryPurpose,
		Matter: demo.StoryMatter, Case: number, Operator: handler, Authority: authority,
		Views: []exchange.View{value("marital_status"), value("spouse_name")}}
}

// inJSON is a question as the API takes it.
func inJSON(t *testing.T, q exchange.Question) []byte {
	t.Helper()
	fields := []map[string]any{}
	for _, v := range q.Views {
		fields = append(fields, map[string]any{"field": v.Field, "mode": v.Mode.String()})
	}
	m := map[string]any{"holder": q.Holder, "item": q.Item, "subject": q.Subject, "fields": fields, "purpose": q.Purpose,
		"matter": q.Matter, "case": q.Case, "operator": q.Operator}
	if q.Authority != "" {
		m["authority"] = q.Authority
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func has(reasons []exchange.Reason, code exchange.Code) bool {
	for _, r := range reasons {
		if r.Code == code {
			return true
		}
	}
	return false
}

// records are what a department holds about a subject, from the demo's own data.
func recordOf(t *testing.T, dept exchange.Dept, item exchange.Item, subject exchange.Subject) demo.Record {
	t.Helper()
	people, err := demo.People()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range people.Records(dept) {
		if r.Item == item && r.Subject == subject {
			return r
		}
	}
	t.Fatal(errors.New("the demo has no such record"))
	return demo.Record{}
}
