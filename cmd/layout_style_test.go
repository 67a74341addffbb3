package cmd

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// sizes holds the lengths of files and functions.
func (i *inspector) sizes(s source) {
	if lines := s.fset.File(s.file.Pos()).LineCount(); lines > maxFile {
		i.report("file", s.name, lines, "%d lines; %d is the most: it has more than one subject", lines, maxFile)
	}
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		lines := s.line(f.End()) - s.line(f.Pos()) + 1
		if lines > maxFunction {
			i.report("function", s.name, s.line(f.Pos()), "%s has %d lines; %d is the most", f.Name.Name, lines, maxFunction)
		}
		if s.file.Name.Name == "main" && f.Name.Name == "main" && f.Recv == nil && lines > maxMain {
			i.report("main", s.name, s.line(f.Pos()), "main has %d lines; %d is the most: it only wires", lines, maxMain)
		}
	}
}

// style holds the documented exports, the ban on init, the clock as an argument
// and what tests may skip for.
func (i *inspector) style(s source) {
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			i.report("init", s.name, s.line(f.Pos()), "no init: what has to be set up is set up by a constructor")
		}
		if !s.test {
			i.documented(s, d)
		}
	}
	timeless := !s.test && (slices.Contains(i.rules.noClock, s.pkg) || slices.Contains(i.rules.noClock, s.name))
	ast.Inspect(s.file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && s.test {
			i.skip(s, call)
		}
		if sel, ok := n.(*ast.SelectorExpr); ok && timeless {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until"}, sel.Sel.Name) {
				i.report("clock", s.name, s.line(sel.Pos()), "time.%s: time is an argument here", sel.Sel.Name)
			}
		}
		return true
	})
}

// documented reports exported names without a comment. A comment over a group
// speaks for its members.
func (i *inspector) documented(s source, d ast.Decl) {
	missing := func(n *ast.Ident) {
		i.report("doc", s.name, s.line(n.Pos()), "%s is exported and says nothing about its contract", n.Name)
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || exportedReceiver(d.Recv)) {
			missing(d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && spec.Doc == nil && spec.Comment == nil && (d.Doc == nil || d.Lparen.IsValid()) {
					missing(spec.Name)
				}
			case *ast.ValueSpec:
				for _, n := range spec.Names {
					if n.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
						missing(n)
					}
				}
			}
		}
	}
}

func exportedReceiver(list *ast.FieldList) bool {
	t := list.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// skip lets a test skip itself only for want of a tool that it names first.
func (i *inspector) skip(s source, call *ast.CallExpr) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
		return
	}
	why := ""
	if len(call.Args) > 0 {
		if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			why, _ = strconv.Unquote(lit.Value)
		}
	}
	if tool, _, _ := strings.Cut(why, " "); !slices.Contains(i.rules.skips, strings.TrimRight(tool, ":,")) {
		i.report("skip", s.name, s.line(call.Pos()), "a test skips itself only for a missing tool, whose name comes first: %s", strings.Join(i.rules.skips, ", "))
	}
}

// variables holds the ban on mutable package variables: what stands at package
// level is an error, a compiled pattern, embedded files, or a table, and nothing
// in its package writes to it. Tests may keep other values there, unwritten.
func (i *inspector) variables() {
	written := map[string]map[string]bool{}
	for _, s := range i.sources {
		if written[s.pkg] == nil {
			written[s.pkg] = map[string]bool{}
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				writes(f, written[s.pkg])
			}
		}
	}
	for _, s := range i.sources {
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				i.variable(s, g, spec.(*ast.ValueSpec), written[s.pkg])
			}
		}
	}
}

// writes adds the names that f assigns to, or takes the address of, and does
// not declare itself. A name that f both declares and borrows counts as its own.
func writes(f *ast.FuncDecl, into map[string]bool) {
	own, found := map[string]bool{}, map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, l := range n.Lhs {
				if n.Tok == token.DEFINE {
					own[root(l)] = true
				} else {
					found[root(l)] = true
				}
			}
		case *ast.RangeStmt:
			for _, l := range []ast.Expr{n.Key, n.Value} {
				if l != nil && n.Tok == token.DEFINE {
					own[root(l)] = true
				}
			}
		case *ast.IncDecStmt:
			found[root(n.X)] = true
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				found[root(n.X)] = true
			}
		case *ast.Field:
			for _, name := range n.Names {
				own[name.Name] = true
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				own[name.Name] = true
			}
		}
		return true
	})
	for name := range found {
		if !own[name] {
			into[name] = true
		}
	}
}

func (i *inspector) variable(s source, g *ast.GenDecl, v *ast.ValueSpec, written map[string]bool) {
	for n, name := range v.Names {
		var value ast.Expr
		if n < len(v.Values) {
			value = v.Values[n]
		}
		switch {
		case name.Name == "_":
		case embedded(g, v):
		case written[name.Name]:
			i.report("variable", s.name, s.line(name.Pos()), "%s is a package variable that is written to: make it a field", name.Name)
		case s.test && value != nil && !name.IsExported():
		case fixed(value, name):
		default:
			i.report("variable", s.name, s.line(name.Pos()), "%s is a package variable: make it a constant, a function or a field", name.Name)
		}
	}
}

// root returns the variable at the left end of an expression.
func root(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return ""
		}
	}
}

// embedded reports whether the compiler fills the variable from a file.
func embedded(g *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{g.Doc, v.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return len(v.Values) == 0
			}
		}
	}
	return false
}

func callee(call *ast.CallExpr) string {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + sel.Sel.Name
}

// fixed reports whether the value can stand at package level: an error, a
// pattern, or an unexported table.
func fixed(e ast.Expr, name *ast.Ident) bool {
	switch e := e.(type) {
	case *ast.CallExpr:
		return slices.Contains([]string{"errors.New", "fmt.Errorf", "regexp.MustCompile", "strings.NewReplacer"}, callee(e))
	case *ast.CompositeLit:
		return !name.IsExported()
	case *ast.UnaryExpr: // an error value with fields, known by its address
		_, literal := e.X.(*ast.CompositeLit)
		return e.Op == token.AND && literal && strings.HasPrefix(name.Name, "Err")
	}
	return false
}
