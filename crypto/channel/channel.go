// Package channel carries bytes between departments' nodes as net.Conn, over
// mutual GM TLS (TLCP, GB/T 38636-2020, suite ECC_SM4_CBC_SM3) or over TLS 1.3
// with the departments' identities proven by SM2 inside it.
//
// tjfoc's gmtls does the former; a guard stands between it and the network and
// lets only those bytes through that follow the one handshake used here. Without
// it a single packet ends the process, and a node's escrowed encryption key is
// enough to pass for that node. DESIGN.md lists what the guard closes.
//
// That suite has no forward secrecy, so nothing relies on the channel for
// confidentiality or proof: messages are signed and sealed end to end.
package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	tx509 "github.com/tjfoc/gmsm/x509"

	"xinqiao/crypto/cert"
)

// Errors of handshakes. Errors of package cert are wrapped as they are.
var (
	// ErrProtocol reports a peer that does not follow the handshake, or fails it.
	ErrProtocol = errors.New("the peer broke the handshake")
	// ErrIdentity reports a peer whose certificates are genuine and the wrong ones.
	ErrIdentity = errors.New("the peer is not who it has to be")
	// ErrNotAdmitted reports a peer that Config.Admit turned away.
	ErrNotAdmitted = errors.New("the peer is not admitted")
	// ErrRefused reports that the peer turned us away; its log says why.
	ErrRefused = errors.New("the peer refused the connection: see the peer's log")
	// ErrShed reports a peer that was cut off mid-handshake to make room for others.
	ErrShed = errors.New("the peer kept us waiting too long while others waited")
	// ErrTooMany reports a peer that has as many channels open as one department may.
	ErrTooMany = errors.New("the peer has too many channels open")
)

const (
	defaultHandshakeTimeout = 5 * time.Second
	defaultMaxHandshakes    = 64
	defaultMaxPerPeer       = 512             // a node and its past self, which crashed, need fewer than 300
	closeTimeout            = 2 * time.Second // for the farewell to a peer that does not read
)

// Config describes one node's end of its channels. Admit and Credentials are
// required; the rest has defaults.
type Config struct {
	Root        []byte // the exchange's root certificate, DER
	Credentials        // of this department; Reload replaces them
	Mode        Mode   // GMTLS unless set; both ends need the same

	// Admit decides about membership and revocation. It is asked in each handshake
	// about the peer's signing identity, after the certificates were verified and
	// before the peer has proven that it holds the key, and once more when the channel
	// is open to Recheck. Several handshakes may ask at once. Nil refuses everybody.
	Admit func(cert.Identity) error

	// Issuers returns the issuing CAs (DER) below the root by which peers'
	// certificates may have been issued: on a GM TLS hop only leaves travel. It is
	// asked in each handshake; each is verified against the root. Nil means none.
	Issuers func() [][]byte

	Clock            func() time.Time // judges certificates; time.Now if nil
	HandshakeTimeout time.Duration    // 5 s if zero; a real time span, whatever Clock says
	MaxHandshakes    int              // of one listener at one moment; 64 if zero
	MaxPerPeer       int              // channels that one department may open to this node; 512 if zero
	Log              *slog.Logger     // discarded if nil
}

// Endpoint dials and listens for one node. It is safe for concurrent use.
type Endpoint struct {
	cfg   Config
	root  *cert.Root
	dept  string
	creds atomic.Pointer[credentials] // each handshake keeps those that it began with
	tls   tls.Certificate             // of TLS 1.3: made for this endpoint, names nobody
	conns connections
}

// New checks that the certificates are valid now, belong together, and belong to
// the keys.
func New(cfg Config) (*Endpoint, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = defaultHandshakeTimeout
	}
	if cfg.MaxHandshakes <= 0 {
		cfg.MaxHandshakes = defaultMaxHandshakes
	}
	if cfg.MaxPerPeer <= 0 {
		cfg.MaxPerPeer = defaultMaxPerPeer
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	root, err := cert.ParseRoot(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("channel: %w", err)
	}
	e := &Endpoint{cfg: cfg, root: root, conns: connections{open: map[*Conn]struct{}{}, accepted: map[string]int{}}}
	if cfg.Mode == TLS13 {
		if e.tls, err = ephemeral(); err != nil {
			return nil, fmt.Errorf("channel: %w", err)
		}
	}
	own, err := e.check(cfg.Credentials)
	if err != nil {
		return nil, fmt.Errorf("channel: %w", err)
	}
	e.dept = own.id.Dept
	e.creds.Store(own)
	return e, nil
}

