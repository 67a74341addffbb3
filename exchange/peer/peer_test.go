package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
)

var (
	_ ledger.Witnesses = (*Client)(nil)
	_ Witness          = (*ledger.Ledger)(nil)
)

// backend plays broker, replica and ledger.
type backend struct {
	answer  func(ctx context.Context, from exchange.Dept, request []byte) ([]byte, error)
	propose func(ctx context.Context, frame []byte) error
	note    []byte
}

func (b *backend) Answer(ctx context.Context, from exchange.Dept, request []byte) ([]byte, error) {
	return b.answer(ctx, from, request)
}

func (b *backend) ProposeLocal(ctx context.Context, frame []byte) error { return b.propose(ctx, frame) }

func (b *backend) Cosign(_ context.Context, size uint64, root gm.Digest) (checkpoint.Cosignature, error) {
	if size == 13 {
		return checkpoint.Cosignature{}, &exchange.Error{Kind: exchange.Conflict, Code: exchange.CodeConflict, Msg: "smaller"}
	}
	c := checkpoint.Cosignature{Name: "minzheng", Time: time.Unix(int64(size), 0).UTC(), KeyHash: [4]byte{1, 2, 3, 4}}
	copy(c.Sig[:], root[:])
	return c, nil
}

func (b *backend) Accept(_ context.Context, note []byte) error {
	b.note = bytes.Clone(note)
	return nil
}

type harness struct {
	addr   string
	server *Server
	client *Client
}

func tcpDial(ctx context.Context, addr string, _ exchange.Dept) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

// serve starts a node called minzheng whose every caller is zhujian.
func serve(t *testing.T, b *backend, change func(*ServerConfig)) *harness {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := ServerConfig{Asked: b, Appender: b, Witness: b, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Status: func() Status { return Status{Dept: "minzheng", Size: 7, Leader: "zhujian"} },
		PeerOf: func(net.Conn) (exchange.Dept, bool) { return "zhujian", true }}
	if change != nil {
		change(&cfg)
	}
	h := &harness{addr: l.Addr().String(), server: NewServer(cfg)}
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	h.client = clientFor(t, h.addr)
	return h
}

func clientFor(t *testing.T, addr string) *Client {
	t.Helper()
	c := NewClient(ClientConfig{Dial: tcpDial, Address: func(d exchange.Dept) (string, bool) { return addr, d == "minzheng" }})
	t.Cleanup(c.Close)
	return c
}

func TestCallsArriveAsTheyWereMade(t *testing.T) {
	t.Parallel()
	b := &backend{
		answer: func(_ context.Context, from exchange.Dept, request []byte) ([]byte, error) {
			return append([]byte(from+":"), request...), nil
		},
		propose: func(_ context.Context, frame []byte) error {
			if string(frame) != "frame" {
				return errors.New("another frame")
			}
			return nil
		},
	}
	h := serve(t, b, nil)
	big := bytes.Repeat([]byte("x"), maxAsk)
	for _, req := range [][]byte{[]byte("request"), nil, big} {
		got, err := h.client.Ask(t.Context(), "minzheng", req)
		if err != nil || string(got) != "zhujian:"+string(req) {
			t.Errorf("ask with %d bytes: %d bytes, %v", len(req), len(got), err)
		}
	}
	if err := h.client.Forward(t.Context(), "minzheng", []byte("frame")); err != nil {
		t.Errorf("forward: %v", err)
	}
	root := gm.Digest{9, 8, 7}
	want, _ := b.Cosign(t.Context(), 5, root)
	got, err := h.client.Cosign(t.Context(), "minzheng", 5, root)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("cosign: %v\n%s", err, diff)
	}
	if _, err := h.client.Cosign(t.Context(), "minzheng", 13, root); exchange.KindOf(err) != exchange.Conflict {
		t.Errorf("refused cosignature: %v", err)
	}
	if err := h.client.Publish(t.Context(), "minzheng", []byte("note\n")); err != nil || string(b.note) != "note\n" {
		t.Errorf("publish: %v, %q", err, b.note)
	}
	s, err := h.client.Status(t.Context(), "minzheng")
	if err != nil || s.Size != 7 || s.Leader != "zhujian" {
		t.Errorf("status: %+v, %v", s, err)
	}
}

