package client_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/httpsig"
	"xinqiao/exchange"
	"xinqiao/exchange/client"
)

// broken is a key that is not there.
type broken struct{ error }

func (b broken) Sign([]byte) ([]byte, error) { return nil, b.error }

func signer(t *testing.T) httpsig.Key { return httpsig.NewKey(gm.Emmansun(), testKey(t)) }

func testKey(t *testing.T) *gm.PrivateKey {
	t.Helper()
	scalar := [32]byte{31: 9}
	k, err := gm.NewPrivateKey(scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func dialSigned(t *testing.T, h http.Handler) *client.Client {
	t.Helper()
	url, pool := serve(t, h)
	c := client.NewSigned(url, pool, "signer", signer(t))
	c.SetClock(func() time.Time { return noon })
	c.SetWait(func(ctx context.Context, _ time.Duration) error { return ctx.Err() })
	return c
}

func TestSignedCalls(t *testing.T) {
	t.Parallel()
	b := &broker{answer: allowed, errs: []error{busy, busy}}
	c := dialSigned(t, handler(t, b))
	a, err := c.Ask(t.Context(), "key-0000-0001", question)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(allowed, a); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"key-0000-0001", "key-0000-0001", "key-0000-0001"}, b.seen()); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Answer(t.Context(), someID); err != nil {
		t.Errorf("a call without a body: %v", err)
	}
	if items, err := c.Catalogue(t.Context(), ""); err != nil || len(items) != 450 {
		t.Errorf("calls with a query: %d items, %v", len(items), err)
	}
}

// TestJustStarted: a node cannot tell what was signed before its start from a
// replay, so a client whose clock is slow signs again until it may.
func TestJustStarted(t *testing.T) {
	t.Parallel()
	b := &broker{answer: allowed}
	c := dialSigned(t, handler(t, b))
	var readings atomic.Int64
	c.SetClock(func() time.Time { return noon.Add(time.Duration(readings.Add(1)-4) * time.Second) })
	if a, err := c.Ask(t.Context(), "key-0000-0001", question); err != nil || a.ID != someID || readings.Load() != 4 {
		t.Errorf("%v, %v after %d readings of the clock, want 4", a.ID, err, readings.Load())
	}
}

// TestSentTwice has the way to the node deliver each first request a second
// time and lose the first response, as net/http does when a kept connection ends.
func TestSentTwice(t *testing.T) {
	t.Parallel()
	b := &broker{answer: allowed}
	node := handler(t, b)
	var doubled atomic.Bool
	c := dialSigned(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if doubled.CompareAndSwap(false, true) {
			raw, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			first := r.Clone(r.Context())
			first.Body, r.Body = io.NopCloser(strings.NewReader(string(raw))), io.NopCloser(strings.NewReader(string(raw)))
			node.ServeHTTP(lost{http.Header{}}, first)
		}
		node.ServeHTTP(w, r)
	}))
	a, err := c.Ask(t.Context(), "key-0000-0001", question)
	if err != nil || a.ID != someID {
		t.Fatal(a, err)
	}
	if diff := cmp.Diff([]string{"key-0000-0001", "key-0000-0001"}, b.seen()); diff != "" {
		t.Error(diff)
	}
	doubled.Store(false)
	if _, err := c.Once().Ask(t.Context(), "key-0000-0002", question); exchange.KindOf(err) != exchange.Undetermined {
		t.Errorf("with no second attempt: %v", err)
	}
}

// lost is a response that nobody gets.
type lost struct{ header http.Header }

func (l lost) Header() http.Header         { return l.header }
func (l lost) Write(b []byte) (int, error) { return len(b), nil }
func (l lost) WriteHeader(int)             {}

func TestSignedFailures(t *testing.T) {
	t.Parallel()
	b := &broker{answer: allowed}
	url, pool := serve(t, handler(t, b))
	pulled := errors.New("the token was pulled out")
	right := func() time.Time { return noon }
	for name, c := range map[string]struct {
		url    string
		pool   *x509.CertPool
		system string
		key    httpsig.Key
		now    func() time.Time
		kind   exchange.Kind
		code   exchange.Code
		cause  error
	}{
		"the key is away":  {url, pool, "signer", broken{pulled}, right, exchange.Unavailable, exchange.CodeKeys, pulled},
		"a wrong clock":    {url, pool, "signer", signer(t), func() time.Time { return noon.Add(time.Hour) }, exchange.Unauthenticated, exchange.CodeExpired, nil},
		"another's name":   {url, pool, "portal", signer(t), right, exchange.Unauthenticated, exchange.CodeCredentials, nil},
		"a malformed name": {url, pool, "Sig Ner", signer(t), right, exchange.Invalid, exchange.CodeField, nil},
		"a wrong address":  {"http://127.0.0.1", pool, "signer", signer(t), right, exchange.Invalid, exchange.CodeField, nil},
	} {
		cl := client.NewSigned(c.url, c.pool, c.system, c.key)
		cl.SetClock(c.now)
		_, err := cl.Ask(t.Context(), "key-0000-0001", question)
		e := exchange.AsError(err)
		if e.Kind != c.kind || e.Code != c.code || c.cause != nil && !errors.Is(err, c.cause) {
			t.Errorf("%s: %s %s: %v", name, e.Kind, e.Code, err)
		}
	}
	if len(b.seen()) != 0 {
		t.Errorf("the broker was asked: %v", b.seen())
	}
	if err := client.NewSigned(url, pool, "signer", nil); err == nil {
		t.Error("no client")
	} else if _, err := err.Ask(t.Context(), "key-0000-0001", question); exchange.KindOf(err) != exchange.Invalid {
		t.Errorf("without a key: %v", err)
	}
}
