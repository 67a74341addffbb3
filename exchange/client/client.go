// Package client is the Go SDK of the exchange API: a department system's way
// to its own node.
//
// Every method returns the nouns of package exchange. What the node refuses
// comes back as *exchange.Error with the kind, code, pointer and reasons of its
// problem document.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"xinqiao/exchange"
	"xinqiao/exchange/api"
)

// Limits of what the client reads and how often it tries.
const (
	maxResponse = 64 << 20
	maxAttempts = 5
	maxWait     = 30 * time.Second
)

// Client calls one node. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	lang  string
	http  *http.Client
	wait  func(ctx context.Context, d time.Duration) error
}

// New returns a client of the node at baseURL ("https://node.example:8443"). ca
// holds the roots that the node's TLS certificate must chain to; nil means the
// system's. Plain http is refused except to a loopback address, because it would
// show the token to the network.
func New(baseURL string, ca *x509.CertPool, token string) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New(`the node's address does not have the form "https://host:port"`)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme != "https" && (u.Scheme != "http" || ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("the node's address is not https: the token would be sent in the clear")
	}
	if token == "" {
		return nil, errors.New("no token: the node's operator issues one to each system")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS13},
		MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true}
	return &Client{base: strings.TrimSuffix(u.String(), "/"), token: token, lang: "zh-CN", wait: sleep,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the token goes to this node and nowhere else
		}}}, nil
}

// In returns a client that asks for texts in lang, "zh-CN" or "en".
func (c *Client) In(lang string) *Client {
	other := *c
	other.lang = lang
	return &other
}

// NewKey returns a fresh idempotency key. Keep it with the case until the
// question has an answer: it is what makes asking again safe.
func NewKey() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// call is one request; it is sent again, unchanged, while the node says that it
// may succeed later.
type call struct {
	method, path string
	key          string // idempotency key
	body         any
}

// response is what came back. Its problem is nil below 400.
type response struct {
	status  int
	body    []byte
	problem *api.Problem
	after   time.Duration
}

// do sends the call until it ends, the attempts are used up or ctx ends. All
// calls of this API may be repeated: reads change nothing, a withdrawal is
// idempotent and the others carry a key.
func (c *Client) do(ctx context.Context, in call) (response, error) {
	var raw []byte
	if in.body != nil {
		var err error
		if raw, err = json.Marshal(in.body); err != nil {
			return response{}, fmt.Errorf("encode the request: %w", err)
		}
	}
	for attempt := 1; ; attempt++ {
		res, err := c.once(ctx, in, raw)
		again := res.status == http.StatusAccepted || res.problem != nil && res.problem.Retryable
		if err != nil {
			kind := exchange.KindOf(err)
			again = kind == exchange.Unavailable || kind == exchange.Undetermined
		}
		if !again {
			return res, err
		}
		if attempt == maxAttempts || ctx.Err() != nil {
			return res, err
		}
		after := res.after
		if after <= 0 {
			after = time.Duration(attempt) * 200 * time.Millisecond
		}
		if c.wait(ctx, min(after, maxWait)) != nil {
			return res, err // ctx ended; what is known is the last response
		}
	}
}

func (c *Client) once(ctx context.Context, in call, raw []byte) (response, error) {
	req, err := http.NewRequestWithContext(ctx, in.method, c.base+in.path, bytes.NewReader(raw))
	if err != nil {
		return response{}, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept-Language", c.lang)
	if in.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if in.key != "" {
		req.Header.Set("Idempotency-Key", in.key)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return response{}, unreached(in, err)
	}
	defer res.Body.Close()
	out := response{status: res.StatusCode}
	if out.body, err = io.ReadAll(io.LimitReader(res.Body, maxResponse+1)); err != nil {
		return response{}, unreached(in, err)
	}
	if len(out.body) > maxResponse {
		return response{}, &exchange.Error{Kind: exchange.TooLarge, Code: exchange.CodeTooLarge, Op: "client",
			Msg: "the node's response is larger than this client reads"}
	}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		out.after = time.Duration(seconds) * time.Second
	}
	if out.status >= 300 {
		out.problem = problem(res, out.body)
	}
	return out, nil
}

// unreached says what a broken connection means: a read has not happened, a
// write may have.
func unreached(in call, cause error) *exchange.Error {
	e := &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodePeerDown, Op: "client", Msg: "the node could not be reached",
		Hint: "check the node's address and certificate, then try again", Err: cause}
	if in.method == http.MethodPost && in.key != "" {
		e.Kind, e.Code = exchange.Undetermined, exchange.CodeUnknownResult
		e.Msg, e.Hint = "the connection to the node broke, so the result is not known", "ask again with the same idempotency key"
	}
	return e
}

// problem reads a problem document, or makes one of whatever else came.
func problem(res *http.Response, body []byte) *api.Problem {
	var p api.Problem
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if media == "application/problem+json" && json.Unmarshal(body, &p) == nil && p.Code != "" {
		return &p
	}
	retry := res.StatusCode == http.StatusBadGateway || res.StatusCode == http.StatusServiceUnavailable ||
		res.StatusCode == http.StatusGatewayTimeout || res.StatusCode == http.StatusTooManyRequests
	p = api.Problem{Status: res.StatusCode, Kind: exchange.Internal.String(), Code: exchange.CodeInternal, Retryable: retry,
		Title: fmt.Sprintf("the answer with status %d is not from a node", res.StatusCode), Hint: "check the node's address"}
	if retry {
		p.Kind = exchange.Undetermined.String() // something in between; the node may have been reached
	}
	return &p
}

// toError is the reverse of what the API did to an *exchange.Error.
func toError(p *api.Problem) *exchange.Error {
	e := &exchange.Error{Code: p.Code, Op: "client", Msg: p.Detail, Hint: p.Hint, Pointer: p.Pointer, Reasons: toReasons(p.Reasons)}
	if e.Msg == "" {
		e.Msg = p.Title
	}
	for k := exchange.Internal; k <= exchange.Integrity; k++ {
		if k.String() == p.Kind {
			e.Kind = k
		}
	}
	if p.TraceID != "" {
		e.Hint = strings.TrimSpace(e.Hint + " [trace " + p.TraceID + "]")
	}
	return e
}

// get sends a call and decodes a successful response into v.
func (c *Client) get(ctx context.Context, in call, v any) error {
	res, err := c.do(ctx, in)
	if err != nil {
		return err
	}
	if res.problem != nil {
		return toError(res.problem)
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = res.body
		return nil
	}
	return decode(res.body, v)
}

// decode is lenient about members that a newer node may send.
func decode(raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return &exchange.Error{Kind: exchange.Internal, Code: exchange.CodeInternal, Op: "client", Msg: "the node's response cannot be read", Err: err}
	}
	return nil
}
