package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// output runs a program in dir and returns what it says and its exit code.
func output(t *testing.T, dir string, env []string, name string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	b, err := cmd.CombinedOutput()
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// TestDeployRules checks the alerts and runs their tests.
func TestDeployRules(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not installed (Debian: prometheus)")
	}
	for _, args := range [][]string{
		{"check", "rules", "xinqiao.rules.yml"},
		{"test", "rules", "xinqiao.rules.test.yml"},
		{"check", "config", "--syntax-only", "prometheus.yml"},
	} {
		if out, code := output(t, "../deploy/prometheus", nil, "promtool", args...); code != 0 {
			t.Errorf("promtool %q exits with %d:\n%s", args, code, out)
		}
	}
}

// TestDeployRulesMutated holds that the tests of the alerts notice a changed
// condition, so that they do not pass whatever the rules say.
func TestDeployRulesMutated(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not installed (Debian: prometheus)")
	}
	rules, err := os.ReadFile("../deploy/prometheus/xinqiao.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("../deploy/prometheus/xinqiao.rules.test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"raft_leader == 0 or", "raft_leader == 1 or"},
		{" or absent(xinqiao_raft_leader)", ""},
		{"        for: 1m\n        labels:\n          severity: critical\n        annotations:\n          summary: \"{{ if", "        labels:\n          severity: critical\n        annotations:\n          summary: \"{{ if"},
		{"xinqiao_ledger_cosigned_lag_entries > 0\n          and ", ""},
		{"\n          and time() - xinqiao_ledger_checkpoint_timestamp_seconds > 60", ""},
		{"verification_failures_total > 0", "verification_failures_total > 1"},
		{"split_views_total > 0", "split_views_total > 1"},
		{"ledger_halted > 0", "ledger_halted > 1"},
		{"engine_mismatch_total > 0", "engine_mismatch_total > 1"},
		{"      - alert: XinqiaoVerificationFailed\n", "      - alert: XinqiaoVerificationFailed\n        for: 5m\n"},
	} {
		changed := bytes.Replace(rules, []byte(c[0]), []byte(c[1]), 1)
		if bytes.Equal(changed, rules) {
			t.Errorf("the rules do not say %q any more", c[0])
			continue
		}
		dir := t.TempDir()
		for name, b := range map[string][]byte{"xinqiao.rules.yml": changed, "xinqiao.rules.test.yml": tests} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, code := output(t, dir, nil, "promtool", "check", "rules", "xinqiao.rules.yml"); code != 0 {
			t.Errorf("%q for %q is no rule:\n%s", c[1], c[0], out)
		}
		if _, code := output(t, dir, nil, "promtool", "test", "rules", "xinqiao.rules.test.yml"); code == 0 {
			t.Errorf("the tests pass with %q for %q", c[1], c[0])
		}
	}
}

// TestDeployRunbooks holds that each alert has its page, each page its alert,
// and that rules and pages speak of metrics that METRICS.md has.
func TestDeployRunbooks(t *testing.T) {
	t.Parallel()
	files := repository(t)
	const rulesFile = "deploy/prometheus/xinqiao.rules.yml"
	metrics := metricNames(string(files["deploy/METRICS.md"]))
	if len(metrics) < 20 {
		t.Fatalf("METRICS.md has %d metrics", len(metrics))
	}
	var alerts []string
	for _, m := range regexp.MustCompile(`(?m)^      - alert: (\w+)$`).FindAllStringSubmatch(string(files[rulesFile]), -1) {
		page := "deploy/runbooks/" + m[1] + ".md"
		alerts = append(alerts, page)
		if !bytes.HasPrefix(files[page], []byte("# "+m[1]+"\n")) {
			t.Errorf("alert %s has no page %s with its name on top", m[1], page)
		}
		if n := strings.Count(string(files[rulesFile]), "runbook: "+page+"\n"); n != 1 {
			t.Errorf("%d alerts name the page %s", n, page)
		}
	}
	for name, b := range files {
		page := strings.HasPrefix(name, "deploy/runbooks/")
		if page && !slices.Contains(alerts, name) {
			t.Errorf("%s belongs to no alert", name)
		}
		if !page && name != rulesFile && name != "deploy/BENCHMARKS.md" {
			continue
		}
		for _, metric := range regexp.MustCompile(`xinqiao_[a-z_]+`).FindAllString(string(b), -1) {
			if !slices.Contains(metrics, metric) {
				t.Errorf("%s speaks of %s, which METRICS.md does not have", name, metric)
			}
		}
	}
}

