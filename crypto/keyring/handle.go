package keyring

import (
	"crypto"
	"fmt"

	"xinqiao/crypto/gm"
)

// A SignKey uses one signing key, whichever is active. It stays valid while
// other keys are added; once its key is retired it answers ErrNoKey.
type SignKey struct {
	device Device
	key    Key
}

// SignerOf returns the signing key of a certificate's public key, or false when
// it is not held.
func (k *Keyring) SignerOf(pub gm.PublicKey) (*SignKey, bool) {
	key, ok := k.view.Load().find(KindSign, pub)
	if !ok {
		return nil, false
	}
	return &SignKey{k.device, key}, true
}

func (k *Keyring) signer() *SignKey { return &SignKey{k.device, k.view.Load().sign} }

// Public returns the key that verifies what this handle signs.
func (s *SignKey) Public() gm.PublicKey { return s.key.Public }

// Sign signs gm.Preimage(domain, body). It refuses an empty domain, and one with
// a zero byte, with ErrRefused.
func (s *SignKey) Sign(domain string, body []byte) (gm.Signature, error) {
	if !validDomain(domain) {
		return gm.Signature{}, fmt.Errorf("%w: sign under the domain %q", ErrRefused, domain)
	}
	return s.device.Sign(s.key.ID, UseObject, gm.Preimage(domain, body))
}

// TLSSigner returns the key as tjfoc's x509 and gmtls take it; see gm.NewSigner.
// It signs without a domain, so it is for certificates and handshakes only, and
// refuses what begins as a signed object does.
func (s *SignKey) TLSSigner() crypto.Signer {
	return gm.SignerFunc(s.key.Public, func(msg []byte) (gm.Signature, error) {
		return s.device.Sign(s.key.ID, UseHandshake, msg)
	})
}

// TLSSigner returns the active signing key for handshakes; see SignKey.TLSSigner.
// It keeps the key that is active now.
func (k *Keyring) TLSSigner() crypto.Signer { return k.signer().TLSSigner() }

// An EncKey uses one encryption key, as SignKey does a signing key.
type EncKey struct {
	device Device
	key    Key
}

// DecrypterOf returns the encryption key of a certificate's public key, or false
// when it is not held.
func (k *Keyring) DecrypterOf(pub gm.PublicKey) (*EncKey, bool) {
	key, ok := k.view.Load().find(KindEnc, pub)
	if !ok {
		return nil, false
	}
	return &EncKey{k.device, key}, true
}

func (k *Keyring) decrypter() *EncKey { return &EncKey{k.device, k.view.Load().enc} }

// Public returns the key to which others encrypt for this handle.
func (d *EncKey) Public() gm.PublicKey { return d.key.Public }

// Unwrap decrypts an SM2 ciphertext (ASN.1, GM/T 0009). Any failure of the
// ciphertext is gm.ErrDecrypt.
func (d *EncKey) Unwrap(ciphertext []byte) ([]byte, error) {
	return d.device.Decrypt(d.key.ID, ciphertext)
}

// TLSDecrypter returns the key as gmtls takes it; see gm.NewDecrypter.
func (d *EncKey) TLSDecrypter() crypto.Decrypter { return gm.DecrypterFunc(d.key.Public, d.Unwrap) }

// RequestSigner returns the key for signing the PKCS #10 request for its own
// certificate: proof that the department holds it. Everything else is refused,
// so that an encryption key never signs what could count as an object.
func (d *EncKey) RequestSigner() crypto.Signer {
	return gm.SignerFunc(d.key.Public, func(msg []byte) (gm.Signature, error) {
		return d.device.Sign(d.key.ID, UseRequest, msg)
	})
}

// TLSDecrypter returns the active encryption key for handshakes. It keeps the
// key that is active now.
func (k *Keyring) TLSDecrypter() crypto.Decrypter { return k.decrypter().TLSDecrypter() }
