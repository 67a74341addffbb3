package peer

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"testing"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/channel"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// TestOverChannels has two nodes talk over the channels they use in earnest: the
// caller's department is the one in its certificate.
func TestOverChannels(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]channel.Mode{"gmtls": channel.GMTLS, "tls13": channel.TLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			overChannel(t, mode)
		})
	}
}

func overChannel(t *testing.T, mode channel.Mode) {
	now := time.Now()
	key := func() *gm.PrivateKey {
		k, err := gm.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	ca, root, err := cert.NewCA("test root", gm.NewSigner(gm.Emmansun(), key()), now, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := func(dept string) *channel.Endpoint {
		sign, enc := key(), key()
		issue := func(u cert.Usage, k *gm.PrivateKey) []byte {
			der, err := ca.Issue(cert.Request{Dept: dept, Usage: u, Key: k.Public(), Lifetime: time.Hour, Hosts: []string{"127.0.0.1"}}, now)
			if err != nil {
				t.Fatal(err)
			}
			return der
		}
		e, err := channel.New(channel.Config{Root: root, Mode: mode, Admit: func(cert.Identity) error { return nil }, Credentials: channel.Credentials{
			SignCert: issue(cert.Signing, sign), EncCert: issue(cert.Encryption, enc),
			Signer: gm.NewSigner(gm.Emmansun(), sign), Decrypter: gm.NewDecrypter(gm.Emmansun(), enc),
			Sign: func(domain string, body []byte) (gm.Signature, error) {
				return gm.Emmansun().Sign(sign, gm.Preimage(domain, body))
			}}})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	l, err := endpoint("minzheng").Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{answer: func(_ context.Context, from exchange.Dept, request []byte) ([]byte, error) {
		return append([]byte(from+":"), request...), nil
	}}
	s := NewServer(ServerConfig{Asked: b, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		PeerOf: func(c net.Conn) (exchange.Dept, bool) {
			conn, ok := c.(*channel.Conn)
			if !ok {
				return "", false
			}
			return exchange.Dept(conn.Peer().Dept), true
		}})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	defer func() {
		if err := s.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	caller := endpoint("zhujian")
	c := NewClient(ClientConfig{Address: func(exchange.Dept) (string, bool) { return l.Addr().String(), true },
		Dial: func(ctx context.Context, addr string, d exchange.Dept) (net.Conn, error) {
			return caller.Dial(ctx, addr, string(d))
		}})
	defer c.Close()
	for range 3 {
		got, err := c.Ask(t.Context(), "minzheng", []byte("request"))
		if err != nil || string(got) != "zhujian:request" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	// Whoever answers there is not renshe, so nothing was sent.
	if _, err := c.Ask(t.Context(), "renshe", []byte("request")); exchange.KindOf(err) != exchange.Unavailable {
		t.Errorf("wrong department at the address: %v", err)
	}
}
