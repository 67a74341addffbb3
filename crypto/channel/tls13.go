package channel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync/atomic"

	"github.com/tjfoc/gmsm/gmtls"

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
	end := &watch{Conn: a}
	var inner *tls.Conn
	if dialing {
		inner = tls.Client(end, e.config13())
	} else {
		inner = tls.Server(end, e.config13())
	}
	if err := inner.Handshake(); err != nil {
		if end.gmtls() {
			return nil, fmt.Errorf("%w: the peer speaks GM TLS and this node TLS 1.3; both need the same (%w)", ErrProtocol, err)
		}
		return nil, protocol13Error(err)
	}
	state := inner.ConnectionState()
	if state.NegotiatedProtocol != protocol13 { // crypto/tls lets a client pass that offers none
		return nil, fmt.Errorf("%w: application protocol %q", ErrProtocol, state.NegotiatedProtocol)
	}
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
	return &Conn{Conn: inner, raw: a.Conn, peer: b.peer, cut: end.ended.Load, accepted: !dialing}, nil
}

// protocol13Error says what an error of TLS means to a caller: an alert of the
// peer's is its refusal, one of our own a fault in what it sent. Errors of the
// network stay as they are, but for an end that comes too early.
func protocol13Error(err error) error {
	var op *net.OpError
	var network net.Error
	switch {
	case errors.As(err, &op) && op.Op == "remote error": // crypto/tls has no type for an alert
		return fmt.Errorf("%w (%w)", ErrRefused, err)
	case errors.As(err, &op) && op.Op == "local error":
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case errors.As(err, &network), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	}
	return fmt.Errorf("%w: %w", ErrProtocol, err)
}

// watch looks at what crypto/tls reads: how the stream begins, and whether it
// ended in a cut, because crypto/tls takes the end of the connection between two
// records for a farewell.
type watch struct {
	net.Conn
	head  []byte      // the beginning, as long as the handshake needs it
	ended atomic.Bool // the network has ended the stream, while TLS wanted more
}

// recordStart is how much of a record says its version.
const recordStart = 3

func (w *watch) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if len(w.head) < recordStart {
		w.head = append(w.head, p[:min(n, recordStart-len(w.head))]...)
	}
	if err == io.EOF {
		w.ended.Store(true)
	}
	return n, err
}

// gmtls reports whether the peer's first record is one of TLCP.
func (w *watch) gmtls() bool {
	return len(w.head) == recordStart && binary.BigEndian.Uint16(w.head[1:]) == gmtls.VersionGMSSL
}
