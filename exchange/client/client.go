// Package client is the Go SDK of the exchange API: a department system's way
// to its own node.
//
// Every method returns the nouns of package exchange. What the node refuses
// comes back as *exchange.Error with the kind, code, pointer and reasons of its
// problem document; a denial of an exchange is an answer, not an error.
//
// Every call may be repeated without harm: reads change nothing, a withdrawal
// is idempotent and the others carry a key. So a call goes on, with the same
// key, for as long as the node says that it may succeed later and the caller's
// context lasts. Give each context a deadline.
package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"xinqiao/exchange"
)

// Limits of one attempt. An exchange waits for another department and for the
// ledger, so the time is generous; a call that outlasts it is sent again.
const (
	dialTimeout    = 10 * time.Second
	headerTimeout  = 60 * time.Second
	attemptTimeout = 2 * time.Minute
	maxHeader      = 64 << 10
	maxIdle        = 64
)

// Client calls one node. It is safe for concurrent use and prints without its
// token.
type Client struct {
	base  string
	token string
	sign  *signing // in place of the token
	lang  string
	http  *http.Client
	retry bool
	wait  func(ctx context.Context, d time.Duration) error
	err   *exchange.Error // what is wrong with the arguments of New
}

// New returns a client of the node at baseURL ("https://node.example:8443"). ca
// holds the roots that the node's TLS certificate must chain to; nil means the
// system's. Only https is spoken, from TLS 1.3, and never through a proxy: the
// token goes to the node and nowhere else. What is wrong with the arguments is
// the error of every call.
func New(baseURL string, ca *x509.CertPool, token string) *Client {
	c := dial(baseURL, ca)
	c.token = token
	if c.err == nil && (token == "" || strings.ContainsAny(token, " \t\r\n")) {
		c.err = unusable("the token is empty or has a space in it; the node's operator issues one to each system")
	}
	return c
}

// dial returns a client without credentials.
func dial(baseURL string, ca *x509.CertPool) *Client {
	c := &Client{base: strings.TrimSuffix(baseURL, "/"), lang: "zh-CN", retry: true, wait: sleep}
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		c.err = unusable(`the node's address does not have the form "https://host:port"`)
	}
	c.http = &http.Client{Timeout: attemptTimeout, CheckRedirect: stay, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS13}, TLSHandshakeTimeout: dialTimeout,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		ResponseHeaderTimeout: headerTimeout, MaxResponseHeaderBytes: maxHeader, MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true, DisableCompression: true}}
	return c
}

func unusable(msg string) *exchange.Error {
	return &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Op: "client.New", Msg: msg,
		Hint: "correct the configuration of this client; nothing was sent"}
}

// stay follows no redirect: it would carry the token elsewhere.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Once returns a copy that sends each call exactly once, for tests and
// demonstrations of failures. It opens a connection per call, because net/http
// itself sends a keyed request again when a kept connection turns out closed.
func (c *Client) Once() *Client {
	other := *c
	other.retry = false
	if tr, ok := c.http.Transport.(*http.Transport); ok {
		tr = tr.Clone()
		tr.DisableKeepAlives = true
		other.http = &http.Client{Timeout: c.http.Timeout, CheckRedirect: c.http.CheckRedirect, Transport: tr}
	}
	return &other
}

// In returns a copy that asks for texts in lang, "zh-CN" (as New does) or "en".
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

// String names the node, not the token.
func (c Client) String() string { return "client of " + c.base }

// GoString is String, so that %#v withholds the token too.
func (c Client) GoString() string { return c.String() }

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
