package channel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"xinqiao/crypto/channel"
)

func TestDuplex(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode channel.Mode) {
		server, client := pair(t, mode)
		const size = 4 << 20
		pattern := make([]byte, size)
		rand.NewChaCha8([32]byte{1}).Read(pattern)
		var all sync.WaitGroup
		for _, c := range []*channel.Conn{server, client} {
			all.Go(func() {
				for sent, chunk := 0, 1; sent < size; chunk = chunk*3%50021 + 1 {
					n := min(chunk, size-sent)
					if _, err := c.Write(pattern[sent : sent+n]); err != nil {
						t.Errorf("write: %v", err)
						return
					}
					sent += n
				}
			})
			all.Go(func() {
				got := make([]byte, size)
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, pattern) {
					t.Errorf("read: equal %t, %v", bytes.Equal(got, pattern), err)
				}
			})
		}
		all.Wait()
	})
}

func TestCloseAndDeadlines(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode channel.Mode) {
		server, client := pair(t, mode)
		// A missed read deadline leaves the connection usable.
		client.SetReadDeadline(time.Now().Add(-time.Second))
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read after the deadline: %v", err)
		}
		client.SetReadDeadline(time.Time{})
		server.Write([]byte("late"))
		got := make([]byte, 4)
		if _, err := io.ReadFull(client, got); err != nil || string(got) != "late" {
			t.Errorf("read %q, %v", got, err)
		}
		// Close ends the peer's stream cleanly, and one's own blocked Read.
		blocked := make(chan error)
		go func() {
			_, err := server.Read(make([]byte, 1))
			blocked <- err
		}()
		server.Write([]byte("bye"))
		if err := server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-blocked; err == nil {
			t.Error("Read survived Close")
		}
		if rest, err := io.ReadAll(client); err != nil || string(rest) != "bye" {
			t.Errorf("after the peer closed: %q, %v", rest, err)
		}
		if err := server.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		if _, err := server.Write([]byte("x")); err == nil {
			t.Error("write after close succeeded")
		}
	})
}

// TestCloseDoesNotWaitForSlowReaders fills the peer's window first.
func TestCloseDoesNotWaitForSlowReaders(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode channel.Mode) {
		server, _ := pair(t, mode)
		server.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			if _, err := server.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		done := make(chan struct{})
		go func() {
			server.Close()
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Error("Close hangs on a peer that does not read")
		}
	})
}

// meddler forwards bytes between client and server and lets a test change them.
type meddler struct {
	addr   string
	client chan net.Conn
	server chan net.Conn
}

func newMeddler(t *testing.T, target string) meddler {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	m := meddler{l.Addr().String(), make(chan net.Conn, 1), make(chan net.Conn, 1)}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", target)
		if err != nil {
			c.Close()
			return
		}
		m.client <- c
		m.server <- s
		go io.Copy(s, c)
		io.Copy(c, s)
	}()
	return m
}

