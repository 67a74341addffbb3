package httpsig_test

import (
	"testing"

	"xinqiao/crypto/httpsig"
)

// FuzzInput holds the parser to its promise: what it accepts is canonical, so
// writing it again gives the same bytes.
func FuzzInput(f *testing.F) {
	f.Fuzz(func(t *testing.T, field string) {
		if got, err := httpsig.ParseInput(field); err == nil && got != field {
			t.Errorf("%q is written as %q", field, got)
		}
	})
}

// FuzzBytes does the same for Signature and Content-Digest.
func FuzzBytes(f *testing.F) {
	f.Fuzz(func(t *testing.T, field string) {
		if got, ok := httpsig.ParseBytes(field); ok && got != field {
			t.Errorf("%q is written as %q", field, got)
		}
	})
}

// FuzzVerify gives header values and a target to a verifier whose key never
// signed: nothing is accepted and nothing panics.
func FuzzVerify(f *testing.F) {
	key := fixed(f)
	f.Fuzz(func(t *testing.T, target, host, input, signature, digest, contentType string) {
		m := httpsig.Message{Method: "POST", Scheme: "https", Authority: host, Target: target, HasBody: true, Header: map[string][]string{
			"Signature-Input": {input}, "Signature": {signature}, "Content-Digest": {digest}, "Content-Type": {contentType}}}
		if _, err := verifier(key).Verify(noon, m, func() ([]byte, error) { return []byte(body), nil }); httpsig.KindOf(err) == 0 {
			t.Errorf("error %v", err)
		}
	})
}
