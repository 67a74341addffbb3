// Package keyring holds a node's private keys and uses them, never hands one
// out: SM2 signing keys, SM2 encryption keys, and the masters of subject tags and
// of data at rest, each in as many generations as rotation needs.
//
// A Keyring stands on a Device. The software device keeps its keys in one
// encrypted file; it is not a certified cryptographic module (GB/T 37092). An
// agent (Serve, Dial) holds the same file in a process of its own, and a device
// behind SDF takes its place without a caller noticing, because nothing here
// returns a key.
package keyring

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"xinqiao/crypto/gm"
)

// Errors of changing a keyring's keys.
var (
	// ErrFixed reports a keyring whose keys are made and retired elsewhere: with
	// `xinqiao keyring` where the file is, or with a device's own tool.
	ErrFixed = errors.New("the keys of this keyring are made where they are held")
	// ErrLast reports that a keyring needs one key of each kind.
	ErrLast = errors.New("the last key of its kind cannot be retired")
	// ErrEpoch reports a tag master for epochs that an older one already serves.
	ErrEpoch = errors.New("a tag master begins at a later epoch than the one before it")
	// ErrFull reports that a keyring holds as many keys as it can.
	ErrFull = errors.New("the keyring is full: retire old keys first")
)

// A Keyring uses the private keys of one node. It is safe for concurrent use,
// also while its keys change, and prints redacted.
//
// Several signing and encryption keys may be held. The node's certificates say
// which is in force, and SignerOf and DecrypterOf give the key that a certificate
// names. Methods without such a handle use the active key: the one that Use
// named, or the oldest. So a key that is added changes nothing by itself.
type Keyring struct {
	engine gm.Engine
	device Device

	change sync.Mutex // serialises what replaces the view
	view   atomic.Pointer[view]
}

// view is what the device held when it was last asked.
type view struct {
	keys      []Key // the oldest first
	sign, enc Key   // active; zero when Use named a key that is gone
	used      [2]ID // what Use named, if anything
}

// Generate makes new keys that exist in memory only and die with the process.
func Generate(engine gm.Engine) (*Keyring, error) {
	s, err := newStore(engine, First{})
	if err != nil {
		return nil, err
	}
	return New(engine, s)
}

