package keyring

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"golang.org/x/crypto/argon2"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

// Errors of Open, told apart because each asks something else of an operator.
var (
	ErrPassphrase  = errors.New("the passphrase does not open this keyring")
	ErrDamaged     = errors.New("the keyring file is damaged: restore it from a backup")
	ErrPermissions = errors.New("the keyring file is open to other users, or not its reader's own")
	ErrVersion     = errors.New("the keyring file has a format that this version does not know")
	ErrNotFile     = errors.New("the keyring is not a regular file: name the file itself, no link, directory or pipe")
)

// The file is magic, version byte, canonical CBOR of a box, and the SM3 hash of
// all that. The hash is no protection, the AEAD is; it tells a damaged disk from a
// wrong passphrase. It ends the file in every version.
const (
	magic         = "xinqiao keyring\n"
	version       = 2
	fileDomain    = "xinqiao/keyring/v2"
	checkSize     = 16
	maxFile       = 64 << 10
	maxPassphrase = 1 << 10
	maxMade       = 253402300799 // the last second of the year 9999
)

// Cost is the price of one guess at the passphrase (Argon2id, RFC 9106).
type Cost struct {
	Time      uint32 `cbor:"1,keyasint"` // passes
	MemoryKiB uint32 `cbor:"2,keyasint"`
	Threads   uint8  `cbor:"3,keyasint"`
}

// DefaultCost is 64 MiB in three passes: about a fifth of a second.
func DefaultCost() Cost { return Cost{Time: 3, MemoryKiB: 64 << 10, Threads: 1} }

// check bounds the cost, so that a crafted file cannot exhaust the node that
// opens it.
func (c Cost) check() error {
	if c.Time < 1 || c.Time > 16 || c.MemoryKiB < 8 || c.MemoryKiB > 512<<10 || c.Threads < 1 || c.Threads > 8 {
		return fmt.Errorf("argon2id cost of %d passes, %d KiB, %d threads is out of bounds", c.Time, c.MemoryKiB, c.Threads)
	}
	return nil
}

type header struct {
	Suite string             `cbor:"1,keyasint"`
	Cost  Cost               `cbor:"2,keyasint"`
	Salt  [32]byte           `cbor:"3,keyasint"`
	Nonce [gm.NonceSize]byte `cbor:"4,keyasint"`
	// Check is derived from the passphrase beside the sealing key. It tells a
	// wrong passphrase from a changed file, and no more than a trial decryption would.
	Check [checkSize]byte `cbor:"5,keyasint"`
}

type box struct {
	Header []byte `cbor:"1,keyasint"` // canonical header, the AEAD's additional data
	Sealed []byte `cbor:"2,keyasint"` // SM4-GCM of the canonical secrets
}

type secrets struct {
	Keys []secret `cbor:"1,keyasint"` // the oldest first
}

type secret struct {
	Kind Kind             `cbor:"1,keyasint"`
	Made int64            `cbor:"2,keyasint"` // Unix seconds, 0 when not known
	From string           `cbor:"3,keyasint"`
	Key  [masterSize]byte `cbor:"4,keyasint"` // scalar or master
}

// lock is what a passphrase becomes for one file: the key that seals it. It is
// kept while the file is open, so that a change needs no passphrase; a process
// that holds the keys loses nothing more by it.
type lock struct {
	cost  Cost
	salt  [32]byte
	check [checkSize]byte
	key   [gm.SM4KeySize]byte
}

// String withholds the key.
func (l *lock) String() string { return "keyring lock withheld" }

// GoString withholds the key.
func (l *lock) GoString() string { return l.String() }

// newLock draws a salt for a passphrase.
func newLock(engine gm.Engine, passphrase []byte, cost Cost) (*lock, error) {
	if err := cost.check(); err != nil {
		return nil, err
	}
	var salt [32]byte
	if _, err := io.ReadFull(rand.Reader, salt[:]); err != nil {
		return nil, err
	}
	return unlock(engine, passphrase, cost, salt)
}

// unlock derives the key that seals the secrets and the check value beside it.
// Argon2id hashes with BLAKE2b: no GM algorithm is memory-hard.
func unlock(engine gm.Engine, passphrase []byte, cost Cost, salt [32]byte) (*lock, error) {
	if len(passphrase) == 0 || len(passphrase) > maxPassphrase {
		return nil, fmt.Errorf("%w: it has %d bytes: want 1 to %d", ErrPassphrase, len(passphrase), maxPassphrase)
	}
	l := &lock{cost: cost, salt: salt}
	stretched := argon2.IDKey(passphrase, salt[:], cost.Time, cost.MemoryKiB, cost.Threads, masterSize)
	defer clear(stretched)
	for _, part := range []struct {
		to    []byte
		label string
	}{{l.check[:], "\x00check"}, {l.key[:], "\x00seal"}} {
		b := gm.Derive(engine, stretched, nil, fileDomain+part.label, len(part.to))
		copy(part.to, b)
		clear(b)
	}
	return l, nil
}

