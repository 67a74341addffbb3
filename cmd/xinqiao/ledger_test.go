package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xinqiao/exchange"
	"xinqiao/exchange/demo"
)

// TestLedgerCommands searches, shows and exports as an officer does, on a node
// that is a party and on one that is not.
func TestLedgerCommands(t *testing.T) {
	c := cluster(t)
	started := time.Now().Add(-time.Minute)
	q := subsidy(t, c, 1)
	allowed, err := c.Client(demo.Renshe).Ask(t.Context(), "ledger-commands-1", q)
	if err != nil {
		t.Fatal(err)
	}
	q.Authority = ""
	denied, err := c.Client(demo.Renshe).Ask(t.Context(), "ledger-commands-2", q)
	if err != nil {
		t.Fatal(err)
	}
	subject := filepath.Join(t.TempDir(), "subject")
	writeFile(t, subject, q.Subject.ID+"\n")

	as := func(dept exchange.Dept, args ...string) (string, error) {
		site := c.Site(dept)
		cmd := exec.CommandContext(t.Context(), bin(t, "xinqiao"), append([]string{"ledger"}, args...)...)
		cmd.Env = append(os.Environ(), "XINQIAO_NODE="+site.URL, "XINQIAO_CA="+filepath.Join(c.Dir, "web-ca.pem"),
			"XINQIAO_TOKEN_FILE="+filepath.Join(filepath.Dir(site.Config), "token"))
		out, err := cmd.Output()
		return string(out), err
	}
	search := func(dept exchange.Dept, args ...string) []uint64 {
		t.Helper()
		out, err := as(dept, append([]string{"search", "--kind", "access", "-o", "json"}, args...)...)
		if err != nil {
			t.Fatalf("%s searches %v: %v", dept, args, err)
		}
		var page struct{ Entries []exchange.LedgerRow }
		if err := json.Unmarshal([]byte(out), &page); err != nil {
			t.Fatal(err)
		}
		var found []uint64
		for _, r := range page.Entries {
			found = append(found, r.Index)
		}
		return found
	}
	both := fmt.Sprint([]uint64{denied.Receipt.Index, allowed.Receipt.Index})
	for _, try := range []struct {
		dept exchange.Dept
		args []string
		want string
	}{
		{demo.Renshe, []string{"--department", "shuiwu"}, both},
		{demo.Gongan, []string{"--department", "shuiwu"}, both},
		{demo.Renshe, []string{"--outcome", "denied"}, fmt.Sprint([]uint64{denied.Receipt.Index})},
		{demo.Shuiwu, []string{"--item", "tax/income-certificate", "--operator", "op-0417"}, both},
		{demo.Shuiwu, []string{"--subject-file", subject}, both},
		{demo.Renshe, []string{"--from", started.Format(time.RFC3339)}, both},
		{demo.Renshe, []string{"--to", started.Format(time.RFC3339)}, "[]"},
		// Who is no party cannot find by what it may not read.
		{demo.Gongan, []string{"--item", "tax/income-certificate"}, "[]"},
		{demo.Gongan, []string{"--operator", "op-0417"}, "[]"},
		{demo.Gongan, []string{"--subject-file", subject}, "[]"},
	} {
		if got := fmt.Sprint(search(try.dept, try.args...)); got != try.want {
			t.Errorf("%s searches %v: %s, want %s", try.dept, try.args, got, try.want)
		}
	}
	shown, err := as(demo.Renshe, "show", fmt.Sprint(denied.Receipt.Index))
	if err != nil || !strings.Contains(shown, string(exchange.DenyNoAuthority)) || !strings.Contains(shown, denied.Receipt.Entry) {
		t.Errorf("show: %v\n%s", err, shown)
	}
	if shown, err := as(demo.Gongan, "show", fmt.Sprint(denied.Receipt.Index)); err != nil || strings.Contains(shown, "op-0417") {
		t.Errorf("a node that is no party shows the detail: %v\n%s", err, shown)
	}
	file := filepath.Join(t.TempDir(), "evidence.zip")
	if _, err := as(demo.Shuiwu, "export", "--entry", fmt.Sprint(allowed.Receipt.Index), "--entry", fmt.Sprint(denied.Receipt.Index), "--out", file); err != nil {
		t.Fatal(err)
	}
	if code, text := verified(t, file, filepath.Join(c.Dir, "trust.json")); code != 0 {
		t.Errorf("xqverify exits with %d:\n%s", code, text)
	}
}
