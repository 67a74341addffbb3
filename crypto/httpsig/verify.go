package httpsig

import (
	"crypto/subtle"
	"net"
	"slices"
	"strings"
	"time"

	"xinqiao/crypto/gm"
)

// Verifier accepts requests. It is safe for concurrent use when its functions
// are.
type Verifier struct {
	Engine gm.Engine
	// Key returns the key that a keyid names.
	Key func(keyID string) (gm.PublicKey, bool)
	// Host reports whether the server answers to a host name or address. Without
	// it a request to one server could be given to another that knows the same key.
	Host func(host string) bool
	// Replays remembers the nonces.
	Replays *Replays
}

// Verified is what a signature that holds says.
type Verified struct {
	KeyID   string
	Created time.Time
	Body    []byte
}

// Verify accepts m at the time now, once. body is called at most once, and only
// after the signature held, so that nobody unknown makes the server read one;
// its error is returned as it is. Every other error is an *Error, and any error
// means that nothing of m may be used.
func (v *Verifier) Verify(now time.Time, m Message, body func() ([]byte, error)) (Verified, error) {
	in, sig, err := signatureOf(m)
	if err != nil {
		return Verified{}, err
	}
	p, err := profile(in)
	if err != nil {
		return Verified{}, err
	}
	if err := covers(m, in.components); err != nil {
		return Verified{}, err
	}
	if err := fresh(now, p); err != nil {
		return Verified{}, err
	}
	msg, err := base(m, in.components, in.value)
	if err != nil {
		return Verified{}, err
	}
	if host, _ := authority(m); !v.Host(bare(host)) { // covered, so base has checked it
		return Verified{}, fail(Signature, "the request is for another server")
	}
	key, ok := v.Key(p.KeyID)
	if !ok {
		return Verified{}, fail(UnknownKey, "the keyid names no key")
	}
	if !v.Engine.Verify(key, msg, sig) {
		return Verified{}, fail(Signature, "the signature is not the key's over this request")
	}
	content, err := body()
	if err != nil {
		return Verified{}, err
	}
	if err := v.bound(m, in.components, content); err != nil {
		return Verified{}, err
	}
	if err := v.Replays.Add(now, p.KeyID, p.Nonce, p.Created, p.Expires); err != nil {
		return Verified{}, err
	}
	return Verified{KeyID: p.KeyID, Created: p.Created, Body: content}, nil
}

// signatureOf reads the two headers: one signature, with one label.
func signatureOf(m Message) (input, gm.Signature, error) {
	none := gm.Signature{}
	if !Carries(m.Header) {
		return input{}, none, fail(Unsigned, "the request carries no signature")
	}
	inputs, signatures := m.Header.Values(headerInput), m.Header.Values(headerSignature)
	if len(inputs) != 1 || len(signatures) != 1 {
		return input{}, none, fail(Malformed, "there is not exactly one Signature-Input and one Signature header")
	}
	in, err := parseInput(inputs[0])
	if err != nil {
		return input{}, none, err
	}
	name, der, ok := parseBytes(signatures[0])
	if !ok || name != in.label {
		return input{}, none, fail(Malformed, "Signature is not one byte sequence under the label of Signature-Input")
	}
	sig, err := gm.ParseSignature(der)
	if err != nil {
		return input{}, none, fail(Malformed, "the signature is not SM2 in DER")
	}
	return in, sig, nil
}

// profile reads the five parameters, each once and no other. There is no alg:
// the key is an SM2 key, and what signs is not negotiated.
func profile(in input) (Params, error) {
	malformed := func(msg string) (Params, error) { return Params{}, fail(Malformed, msg) }
	var p Params
	var tag string
	texts := map[string]*string{"nonce": &p.Nonce, "keyid": &p.KeyID, "tag": &tag}
	times := map[string]*time.Time{"created": &p.Created, "expires": &p.Expires}
	for _, given := range in.params {
		text, isText := texts[given.name]
		at, isTime := times[given.name]
		switch {
		case given.isText && isText:
			*text = given.text
			delete(texts, given.name)
		case !given.isText && isTime:
			*at = time.Unix(given.number, 0)
			delete(times, given.name)
		default:
			return malformed("a parameter of the signature is unknown, stands twice or has the wrong type")
		}
	}
	switch {
	case len(texts)+len(times) > 0:
		return malformed("a parameter of the signature is missing: created, expires, nonce, keyid and tag are required")
	case tag != Tag:
		return malformed("the tag of the signature is another")
	case len(p.Nonce) < MinNonce || len(p.Nonce) > MaxNonce:
		return malformed("the nonce is shorter than 16 characters or longer than 64")
	case p.KeyID == "":
		return malformed("the keyid is empty")
	}
	return p, nil
}

func covers(m Message, components []string) error {
	for _, name := range required(m) {
		if !slices.Contains(components, name) {
			return fail(Coverage, "the signature does not cover "+name)
		}
	}
	return single(m, components)
}

// fresh checks the times. That a signature is at most MaxAge old follows from
// the last two checks.
func fresh(now time.Time, p Params) error {
	switch {
	case p.Created.After(now.Add(MaxAhead)):
		return fail(Expired, "the signature was created in the future")
	case p.Expires.Before(p.Created) || p.Expires.Sub(p.Created) > MaxAge:
		return fail(Expired, "the signature expires before it was created, or more than 5 minutes after")
	case now.After(p.Expires):
		return fail(Expired, "the signature has expired")
	}
	return nil
}

// bound holds the body against the digest that was signed.
func (v *Verifier) bound(m Message, components []string, body []byte) error {
	if !slices.Contains(components, strings.ToLower(headerDigest)) {
		if len(body) > 0 {
			return fail(Coverage, "the signature does not cover the body")
		}
		return nil
	}
	value, err := field(m, strings.ToLower(headerDigest))
	if err != nil {
		return err
	}
	name, want, ok := parseBytes(value)
	if !ok || name != "sm3" || len(want) != gm.HashSize {
		return fail(Digest, "Content-Digest is not one SM3 hash")
	}
	if sum := v.Engine.Sum(body); subtle.ConstantTimeCompare(sum[:], want) != 1 {
		return fail(Digest, "the body is not the one that was signed")
	}
	return nil
}

// bare returns the host of an authority.
func bare(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return strings.Trim(authority, "[]")
}
