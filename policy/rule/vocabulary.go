package rule

import (
	"slices"

	"xinqiao/exchange"
	"xinqiao/policy"
)

// Vocabulary is the closed set of words that files may use. The authority's
// baseline carries the code lists, the members' catalogues carry the items.
type Vocabulary struct {
	Depts    []policy.Term
	Matters  []policy.Term
	Purposes []policy.Term
	Roles    []policy.Term
	Items    []exchange.CatalogueItem
	// Published says that the text stands on the ledger, where its author has
	// checked it: items and fields that a catalogue has dropped since are
	// accepted, and examples about them are not played. Otherwise a department
	// could stop everybody's decisions by emptying its own catalogue.
	Published bool
}

// setItem reads the name of an item.
func (v *Vocabulary) setItem(to *exchange.Item, n node) {
	if n.at == nil {
		return
	}
	if !v.Published {
		*to = word[exchange.Item](n, "item", itemNames(*v))
		return
	}
	if *to = exchange.Item(n.text()); !to.Valid() {
		n.fail("%q is not the name of an item", n.text())
	}
}

// WithBaseline returns v with the code lists of the baseline in place of its own.
func (v Vocabulary) WithBaseline(b policy.Baseline) Vocabulary {
	v.Matters, v.Purposes, v.Roles = b.Matters, b.Purposes, b.Roles
	return v
}

func (v *Vocabulary) item(i exchange.Item) (exchange.CatalogueItem, bool) {
	for _, c := range v.Items {
		if c.Item == i {
			return c, true
		}
	}
	return exchange.CatalogueItem{}, false
}

func field(c exchange.CatalogueItem, f exchange.Field) (exchange.CatalogueField, bool) {
	for _, cf := range c.Fields {
		if cf.Name == f {
			return cf, true
		}
	}
	return exchange.CatalogueField{}, false
}

func (v *Vocabulary) hasField(f exchange.Field) bool {
	for _, c := range v.Items {
		if _, ok := field(c, f); ok {
			return true
		}
	}
	return false
}

func (v *Vocabulary) hasClass(class string) bool {
	return slices.ContainsFunc(v.Items, func(c exchange.CatalogueItem) bool { return c.Item.Class() == class })
}

func codes(terms []policy.Term) []string {
	out := make([]string, len(terms))
	for i, t := range terms {
		out[i] = t.Code
	}
	return out
}

// word reads one code that must be in the list.
func word[T ~string](n node, what string, known []string) T {
	s := n.text()
	if s != "" && !slices.Contains(known, s) {
		n.fail("unknown %s %q: want one of %q", what, s, known)
	}
	return T(s)
}

// words reads a list of codes that must be in the list, each once.
func words[T ~string](n node, what string, known []string) []T {
	var out []T
	for _, e := range n.list() {
		w := word[T](e, what, known)
		if w != "" && slices.Contains(out, w) {
			e.fail("%q stands twice", w)
			continue
		}
		out = append(out, w)
	}
	return out
}
