package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"xinqiao/exchange"
	"xinqiao/exchange/api"
)

// Ask asks another department through this node. key is the idempotency key:
// with the same one, asking again after an error is safe. A denial is an Answer
// with outcome Refused. An error of kind Undetermined leaves open how the
// exchange ended; the Answer then has the exchange's ID when the node gave one.
func (c *Client) Ask(ctx context.Context, key string, q exchange.Question) (exchange.Answer, error) {
	return c.ended(ctx, call{method: http.MethodPost, path: "/api/v1/exchanges", key: key, body: fromQuestion(q)})
}

// Answer returns how the exchange ended, as Ask does.
func (c *Client) Answer(ctx context.Context, id string) (exchange.Answer, error) {
	return c.ended(ctx, call{method: http.MethodGet, path: "/api/v1/exchanges/" + url.PathEscape(id)})
}

func (c *Client) ended(ctx context.Context, in call) (exchange.Answer, error) {
	res, err := c.do(ctx, in)
	if err != nil {
		return exchange.Answer{}, err
	}
	if p := res.problem; p != nil {
		if p.Outcome != exchange.Refused.String() {
			return exchange.Answer{}, toError(p)
		}
		return exchange.Answer{ID: p.ID, Outcome: exchange.Refused, Holder: p.Holder, Item: p.Item, Reasons: toReasons(p.Reasons),
			Receipt: toReceipt(p.Receipt)}, nil
	}
	var a api.Answer
	if err := decode(res.body, &a); err != nil {
		return exchange.Answer{}, err
	}
	if res.status == http.StatusAccepted {
		return exchange.Answer{ID: a.ID, Holder: a.Holder, Item: a.Item}, &exchange.Error{Kind: exchange.Undetermined,
			Code: exchange.CodeUnknownResult, Op: "client", Msg: "how the exchange ended is not known yet", Hint: "ask again with the same idempotency key"}
	}
	return toAnswer(a)
}

// Receipt returns the ledger entry of an exchange.
func (c *Client) Receipt(ctx context.Context, id string) (exchange.Receipt, error) {
	var r api.Receipt
	err := c.get(ctx, call{method: http.MethodGet, path: "/api/v1/exchanges/" + url.PathEscape(id) + "/receipt"}, &r)
	return exchange.Receipt(r), err
}

// RegisterConsent registers a subject's consent; key is as with Ask.
func (c *Client) RegisterConsent(ctx context.Context, key string, f exchange.ConsentForm) (exchange.AuthorityInfo, error) {
	return c.authority(ctx, call{method: http.MethodPost, path: "/api/v1/authorities", key: key, body: fromConsent(f)})
}

// Authority returns the state of an authority record.
func (c *Client) Authority(ctx context.Context, id string) (exchange.AuthorityInfo, error) {
	return c.authority(ctx, call{method: http.MethodGet, path: "/api/v1/authorities/" + url.PathEscape(id)})
}

// Withdraw withdraws an authority record. When it returns without an error, no
// node releases anything on the record any more. reason is a code such as
// "subject-request".
func (c *Client) Withdraw(ctx context.Context, id, reason string) (exchange.AuthorityInfo, error) {
	return c.authority(ctx, call{method: http.MethodPost, path: "/api/v1/authorities/" + url.PathEscape(id) + "/withdrawal",
		body: api.Withdrawal{Reason: reason}})
}

func (c *Client) authority(ctx context.Context, in call) (exchange.AuthorityInfo, error) {
	var a api.Authority
	if err := c.get(ctx, in, &a); err != nil {
		return exchange.AuthorityInfo{}, err
	}
	return exchange.AuthorityInfo{ID: a.ID, State: a.State, Basis: a.Basis, Provider: a.Provider, Grantee: a.Grantee, NotBefore: a.NotBefore,
		NotAfter: a.NotAfter, MaxReads: a.MaxReads, Reads: a.Reads, Receipt: toReceipt(a.Receipt)}, nil
}

// Catalogue returns every item that mentions text, or all when it is empty.
func (c *Client) Catalogue(ctx context.Context, text string) ([]exchange.CatalogueItem, error) {
	var all []exchange.CatalogueItem
	q := url.Values{"limit": {"200"}}
	if text != "" {
		q.Set("q", text)
	}
	for {
		var page api.CataloguePage
		if err := c.get(ctx, call{method: http.MethodGet, path: "/api/v1/catalogue?" + q.Encode()}, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" || page.Next == q.Get("cursor") {
			return all, nil
		}
		q.Set("cursor", page.Next)
	}
}

// Search returns a page of ledger rows, newest first, and the cursor of the
// next, empty at the end. It is sent as a POST, so no identifier stands in an
// address.
func (c *Client) Search(ctx context.Context, q exchange.LedgerQuery) (rows []exchange.LedgerRow, next string, err error) {
	in := api.LedgerSearch{Department: q.Dept, Kind: q.Kind, From: q.From, To: q.To, Item: q.Item, Operator: q.Operator, Subject: q.Subject,
		Cursor: q.Page.Cursor, Limit: q.Page.Limit}
	if q.Outcome != exchange.Undecided {
		in.Outcome = q.Outcome.String()
	}
	var page api.LedgerPage
	if err := c.get(ctx, call{method: http.MethodPost, path: "/api/v1/ledger/entries/search", body: in}, &page); err != nil {
		return nil, "", err
	}
	for _, r := range page.Rows {
		row, err := toRow(r)
		if err != nil {
			return nil, "", err
		}
		rows = append(rows, row)
	}
	return rows, page.Next, nil
}

// Row returns one ledger entry.
func (c *Client) Row(ctx context.Context, index uint64) (exchange.LedgerRow, error) {
	var r api.Row
	if err := c.get(ctx, call{method: http.MethodGet, path: entryPath(index)}, &r); err != nil {
		return exchange.LedgerRow{}, err
	}
	return toRow(r)
}

// Proof returns the inclusion proof of an entry. Check it with package
// ledger/verify or xqverify; this client takes nothing on trust from it and
// checks nothing.
func (c *Client) Proof(ctx context.Context, index uint64) (exchange.LedgerProof, error) {
	var p api.Proof
	err := c.get(ctx, call{method: http.MethodGet, path: entryPath(index) + "/proof"}, &p)
	return exchange.LedgerProof(p), err
}

func entryPath(index uint64) string {
	return "/api/v1/ledger/entries/" + strconv.FormatUint(index, 10)
}

// Checkpoint returns the latest cosigned note.
func (c *Client) Checkpoint(ctx context.Context) (string, error) {
	var raw []byte
	err := c.get(ctx, call{method: http.MethodGet, path: "/api/v1/ledger/checkpoint"}, &raw)
	return string(raw), err
}

// Evidence returns an evidence file (zip) for up to 100 entries.
func (c *Client) Evidence(ctx context.Context, indices ...uint64) ([]byte, error) {
	q := url.Values{}
	for _, i := range indices {
		q.Add("entry", strconv.FormatUint(i, 10))
	}
	var raw []byte
	err := c.get(ctx, call{method: http.MethodGet, path: "/api/v1/ledger/evidence?" + q.Encode()}, &raw)
	return raw, err
}
