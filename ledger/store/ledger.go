package store

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/ledger"
)

var _ ledger.Storage = (*Store)(nil)

// Names of buckets, and of keys in meta and mark.
const (
	bucketMeta  = "meta"
	bucketLeaf  = "leaf"
	bucketFrame = "frame"
	bucketMark  = "mark"

	keyPosition   = "position"
	keyCheckpoint = "checkpoint"
	keyCosigned   = "cosigned"
)

// position is what the stored leaves add up to.
type position struct {
	applied uint64 // in the replicated log
	time    int64  // ledger time, Unix ms
	leaves  uint64
}

func readPosition(meta *bbolt.Bucket) (position, error) {
	b := meta.Get([]byte(keyPosition))
	if b == nil {
		return position{}, nil
	}
	b, err := open(bucketMeta, []byte(keyPosition), b)
	if err != nil || len(b) != 24 {
		return position{}, fmt.Errorf("%w: position", ErrCorrupt)
	}
	return position{binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:])), binary.BigEndian.Uint64(b[16:])}, nil
}

func (p position) encode() []byte {
	b := be64(p.applied)
	b = binary.BigEndian.AppendUint64(b, uint64(p.time))
	return binary.BigEndian.AppendUint64(b, p.leaves)
}

// Flush writes leaves, frames and position in one durable transaction. A Flush
// that does not continue what is stored is ErrOrder and writes nothing: a gap
// or a rewritten leaf must never reach the disk.
func (s *Store) Flush(f ledger.Flush) error {
	frames := make(map[gm.Digest][]byte, len(f.Frames))
	for hash, record := range f.Frames {
		b, err := canon.Marshal(record)
		if err != nil {
			return fmt.Errorf("flush: %w", err)
		}
		frames[hash] = b
	}
	return s.do(&write{
		check: func(tx *bbolt.Tx) error {
			at, err := readPosition(in(tx, bucketMeta))
			switch {
			case err != nil:
				return err
			case f.First != at.leaves:
				return fmt.Errorf("flush from leaf %d with %d stored: %w", f.First, at.leaves, ErrOrder)
			case f.Applied < at.applied || f.Time < at.time:
				return fmt.Errorf("flush at position %d after %d: %w", f.Applied, at.applied, ErrOrder)
			}
			return nil
		},
		apply: func(tx *bbolt.Tx) error {
			in(tx, bucketLeaf).FillPercent = 0.95 // keys only grow
			for i, leaf := range f.Leaves {
				if err := put(tx, bucketLeaf, be64(f.First+uint64(i)), leaf); err != nil {
					return err
				}
			}
			for hash, b := range frames {
				if err := put(tx, bucketFrame, hash[:], b); err != nil {
					return err
				}
			}
			at := position{f.Applied, f.Time, f.First + uint64(len(f.Leaves))}.encode()
			return put(tx, bucketMeta, []byte(keyPosition), at)
		},
	})
}

// replayChunk bounds how many leaves one read transaction covers: a long one
// keeps old pages from being used again.
const replayChunk = 1024

// Replay calls fn for every stored leaf in order, with the record of its frame.
// fn may use the store. A leaf that is missing or damaged poisons the store.
func (s *Store) Replay(fn func(index uint64, leaf []byte, frame ledger.FrameRecord) error) (applied uint64, at int64, err error) {
	s.mu.Lock()
	end := s.position
	s.mu.Unlock()
	var hash gm.Digest
	var frame ledger.FrameRecord
	known := false
	for next := uint64(0); next < end.leaves; {
		chunk, err := s.leaves(next, min(end.leaves, next+replayChunk))
		if err != nil {
			return 0, 0, fmt.Errorf("replay from leaf %d: %w", next, err)
		}
		for _, raw := range chunk {
			leaf, _, err := ledger.DecodeLeaf(raw)
			if err != nil {
				return 0, 0, fmt.Errorf("replay leaf %d: %w", next, err)
			}
			if !known || leaf.Frame != hash {
				if frame, err = s.frameRecord(leaf.Frame); err != nil {
					return 0, 0, fmt.Errorf("replay leaf %d: %w", next, err)
				}
				hash, known = leaf.Frame, true
			}
			if err := fn(next, raw, frame); err != nil {
				return 0, 0, err
			}
			next++
		}
	}
	return end.applied, end.time, s.Err()
}