func TestErrorsCrossWithoutTheirCause(t *testing.T) {
	t.Parallel()
	secret := errors.New("row 42 of /var/lib/citizens")
	sent := &exchange.Error{Kind: exchange.Denied, Code: exchange.DenyPurpose, Op: "broker.Answer", Msg: "no", Hint: "ask otherwise", Pointer: "/purpose",
		Reasons: []exchange.Reason{{Code: exchange.DenyPurpose, Article: "art. 4", Detail: "housing"}}, Err: secret}
	b := &backend{answer: func(_ context.Context, _ exchange.Dept, request []byte) ([]byte, error) {
		switch string(request) {
		case "deny":
			return nil, sent
		case "panic":
			panic(secret)
		case "long":
			return nil, &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Msg: strings.Repeat("x", maxFailure)}
		}
		return nil, secret
	}}
	h := serve(t, b, nil)
	_, err := h.client.Ask(t.Context(), "minzheng", []byte("deny"))
	want := *sent
	want.Op, want.Err = "peer.Ask", nil
	var got *exchange.Error
	if !errors.As(err, &got) || cmp.Diff(want, *got) != "" {
		t.Errorf("denied: %v\n%s", err, cmp.Diff(want, *got))
	}
	for _, req := range []string{"panic", "plain"} {
		_, err := h.client.Ask(t.Context(), "minzheng", []byte(req))
		if exchange.KindOf(err) != exchange.Internal || strings.Contains(err.Error(), "citizens") {
			t.Errorf("%s: %v", req, err)
		}
	}
	if _, err := h.client.Ask(t.Context(), "minzheng", []byte("long")); exchange.KindOf(err) != exchange.Invalid {
		t.Errorf("long explanation: %v", err)
	}
}

func TestForwardTellsNothingHappenedFromMayHave(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	answers := func(err error) *Client {
		return serve(t, &backend{propose: func(context.Context, []byte) error { return err }}, nil).client
	}
	nobody := serve(t, &backend{}, func(c *ServerConfig) {
		c.PeerOf = func(net.Conn) (exchange.Dept, bool) { return "", false }
	}).client
	noReplica := serve(t, &backend{}, func(c *ServerConfig) { c.Appender = nil }).client
	raw := func(answer string) *Client { return clientFor(t, rawServer(t, answer)) }
	full := "HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: 0\r\n\r\n"
	for name, c := range map[string]struct {
		client *Client
		want   error
	}{
		"committed":            {answers(nil), nil},
		"by hand":              {raw(full), nil},
		"not leader":           {answers(fmt.Errorf("%w: not leader", ledger.ErrNotProposed)), ledger.ErrNotProposed},
		"refused connection":   {clientFor(t, gone.Addr().String()), ledger.ErrNotProposed},
		"unknown caller":       {nobody, ledger.ErrNotProposed},
		"no replica":           {noReplica, ledger.ErrNotProposed},
		"leader does not know": {answers(ledger.ErrUndetermined), ledger.ErrUndetermined},
		"another error":        {answers(io.ErrUnexpectedEOF), ledger.ErrUndetermined},
		"dies before answer":   {raw(""), ledger.ErrUndetermined},
		"dies in the head":     {raw(full[:20]), ledger.ErrUndetermined},
		"dies in the body":     {raw("HTTP/1.1 503 Busy\r\nContent-Type: application/cbor\r\nContent-Length: 100\r\n\r\n\xa3"), ledger.ErrUndetermined},
		"not a node":           {raw("HTTP/1.1 503 Busy\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nbusy"), ledger.ErrUndetermined},
		"success of no node":   {raw("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nfine"), ledger.ErrUndetermined},
		"redirect":             {raw("HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), ledger.ErrUndetermined},
		"endless answer":       {raw("HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: 99999\r\n\r\n" + strings.Repeat("x", 99999)), ledger.ErrUndetermined},
		"not HTTP":             {raw("\x16\x01\x01\x00\x00"), ledger.ErrUndetermined},
	} {
		err := c.client.Forward(t.Context(), "minzheng", []byte("frame"))
		if !errors.Is(err, c.want) || c.want == ledger.ErrUndetermined && errors.Is(err, ledger.ErrNotProposed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := answers(nil).Forward(t.Context(), "unknown", []byte("frame")); !errors.Is(err, ledger.ErrNotProposed) {
		t.Errorf("no address: %v", err)
	}
	if err := answers(nil).Forward(t.Context(), "minzheng", make([]byte, maxFrame+1)); !errors.Is(err, ledger.ErrNotProposed) {
		t.Errorf("oversize frame: %v", err)
	}
	for _, d := range []exchange.Dept{"", "../x", "a b", exchange.Authority} {
		if _, err := answers(nil).Ask(t.Context(), d, nil); exchange.KindOf(err) != exchange.Invalid {
			t.Errorf("%q: %v", d, err)
		}
	}
}

// rawServer reads a request and sends answer, then closes.
func rawServer(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			for got := 0; !bytes.HasSuffix(buf[:got], []byte("\r\n\r\nframe")); {
				n, err := c.Read(buf[got:])
				if err != nil {
					break
				}
				got += n
			}
			_, _ = io.WriteString(c, answer)
			c.Close()
		}
	}()
	return l.Addr().String()
}

func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	h := serve(t, &backend{propose: func(ctx context.Context, _ []byte) error {
		entered <- struct{}{}
		<-leave
		return nil
	}}, nil)
	defer close(leave)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- h.client.Forward(ctx, "minzheng", []byte("frame")) }()
	<-entered
	cancel()
	if err := <-result; !errors.Is(err, ledger.ErrUndetermined) || !errors.Is(err, context.Canceled) {
		t.Errorf("given up while the leader works: %v", err)
	}
	if err := h.client.Forward(ctx, "minzheng", []byte("frame")); !errors.Is(err, ledger.ErrNotProposed) {
		t.Errorf("given up before it began: %v", err)
	}
}

func TestMalformedCallsAreRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	b := &backend{
		answer:  func(context.Context, exchange.Dept, []byte) ([]byte, error) { t.Error("asked"); return nil, nil },
		propose: func(context.Context, []byte) error { t.Error("proposed"); return nil },
	}
	h := serve(t, b, nil)
	post := func(method, route, typ string, body io.Reader) (exchange.Kind, int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+h.addr+route, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", typ)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, route, err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var p failure
		if err := canon.Unmarshal(raw, &p); err != nil {
			t.Errorf("%s %s: %v", method, route, err)
		}
		return p.Kind, resp.StatusCode
	}
	for name, c := range map[string]struct {
		method, route, typ, body string
		want                     exchange.Kind
	}{
		"GET":              {"GET", pathStatus, contentType, "", exchange.Invalid},
		"JSON":             {"POST", pathAsk, "application/json", "{}", exchange.Unsupported},
		"no such route":    {"POST", "/peer/v1/erase", contentType, "", exchange.NotFound},
		"path tricks":      {"POST", "/peer/v1/../v1/ask", contentType, "", exchange.NotFound},
		"cosign garbage":   {"POST", pathCosign, contentType, "\xff\xff", exchange.Invalid},
		"trailing bytes":   {"POST", pathCheckpoint, contentType, "\xa1\x01\x40\x00", exchange.Invalid},
		"note as a string": {"POST", pathCheckpoint, contentType, "\xa1\x01\x60", exchange.Invalid},
	} {
		if got, status := post(c.method, c.route, c.typ, strings.NewReader(c.body)); got != c.want || status != httpStatus(c.want) {
			t.Errorf("%s: %v, status %d", name, got, status)
		}
	}
	for route, limit := range map[string]int{pathAsk: maxAsk, pathFrame: maxFrame, pathCosign: maxSmall, pathCheckpoint: maxCheckpoint, pathStatus: maxSmall} {
		for name, body := range map[string]io.Reader{
			"known length": bytes.NewReader(make([]byte, limit+1)),
			"chunked":      io.MultiReader(bytes.NewReader(make([]byte, limit)), strings.NewReader("x")),
		} {
			if got, _ := post("POST", route, contentType, body); got != exchange.TooLarge {
				t.Errorf("%s, %s, one byte over: %v", route, name, got)
			}
		}
	}
}

func TestSlowAndTruncatedCallersHoldNothing(t *testing.T) {
	t.Parallel()
	b := &backend{answer: func(context.Context, exchange.Dept, []byte) ([]byte, error) { return []byte("ok"), nil }}
	h := serve(t, b, func(c *ServerConfig) { c.ReadTimeout, c.PerDept = 300*time.Millisecond, 2 })
	head := "POST " + pathAsk + " HTTP/1.1\r\nHost: x\r\nContent-Type: " + contentType + "\r\nContent-Length: 10\r\n\r\n"
	var conns []net.Conn
	for _, sent := range []string{"", "POST", head, head + "12345"} {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, sent); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	// All end by themselves, and then their places are free again.
	for i, c := range conns {
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) || isTimeout(err) {
			t.Errorf("connection %d stays open: %v", i, err)
		}
	}
	if got, err := h.client.Ask(t.Context(), "minzheng", nil); err != nil || string(got) != "ok" {
		t.Errorf("a good caller after them: %q, %v", got, err)
	}
	// A body that ends early is no request.
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, head+"12345")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(c); bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
		t.Errorf("answered a truncated request: %q", answer)
	}
}

