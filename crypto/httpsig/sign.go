package httpsig

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"xinqiao/crypto/gm"
)

// A Key signs with SM2 and SM3 under gm.DefaultUID and returns DER, as
// `openssl pkeyutl -sign -rawin -digest sm3` does.
type Key interface {
	Sign(msg []byte) ([]byte, error)
}

// NewKey returns a key that signs in this process, for a system that keeps its
// key in a file (gm.ParsePrivatePEM). It prints redacted.
func NewKey(e gm.Engine, key *gm.PrivateKey) Key { return software{e, key} }

type software struct {
	engine gm.Engine
	key    *gm.PrivateKey
}

// Sign signs with the engine.
func (s software) Sign(msg []byte) ([]byte, error) {
	sig, err := s.engine.Sign(s.key, msg)
	if err != nil {
		return nil, err
	}
	return sig.ASN1(), nil
}

// String withholds the key.
func (s software) String() string { return s.key.String() }

// GoString withholds the key.
func (s software) GoString() string { return s.key.GoString() }

// Params are what a signature says about itself.
type Params struct {
	KeyID   string    // whose key it is, as the verifier knows it
	Created time.Time // whole seconds are kept
	Expires time.Time // at most MaxAge later
	Nonce   string    // MinNonce to MaxNonce characters, never used again with the key
}

// NewNonce returns 128 bits of rand as a nonce.
func NewNonce(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("make a nonce: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// label is the name of the signatures that this package makes.
const label = "sig1"

// Sign adds Content-Digest (when there is a body or a header of that name),
// Signature-Input and Signature to a client's request, replacing what is there.
// Call it last: a covered header that changes later breaks the signature. The
// request's other headers and the key's errors are the caller's.
func Sign(e gm.Engine, key Key, p Params, r *http.Request, body []byte) error {
	life := p.Expires.Unix() - p.Created.Unix()
	if !words(p.KeyID) || !words(p.Nonce) || len(p.Nonce) < MinNonce || len(p.Nonce) > MaxNonce || life < 0 || life > int64(MaxAge/time.Second) {
		return fail(Malformed, "the parameters of the signature are not acceptable")
	}
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	r.Header.Del(headerInput)
	r.Header.Del(headerSignature)
	r.Header.Del(headerDigest)
	if len(body) > 0 {
		r.Header.Set(headerDigest, ContentDigest(e, body))
	}
	m := Message{Method: r.Method, Scheme: r.URL.Scheme, Authority: host, Target: r.URL.RequestURI(), Header: r.Header, HasBody: len(body) > 0}
	if m.Method == "" {
		m.Method = http.MethodGet
	}
	components := required(m)
	if err := single(m, components); err != nil {
		return err
	}
	in := input{label: label, components: components, params: []param{{name: "created", number: p.Created.Unix()},
		{name: "expires", number: p.Expires.Unix()}, {name: "nonce", text: p.Nonce, isText: true},
		{name: "keyid", text: p.KeyID, isText: true}, {name: "tag", text: Tag, isText: true}}}
	written := in.written()
	msg, err := base(m, components, strings.TrimPrefix(written, label+"="))
	if err != nil {
		return err
	}
	der, err := key.Sign(msg)
	if err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	r.Header.Set(headerInput, written)
	r.Header.Set(headerSignature, formatBytes(label, der))
	return nil
}

// ContentDigest returns the Content-Digest field (RFC 9530) of body. The name
// sm3 is this exchange's own: the registry of RFC 9530 has none for SM3.
func ContentDigest(e gm.Engine, body []byte) string {
	sum := e.Sum(body)
	return formatBytes("sm3", sum[:])
}

// words accepts a string of printable ASCII that is not empty.
func words(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// single refuses a covered field that stands on several lines. Its base is that
// of one line with commas, and a handler that reads the first line only would
// see another value than the signer meant.
func single(m Message, components []string) error {
	for _, name := range components {
		if len(m.Header.Values(name)) > 1 {
			return fail(Malformed, "a covered field stands on several lines")
		}
	}
	return nil
}