// metricNames reads the first column of the table of metrics.
func metricNames(page string) []string {
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(xinqiao_[a-z_]+)` \\|").FindAllStringSubmatch(page, -1) {
		names = append(names, m[1])
	}
	return names
}

// TestDeployUnit holds that the systemd units stay shut.
func TestDeployUnit(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed (Debian: systemd)")
	}
	for _, unit := range []string{"xinqiao.service", "xinqiao-keyring.service"} {
		out, code := output(t, "../deploy/systemd", nil, "systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit)
		if code != 0 {
			t.Errorf("%s: systemd-analyze exits with %d:\n%s", unit, code, out)
		}
	}
}

// TestCISummary runs the counting of tests over what go test would print.
func TestCISummary(t *testing.T) {
	t.Parallel()
	const (
		pass = `{"Action":"run","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
		end  = `{"Action":"pass","Package":"p","Elapsed":1.5}` + "\n"
		skip = `{"Action":"output","Package":"p","Test":"TestB","Output":"    p_test.go:1: openssl is not installed\n"}` + "\n" +
			`{"Action":"skip","Package":"p","Test":"TestB"}` + "\n"
		fail = `{"Action":"output","Package":"p","Test":"TestC","Output":"    the reason\n"}` + "\n" +
			`{"Action":"fail","Package":"p","Test":"TestC"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n"
		build = `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: undefined: x\n"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n"
		panic = `{"Action":"output","Package":"p","Test":"TestD","Output":"panic: it broke\n"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n"
	)
	bin := filepath.Join(t.TempDir(), "testsum")
	if out, code := output(t, "..", nil, "go", "build", "-o", bin, ".ci/testsum.go"); code != 0 {
		t.Fatal(out)
	}
	for i, c := range []struct {
		events, env string
		exit, code  int
		last, says  string
	}{
		{pass + end, "CI=true", 0, 0, "1 passed, 0 failed, 0 skipped", "ok   p 1.5s"},
		{pass + skip + end, "CI=", 0, 0, "1 passed, 0 failed, 1 skipped", "skipped: p TestB: p_test.go:1: openssl is not installed"},
		{pass + skip + end, "CI=true", 0, 1, "", "1 passed, 0 failed, 1 skipped"},
		{pass + fail, "CI=", 1, 1, "1 passed, 1 failed, 0 skipped", "the reason"},
		{pass + fail, "CI=", 0, 1, "1 passed, 1 failed, 0 skipped", "--- FAIL: p TestC"},
		{pass + build, "CI=", 1, 1, "1 passed, 0 failed, 0 skipped", "undefined: x"},
		{pass + panic, "CI=", 1, 1, "1 passed, 0 failed, 0 skipped", "it broke"},
		{pass + end, "CI=", 1, 1, "1 passed, 0 failed, 0 skipped", "ok"},
		{"", "CI=", 0, 1, "", "0 passed, 0 failed, 0 skipped"},
	} {
		file := filepath.Join(t.TempDir(), "events")
		if err := os.WriteFile(file, []byte(c.events), 0o600); err != nil {
			t.Fatal(err)
		}
		out, code := output(t, "..", []string{c.env}, bin, "sh", "-c", fmt.Sprintf("cat '%s'; exit %d", file, c.exit))
		if code != c.code || !strings.HasSuffix(strings.TrimSpace(out), c.last) || !strings.Contains(out, c.says) {
			t.Errorf("case %d: exit %d, want %d; says:\n%s", i, code, c.code, out)
		}
	}
}

// TestCIVulnerabilities puts a go of its own before the real one, and looks at
// what is made of each way in which govulncheck can end. The fake one has two
// words: for the first database, and for that made from the module of reports,
// which it has when that word is not empty.
func TestCIVulnerabilities(t *testing.T) {
	t.Parallel()
	const unreachable = "govulncheck: fetching vulnerabilities: Get \"https://db.example/index\": dial tcp: no such host"
	for name, c := range map[string]struct {
		says   string
		exit   int
		module string
		code   int
		want   string
	}{
		"clean":              {"No vulnerabilities found.", 0, "", 0, "No vulnerabilities found."},
		"finding":            {"Vulnerability #1: GO-2026-0001", 3, "", 1, "GO-2026-0001"},
		"neither":            {unreachable, 1, "", 0, "NOT CHECKED"},
		"module, clean":      {unreachable, 1, "No vulnerabilities found.", 0, "No vulnerabilities found."},
		"module, finding":    {unreachable, 1, "Vulnerability #1: GO-2026-0002", 1, "GO-2026-0002"},
		"no tool":            {"go: golang.org/x/vuln: no such module", 1, "No vulnerabilities found.", 1, "no such module"},
		"code does not load": {"govulncheck: loading packages: p.go:1: undefined: x", 1, "No vulnerabilities found.", 1, "undefined: x"},
	} {
		dir := t.TempDir()
		script := fmt.Sprintf(`#!/bin/sh
module='%s'
case "$*" in
"mod edit -json") echo '  "Toolchain": "go1.99.1"' ;;
"mod download"*) [ -n "$module" ] && echo '  "Dir": "/reports",' ;;
*indexdb*) ;;
*file://*) echo "$module"; case "$module" in Vuln*) exit 3 ;; esac ;;
*govulncheck*) [ "$GOTOOLCHAIN" = go1.99.1 ] || exit 9; echo '%s'; exit %d ;;
*) exit 8 ;;
esac
`, c.module, c.says, c.exit)
		if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		out, code := output(t, "..", []string{"PATH=" + dir + ":" + os.Getenv("PATH")}, "/bin/sh", ".ci/vulncheck")
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit %d, want %d; says:\n%s", name, code, c.code, out)
		}
	}
}
