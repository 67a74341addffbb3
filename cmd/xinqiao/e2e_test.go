package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"xinqiao/exchange"
	"xinqiao/exchange/client"
	"xinqiao/exchange/demo"
)

// binaries builds both commands once for all end-to-end tests. They are not
// built with the race detector: six such processes would starve each other.
var binaries = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "xinqiao-bin-"); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir, "xinqiao/cmd/xinqiao", "xinqiao/cmd/xqverify").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaries(); err == nil {
		_ = os.RemoveAll(dir) // a temporary directory
	}
	os.Exit(code)
}

func bin(t *testing.T, name string) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatalf("build the binaries: %v", err)
	}
	return filepath.Join(dir, name)
}

// verified runs xqverify and returns its exit code.
func verified(t *testing.T, file, trust string) (int, string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), bin(t, "xqverify"), file, "--trust", trust).CombinedOutput()
	exit := (*exec.ExitError)(nil)
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, string(out)
}

// TestDemoOnce is the promise of the README's first command, on both engines.
func TestDemoOnce(t *testing.T) {
	for _, engine := range []string{"auto", "tjfoc"} {
		t.Run(engine, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			out, err := exec.CommandContext(t.Context(), bin(t, "xinqiao"), "demo", "--once", "--dir", dir, "--engine", engine).CombinedOutput()
			if err != nil {
				t.Fatalf("demo --once: %v\n%s", err, out)
			}
			evidence, trust := filepath.Join(dir, "evidence.zip"), filepath.Join(dir, "trust.json")
			if code, text := verified(t, evidence, trust); code != 0 {
				t.Fatalf("xqverify exits with %d on the demo's evidence:\n%s", code, text)
			}
			raw, err := os.ReadFile(evidence)
			if err != nil {
				t.Fatal(err)
			}
			for at := 40; at < len(raw); at += max(1, len(raw)/12) {
				bad := bytes.Clone(raw)
				bad[at] ^= 0x20
				path := filepath.Join(t.TempDir(), "bad.zip")
				if err := os.WriteFile(path, bad, 0o600); err != nil {
					t.Fatal(err)
				}
				if code, text := verified(t, path, trust); code != 3 {
					t.Errorf("byte %d changed: xqverify exits with %d, want 3:\n%s", at, code, text)
				}
			}
		})
	}
}

