package channel

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

// The seeds in testdata/fuzz are what attackers send; the certificates in them are
// of a root whose key is gone.

// tape is a connection on which everything that a peer will ever say is recorded.
type tape struct {
	io.Reader
	written int
}

func (t *tape) Write(p []byte) (int, error) {
	t.written += len(p)
	return len(p), nil
}

func (*tape) Close() error                     { return nil }
func (*tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*tape) SetDeadline(time.Time) error      { return nil }
func (*tape) SetReadDeadline(time.Time) error  { return nil }
func (*tape) SetWriteDeadline(time.Time) error { return nil }

// fuzzed is an endpoint, and a key of another department that it would admit.
func fuzzed(f *testing.F, mode Mode) (e *Endpoint, peer *gm.PrivateKey, peerCert []byte) {
	f.Helper()
	at := time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	key := func() *gm.PrivateKey {
		k, err := gm.GenerateKey(rand.Reader)
		if err != nil {
			f.Fatal(err)
		}
		return k
	}
	ca, root, err := cert.NewCA("test root", gm.NewSigner(gm.Emmansun(), key()), at, 24*time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	issue := func(dept string, usage cert.Usage, k *gm.PrivateKey) []byte {
		der, err := ca.Issue(cert.Request{Dept: dept, Usage: usage, Key: k.Public(), Lifetime: time.Hour}, at)
		if err != nil {
			f.Fatal(err)
		}
		return der
	}
	sign, enc, peer := key(), key(), key()
	e, err = New(Config{Root: root, Mode: mode, Admit: func(cert.Identity) error { return nil }, Clock: func() time.Time { return at },
		Credentials: Credentials{SignCert: issue("minzheng", cert.Signing, sign), EncCert: issue("minzheng", cert.Encryption, enc),
			Signer: gm.NewSigner(gm.Emmansun(), sign), Decrypter: gm.NewDecrypter(gm.Emmansun(), enc),
			Sign: func(domain string, body []byte) (gm.Signature, error) {
				return gm.Emmansun().Sign(sign, gm.Preimage(domain, body))
			}}})
	if err != nil {
		f.Fatal(err)
	}
	return e, peer, issue("zhujian", cert.Signing, peer)
}

// FuzzHandshake plays a peer of either side in either mode. None can know a secret
// of this handshake beforehand, so none may succeed.
func FuzzHandshake(f *testing.F) {
	endpoints := map[bool]*Endpoint{}
	for tls13, mode := range map[bool]Mode{false: GMTLS, true: TLS13} {
		endpoints[tls13], _, _ = fuzzed(f, mode)
	}
	for _, tls13 := range []bool{false, true} {
		for _, dialing := range []bool{false, true} {
			f.Add(tls13, dialing, []byte("SSH-2.0-x\r\n"))
		}
	}
	f.Fuzz(func(t *testing.T, tls13, dialing bool, said []byte) {
		dept := ""
		if dialing {
			dept = "zhujian"
		}
		sent := &tape{Reader: bytes.NewReader(said)}
		c, err := endpoints[tls13].handshake(&attempt{Conn: sent}, dept, dialing)
		if err == nil {
			t.Fatalf("a channel to %+v", c.Peer())
		}
		if sent.written > 64<<10 {
			t.Errorf("%d bytes are answered to %d", sent.written, len(said))
		}
	})
}

// FuzzBinding has the server read a client's proof. Of all there are it may take
// those that the client has signed for this connection.
func FuzzBinding(f *testing.F) {
	e, key, chain := fuzzed(f, TLS13)
	b := binding{endpoint: e, own: e.creds.Load(), secret: gm.Digest{1, 2, 3}}
	body := canon.MustMarshal(statement{Suite: gm.Suite, Role: roleClient, Secret: b.secret, Self: "zhujian", Peer: "minzheng"})
	sig, err := gm.Emmansun().Sign(key, gm.Preimage(bindingDomain, body))
	if err != nil {
		f.Fatal(err)
	}
	honest := canon.MustMarshal(proof{Suite: gm.Suite, Chain: chain, Peer: "minzheng", Sig: sig})
	f.Add(honest)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, said []byte) {
		one := b
		err := one.check(said, roleClient, "", gm.Digest{})
		if (err == nil) != bytes.Equal(said, honest) {
			t.Errorf("%x: %v", said, err)
		}
		if err != nil && one.peer.Dept != "" {
			t.Errorf("refused, and taken for %+v", one.peer)
		}
	})
}