// New returns the keyring on a device. The engine serves what needs no key of
// the device: SM4-GCM under keys that are derived for one message.
func New(engine gm.Engine, d Device) (*Keyring, error) {
	k := &Keyring{engine: engine, device: d}
	if err := k.Reload(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// Close lets go of the device. What is used afterwards fails.
func (k *Keyring) Close() error {
	if c, ok := k.device.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Reload asks the device which keys it holds now. A file that another process
// has replaced is read again; one whose passphrase has changed is not
// (ErrPassphrase). On failure the keyring goes on with the keys it has.
func (k *Keyring) Reload() error {
	k.change.Lock()
	defer k.change.Unlock()
	return k.reload()
}

func (k *Keyring) reload() error {
	keys, err := k.device.Keys()
	if err != nil {
		return fmt.Errorf("list the keys: %w", err)
	}
	v := &view{keys: keys}
	if old := k.view.Load(); old != nil {
		v.used = old.used
	}
	for _, kind := range []Kind{KindSign, KindEnc, KindTag, KindLocal, KindName} {
		if !slices.ContainsFunc(keys, func(key Key) bool { return key.Kind == kind }) {
			return fmt.Errorf("%w: it has none of kind %q", ErrNoKey, kind)
		}
	}
	v.sign, v.enc = v.active(KindSign, v.used[0]), v.active(KindEnc, v.used[1])
	k.view.Store(v)
	return nil
}

func (v *view) active(kind Kind, used ID) Key {
	for _, key := range v.keys {
		if key.Kind == kind && (used == ID{} || key.ID == used) {
			return key
		}
	}
	return Key{}
}

// find returns the key of a kind with this public key.
func (v *view) find(kind Kind, pub gm.PublicKey) (Key, bool) {
	i := slices.IndexFunc(v.keys, func(key Key) bool { return key.Kind == kind && key.Public == pub })
	if i < 0 || pub.IsZero() {
		return Key{}, false
	}
	return v.keys[i], true
}

// tagMaster returns the master for an epoch: of those that begin no later, the
// one that begins last.
func (v *view) tagMaster(epoch string) Key {
	var found Key
	for _, key := range v.keys {
		if key.Kind == KindTag && key.From <= epoch && (found.Kind == 0 || key.From > found.From) {
			found = key
		}
	}
	return found
}

// newest returns the youngest key of a kind.
func (v *view) newest(kind Kind) Key {
	for _, key := range slices.Backward(v.keys) {
		if key.Kind == kind {
			return key
		}
	}
	return Key{}
}

// Keys describes every key that is held, the oldest first.
func (k *Keyring) Keys() []Key { return slices.Clone(k.view.Load().keys) }

// SignKeys returns the public keys that verify what this keyring can sign, the
// newest first.
func (k *Keyring) SignKeys() []gm.PublicKey { return k.publics(KindSign) }

// EncKeys returns the public keys for which this keyring can decrypt, the newest
// first.
func (k *Keyring) EncKeys() []gm.PublicKey { return k.publics(KindEnc) }

func (k *Keyring) publics(kind Kind) []gm.PublicKey {
	var list []gm.PublicKey
	for _, key := range slices.Backward(k.view.Load().keys) {
		if key.Kind == kind {
			list = append(list, key.Public)
		}
	}
	return list
}

// SignPublic returns the active signing key: it verifies Sign.
func (k *Keyring) SignPublic() gm.PublicKey { return k.view.Load().sign.Public }

// EncPublic returns the active encryption key, to which others encrypt for this
// node.
func (k *Keyring) EncPublic() gm.PublicKey { return k.view.Load().enc.Public }

// Use makes two held keys the active ones: those that the certificates in force
// name. It changes this Keyring only, not the file, or returns ErrNoKey and
// changes nothing. Once an active key is retired, what would use it fails with
// ErrNoKey until Use names another.
func (k *Keyring) Use(sign, enc gm.PublicKey) error {
	k.change.Lock()
	defer k.change.Unlock()
	v := *k.view.Load()
	var okSign, okEnc bool
	v.sign, okSign = v.find(KindSign, sign)
	v.enc, okEnc = v.find(KindEnc, enc)
	if !okSign || !okEnc {
		return ErrNoKey
	}
	v.used = [2]ID{v.sign.ID, v.enc.ID}
	k.view.Store(&v)
	return nil
}

// AddSign makes a signing key beside the others, on the file before it returns.
// at is recorded as the time it was made.
func (k *Keyring) AddSign(at time.Time) (gm.PublicKey, error) { return k.add(KindSign, "", at) }

// AddEnc makes an encryption key beside the others; see AddSign.
func (k *Keyring) AddEnc(at time.Time) (gm.PublicKey, error) { return k.add(KindEnc, "", at) }

// AddTag makes a tag master for the epochs from one on; earlier epochs keep
// theirs, so what was tagged is still found. The epoch must lie behind that of
// the last master (ErrEpoch), and the caller sees to it that nothing was tagged
// from it on: what was would not be found again.
func (k *Keyring) AddTag(from string, at time.Time) error {
	_, err := k.add(KindTag, from, at)
	return err
}

// AddLocal makes a master for what is sealed at rest from now on. What is sealed
// names its master, so older data stays readable.
func (k *Keyring) AddLocal(at time.Time) error {
	_, err := k.add(KindLocal, "", at)
	return err
}

func (k *Keyring) add(kind Kind, from string, at time.Time) (gm.PublicKey, error) {
	var made Key
	err := k.alter("add a key", func(s *store) (err error) {
		made, err = s.add(kind, from, at)
		return err
	})
	return made.Public, err
}

// AddEnveloped adds an encryption key that a key centre made and wrapped under
// one of this keyring's signing keys (gm.ParseEnvelopedKey). It returns
// gm.ErrEnveloped for what is malformed or wrapped to another key.
func (k *Keyring) AddEnveloped(der []byte, at time.Time) (gm.PublicKey, error) {
	var made Key
	err := k.alter("add an enveloped key", func(s *store) (err error) {
		made, err = s.addEnveloped(der, at)
		return err
	})
	return made.Public, err
}

// Retire destroys the private part of the signing or encryption key that pub
// names: it is on the file no more when Retire returns. It refuses the last key
// of a kind (ErrLast) and a key that is not held (ErrNoKey). A copy of the old
// file, a backup say, still has the key.
func (k *Keyring) Retire(pub gm.PublicKey) error {
	return k.alter("retire a key", func(s *store) error { return s.retire(pub) })
}

// Rekey seals the file under another passphrase. A copy of the old file still
// opens with the old one.
func (k *Keyring) Rekey(passphrase []byte, cost Cost) error {
	return k.alter("change the passphrase", func(s *store) error { return s.rekey(passphrase, cost) })
}

// alter changes the software store and then shows what it holds.
func (k *Keyring) alter(what string, do func(*store) error) error {
	s, ok := k.device.(*store)
	if !ok {
		return fmt.Errorf("%s: %w", what, ErrFixed)
	}
	k.change.Lock()
	defer k.change.Unlock()
	if err := do(s); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return k.reload()
}

// Sign signs gm.Preimage(domain, body) with the active signing key. The domain
// must not be empty: a signature without one could pass for another object's.
func (k *Keyring) Sign(domain string, body []byte) (gm.Signature, error) {
	return k.signer().Sign(domain, body)
}

// Unwrap decrypts an SM2 ciphertext (ASN.1, GM/T 0009) with the active encryption
// key. Any failure of the ciphertext is gm.ErrDecrypt.
func (k *Keyring) Unwrap(ciphertext []byte) ([]byte, error) { return k.decrypter().Unwrap(ciphertext) }

// String withholds the keys.
func (k *Keyring) String() string { return "keyring withheld" }

// GoString withholds the keys.
func (k *Keyring) GoString() string { return k.String() }

// validDomain reports whether a domain separates: it is not empty and ends where
// its zero byte is.
func validDomain(domain string) bool { return domain != "" && !strings.Contains(domain, "\x00") }