// cluster is a running network of six processes for one test.
func cluster(t *testing.T) *demo.Cluster {
	t.Helper()
	n, err := demo.Setup(filepath.Join(t.TempDir(), "net"), "auto", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return clusterOf(t, n)
}

// clusterOf runs a network's nodes until the test ends.
func clusterOf(t *testing.T, n *demo.Network) *demo.Cluster {
	t.Helper()
	c, err := demo.NewCluster(n, bin(t, "xinqiao"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	for _, s := range n.Sites {
		if err := c.Start(s.Dept); err != nil {
			t.Fatal(err)
		}
	}
	ready(t, c)
	return c
}

func ready(t *testing.T, c *demo.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var running []exchange.Dept
	for _, s := range c.Sites {
		if c.Running(s.Dept) {
			running = append(running, s.Dept)
		}
	}
	if err := c.WaitReady(ctx, running...); err != nil {
		t.Fatal(err)
	}
}

// subsidy is a question that renshe may ask shuiwu; neither of them votes.
func subsidy(t *testing.T, c *demo.Cluster, i int) exchange.Question {
	t.Helper()
	form, q, err := demo.Subsidy(i)
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.Client(demo.Renshe).Register(t.Context(), fmt.Sprintf("consent-%d", i), form)
	if err != nil {
		t.Fatal(err)
	}
	q.Authority = info.ID
	return q
}

// access returns the committed access entries with the given outcome, as dept's
// replica has them.
func access(t *testing.T, c *client.Client, outcome exchange.Outcome) []exchange.LedgerRow {
	t.Helper()
	var all []exchange.LedgerRow
	q := exchange.LedgerQuery{Kind: "access", Outcome: outcome, Page: exchange.Page{Limit: 200}}
	for {
		rows, next, err := c.Search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rows...)
		if next == "" {
			return all
		}
		q.Page.Cursor = next
	}
}

// TestCrashAtEveryPoint kills holder and requester at each named point of an
// exchange. The caller's retry with the same key ends well, what was answered
// has its entry, and a question has one committed access that lets an answer out.
func TestCrashAtEveryPoint(t *testing.T) {
	c := cluster(t)
	holder := []string{"holder-after-fetch", "holder-before-outbox", "holder-after-outbox", "append-before-propose",
		"holder-after-append", "holder-before-reply", "ledger-before-flush", "ledger-after-flush",
		"cosign-before-persist", "cosign-after-persist"}
	requester := []string{"requester-before-send", "requester-after-reply", "requester-before-store", "requester-after-store"}
	i := 0
	crash := func(dept exchange.Dept, point string) {
		t.Run(string(dept)+"/"+strings.ReplaceAll(point, ":", "-"), func(t *testing.T) {
			i++
			q := subsidy(t, c, i)
			before := len(access(t, c.Client(demo.Gongan), exchange.Allowed))
			stop(t, c, dept)
			if err := c.Start(dept, "XINQIAO_CRASH_POINT="+point); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			defer cancel()
			asked := make(chan exchange.Answer, 1)
			go func() { asked <- askUntil(ctx, t, c, fmt.Sprintf("crash-question-%d", i), q) }()
			if err := c.Wait(ctx, dept); err != nil {
				t.Fatalf("the node never came to the point %s: %v", point, err)
			}
			if err := c.Start(dept); err != nil {
				t.Fatal(err)
			}
			a := <-asked
			if a.Outcome != exchange.Allowed || len(a.Fields) != 1 {
				t.Fatalf("after the crash: outcome %s with %d fields, want allowed with 1", a.Outcome, len(a.Fields))
			}
			ready(t, c)
			for _, s := range c.Sites {
				row, err := eventually(ctx, c.Client(s.Dept), a.Receipt.Index)
				if err != nil || row.Entry != a.Receipt.Entry || row.Outcome != exchange.Allowed {
					t.Errorf("%s: entry #%d is %+v, %v; want the receipt's", s.Dept, a.Receipt.Index, row, err)
				}
			}
			if got := len(access(t, c.Client(demo.Gongan), exchange.Allowed)) - before; got != 1 {
				t.Errorf("the question left %d allowed accesses, want 1", got)
			}
		})
	}
	for _, point := range holder {
		crash(demo.Shuiwu, point)
	}
	for _, point := range requester {
		crash(demo.Renshe, point)
	}
}

// eventually reads a row that a node which has just restarted may still have to
// take from the others.
func eventually(ctx context.Context, c *client.Client, index uint64) (row exchange.LedgerRow, err error) {
	for ctx.Err() == nil {
		if row, err = c.Row(ctx, index); !exchange.Is(err, exchange.NotFound) {
			return row, err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return row, err
}

func stop(t *testing.T, c *demo.Cluster, dept exchange.Dept) {
	t.Helper()
	if err := c.Signal(dept, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Wait(ctx, dept); err != nil {
		t.Fatal(err)
	}
}

// askUntil asks with the same key until there is an answer, through restarts of
// its own node.
func askUntil(ctx context.Context, t *testing.T, c *demo.Cluster, key string, q exchange.Question) exchange.Answer {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, 15*time.Second)
		a, err := c.Client(demo.Renshe).Ask(try, key, q)
		cancel()
		switch kind := exchange.KindOf(err); {
		case err == nil:
			return a
		case kind != exchange.Unavailable && kind != exchange.Undetermined:
			t.Errorf("a retry with the same key: %v", err)
			return exchange.Answer{}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return exchange.Answer{}
}

// TestNoQuorumReleasesNothing kills two of three voters: questions are refused
// with a code, and after the voters are back the same key is answered.
func TestNoQuorumReleasesNothing(t *testing.T) {
	c := cluster(t)
	q := subsidy(t, c, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Second)
	defer cancel()
	// A holder that has not heard of the consent when the quorum goes would deny.
	for _, err := c.Client(demo.Shuiwu).Authority(ctx, q.Authority); err != nil; _, err = c.Client(demo.Shuiwu).Authority(ctx, q.Authority) {
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	gone := []exchange.Dept{demo.Gongan, demo.Minzheng}
	for _, dept := range gone {
		if err := c.Kill(ctx, dept); err != nil {
			t.Fatal(err)
		}
	}
	before := len(access(t, c.Client(demo.Zhujian), exchange.Undecided))
	for _, key := range []string{"question-a", "question-b"} {
		try, cancel := context.WithTimeout(ctx, 25*time.Second)
		a, err := c.Client(demo.Renshe).Once().Ask(try, key, q)
		cancel()
		code := exchange.AsError(err).Code
		if err == nil || !slices.Contains([]exchange.Code{exchange.CodeNoQuorum, exchange.CodeUnknownResult}, code) {
			t.Errorf("without a quorum: answer %v, error %v; want %s or %s", a.Outcome, err, exchange.CodeNoQuorum, exchange.CodeUnknownResult)
		}
	}
	if status, _, err := c.Get(ctx, demo.Zhujian, "/livez"); err != nil || status != http.StatusOK {
		t.Errorf("livez without a quorum: %d, %v", status, err)
	}
	if after := len(access(t, c.Client(demo.Zhujian), exchange.Undecided)); after != before {
		t.Errorf("%d entries appeared without a quorum", after-before)
	}
	for _, dept := range gone {
		if err := c.Start(dept); err != nil {
			t.Fatal(err)
		}
	}
	if a := askUntil(ctx, t, c, "question-a", q); a.Outcome != exchange.Allowed {
		t.Errorf("with the quorum back: outcome %s, want allowed", a.Outcome)
	}
}
