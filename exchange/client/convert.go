package client

import (
	"errors"

	"xinqiao/exchange"
	"xinqiao/exchange/api"
)

func fromQuestion(q exchange.Question) api.Question {
	fields := make([]api.Field, len(q.Views)) // never nil: an absent list is written as [], and refused as such
	for i, v := range q.Views {
		fields[i] = api.Field(v)
	}
	return api.Question{Holder: q.Holder, Item: q.Item, Subject: api.Subject(q.Subject), Fields: fields, Purpose: q.Purpose, Matter: q.Matter,
		Case: q.Case, Operator: q.Operator, Authority: q.Authority}
}

func fromConsent(f exchange.ConsentForm) api.Consent {
	views := make([]api.ConsentView, len(f.Views))
	for i, v := range f.Views {
		views[i] = api.ConsentView{Item: v.Item, Field: api.Field(v.View)}
	}
	return api.Consent{Provider: f.Provider, Subject: api.Subject(f.Subject), Matter: f.Matter, Case: f.Case,
		Purposes: append([]exchange.Purpose{}, f.Purposes...), Views: views, NotBefore: f.NotBefore, NotAfter: f.NotAfter, MaxReads: f.MaxReads,
		Notice: api.Notice(f.Notice), Channel: f.Channel, Evidence: f.Evidence, Officers: f.Officers}
}

// toAnswer refuses an answer that leaves out what its outcome promises: a
// truth that is absent must not read as false, nor a value as empty.
func toAnswer(a api.Answer) (exchange.Answer, error) {
	outcome, err := exchange.ParseOutcome(a.Outcome)
	switch {
	case err != nil:
		return exchange.Answer{}, unreadable(err)
	case outcome == exchange.Refused:
		return exchange.Answer{}, unreadable(errors.New("a denial came as a success"))
	case !exchange.ValidID(a.ID) || a.Receipt == nil:
		return exchange.Answer{}, unreadable(errors.New("the answer has no id or no receipt"))
	case (outcome == exchange.Allowed) != (len(a.Fields) > 0):
		return exchange.Answer{}, unreadable(errors.New("fields and outcome do not agree"))
	}
	out := exchange.Answer{ID: a.ID, Outcome: outcome, Holder: a.Holder, Item: a.Item, AsOf: a.AsOf, IssuedAt: a.IssuedAt, Retain: a.Retain,
		Receipt: toReceipt(a.Receipt)}
	for _, f := range a.Fields {
		d := exchange.Disclosed{View: exchange.View(f.Field)}
		text := d.View.Mode == exchange.Value || d.View.Mode == exchange.Mask
		switch {
		case !d.View.Valid() || text != (f.Value != nil) || text == (f.Holds != nil):
			return exchange.Answer{}, unreadable(errors.New("a released field is incomplete"))
		case text:
			d.Value = *f.Value
		default:
			d.Holds = *f.Holds
		}
		out.Fields = append(out.Fields, d)
	}
	return out, nil
}

func toDenial(p *denial) (exchange.Answer, error) {
	if !exchange.ValidID(p.ID) || len(p.Reasons) == 0 {
		return exchange.Answer{}, unreadable(errors.New("the denial has no id or no reasons"))
	}
	return exchange.Answer{ID: p.ID, Outcome: exchange.Refused, Holder: p.Holder, Item: p.Item, Reasons: toReasons(p.Reasons),
		Receipt: toReceipt(p.Receipt)}, nil
}

func toAuthority(a api.Authority) (exchange.AuthorityInfo, error) {
	if !exchange.ValidID(a.ID) || a.State == "" {
		return exchange.AuthorityInfo{}, unreadable(errors.New("the record has no id or no state"))
	}
	return exchange.AuthorityInfo{ID: a.ID, State: a.State, Basis: a.Basis, Provider: a.Provider, Grantee: a.Grantee, NotBefore: a.NotBefore,
		NotAfter: a.NotAfter, MaxReads: a.MaxReads, Reads: a.Reads, Receipt: toReceipt(a.Receipt)}, nil
}

func toReceipt(r *api.Receipt) exchange.Receipt {
	if r == nil {
		return exchange.Receipt{}
	}
	return exchange.Receipt(*r)
}

func toReasons(in []api.Reason) []exchange.Reason {
	var out []exchange.Reason
	for _, r := range in {
		out = append(out, exchange.Reason{Code: r.Code, Article: r.Article, Detail: r.Detail})
	}
	return out
}

func toRow(r api.Row) (exchange.LedgerRow, error) {
	if r.Entry == "" || r.LeafHash == "" {
		return exchange.LedgerRow{}, unreadable(errors.New("the row names no entry"))
	}
	out := exchange.LedgerRow{Index: r.Index, Entry: r.Entry, Kind: r.Kind, Result: r.Result, Time: r.Time, Author: r.Author, Holder: r.Holder,
		Requester: r.Requester, Class: r.Class, Leaf: r.LeafHash, Cosigned: r.Cosigned, Open: r.Open, Item: r.Item, Purpose: r.Purpose,
		Case: r.Case, Operator: r.Operator, Reasons: toReasons(r.Reasons)}
	if r.Outcome != "" {
		var err error
		if out.Outcome, err = exchange.ParseOutcome(r.Outcome); err != nil {
			return exchange.LedgerRow{}, unreadable(err)
		}
	}
	for _, f := range r.Fields {
		out.Views = append(out.Views, exchange.View(f))
	}
	return out, nil
}
