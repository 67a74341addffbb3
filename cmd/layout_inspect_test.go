package cmd

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// violation is one breach of a house rule.
type violation struct {
	rule, file string
	line       int
	why        string
}

func (v violation) String() string {
	return fmt.Sprintf("%s:%d: [%s] %s", v.file, v.line, v.rule, v.why)
}

// ruleNames lists the rules that inspect holds.
func ruleNames() []string {
	return []string{"top", "folder", "package", "import", "door", "closed", "clock", "comment", "function", "file", "doc", "init",
		"variable", "skip", "machine", "parse", "main"}
}

const module = "xinqiao/"

// source is one parsed Go file.
type source struct {
	name string // path in the repository
	pkg  string // folder
	test bool
	file *ast.File
	fset *token.FileSet
}

func (s source) line(p token.Pos) int { return s.fset.Position(p).Line }

// inspector gathers violations.
type inspector struct {
	rules   houseRules
	files   tree
	sources []source
	found   []violation
}

// inspect returns every violation of rules in files, in order of file and line.
func inspect(files tree, rules houseRules) []violation {
	i := &inspector{rules: rules, files: files}
	i.parse()
	i.places()
	i.packages()
	i.closures()
	i.machines()
	for _, s := range i.sources {
		i.importsOf(s)
		i.sizes(s)
		i.style(s)
	}
	i.variables()
	slices.SortStableFunc(i.found, func(a, b violation) int {
		if c := strings.Compare(a.file, b.file); c != 0 {
			return c
		}
		return a.line - b.line
	})
	return i.found
}

func (i *inspector) report(rule, file string, line int, format string, args ...any) {
	i.found = append(i.found, violation{rule, file, line, fmt.Sprintf(format, args...)})
}

// parse reads the Go files; fixtures below testdata are data.
func (i *inspector) parse() {
	for _, name := range slices.Sorted(maps.Keys(i.files)) {
		if path.Ext(name) != ".go" || strings.Contains("/"+name, "/testdata/") {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, i.files[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			i.report("parse", name, 1, "%v", err)
			continue
		}
		i.sources = append(i.sources, source{name, path.Dir(name), strings.HasSuffix(name, "_test.go"), f, fset})
	}
}

// places holds the top level and the names of folders.
func (i *inspector) places() {
	told := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(i.files)) {
		parts := strings.Split(name, "/")
		if top := parts[0]; !slices.Contains(i.rules.top, top) && !told[top] {
			told[top] = true
			i.report("top", top, 1, "the top level is fixed: %s", strings.Join(i.rules.top, " "))
		}
		for n, folder := range parts[:len(parts)-1] {
			at := strings.Join(parts[:n+1], "/")
			if slices.Contains(i.rules.banned, folder) && !told[at] {
				told[at] = true
				i.report("folder", at, 1, "%q says nothing about what is in it: name the noun", folder)
			}
		}
	}
}