// Create makes new keys and writes them to path, encrypted under the
// passphrase: mode 0600, durable before it returns. It refuses to replace
// a file (fs.ErrExist). When the keys were made stays unknown; CreateFrom
// records it.
func Create(path string, passphrase []byte, engine gm.Engine) (*Keyring, error) {
	return CreateFrom(path, passphrase, engine, First{})
}

// CreateWithCost is Create with another price of a guess; a cheap one is for
// passphrases that are random themselves, and for tests.
func CreateWithCost(path string, passphrase []byte, engine gm.Engine, cost Cost) (*Keyring, error) {
	return CreateFrom(path, passphrase, engine, First{Cost: cost})
}

// CreateFrom is Create with keys that exist already, or with the time at which
// they are made.
func CreateFrom(path string, passphrase []byte, engine gm.Engine, first First) (*Keyring, error) {
	if first.Cost == (Cost{}) {
		first.Cost = DefaultCost()
	}
	s, err := newStore(engine, first)
	if err == nil {
		s.lock, err = newLock(engine, passphrase, first.Cost)
	}
	if err != nil {
		return nil, fmt.Errorf("create keyring: %w", err)
	}
	file, err := s.encode(s.lock, s.keys)
	if err != nil {
		return nil, fmt.Errorf("create keyring: %w", err)
	}
	if err := writeNew(path, file); err != nil {
		return nil, fmt.Errorf("create keyring: %w", err)
	}
	s.path, s.seen = path, hashOf(file)
	return New(engine, s)
}

// Open reads the keyring at path. Besides errors of the file system it returns
// ErrPermissions, ErrNotFile, ErrVersion, ErrDamaged or ErrPassphrase. The caller
// clears the passphrase.
func Open(path string, passphrase []byte, engine gm.Engine) (*Keyring, error) {
	s, err := openStore(path, passphrase, engine)
	if err != nil {
		return nil, fmt.Errorf("open keyring %s: %w", filepath.Base(path), err)
	}
	return New(engine, s)
}

func openStore(path string, passphrase []byte, engine gm.Engine) (*store, error) {
	file, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	s := &store{engine: engine, path: path}
	return s, s.decode(file, func(h header) (*lock, error) { return unlock(engine, passphrase, h.Cost, h.Salt) })
}

// refresh reads the file again if it is another than the last one. The caller
// holds s.change.
func (s *store) refresh() error {
	file, err := readPrivate(s.path)
	if err != nil {
		return err
	}
	if hashOf(file) == s.seen {
		return nil
	}
	return s.decode(file, func(h header) (*lock, error) {
		if h.Salt != s.lock.salt || h.Cost != s.lock.cost {
			return nil, fmt.Errorf("%w: it was changed since the keyring was opened", ErrPassphrase)
		}
		return s.lock, nil
	})
}

// replace changes the keys, in the file first and then in memory: a key that is
// used is on disk. Changes by several processes come one after the other, each
// on top of what the last one left.
func (s *store) replace(next func(keys []*softKey) ([]*softKey, error)) error {
	s.change.Lock()
	defer s.change.Unlock()
	return s.write(nil, next)
}

// rekey seals the same keys under another passphrase.
func (s *store) rekey(passphrase []byte, cost Cost) error {
	l, err := newLock(s.engine, passphrase, cost)
	if err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()
	return s.write(l, func(keys []*softKey) ([]*softKey, error) { return keys, nil })
}