func (s *Store) leaves(from, to uint64) (out [][]byte, err error) {
	return out, s.view(func(tx *bbolt.Tx) error {
		bucket := in(tx, bucketLeaf)
		for i := from; i < to; i++ {
			key := be64(i)
			sealed := bucket.Get(key)
			if sealed == nil {
				return fmt.Errorf("leaf %d is missing: %w", i, ErrCorrupt)
			}
			leaf, err := open(bucketLeaf, key, sealed)
			if err != nil {
				return fmt.Errorf("leaf %d: %w", i, err)
			}
			out = append(out, leaf)
		}
		return nil
	})
}

func (s *Store) frameRecord(hash gm.Digest) (ledger.FrameRecord, error) {
	b, err := s.Frame(hash)
	if err != nil {
		return ledger.FrameRecord{}, fmt.Errorf("frame %x: %w", hash[:4], err)
	}
	record, _, err := ledger.DecodeFrameRecord(b)
	return record, err
}

// Leaf returns the bytes of a stored leaf, or ledger.ErrNotFound.
func (s *Store) Leaf(index uint64) ([]byte, error) { return s.get(bucketLeaf, be64(index)) }

// Frame returns the encoded FrameRecord of a stored frame, or ledger.ErrNotFound.
func (s *Store) Frame(hash gm.Digest) ([]byte, error) { return s.get(bucketFrame, hash[:]) }

// PutCheckpoint keeps the newest checkpoint that a quorum has cosigned; one of
// a smaller tree than the one kept changes nothing.
func (s *Store) PutCheckpoint(size uint64, note []byte) error {
	value := append(be64(size), note...)
	return s.do(&write{apply: func(tx *bbolt.Tx) error {
		have, _, err := readMark(tx, keyCheckpoint)
		if err != nil || have > size {
			return err
		}
		return put(tx, bucketMark, []byte(keyCheckpoint), value)
	}})
}

// Checkpoint returns the checkpoint kept; size 0 when there is none.
func (s *Store) Checkpoint() (size uint64, note []byte, err error) {
	err = s.view(func(tx *bbolt.Tx) (err error) {
		size, note, err = readMark(tx, keyCheckpoint)
		return err
	})
	return size, note, err
}

// PutCosigned records that this node is about to cosign. A smaller tree than
// was recorded, or another root at the same size, is ErrOrder: this node would
// be convicted of two histories.
func (s *Store) PutCosigned(size uint64, root gm.Digest) error {
	value := append(be64(size), root[:]...)
	return s.do(&write{
		check: func(tx *bbolt.Tx) error {
			have, was, err := readMark(tx, keyCosigned)
			if err != nil {
				return err
			}
			if size < have || size == have && was != nil && gm.Digest(was) != root {
				return fmt.Errorf("cosign size %d after %d: %w", size, have, ErrOrder)
			}
			return nil
		},
		apply: func(tx *bbolt.Tx) error {
			return put(tx, bucketMark, []byte(keyCosigned), value)
		},
	})
}

// Cosigned returns what PutCosigned last recorded; size 0 when nothing was.
func (s *Store) Cosigned() (size uint64, root gm.Digest, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		n, rest, err := readMark(tx, keyCosigned)
		if err == nil && rest != nil {
			size, root = n, gm.Digest(rest)
		}
		return err
	})
	return size, root, err
}

// readMark returns a mark's size and the rest of its value, nil when there is none.
func readMark(tx *bbolt.Tx, key string) (size uint64, rest []byte, err error) {
	sealed := in(tx, bucketMark).Get([]byte(key))
	if sealed == nil {
		return 0, nil, nil
	}
	b, err := open(bucketMark, []byte(key), sealed)
	if err == nil && (len(b) < 8 || key == keyCosigned && len(b) != 8+gm.HashSize) {
		err = fmt.Errorf("%w: mark %s", ErrCorrupt, key)
	}
	if err != nil {
		return 0, nil, err
	}
	return binary.BigEndian.Uint64(b), b[8:], nil
}

func (s *Store) get(bucket string, key []byte) (value []byte, err error) {
	return value, s.view(func(tx *bbolt.Tx) error {
		sealed := in(tx, bucket).Get(key)
		if sealed == nil {
			return ledger.ErrNotFound
		}
		value, err = open(bucket, key, sealed)
		return err
	})
}

func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