// TestOnTheWire has somebody between the peers, after an honest handshake.
func TestOnTheWire(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	l := listen(t, x.endpoint(t, x.party(t, "minzheng")))
	e := x.endpoint(t, x.party(t, "zhujian"))
	for name, test := range map[string]struct {
		attack func(toServer net.Conn)
		want   error
	}{
		"cut":                {func(c net.Conn) { c.Close() }, io.ErrUnexpectedEOF},
		"cut within record":  {func(c net.Conn) { c.Write([]byte{23, 1, 1, 0, 80, 1}); c.Close() }, io.ErrUnexpectedEOF},
		"renegotiation":      {func(c net.Conn) { c.Write(record(22, make([]byte, 80))) }, channel.ErrProtocol},
		"change cipher spec": {func(c net.Conn) { c.Write(record(20, []byte{1})) }, channel.ErrProtocol},
		"oversize record":    {func(c net.Conn) { c.Write([]byte{23, 1, 1, 0xff, 0xff}) }, channel.ErrProtocol},
		"empty record":       {func(c net.Conn) { c.Write(record(23, nil)) }, channel.ErrProtocol},
		"other version":      {func(c net.Conn) { c.Write(versioned(23, 0x0303, make([]byte, 80))) }, channel.ErrProtocol},
		"forged data":        {func(c net.Conn) { c.Write(record(23, make([]byte, 80))) }, nil},
		"odd forged data":    {func(c net.Conn) { c.Write(record(23, make([]byte, 7))) }, nil},
		"forged farewell":    {func(c net.Conn) { c.Write(record(21, []byte{1, 0})); c.Close() }, nil},
	} {
		m := newMeddler(t, l.Addr().String())
		client, err := e.Dial(t.Context(), m.addr, "minzheng")
		if err != nil {
			t.Fatal(err)
		}
		server := accepted(t, l)
		server.SetReadDeadline(time.Now().Add(10 * time.Second))
		client.Write([]byte("good"))
		if _, err := io.ReadFull(server, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		test.attack(<-m.server)
		n, err := server.Read(make([]byte, 100))
		if n != 0 || err == nil || err == io.EOF || isTimeout(err) {
			t.Errorf("%s: read %d bytes, %v", name, n, err)
		}
		if test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if _, again := server.Read(make([]byte, 100)); again == nil || again == io.EOF {
			t.Errorf("%s: the next read says %v", name, again)
		}
		client.Close()
		(<-m.client).Close()
	}
	go echo(l)
	ping(t, e, l.Addr().String(), "minzheng")
}

type peerKey struct{}

func TestHTTP(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	l := listen(t, x.endpoint(t, x.party(t, "minzheng")))
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, ok := r.Context().Value(peerKey{}).(*channel.Conn)
			if !ok {
				http.Error(w, "no channel", http.StatusInternalServerError)
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			fmt.Fprintf(w, "%s %s %d", c.Peer().Dept, r.RemoteAddr, len(body))
		}),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, peerKey{}, c) },
		ReadHeaderTimeout: 10 * time.Second,
	}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	e := x.endpoint(t, x.party(t, "zhujian"))
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return e.Dial(ctx, l.Addr().String(), "minzheng")
	}}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	seen := ""
	for i := range 5 {
		resp, err := client.Post("https://minzheng.xinqiao/", "text/plain", bytes.NewReader(make([]byte, 100_000*i)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var dept, remote string
		var n int
		if _, scanErr := fmt.Sscan(string(body), &dept, &remote, &n); err != nil || scanErr != nil || dept != "zhujian" || n != 100_000*i {
			t.Fatalf("answer %q, %v", body, err)
		}
		if seen != "" && seen != remote {
			t.Error("the connection was not kept alive")
		}
		seen = remote
	}
}

// streamLayer is the shape that Raft's network transport asks for.
type streamLayer struct {
	net.Listener
	endpoint *channel.Endpoint
	dept     map[string]string // by address
}

func (s streamLayer) Dial(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.endpoint.Dial(ctx, addr, s.dept[addr])
}

func TestStreamLayer(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	var layers []streamLayer
	dept := map[string]string{}
	for _, name := range []string{"minzheng", "zhujian", "gongan"} {
		e := x.endpoint(t, x.party(t, name))
		l := listen(t, e)
		dept[l.Addr().String()] = name
		layers = append(layers, streamLayer{l, e, dept})
		go echo(l)
	}
	var all sync.WaitGroup
	for _, from := range layers {
		for addr := range dept {
			all.Go(func() {
				c, err := from.Dial(addr, time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				for i := range 50 {
					exchangeBytes(t, c, fmt.Sprintf("entry %d of %s", i, from.endpoint.Dept()))
				}
			})
		}
	}
	all.Wait()
	// A closed layer accepts no more and leaves nothing behind.
	layers[0].Close()
	if _, err := layers[0].Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}
