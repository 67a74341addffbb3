package source

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/policy"
)

// Errors of every source; all are found with errors.Is.
var (
	// ErrNoRecord is an answer, not a failure: the source has no record of the
	// subject. Its exchange.Kind is NotFound.
	ErrNoRecord error = &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound,
		Msg: "the source has no record of the subject", Hint: "check the identifier with the applicant"}
	// ErrPermit reports a permit that permits nothing, or nothing here.
	ErrPermit = errors.New("the permit does not open this record")
	// ErrDamaged reports a stored record that is not what was put there: changed,
	// moved to another name, or sealed by another keyring.
	ErrDamaged = errors.New("the stored record is damaged")
	// ErrMismatch reports a material that is not about the subject or item it is
	// put or found under.
	ErrMismatch = errors.New("the material is about another subject or item")
)

// LocalKeys seals data at rest on this node; crypto/keyring is one.
type LocalKeys interface {
	SealLocal(purpose string, aad, plaintext []byte) ([]byte, error)
	OpenLocal(purpose string, aad, sealed []byte) ([]byte, error)
	LocalTag(purpose string, data []byte) (gm.Digest, error)
}

// purpose separates the vault's keys from others derived from the same keyring.
const purpose = "xinqiao/vault/v1"

// suffix ends the name of a whole record; temporary files have another.
const suffix = ".rec"

// maxFile bounds what is read back: an encoded material, salt and tag.
const maxFile = canon.MaxSize + 4096

// Vault keeps one sealed file per subject and item in a directory of its own.
// File names are keyed tags, so a listing tells only how many records there are
// and about how long each is. A Vault is safe for concurrent use, also by several
// processes.
//
// Whoever can write to the directory can put an older file of the same record
// back, or remove one; the vault notices neither.
type Vault struct {
	dir    string
	keys   LocalKeys
	engine gm.Engine
}

// location is what a record's tag is made of. It holds the identifier in the
// clear and goes nowhere but into LocalTag.
type location struct {
	Format  uint8                `cbor:"1,keyasint"`
	Kind    exchange.SubjectKind `cbor:"2,keyasint"`
	Subject string               `cbor:"3,keyasint"`
	Item    exchange.Item        `cbor:"4,keyasint"`
}

// OpenVault opens the vault in dir and makes the directory if it is missing.
func OpenVault(dir string, keys LocalKeys, e gm.Engine) (*Vault, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	return &Vault{dir: dir, keys: keys, engine: e}, nil
}

// Put stores m as the subject's record of its item and replaces an earlier one.
// When Put returns nil the record is on disk; when it fails, or the machine stops,
// the earlier record or the new one is there, whole. It does not verify the
// issuer's signature: who puts decides whose materials it trusts.
func (v *Vault) Put(subject exchange.Subject, m material.Material) error {
	if err := v.write(subject, m); err != nil {
		return err
	}
	return v.syncDir()
}

// Fetch returns the subject's record of the permit's item, whole; the caller
// presents no more than the permit's views. ErrNoRecord says that there is none.
func (v *Vault) Fetch(ctx context.Context, permit policy.Permit, subject exchange.Subject) (material.Material, error) {
	if !permit.Valid() {
		return material.Material{}, ErrPermit
	}
	if err := ctx.Err(); err != nil {
		return material.Material{}, fmt.Errorf("fetch %s: %w", permit.Item(), err)
	}
	name, aad, err := v.place(subject, permit.Item())
	if err != nil {
		return material.Material{}, fmt.Errorf("fetch %s: %w", permit.Item(), err)
	}
	sealed, err := read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return material.Material{}, ErrNoRecord
	}
	if err != nil {
		return material.Material{}, fmt.Errorf("fetch %s: %w", permit.Item(), err)
	}
	plain, err := v.keys.OpenLocal(purpose, aad, sealed)
	if exchange.Is(err, exchange.Unavailable) { // the keys, and so nothing is known of the record
		return material.Material{}, fmt.Errorf("fetch %s: %w", permit.Item(), err)
	}
	if err != nil {
		return material.Material{}, fmt.Errorf("fetch %s: %w: %w", permit.Item(), ErrDamaged, err)
	}
	m, err := material.Decode(plain)
	if err != nil {
		return material.Material{}, fmt.Errorf("fetch %s: %w: %w", permit.Item(), ErrDamaged, err)
	}
	head, err := v.check(subject, permit.Item(), m)
	if err != nil {
		return material.Material{}, fmt.Errorf("fetch %s: %w", permit.Item(), err)
	}
	if head.Issuer != permit.Holder() {
		return material.Material{}, fmt.Errorf("fetch %s: %w: it is of %s and the record of %s", permit.Item(), ErrPermit,
			permit.Holder(), head.Issuer)
	}
	return m, nil
}

// check returns the head of a material that is about subject and item.
func (v *Vault) check(subject exchange.Subject, item exchange.Item, m material.Material) (material.Head, error) {
	head, err := m.Head()
	if err != nil {
		return head, err
	}
	if head.Item != item || !m.About(v.engine, subject) {
		return head, ErrMismatch
	}
	return head, nil
}

// place returns the file name of a record and what its seal is bound to.
func (v *Vault) place(s exchange.Subject, item exchange.Item) (name string, aad []byte, err error) {
	where := canon.MustMarshal(location{Format: 1, Kind: s.Kind, Subject: s.ID, Item: item})
	tag, err := v.keys.LocalTag(purpose, where)
	if err != nil {
		return "", nil, err
	}
	aad = canon.MustMarshal(seal{Format: 1, Tag: tag, Item: item})
	return filepath.Join(v.dir, hex.EncodeToString(tag[:])+suffix), aad, nil
}

// seal is the additional data of a sealed record.
type seal struct {
	Format uint8         `cbor:"1,keyasint"`
	Tag    gm.Digest     `cbor:"2,keyasint"` // of subject and item
	Item   exchange.Item `cbor:"3,keyasint"`
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%w: longer than a record can be", ErrDamaged)
	}
	return b, nil
}
