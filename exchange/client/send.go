package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"strconv"
	"time"

	"xinqiao/exchange"
)

// Limits of what is read, in bytes, and of the wait between two attempts.
const (
	maxJSON    = 16 << 20
	maxFile    = 64 << 20 // an evidence file
	maxProblem = 1 << 20
	firstWait  = 200 * time.Millisecond
	maxWait    = 30 * time.Second
)

// call is one request. It is sent again unchanged.
type call struct {
	method, path string
	key          string // idempotency key
	body         any
	media        string // of a successful response; empty means JSON
	limit        int64  // of a successful response; 0 means maxJSON
	writes       bool   // a call that broke off may have had its effect
	pends        bool   // 202 means that the node does not know the end yet
}

// response is a successful response, or a 202 of a call that pends.
type response struct {
	status int
	body   []byte
}

// attempt is how one attempt ended.
type attempt struct {
	response
	denial *denial         // of an exchange; then err is nil
	err    *exchange.Error //
	after  time.Duration   // what the node asks to wait
	again  bool            // the same request may succeed later
}

// do sends the call until it ends or ctx does. Once one attempt may have had
// its effect, a later "nothing happened" speaks of the later attempt alone, and
// the call stays Undetermined.
func (c *Client) do(ctx context.Context, in call) (attempt, error) {
	if c.err != nil {
		return attempt{}, c.err
	}
	var raw []byte
	if in.body != nil {
		var err error
		if raw, err = json.Marshal(in.body); err != nil {
			return attempt{}, &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Op: "client", Msg: "the request cannot be written as JSON", Err: err}
		}
	}
	doubt := false
	for backoff := firstWait; ; backoff = min(2*backoff, maxWait) {
		a := c.send(ctx, in, raw)
		if a.err != nil {
			doubt = doubt || in.writes && a.err.Kind == exchange.Undetermined
			if doubt && a.err.Kind == exchange.Unavailable {
				a.err.Kind, a.err.Code, a.err.Hint = exchange.Undetermined, exchange.CodeUnknownResult, askAgain
			}
		}
		if !a.again || !c.retry {
			return a, a.failure(nil)
		}
		delay := a.after
		if delay <= 0 {
			delay = backoff
		}
		delay += rand.N(delay/4 + 1) // many systems wait for the same node
		if err := c.wait(ctx, delay); err != nil {
			return a, a.failure(err)
		}
	}
}

// failure is the attempt's error. ended is why there was no further attempt,
// and becomes the cause.
func (a attempt) failure(ended error) error {
	if a.err == nil {
		return nil
	}
	if ended != nil && !errors.Is(a.err, ended) {
		a.err.Err = errors.Join(a.err.Err, ended)
	}
	return a.err
}

func (c *Client) send(ctx context.Context, in call, raw []byte) attempt {
	req, err := http.NewRequestWithContext(ctx, in.method, c.base+in.path, bytes.NewReader(raw))
	if err != nil {
		return attempt{err: &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Op: "client", Msg: "the request cannot be made", Err: err}}
	}
	req.Header.Set("Accept-Language", c.lang)
	if in.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if in.key != "" {
		req.Header.Set("Idempotency-Key", in.key)
	}
	if refused := c.credentials(req, raw); refused != nil {
		return attempt{err: refused}
	}
	res, err := c.http.Do(req)
	if err != nil {
		return unreached(ctx, in, err)
	}
	defer res.Body.Close()
	good := res.StatusCode == http.StatusOK || res.StatusCode == http.StatusCreated || in.pends && res.StatusCode == http.StatusAccepted
	limit, media := int64(maxProblem), "application/problem+json"
	if good {
		if limit, media = in.limit, in.media; limit == 0 {
			limit = maxJSON
		}
		if media == "" {
			media = "application/json"
		}
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return unreached(ctx, in, err)
	}
	if int64(len(body)) > limit {
		return attempt{err: &exchange.Error{Kind: exchange.TooLarge, Code: exchange.CodeTooLarge, Op: "client",
			Msg: "the node's response is larger than this client reads", Hint: "ask for less at once"}}
	}
	got, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	a := attempt{response: response{status: res.StatusCode, body: body}, after: retryAfter(res)}
	switch {
	case !good:
		if a.refuse(in, body, got == media); c.sign != nil {
			a.resent(in)
		}
	case got != media:
		a.err = unreadable(fmt.Errorf("content type %q, want %q", got, media))
	default:
		a.again = res.StatusCode == http.StatusAccepted
	}
	return a
}

// retryAfter is zero when the node does not say; a date is not understood.
func retryAfter(res *http.Response) time.Duration {
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || seconds <= 0 {
		return 0
	}
	return time.Duration(min(seconds, int(maxWait/time.Second))) * time.Second
}

const askAgain = "ask again with the same idempotency key"

// unreached says what a broken connection means. What never left has not
// happened; a write that broke off may have. A node that cannot prove who it is
// stays so, and is not asked again.
func unreached(ctx context.Context, in call, cause error) attempt {
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	e := &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodePeerDown, Op: "client", Msg: "the node could not be reached",
		Hint: "check the node's address and that it runs, then try again", Err: cause}
	switch {
	case errors.As(cause, &cert):
		e.Kind, e.Code, e.Msg = exchange.Forged, exchange.CodeSignature, "the node's certificate does not chain to the roots of this client, or names another host"
		e.Hint = "check the node's address and the roots; nothing was sent"
	case errors.As(cause, &op) && op.Op == "dial": // nothing was sent
	case in.writes:
		e.Kind, e.Code, e.Msg, e.Hint = exchange.Undetermined, exchange.CodeUnknownResult, "the connection to the node broke, so the result is not known", askAgain
	}
	return attempt{err: e, again: e.Kind != exchange.Forged && ctx.Err() == nil}
}

// get sends a call and decodes a successful response into v.
func (c *Client) get(ctx context.Context, in call, v any) error {
	a, err := c.do(ctx, in)
	if err != nil {
		return err
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = a.body
		return nil
	}
	return decode(a.body, v)
}

// decode reads one JSON value. It is lenient about members that a newer node
// may send, and about nothing else.
func decode(raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return unreadable(err)
	}
	return nil
}

func unreadable(cause error) *exchange.Error {
	return &exchange.Error{Kind: exchange.Internal, Code: exchange.CodeInternal, Op: "client", Msg: "the node's response cannot be read",
		Hint: "check that the address is a node's and that the client is not older than it", Err: cause}
}
