package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"xinqiao/exchange"
)

// zone is where officers' clocks stand. China has one time zone and no daylight
// saving, so no time zone data are needed.
func zone() *time.Location { return time.FixedZone("CST", 8*3600) }

const (
	pageSize  = 50
	inputTime = "2006-01-02T15:04"
)

// timeView is a moment: Local for reading, UTC as its tooltip.
type timeView struct{ Local, UTC string }

func when(t time.Time) timeView {
	return timeView{Local: t.In(zone()).Format("2006-01-02 15:04:05"), UTC: t.UTC().Format("2006-01-02T15:04:05Z")}
}

// filter is the search form, as it was sent.
type filter struct {
	Department, Outcome, Kind, From, To, Item, Operator string
	Bad                                                 string // name of the first member that is malformed
}

type ledgerView struct {
	Filter   filter
	Filtered bool
	Outcomes []string
	Kinds    []string
	Rows     []rowView
	Next     string // address of the next page
	First    string // address of the first, on a later page
}

type rowView struct {
	exchange.LedgerRow
	When    timeView
	Title   string // of the item, or its class
	Outcome string
	Fields  []fieldView
}

type fieldView struct {
	Name, Title, Mode, Predicate string
}

// kinds are those of a ledger entry, as the filter offers them.
func kinds() []string { return []string{"access", "ack", "fact", "view", "clock", "denials"} }

func (c *console) ledger(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	f := filter{Department: get("department"), Outcome: get("outcome"), Kind: get("kind"), From: get("from"), To: get("to"),
		Item: get("item"), Operator: get("operator")}
	query := f.query()
	query.Page = exchange.Page{Cursor: get("cursor"), Limit: pageSize}
	view := ledgerView{Filter: f, Filtered: f != filter{}, Outcomes: []string{"allowed", "no_record", "denied"},
		Kinds: kinds()}
	if f.Bad != "" {
		return c.page(w, r, http.StatusBadRequest, "ledger", view)
	}
	if len(query.Page.Cursor) > 256 {
		return &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Msg: "the cursor is malformed"}
	}
	rows, next, err := c.cfg.Ledger.Search(r.Context(), query)
	if err != nil {
		return err
	}
	titles, err := c.titles(r.Context(), visitOf(r).lang)
	if err != nil {
		return err
	}
	for _, row := range rows {
		view.Rows = append(view.Rows, titles.row(row))
	}
	if next != "" {
		view.Next = f.address(next)
	}
	if query.Page.Cursor != "" {
		view.First = f.address("")
	}
	return c.page(w, r, http.StatusOK, "ledger", view)
}

// query returns what the form asks for and notes the first malformed member.
func (f *filter) query() exchange.LedgerQuery {
	q := exchange.LedgerQuery{Dept: exchange.Dept(f.Department), Kind: f.Kind, Item: exchange.Item(f.Item), Operator: exchange.Operator(f.Operator)}
	check := func(ok bool, name string) {
		if !ok && f.Bad == "" {
			f.Bad = name
		}
	}
	check(f.Department == "" || q.Dept.Valid(), "department")
	if f.Outcome != "" {
		var err error
		q.Outcome, err = exchange.ParseOutcome(f.Outcome)
		check(err == nil, "outcome")
	}
	check(f.Kind == "" || slices.Contains(kinds(), f.Kind), "kind")
	for _, m := range []struct {
		text, name string
		to         *time.Time
	}{{f.From, "from", &q.From}, {f.To, "to", &q.To}} {
		if m.text != "" {
			t, err := time.ParseInLocation(inputTime, m.text, zone())
			check(err == nil, m.name)
			*m.to = t.UTC()
		}
	}
	check(f.Item == "" || q.Item.Valid(), "item")
	check(f.Operator == "" || q.Operator.Valid(), "operator")
	return q
}

// address returns the address of a page of the same search.
func (f filter) address(cursor string) string {
	v := url.Values{}
	for name, value := range map[string]string{"department": f.Department, "outcome": f.Outcome, "kind": f.Kind, "from": f.From, "to": f.To,
		"item": f.Item, "operator": f.Operator, "cursor": cursor} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return (&url.URL{Path: "/console/ledger", RawQuery: v.Encode()}).String()
}

