package channel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"xinqiao/crypto/gm"
)

// protocol13 is the application protocol (RFC 7301) of the binding below: a TLS
// client of anything else is turned away in the first message.
const protocol13 = "xinqiao-channel/1"

// exporterLabel names the secret that both ends sign (RFC 8446 section 7.5). It
// follows from everything in this one handshake, so what is signed in one
// connection is worth nothing in another.
const exporterLabel = "EXPORTER-xinqiao-channel-binding"

// ephemeral makes the certificate that TLS needs of a server. It is of this
// endpoint and process alone, names nobody, and nobody believes it.
func ephemeral() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// config13 leaves TLS nothing to decide: one version, no tickets, no early data.
// The client does not verify the server's certificate, because the binding proves
// who the server is; before that has been checked nothing is sent but the
// client's own proof, which is good for this connection only.
func (e *Endpoint) config13() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocol13},
		Certificates:           []tls.Certificate{e.tls},
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // see above
	}
}

// handshake13 runs TLS 1.3 and the binding inside it.
func (e *Endpoint) handshake13(a *attempt, dept string, dialing bool) (*Conn, error) {
	end := &watch{Conn: a.Conn, attempt: a}
	var inner *tls.Conn
	if dialing {
		inner = tls.Client(end, e.config13())
	} else {
		inner = tls.Server(end, e.config13())
	}
	if err := inner.Handshake(); err != nil {
		return nil, protocol13Error(err)
	}
	state := inner.ConnectionState()
	secret, err := state.ExportKeyingMaterial(exporterLabel, nil, gm.HashSize)
	if err != nil {
		return nil, protocol13Error(err)
	}
	b := binding{endpoint: e, own: e.creds.Load(), conn: inner, secret: gm.Digest(secret)}
	if dialing {
		err = b.dial(dept)
	} else {
		err = b.answer()
	}
	if err != nil {
		return nil, err
	}
	end.done.Store(true)
	return &Conn{Conn: inner, raw: a.Conn, peer: b.peer, cut: end.ended.Load}, nil
}

// protocol13Error says what an error of TLS means to a caller. Errors of the
// network stay as they are; an alert is the peer's refusal.
func protocol13Error(err error) error {
	var alert tls.AlertError
	var network net.Error
	switch {
	case errors.As(err, &alert):
		return fmt.Errorf("%w (%w)", ErrRefused, err)
	case errors.As(err, &network), errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	}
	return fmt.Errorf("%w: %w", ErrProtocol, err)
}

// watch tells the listener since when a peer owes it bytes, and a reader whether
// the stream ended in a cut: crypto/tls takes the end of the connection between
// two records for a farewell.
type watch struct {
	net.Conn
	attempt *attempt
	done    atomic.Bool // the handshake is over
	ended   atomic.Bool // the network has ended the stream, while TLS wanted more
}

func (w *watch) Read(p []byte) (int, error) {
	if !w.done.Load() {
		w.attempt.waiting.CompareAndSwap(0, time.Now().UnixNano())
	}
	n, err := w.Conn.Read(p)
	if n > 0 && !w.done.Load() {
		w.attempt.waiting.Store(0)
	}
	if err == io.EOF {
		w.ended.Store(true)
	}
	return n, err
}