func TestSlowAnswerIsNotCutByTheTimeForItsRequest(t *testing.T) {
	t.Parallel()
	const within = 50 * time.Millisecond
	h := serve(t, &backend{answer: func(ctx context.Context, _ exchange.Dept, _ []byte) ([]byte, error) {
		timer := time.NewTimer(6 * within)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return []byte("ok"), nil
		}
	}}, func(c *ServerConfig) { c.ReadTimeout = within })
	if got, err := h.client.Ask(t.Context(), "minzheng", []byte("request")); err != nil || string(got) != "ok" {
		t.Errorf("%q, %v", got, err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestOneDepartmentCannotTakeAllPlaces(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	next := exchange.Dept("zhujian")
	entered, leave := make(chan struct{}, 8), make(chan struct{})
	b := &backend{
		answer: func(ctx context.Context, from exchange.Dept, _ []byte) ([]byte, error) {
			if from == "zhujian" {
				entered <- struct{}{}
				<-leave
			}
			return nil, nil
		},
		propose: func(context.Context, []byte) error { return nil },
	}
	now := time.Unix(1_900_000_000, 0)
	h := serve(t, b, func(c *ServerConfig) {
		c.PerDept, c.FramesPerSecond = 3, 5
		c.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		c.PeerOf = func(net.Conn) (exchange.Dept, bool) { mu.Lock(); defer mu.Unlock(); return next, true }
	})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := h.client.Ask(t.Context(), "minzheng", nil); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		<-entered
	}
	_, err := h.client.Ask(t.Context(), "minzheng", nil)
	if e := exchange.AsError(err); e == nil || e.Kind != exchange.Unavailable || e.Code != exchange.CodeBusy {
		t.Errorf("fourth call: %v", err)
	}
	for range 5 { // the ledger's calls have places of their own
		if err := h.client.Forward(t.Context(), "minzheng", []byte("frame")); err != nil {
			t.Errorf("frame: %v", err)
		}
	}
	if err := h.client.Forward(t.Context(), "minzheng", []byte("frame")); !errors.Is(err, ledger.ErrNotProposed) {
		t.Errorf("sixth frame in a second: %v", err)
	}
	mu.Lock()
	now, next = now.Add(200*time.Millisecond), "renshe"
	mu.Unlock()
	if err := h.client.Forward(t.Context(), "minzheng", []byte("frame")); err != nil {
		t.Errorf("a fifth of a second later: %v", err)
	}
	if _, err := clientFor(t, h.addr).Ask(t.Context(), "minzheng", nil); err != nil {
		t.Errorf("another department: %v", err)
	}
	close(leave)
	wg.Wait()
	if _, err := h.client.Ask(t.Context(), "minzheng", nil); err != nil {
		t.Errorf("places are free again: %v", err)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	h := serve(t, &backend{}, nil)
	dials := 0
	c := NewClient(ClientConfig{Address: func(exchange.Dept) (string, bool) { return h.addr, true },
		Dial: func(ctx context.Context, addr string, d exchange.Dept) (net.Conn, error) {
			dials++
			if d != "minzheng" {
				t.Errorf("dialled %q", d)
			}
			return tcpDial(ctx, addr, d)
		}})
	defer c.Close()
	for range 5 {
		if _, err := c.Status(t.Context(), "minzheng"); err != nil {
			t.Fatal(err)
		}
	}
	if dials != 1 {
		t.Errorf("%d dials for 5 calls", dials)
	}
	if _, err := c.Status(t.Context(), "minzheng"); err != nil {
		t.Fatal(err)
	}
}

func TestAnswersInAnothersNameAreNotTaken(t *testing.T) {
	t.Parallel()
	h := serve(t, &backend{}, nil)
	c := NewClient(ClientConfig{Dial: tcpDial, Address: func(exchange.Dept) (string, bool) { return h.addr, true }})
	defer c.Close()
	if got, err := c.Status(t.Context(), "renshe"); err == nil {
		t.Errorf("status %+v of another node", got)
	}
	if got, err := c.Cosign(t.Context(), "renshe", 5, gm.Digest{}); err == nil {
		t.Errorf("cosignature of %s", got.Name)
	}
}
