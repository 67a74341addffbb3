package channel_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/channel"
	"xinqiao/crypto/gm"
)

// The binding's messages, as an attacker who reads DESIGN.md writes them.
type bindingStatement struct {
	Suite  string    `cbor:"1,keyasint"`
	Role   uint8     `cbor:"2,keyasint"`
	Secret gm.Digest `cbor:"3,keyasint"`
	Self   string    `cbor:"4,keyasint"`
	Peer   string    `cbor:"5,keyasint"`
	Answer gm.Digest `cbor:"6,keyasint"`
}

type bindingProof struct {
	Suite string       `cbor:"1,keyasint"`
	Chain []byte       `cbor:"2,keyasint"`
	Peer  string       `cbor:"3,keyasint"`
	Sig   gm.Signature `cbor:"4,keyasint"`
}

const alpn13 = "xinqiao-channel/1"

// bare is a TLS 1.3 connection without a binding yet.
type bare struct {
	*tls.Conn
	secret gm.Digest
}

func expose(t testing.TB, c *tls.Conn) bare {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	state := c.ConnectionState()
	secret, err := state.ExportKeyingMaterial("EXPORTER-xinqiao-channel-binding", nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	return bare{c, gm.Digest(secret)}
}

func dialBare(t testing.TB, addr string) bare {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return expose(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn13}}))
}

// serveBare answers one connection with a certificate that it makes up.
func serveBare(t testing.TB, play func(bare)) (addr string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		play(expose(t, tls.Server(raw, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{alpn13},
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})))
	}()
	return l.Addr().String()
}

func (b bare) send(content []byte) {
	b.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(content))), content...))
}

func (b bare) receive() ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(b, head); err != nil {
		return nil, err
	}
	content := make([]byte, binary.BigEndian.Uint32(head))
	_, err := io.ReadFull(b, content)
	return content, err
}

// prove is an honest proof but for what change does to it.
func (b bare) prove(t testing.TB, p party, role uint8, peer string, answer gm.Digest, change func(*bindingStatement, *bindingProof)) []byte {
	t.Helper()
	s := bindingStatement{Suite: gm.Suite, Role: role, Secret: b.secret, Self: p.dept, Peer: peer, Answer: answer}
	out := bindingProof{Suite: gm.Suite, Chain: p.signCert, Peer: peer}
	if change != nil {
		change(&s, &out)
	}
	sig, err := gm.Emmansun().Sign(p.sign, gm.Preimage("xinqiao/channel-binding/v1", canon.MustMarshal(s)))
	if err != nil {
		t.Fatal(err)
	}
	if out.Sig == (gm.Signature{}) {
		out.Sig = sig
	}
	return canon.MustMarshal(out)
}

