package keyring

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"xinqiao/crypto/gm"
)

// TagSize is the length of a subject tag in bytes.
const TagSize = 16

// ErrSealed reports local data that does not open: changed, moved to another
// purpose or additional data, or sealed by another keyring.
var ErrSealed = errors.New("sealed data does not open with this keyring")

// macInput is what a master authenticates: its kind's domain and the parts, each
// behind its length, so that no two lists of parts are one input.
func macInput(kind Kind, parts ...[]byte) []byte {
	in := gm.Preimage(kind.domain(), nil)
	for _, p := range parts {
		in = append(binary.BigEndian.AppendUint32(in, uint32(len(p))), p...)
	}
	return in
}

// Tag returns the subject tag of data for the epoch: HMAC-SM3 of both under the
// master of that epoch, cut to 16 bytes. Tags of two epochs, or of two keyrings,
// cannot be linked without the keys.
func (k *Keyring) Tag(epoch, data string) ([TagSize]byte, error) {
	d, err := k.device.MAC(k.view.Load().tagMaster(epoch).ID, macInput(KindTag, []byte(epoch), []byte(data)))
	if err != nil {
		return [TagSize]byte{}, fmt.Errorf("tag: %w", err)
	}
	return [TagSize]byte(d[:TagSize]), nil
}

// LocalTag returns a keyed digest of data for the purpose: names of files and
// other handles on this node that must tell a reader of the disk nothing. Its
// master is never rotated, or nothing would be found under its name again.
func (k *Keyring) LocalTag(purpose string, data []byte) (gm.Digest, error) {
	d, err := k.device.MAC(k.view.Load().newest(KindName).ID, macInput(KindName, []byte(purpose), data))
	if err != nil {
		return gm.Digest{}, fmt.Errorf("local tag: %w", err)
	}
	return d, nil
}

// Layout of sealed local data: format byte, ID of the master, salt, SM4-GCM
// ciphertext and tag.
const (
	localFormat = 2
	localSalt   = 32
	localHead   = 1 + len(ID{}) + localSalt
)

// SealLocal encrypts plaintext for data at rest on this node. Key and nonce are
// derived from the purpose and a fresh 32-byte salt, so no count of messages
// wears the key out. What is sealed opens only with the same purpose and aad.
//
// The derived key of this one message reaches the memory of this process, the
// master does not.
func (k *Keyring) SealLocal(purpose string, aad, plaintext []byte) ([]byte, error) {
	master := k.view.Load().newest(KindLocal).ID
	out := make([]byte, localHead, localHead+len(plaintext)+gm.TagSize)
	out[0] = localFormat
	salt := out[1+copy(out[1:], master[:]):]
	if _, err := io.ReadFull(rand.Reader, salt); err != nil {
		return nil, fmt.Errorf("seal local data: %w", err)
	}
	key, err := k.localKey(master, purpose, salt)
	if err != nil {
		return nil, fmt.Errorf("seal local data: %w", err)
	}
	defer clear(key)
	aead, err := k.engine.NewAEAD(key[:gm.SM4KeySize])
	if err != nil {
		return nil, fmt.Errorf("seal local data: %w", err)
	}
	return aead.Seal(out, key[gm.SM4KeySize:], plaintext, aad), nil
}

// OpenLocal is the reverse of SealLocal. Any failure of the data is ErrSealed; a
// device that does not answer is ErrUnavailable.
func (k *Keyring) OpenLocal(purpose string, aad, sealed []byte) ([]byte, error) {
	if len(sealed) < localHead+gm.TagSize || sealed[0] != localFormat {
		return nil, ErrSealed
	}
	key, err := k.localKey(ID(sealed[1:]), purpose, sealed[localHead-localSalt:localHead])
	if errors.Is(err, ErrNoKey) || errors.Is(err, ErrRefused) { // another keyring's master, or none
		return nil, ErrSealed
	}
	if err != nil {
		return nil, fmt.Errorf("open local data: %w", err)
	}
	defer clear(key)
	aead, err := k.engine.NewAEAD(key[:gm.SM4KeySize])
	if err != nil {
		return nil, fmt.Errorf("open local data: %w", err)
	}
	plaintext, err := aead.Open(nil, key[gm.SM4KeySize:], sealed[localHead:], aad)
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

// localKey returns an SM4 key and the nonce that follows it.
func (k *Keyring) localKey(master ID, purpose string, salt []byte) ([]byte, error) {
	d, err := k.device.MAC(master, macInput(KindLocal, []byte(purpose), salt))
	if err != nil {
		return nil, err
	}
	return d[:gm.SM4KeySize+gm.NonceSize], nil
}