// Dept returns the department whose certificates the endpoint uses.
func (e *Endpoint) Dept() string { return e.dept }

// Identity returns what handshakes show that begin now: the identity in the
// signing certificate that New or the last Reload took.
func (e *Endpoint) Identity() cert.Identity { return e.creds.Load().id }

// verifyPair verifies a signing and an encryption certificate of one department,
// and adds their issuing CAs to what gmtls trusts.
func (e *Endpoint) verifyPair(certs [][]byte, pool *tx509.CertPool) (sign, enc cert.Identity, err error) {
	if len(certs) != 2 {
		return sign, enc, fmt.Errorf("%w: %d certificates instead of two", ErrProtocol, len(certs))
	}
	now := e.cfg.Clock()
	if sign, err = e.verify(certs[0], now, pool); err != nil {
		return sign, enc, fmt.Errorf("signing certificate: %w", err)
	}
	if enc, err = e.verify(certs[1], now, pool); err != nil {
		return sign, enc, fmt.Errorf("encryption certificate: %w", err)
	}
	switch {
	case sign.Usage != cert.Signing || enc.Usage != cert.Encryption:
		err = fmt.Errorf("%w: a %s and a %s certificate instead of a signing and an encryption one", ErrIdentity, sign.Usage, enc.Usage)
	case sign.Dept != enc.Dept:
		err = fmt.Errorf("%w: certificates of %q and %q", ErrIdentity, sign.Dept, enc.Dept)
	case sign.Key == enc.Key:
		err = fmt.Errorf("%w: one key for signing and encryption", ErrIdentity)
	}
	return sign, enc, err
}

// judge decides about a peer's certificates; want is the department that it has
// to be, or empty.
func (e *Endpoint) judge(certs [][]byte, want string, pool *tx509.CertPool) (cert.Identity, error) {
	if err := leavesOnly(certs); err != nil {
		return cert.Identity{}, err
	}
	id, _, err := e.verifyPair(certs, pool)
	if err != nil {
		return cert.Identity{}, err
	}
	if want != "" && id.Dept != want {
		return cert.Identity{}, fmt.Errorf("%w: wanted %q, found %q", ErrIdentity, want, id.Dept)
	}
	return id, e.admit(id)
}

// judgeOne is judge for TLS 1.3, where the signing certificate comes alone, as a
// chain: the encryption key has no part in the channel.
func (e *Endpoint) judgeOne(chain []byte, want string) (cert.Identity, error) {
	id, err := e.root.Verify(chain, e.cfg.Clock())
	switch {
	case err != nil:
		return id, fmt.Errorf("signing certificate: %w", err)
	case id.Usage != cert.Signing:
		return id, fmt.Errorf("%w: a certificate for %s as an identity", ErrIdentity, id.Usage)
	case want != "" && id.Dept != want:
		return id, fmt.Errorf("%w: wanted %q, found %q", ErrIdentity, want, id.Dept)
	}
	return id, e.admit(id)
}

func (e *Endpoint) admit(id cert.Identity) error {
	if e.cfg.Admit == nil {
		return fmt.Errorf("%w: nobody is, as no admission is configured", ErrNotAdmitted)
	}
	if err := e.cfg.Admit(id); err != nil {
		return fmt.Errorf("%w: %q: %w", ErrNotAdmitted, id.Dept, err)
	}
	return nil
}

// Dial connects to addr and returns once the peer has proven to be dept and was
// admitted. It takes no longer than HandshakeTimeout and ctx allow; which of the
// two ended it, the error says.
func (e *Endpoint) Dial(ctx context.Context, addr, dept string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.HandshakeTimeout)
	defer cancel()
	c, err := e.dial(ctx, addr, dept)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = e.keep(c)
	}
	e.conns.count(err)
	if err != nil {
		return nil, fmt.Errorf("dial %s at %s: %w", dept, addr, err)
	}
	return c, nil
}

