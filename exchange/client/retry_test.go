package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
	"xinqiao/exchange/client"
)

var unknown = &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeUnknownResult}

func TestSameKeyUntilItEnds(t *testing.T) {
	t.Parallel()
	b := &broker{answer: allowed, errs: []error{busy, unknown, busy, busy, busy, busy, busy}}
	b.answer.ID = someID // with it, an unknown result is a 202
	a, err := dial(t, b).Ask(t.Context(), "key-0000-0001", question)
	if err != nil || a.Outcome != exchange.Allowed {
		t.Fatal(a.Outcome, err)
	}
	var want []string
	for range 8 {
		want = append(want, "key-0000-0001")
	}
	if diff := cmp.Diff(want, b.seen()); diff != "" {
		t.Error(diff)
	}
}

func TestRepeatedCalls(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*client.Client, context.Context) error{
		"register": func(c *client.Client, ctx context.Context) error {
			_, err := c.Register(ctx, "key-0000-0001", form)
			return err
		},
		"withdraw": func(c *client.Client, ctx context.Context) error {
			_, err := c.Withdraw(ctx, someID, "subject-request")
			return err
		},
		"checkpoint": func(c *client.Client, ctx context.Context) error { _, err := c.Checkpoint(ctx); return err },
		"search": func(c *client.Client, ctx context.Context) error {
			_, _, err := c.Search(ctx, exchange.LedgerQuery{})
			return err
		},
	} {
		b := &broker{errs: []error{busy, unknown, busy}}
		if err := do(dial(t, b), t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := b.next(); err != nil {
			t.Errorf("%s: not tried until it ended", name)
		}
		b.errs = []error{busy}
		if err := do(dial(t, b).Once(), t.Context()); exchange.KindOf(err) != exchange.Unavailable {
			t.Errorf("%s once: %v", name, err)
		}
	}
}

func TestWhatIsFinalIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, kind := range []exchange.Kind{exchange.Internal, exchange.Invalid, exchange.Denied, exchange.NotFound, exchange.Conflict, exchange.Integrity} {
		b := &broker{answer: allowed, errs: []error{&exchange.Error{Kind: kind, Code: exchange.CodeNotFound, Msg: "final"}}}
		if _, err := dial(t, b).Ask(t.Context(), client.NewKey(), question); exchange.KindOf(err) != kind || len(b.seen()) != 1 {
			t.Errorf("%v: %d attempts, %v", kind, len(b.seen()), err)
		}
	}
}

// wire counts requests and breaks the first ones off, before or after the node
// has acted.
type wire struct {
	http.Handler
	mu    sync.Mutex
	after bool // break off once the node has acted
	left  int
	sent  int
}

func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.sent++
	broken := w.left > 0
	w.left--
	w.mu.Unlock()
	if broken && w.after {
		w.Handler.ServeHTTP(void{}, r)
	}
	if broken {
		panic(http.ErrAbortHandler)
	}
	w.Handler.ServeHTTP(rw, r)
}

type void struct{}

func (void) Header() http.Header         { return http.Header{} }
func (void) Write(p []byte) (int, error) { return len(p), nil }
func (void) WriteHeader(int)             {}

func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		b := &broker{answer: allowed}
		w := &wire{Handler: handler(t, b), left: 3, after: after}
		a, err := dialHandler(t, w, token).Ask(t.Context(), "key-0000-0001", question)
		if err != nil || a.Outcome != exchange.Allowed {
			t.Errorf("%v %v", a.Outcome, err)
		}
		for _, k := range b.seen() {
			if k != "key-0000-0001" {
				t.Errorf("key %q", k)
			}
		}
		w = &wire{Handler: handler(t, &broker{}), left: 1}
		if _, err := dialHandler(t, w, token).Once().Checkpoint(t.Context()); exchange.KindOf(err) != exchange.Unavailable || w.sent != 1 {
			t.Errorf("a read: %d sent, %v", w.sent, err)
		}
		w = &wire{Handler: handler(t, &broker{}), left: 1, after: after}
		if _, err := dialHandler(t, w, token).Once().Withdraw(t.Context(), someID, "subject-request"); exchange.KindOf(err) != exchange.Undetermined || w.sent != 1 {
			t.Errorf("a write: %d sent, %v", w.sent, err)
		}
	}
}

// A kept connection that the node has closed makes net/http send again by
// itself; Once must not.
func TestOnceOnAKeptConnection(t *testing.T) {
	t.Parallel()
	w := &wire{Handler: handler(t, &broker{answer: allowed})}
	once := dialHandler(t, w, token).Once()
	if _, err := once.Ask(t.Context(), "key-0000-0001", question); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.left = 1
	w.mu.Unlock()
	if _, err := once.Ask(t.Context(), "key-0000-0001", question); exchange.KindOf(err) != exchange.Undetermined || w.sent != 2 {
		t.Errorf("%d sent, %v", w.sent, err)
	}
}

// When one attempt may have had its effect, a later "nothing happened" must not
// make the caller believe that the whole call had none.
func TestDoubtIsNotForgotten(t *testing.T) {
	t.Parallel()
	b := &broker{errs: []error{unknown, busy, busy, busy}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, waits := dial(t, b), 0
	c.SetWait(func(ctx context.Context, _ time.Duration) error {
		if waits++; waits == 3 {
			cancel()
		}
		return ctx.Err()
	})
	_, err := c.Ask(ctx, "key-0000-0001", question)
	if exchange.KindOf(err) != exchange.Undetermined || len(b.seen()) != 3 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d attempts, %v", len(b.seen()), err)
	}
}

func TestContextEndsTheWait(t *testing.T) {
	t.Parallel()
	b := &broker{errs: []error{busy, busy, busy}}
	c := dial(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	c.SetWait(func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() })
	_, err := c.Ask(ctx, "key-0000-0001", question)
	if e := exchange.AsError(err); e.Kind != exchange.Unavailable || e.Code != exchange.CodeNoQuorum || len(b.seen()) != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d attempts, %v", len(b.seen()), err)
	}
	if _, err := c.Ask(ctx, "key-0000-0001", question); !errors.Is(err, context.Canceled) || len(b.seen()) != 1 {
		t.Errorf("%d attempts, %v", len(b.seen()), err)
	}
}

func TestContextEndsARequest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := dialHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // a server notices that a client has gone only once the body is read
		cancel()
		<-r.Context().Done()
	}), token)
	if _, err := c.Ask(ctx, client.NewKey(), question); exchange.KindOf(err) != exchange.Undetermined || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestHowLongItWaits(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{"": 200 * time.Millisecond, "7": 7 * time.Second, "-1": 200 * time.Millisecond,
		"soon": 200 * time.Millisecond, "99999999999": 30 * time.Second, "999999999999999999999": 200 * time.Millisecond} {
		ctx, cancel := context.WithCancel(t.Context())
		c := dialHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			reply(503, "application/problem+json", `{"status":503,"kind":"unavailable","code":"XQ-NODE-BUSY"}`)(w, nil)
		}), token)
		var got time.Duration
		c.SetWait(func(ctx context.Context, d time.Duration) error { got = d; cancel(); return ctx.Err() })
		if _, err := c.Checkpoint(ctx); exchange.KindOf(err) != exchange.Unavailable || got < want || got > want+want/4 {
			t.Errorf("%q: waits %v, want %v and up to a quarter more; %v", header, got, want, err)
		}
	}
}

func TestRealWaitEndsWithTheContext(t *testing.T) {
	t.Parallel()
	c := client.New("https://127.0.0.1:1", nil, token)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Checkpoint(ctx); exchange.KindOf(err) != exchange.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
