package ledger

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

// memStorage is a Storage that dies with the test. It is strict: a leaf that is
// written again, out of order or without its frame is an error.
type memStorage struct {
	mu sync.Mutex
	// mu protects what follows.
	leaves       [][]byte
	frames       map[gm.Digest]FrameRecord
	applied      uint64
	time         int64
	note         []byte
	noteSize     uint64
	cosigned     uint64
	cosignedRoot gm.Digest
	fail         error // what every write returns from now on
}

func newMemStorage() *memStorage { return &memStorage{frames: map[gm.Digest]FrameRecord{}} }

// clone is what a crash at this moment leaves.
func (m *memStorage) clone() *memStorage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memStorage{leaves: slices.Clone(m.leaves), frames: maps.Clone(m.frames), applied: m.applied, time: m.time,
		note: m.note, noteSize: m.noteSize, cosigned: m.cosigned, cosignedRoot: m.cosignedRoot}
}

func (m *memStorage) Replay(fn func(uint64, []byte, FrameRecord) error) (uint64, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, b := range m.leaves {
		leaf, _, err := DecodeLeaf(b)
		if err != nil {
			return 0, 0, err
		}
		if err := fn(uint64(i), b, m.frames[leaf.Frame]); err != nil {
			return 0, 0, err
		}
	}
	return m.applied, m.time, nil
}

func (m *memStorage) Flush(f Flush) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.fail != nil:
		return m.fail
	case f.First != uint64(len(m.leaves)):
		return fmt.Errorf("flush from %d onto %d leaves", f.First, len(m.leaves))
	case f.Applied <= m.applied || f.Time < m.time:
		return fmt.Errorf("flush at %d after %d", f.Applied, m.applied)
	}
	for hash, r := range f.Frames {
		if _, known := m.frames[hash]; known {
			return fmt.Errorf("frame %x written again", hash[:4])
		}
		m.frames[hash] = r
	}
	for _, b := range f.Leaves {
		leaf, _, err := DecodeLeaf(b)
		if err != nil {
			return err
		}
		if _, known := m.frames[leaf.Frame]; !known {
			return fmt.Errorf("leaf %d without its frame", len(m.leaves))
		}
		m.leaves = append(m.leaves, bytes.Clone(b))
	}
	m.applied, m.time = f.Applied, f.Time
	return nil
}

func (m *memStorage) Leaf(index uint64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if index >= uint64(len(m.leaves)) {
		return nil, ErrNotFound
	}
	return m.leaves[index], nil
}

func (m *memStorage) Frame(hash gm.Digest) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.frames[hash]
	if !ok {
		return nil, ErrNotFound
	}
	return canon.Marshal(r)
}

func (m *memStorage) PutCheckpoint(size uint64, note []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.noteSize, m.note = size, note
	return nil
}

func (m *memStorage) Checkpoint() (uint64, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.noteSize, m.note, nil
}

func (m *memStorage) PutCosigned(size uint64, root gm.Digest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.fail != nil:
		return m.fail
	case size <= m.cosigned:
		return fmt.Errorf("cosigned %d after %d", size, m.cosigned)
	}
	m.cosigned, m.cosignedRoot = size, root
	return nil
}

func (m *memStorage) Cosigned() (uint64, gm.Digest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cosigned, m.cosignedRoot, nil
}
