package channel_test

import (
	"errors"
	"testing"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/channel"
	"xinqiao/crypto/gm"
)

// under returns the exchange as its issuing CA sees it, and that CA's certificate.
func (x exchange) under(t testing.TB, name string) (exchange, []byte) {
	t.Helper()
	key := newKey(t)
	der, err := x.ca.IssueCA(name, key.Public(), now, 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := cert.OpenIssuingCA(x.root, der, gm.NewSigner(gm.Emmansun(), key))
	if err != nil {
		t.Fatal(err)
	}
	return exchange{ca, x.root}, der
}

// TestIssuers connects departments whose certificates come from an issuing CA,
// from another one, and from the root.
func TestIssuers(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	first, firstCA := x.under(t, "issuing 1")
	second, secondCA := x.under(t, "issuing 2")
	foreign, foreignCA := newExchange(t).under(t, "issuing 1")
	a, b, c, stranger := first.party(t, "minzheng"), second.party(t, "zhujian"), x.party(t, "gongan"), foreign.party(t, "minzheng")
	known := func(list ...[]byte) func(*channel.Config) {
		return func(c *channel.Config) { c.Issuers = func() [][]byte { return list } }
	}
	config := func(p party, change func(*channel.Config)) channel.Config {
		cfg := x.config(p)
		change(&cfg)
		return cfg
	}
	all := known(foreignCA, x.root, nil, firstCA, secondCA)
	for name, test := range map[string]struct {
		server, client channel.Config
		want           error // of the client
	}{
		"two issuing CAs":       {config(a, all), config(b, all), nil},
		"root and issuing CA":   {config(a, all), config(c, all), nil},
		"one knows the other's": {config(a, known(secondCA)), config(b, known(firstCA)), nil},
		"client knows none":     {config(a, all), config(c, func(*channel.Config) {}), cert.ErrForeign},
		"client knows another":  {config(a, all), config(b, known(secondCA, foreignCA)), cert.ErrForeign},
		"server knows none":     {config(c, func(*channel.Config) {}), config(a, all), channel.ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newEndpoint(t, test.server)
			l := listen(t, server)
			go echo(l)
			conn, err := newEndpoint(t, test.client).Dial(t.Context(), l.Addr().String(), server.Dept())
			if !errors.Is(err, test.want) {
				t.Fatalf("dial: %v, want %v", err, test.want)
			}
			if err == nil {
				exchangeBytes(t, conn, "ping")
				if id := conn.Peer(); id.Dept != server.Dept() || id.Leaf != gm.Emmansun().Sum(cert.Leaf(test.server.SignCert)) ||
					id.Fingerprint != gm.Emmansun().Sum(test.server.SignCert) {
					t.Errorf("peer %+v", id)
				}
				conn.Close()
			}
		})
	}
	// Another exchange's issuing CA of the same name does not become known by being named.
	if _, err := channel.New(config(stranger, all)); !errors.Is(err, cert.ErrForeign) {
		t.Errorf("another exchange's certificates: %v", err)
	}
	hop := [][]byte{handshake(2, serverHello(0x0101, nil, 0xe013)), handshake(11, certificates(a.signCert, a.encCert))}
	if _, err := newEndpoint(t, config(b, all)).Dial(t.Context(), play(t, hop), "minzheng"); !errors.Is(err, channel.ErrProtocol) {
		t.Errorf("chains on a hop: %v", err)
	}
}