// TestBindingRefusesClients plays a client with one thing wrong. The server
// signs nothing for it, and goes on.
func TestBindingRefusesClients(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	good, banned := x.party(t, "zhujian"), x.party(t, "gongan")
	stranger := newExchange(t).party(t, "zhujian")
	cfg := in(channel.TLS13, x.config(x.party(t, "minzheng")))
	cfg.HandshakeTimeout = 3 * time.Second
	cfg.Admit = func(id cert.Identity) error {
		if id.Dept == "gongan" {
			return errors.New("withdrawn")
		}
		return nil
	}
	l := listen(t, newEndpoint(t, cfg))
	go echo(l)
	earlier := dialBare(t, l.Addr().String())
	used := earlier.prove(t, good, 1, "minzheng", gm.Digest{}, nil)
	earlier.send(used)
	if answer, err := earlier.receive(); err != nil || len(answer) == 0 {
		t.Fatalf("an honest client is refused: %v", err)
	}
	prove := func(p party, change func(*bindingStatement, *bindingProof)) func(bare) []byte {
		return func(b bare) []byte { return b.prove(t, p, 1, "minzheng", gm.Digest{}, change) }
	}
	for name, make := range map[string]func(bare) []byte{
		"chain of itself":             prove(good, func(_ *bindingStatement, p *bindingProof) { p.Chain = chain(good.signCert, good.signCert) }),
		"chain that loops":            prove(good, func(_ *bindingStatement, p *bindingProof) { p.Chain = chain(good.signCert, x.root, good.signCert) }),
		"the root behind it":          prove(good, func(_ *bindingStatement, p *bindingProof) { p.Chain = chain(good.signCert, x.root) }),
		"the root alone":              prove(good, func(_ *bindingStatement, p *bindingProof) { p.Chain = x.root }),
		"an endless chain":            prove(good, func(_ *bindingStatement, p *bindingProof) { p.Chain = bytes.Repeat(good.signCert, 12) }),
		"a long name":                 prove(good, func(s *bindingStatement, p *bindingProof) { s.Peer = strings.Repeat("x", 4<<10); p.Peer = s.Peer }),
		"replayed":                    func(bare) []byte { return used },
		"of another root":             prove(stranger, nil),
		"not admitted":                prove(banned, nil),
		"encryption certificate":      prove(good, func(_ *bindingStatement, p *bindingProof) { p.Chain = good.encCert }),
		"another's certificate":       prove(good, func(_ *bindingStatement, p *bindingProof) { p.Chain = banned.signCert }),
		"no certificate":              prove(good, func(_ *bindingStatement, p *bindingProof) { p.Chain = nil }),
		"for another department":      prove(good, func(s *bindingStatement, p *bindingProof) { s.Peer, p.Peer = "renshe", "renshe" }),
		"signed for another":          prove(good, func(s *bindingStatement, _ *bindingProof) { s.Peer = "renshe" }),
		"in the server's role":        prove(good, func(s *bindingStatement, _ *bindingProof) { s.Role = 2 }),
		"over another secret":         prove(good, func(s *bindingStatement, _ *bindingProof) { s.Secret[0] ^= 1 }),
		"unknown suite":               prove(good, func(_ *bindingStatement, p *bindingProof) { p.Suite = "SM-2" }),
		"signature of another object": prove(good, func(_ *bindingStatement, p *bindingProof) { p.Sig = gm.Signature{1} }),
		"garbage":                     func(bare) []byte { return []byte("\xff\xfe") },
		"something behind it":         func(b bare) []byte { return append(b.prove(t, good, 1, "minzheng", gm.Digest{}, nil), 0) },
		"nothing":                     func(bare) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := dialBare(t, l.Addr().String())
			b.send(make(b))
			if answer, err := b.receive(); err == nil && len(answer) > 0 {
				t.Errorf("the server proves itself to it: %x", answer)
			}
			ping(t, newEndpoint(t, in(channel.TLS13, x.config(good))), l.Addr().String(), "minzheng")
		})
	}
}

func chain(certs ...[]byte) []byte { return slices.Concat(certs...) }

// TestNoApplicationProtocol: a client that offers none is let in by crypto/tls,
// and gets no further, whatever it proves.
func TestNoApplicationProtocol(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	e := newEndpoint(t, in(channel.TLS13, x.config(x.party(t, "minzheng"))))
	l := listen(t, e)
	go echo(l)
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	b := expose(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}))
	b.send(b.prove(t, x.party(t, "zhujian"), 1, "minzheng", gm.Digest{}, nil))
	if answer, err := b.receive(); err == nil {
		t.Errorf("answered with %d bytes", len(answer))
	}
	if s := e.Stats(); s.OK != 0 || s.Protocol != 1 {
		t.Errorf("%+v", s)
	}
}

