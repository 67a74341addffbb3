package rule

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFile bounds one file, in bytes.
const maxFile = 32 << 10

const maxDepth = 32

// Error is one thing that is wrong with a file, and where. Lines and columns
// count from 1; they are 0 when the whole file is meant.
type Error struct {
	File         string
	Line, Column int
	Msg          string
}

// Error returns "file:line:column: message".
func (e *Error) Error() string { return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg) }

// doc is one file being read. It gathers everything that is wrong with it, so
// that its author is told once.
type doc struct {
	file     string
	problems []error
}

// node is one place in the file. A node without a syntax node stands for
// something absent; reading it yields zero values and no further problem.
type node struct {
	doc *doc
	at  ast.Node
}

func (d *doc) err() error { return errors.Join(d.problems...) }

func (d *doc) failAt(tok *token.Token, format string, args ...any) {
	e := &Error{File: d.file, Msg: fmt.Sprintf(format, args...)}
	if tok != nil && tok.Position != nil {
		e.Line, e.Column = tok.Position.Line, tok.Position.Column
	}
	d.problems = append(d.problems, e)
}

func (n node) fail(format string, args ...any) {
	var tok *token.Token
	if n.at != nil {
		tok = n.at.GetToken()
	}
	n.doc.failAt(tok, format, args...)
}

// parse reads one YAML document. The parser is foreign code that meets bytes
// from other departments, so a panic in it is a malformed file.
func parse(name string, src []byte) (root node, err error) {
	d := &doc{file: name}
	defer func() {
		if p := recover(); p != nil {
			root, err = node{doc: d}, &Error{File: name, Msg: "the YAML parser cannot read this"}
		}
	}()
	if len(src) > maxFile {
		return node{doc: d}, &Error{File: name, Msg: fmt.Sprintf("%d bytes are over the limit of %d", len(src), maxFile)}
	}
	if !utf8.Valid(src) {
		return node{doc: d}, &Error{File: name, Msg: "not UTF-8"}
	}
	if depth(src) > maxDepth {
		return node{doc: d}, &Error{File: name, Msg: "brackets are nested too deeply"}
	}
	f, err := parser.ParseBytes(src, 0)
	if err != nil {
		e := &Error{File: name, Msg: err.Error()}
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			e.Msg = syntax.GetMessage()
			if tok := syntax.GetToken(); tok != nil && tok.Position != nil {
				e.Line, e.Column = tok.Position.Line, tok.Position.Column
			}
		}
		return node{doc: d}, e
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return node{doc: d}, &Error{File: name, Msg: "want exactly one YAML document"}
	}
	return node{doc: d, at: f.Docs[0].Body}, nil
}

// depth returns how deeply brackets are nested, whatever they stand in. Deep
// nesting costs the parser quadratic time, and no file of this form needs it.
func depth(src []byte) int {
	deepest, now := 0, 0
	for _, c := range src {
		switch c {
		case '[', '{':
			now++
			deepest = max(deepest, now)
		case ']', '}':
			now = max(now-1, 0)
		}
	}
	return deepest
}

// pair is one key of a mapping with its value.
type pair struct {
	key   string
	name  node
	value node
}

// pairs reads a mapping in its order.
func (n node) pairs() []pair {
	var values []*ast.MappingValueNode
	switch m := n.at.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		n.fail("want a mapping of keys to values")
		return nil
	}
	var out []pair
	for _, v := range values {
		name := node{n.doc, v.Key}
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			name.fail("want a plain word as key")
			continue
		}
		if slices.ContainsFunc(out, func(p pair) bool { return p.key == key.Value }) {
			name.fail("key %q stands twice", key.Value)
			continue
		}
		out = append(out, pair{key.Value, name, node{n.doc, v.Value}})
	}
	return out
}

// object reads a mapping whose keys are among known. A key that ends in "!"
// there must be present.
func (n node) object(known ...string) map[string]node {
	out := make(map[string]node, len(known))
	names := make([]string, 0, len(known))
	for _, k := range known {
		name, _ := required(k)
		names = append(names, name)
		out[name] = node{doc: n.doc}
	}
	if n.at == nil {
		return out
	}
	for _, p := range n.pairs() {
		if !slices.Contains(names, p.key) {
			p.name.fail("unknown key %q: want one of %q", p.key, names)
			continue
		}
		out[p.key] = p.value
	}
	for _, k := range known {
		if name, must := required(k); must && out[name].at == nil {
			n.fail("key %q is missing", name)
		}
	}
	return out
}

func required(key string) (name string, must bool) {
	if key[len(key)-1] == '!' {
		return key[:len(key)-1], true
	}
	return key, false
}

// isList reports whether the node is a sequence.
func (n node) isList() bool {
	_, ok := n.at.(*ast.SequenceNode)
	return ok
}

// list reads a sequence. An empty one is a problem: it would read as "none" to
// one person and as "any" to another.
func (n node) list() []node {
	if n.at == nil {
		return nil
	}
	seq, ok := n.at.(*ast.SequenceNode)
	if !ok || len(seq.Values) == 0 {
		n.fail("want a list with at least one entry")
		return nil
	}
	out := make([]node, len(seq.Values))
	for i, v := range seq.Values {
		out[i] = node{n.doc, v}
	}
	return out
}

// text reads a scalar as it is written: 000725001000 keeps its zeros, and no
// word means true, false or a date.
func (n node) text() string {
	switch s := n.at.(type) {
	case nil:
		return ""
	case *ast.StringNode:
		if s.Value != "" {
			return s.Value
		}
	case *ast.IntegerNode:
		return s.GetToken().Value
	}
	n.fail("want a word or a quoted text")
	return ""
}

// texts reads a list of scalars, each once.
func (n node) texts() []string {
	var out []string
	for _, e := range n.list() {
		s := e.text()
		if s != "" && slices.Contains(out, s) {
			e.fail("%q stands twice", s)
			continue
		}
		out = append(out, s)
	}
	return out
}
