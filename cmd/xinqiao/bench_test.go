package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// runBench runs `xinqiao bench …` in this process.
func runBench(t *testing.T, args ...string) (stdout []byte, code int) {
	t.Helper()
	root := newRoot()
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append([]string{"bench"}, args...))
	err := root.ExecuteContext(t.Context())
	t.Logf("bench %v: %v\n%s", args, err, errs.Bytes())
	return out.Bytes(), exitCode(err)
}

// TestBenchLedger runs the command for a second and holds its contract: the
// fields that others read, with numbers that can be true, and nothing left on disk.
func TestBenchLedger(t *testing.T) {
	dir := t.TempDir()
	out, code := runBench(t, "ledger", "-o", "json", "--seconds", "1", "--appenders", "8", "--dir", dir)
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	var fields map[string]any
	if err := json.Unmarshal(out, &fields); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"limit_ratio", "latency_ratio", "entries_per_second", "p50_ms", "p99_ms"} {
		if v, ok := fields[name].(float64); !ok || !(v > 0) || math.IsInf(v, 0) {
			t.Errorf("%s is %v", name, fields[name])
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBenchUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--seconds", "0"}, {"-o", "xml"}, {"--appenders", "0"}, {"more"}} {
		if _, code := runBench(t, append([]string{"ledger"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}