// TestBindingRefusesServers plays a server with one thing wrong.
func TestBindingRefusesServers(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	client, real, other := x.party(t, "zhujian"), x.party(t, "minzheng"), x.party(t, "gongan")
	prove := func(p party, role uint8, change func(*bindingStatement, *bindingProof)) func(bare, []byte) []byte {
		return func(b bare, asked []byte) []byte {
			return b.prove(t, p, role, "zhujian", gm.Emmansun().Sum(asked), change)
		}
	}
	for name, tc := range map[string]struct {
		answer func(b bare, asked []byte) []byte
		want   error
	}{
		"honest":                 {prove(real, 2, nil), nil},
		"another department":     {prove(other, 2, nil), channel.ErrIdentity},
		"of another root":        {prove(newExchange(t).party(t, "minzheng"), 2, nil), cert.ErrForeign},
		"encryption certificate": {prove(real, 2, func(_ *bindingStatement, p *bindingProof) { p.Chain = real.encCert }), channel.ErrIdentity},
		"the client's own words": {func(_ bare, asked []byte) []byte { return asked }, channel.ErrIdentity},
		"in the client's role":   {prove(real, 1, nil), channel.ErrProtocol},
		"for another client":     {prove(real, 2, func(s *bindingStatement, p *bindingProof) { s.Peer, p.Peer = "gongan", "gongan" }), channel.ErrIdentity},
		"to another question":    {prove(real, 2, func(s *bindingStatement, _ *bindingProof) { s.Answer[0] ^= 1 }), channel.ErrProtocol},
		"over another secret":    {prove(real, 2, func(s *bindingStatement, _ *bindingProof) { s.Secret[0] ^= 1 }), channel.ErrProtocol},
		"with another's key":     {prove(other, 2, func(s *bindingStatement, p *bindingProof) { s.Self, p.Chain = "minzheng", real.signCert }), channel.ErrProtocol},
		"a refusal":              {func(bare, []byte) []byte { return nil }, channel.ErrRefused},
		"more than there can be": {func(b bare, _ []byte) []byte { return bytes.Repeat([]byte{0xa0}, 9<<10) }, channel.ErrProtocol},
		"no CBOR":                {func(bare, []byte) []byte { return []byte{0xff} }, channel.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serveBare(t, func(b bare) {
				asked, err := b.receive()
				if err != nil {
					t.Error(err)
					return
				}
				b.send(tc.answer(b, asked))
				io.Copy(io.Discard, b)
			})
			c, err := newEndpoint(t, in(channel.TLS13, x.config(client))).Dial(t.Context(), addr, "minzheng")
			if !errors.Is(err, tc.want) || (tc.want == nil) != (err == nil) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if err == nil {
				c.Close()
			}
		})
	}
}

// TestBindingStopsTheManInTheMiddle: somebody ends the TLS connection of each
// side and hands on what passes inside. Neither side believes the other's proof,
// for each was made for another connection.
func TestBindingStopsTheManInTheMiddle(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	l := listen(t, newEndpoint(t, in(channel.TLS13, x.config(x.party(t, "minzheng")))))
	answered := make(chan int, 1)
	addr := serveBare(t, func(b bare) {
		asked, err := b.receive()
		if err != nil {
			t.Error(err)
			return
		}
		behind := dialBare(t, l.Addr().String())
		behind.send(asked)
		answer, _ := behind.receive()
		answered <- len(answer)
		b.send(answer)
	})
	_, err := newEndpoint(t, in(channel.TLS13, x.config(x.party(t, "zhujian")))).Dial(t.Context(), addr, "minzheng")
	if !errors.Is(err, channel.ErrRefused) {
		t.Errorf("the client: %v", err)
	}
	if n := <-answered; n > 0 {
		t.Errorf("the server has answered with a proof of %d bytes", n)
	}
}

