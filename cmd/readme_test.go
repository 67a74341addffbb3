package cmd

import (
	"flag"
	"fmt"
	"go/doc"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of packages in README.md")

const (
	english = "README.md"
	chinese = "README.zh-CN.md"
)

// row is one line of a table of packages.
var row = regexp.MustCompile("(?m)^\\| \\[`([a-z/]+)`\\]\\(([a-z/]+)\\) \\| (.+) \\|$\n")

// sentences returns what each package's comment says first, without "Package x".
func sentences(t *testing.T, files tree) map[string]string {
	t.Helper()
	said := map[string]string{}
	for name, b := range files {
		pkg := path.Dir(name)
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/testdata/") || strings.HasPrefix(name, ".") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, b, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc == nil {
			continue
		}
		text := new(doc.Package).Synopsis(f.Doc.Text())
		for _, prefix := range []string{"Package ", "Command "} {
			text = strings.TrimPrefix(text, prefix+path.Base(pkg)+" ")
		}
		said[pkg] = strings.TrimSuffix(text, ".")
	}
	return said
}

// inOrder sorts packages as the README shows them: from the exchange down.
func inOrder(packages map[string]string) []string {
	areas := []string{"exchange", "policy", "ledger", "crypto", "cmd"}
	return slices.SortedFunc(maps.Keys(packages), func(a, b string) int {
		area := func(p string) int { top, _, _ := strings.Cut(p, "/"); return slices.Index(areas, top) }
		if d := area(a) - area(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
}

// TestReadmePackages holds that the table of packages is what the package
// comments say. With -update it writes the table.
func TestReadmePackages(t *testing.T) {
	files := repository(t)
	said := sentences(t, files)
	var want strings.Builder
	for _, pkg := range inOrder(said) {
		fmt.Fprintf(&want, "| [`%s`](%s) | %s |\n", pkg, pkg, strings.ReplaceAll(said[pkg], "|", "\\|"))
	}
	text := string(files[english])
	const head, foot = "| package | what it does |\n| --- | --- |\n", "<!-- written by: go test ./cmd -run Readme -update -->\n"
	before, rest, ok := strings.Cut(text, head)
	table, after, ok2 := strings.Cut(rest, foot)
	if !ok || !ok2 {
		t.Fatalf("%s has no table of packages between %q and %q", english, head, foot)
	}
	if *update {
		if err := os.WriteFile("../"+english, []byte(before+head+want.String()+foot+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want.String() {
		t.Errorf("the table in %s is not what the package comments say; go test ./cmd -run Readme -update writes it.\n got:\n%s\nwant:\n%s", english, table, want.String())
	}
}

// TestReadmeLanguages holds the two pages in step: the same sections, commands,
// packages and links, in the same order.
func TestReadmeLanguages(t *testing.T) {
	t.Parallel()
	files := repository(t)
	parts := map[string]func(string) []string{
		"fenced blocks": func(s string) []string { return regexp.MustCompile("(?s)```.*?```").FindAllString(s, -1) },
		"headings": func(s string) []string {
			return regexp.MustCompile(`(?m)^#+ `).FindAllString(s, -1)
		},
		"list items": func(s string) []string { return regexp.MustCompile(`(?m)^(- |[0-9]+\. )`).FindAllString(s, -1) },
		"packages": func(s string) []string {
			var names []string
			for _, m := range row.FindAllStringSubmatch(s, -1) {
				names = append(names, m[1])
			}
			return names
		},
		"links": func(s string) []string {
			return slices.DeleteFunc(links(s), func(l string) bool { return l == english || l == chinese })
		},
		"code": func(s string) []string {
			found := regexp.MustCompile("`[^`\n]+`").FindAllString(s, -1)
			slices.Sort(found)
			return found
		},
	}
	for name, part := range parts {
		en, zh := part(string(files[english])), part(string(files[chinese]))
		if !slices.Equal(en, zh) {
			t.Errorf("%s differ:\n%s: %q\n%s: %q", name, english, en, chinese, zh)
		}
	}
}

// links returns the targets of a page's links.
func links(s string) []string {
	var found []string
	for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(s, -1) {
		found = append(found, m[1])
	}
	return found
}

// TestReadmeLinks holds that every relative link of every page leads somewhere.
func TestReadmeLinks(t *testing.T) {
	t.Parallel()
	files := repository(t)
	folders := map[string]bool{}
	for name := range files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	for name, b := range files {
		if path.Ext(name) != ".md" {
			continue
		}
		for _, link := range links(string(b)) {
			target, _, _ := strings.Cut(link, "#")
			if strings.Contains(link, "://") || target == "" {
				continue
			}
			at := path.Join(path.Dir(name), target)
			if _, ok := files[at]; !ok && !folders[at] {
				t.Errorf("%s links to %s, which is not there", name, link)
			}
		}
	}
}

// TestReadmeCommands holds that the README asks for no command but the two, and
// that these are what they are said to be. make test runs this; the story of
// make demo is run by the end-to-end test of cmd/xinqiao.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	files := repository(t)
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(files[english]), -1)
	if len(block) != 1 || block[0][1] != "make demo\nmake test\n" {
		t.Errorf("the README's commands are %q", block)
	}
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("make is not installed")
	}
	for target, want := range map[string][]string{
		"demo": {"go build ", "./cmd/xinqiao", "./cmd/xqverify", "bin/xinqiao demo"},
		"test": {"gofmt -l", "go vet ./...", "staticcheck@", ".ci/vulncheck", "-race", "./..."},
	} {
		cmd := exec.CommandContext(t.Context(), "make", "-n", target)
		cmd.Dir = ".."
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("make -n %s: %v", target, err)
		}
		for _, w := range want {
			if !strings.Contains(string(out), w) {
				t.Errorf("make %s does not run %q:\n%s", target, w, out)
			}
		}
	}
}
