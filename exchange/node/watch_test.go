package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
	"xinqiao/exchange/client"
	"xinqiao/exchange/demo"
	"xinqiao/exchange/node"
)

var (
	documented = regexp.MustCompile("(?m)^\\| `(xinqiao_[a-z_]+)` \\| ([a-z]+) \\|")
	served     = regexp.MustCompile(`(?m)^# TYPE (xinqiao_[a-z_]+) ([a-z]+)$`)
)

// metricsAsDocumented compares what a node serves with deploy/METRICS.md, both
// ways, and has promtool check its form.
func metricsAsDocumented(t *testing.T, n *network) {
	n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-METRICS", "")) // so that every route has been used
	doc, err := os.ReadFile(filepath.Join("..", "..", "deploy", "METRICS.md"))
	if err != nil {
		t.Fatal(err)
	}
	table := func(re *regexp.Regexp, text []byte) map[string]string {
		found := map[string]string{}
		for _, m := range re.FindAllSubmatch(text, -1) {
			found[string(m[1])] = string(m[2])
		}
		return found
	}
	for _, dept := range []exchange.Dept{demo.Zhujian, demo.Minzheng} {
		_, page := n.call(t, dept, "GET", "/metrics", "", nil)
		if diff := cmp.Diff(table(documented, doc), table(served, page)); diff != "" {
			t.Errorf("deploy/METRICS.md and %s (-documented +served):\n%s", dept, diff)
		}
		for line := range strings.Lines(string(page)) {
			for _, secret := range []string{demo.Wife().ID, "ZJ-", string(handler), "counter"} { // "counter" is the system's name
				if !strings.HasPrefix(line, "#") && strings.Contains(line, secret) {
					t.Errorf("%s has a metric that names a person, a case, an operator or a system: %s", dept, line)
				}
			}
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed")
	}
	_, page := n.call(t, demo.Minzheng, "GET", "/metrics", "", nil)
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// scrapedByPrometheus has a real Prometheus watch all six nodes with what a
// department has: the web CA's certificate and the rules that are shipped.
func scrapedByPrometheus(t *testing.T, n *network) {
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed")
	}
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join("..", "..", "deploy", "prometheus", "xinqiao.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, s := range n.Sites {
		targets = append(targets, strings.TrimPrefix(s.URL, "https://"))
	}
	config, err := json.Marshal(map[string]any{"global": map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{rules}, "scrape_configs": []any{map[string]any{"job_name": "xinqiao", "scheme": "https",
			"tls_config":     map[string]any{"ca_file": filepath.Join(n.Dir, "web-ca.pem")},
			"static_configs": []any{map[string]any{"targets": targets}}}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "prometheus.yml") // JSON is YAML
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	var log record
	cmd := exec.CommandContext(t.Context(), prometheus, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		"--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }() // its end says nothing
	ask := func(path string, v any) bool {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return json.NewDecoder(resp.Body).Decode(v) == nil
	}
	var up struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	eventually(t, fmt.Sprintf("Prometheus sees six nodes up: %s", log.bytes()), func() bool {
		return ask("/api/v1/query?query="+url.QueryEscape("up == 1"), &up) && len(up.Data.Result) == len(n.Sites)
	})
	var groups struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health string }
			}
		}
	}
	eventually(t, "the alert rules are evaluated", func() bool {
		names := map[string]bool{}
		if !ask("/api/v1/rules", &groups) {
			return false
		}
		for _, g := range groups.Data.Groups {
			for _, r := range g.Rules {
				names[r.Name] = r.Health == "ok"
			}
		}
		return names["XinqiaoNoLeader"] && names["XinqiaoCheckpointStale"] && names["XinqiaoVerificationFailed"]
	})
}

// ledgerPages goes the officer's way over plain HTTP: a login code from the
// administrator's socket, the denied entry's page with its code.
func ledgerPages(t *testing.T, n *network) {
	denied := n.ask(t, demo.Zhujian, question(demo.Husband(), "ZJ-PAGES", ""))
	if denied.Outcome != exchange.Refused {
		t.Fatalf("outcome %s", denied.Outcome)
	}
	socket := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(n.config(t, demo.Minzheng).Data, node.AdminSocket))
	}}}
	t.Cleanup(socket.CloseIdleConnections)
	code := func(officer string) (int, string) {
		resp, err := socket.Post("http://node/login-codes?officer="+officer, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, strings.TrimSpace(string(b))
	}
	if status, _ := code("mallory"); status != http.StatusNotFound {
		t.Errorf("a code for nobody: %d", status)
	}
	status, once := code("auditor")
	if status != http.StatusOK || once == "" {
		t.Fatalf("a login code: %d", status)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	officer := &http.Client{Jar: jar, Transport: n.http.Transport}
	page := fmt.Sprintf("%s/console/entries/%d", n.Site(demo.Minzheng).URL, denied.Receipt.Index)
	open := func(c *http.Client) (string, string) {
		resp, err := c.Get(page)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Request.URL.Path, string(b)
	}
	if at, body := open(officer); at != "/console/login" || strings.Contains(body, "XQ-DENY") {
		t.Errorf("without a session: %s", at)
	}
	login := func(c *http.Client) int {
		resp, err := c.PostForm(n.Site(demo.Minzheng).URL+"/console/login", url.Values{"code": {once}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if status := login(officer); status != http.StatusOK {
		t.Fatalf("log in: %d", status)
	}
	at, body := open(officer)
	if !strings.HasSuffix(page, at) || !strings.Contains(body, string(exchange.DenyNoAuthority)) || !strings.Contains(body, denied.Receipt.LeafHash) {
		t.Errorf("the denied entry's page, at %s, shows neither its code nor its leaf", at)
	}
	if strings.Contains(body, demo.Husband().ID) || strings.Contains(body, "<script") {
		t.Error("the page shows an identity number, or runs a script")
	}
	if status := login(&http.Client{Transport: n.http.Transport}); status != http.StatusForbidden {
		t.Errorf("the code a second time: %d", status)
	}
	if slices.ContainsFunc(strings.Split(string(n.logs.bytes()), "\n"), func(line string) bool { return strings.Contains(line, once) }) {
		t.Error("the log holds the login code")
	}
	if _, err := n.sdk[demo.Zhujian].Ask(t.Context(), client.NewKey(), question(demo.Husband(), "ZJ-PAGES", "")); err != nil {
		t.Error(err)
	}
}
