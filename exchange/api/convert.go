package api

import (
	"time"

	"xinqiao/exchange"
)

func (q Question) noun() exchange.Question {
	views := make([]exchange.View, len(q.Fields))
	for i, f := range q.Fields {
		views[i] = exchange.View(f)
	}
	return exchange.Question{Holder: q.Holder, Item: q.Item, Subject: exchange.Subject(q.Subject), Views: views, Purpose: q.Purpose,
		Matter: q.Matter, Case: q.Case, Operator: q.Operator, Authority: q.Authority}
}

func (c Consent) noun() exchange.ConsentForm {
	views := make([]exchange.ItemView, len(c.Views))
	for i, v := range c.Views {
		views[i] = exchange.ItemView{Item: v.Item, View: exchange.View(v.Field)}
	}
	return exchange.ConsentForm{Provider: c.Provider, Subject: exchange.Subject(c.Subject), Matter: c.Matter, Case: c.Case,
		Purposes: c.Purposes, Views: views, NotBefore: c.NotBefore, NotAfter: c.NotAfter, MaxReads: c.MaxReads,
		Notice: exchange.Notice(c.Notice), Channel: c.Channel, Evidence: c.Evidence, Officers: c.Officers}
}

func toAnswer(a exchange.Answer) Answer {
	out := Answer{ID: a.ID, Outcome: a.Outcome.String(), Holder: a.Holder, Item: a.Item, AsOf: utc(a.AsOf), IssuedAt: utc(a.IssuedAt),
		Retain: a.Retain, Receipt: toReceipt(a.Receipt)}
	if a.Outcome != exchange.Allowed {
		return out // whatever else the answer holds, nothing was released
	}
	for _, f := range a.Fields {
		r := Released{Field: Field(f.View)}
		if f.View.Mode == exchange.Value || f.View.Mode == exchange.Mask {
			r.Value = &f.Value
		} else {
			r.Holds = &f.Holds
		}
		out.Fields = append(out.Fields, r)
	}
	return out
}

// toReceipt returns nil for the zero receipt: index 0 of a receipt that names no
// entry would be a false statement.
func toReceipt(r exchange.Receipt) *Receipt {
	if r.Entry == "" {
		return nil
	}
	r.Time = utc(r.Time)
	out := Receipt(r)
	return &out
}

func toAuthority(a exchange.AuthorityInfo) Authority {
	return Authority{ID: a.ID, State: a.State, Basis: a.Basis, Provider: a.Provider, Grantee: a.Grantee, NotBefore: utc(a.NotBefore),
		NotAfter: utc(a.NotAfter), MaxReads: a.MaxReads, Reads: a.Reads, Receipt: toReceipt(a.Receipt)}
}

func (s *server) toRow(r exchange.LedgerRow, lang string) Row {
	out := Row{Index: r.Index, Entry: r.Entry, Kind: r.Kind, Result: r.Result, Time: utc(r.Time), Author: r.Author, Holder: r.Holder,
		Requester: r.Requester, Class: r.Class, LeafHash: r.Leaf, Cosigned: r.Cosigned, Open: r.Open}
	if r.Outcome != exchange.Undecided {
		out.Outcome = r.Outcome.String()
	}
	if !r.Open {
		return out
	}
	out.Item, out.Purpose, out.Case, out.Operator = r.Item, r.Purpose, r.Case, r.Operator
	for _, v := range r.Views {
		out.Fields = append(out.Fields, Field(v))
	}
	out.Reasons = s.reasons(r.Reasons, lang)
	return out
}

// utc leaves the zero time alone, so that omitzero sees it.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}
