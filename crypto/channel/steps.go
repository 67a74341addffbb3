package channel

import (
	"fmt"

	"github.com/tjfoc/gmsm/gmtls"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"xinqiao/crypto/gm"
)

// A step is the one thing that a peer may send next. Nothing in this handshake is
// optional, so the order is a list: no resumption, no extensions, certificates on
// both sides, and always the ServerKeyExchange, whose signature alone shows that a
// server holds its signing key.
type step struct {
	name    string
	record  byte // record type
	message byte // handshake message type; 0 for a record that holds none
	max     int  // length of the message's body
	check   func(g *guard, body []byte) error
}

// Handshake message types (GB/T 38636 6.4.5).
const (
	msgClientHello        = 1
	msgServerHello        = 2
	msgCertificate        = 11
	msgServerKeyExchange  = 12
	msgCertificateRequest = 13
	msgServerHelloDone    = 14
	msgCertificateVerify  = 15
	msgClientKeyExchange  = 16
)

const (
	maxHello        = 128
	maxCertificates = 12 << 10
	maxAuthorities  = 4 << 10
	maxSignature    = 2 + 72 // length and DER of two 256-bit numbers
	maxKeyExchange  = 2 + 3 + 2*35 + 34 + 50
)

// stepsOfClient is what a listener receives.
func stepsOfClient() []step {
	return []step{
		{"ClientHello", recordHandshake, msgClientHello, maxHello, checkClientHello},
		{"Certificate", recordHandshake, msgCertificate, maxCertificates, checkCertificate},
		{"ClientKeyExchange", recordHandshake, msgClientKeyExchange, maxKeyExchange, checkClientKeyExchange},
		{"CertificateVerify", recordHandshake, msgCertificateVerify, maxSignature, checkSignature},
		{"ChangeCipherSpec", recordCCS, 0, 0, checkChangeCipherSpec},
		{"Finished", recordHandshake, 0, 0, checkFinished},
	}
}

// stepsOfServer is what a dialer receives.
func stepsOfServer() []step {
	return []step{
		{"ServerHello", recordHandshake, msgServerHello, maxHello, checkServerHello},
		{"Certificate", recordHandshake, msgCertificate, maxCertificates, checkCertificate},
		{"ServerKeyExchange", recordHandshake, msgServerKeyExchange, maxSignature, checkSignature},
		{"CertificateRequest", recordHandshake, msgCertificateRequest, maxAuthorities, checkCertificateRequest},
		{"ServerHelloDone", recordHandshake, msgServerHelloDone, 0, func(*guard, []byte) error { return nil }},
		{"ChangeCipherSpec", recordCCS, 0, 0, checkChangeCipherSpec},
		{"Finished", recordHandshake, 0, 0, checkFinished},
	}
}

func malformed(what string) error { return fmt.Errorf("%w: malformed %s", ErrProtocol, what) }

// checkClientHello wants version 0x0101, no session, exactly our suite, no
// compression, no extensions.
func checkClientHello(_ *guard, body []byte) error {
	in := cryptobyte.String(body)
	var version, id uint16
	var session, suites, compression cryptobyte.String
	if !in.ReadUint16(&version) || !in.Skip(32) || !in.ReadUint8LengthPrefixed(&session) ||
		!in.ReadUint16LengthPrefixed(&suites) || !suites.ReadUint16(&id) || !suites.Empty() ||
		!in.ReadUint8LengthPrefixed(&compression) || !in.Empty() {
		return malformed("ClientHello, or one with more suites or extensions than ours")
	}
	if version != gmtls.VersionGMSSL || id != suite || !session.Empty() || string(compression) != "\x00" {
		return fmt.Errorf("%w: version %#04x and suite %#04x offered", ErrProtocol, version, id)
	}
	return nil
}

