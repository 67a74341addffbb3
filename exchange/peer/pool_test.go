package peer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/exchange"
	"xinqiao/ledger"
)

// pipes is a network in memory that counts connections. Time in a synctest bubble
// passes over it, as it would not over sockets.
type pipes struct {
	accept chan net.Conn
	done   chan struct{}
	once   sync.Once
	dials  atomic.Int32
	open   atomic.Int32
	most   atomic.Int32
}

func newPipes() *pipes { return &pipes{accept: make(chan net.Conn), done: make(chan struct{})} }

type counted struct {
	net.Conn
	once   sync.Once
	closed func()
}

func (c *counted) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}

func (p *pipes) dial(ctx context.Context, _ string, _ exchange.Dept) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.accept <- far:
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.dials.Add(1)
	now := p.open.Add(1)
	for most := p.most.Load(); now > most && !p.most.CompareAndSwap(most, now); most = p.most.Load() {
	}
	return &counted{Conn: near, closed: func() { p.open.Add(-1) }}, nil
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (*pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// overPipes starts a node called minzheng whose every caller is zhujian, and a
// client of it; stop ends both.
func overPipes(t *testing.T, b *backend, perDept int) (p *pipes, c *Client, stop func()) {
	t.Helper()
	p = newPipes()
	s := NewServer(ServerConfig{Asked: b, Appender: b, Log: slog.New(slog.DiscardHandler), PerDept: perDept,
		PeerOf: func(net.Conn) (exchange.Dept, bool) { return "zhujian", true }})
	done := make(chan error, 1)
	go func() { done <- s.Serve(p) }()
	c = NewClient(ClientConfig{Dial: p.dial, Address: func(exchange.Dept) (string, bool) { return "minzheng", true }})
	return p, c, func() {
		c.Close()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

// TestConnectionsAreBounded: more calls at once than a department may have
// connections wait for one, and most of these end when the rush is over.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const calls, bound, kept = 300, 128, 8
		leave := make(chan struct{})
		var running atomic.Int32
		p, c, stop := overPipes(t, &backend{answer: func(context.Context, exchange.Dept, []byte) ([]byte, error) {
			running.Add(1)
			<-leave
			return nil, nil
		}}, calls)
		defer stop()
		var all sync.WaitGroup
		for range calls {
			all.Go(func() {
				if _, err := c.Ask(t.Context(), "minzheng", nil); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := running.Load(); n != bound || p.open.Load() != bound {
			t.Errorf("%d calls run over %d connections, want %d", n, p.open.Load(), bound)
		}
		close(leave)
		all.Wait()
		synctest.Wait()
		if p.most.Load() != bound || p.open.Load() > kept {
			t.Errorf("%d connections at most, %d are kept", p.most.Load(), p.open.Load())
		}
	})
}

// TestIdleConnectionsEnd: a connection that nobody uses ends by itself, at the
// caller's side first, so that no request meets a server that is closing.
func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, c, stop := overPipes(t, &backend{propose: func(context.Context, []byte) error { return nil }}, 0)
		defer stop()
		for range 3 {
			if err := c.Forward(t.Context(), "minzheng", []byte("frame")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Second)
			synctest.Wait()
			if p.open.Load() != 1 || p.dials.Load() != 1 {
				t.Fatalf("%d of %d connections are open between two calls", p.open.Load(), p.dials.Load())
			}
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if p.open.Load() != 0 {
			t.Error("the idle connection is still open")
		}
		// Whoever connects and then says nothing is not waited for either.
		silent, err := p.dial(t.Context(), "", "minzheng")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(start) > 10*time.Second {
			t.Errorf("a silent caller is left after %s with %v", time.Since(start), err)
		}
		silent.Close()
	})
}

// dying is a connection whose later writes fail after some bytes of them.
type dying struct {
	net.Conn
	left atomic.Int64
}

func (d *dying) Write(p []byte) (int, error) {
	if left := d.left.Load(); int64(len(p)) > left {
		n, _ := d.Conn.Write(p[:left])
		d.left.Store(0)
		return n, errors.New("connection reset by peer")
	}
	n, err := d.Conn.Write(p)
	d.left.Add(int64(-n))
	return n, err
}

// TestDeadConnections: a kept connection that turns out to be dead costs nothing
// as long as no byte of the request went into it: the request takes another. After
// the first byte it is not sent again, because the other node may have read it.
func TestDeadConnections(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		left  int64 // bytes that the kept connection still takes
		gone  bool  // the node cannot be reached again
		dials int32
		want  error
	}{
		"dead before the first byte": {0, false, 2, nil},
		"dead, and the node gone":    {0, true, 2, ledger.ErrNotProposed},
		"dead within the head":       {20, false, 1, ledger.ErrUndetermined},
		"dead within the body":       {1 << 10, false, 1, ledger.ErrUndetermined},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var proposed, dials atomic.Int32
			h := serve(t, &backend{propose: func(context.Context, []byte) error { proposed.Add(1); return nil }}, nil)
			var first *dying
			c := NewClient(ClientConfig{Address: func(exchange.Dept) (string, bool) { return h.addr, true },
				Dial: func(ctx context.Context, addr string, d exchange.Dept) (net.Conn, error) {
					again := dials.Add(1) > 1
					if again && tc.gone {
						return nil, errors.New("no route to host")
					}
					raw, err := tcpDial(ctx, addr, d)
					if again || err != nil {
						return raw, err
					}
					first = &dying{Conn: raw}
					first.left.Store(1 << 30)
					return first, nil
				}})
			defer c.Close()
			if err := c.Forward(t.Context(), "minzheng", []byte("frame")); err != nil {
				t.Fatal(err)
			}
			first.left.Store(tc.left)
			err := c.Forward(t.Context(), "minzheng", make([]byte, 8<<10))
			if !errors.Is(err, tc.want) || (tc.want == nil) != (err == nil) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if dials.Load() != tc.dials {
				t.Errorf("%d dials, want %d", dials.Load(), tc.dials)
			}
			if tc.want == nil && proposed.Load() != 2 || tc.want != nil && proposed.Load() != 1 {
				t.Errorf("the other node was handed %d frames", proposed.Load())
			}
		})
	}
}

