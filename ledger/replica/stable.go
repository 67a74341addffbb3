package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"

	"xinqiao/crypto/canon"
)

// ErrVotes: the file of this node's votes is damaged. A node that forgot its
// vote could vote twice, so it must not start.
var ErrVotes = errors.New("the file of this node's votes is damaged: join again as a new replica")

// Keys under which raft keeps its term and vote.
const (
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVoteFor  = "LastVoteCand"
)

// votes is the file's content.
type votes struct {
	Term     uint64 `cbor:"1,keyasint"`
	VoteTerm uint64 `cbor:"2,keyasint"`
	VoteFor  []byte `cbor:"3,keyasint"`
}

// stable is a raft.StableStore of one small file, replaced as a whole. Raft
// writes a vote as two values; a crash between them would leave the new term
// with the old candidate, whom the node would then vote for without comparing
// logs. So the term is held back until the candidate comes, and both are
// written at once.
type stable struct {
	path  string
	fault *fault
	crash func(point string)

	mu       sync.Mutex
	now      votes
	voteTerm uint64 // held back; zero when none is
}

func openStable(path string, f *fault, crash func(point string)) (*stable, error) {
	s := &stable{path: path, fault: f, crash: crash}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("read this node's votes: %w", err)
	case len(b) < 4:
		return nil, ErrVotes
	}
	body, sum := b[:len(b)-4], b[len(b)-4:]
	if crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(sum) {
		return nil, ErrVotes
	}
	if err := canon.Unmarshal(body, &s.now); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVotes, err)
	}
	return s, nil
}

// Set implements raft.StableStore.
func (s *stable) Set(key, val []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(key) != keyVoteFor {
		return fmt.Errorf("raft stores unknown key %q", key)
	}
	next := s.now
	next.VoteTerm, next.VoteFor = max(s.voteTerm, s.now.VoteTerm), bytes.Clone(val)
	s.voteTerm = 0
	return s.write(next)
}

// SetUint64 implements raft.StableStore.
func (s *stable) SetUint64(key []byte, val uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch string(key) {
	case keyTerm:
		next := s.now
		next.Term = val
		return s.write(next)
	case keyVoteTerm:
		s.voteTerm = val
		return nil
	}
	return fmt.Errorf("raft stores unknown key %q", key)
}

// Get implements raft.StableStore.
func (s *stable) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(key) != keyVoteFor {
		return nil, fmt.Errorf("raft reads unknown key %q", key)
	}
	return bytes.Clone(s.now.VoteFor), nil
}

// GetUint64 implements raft.StableStore.
func (s *stable) GetUint64(key []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch string(key) {
	case keyTerm:
		return s.now.Term, nil
	case keyVoteTerm:
		return s.now.VoteTerm, nil
	}
	return 0, fmt.Errorf("raft reads unknown key %q", key)
}

// voted reports whether this node ever voted.
func (s *stable) voted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.VoteTerm > 0
}

// electable reports whether this node may write commands of its own in term: it
// voted for itself in it, or the term is past and its entries come back to it.
func (s *stable) electable(term uint64, self string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return term < s.now.Term || s.now.VoteTerm == term && string(s.now.VoteFor) == self
}

// forgetBootstrap takes back the term of a bootstrap that a crash ended before
// it wrote the first log entry; raft would take it for an existing state.
func (s *stable) forgetBootstrap() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Term != 1 || s.now.VoteTerm != 0 {
		return nil
	}
	return s.write(votes{})
}

// write replaces the file; the new content is durable when it returns nil. The
// caller holds mu.
func (s *stable) write(next votes) error {
	if err := s.fault.get(); err != nil {
		return err
	}
	body, err := canon.Marshal(next)
	if err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	if err := replaceFile(s.path, b, s.crash); err != nil {
		return s.fault.set(fmt.Errorf("votes: %w: %w", ErrDisk, err))
	}
	s.now = next
	return nil
}

func replaceFile(path string, b []byte, crash func(point string)) error {
	crash("votes-before-write")
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	crash("votes-after-write")
	if err == nil {
		err = f.Sync()
	}
	crash("votes-after-fsync")
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	crash("votes-after-rename")
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