func checkServerHello(_ *guard, body []byte) error {
	in := cryptobyte.String(body)
	var version, id uint16
	var session cryptobyte.String
	var compression uint8
	if !in.ReadUint16(&version) || !in.Skip(32) || !in.ReadUint8LengthPrefixed(&session) ||
		!in.ReadUint16(&id) || !in.ReadUint8(&compression) || !in.Empty() {
		return malformed("ServerHello")
	}
	if version != gmtls.VersionGMSSL || id != suite || !session.Empty() || compression != 0 {
		return fmt.Errorf("%w: version %#04x and suite %#04x chosen", ErrProtocol, version, id)
	}
	return nil
}

func checkCertificate(g *guard, body []byte) error {
	in, list := cryptobyte.String(body), cryptobyte.String(nil)
	if !in.ReadUint24LengthPrefixed(&list) || !in.Empty() {
		return malformed("Certificate")
	}
	var certs [][]byte
	for !list.Empty() {
		var c cryptobyte.String
		if len(certs) == 2 || !list.ReadUint24LengthPrefixed(&c) || c.Empty() {
			return malformed("Certificate: exactly a signing and an encryption certificate are due")
		}
		certs = append(certs, c)
	}
	return g.judge(certs)
}

// checkSignature reads the body of ServerKeyExchange and CertificateVerify.
// gmtls computes its length with a shift that drops the high byte.
func checkSignature(_ *guard, body []byte) error {
	in, der := cryptobyte.String(body), cryptobyte.String(nil)
	if !in.ReadUint16LengthPrefixed(&der) || !in.Empty() {
		return malformed("signature")
	}
	if _, err := gm.ParseSignature(der); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

func checkCertificateRequest(_ *guard, body []byte) error {
	in := cryptobyte.String(body)
	var types, authorities cryptobyte.String
	if !in.ReadUint8LengthPrefixed(&types) || types.Empty() ||
		!in.ReadUint16LengthPrefixed(&authorities) || !in.Empty() {
		return malformed("CertificateRequest")
	}
	for !authorities.Empty() {
		var name, rdn cryptobyte.String
		if !authorities.ReadUint16LengthPrefixed(&name) || !name.ReadASN1(&rdn, cbasn1.SEQUENCE) || !name.Empty() {
			return malformed("CertificateRequest")
		}
	}
	return nil
}

// checkClientKeyExchange wants a pre-master secret of 48 bytes, encrypted in the
// form of GM/T 0009, with minimal DER. gmtls indexes into a shorter message
// without looking. Whether the point is on the curve is the decrypter's to check.
func checkClientKeyExchange(_ *guard, body []byte) error {
	in := cryptobyte.String(body)
	var der, seq, hash, secret cryptobyte.String
	if !in.ReadUint16LengthPrefixed(&der) || !in.Empty() ||
		!der.ReadASN1(&seq, cbasn1.SEQUENCE) || !der.Empty() ||
		!readCoordinate(&seq) || !readCoordinate(&seq) ||
		!seq.ReadASN1(&hash, cbasn1.OCTET_STRING) || len(hash) != gm.HashSize ||
		!seq.ReadASN1(&secret, cbasn1.OCTET_STRING) || len(secret) != 48 || !seq.Empty() {
		return malformed("ClientKeyExchange")
	}
	return nil
}

// readCoordinate reads a number of 0 to 2^256-1.
func readCoordinate(in *cryptobyte.String) bool {
	var n []byte // cryptobyte refuses negative numbers here
	return in.ReadASN1Integer(&n) && len(n) <= 32
}

func checkChangeCipherSpec(_ *guard, body []byte) error {
	if len(body) != 1 || body[0] != 1 {
		return malformed("ChangeCipherSpec")
	}
	return nil
}

// checkFinished sees ciphertext: gmtls decrypts and compares.
func checkFinished(_ *guard, body []byte) error {
	if len(body) < minFinished || len(body) > maxFinished || len(body)%16 != 0 {
		return malformed("Finished")
	}
	return nil
}