// TestMetered: once a connection has said that nothing was sent, nothing is.
func TestMetered(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go io.Copy(io.Discard, far)
	m := &metered{Conn: near}
	m.begin()
	if _, err := m.Write([]byte("x")); err != nil || m.untouched() {
		t.Errorf("after a byte: %v", err)
	}
	m.begin()
	if !m.untouched() {
		t.Error("nothing was written for the next request")
	}
	if n, err := m.Write([]byte("late")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("a late write: %d bytes, %v", n, err)
	}
}

// TestNodeGoneAndBack: a node that has restarted is reached again by the first
// call, although the connections to its past self are dead.
func TestNodeGoneAndBack(t *testing.T) {
	t.Parallel()
	b := &backend{propose: func(context.Context, []byte) error { return nil }}
	before, after := serve(t, b, nil), serve(t, b, nil)
	addr := before.addr
	c := NewClient(ClientConfig{Dial: tcpDial, Address: func(exchange.Dept) (string, bool) { return addr, true }})
	defer c.Close()
	if err := c.Forward(t.Context(), "minzheng", []byte("frame")); err != nil {
		t.Fatal(err)
	}
	if err := before.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	addr = after.addr
	// The news that the connection has ended may still be on its way to this end. A
	// frame that went into it before is undetermined, and said so; none is lost.
	var err error
	for range 100 {
		if err = c.Forward(t.Context(), "minzheng", []byte("frame")); err == nil {
			return
		}
		if !errors.Is(err, ledger.ErrUndetermined) {
			break
		}
	}
	t.Errorf("the node that is back: %v", err)
}
