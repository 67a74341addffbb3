package channel_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/channel"
	"xinqiao/crypto/gm"
)

// now is when the certificates of these tests are valid; it is far from the real
// time, so that a forgotten Clock shows.
var now = time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)

// party is one department with its keys and certificates.
type party struct {
	dept      string
	sign, enc *gm.PrivateKey
	signCert  []byte
	encCert   []byte
}

// exchange is a root and those whom it certified.
type exchange struct {
	ca   *cert.CA
	root []byte
}

func newKey(t testing.TB) *gm.PrivateKey {
	t.Helper()
	key, err := gm.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newExchange(t testing.TB) exchange {
	t.Helper()
	ca, root, err := cert.NewCA("test root", gm.NewSigner(gm.Emmansun(), newKey(t)), now, 10*365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return exchange{ca, root}
}

func (x exchange) issue(t testing.TB, dept string, usage cert.Usage, key *gm.PrivateKey) []byte {
	t.Helper()
	der, err := x.ca.Issue(cert.Request{Dept: dept, Usage: usage, Key: key.Public(), Lifetime: 24 * time.Hour, Hosts: []string{"127.0.0.1"}}, now)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (x exchange) party(t testing.TB, dept string) party {
	t.Helper()
	p := party{dept: dept, sign: newKey(t), enc: newKey(t)}
	p.signCert = x.issue(t, dept, cert.Signing, p.sign)
	p.encCert = x.issue(t, dept, cert.Encryption, p.enc)
	return p
}

func admitAll(cert.Identity) error { return nil }

func (x exchange) config(p party) channel.Config {
	return channel.Config{Root: x.root, Credentials: p.credentials(), Admit: admitAll, Clock: func() time.Time { return now }}
}

func (p party) credentials() channel.Credentials {
	return channel.Credentials{
		SignCert: p.signCert, EncCert: p.encCert,
		Signer:    gm.NewSigner(gm.Emmansun(), p.sign),
		Decrypter: gm.NewDecrypter(gm.Emmansun(), p.enc),
		Sign: func(domain string, body []byte) (gm.Signature, error) {
			return gm.Emmansun().Sign(p.sign, gm.Preimage(domain, body))
		},
	}
}

// eachMode runs a test over both protocols.
func eachMode(t *testing.T, f func(*testing.T, channel.Mode)) {
	for name, mode := range map[string]channel.Mode{"gmtls": channel.GMTLS, "tls13": channel.TLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, mode)
		})
	}
}

// in returns the configuration with another protocol.
func in(mode channel.Mode, cfg channel.Config) channel.Config {
	cfg.Mode = mode
	return cfg
}

func newEndpoint(t testing.TB, cfg channel.Config) *channel.Endpoint {
	t.Helper()
	e, err := channel.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (x exchange) endpoint(t testing.TB, p party) *channel.Endpoint {
	return newEndpoint(t, x.config(p))
}

func listen(t testing.TB, e *channel.Endpoint) net.Listener {
	t.Helper()
	l, err := e.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// echo serves every accepted connection by sending back what arrives.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

// ping shows that the server at addr still serves.
func ping(t testing.TB, e *channel.Endpoint, addr, dept string) {
	t.Helper()
	c, err := e.Dial(t.Context(), addr, dept)
	if err != nil {
		t.Fatalf("a good peer cannot connect: %v", err)
	}
	defer c.Close()
	exchangeBytes(t, c, "ping")
}

func exchangeBytes(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatalf("write: %v", err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v; want %q", got, err, text)
	}
}

// accepted returns the next connection, or fails when none comes.
func accepted(t testing.TB, l net.Listener) *channel.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*channel.Conn)
}

func pair(t testing.TB, mode channel.Mode) (server, client *channel.Conn) {
	t.Helper()
	x := newExchange(t)
	l := listen(t, newEndpoint(t, in(mode, x.config(x.party(t, "minzheng")))))
	client, err := newEndpoint(t, in(mode, x.config(x.party(t, "zhujian")))).Dial(t.Context(), l.Addr().String(), "minzheng")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return accepted(t, l), client
}

func TestPeersKnowEachOther(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	a, b := x.party(t, "minzheng"), x.party(t, "zhujian")
	var asked []cert.Identity // by one handshake, and Accept comes after it
	cfg := x.config(a)
	cfg.Admit = func(id cert.Identity) error { asked = append(asked, id); return nil }
	l := listen(t, newEndpoint(t, cfg))
	client, err := x.endpoint(t, b).Dial(t.Context(), l.Addr().String(), "minzheng")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server := accepted(t, l)
	if p := server.Peer(); p.Dept != "zhujian" || p.Key != b.sign.Public() || p.Usage != cert.Signing {
		t.Errorf("the server sees %+v", p)
	}
	if p := client.Peer(); p.Dept != "minzheng" || p.Key != a.sign.Public() || p.Usage != cert.Signing {
		t.Errorf("the client sees %+v", p)
	}
	if len(asked) != 2 || asked[0] != server.Peer() || asked[1] != server.Peer() {
		t.Errorf("Admit was asked about %+v", asked)
	}
	go io.Copy(server, server)
	exchangeBytes(t, client, "hello")
}

