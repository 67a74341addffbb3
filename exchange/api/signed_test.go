package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/httpsig"
	"xinqiao/exchange"
	"xinqiao/exchange/api"
)

func newKey(t testing.TB, seed byte) *gm.PrivateKey {
	t.Helper()
	scalar := [32]byte{31: seed}
	key, err := gm.NewPrivateKey(scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// withKeys adds systems: "signer" must sign and has a token too, "both" may do either.
func withKeys(t testing.TB) func(*api.Config) {
	return func(c *api.Config) {
		c.Host = func(host string) bool { return host == "node.example" }
		c.Systems = append(c.Systems,
			api.System{Name: "signer", TokenHash: c.Engine.Sum([]byte("token-of-signer")), Key: newKey(t, 3).Public(), Signed: true,
				Expires: noon.Add(time.Hour), Scopes: []api.Scope{api.ScopeExchange}},
			api.System{Name: "both", TokenHash: c.Engine.Sum([]byte("token-of-both")), Key: newKey(t, 4).Public(),
				Expires: noon.Add(time.Hour), Scopes: []api.Scope{api.ScopeCatalogue}},
			api.System{Name: "gone", Key: newKey(t, 5).Public(), Expires: noon, Scopes: []api.Scope{api.ScopeExchange}})
	}
}

// signedRequest is a request as the server gets it; headers come in pairs and
// are set before it is signed.
func signedRequest(t testing.TB, key *gm.PrivateKey, p httpsig.Params, method, target, body string, headers ...string) *http.Request {
	t.Helper()
	out, err := http.NewRequestWithContext(t.Context(), method, "https://node.example"+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		out.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		out.Header.Set(headers[i], headers[i+1])
	}
	if err := httpsig.Sign(gm.Emmansun(), httpsig.NewKey(gm.Emmansun(), key), p, out, []byte(body)); err != nil {
		t.Fatal(err)
	}
	in := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	in.Host, in.Header = "node.example", out.Header
	return in
}

func by(system string, nonce int) httpsig.Params {
	return httpsig.Params{KeyID: system, Created: noon, Expires: noon.Add(time.Minute), Nonce: fmt.Sprintf("nonce-%016d", nonce)}
}

func (r *rig) serve(t testing.TB, req *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	validate(t, req, w)
	return w
}

func TestSignedQuestion(t *testing.T) {
	t.Parallel()
	r := newRig(t, withKeys(t))
	send := func(nonce int) *httptest.ResponseRecorder {
		return r.serve(t, signedRequest(t, newKey(t, 3), by("signer", nonce), "POST", "/api/v1/exchanges", question, "Idempotency-Key", "key-0000-0001"))
	}
	if w := send(1); w.Code != http.StatusOK || r.system != "signer" || r.key != "key-0000-0001" || string(r.question.Holder) != "minzheng" {
		t.Fatalf("%d as %q with key %q: %s", w.Code, r.system, r.key, w.Body)
	}
	if w := send(1); w.Code != http.StatusUnauthorized || problemOf(t, w).Code != exchange.CodeReplay || r.asked != 1 {
		t.Errorf("the same again: %d, asked %d times: %s", w.Code, r.asked, w.Body)
	}
	if w := send(2); w.Code != http.StatusOK || r.asked != 2 || r.key != "key-0000-0001" {
		t.Errorf("a retry with a new nonce: %d: %s", w.Code, w.Body)
	}
	if w := r.serve(t, signedRequest(t, newKey(t, 4), by("both", 1), "GET", "/api/v1/catalogue?limit=1", "")); w.Code != http.StatusOK {
		t.Errorf("a signed GET: %d: %s", w.Code, w.Body)
	}
	if w := r.call(t, "GET", "/api/v1/catalogue", "", "Authorization", "Bearer token-of-both"); w.Code != http.StatusOK {
		t.Errorf("a token where both are allowed: %d: %s", w.Code, w.Body)
	}
}

func TestSignedRefused(t *testing.T) {
	t.Parallel()
	const ask = "/api/v1/exchanges"
	good := func(t *testing.T, key *gm.PrivateKey, p httpsig.Params) *http.Request {
		return signedRequest(t, key, p, "POST", ask, question, "Idempotency-Key", "key-0000-0001")
	}
	later := func(d time.Duration) httpsig.Params {
		p := by("signer", 1)
		p.Created, p.Expires = noon.Add(d), noon.Add(d+time.Minute)
		return p
	}
	for name, c := range map[string]struct {
		request func(t *testing.T) *http.Request
		status  int
		code    exchange.Code
	}{
		"a token as well": {func(t *testing.T) *http.Request {
			req := good(t, newKey(t, 3), by("signer", 1))
			req.Header.Set("Authorization", "Bearer "+token)
			return req
		}, 401, exchange.CodeCredentials},
		"a token and half a signature": {func(t *testing.T) *http.Request {
			req := good(t, newKey(t, 3), by("signer", 1))
			req.Header.Del("Signature")
			req.Header.Set("Authorization", "Bearer "+token)
			return req
		}, 401, exchange.CodeCredentials},
		"its token only": {func(t *testing.T) *http.Request {
			req := httptest.NewRequestWithContext(t.Context(), "POST", ask, strings.NewReader(question))
			req.Header.Set("Authorization", "Bearer token-of-signer")
			return req
		}, 401, exchange.CodeCredentials},
		"half a signature": {func(t *testing.T) *http.Request {
			req := good(t, newKey(t, 3), by("signer", 1))
			req.Header.Del("Signature")
			return req
		}, 401, exchange.CodeSignature},
		"another's key":    {func(t *testing.T) *http.Request { return good(t, newKey(t, 4), by("signer", 1)) }, 401, exchange.CodeSignature},
		"unknown system":   {func(t *testing.T) *http.Request { return good(t, newKey(t, 3), by("nobody", 1)) }, 401, exchange.CodeCredentials},
		"without a key":    {func(t *testing.T) *http.Request { return good(t, newKey(t, 3), by("portal", 1)) }, 401, exchange.CodeCredentials},
		"access has ended": {func(t *testing.T) *http.Request { return good(t, newKey(t, 5), by("gone", 1)) }, 401, exchange.CodeCredentials},
		"no scope":         {func(t *testing.T) *http.Request { return good(t, newKey(t, 4), by("both", 1)) }, 403, exchange.CodeScope},
		"from the future":  {func(t *testing.T) *http.Request { return good(t, newKey(t, 3), later(2*time.Minute)) }, 401, exchange.CodeExpired},
		"too old":          {func(t *testing.T) *http.Request { return good(t, newKey(t, 3), later(-2*time.Minute)) }, 401, exchange.CodeExpired},
		"before the start": {func(t *testing.T) *http.Request { return good(t, newKey(t, 3), later(-30*time.Second)) }, 503, exchange.CodeBusy},
		"another host": {func(t *testing.T) *http.Request {
			req := good(t, newKey(t, 3), by("signer", 1))
			req.Host = "other.example"
			return req
		}, 401, exchange.CodeSignature},
		"another body": {func(t *testing.T) *http.Request {
			req := good(t, newKey(t, 3), by("signer", 1))
			req.Body = http.NoBody
			return req
		}, 401, exchange.CodeSignature},
		"another key of idempotency": {func(t *testing.T) *http.Request {
			req := good(t, newKey(t, 3), by("signer", 1))
			req.Header.Set("Idempotency-Key", "key-0000-0002")
			return req
		}, 401, exchange.CodeSignature},
		"another route": {func(t *testing.T) *http.Request {
			req := good(t, newKey(t, 3), by("signer", 1))
			req.RequestURI, req.URL.Path = "/api/v1/authorities", "/api/v1/authorities"
			return req
		}, 401, exchange.CodeSignature},
		"too large": {func(t *testing.T) *http.Request {
			return signedRequest(t, newKey(t, 3), by("signer", 1), "POST", ask, strings.Repeat(" ", 64<<10)+question, "Idempotency-Key", "key-0000-0001")
		}, 413, exchange.CodeTooLarge},
		"too large, unsigned": {func(t *testing.T) *http.Request {
			req := signedRequest(t, newKey(t, 4), by("signer", 1), "POST", ask, question)
			req.Body = unread{t}
			return req
		}, 401, exchange.CodeSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, withKeys(t))
			w := r.serve(t, c.request(t))
			if w.Code != c.status || problemOf(t, w).Code != c.code || r.asked != 0 {
				t.Errorf("%d, asked %d times: %s", w.Code, r.asked, w.Body)
			}
		})
	}
}

// unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a stranger was read")
	return 0, errors.New("read")
}
func (u unread) Close() error { return nil }

func TestConfigOfKeys(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*api.Config){
		"must sign without key":  func(c *api.Config) { c.Systems[0].Signed = true },
		"neither token nor key":  func(c *api.Config) { c.Systems[0].TokenHash = gm.Digest{} },
		"one key for two":        func(c *api.Config) { c.Systems[0].Key = newKey(t, 3).Public() },
		"a key without any host": func(c *api.Config) { c.Host = nil },
	} {
		r := newRig(t) // for its fakes
		var cfg api.Config
		newRig(t, withKeys(t), func(c *api.Config) { cfg = *c })
		cfg.Exchanges = r
		change(&cfg)
		if _, err := api.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestRefusalsHaveCodes: every kind of package httpsig has a stable code, and
// only what may pass is worth another try.
func TestRefusalsHaveCodes(t *testing.T) {
	t.Parallel()
	for kind, want := range map[httpsig.Kind]exchange.Error{
		httpsig.Malformed:  {Kind: exchange.Unauthenticated, Code: exchange.CodeSignature},
		httpsig.Unsigned:   {Kind: exchange.Unauthenticated, Code: exchange.CodeCredentials},
		httpsig.Coverage:   {Kind: exchange.Unauthenticated, Code: exchange.CodeSignature},
		httpsig.Expired:    {Kind: exchange.Unauthenticated, Code: exchange.CodeExpired},
		httpsig.Replayed:   {Kind: exchange.Unauthenticated, Code: exchange.CodeReplay},
		httpsig.UnknownKey: {Kind: exchange.Unauthenticated, Code: exchange.CodeCredentials},
		httpsig.Digest:     {Kind: exchange.Unauthenticated, Code: exchange.CodeSignature},
		httpsig.Signature:  {Kind: exchange.Unauthenticated, Code: exchange.CodeSignature},
		httpsig.Later:      {Kind: exchange.Unavailable, Code: exchange.CodeBusy},
	} {
		if got := api.Unverified(&httpsig.Error{Kind: kind, Msg: "why"}); got.Kind != want.Kind || got.Code != want.Code || got.Msg != "why" {
			t.Errorf("%s: %s %s", kind, got.Kind, got.Code)
		}
	}
}
