// Package store keeps one node's ledger and its broker's records on disk. It is
// the only door to bbolt.
//
// Everything a method writes is on disk when the method returns; concurrent
// writers share one transaction and one fsync. The first write or fsync that
// fails poisons the store: the operating system may have dropped the pages that
// it failed to write, so nothing read or written after it can be believed, and
// every later call fails until the file is opened again.
//
// One file holds these buckets. Numbers are big-endian. Each value but those of
// meta stands behind a CRC-32C of bucket, key and value, because bbolt does not
// notice flipped bits; that finds rot, and the tree finds forgery.
//
//	bucket   key             value
//	meta     "format"        "xinqiao-store/1"
//	meta     "origin"        the ledger's origin, if one was given
//	meta     "position"      applied (8) ledger time (8) number of leaves (8)
//	leaf     index (8)       leaf bytes
//	frame    frame hash (32) encoded ledger.FrameRecord
//	mark     "checkpoint"    size (8) note
//	mark     "cosigned"      size (8) root (32)
//	kv-KIND  the caller's    the caller's, one bucket for each Kind constant
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Errors of this package.
var (
	// ErrPoisoned: a write or fsync failed earlier, or the file is damaged. Stop
	// the process; starting again reads what is really on disk.
	ErrPoisoned = errors.New("the store failed and must be opened again")
	// ErrCorrupt: a record on disk is not what was written.
	ErrCorrupt = errors.New("a stored record is damaged")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrLocked: another process has the file open.
	ErrLocked = errors.New("another process holds the store")
	// ErrFormat: the file is not a store of this version and origin.
	ErrFormat = errors.New("not this ledger's store")
	// ErrOrder: the write would contradict what is stored; nothing was written.
	ErrOrder = errors.New("out of order with what is stored")
	// ErrRecord: a kind, key or value is outside its limits; nothing was written.
	ErrRecord = errors.New("not a record that can be stored")
)

const format = "xinqiao-store/1"

// Options are the choices at Open. The zero value is right for a node.
type Options struct {
	// Origin binds the file to one ledger: a new file records it, an existing
	// one must have it. Empty accepts any.
	Origin string
	// LockTimeout bounds the wait for another process to let go; 0 means 1 s.
	LockTimeout time.Duration
	// MaxBytes bounds the file; 0 means no bound. Reaching it poisons the store
	// as a full disk does.
	MaxBytes int
	// OpenFile opens the file; nil means os.OpenFile. Tests inject faults here.
	OpenFile func(name string, flag int, perm os.FileMode) (*os.File, error)
	// Crash is called at named points and may end or delay the process there, in
	// tests of faults; nil elsewhere.
	Crash func(point string)
}

// Store is a ledger.Storage and a durable key-value store. It is safe for
// concurrent use.
type Store struct {
	path  string
	db    *bbolt.DB
	crash func(point string)

	// turn is held by the writer that commits what has been queued.
	turn sync.Mutex

	// mu protects what follows; it is held for no I/O.
	mu       sync.Mutex
	queue    []*write
	failed   error // ErrClosed or wrapping ErrPoisoned once set
	position position
	commits  uint64
	writes   uint64
}

// write is one caller's part of a transaction.
type write struct {
	check func(*bbolt.Tx) error // a refusal; it has changed nothing
	apply func(*bbolt.Tx) error // its error fails the store
	done  bool
	err   error
}

// Open opens or makes the store at path, whose directory exists. Opening reads
// the whole file's page structure, about a second for each gigabyte.
func Open(path string, o Options) (*Store, error) {
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
	_, statErr := os.Stat(path)
	fresh := errors.Is(statErr, fs.ErrNotExist)
	s := &Store{path: path, crash: o.Crash}
	if s.crash == nil {
		s.crash = func(string) {}
	}
	err := guard(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: o.LockTimeout,
			// With a synced array freelist every commit rewrites the list of free
			// pages: 11 times slower on an aged file.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
			// Remapping waits for readers; address space costs nothing.
			InitialMmapSize: 1 << 30,
			MaxSize:         o.MaxBytes,
			OpenFile:        o.OpenFile,
		})
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open store %s: %w", filepath.Base(path), ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", filepath.Base(path), err)
	}
	if err := s.prepare(o.Origin, fresh); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", filepath.Base(path), err), s.Close())
	}
	return s, nil
}

// prepare makes the buckets of a new file, and of an older one those it lacks,
// and refuses files of another format or ledger.
func (s *Store) prepare(origin string, fresh bool) error {
	err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			meta, err := tx.CreateBucketIfNotExists([]byte(bucketMeta))
			if err != nil {
				return err
			}
			if err := identify(meta, origin); err != nil {
				return err
			}
			for _, name := range buckets() {
				if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
					return err
				}
			}
			s.position, err = readPosition(meta)
			return err
		})
	})
	if err != nil || !fresh {
		return err
	}
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close()) // or a crash may lose the file's name
}

