package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// logEvery keeps a flood of bad peers out of the log.
	logEvery   = time.Second
	retryAfter = 50 * time.Millisecond // when accepting fails, out of file descriptors for example
)

// Listen listens on a TCP address. Its Accept returns only *Conn, admitted and
// ready. At most MaxHandshakes are under way; when all places are taken, the peer
// that has kept this side waiting longest in its handshake, and for a fifth of
// HandshakeTimeout at least, is cut off. Errors of a single peer are logged, once
// a second at most, and never end the listener.
func (e *Endpoint) Listen(addr string) (net.Listener, error) {
	inner, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("channel: %w", err)
	}
	l := &listener{
		endpoint: e,
		inner:    inner,
		patience: e.cfg.HandshakeTimeout / 5,
		ready:    make(chan *Conn),
		closing:  make(chan struct{}),
		freed:    make(chan struct{}, 1),
		pending:  map[*attempt]struct{}{},
	}
	l.work.Go(l.run)
	return l, nil
}

type listener struct {
	endpoint *Endpoint
	inner    net.Listener
	ready    chan *Conn
	closing  chan struct{}
	once     sync.Once
	work     sync.WaitGroup
	patience time.Duration // how long a peer may leave us waiting when others want its place
	freed    chan struct{} // a place may be free

	// mu protects what follows.
	mu         sync.Mutex
	pending    map[*attempt]struct{}
	logged     time.Time
	suppressed int
}

// Addr returns the address listened on.
func (l *listener) Addr() net.Addr { return l.inner.Addr() }

// Accept returns the next admitted peer.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.closing:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Close stops listening, ends handshakes under way and waits for them.
// Connections that were accepted stay.
func (l *listener) Close() (err error) {
	l.once.Do(func() {
		close(l.closing)
		err = l.inner.Close()
		l.mu.Lock()
		for a := range l.pending {
			a.Close()
		}
		l.mu.Unlock()
	})
	l.work.Wait()
	return err
}

func (l *listener) run() {
	for {
		raw, err := l.inner.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.report(slog.LevelWarn, "accept failed", "error", err.Error())
			select {
			case <-time.After(retryAfter):
				continue
			case <-l.closing:
				return
			}
		}
		a := &attempt{Conn: raw}
		if !l.enter(a) {
			raw.Close()
			return
		}
		l.work.Go(func() { l.serve(a) })
	}
}

// serve takes one peer through the handshake and hands it to Accept.
func (l *listener) serve(a *attempt) {
	defer l.leave(a)
	start := time.Now()
	var c *Conn
	err := a.SetDeadline(start.Add(l.endpoint.cfg.HandshakeTimeout))
	if err == nil {
		c, err = l.endpoint.handshake(a, "", false)
	}
	if err == nil {
		err = a.SetDeadline(time.Time{})
	}
	if err == nil {
		err = l.endpoint.keep(c)
	}
	l.endpoint.conns.count(err)
	if err != nil {
		a.Close()
		select {
		case <-l.closing:
		default:
			l.report(slog.LevelInfo, "peer turned away", "remote", a.RemoteAddr().String(), "error", err.Error(),
				"seconds", time.Since(start).Seconds())
		}
		return
	}
	select {
	case l.ready <- c:
	case <-l.closing:
		l.endpoint.conns.remove(c)
		a.Close()
	}
}

// enter waits for a place and reports false when the listener closes.
func (l *listener) enter(a *attempt) bool {
	for {
		wait, ok := l.tryEnter(a)
		if ok {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-l.freed:
		case <-timer.C:
		case <-l.closing:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// tryEnter takes a place, or cuts off the peer that has kept us waiting longest, or
// says when to look again. Peers for whom we are still computing keep their place.
func (l *listener) tryEnter(a *attempt) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closing:
		return l.patience, false // enter sees it too
	default:
	}
	if len(l.pending) < l.endpoint.cfg.MaxHandshakes {
		l.pending[a] = struct{}{}
		return 0, true
	}
	var slowest *attempt
	since := int64(0)
	for p := range l.pending {
		if w := p.waiting.Load(); w != 0 && !p.shed.Load() && (slowest == nil || w < since) {
			slowest, since = p, w
		}
	}
	if slowest == nil {
		return l.patience, false
	}
	if wait := l.patience - time.Since(time.Unix(0, since)); wait > 0 {
		return wait, false
	}
	slowest.shed.Store(true)
	slowest.Close()
	return l.patience, false
}

func (l *listener) leave(a *attempt) {
	l.mu.Lock()
	delete(l.pending, a)
	l.mu.Unlock()
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// report logs one line a second and counts the others.
func (l *listener) report(level slog.Level, msg string, args ...any) {
	l.mu.Lock()
	now := time.Now()
	if now.Sub(l.logged) < logEvery {
		l.suppressed++
		l.mu.Unlock()
		return
	}
	args = append(args, "suppressed", l.suppressed)
	l.logged, l.suppressed = now, 0
	l.mu.Unlock()
	l.endpoint.cfg.Log.Log(context.Background(), level, msg, args...)
}
