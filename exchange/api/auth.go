package api

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/httpsig"
	"xinqiao/exchange"
)

// maxNonces bounds the signed requests of one system that may be in force at
// once: 218 a second when each is good for the longest time.
const maxNonces = 1 << 16

const howToAuthenticate = "sign the request (RFC 9421 with SM2) or send the system's token as Authorization: Bearer; the node's operator enters keys and issues tokens"

func stranger(msg string) *exchange.Error {
	return &exchange.Error{Kind: exchange.Unauthenticated, Code: exchange.CodeCredentials, Msg: msg, Hint: howToAuthenticate}
}

// authenticate returns the system that sent the request. Which one a request
// with a signature and a token comes from would depend on who reads it.
func (s *server) authenticate(w http.ResponseWriter, r *http.Request) (System, *exchange.Error) {
	signed, bearer := httpsig.Carries(r.Header), len(r.Header.Values("Authorization")) > 0
	var sys System
	var refused *exchange.Error
	switch {
	case signed && bearer:
		return System{}, stranger("the request carries an Authorization header and a signature; send one of them")
	case signed:
		sys, refused = s.bySignature(w, r)
	default:
		sys, refused = s.byToken(r)
	}
	if refused == nil && !s.cfg.Clock().Before(sys.Expires) {
		return System{}, stranger("the system's access has expired")
	}
	return sys, refused
}

// byToken compares with every configured system, in constant time, so that the
// time taken does not tell which one came close.
func (s *server) byToken(r *http.Request) (System, *exchange.Error) {
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return System{}, stranger("the request carries neither a signature nor a single Authorization header")
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > 512 {
		return System{}, stranger("the Authorization header does not carry a bearer token")
	}
	hash := s.cfg.Engine.Sum([]byte(token))
	found := -1
	for i := range s.cfg.Systems {
		if has := s.cfg.Systems[i].TokenHash; subtle.ConstantTimeCompare(hash[:], has[:]) == 1 && has != (gm.Digest{}) {
			found = i
		}
	}
	if found < 0 {
		return System{}, stranger("the token is unknown")
	}
	if s.cfg.Systems[found].Signed {
		return System{}, stranger("the system must sign its requests; its token is not accepted")
	}
	return s.cfg.Systems[found], nil
}

// bySignature verifies the request with its body, which the handler then reads
// from memory.
func (s *server) bySignature(w http.ResponseWriter, r *http.Request) (System, *exchange.Error) {
	verified, err := s.verifier.Verify(s.cfg.Clock(), httpsig.Received(r, "https"), func() ([]byte, error) { return read(w, r) })
	if err != nil {
		return System{}, unverified(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(verified.Body))
	return s.cfg.Systems[s.signers[verified.KeyID]], nil
}

// unverified gives the refusal of a signature its stable code.
func unverified(err error) *exchange.Error {
	e := (*httpsig.Error)(nil)
	if !errors.As(err, &e) {
		return exchange.AsError(err) // of reading the body
	}
	out := &exchange.Error{Kind: exchange.Unauthenticated, Code: exchange.CodeSignature, Msg: e.Msg}
	switch e.Kind {
	case httpsig.Unsigned, httpsig.UnknownKey:
		out.Code, out.Hint = exchange.CodeCredentials, howToAuthenticate
	case httpsig.Expired:
		out.Code = exchange.CodeExpired
	case httpsig.Replayed:
		out.Code = exchange.CodeReplay
	case httpsig.Later:
		out.Kind, out.Code = exchange.Unavailable, exchange.CodeBusy
	}
	return out
}

// permits reports whether the system has the scope.
func (sys System) permits(scope Scope) bool { return slices.Contains(sys.Scopes, scope) }
