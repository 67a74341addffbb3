package client

import (
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/httpsig"
	"xinqiao/exchange"
)

// signing is what a client signs with.
type signing struct {
	engine gm.Engine // hashes bodies
	system string
	key    httpsig.Key
	now    func() time.Time
}

// NewSigned is New for a system that signs its requests (RFC 9421, see package
// crypto/httpsig) and shows no token. system is its name in the node's
// configuration. Every sending of a call is signed anew, for as long as one
// attempt lasts; the system's clock must be right to a minute.
func NewSigned(baseURL string, ca *x509.CertPool, system string, key httpsig.Key) *Client {
	c := dial(baseURL, ca)
	c.sign = &signing{engine: gm.Emmansun(), system: system, key: key, now: time.Now}
	if c.err == nil && (!exchange.Dept(system).Valid() || key == nil) {
		c.err = unusable("there is no key to sign with, or the system's name is not as in a node's configuration")
	}
	return c
}

// credentials adds to a request what says whose it is. It comes last: the
// signature covers the other headers.
func (c *Client) credentials(req *http.Request, body []byte) *exchange.Error {
	if c.sign == nil {
		req.Header.Set("Authorization", "Bearer "+c.token)
		return nil
	}
	nonce, err := httpsig.NewNonce(rand.Reader)
	if err == nil {
		now := c.sign.now()
		p := httpsig.Params{KeyID: c.sign.system, Created: now, Expires: now.Add(attemptTimeout), Nonce: nonce}
		err = httpsig.Sign(c.sign.engine, c.sign.key, p, req, body)
	}
	switch {
	case err == nil:
		return nil
	case httpsig.KindOf(err) != 0:
		return &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Op: "client", Msg: "the request cannot be signed", Err: err}
	}
	return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeKeys, Op: "client", Msg: "the key of this system did not sign",
		Hint: "check whatever holds the key; nothing was sent", Err: err}
}

// resent reads a refusal as a replay. A nonce is used once, so net/http sent the
// request a second time over a new connection, and the first may have had its
// effect.
func (a *attempt) resent(in call) {
	if a.err == nil || a.err.Code != exchange.CodeReplay {
		return
	}
	a.again = true
	a.err.Kind, a.err.Code, a.err.Hint = exchange.Unavailable, exchange.CodePeerDown, askAgain
	if in.writes {
		a.err.Kind, a.err.Code = exchange.Undetermined, exchange.CodeUnknownResult
	}
}
