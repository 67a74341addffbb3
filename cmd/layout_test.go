// Package cmd holds the tests of the repository as a whole: the plan of the
// house, its two pages for newcomers, and what is shipped in deploy.
package cmd

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// tree is a repository's files by slash-separated path.
type tree map[string][]byte

// repository reads the repository above this package, without what git ignores
// as a whole folder.
func repository(t *testing.T) tree {
	t.Helper()
	root, files := os.DirFS(".."), tree{}
	ignored := map[string]bool{".git": true}
	list, err := fs.ReadFile(root, ".gitignore")
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "/") {
			ignored[strings.Trim(line, "/")] = true
		}
	}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ignored[name] {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if ext := path.Ext(name); d.IsDir() || ext == ".test" || ext == ".prof" {
			return nil
		}
		files[name], err = fs.ReadFile(root, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestLayout holds the house.
func TestLayout(t *testing.T) {
	t.Parallel()
	rules := house()
	rules.complete = true
	for _, v := range inspect(repository(t), rules) {
		t.Error(v)
	}
}

// TestLayoutPlanted plants forbidden imports in the real tree, and expects each
// to be found.
func TestLayoutPlanted(t *testing.T) {
	t.Parallel()
	planted := repository(t)
	cases := []struct{ folder, suffix, imports, rule string }{
		{"ledger", ".go", "xinqiao/policy", "import"},
		{"ledger/verify", ".go", "xinqiao/policy", "import"},
		{"policy", ".go", "xinqiao/ledger", "import"},
		{"policy", ".go", "xinqiao/crypto/gm", "import"},
		{"crypto/gm", ".go", "xinqiao/exchange", "import"},
		{"crypto/gm", "_test.go", "xinqiao/exchange", "import"},
		{"exchange", ".go", "xinqiao/policy", "import"},
		{"exchange/api", ".go", "xinqiao/exchange/broker", "import"},
		{"exchange/broker", ".go", "xinqiao/ledger/replica", "import"},
		{"exchange/broker", ".go", "net/http", "door"},
		{"policy/rule", ".go", "net/http", "door"},
		{"ledger", ".go", "net/http", "door"},
		{"ledger", ".go", "go.etcd.io/bbolt", "door"},
		{"ledger", "_test.go", "go.etcd.io/bbolt", "door"},
		{"exchange/node", ".go", "github.com/hashicorp/raft", "door"},
		{"exchange/node", ".go", "github.com/tjfoc/gmsm/sm2", "door"},
		{"crypto/cert", ".go", "github.com/tjfoc/gmsm/sm4", "door"},
		{"crypto/keyring", ".go", "github.com/emmansun/gmsm/sm2", "door"},
		{"policy", ".go", "os", "door"},
		{"exchange", ".go", "example.com/new", "door"},
	}
	name := func(i int) string { return fmt.Sprintf("%s/planted%d%s", cases[i].folder, i, cases[i].suffix) }
	for i, c := range cases {
		planted[name(i)] = fmt.Appendf(nil, "package %s\n\nimport _ %q\n", path.Base(c.folder), c.imports)
	}
	found := inspect(planted, house())
	for i, c := range cases {
		if !slices.ContainsFunc(found, func(v violation) bool { return v.rule == c.rule && v.file == name(i) }) {
			t.Errorf("%s imports %s: not found by rule %q", name(i), c.imports, c.rule)
		}
	}
}

// TestLayoutRules runs the inspection over small trees. A fixture's comment
// lists the violations it must yield, and no others: "want RULE FILE".
func TestLayoutRules(t *testing.T) {
	t.Parallel()
	fixtures, err := filepath.Glob("testdata/layout/*.txtar")
	if err != nil || len(fixtures) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	seen := map[string]bool{}
	for _, name := range fixtures {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var want, got []string
		for line := range strings.Lines(string(archive.Comment)) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "want "); ok {
				want = append(want, rest)
				rule, _, _ := strings.Cut(rest, " ")
				seen[rule] = true
			}
		}
		files := tree{}
		for _, f := range archive.Files {
			files[f.Name] = expand(f.Data)
		}
		for _, v := range inspect(files, house()) {
			got = append(got, v.rule+" "+v.file)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", filepath.Base(name), got, want)
		}
	}
	for _, rule := range ruleNames() {
		if !seen[rule] {
			t.Errorf("no fixture breaks rule %q", rule)
		}
	}
}

// expand makes a fixture long where it says LINES n, and writes a path of a
// machine where it says MACHINE, which the tree itself may not hold.
func expand(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("MACHINE"), []byte("/ho"+"me/me/project"))
	for _, n := range []int{701, 121, 61} {
		b = bytes.ReplaceAll(b, fmt.Appendf(nil, "LINES%d", n), bytes.Repeat([]byte("\n"), n))
	}
	return b
}

// TestLayoutMissing expects a row of the table without its package to be found.
func TestLayoutMissing(t *testing.T) {
	t.Parallel()
	files, rules := repository(t), house()
	rules.complete = true
	rules.imports["policy/forgotten"] = nil
	found := inspect(files, rules)
	if !slices.ContainsFunc(found, func(v violation) bool { return v.rule == "package" && v.file == "policy/forgotten" }) {
		t.Error("a package that only the table knows is not found")
	}
}
