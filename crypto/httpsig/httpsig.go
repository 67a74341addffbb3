// Package httpsig signs and verifies HTTP requests by RFC 9421 with SM2.
//
// It is a profile: one signature, one algorithm, one tag, and what must be
// covered is fixed, so that a signer has nothing to choose and a verifier
// nothing to guess. What is not in the profile is refused, although RFC 9421
// has it. DESIGN.md has the profile and the reasons.
package httpsig

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// Tag marks the signatures of this profile.
const Tag = "xinqiao-v1"

// Limits of a signature's life and of its nonce.
const (
	MaxAhead = time.Minute     // how far a signer's clock may run ahead
	MaxAge   = 5 * time.Minute // from created, whatever expires says
	MinNonce = 16              // characters
	MaxNonce = 64
)

// Limits of what is parsed, in bytes and in members.
const (
	maxField      = 4096
	maxComponents = 32
	maxParameters = 16
)

// Kind says what is wrong with a request.
type Kind int

// The kinds of error.
const (
	Malformed  Kind = iota + 1 // a header is not what the profile says
	Unsigned                   // the request carries no signature
	Coverage                   // the signature leaves out what it must cover
	Expired                    // too old, from the future, or good for too long
	Replayed                   // this key used this nonce before
	UnknownKey                 // nobody's key
	Digest                     // the body is not the one that was signed
	Signature                  // the key did not sign this
	Later                      // whether it is a replay cannot be told now; signed again later it can
)

// String returns the kind's name.
func (k Kind) String() string {
	names := [...]string{"unknown", "malformed", "unsigned", "coverage", "expired", "replayed", "unknown key", "digest", "signature", "later"}
	if k < 0 || int(k) >= len(names) {
		return names[0]
	}
	return names[k]
}

// Error is why a request is not accepted or cannot be signed.
type Error struct {
	Kind Kind
	Msg  string
}

// Error returns the kind and what is wrong; it quotes nothing of the request.
func (e *Error) Error() string { return "httpsig: " + e.Kind.String() + ": " + e.Msg }

// KindOf returns the kind of an *Error in err's chain, or 0.
func KindOf(err error) Kind {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Kind
	}
	return 0
}

func fail(k Kind, msg string) error { return &Error{Kind: k, Msg: msg} }

// Message is what a signature is about: a request without its body.
type Message struct {
	Method    string
	Scheme    string      // "https"; a server behind a proxy does not see it itself
	Authority string      // as in the Host header or :authority
	Target    string      // path and query as they stand on the wire ("/a?b=c")
	Header    http.Header //
	HasBody   bool        // false only when it is certain that there is none
}

// Received describes a request that a server got. The scheme is the one by
// which callers reach the server.
func Received(r *http.Request, scheme string) Message {
	return Message{Method: r.Method, Scheme: scheme, Authority: r.Host, Target: r.RequestURI, Header: r.Header, HasBody: r.ContentLength != 0}
}

// Carries reports whether h claims a signature, complete or not.
func Carries(h http.Header) bool {
	return len(h.Values(headerInput)) > 0 || len(h.Values(headerSignature)) > 0
}

// Names of the header fields of RFC 9421 and RFC 9530, and of the idempotency key.
const (
	headerInput     = "Signature-Input"
	headerSignature = "Signature"
	headerDigest    = "Content-Digest"
	headerType      = "Content-Type"
	headerKey       = "Idempotency-Key"
)

// required returns what a signature of m must cover. A header that the verifier
// reads must be covered whenever it is there; a body must be bound and typed.
func required(m Message) []string {
	list := []string{"@method", "@authority", "@target-uri"}
	for _, name := range []string{headerDigest, headerType, headerKey} {
		if len(m.Header.Values(name)) > 0 || m.HasBody && name != headerKey {
			list = append(list, strings.ToLower(name))
		}
	}
	return list
}
