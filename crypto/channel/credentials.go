package channel

import (
	"crypto"
	"errors"
	"fmt"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

// Mode is the protocol of a hop. Nothing is negotiated: both ends are configured.
type Mode uint8

// The modes.
const (
	GMTLS Mode = iota // TLCP behind the guard
	TLS13             // TLS 1.3, with the identities proven by SM2 inside it
)

// ParseMode reads the name of a mode in a configuration; the empty name is GMTLS.
func ParseMode(name string) (Mode, error) {
	switch name {
	case "", "gmtls":
		return GMTLS, nil
	case "tls13":
		return TLS13, nil
	}
	return GMTLS, fmt.Errorf("channel mode %q: want gmtls or tls13", name)
}

// Credentials are what a department proves its identity with. Signer and
// Decrypter are for GM TLS, Sign for TLS 1.3; the keys behind Signer and Sign are
// the same.
type Credentials struct {
	SignCert  []byte           // signing certificate or chain, DER
	EncCert   []byte           // encryption certificate or chain, DER
	Signer    crypto.Signer    // of SignCert's key, in the shape of gm.NewSigner
	Decrypter crypto.Decrypter // of EncCert's key, in the shape of gm.NewDecrypter
	// Sign signs gm.Preimage(domain, body) with SignCert's key.
	Sign func(domain string, body []byte) (gm.Signature, error)
}

// Reload has later handshakes use other credentials of the same department.
// Handshakes under way end with those that they began with, and open channels
// stay. Credentials that New would refuse change nothing.
func (e *Endpoint) Reload(c Credentials) error {
	dept, err := e.check(c)
	if err == nil && dept != e.dept {
		err = fmt.Errorf("%w: certificates of %q for the endpoint of %q", ErrIdentity, dept, e.dept)
	}
	if err == nil {
		_, err = e.use(c)
	}
	if err != nil {
		return fmt.Errorf("channel: reload: %w", err)
	}
	return nil
}

// use takes credentials that check accepts.
func (e *Endpoint) use(c Credentials) (dept string, err error) {
	if dept, err = e.check(c); err != nil {
		return "", err
	}
	e.creds.Store(&c)
	return dept, nil
}

// check holds credentials to what a peer will ask of them, and the keys to the
// certificates.
func (e *Endpoint) check(c Credentials) (dept string, err error) {
	if c.Signer == nil || c.Decrypter == nil {
		return "", errors.New("a signer and a decrypter are needed")
	}
	if e.cfg.Mode == TLS13 && c.Sign == nil {
		return "", errors.New("TLS 1.3 needs a key that signs the binding")
	}
	own, enc, err := e.verifyPair([][]byte{c.SignCert, c.EncCert}, e.root.Pool())
	if err != nil {
		return "", fmt.Errorf("own certificates: %w", err)
	}
	for _, pair := range []struct {
		usage cert.Usage
		have  crypto.PublicKey
		want  gm.PublicKey
	}{{own.Usage, c.Signer.Public(), own.Key}, {enc.Usage, c.Decrypter.Public(), enc.Key}} {
		if key, err := gm.PublicKeyOf(pair.have); err != nil || key != pair.want {
			return "", fmt.Errorf("the %s key is not that of the %s certificate", pair.usage, pair.usage)
		}
	}
	return own.Dept, nil
}