// write puts the next keys in place, sealed by l or as before. The caller holds
// s.change.
func (s *store) write(l *lock, next func(keys []*softKey) ([]*softKey, error)) error {
	if s.path == "" {
		s.mu.RLock()
		keys, err := next(s.keys)
		s.mu.RUnlock()
		if err == nil {
			s.set(keys)
		}
		return err
	}
	release, err := lockFolder(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	defer release()
	if err := s.refresh(); err != nil {
		return err
	}
	if l == nil {
		l = s.lock
	}
	s.mu.RLock()
	keys, err := next(s.keys)
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	file, err := s.encode(l, keys)
	if err != nil {
		return err
	}
	if err := replaceFile(s.path, file, s.step); err != nil {
		return err
	}
	s.lock, s.seen = l, hashOf(file)
	s.set(keys)
	return nil
}

// encode returns the file of the keys, sealed by l under a fresh nonce.
func (s *store) encode(l *lock, keys []*softKey) ([]byte, error) {
	h := header{Suite: gm.Suite, Cost: l.cost, Salt: l.salt, Check: l.check}
	if _, err := io.ReadFull(rand.Reader, h.Nonce[:]); err != nil {
		return nil, err
	}
	head := canon.MustMarshal(h)
	list := make([]secret, len(keys))
	defer clear(list)
	for i, k := range keys {
		list[i] = secret{Kind: k.Kind, From: k.From, Key: k.master}
		if !k.Made.IsZero() {
			list[i].Made = k.Made.Unix()
		}
		if k.pair != nil {
			scalar := k.pair.Scalar()
			copy(list[i].Key[:], scalar)
			clear(scalar)
		}
	}
	plain := canon.MustMarshal(secrets{Keys: list})
	defer clear(plain)
	aead, err := s.engine.NewAEAD(l.key[:])
	if err != nil {
		return nil, err
	}
	sealed := aead.Seal(nil, h.Nonce[:], plain, gm.Preimage(fileDomain, head))
	file := append([]byte(magic), version)
	file = append(file, canon.MustMarshal(box{Header: head, Sealed: sealed})...)
	sum := s.engine.Sum(file)
	return append(file, sum[:]...), nil
}

// hashOf returns the hash at the end of a file.
func hashOf(file []byte) (d gm.Digest) {
	copy(d[:], file[max(0, len(file)-gm.HashSize):])
	return d
}

// parse reads what a file shows without its passphrase.
func parse(engine gm.Engine, file []byte) (b box, h header, err error) {
	body := len(file) - gm.HashSize
	if body <= len(magic) || !bytes.HasPrefix(file, []byte(magic)) {
		return b, h, ErrDamaged
	}
	if sum := engine.Sum(file[:body]); !bytes.Equal(sum[:], file[body:]) {
		return b, h, ErrDamaged
	}
	if file[len(magic)] != version {
		return b, h, ErrVersion
	}
	if canon.Unmarshal(file[len(magic)+1:body], &b) != nil || canon.Unmarshal(b.Header, &h) != nil || h.Cost.check() != nil {
		return b, h, ErrDamaged
	}
	if h.Suite != gm.Suite {
		return b, h, ErrVersion
	}
	return b, h, nil
}

// decode takes the keys out of a file that the lock which open returns opens. On
// failure the store keeps what it has.
func (s *store) decode(file []byte, open func(header) (*lock, error)) error {
	b, h, err := parse(s.engine, file)
	if err != nil {
		return err
	}
	l, err := open(h)
	if err != nil {
		return err
	}
	if !gm.Equal(l.check[:], h.Check[:]) {
		return ErrPassphrase
	}
	aead, err := s.engine.NewAEAD(l.key[:])
	if err != nil {
		return err
	}
	plain, err := aead.Open(nil, h.Nonce[:], b.Sealed, gm.Preimage(fileDomain, b.Header))
	if err != nil {
		return ErrDamaged
	}
	defer clear(plain)
	keys, err := readKeys(s.engine, plain)
	if err != nil {
		return err
	}
	s.lock, s.seen = l, hashOf(file)
	s.set(keys)
	return nil
}

// readKeys reads opened secrets. What is wrong with them was sealed so, by
// another program: ErrDamaged.
func readKeys(engine gm.Engine, plain []byte) ([]*softKey, error) {
	var list secrets
	if err := canon.Unmarshal(plain, &list); err != nil {
		return nil, ErrDamaged
	}
	defer clear(list.Keys)
	if len(list.Keys) > maxKeys {
		return nil, ErrDamaged
	}
	keys := make([]*softKey, 0, len(list.Keys))
	for i := range list.Keys {
		x := &list.Keys[i]
		if x.Made < 0 || x.Made > maxMade {
			return nil, ErrDamaged
		}
		k := &softKey{Key: Key{Kind: x.Kind, From: x.From}}
		if x.Made > 0 {
			k.Made = time.Unix(x.Made, 0).UTC()
		}
		if x.Kind == KindSign || x.Kind == KindEnc {
			var err error
			if k.pair, err = gm.NewPrivateKey(x.Key[:]); err != nil {
				return nil, ErrDamaged
			}
		} else {
			k.master = x.Key
		}
		k.name(engine)
		keys = append(keys, k)
	}
	if checkKeys(keys) != nil {
		return nil, ErrDamaged
	}
	return keys, nil
}
