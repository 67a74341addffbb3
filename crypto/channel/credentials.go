package channel

import (
	"crypto"
	"crypto/rand"
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

// credentials are Credentials that were checked.
type credentials struct {
	Credentials
	id cert.Identity // in SignCert
}

// Reload has later handshakes use other credentials of the same department.
// Handshakes under way end with those that they began with, and open channels
// stay. Credentials that New would refuse change nothing.
func (e *Endpoint) Reload(c Credentials) error {
	own, err := e.check(c)
	if err == nil && own.id.Dept != e.dept {
		err = fmt.Errorf("%w: certificates of %q for the endpoint of %q", ErrIdentity, own.id.Dept, e.dept)
	}
	if err != nil {
		return fmt.Errorf("channel: reload: %w", err)
	}
	e.creds.Store(own)
	return nil
}

// check holds credentials to what a peer will ask of them, and the keys to the
// certificates.
func (e *Endpoint) check(c Credentials) (*credentials, error) {
	if c.Signer == nil || c.Decrypter == nil {
		return nil, errors.New("a signer and a decrypter are needed")
	}
	own, enc, err := e.verifyPair([][]byte{c.SignCert, c.EncCert}, e.root.Pool())
	if err != nil {
		return nil, fmt.Errorf("own certificates: %w", err)
	}
	for _, pair := range []struct {
		usage cert.Usage
		have  crypto.PublicKey
		want  gm.PublicKey
	}{{own.Usage, c.Signer.Public(), own.Key}, {enc.Usage, c.Decrypter.Public(), enc.Key}} {
		if key, err := gm.PublicKeyOf(pair.have); err != nil || key != pair.want {
			return nil, fmt.Errorf("the %s key is not that of the %s certificate", pair.usage, pair.usage)
		}
	}
	if e.cfg.Mode == TLS13 {
		if err := signs(c.Sign, own.Key); err != nil {
			return nil, err
		}
	}
	return &credentials{c, own}, nil
}

// trialDomain separates the signature with which Sign shows its key.
const trialDomain = "xinqiao/channel-trial/v1"

// signs has sign show that it is of the key. Unlike a Signer it does not say so,
// and each peer would find out instead.
func signs(sign func(domain string, body []byte) (gm.Signature, error), key gm.PublicKey) error {
	if sign == nil {
		return errors.New("TLS 1.3 needs a key that signs the binding")
	}
	trial := make([]byte, gm.HashSize)
	if _, err := rand.Read(trial); err != nil {
		return err
	}
	sig, err := sign(trialDomain, trial)
	if err != nil {
		return fmt.Errorf("the key that signs the binding: %w", err)
	}
	if !gm.Emmansun().Verify(key, gm.Preimage(trialDomain, trial), sig) {
		return errors.New("the key that signs the binding is not that of the signing certificate")
	}
	return nil
}
