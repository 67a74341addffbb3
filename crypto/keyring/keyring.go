// Package keyring holds a node's private keys and uses them, never hands one
// out: the SM2 signing key, the SM2 encryption key, and the master keys of
// subject tags and of data at rest.
//
// The keys are software keys in one encrypted file. They are not a certified
// cryptographic module (GB/T 37092); a device behind SDF or SKF would take this
// package's place without its callers noticing, because nothing here returns a
// key.
package keyring

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"xinqiao/crypto/gm"
)

// Domains of the derived keys. Each is followed by a zero byte and the epoch or
// the purpose.
const (
	tagDomain      = "xinqiao/tag/v1"
	localDomain    = "xinqiao/local/v1"
	localTagDomain = "xinqiao/local-tag/v1"
)

// TagSize is the length of a subject tag in bytes.
const TagSize = 16

// ErrSealed reports local data that does not open: changed, moved to another
// purpose or additional data, or sealed by another keyring.
var ErrSealed = errors.New("sealed data does not open with this keyring")

// A Keyring uses the private keys of one node. It is safe for concurrent use
// and prints redacted.
type Keyring struct {
	engine gm.Engine
	sign   *gm.PrivateKey
	enc    *gm.PrivateKey
	tag    [masterSize]byte
	local  [masterSize]byte
}

// Generate makes new keys that exist in memory only and die with the process.
func Generate(engine gm.Engine) (*Keyring, error) {
	k := &Keyring{engine: engine}
	var err error
	if k.sign, err = gm.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("make the signing key: %w", err)
	}
	if k.enc, err = gm.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("make the encryption key: %w", err)
	}
	for _, master := range [][]byte{k.tag[:], k.local[:]} {
		if _, err := io.ReadFull(rand.Reader, master); err != nil {
			return nil, fmt.Errorf("make a master key: %w", err)
		}
	}
	return k, nil
}

// SignPublic returns the public key that verifies Sign.
func (k *Keyring) SignPublic() gm.PublicKey { return k.sign.Public() }

// EncPublic returns the public key to which others encrypt for this node.
func (k *Keyring) EncPublic() gm.PublicKey { return k.enc.Public() }

// Sign signs gm.Preimage(domain, body) with the signing key. The domain must
// not be empty: a signature without one could pass for another object's.
func (k *Keyring) Sign(domain string, body []byte) (gm.Signature, error) {
	if domain == "" {
		return gm.Signature{}, errors.New("sign: the domain is empty")
	}
	return k.engine.Sign(k.sign, gm.Preimage(domain, body))
}

// Unwrap decrypts an SM2 ciphertext (ASN.1, GM/T 0009) with the encryption key.
// Any failure is gm.ErrDecrypt.
func (k *Keyring) Unwrap(ciphertext []byte) ([]byte, error) {
	return k.engine.Decrypt(k.enc, ciphertext)
}

// Tag returns the subject tag of data for the epoch: HMAC-SM3 under a key
// derived for that epoch alone, cut to 16 bytes. Tags of two epochs, or of two
// keyrings, cannot be linked without the keys.
func (k *Keyring) Tag(epoch, data string) [TagSize]byte {
	key := gm.Derive(k.engine, k.tag[:], nil, tagDomain+"\x00"+epoch, gm.HashSize)
	d := gm.HMAC(k.engine, key, []byte(data))
	return [TagSize]byte(d[:TagSize])
}

// LocalTag returns a keyed digest of data for the purpose: names of files and
// other handles on this node that must tell a reader of the disk nothing.
func (k *Keyring) LocalTag(purpose string, data []byte) gm.Digest {
	key := gm.Derive(k.engine, k.local[:], nil, localTagDomain+"\x00"+purpose, gm.HashSize)
	return gm.HMAC(k.engine, key, data)
}

// Layout of sealed local data: format byte, salt, SM4-GCM ciphertext and tag.
const (
	localFormat = 1
	localSalt   = 32
)

// SealLocal encrypts plaintext for data at rest on this node. Key and nonce are
// derived from the purpose and a fresh 32-byte salt, so no count of messages
// wears the key out. What is sealed opens only with the same purpose and aad.
func (k *Keyring) SealLocal(purpose string, aad, plaintext []byte) ([]byte, error) {
	out := make([]byte, 1+localSalt, 1+localSalt+len(plaintext)+gm.TagSize)
	out[0] = localFormat
	if _, err := io.ReadFull(rand.Reader, out[1:]); err != nil {
		return nil, fmt.Errorf("seal local data: %w", err)
	}
	key := k.localKey(purpose, out[1:])
	aead, err := k.engine.NewAEAD(key[:gm.SM4KeySize])
	if err != nil {
		return nil, fmt.Errorf("seal local data: %w", err)
	}
	return aead.Seal(out, key[gm.SM4KeySize:], plaintext, aad), nil
}

// OpenLocal is the reverse of SealLocal. Any failure is ErrSealed.
func (k *Keyring) OpenLocal(purpose string, aad, sealed []byte) ([]byte, error) {
	if len(sealed) < 1+localSalt+gm.TagSize || sealed[0] != localFormat {
		return nil, ErrSealed
	}
	key := k.localKey(purpose, sealed[1:1+localSalt])
	aead, err := k.engine.NewAEAD(key[:gm.SM4KeySize])
	if err != nil {
		return nil, fmt.Errorf("open local data: %w", err)
	}
	plaintext, err := aead.Open(nil, key[gm.SM4KeySize:], sealed[1+localSalt:], aad)
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

// localKey returns an SM4 key and the nonce that follows it.
func (k *Keyring) localKey(purpose string, salt []byte) []byte {
	return gm.Derive(k.engine, k.local[:], salt, localDomain+"\x00"+purpose, gm.SM4KeySize+gm.NonceSize)
}

// TLSSigner returns the signing key as tjfoc's x509 and gmtls take it; see
// gm.NewSigner. It signs without a domain, so it is for certificates and
// handshakes only, and refuses what begins as a signed object does.
func (k *Keyring) TLSSigner() crypto.Signer { return gm.NewSigner(k.engine, k.sign) }

// TLSDecrypter returns the encryption key as gmtls takes it; see
// gm.NewDecrypter.
func (k *Keyring) TLSDecrypter() crypto.Decrypter { return gm.NewDecrypter(k.engine, k.enc) }

// String withholds the keys.
func (k *Keyring) String() string { return "keyring withheld" }

// GoString withholds the keys.
func (k *Keyring) GoString() string { return k.String() }