func (e *Endpoint) dial(ctx context.Context, addr, dept string) (*Conn, error) {
	if dept == "" {
		return nil, fmt.Errorf("%w: no department named", ErrIdentity)
	}
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// Closing reaches a handshake that waits. If ctx ends in the very moment of
	// success, stop reports that the connection is already lost.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	c, err := e.handshake(&attempt{Conn: raw}, dept, true)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// attempt is a connection on which a handshake is under way. It adds up for how
// long the peer keeps this side waiting, whatever it sends meanwhile: one that
// sends a byte now and then is no better than one that is silent.
type attempt struct {
	net.Conn
	spent   time.Duration // waited for the peer so far; the handshake's own goroutine reads
	waiting atomic.Int64  // now minus all that was waited, in Unix nanoseconds; 0 while this side computes
	over    atomic.Bool   // the handshake is
	shed    atomic.Bool   // cut off to make room for others
}

// Read reads from the network.
func (a *attempt) Read(p []byte) (int, error) {
	if a.over.Load() {
		return a.Conn.Read(p)
	}
	start := time.Now()
	a.waiting.Store(start.Add(-a.spent).UnixNano())
	n, err := a.Conn.Read(p)
	a.waiting.Store(0)
	a.spent += time.Since(start)
	return n, err
}

// handshake takes an attempt to a channel whose peer has proven itself; dept is
// who it has to be, or empty. On error the caller closes the attempt. A panic,
// over what a peer sent, ends this one handshake.
func (e *Endpoint) handshake(a *attempt, dept string, dialing bool) (c *Conn, err error) {
	defer func() {
		a.over.Store(true)
		switch p := recover().(type) {
		case nil:
		case abort:
			c, err = nil, p.err
		default:
			e.cfg.Log.Error("channel handshake panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			c, err = nil, fmt.Errorf("%w: the handshake failed", ErrProtocol)
		}
		if a.shed.Load() {
			c, err = nil, ErrShed
		}
	}()
	if e.cfg.Mode == TLS13 {
		return e.handshake13(a, dept, dialing)
	}
	return newGuard(a, e, dept).handshake(dialing)
}

// Conn is a channel to an admitted peer. As with every net.Conn, its methods may
// be called at the same time. A Write that missed its deadline leaves the channel
// unusable. Read returns io.EOF only if the peer closed; a cut connection is
// io.ErrUnexpectedEOF.
type Conn struct {
	net.Conn // gmtls over the guard, or TLS 1.3
	raw      net.Conn
	peer     cert.Identity
	cut      func() bool // whether the end of the stream was a cut; nil where Conn tells by itself
	forget   func(*Conn) // told once, on Close
	accepted bool        // the peer has opened it
	closed   atomic.Bool
}

// Peer returns the signing identity that the peer has proven in the handshake.
// Whether it is still admitted is for the reader of each message to ask; Recheck
// asks now and then.
func (c *Conn) Peer() cert.Identity { return c.peer }

// Read reads from the channel.
func (c *Conn) Read(p []byte) (n int, err error) {
	defer c.contain(&err)
	n, err = c.Conn.Read(p)
	if err == io.EOF && c.cut != nil && c.cut() {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Write writes to the channel.
func (c *Conn) Write(p []byte) (n int, err error) {
	defer c.contain(&err)
	return c.Conn.Write(p)
}

// contain ends this one connection when gmtls panics on what a peer sent.
func (c *Conn) contain(err *error) {
	if p := recover(); p != nil {
		c.raw.Close()
		*err = fmt.Errorf("%w: gmtls failed: %v", ErrProtocol, p)
	}
}

// Close tells the peer and closes the connection. It waits at most two seconds
// for a peer that does not read. The second Close returns net.ErrClosed.
func (c *Conn) Close() (err error) {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if c.forget != nil {
		c.forget(c)
	}
	defer c.contain(&err)
	defer time.AfterFunc(closeTimeout, func() { c.raw.Close() }).Stop()
	return c.Conn.Close()
}
