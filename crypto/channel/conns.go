package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

// Stats counts an endpoint's handshakes, of both directions, by how they ended,
// and its open channels.
type Stats struct {
	Open uint64

	OK, Protocol, Identity, NotAdmitted, TooMany, Refused, TimedOut, Shed, Failed uint64
}

// connections are the open channels of an endpoint.
type connections struct {
	mu    sync.Mutex
	open  map[*Conn]struct{} // mu protects these
	stats Stats

	accepted map[string]int // of open, those that a department has opened to us
}

func (s *connections) add(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
	if c.accepted {
		s.accepted[c.peer.Dept]++
	}
	c.forget = s.remove
}

func (s *connections) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[c]; !ok {
		return
	}
	delete(s.open, c)
	if !c.accepted {
		return
	}
	if s.accepted[c.peer.Dept]--; s.accepted[c.peer.Dept] == 0 {
		delete(s.accepted, c.peer.Dept)
	}
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
	case errors.Is(err, ErrTooMany):
		s.stats.TooMany++
	case errors.Is(err, ErrNotAdmitted):
		s.stats.NotAdmitted++
	case errors.Is(err, ErrRefused):
		s.stats.Refused++
	case errors.Is(err, ErrIdentity), errors.Is(err, cert.ErrProfile), errors.Is(err, cert.ErrForeign), errors.Is(err, cert.ErrExpired):
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

// room refuses one more channel to a department that has opened all it may. Few
// handshakes run at once, so few may slip past together.
func (e *Endpoint) room(dept string) error {
	e.conns.mu.Lock()
	defer e.conns.mu.Unlock()
	if n := e.conns.accepted[dept]; n >= e.cfg.MaxPerPeer {
		return fmt.Errorf("%w: %q has %d", ErrTooMany, dept, n)
	}
	return nil
}

// keep makes a channel of a handshake that has succeeded one that Recheck sees,
// and asks Admit once more: what was withdrawn after the handshake asked, Recheck
// may have acted on before it could see this channel.
func (e *Endpoint) keep(c *Conn) error {
	e.conns.add(c)
	if err := e.admit(c.peer); err != nil {
		e.conns.remove(c)
		c.raw.Close()
		return err
	}
	return nil
}

// Recheck verifies the certificate of the peer of every open channel again and
// asks Admit about it again, and cuts the channels of those that do not pass any
// more. It returns how many. Whoever withdraws something calls it once Admit goes
// by that, and now and then, because certificates end.
func (e *Endpoint) Recheck() (cut int) {
	now := e.cfg.Clock()
	verdicts := map[gm.Digest]error{} // many channels are one certificate's
	for _, c := range e.conns.all() {
		err, known := verdicts[c.peer.Fingerprint]
		if !known {
			if _, err = e.root.Verify([]byte(c.peer.Chain), now); err == nil {
				err = e.admit(c.peer)
			}
			verdicts[c.peer.Fingerprint] = err
		}
		if err == nil {
			continue
		}
		cut++
		e.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "channel cut: its peer is not admitted any more",
			slog.String("peer", c.peer.Dept), slog.String("remote", c.raw.RemoteAddr().String()), slog.String("error", err.Error()))
		// Not Close: there is no farewell to one who is not trusted, and nothing to
		// wait for. Its owner closes it when its next read or write fails.
		c.raw.Close()
	}
	return cut
}
