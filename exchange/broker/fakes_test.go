package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/ledger"
	"xinqiao/policy"
)

// records is the holder's own system.
type records struct {
	mu    sync.Mutex
	held  map[string]material.Material
	opens int
	fail  error
}

func (r *records) put(s exchange.Subject, m material.Material) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		r.held = map[string]material.Material{}
	}
	r.held[s.ID] = m
}

func (r *records) opened() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opens
}

func (r *records) Fetch(_ context.Context, p policy.Permit, s exchange.Subject) (material.Material, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opens++
	if !p.Valid() {
		return material.Material{}, errors.New("opened without a permit")
	}
	if r.fail != nil {
		return material.Material{}, r.fail
	}
	m, ok := r.held[s.ID]
	if !ok {
		return material.Material{}, &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound, Msg: "no record"}
	}
	return m, nil
}

// memStore is a Store in memory whose writes can fail, done or not.
type memStore struct {
	mu   sync.Mutex
	rows map[string]map[string][]byte
	// fault is asked before a write: whether it fails, and whether it is done.
	fault func(kind string) (fails, done bool)
}

var errDisk = errors.New("the disk failed")

func newMemStore() *memStore { return &memStore{rows: map[string]map[string][]byte{}} }

func (s *memStore) Put(kind string, key, v []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fails, done := false, true
	if s.fault != nil {
		fails, done = s.fault(kind)
	}
	if done || !fails {
		if s.rows[kind] == nil {
			s.rows[kind] = map[string][]byte{}
		}
		s.rows[kind][string(key)] = slices.Clone(v)
	}
	if fails {
		return errDisk
	}
	return nil
}

func (s *memStore) Get(kind string, key []byte) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.rows[kind][string(key)]
	return slices.Clone(v), ok, nil
}

func (s *memStore) Each(kind string, fn func(key, value []byte) error) error {
	s.mu.Lock()
	rows := maps.Clone(s.rows[kind])
	s.mu.Unlock()
	for k, v := range rows {
		if err := fn([]byte(k), v); err != nil {
			return err
		}
	}
	return nil
}

func (s *memStore) Delete(kind string, key []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows[kind], string(key))
	return nil
}

func (s *memStore) setFault(fn func(kind string) (fails, done bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fn
}

// memLedger is a ledger.Storage in memory.
type memLedger struct {
	mu       sync.Mutex
	leaves   [][]byte
	frames   map[gm.Digest]ledger.FrameRecord
	applied  uint64
	time     int64
	noteSize uint64
	note     []byte
	size     uint64
	root     gm.Digest
}

func newMemLedger() *memLedger { return &memLedger{frames: map[gm.Digest]ledger.FrameRecord{}} }

func (m *memLedger) Replay(func(uint64, []byte, ledger.FrameRecord) error) (uint64, int64, error) {
	return m.applied, m.time, nil
}

func (m *memLedger) Flush(f ledger.Flush) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaves = append(m.leaves[:f.First], f.Leaves...)
	maps.Copy(m.frames, f.Frames)
	m.applied, m.time = f.Applied, f.Time
	return nil
}

func (m *memLedger) Leaf(index uint64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if index >= uint64(len(m.leaves)) {
		return nil, ledger.ErrNotFound
	}
	return m.leaves[index], nil
}

func (m *memLedger) Frame(hash gm.Digest) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.frames[hash]
	if !ok {
		return nil, ledger.ErrNotFound
	}
	return canon.Marshal(r)
}

func (m *memLedger) PutCheckpoint(size uint64, note []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noteSize, m.note = size, note
	return nil
}

func (m *memLedger) Checkpoint() (uint64, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.noteSize, m.note, nil
}

func (m *memLedger) PutCosigned(size uint64, root gm.Digest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.size, m.root = size, root
	return nil
}

func (m *memLedger) Cosigned() (uint64, gm.Digest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size, m.root, nil
}