// titles are the catalogue's words in one language.
type titles struct {
	items  map[exchange.Item]string
	fields map[exchange.Item]map[exchange.Field]string
}

func (c *console) titles(ctx context.Context, lang string) (titles, error) {
	t := titles{items: map[exchange.Item]string{}, fields: map[exchange.Item]map[exchange.Field]string{}}
	if c.cfg.Catalogue == nil {
		return t, nil
	}
	items, err := c.cfg.Catalogue.Catalogue(ctx)
	if err != nil {
		return t, fmt.Errorf("read the catalogue: %w", err)
	}
	pick := func(zh, en string) string {
		if lang == "en" {
			return en
		}
		return zh
	}
	for _, i := range items {
		t.items[i.Item] = pick(i.Title, i.TitleEN)
		t.fields[i.Item] = map[exchange.Field]string{}
		for _, f := range i.Fields {
			t.fields[i.Item][f.Name] = pick(f.Title, f.TitleEN)
		}
	}
	return t, nil
}

func (t titles) row(r exchange.LedgerRow) rowView {
	v := rowView{LedgerRow: r, When: when(r.Time), Title: r.Class}
	if r.Outcome != exchange.Undecided {
		v.Outcome = r.Outcome.String()
	}
	if !r.Open {
		// Whatever the ledger filled in all the same does not reach the page.
		v.Item, v.Views, v.Purpose, v.Case, v.Operator, v.Reasons = "", nil, "", "", "", nil
		return v
	}
	if v.Title = t.items[r.Item]; v.Title == "" {
		v.Title = string(r.Item)
	}
	for _, view := range r.Views {
		f := fieldView{Name: string(view.Field), Title: t.fields[r.Item][view.Field], Mode: view.Mode.String(), Predicate: view.Predicate}
		if f.Title == "" {
			f.Title = f.Name
		}
		v.Fields = append(v.Fields, f)
	}
	return v
}

type entryView struct {
	Row     rowView
	Reasons []reasonView
	Proof   proofView
	// Unchecked says that the proof could not be had or checked; the entry may
	// be too young for a checkpoint.
	Unchecked bool
}

type reasonView struct {
	Code                          exchange.Code
	Text, Article, Detail, Remedy string
}

func indexOf(r *http.Request) (uint64, error) {
	s := r.PathValue("index")
	n, err := strconv.ParseUint(s, 10, 53)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound, Msg: "not the index of an entry"}
	}
	return n, nil
}

func (c *console) entry(w http.ResponseWriter, r *http.Request) error {
	index, err := indexOf(r)
	if err != nil {
		return err
	}
	ctx, lang := r.Context(), visitOf(r).lang
	row, err := c.cfg.Ledger.Row(ctx, index)
	if err != nil {
		return err
	}
	titles, err := c.titles(ctx, lang)
	if err != nil {
		return err
	}
	view := entryView{Row: titles.row(row)}
	if row.Open {
		for _, reason := range row.Reasons {
			v := reasonView{Code: reason.Code, Detail: reason.Detail}
			v.Text, v.Article, v.Remedy = c.cfg.Explain(reason.Code, lang)
			if v.Article == "" {
				v.Article = reason.Article
			}
			view.Reasons = append(view.Reasons, v)
		}
	}
	proof, err := c.cfg.Ledger.Proof(ctx, index)
	if err == nil {
		view.Proof, err = c.check(ctx, row, proof)
	}
	if err != nil {
		// The entry is shown all the same; the page says that it is not proven.
		visitOf(r).err = err
		view.Unchecked = true
	}
	return c.page(w, r, http.StatusOK, "entry", view)
}

func (c *console) evidence(w http.ResponseWriter, r *http.Request) error {
	index, err := indexOf(r)
	if err != nil {
		return err
	}
	file, err := c.cfg.Ledger.Evidence(r.Context(), []uint64{index})
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="evidence-%d.zip"`, index))
	h.Set("Content-Length", strconv.Itoa(len(file)))
	w.Write(file)
	return nil
}
