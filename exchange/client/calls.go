package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"xinqiao/exchange"
	"xinqiao/exchange/api"
)

// maxPages bounds a listing, so that a node gone wrong cannot make a client
// collect for ever.
const maxPages = 1000

// Ask asks another department through this node. key is the idempotency key:
// with the same one, asking again after an error is safe. A denial is an Answer
// with outcome Refused. An error of kind Undetermined leaves open how the
// exchange ended; the Answer then has the exchange's ID when the node gave one.
func (c *Client) Ask(ctx context.Context, key string, q exchange.Question) (exchange.Answer, error) {
	return c.ended(ctx, call{method: http.MethodPost, path: "/api/v1/exchanges", key: key, body: fromQuestion(q), writes: true})
}

// Answer returns how the exchange ended, as Ask does.
func (c *Client) Answer(ctx context.Context, id string) (exchange.Answer, error) {
	return c.ended(ctx, call{method: http.MethodGet, path: "/api/v1/exchanges/" + url.PathEscape(id)})
}

func (c *Client) ended(ctx context.Context, in call) (exchange.Answer, error) {
	in.pends = true
	got, err := c.do(ctx, in)
	if err != nil {
		return exchange.Answer{}, err
	}
	if got.denial != nil {
		return toDenial(got.denial)
	}
	var a api.Answer
	if err := decode(got.body, &a); err != nil {
		return exchange.Answer{}, err
	}
	if got.status == http.StatusAccepted {
		return exchange.Answer{ID: a.ID, Holder: a.Holder, Item: a.Item}, &exchange.Error{Kind: exchange.Undetermined, Op: "client",
			Code: exchange.CodeUnknownResult, Msg: "how the exchange ended is not known yet", Hint: askAgain, Err: ctx.Err()}
	}
	return toAnswer(a)
}

// Receipt returns the ledger entry of an exchange.
func (c *Client) Receipt(ctx context.Context, id string) (exchange.Receipt, error) {
	var r api.Receipt
	err := c.get(ctx, call{method: http.MethodGet, path: "/api/v1/exchanges/" + url.PathEscape(id) + "/receipt"}, &r)
	return exchange.Receipt(r), err
}

// Register registers a subject's consent; key is as with Ask.
func (c *Client) Register(ctx context.Context, key string, f exchange.ConsentForm) (exchange.AuthorityInfo, error) {
	return c.authority(ctx, call{method: http.MethodPost, path: "/api/v1/authorities", key: key, body: fromConsent(f), writes: true})
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
		body: api.Withdrawal{Reason: reason}, writes: true})
}

func (c *Client) authority(ctx context.Context, in call) (exchange.AuthorityInfo, error) {
	var a api.Authority
	if err := c.get(ctx, in, &a); err != nil {
		return exchange.AuthorityInfo{}, err
	}
	return toAuthority(a)
}

// Catalogue returns every item that mentions query, or all when it is empty.
func (c *Client) Catalogue(ctx context.Context, query string) ([]exchange.CatalogueItem, error) {
	var all []exchange.CatalogueItem
	q := url.Values{"limit": {"200"}}
	if query != "" {
		q.Set("q", query)
	}
	for range maxPages {
		var page api.CataloguePage
		if err := c.get(ctx, call{method: http.MethodGet, path: "/api/v1/catalogue?" + q.Encode()}, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		if page.Next == q.Get("cursor") {
			break
		}
		q.Set("cursor", page.Next)
	}
	return nil, unreadable(errors.New("the listing does not end"))
}

// Search returns a page of ledger rows, newest first, and the cursor of the
// next, empty at the end. It is sent as a POST, so no identifier stands in an
// address.
func (c *Client) Search(ctx context.Context, q exchange.LedgerQuery) ([]exchange.LedgerRow, string, error) {
	in := api.LedgerSearch{Department: q.Dept, Kind: q.Kind, From: q.From, To: q.To, Item: q.Item, Operator: q.Operator, Subject: q.Subject,
		Cursor: q.Page.Cursor, Limit: q.Page.Limit}
	if q.Outcome != exchange.Undecided {
		in.Outcome = q.Outcome.String()
	}
	var page api.LedgerPage
	if err := c.get(ctx, call{method: http.MethodPost, path: "/api/v1/ledger/entries/search", body: in}, &page); err != nil {
		return nil, "", err
	}
	var rows []exchange.LedgerRow
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
	if r.Index != index {
		return exchange.LedgerRow{}, unreadable(errors.New("it is about another entry"))
	}
	return toRow(r)
}

// Proof returns the inclusion proof of an entry. It is not checked here: use
// package ledger/verify or xqverify.
func (c *Client) Proof(ctx context.Context, index uint64) (exchange.LedgerProof, error) {
	var p api.Proof
	if err := c.get(ctx, call{method: http.MethodGet, path: entryPath(index) + "/proof"}, &p); err != nil {
		return exchange.LedgerProof{}, err
	}
	if p.Index != index {
		return exchange.LedgerProof{}, unreadable(errors.New("it is about another entry"))
	}
	return exchange.LedgerProof(p), nil
}

func entryPath(index uint64) string {
	return "/api/v1/ledger/entries/" + strconv.FormatUint(index, 10)
}

// Checkpoint returns the latest cosigned note, not checked.
func (c *Client) Checkpoint(ctx context.Context) (string, error) {
	var raw []byte
	err := c.get(ctx, call{method: http.MethodGet, path: "/api/v1/ledger/checkpoint", media: "text/plain"}, &raw)
	return string(raw), err
}

// Evidence returns an evidence file (zip) for the entries, of which the node
// takes 1 to 100. It is not checked: xqverify does that.
func (c *Client) Evidence(ctx context.Context, indices ...uint64) ([]byte, error) {
	q := url.Values{}
	for _, i := range indices {
		q.Add("entry", strconv.FormatUint(i, 10))
	}
	var raw []byte
	err := c.get(ctx, call{method: http.MethodGet, path: "/api/v1/ledger/evidence?" + q.Encode(), media: "application/zip", limit: maxFile}, &raw)
	return raw, err
}