// packages holds the table of packages and one comment for each.
func (i *inspector) packages() {
	comments := map[string][]source{}
	code := map[string]bool{}
	for _, s := range i.sources {
		if strings.HasPrefix(s.name, ".") {
			continue
		}
		if _, known := comments[s.pkg]; !known {
			comments[s.pkg] = nil
			if _, planned := i.rules.imports[s.pkg]; !planned {
				i.report("package", s.pkg, 1, "not in the table of packages: say in cmd/layout_rules_test.go what it may import, and why it exists in its package comment")
			}
		}
		code[s.pkg] = code[s.pkg] || !s.test
		if s.file.Doc != nil {
			comments[s.pkg] = append(comments[s.pkg], s)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(comments)) {
		list := comments[pkg]
		if len(list) != 1 {
			i.report("comment", pkg, 1, "has %d package comments, not one", len(list))
			continue
		}
		s := list[0]
		want := "Package " + path.Base(pkg) + " "
		if s.file.Name.Name == "main" {
			want = "Command " + path.Base(pkg) + " "
		}
		if text := s.file.Doc.Text(); !strings.HasPrefix(text, want) || s.test && code[pkg] {
			i.report("comment", s.name, 1, "the package comment begins with %q and stands in no test file", want)
		}
	}
	if !i.rules.complete {
		return
	}
	for pkg := range i.rules.imports {
		if _, there := comments[pkg]; !there {
			i.report("package", pkg, 1, "in the table of packages and not in the tree")
		}
	}
}

// importsOf holds the arrows and the doors for one file. Tests may look at
// other packages of the module, but crypto's never upwards; the doors hold for
// them too, except that they may use test libraries, files and a web client.
func (i *inspector) importsOf(s source) {
	if strings.HasPrefix(s.name, ".") {
		return
	}
	for _, spec := range s.file.Imports {
		target := strings.Trim(spec.Path.Value, "`\"")
		line := s.line(spec.Pos())
		if own, ok := strings.CutPrefix(target, module); ok {
			i.arrow(s, own, line)
			continue
		}
		door, allowed := i.door(target)
		foreign := strings.Contains(strings.SplitN(target, "/", 2)[0], ".")
		switch {
		case door == "" && foreign && !s.test:
			i.report("door", s.name, line, "%s has no door: say in cmd/layout_rules_test.go which one package may import it", target)
		case door == "" || slices.Contains(allowed, s.pkg):
		case s.test && (len(allowed) == 0 || !foreign):
		case s.test && strings.HasPrefix(s.pkg, "crypto/") && strings.Contains(door, "/gmsm"): // to show the bare library's trap
		default:
			i.report("door", s.name, line, "%s may be imported only by %s", target, strings.Join(allowed, ", "))
		}
	}
}

func (i *inspector) arrow(s source, own string, line int) {
	if s.test {
		if strings.HasPrefix(s.pkg, "crypto/") && !strings.HasPrefix(own, "crypto/") {
			i.report("import", s.name, line, "crypto knows nothing of %s, not even in tests", own)
		}
		return
	}
	if allowed, planned := i.rules.imports[s.pkg]; planned && !slices.Contains(allowed, own) {
		i.report("import", s.name, line, "%s may not import %s: imports go down, see the table in cmd/layout_rules_test.go", s.pkg, own)
	}
}

// door returns the longest door that target is behind.
func (i *inspector) door(target string) (door string, allowed []string) {
	for prefix, list := range i.rules.doors {
		if (target == prefix || strings.HasPrefix(target, prefix+"/")) && len(prefix) > len(door) && i.wholeModule(prefix, target) {
			door, allowed = prefix, list
		}
	}
	return door, allowed
}

// wholeModule keeps a standard package's door from covering the folders below
// it, which are other packages; net/http's and testing's are the same thing.
func (i *inspector) wholeModule(prefix, target string) bool {
	return prefix == target || strings.Contains(prefix, ".") || prefix == "net/http" || prefix == "testing"
}

// closures holds what a program may not link, however many steps away.
func (i *inspector) closures() {
	direct := map[string]map[string]bool{}
	for _, s := range i.sources {
		if s.test {
			continue
		}
		for _, spec := range s.file.Imports {
			if own, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module); ok {
				if direct[s.pkg] == nil {
					direct[s.pkg] = map[string]bool{}
				}
				direct[s.pkg][own] = true
			}
		}
	}
	for program, closed := range i.rules.closed {
		seen := map[string]string{program: program}
		queue := []string{program}
		for len(queue) > 0 {
			at := queue[0]
			queue = queue[1:]
			for next := range direct[at] {
				if _, ok := seen[next]; !ok {
					seen[next] = seen[at] + " → " + next
					queue = append(queue, next)
				}
			}
		}
		for _, pkg := range closed {
			if way, ok := seen[pkg]; ok {
				i.report("closed", program, 1, "links %s: %s", pkg, way)
			}
		}
	}
}

// machines finds paths of the machine that something was written on.
func (i *inspector) machines() {
	form := regexp.MustCompile(`(^|[^A-Za-z0-9_.])/(?:home|root|work|Users|tmp)/[A-Za-z0-9]`)
	for name, b := range i.files {
		if !utf8.Valid(b) || strings.HasPrefix(name, "cmd/testdata/layout/") {
			continue
		}
		if at := form.FindIndex(b); at != nil {
			i.report("machine", name, 1+bytes.Count(b[:at[0]+1], []byte("\n")), "names a folder of one machine: %s", bytes.TrimSpace(b[at[0]:min(at[1]+20, len(b))]))
		}
	}
}
