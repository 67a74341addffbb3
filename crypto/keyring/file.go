package keyring

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/argon2"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

// Errors of Open, told apart because each asks something else of an operator.
var (
	ErrPassphrase  = errors.New("the passphrase does not open this keyring")
	ErrDamaged     = errors.New("the keyring file is damaged: restore it from a backup")
	ErrPermissions = errors.New("the keyring file is open to other users: chmod 600")
	ErrVersion     = errors.New("the keyring file has a format that this version does not know")
)

// The file is magic, version byte, canonical CBOR of a box, and the SM3 hash of
// all that. The hash is no protection, the AEAD is; it tells a damaged disk from a
// wrong passphrase. It ends the file in every version.
const (
	magic         = "xinqiao keyring\n"
	version       = 1
	fileDomain    = "xinqiao/keyring/v1"
	checkSize     = 16
	masterSize    = 32
	maxFile       = 64 << 10
	maxPassphrase = 1 << 10
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
	Sign  [32]byte         `cbor:"1,keyasint"`
	Enc   [32]byte         `cbor:"2,keyasint"`
	Tag   [masterSize]byte `cbor:"3,keyasint"`
	Local [masterSize]byte `cbor:"4,keyasint"`
}

// Create makes new keys and writes them to path, encrypted under the
// passphrase: mode 0600, durable before it returns. It refuses to replace
// a file (fs.ErrExist).
func Create(path string, passphrase []byte, engine gm.Engine) (*Keyring, error) {
	return CreateWithCost(path, passphrase, engine, DefaultCost())
}

// CreateWithCost is Create with another price of a guess; a cheap one is for
// passphrases that are random themselves, and for tests.
func CreateWithCost(path string, passphrase []byte, engine gm.Engine, cost Cost) (*Keyring, error) {
	k, err := Generate(engine)
	if err != nil {
		return nil, fmt.Errorf("create keyring: %w", err)
	}
	file, err := k.encode(passphrase, cost)
	if err != nil {
		return nil, fmt.Errorf("create keyring: %w", err)
	}
	if err := writeNew(path, file); err != nil {
		return nil, fmt.Errorf("create keyring: %w", err)
	}
	return k, nil
}

// Open reads the keyring at path. Besides errors of the file system it returns
// ErrPermissions, ErrVersion, ErrDamaged or ErrPassphrase.
func Open(path string, passphrase []byte, engine gm.Engine) (*Keyring, error) {
	file, err := readPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	k, err := decode(file, passphrase, engine)
	if err != nil {
		return nil, fmt.Errorf("open keyring %s: %w", filepath.Base(path), err)
	}
	return k, nil
}

func (k *Keyring) encode(passphrase []byte, cost Cost) ([]byte, error) {
	if err := cost.check(); err != nil {
		return nil, err
	}
	h := header{Suite: gm.Suite, Cost: cost}
	for _, b := range [][]byte{h.Salt[:], h.Nonce[:]} {
		if _, err := io.ReadFull(rand.Reader, b); err != nil {
			return nil, err
		}
	}
	key, check, err := unlock(k.engine, passphrase, h)
	if err != nil {
		return nil, err
	}
	h.Check = check
	head := canon.MustMarshal(h)

	s := secrets{Tag: k.tag, Local: k.local}
	copy(s.Sign[:], k.sign.Scalar())
	copy(s.Enc[:], k.enc.Scalar())
	plain := canon.MustMarshal(s)
	defer clear(plain)
	aead, err := k.engine.NewAEAD(key)
	if err != nil {
		return nil, err
	}
	sealed := aead.Seal(nil, h.Nonce[:], plain, gm.Preimage(fileDomain, head))

	file := append([]byte(magic), version)
	file = append(file, canon.MustMarshal(box{Header: head, Sealed: sealed})...)
	sum := k.engine.Sum(file)
	return append(file, sum[:]...), nil
}

func decode(file, passphrase []byte, engine gm.Engine) (*Keyring, error) {
	body := len(file) - gm.HashSize
	if body <= len(magic) || !bytes.HasPrefix(file, []byte(magic)) {
		return nil, ErrDamaged
	}
	if sum := engine.Sum(file[:body]); !bytes.Equal(sum[:], file[body:]) {
		return nil, ErrDamaged
	}
	if file[len(magic)] != version {
		return nil, ErrVersion
	}
	var b box
	var h header
	if canon.Unmarshal(file[len(magic)+1:body], &b) != nil || canon.Unmarshal(b.Header, &h) != nil || h.Cost.check() != nil {
		return nil, ErrDamaged
	}
	if h.Suite != gm.Suite {
		return nil, ErrVersion
	}
	key, check, err := unlock(engine, passphrase, h)
	if err != nil {
		return nil, err
	}
	if !gm.Equal(check[:], h.Check[:]) {
		return nil, ErrPassphrase
	}
	aead, err := engine.NewAEAD(key)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, h.Nonce[:], b.Sealed, gm.Preimage(fileDomain, b.Header))
	if err != nil {
		return nil, ErrDamaged
	}
	defer clear(plain)
	var s secrets
	if err := canon.Unmarshal(plain, &s); err != nil {
		return nil, ErrDamaged
	}
	k := &Keyring{engine: engine, tag: s.Tag, local: s.Local}
	var signErr, encErr error
	k.sign, signErr = gm.NewPrivateKey(s.Sign[:])
	k.enc, encErr = gm.NewPrivateKey(s.Enc[:])
	if signErr != nil || encErr != nil {
		return nil, ErrDamaged
	}
	return k, nil
}

// unlock returns the key that seals the secrets and the check value beside it.
// Argon2id hashes with BLAKE2b: no GM algorithm is memory-hard.
func unlock(engine gm.Engine, passphrase []byte, h header) (key []byte, check [checkSize]byte, err error) {
	if len(passphrase) == 0 || len(passphrase) > maxPassphrase {
		return nil, check, fmt.Errorf("%w: it has %d bytes: want 1 to %d", ErrPassphrase, len(passphrase), maxPassphrase)
	}
	master := argon2.IDKey(passphrase, h.Salt[:], h.Cost.Time, h.Cost.MemoryKiB, h.Cost.Threads, masterSize)
	defer clear(master)
	check = [checkSize]byte(gm.Derive(engine, master, nil, fileDomain+"\x00check", checkSize))
	return gm.Derive(engine, master, nil, fileDomain+"\x00seal", gm.SM4KeySize), check, nil
}

// readPrivate reads a small regular file that only its owner can read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, ErrDamaged
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w (mode %04o)", ErrPermissions, info.Mode().Perm())
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// writeNew writes a file that must not exist yet. It becomes visible whole or
// not at all: a link refuses to replace, which a rename does not.
func writeNew(path string, content []byte) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".keyring-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // what a failure leaves behind
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
