package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"xinqiao/ledger/verify"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"xqverify": main})
}

// samples are made by ledger/verify's tests.
func samples(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"evidence.zip", "trust.json"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "ledger", "verify", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			samples(t, e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"flip":  flip,
		},
	})
}

// exits runs the program and wants an exit code: "exits 3 FILE --trust T".
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits code args...")
	}
	err := ts.Exec("xqverify", args[1:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// flip changes one bit of a file: "flip FILE first|middle|last".
func flip(ts *testscript.TestScript, neg bool, args []string) {
	b := []byte(ts.ReadFile(args[0]))
	at := map[string]int{"first": 0, "middle": len(b) / 2, "last": len(b) - 1}[args[1]]
	b[at] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// The verifier is an outsider's: it must not carry what runs a node.
func TestItLinksNoServer(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := "\n" + string(out)
	for _, forbidden := range []string{"net/http", "github.com/hashicorp/raft", "go.etcd.io/bbolt", "github.com/tjfoc/gmsm/gmtls",
		"github.com/prometheus/client_golang/prometheus", "xinqiao/exchange/node", "xinqiao/exchange/broker", "xinqiao/ledger/store",
		"xinqiao/ledger/replica", "xinqiao/crypto/keyring", "xinqiao/crypto/channel"} {
		if strings.Contains(deps, "\n"+forbidden+"\n") {
			t.Errorf("xqverify links %s", forbidden)
		}
	}
	if !strings.Contains(deps, "\nxinqiao/ledger/verify\n") {
		t.Error("the list of dependencies is not what it should be")
	}
}

// Programs read the JSON: its members are an interface.
func TestJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	samples(t, dir)
	var out, errs strings.Builder
	code := run("xqverify", []string{filepath.Join(dir, "evidence.zip"), "-o", "json", "--trust", filepath.Join(dir, "trust.json")}, &out, &errs)
	if code != exitProven || errs.Len() > 0 {
		t.Fatalf("exit %d, %s", code, errs.String())
	}
	var r verify.Report
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatal(err)
	}
	if !r.Proven || len(r.Entries) != 4 || r.Entries[1].Detail.Case != "ZJ-2026-0001" {
		t.Errorf("report %+v", r)
	}
	for _, member := range []string{`"proven": true`, `"cosigners"`, `"entries"`, `"leafHash"`, `"requester": "zhujian"`, `"outcome": "denied"`} {
		if !strings.Contains(out.String(), member) {
			t.Errorf("%s is missing", member)
		}
	}
}
