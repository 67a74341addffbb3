// Package cmd holds the tests of the repository as a whole: the plan of the
// house, its two pages for newcomers, and what is shipped in deploy.
package cmd

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"maps"
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

// TestLayoutPlanted plants one forbidden import in the real tree for each rule
// about imports that matters most, and expects it to be found.
func TestLayoutPlanted(t *testing.T) {
	t.Parallel()
	files := repository(t)
	for _, c := range []struct{ file, imports, rule string }{
		{"ledger/planted.go", "xinqiao/policy", "import"},
		{"ledger/verify/planted.go", "xinqiao/policy", "import"},
		{"policy/planted.go", "xinqiao/ledger", "import"},
		{"policy/planted.go", "xinqiao/crypto/gm", "import"},
		{"crypto/gm/planted.go", "xinqiao/exchange", "import"},
		{"exchange/planted.go", "xinqiao/policy", "import"},
		{"exchange/api/planted.go", "xinqiao/exchange/broker", "import"},
		{"exchange/broker/planted.go", "xinqiao/ledger/replica", "import"},
		{"exchange/broker/planted.go", "net/http", "door"},
		{"ledger/planted.go", "net/http", "door"},
		{"ledger/planted.go", "go.etcd.io/bbolt", "door"},
		{"ledger/planted_test.go", "go.etcd.io/bbolt", "door"},
		{"exchange/node/planted.go", "github.com/hashicorp/raft", "door"},
		{"exchange/node/planted.go", "github.com/tjfoc/gmsm/sm2", "door"},
		{"crypto/cert/planted.go", "github.com/tjfoc/gmsm/sm4", "door"},
		{"crypto/keyring/planted.go", "github.com/emmansun/gmsm/sm2", "door"},
		{"policy/planted.go", "os", "door"},
		{"exchange/planted.go", "example.com/new", "door"},
	} {
		planted := maps.Clone(files)
		name := path.Base(path.Dir(c.file))
		planted[c.file] = []byte("package " + name + "\n\nimport _ \"" + c.imports + "\"\n")
		found := inspect(planted, house())
		if !slices.ContainsFunc(found, func(v violation) bool { return v.rule == c.rule && v.file == c.file }) {
			t.Errorf("%s imports %s: not found by rule %q", c.file, c.imports, c.rule)
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