// TestTLS13TurnsAway peers that do not speak the protocol, and keeps nothing of
// them.
func TestTLS13TurnsAway(t *testing.T) {
	x := newExchange(t)
	before := runtime.NumGoroutine()
	cfg := in(channel.TLS13, x.config(x.party(t, "minzheng")))
	cfg.HandshakeTimeout, cfg.MaxHandshakes = time.Second, 4
	server := newEndpoint(t, cfg)
	l := listen(t, server)
	go echo(l)
	dialTLS := func(c *tls.Config) func(net.Conn) {
		return func(raw net.Conn) {
			c.InsecureSkipVerify = true
			if err := tls.Client(raw, c).Handshake(); err == nil {
				io.Copy(io.Discard, raw)
			}
		}
	}
	play := func(b ...byte) func(net.Conn) {
		return func(c net.Conn) { c.Write(b); io.Copy(io.Discard, c) }
	}
	timedOut := func(s channel.Stats) uint64 { return s.TimedOut }
	protocol := func(s channel.Stats) uint64 { return s.Protocol }
	failed := func(s channel.Stats) uint64 { return s.Failed }
	for name, tc := range map[string]struct {
		attack func(net.Conn)
		count  func(channel.Stats) uint64
	}{
		"silence":         {play(), timedOut},
		"garbage":         {play([]byte("GET / HTTP/1.1\r\n\r\n")...), protocol},
		"TLS 1.2":         {dialTLS(&tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{alpn13}}), protocol},
		"GM TLS":          {play(goodHello()...), protocol},
		"another ALPN":    {dialTLS(&tls.Config{NextProtos: []string{"h2"}}), protocol},
		"oversize record": {play(22, 3, 1, 0xff, 0xff), protocol},
		"oversize hello":  {play(22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff), protocol},
		"empty records":   {play(bytes.Repeat([]byte{22, 3, 1, 0, 0}, 100)...), protocol},
		"alert first":     {play(21, 3, 1, 0, 2, 2, 40), func(s channel.Stats) uint64 { return s.Refused }},
		"a byte a time":   {drip, timedOut},
		"no binding": {func(c net.Conn) {
			b := expose(t, tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn13}}))
			io.Copy(io.Discard, b)
		}, timedOut},
		"half a frame": {func(c net.Conn) {
			b := expose(t, tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn13}}))
			b.Write([]byte{0, 0, 1, 0, 7})
			b.Close()
		}, failed},
		"a giant frame": {func(c net.Conn) {
			b := expose(t, tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn13}}))
			b.Write([]byte{0xff, 0xff, 0xff, 0xff})
			io.Copy(io.Discard, b)
		}, protocol},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			raw.SetDeadline(time.Now().Add(20 * time.Second))
			before := tc.count(server.Stats())
			tc.attack(raw)
			eventually(t, "the server counts it", func() bool { return tc.count(server.Stats()) == before+1 })
		})
	}
	// More silent peers than there are places do not keep a good one out.
	for range 12 {
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
	}
	patient := in(channel.TLS13, x.config(x.party(t, "zhujian")))
	patient.HandshakeTimeout = 20 * time.Second
	ping(t, newEndpoint(t, patient), l.Addr().String(), "minzheng")
	l.Close()
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	eventually(t, "no channel is left", func() bool { return server.Stats().Open == 0 })
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// drip sends a handshake a byte at a time until it is cut off.
func drip(c net.Conn) {
	for _, b := range append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}, make([]byte, 500)...) {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestTLS13Cut: the end of the connection without a farewell is no end of the
// stream, wherever it comes.
func TestTLS13Cut(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	l := listen(t, newEndpoint(t, in(channel.TLS13, x.config(x.party(t, "minzheng")))))
	m := newMeddler(t, l.Addr().String())
	c, err := newEndpoint(t, in(channel.TLS13, x.config(x.party(t, "zhujian")))).Dial(t.Context(), m.addr, "minzheng")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server := accepted(t, l)
	server.Write([]byte("whole"))
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	(<-m.client).Close()
	if _, err := c.Read(got); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after the cut: %v", err)
	}
}

// TestModesDoNotMix: two ends of different protocols fail soon, and say so.
func TestModesDoNotMix(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	for _, mode := range []channel.Mode{channel.GMTLS, channel.TLS13} {
		server := newEndpoint(t, in(mode, x.config(x.party(t, "minzheng"))))
		l := listen(t, server)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		client := newEndpoint(t, in(1-mode, x.config(x.party(t, "zhujian"))))
		if _, err := client.Dial(ctx, l.Addr().String(), "minzheng"); !errors.Is(err, channel.ErrProtocol) {
			t.Errorf("mode %d to mode %d: %v", 1-mode, mode, err)
		}
		eventually(t, "the server counts it", func() bool { return server.Stats().Protocol == 1 })
	}
}