func identify(meta *bbolt.Bucket, origin string) error {
	switch f := meta.Get([]byte("format")); {
	case f == nil:
		if err := meta.Put([]byte("format"), []byte(format)); err != nil {
			return err
		}
	case string(f) != format:
		return fmt.Errorf("%w: its format is %q, this program writes %q", ErrFormat, f, format)
	}
	if origin == "" {
		return nil
	}
	switch have := meta.Get([]byte("origin")); {
	case have == nil:
		return meta.Put([]byte("origin"), []byte(origin))
	case string(have) != origin:
		return fmt.Errorf("%w: its origin is %q, not %q", ErrFormat, have, origin)
	}
	return nil
}

// Close waits for writers, then closes the file. Later calls return ErrClosed.
func (s *Store) Close() error {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	if errors.Is(s.failed, ErrClosed) {
		s.mu.Unlock()
		return nil
	}
	s.failed = ErrClosed
	s.mu.Unlock()
	return s.db.Close()
}

// Err returns why the store fails every call, or nil while it works.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Stats is what the store tells metrics.
type Stats struct {
	Bytes     int64  // length of the file
	FreePages int    // pages that can be used again, pending ones included
	PageSize  int    // in bytes
	Readers   int    // open read transactions
	Leaves    uint64 // stored leaves
	Commits   uint64 // transactions since Open, each one fsynced
	Writes    uint64 // calls that they carried
	Failed    bool   // poisoned or closed
}

// Stats returns the present figures.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	st := Stats{Leaves: s.position.leaves, Commits: s.commits, Writes: s.writes, Failed: s.failed != nil}
	s.mu.Unlock()
	if st.Failed {
		return st
	}
	b := s.db.Stats()
	st.FreePages, st.Readers, st.PageSize = b.FreePageN+b.PendingPageN, b.OpenTxN, s.db.Info().PageSize
	if fi, err := os.Stat(s.path); err == nil {
		st.Bytes = fi.Size()
	}
	return st
}

// do queues w and returns when it is on disk. Whoever gets the turn first
// commits everything queued by then, so writers wait for at most the transaction
// under way and their own, and there is no timer.
func (s *Store) do(w *write) error {
	s.mu.Lock()
	if s.failed != nil {
		defer s.mu.Unlock()
		return s.failed
	}
	s.queue = append(s.queue, w)
	s.mu.Unlock()

	s.turn.Lock()
	defer s.turn.Unlock()
	if w.done {
		return w.err
	}
	s.mu.Lock()
	group, failed := s.queue, s.failed
	s.queue = nil
	s.mu.Unlock()
	if failed == nil {
		failed = s.commit(group)
	}
	for _, w := range group {
		w.done = true
		if failed != nil {
			w.err = failed
		}
	}
	return w.err
}

// commit runs a group in one transaction. An error fails the group and the
// store; refusals stand in their writes. The caller has the turn.
func (s *Store) commit(group []*write) error {
	var after position
	s.crash("store-before-commit")
	err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			for _, w := range group {
				if w.check != nil {
					w.err = w.check(tx)
					if errors.Is(w.err, ErrCorrupt) {
						return w.err
					}
					if w.err != nil {
						continue
					}
				}
				if err := w.apply(tx); err != nil {
					return err
				}
			}
			var err error
			after, err = readPosition(in(tx, bucketMeta))
			s.crash("store-before-fsync")
			return err
		})
	})
	s.crash("store-after-fsync")
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed = fmt.Errorf("%w: %w", ErrPoisoned, err)
		return s.failed
	}
	s.position = after
	s.commits++
	s.writes += uint64(len(group))
	return nil
}

// view runs fn in a read transaction. A damaged record poisons the store.
func (s *Store) view(fn func(*bbolt.Tx) error) error {
	if err := s.Err(); err != nil {
		return err
	}
	err := guard(func() error { return s.db.View(fn) })
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	if errors.Is(err, ErrCorrupt) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.failed == nil {
			s.failed = fmt.Errorf("%w: %w", ErrPoisoned, err)
		}
		return s.failed
	}
	return err
}

// guard turns a panic of bbolt, which is how it meets a damaged page, and a
// fault in the mapped file into ErrCorrupt.
func guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	return fn()
}

func in(tx *bbolt.Tx, bucket string) *bbolt.Bucket { return tx.Bucket([]byte(bucket)) }

// put writes a value behind its checksum.
func put(tx *bbolt.Tx, bucket string, key, value []byte) error {
	sealed := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(value)), checksum(bucket, key, value))
	return in(tx, bucket).Put(key, append(sealed, value...))
}

// open checks a value that put wrote and returns a copy of it.
func open(bucket string, key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != checksum(bucket, key, sealed[4:]) {
		return nil, fmt.Errorf("%w: bucket %s", ErrCorrupt, bucket)
	}
	return append(make([]byte, 0, len(sealed)-4), sealed[4:]...), nil
}

func checksum(bucket string, key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, []byte(bucket))
	sum = crc32.Update(sum, table, []byte{0, byte(len(key) >> 8), byte(len(key))})
	return crc32.Update(crc32.Update(sum, table, key), table, value)
}
