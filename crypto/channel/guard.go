package channel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/tjfoc/gmsm/gmtls"
	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/cert"
)

// The record layer (GB/T 38636 6.3).
const (
	headerLen       = 5
	recordCCS       = 20
	recordAlert     = 21
	recordHandshake = 22
	recordData      = 23

	maxPlaintext  = 1 << 14
	maxCiphertext = maxPlaintext + 2048
	// An encrypted Finished is an IV, 16 + 32 bytes and 1 to 256 bytes of padding.
	minFinished, maxFinished = 80, 80 + 240
	readSize                 = 4 << 10
)

// A guard is the connection under gmtls. Until the handshake is over it takes
// records apart and hands them on when their messages are complete, in order and
// well-formed; what is not, gmtls never sees. Afterwards it lets data and alerts
// through and nothing else, so that nobody renegotiates.
//
// During the handshake it leaves gmtls by panicking with an abort that handshake
// recovers. gmtls prints every error that it returns from a handshake to standard
// output, where the node's results go; there is no other way past that line.
type guard struct {
	*attempt
	endpoint *Endpoint
	own      *credentials
	dept     string // that the peer has to be; empty on the side that listens
	steps    []step // of the handshake, still to come; the record that ends them is Finished

	in       bytes.Buffer // from the network, not looked at
	messages bytes.Buffer // the beginning of a handshake message
	held     bytes.Buffer // the records in which it came
	out      bytes.Buffer // what gmtls may read
	broken   error        // why nothing more is let through
	farewell bool         // the last record was an alert: the end of the stream is no cut

	pool  *tx509.CertPool // what gmtls trusts in this handshake: the root, and the issuers of what was judged
	certs [][]byte        // that were judged
	peer  cert.Identity

	encrypted bool        // we have sent ChangeCipherSpec: alerts are gmtls's alone now
	open      atomic.Bool // the handshake is over
}

type abort struct{ err error }

func newGuard(a *attempt, e *Endpoint, dept string) *guard {
	return &guard{attempt: a, endpoint: e, own: e.creds.Load(), dept: dept, pool: e.root.Pool()}
}

