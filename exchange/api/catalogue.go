package api

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"xinqiao/exchange"
)

// Limits of a page.
const (
	defaultLimit = 50
	maxLimit     = 200
)

// query returns the request's parameters, each of which must be allowed and,
// unless it is repeatable, stand once.
func query(r *http.Request, repeatable string, allowed ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid(exchange.CodeField, "", "the query in the address is malformed")
	}
	for name, values := range q {
		switch {
		case name == "subject":
			return nil, &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Msg: "an identifier must not stand in an address",
				Hint: "POST the search to /api/v1/ledger/entries/search"}
		case name != repeatable && !slices.Contains(allowed, name):
			return nil, invalid(exchange.CodeField, "", "the query has an unknown parameter")
		case name != repeatable && len(values) > 1:
			return nil, invalid(exchange.CodeField, "", "the query parameter %s stands twice", name)
		}
	}
	return q, nil
}

func limitOf(s string) (int, error) {
	if s == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxLimit {
		return 0, invalid(exchange.CodeField, "/limit", "limit is not a number from 1 to %d", maxLimit)
	}
	return n, nil
}

func (s *server) sorted(r *http.Request) ([]exchange.CatalogueItem, error) {
	items, err := s.cfg.Catalogue.Catalogue(r.Context())
	if err != nil {
		return nil, err
	}
	items = slices.Clone(items) // the catalogue is the broker's
	slices.SortFunc(items, func(a, b exchange.CatalogueItem) int { return cmp.Compare(itemKey(a), itemKey(b)) })
	return items, nil
}

func itemKey(c exchange.CatalogueItem) string { return string(c.Holder) + " " + string(c.Item) }

func (s *server) catalogue(w http.ResponseWriter, r *http.Request, _ System) error {
	q, err := query(r, "", "q", "cursor", "limit")
	if err != nil {
		return err
	}
	limit, err := limitOf(q.Get("limit"))
	if err != nil {
		return err
	}
	after, err := base64.RawURLEncoding.DecodeString(q.Get("cursor"))
	if err != nil {
		return invalid(exchange.CodeField, "/cursor", "the cursor is not one that this node gave")
	}
	items, err := s.sorted(r)
	if err != nil {
		return err
	}
	page := CataloguePage{Items: []exchange.CatalogueItem{}}
	want := strings.ToLower(q.Get("q"))
	for _, c := range items {
		if itemKey(c) <= string(after) || !mentions(c, want) {
			continue
		}
		if len(page.Items) == limit {
			page.Next = base64.RawURLEncoding.EncodeToString([]byte(itemKey(page.Items[limit-1])))
			break
		}
		page.Items = append(page.Items, c)
	}
	return reply(w, http.StatusOK, page)
}

func mentions(c exchange.CatalogueItem, want string) bool {
	if want == "" {
		return true
	}
	for _, s := range []string{string(c.Holder), string(c.Item), c.Title, c.TitleEN} {
		if strings.Contains(strings.ToLower(s), want) {
			return true
		}
	}
	for _, f := range c.Fields {
		if strings.Contains(f.Title, want) || strings.Contains(strings.ToLower(f.TitleEN), want) || strings.Contains(string(f.Name), want) {
			return true
		}
	}
	return false
}

// catalogueItem returns the item as each department that holds it describes it.
func (s *server) catalogueItem(w http.ResponseWriter, r *http.Request, _ System) error {
	want := exchange.Item(r.PathValue("class") + "/" + r.PathValue("name"))
	if !want.Valid() {
		return invalid(exchange.CodeField, "", `the item in the address does not have the form "class/name"`)
	}
	items, err := s.sorted(r)
	if err != nil {
		return err
	}
	page := CataloguePage{}
	for _, c := range items {
		if c.Item == want {
			page.Items = append(page.Items, c)
		}
	}
	if len(page.Items) == 0 {
		return &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeUnknownItem, Msg: "no department's catalogue has this item"}
	}
	return reply(w, http.StatusOK, page)
}
