package channel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"xinqiao/crypto/cert"
)

// Stats counts an endpoint's handshakes, of both directions, by how they ended,
// and its open channels.
type Stats struct {
	Open                                                                 uint64
	OK, Protocol, Identity, NotAdmitted, Refused, TimedOut, Shed, Failed uint64
}

// connections are the open channels of an endpoint.
type connections struct {
	mu    sync.Mutex
	open  map[*Conn]struct{} // mu protects these
	stats Stats
}

func (s *connections) add(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
	c.forget = s.remove
}

func (s *connections) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

func (s *connections) all() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Conn, 0, len(s.open))
	for c := range s.open {
		list = append(list, c)
	}
	return list
}

// count notes how a handshake ended.
func (s *connections) count(err error) {
	var network net.Error
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.stats.OK++
	case errors.Is(err, ErrShed):
		s.stats.Shed++
	case errors.Is(err, ErrNotAdmitted):
		s.stats.NotAdmitted++
	case errors.Is(err, ErrRefused):
		s.stats.Refused++
	case errors.Is(err, ErrIdentity), errors.Is(err, cert.ErrProfile), errors.Is(err, cert.ErrForeign), errors.Is(err, cert.ErrExpired), errors.Is(err, cert.ErrChain):
		s.stats.Identity++
	case errors.Is(err, ErrProtocol):
		s.stats.Protocol++
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		s.stats.TimedOut++
	default: // the network: nobody listens, the connection was cut
		s.stats.Failed++
	}
}

// Stats returns the counts so far.
func (e *Endpoint) Stats() Stats {
	e.conns.mu.Lock()
	defer e.conns.mu.Unlock()
	out := e.conns.stats
	out.Open = uint64(len(e.conns.open))
	return out
}

// Recheck asks Admit again about the peer of every open channel, and cuts those
// that are not admitted any more or whose certificate has ended. It returns how
// many. A handshake that was admitted a moment ago may become a channel while
// Recheck runs: whoever withdraws something calls it once that is visible to
// Admit, and again later.
func (e *Endpoint) Recheck() (cut int) {
	now := e.cfg.Clock()
	for _, c := range e.conns.all() {
		err := e.admit(c.peer)
		if err == nil && now.After(c.peer.NotAfter) {
			err = cert.ErrExpired
		}
		if err == nil {
			continue
		}
		cut++
		e.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "channel cut: its peer is not admitted any more",
			slog.String("peer", c.peer.Dept), slog.String("remote", c.raw.RemoteAddr().String()), slog.String("error", err.Error()),
			slog.Time("certificate_until", c.peer.NotAfter.UTC().Truncate(time.Second)))
		// Not Close: there is no farewell to one who is not trusted, and nothing to
		// wait for. Its owner closes it when its next read or write fails.
		c.raw.Close()
	}
	return cut
}