func TestWhoIsRefused(t *testing.T) {
	t.Parallel()
	x, y := newExchange(t), newExchange(t)
	good, other := x.party(t, "minzheng"), x.party(t, "zhujian")
	foreign := y.party(t, "zhujian")
	refuse := errors.New("withdrawn")
	for name, test := range map[string]struct {
		server, client func(*channel.Config)
		dept           string
		want           error // of the client
	}{
		"wrong department": {dept: "gongan", want: channel.ErrIdentity},
		"no department":    {dept: "", want: channel.ErrIdentity},
		"server not admitted": {
			client: func(c *channel.Config) { c.Admit = func(cert.Identity) error { return refuse } },
			dept:   "minzheng", want: refuse,
		},
		"client without admission": {
			client: func(c *channel.Config) { c.Admit = nil },
			dept:   "minzheng", want: channel.ErrNotAdmitted,
		},
		"client not admitted": {
			server: func(c *channel.Config) { c.Admit = func(cert.Identity) error { return refuse } },
			dept:   "minzheng", want: channel.ErrRefused,
		},
		"server without admission": {
			server: func(c *channel.Config) { c.Admit = nil },
			dept:   "minzheng", want: channel.ErrRefused,
		},
		"foreign client": {
			client: func(c *channel.Config) {
				*c = y.config(foreign)
				c.Root = y.root
			},
			dept: "minzheng", want: cert.ErrForeign,
		},
		"client in another year": {
			client: func(c *channel.Config) { c.Clock = tick(now.Add(12*time.Hour), now.Add(365*24*time.Hour)) },
			dept:   "minzheng", want: cert.ErrExpired,
		},
		"server in another year": {
			server: func(c *channel.Config) { c.Clock = tick(now.Add(12*time.Hour), now.Add(365*24*time.Hour)) },
			dept:   "minzheng", want: channel.ErrRefused,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, client := x.config(good), x.config(other)
			if test.server != nil {
				test.server(&server)
			}
			if test.client != nil {
				test.client(&client)
			}
			l := listen(t, newEndpoint(t, server))
			got := make(chan net.Conn, 1)
			go func() {
				if c, err := l.Accept(); err == nil {
					got <- c
				}
			}()
			c, err := newEndpoint(t, client).Dial(t.Context(), l.Addr().String(), test.dept)
			if err == nil {
				c.Close()
			}
			if !errors.Is(err, test.want) {
				t.Errorf("dial: %v, want %v", err, test.want)
			}
			l.Close()
			select {
			case <-got:
				t.Error("the listener accepted the connection")
			default:
			}
		})
	}
}

// tick is a clock that shows first once, for New, and then the second time.
func tick(first, then time.Time) func() time.Time {
	calls := make(chan struct{}, 1)
	calls <- struct{}{}
	return func() time.Time {
		select {
		case <-calls:
			return first
		default:
			return then
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	a, b := x.party(t, "minzheng"), x.party(t, "zhujian")
	oneKey := a
	oneKey.enc = a.sign
	oneKey.encCert = x.issue(t, "minzheng", cert.Encryption, a.sign)
	for name, change := range map[string]func(*channel.Config){
		"no root":            func(c *channel.Config) { c.Root = nil },
		"no signer":          func(c *channel.Config) { c.Signer = nil },
		"no decrypter":       func(c *channel.Config) { c.Decrypter = nil },
		"leaf as root":       func(c *channel.Config) { c.Root = a.signCert },
		"swapped":            func(c *channel.Config) { c.SignCert, c.EncCert = c.EncCert, c.SignCert },
		"two departments":    func(c *channel.Config) { c.EncCert = b.encCert },
		"other signer":       func(c *channel.Config) { c.Signer = gm.NewSigner(gm.Emmansun(), b.sign) },
		"other decrypter":    func(c *channel.Config) { c.Decrypter = gm.NewDecrypter(gm.Emmansun(), b.enc) },
		"expired":            func(c *channel.Config) { c.Clock = func() time.Time { return now.Add(48 * time.Hour) } },
		"one key for either": func(c *channel.Config) { *c = x.config(oneKey) },
	} {
		cfg := x.config(a)
		change(&cfg)
		if _, err := channel.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDialEndsWithContext(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cause := errors.New("changed my mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		if c, err := silent.Accept(); err == nil { // the handshake has begun
			defer c.Close()
			io.ReadFull(c, make([]byte, 5))
			cancel(cause)
			io.Copy(io.Discard, c)
		}
	}()
	e := x.endpoint(t, x.party(t, "zhujian"))
	if _, err := e.Dial(ctx, silent.Addr().String(), "minzheng"); !errors.Is(err, cause) {
		t.Errorf("cancelled dial: %v", err)
	}
	cfg := x.config(x.party(t, "zhujian"))
	cfg.HandshakeTimeout = 20 * time.Millisecond
	if _, err := newEndpoint(t, cfg).Dial(t.Context(), silent.Addr().String(), "minzheng"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial to a silent peer: %v", err)
	}
}