// handshake runs gmtls over the guard, and panics where Endpoint.handshake recovers.
func (g *guard) handshake(dialing bool) (*Conn, error) {
	var inner *gmtls.Conn
	if dialing {
		g.steps = stepsOfServer()
		inner = gmtls.Client(g, g.endpoint.clientConfig(g.own, g.dept, g.pool, g.confirm))
	} else {
		g.steps = stepsOfClient()
		inner = gmtls.Server(g, g.endpoint.serverConfig(g.own, g.pool, g.confirm))
	}
	if err := inner.Handshake(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if len(g.steps) > 0 || g.peer.Dept == "" {
		return nil, fmt.Errorf("%w: gmtls ended it early", ErrProtocol)
	}
	g.open.Store(true)
	return &Conn{Conn: inner, raw: g.Conn, peer: g.peer, accepted: !dialing}, nil
}

// judge is the step for the Certificate message: gmtls parses only certificates
// that have been verified and admitted.
func (g *guard) judge(certs [][]byte) (err error) {
	g.peer, err = g.endpoint.judge(certs, g.dept, g.pool)
	g.certs = certs
	if err == nil && g.dept == "" {
		err = g.endpoint.room(g.peer.Dept)
	}
	return err
}

// confirm is asked by gmtls about what it parsed: it must be what was judged.
func (g *guard) confirm(certs [][]byte) error {
	if g.peer.Dept == "" || !slices.EqualFunc(certs, g.certs, bytes.Equal) {
		return fmt.Errorf("%w: gmtls read other certificates than the guard", ErrProtocol)
	}
	return nil
}

// Read gives gmtls what the guard has let through.
func (g *guard) Read(p []byte) (int, error) {
	for g.out.Len() == 0 {
		if err := g.next(); err != nil {
			return 0, g.fail(err)
		}
	}
	// Hand on what else is complete: gmtls looks for an alert behind the data.
	for g.open.Load() && g.out.Len() < len(p) && g.complete() {
		if g.next() != nil {
			break // g.broken is reported by the next Read
		}
	}
	return g.out.Read(p)
}

// Write sends what gmtls sends. During the handshake an alert of gmtls's own is
// the end of it.
func (g *guard) Write(p []byte) (int, error) {
	n, err := g.Conn.Write(p)
	if g.open.Load() {
		return n, err
	}
	if err != nil {
		return n, g.fail(err)
	}
	for rest := p; len(rest) >= headerLen; {
		length := headerLen + int(binary.BigEndian.Uint16(rest[3:]))
		if length > len(rest) {
			break
		}
		switch rest[0] {
		case recordCCS:
			g.encrypted = true
		case recordAlert:
			err := fmt.Errorf("%w: gmtls gave up", ErrProtocol)
			if !g.encrypted && length == headerLen+2 {
				err = fmt.Errorf("%w: gmtls gave up with alert %d", ErrProtocol, rest[headerLen+1])
			}
			panic(abort{err})
		}
		rest = rest[length:]
	}
	return n, nil
}

// fail leaves the handshake, or returns err when there is none. A refusal is told
// to the peer, without saying why: the reason is for our own log.
func (g *guard) fail(err error) error {
	if g.open.Load() {
		return err
	}
	if g.broken != nil && !g.encrypted && !errors.Is(err, ErrRefused) {
		const fatal, handshakeFailure = 2, 40
		alert := []byte{recordAlert, gmtls.VersionGMSSL >> 8, gmtls.VersionGMSSL & 0xff, 0, 2, fatal, handshakeFailure}
		g.Conn.Write(alert) // best effort: the connection ends either way
	}
	panic(abort{err})
}

// next lets one record through or holds it until its message is complete. Errors
// of the network leave everything in place, so that a reader whose deadline passed
// may go on.
func (g *guard) next() error {
	if g.broken != nil {
		return g.broken
	}
	for {
		if g.broken = g.checkHeader(); g.broken != nil {
			return g.broken
		}
		if g.complete() {
			break
		}
		if err := g.receive(); err != nil {
			return err
		}
	}
	record := g.in.Next(headerLen + g.recordLen())
	g.broken = g.take(record[0], record)
	return g.broken
}

// receive reads once from the network.
func (g *guard) receive() error {
	want := readSize
	if g.in.Len() >= headerLen {
		want = max(want, headerLen+g.recordLen()-g.in.Len())
	}
	g.in.Grow(want)
	b := g.in.AvailableBuffer()
	n, err := g.attempt.Read(b[:cap(b)])
	g.in.Write(b[:n])
	if n > 0 {
		return nil // the error comes again
	}
	if err == io.EOF && (!g.farewell || g.in.Len() > 0) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// complete reports whether a whole record has arrived.
func (g *guard) complete() bool {
	return g.in.Len() >= headerLen && g.in.Len() >= headerLen+g.recordLen()
}

func (g *guard) recordLen() int { return int(binary.BigEndian.Uint16(g.in.Bytes()[3:])) }

// checkHeader refuses a record by its first bytes, before room is made for it.
func (g *guard) checkHeader() error {
	h := g.in.Bytes()
	if len(h) >= 1 && (h[0] < recordCCS || h[0] > recordData) {
		return fmt.Errorf("%w: not a TLCP record", ErrProtocol)
	}
	if len(h) < headerLen {
		return nil
	}
	switch v := binary.BigEndian.Uint16(h[1:]); v {
	case gmtls.VersionGMSSL:
	case 0x0301, 0x0302, 0x0303: // what TLS up to 1.3 writes there
		return fmt.Errorf("%w: the peer speaks TLS and this node GM TLS; both need the same", ErrProtocol)
	default:
		return fmt.Errorf("%w: record version %#04x", ErrProtocol, v)
	}
	limit := maxPlaintext
	if len(g.steps) == 0 {
		limit = maxCiphertext
	}
	if n := g.recordLen(); n == 0 || n > limit {
		return fmt.Errorf("%w: a record of %d bytes", ErrProtocol, n)
	}
	return nil
}

// take decides about one record, header included.
func (g *guard) take(typ byte, record []byte) error {
	payload := record[headerLen:]
	if len(g.steps) == 0 {
		if typ != recordData && typ != recordAlert {
			return fmt.Errorf("%w: record type %d after the handshake", ErrProtocol, typ)
		}
		g.farewell = typ == recordAlert
		g.out.Write(record)
		return nil
	}
	s := g.steps[0]
	if typ == recordAlert {
		if len(payload) == 2 {
			return fmt.Errorf("%w (alert %d)", ErrRefused, payload[1])
		}
		return ErrRefused
	}
	if typ != s.record {
		return fmt.Errorf("%w: record type %d where %s was due", ErrProtocol, typ, s.name)
	}
	g.held.Write(record)
	if s.message == 0 { // a record without messages: ChangeCipherSpec, and Finished, which is encrypted
		if err := s.check(g, payload); err != nil {
			return err
		}
		g.steps = g.steps[1:]
	} else {
		g.messages.Write(payload)
		if err := g.takeMessages(); err != nil {
			return err
		}
	}
	if g.messages.Len() == 0 {
		g.held.WriteTo(&g.out)
	}
	return nil
}

// takeMessages checks the handshake messages that are complete.
func (g *guard) takeMessages() error {
	const head = 4
	for g.messages.Len() > 0 {
		b := g.messages.Bytes()
		if len(g.steps) == 0 || g.steps[0].message == 0 {
			return fmt.Errorf("%w: a message too many", ErrProtocol)
		}
		s := g.steps[0]
		if b[0] != s.message {
			return fmt.Errorf("%w: message type %d where %s was due", ErrProtocol, b[0], s.name)
		}
		if len(b) < head {
			return nil
		}
		n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		if n > s.max {
			return fmt.Errorf("%w: %s of %d bytes", ErrProtocol, s.name, n)
		}
		if len(b) < head+n {
			return nil
		}
		if err := s.check(g, bytes.Clone(b[head:head+n])); err != nil {
			return err
		}
		g.messages.Next(head + n)
		g.steps = g.steps[1:]
	}
	return nil
}
