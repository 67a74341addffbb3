package api

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"xinqiao/exchange"
)

// maxEntries bounds the entries of one evidence file.
const maxEntries = 100

func (s *server) entries(w http.ResponseWriter, r *http.Request, _ System) error {
	q, err := query(r, "", "department", "outcome", "kind", "from", "to", "item", "operator", "cursor", "limit")
	if err != nil {
		return err
	}
	in := LedgerSearch{Department: exchange.Dept(q.Get("department")), Outcome: q.Get("outcome"), Kind: q.Get("kind"),
		Item: exchange.Item(q.Get("item")), Operator: exchange.Operator(q.Get("operator")), Cursor: q.Get("cursor")}
	if in.Limit, err = limitOf(q.Get("limit")); err != nil {
		return err
	}
	for name, t := range map[string]*time.Time{"from": &in.From, "to": &in.To} {
		if v := q.Get(name); v != "" {
			if *t, err = time.Parse(time.RFC3339, v); err != nil {
				return invalid(exchange.CodeField, "/"+name, "%s is not a time in the form of RFC 3339", name)
			}
		}
	}
	return s.page(w, r, in)
}

func (s *server) search(w http.ResponseWriter, r *http.Request, _ System) error {
	var in LedgerSearch
	if err := body(w, r, &in); err != nil {
		return err
	}
	if in.Limit == 0 {
		in.Limit = defaultLimit
	}
	return s.page(w, r, in)
}

func (s *server) page(w http.ResponseWriter, r *http.Request, in LedgerSearch) error {
	q, err := in.noun()
	if err != nil {
		return err
	}
	rows, next, err := s.cfg.Ledger.Search(r.Context(), q)
	if err != nil {
		return err
	}
	out := LedgerPage{Rows: make([]Row, len(rows)), Next: next}
	for i, row := range rows {
		out.Rows[i] = s.toRow(row, language(r))
	}
	return reply(w, http.StatusOK, out)
}

func (in LedgerSearch) noun() (exchange.LedgerQuery, error) {
	q := exchange.LedgerQuery{Dept: in.Department, Kind: in.Kind, From: in.From, To: in.To, Item: in.Item, Operator: in.Operator,
		Subject: in.Subject, Page: exchange.Page{Cursor: in.Cursor, Limit: in.Limit}}
	bad := func(name, what string) (exchange.LedgerQuery, error) {
		return exchange.LedgerQuery{}, invalid(exchange.CodeField, "/"+name, "%s %s", name, what)
	}
	if in.Outcome != "" {
		var err error
		if q.Outcome, err = exchange.ParseOutcome(in.Outcome); err != nil {
			return bad("outcome", "is not allowed, no_record or denied")
		}
	}
	switch {
	case in.Department != "" && !in.Department.Valid():
		return bad("department", "is not the name of a department")
	case in.Kind != "" && !exchange.Purpose(in.Kind).Valid():
		return bad("kind", "is not the name of a kind of entry")
	case in.Item != "" && !in.Item.Valid():
		return bad("item", `does not have the form "class/name"`)
	case in.Operator != "" && !in.Operator.Valid():
		return bad("operator", "is not an operator's identifier")
	case in.Subject != "" && (len(in.Subject) != 18 || !only(in.Subject, "")):
		return bad("subject", "is not an identifier of 18 characters")
	case len(in.Cursor) > 256 || !only(in.Cursor, "._~=-"):
		return bad("cursor", "is not one that this node gave")
	case in.Limit < 1 || in.Limit > maxLimit:
		return bad("limit", "is not a number from 1 to 200")
	case !in.From.IsZero() && !in.To.IsZero() && in.To.Before(in.From):
		return bad("to", "is before from")
	}
	return q, nil
}

func parseIndex(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 53) // exact in every JSON reader
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, invalid(exchange.CodeField, "", "the entry's index is not a number from 0")
	}
	return n, nil
}

func (s *server) entry(w http.ResponseWriter, r *http.Request, _ System) error {
	index, err := parseIndex(r.PathValue("index"))
	if err != nil {
		return err
	}
	row, err := s.cfg.Ledger.Row(r.Context(), index)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, s.toRow(row, language(r)))
}

func (s *server) proof(w http.ResponseWriter, r *http.Request, _ System) error {
	index, err := parseIndex(r.PathValue("index"))
	if err != nil {
		return err
	}
	p, err := s.cfg.Ledger.Proof(r.Context(), index)
	if err != nil {
		return err
	}
	if p.Path == nil {
		p.Path = [][]byte{} // a tree of one leaf has an empty path, which is not null
	}
	return reply(w, http.StatusOK, Proof(p))
}

func (s *server) checkpoint(w http.ResponseWriter, r *http.Request, _ System) error {
	note, err := s.cfg.Ledger.Checkpoint(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	w.Write([]byte(note))
	return nil
}

func (s *server) evidence(w http.ResponseWriter, r *http.Request, _ System) error {
	q, err := query(r, "entry")
	if err != nil {
		return err
	}
	if n := len(q["entry"]); n == 0 || n > maxEntries {
		return invalid(exchange.CodeField, "", "the query does not name 1 to %d entries as entry=…", maxEntries)
	}
	var indices []uint64
	for _, v := range q["entry"] {
		index, err := parseIndex(v)
		if err != nil {
			return err
		}
		indices = append(indices, index)
	}
	slices.Sort(indices)
	file, err := s.cfg.Ledger.Evidence(r.Context(), slices.Compact(indices))
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", `attachment; filename="evidence.zip"`)
	h.Set("Content-Length", strconv.Itoa(len(file)))
	w.WriteHeader(http.StatusOK)
	w.Write(file)
	return nil
}
