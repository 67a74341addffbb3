package replica

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/raft"

	"xinqiao/exchange"
)

// Errors of the guard in front of the raft log. Each stops the node.
var (
	// ErrCommitted: something asked to delete entries that were committed.
	ErrCommitted = errors.New("committed log entries must not be deleted")
	// ErrNotElected: this node was about to write a command of its own in a term
	// in which it was not elected (hashicorp/raft #695).
	ErrNotElected = errors.New("own command in a term this node was not elected in")
	// ErrDisk: a write to the raft log or the votes failed.
	ErrDisk = errors.New("write failed")
)

// raftLog is what the guard needs of raft-wal.
type raftLog interface {
	raft.LogStore
	raft.MonotonicLogStore
}

// guard is the raft log behind three rules: nothing committed is deleted, this
// node writes commands of its own only as an elected leader, and after the first
// failed write there is no other.
type guard struct {
	WAL     raftLog
	applied *atomic.Uint64 // highest position known to be committed
	votes   *stable
	self    exchange.Dept
	addr    string
	fault   *fault
	crash   func(point string)
}

// FirstIndex implements raft.LogStore.
func (g *guard) FirstIndex() (uint64, error) { return g.WAL.FirstIndex() }

// LastIndex implements raft.LogStore.
func (g *guard) LastIndex() (uint64, error) { return g.WAL.LastIndex() }

// GetLog implements raft.LogStore.
func (g *guard) GetLog(index uint64, l *raft.Log) error { return g.WAL.GetLog(index, l) }

// IsMonotonic implements raft.MonotonicLogStore.
func (g *guard) IsMonotonic() bool { return g.WAL.IsMonotonic() }

// StoreLog implements raft.LogStore.
func (g *guard) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore: durable when it returns nil.
func (g *guard) StoreLogs(logs []*raft.Log) error {
	if err := g.fault.get(); err != nil {
		return err
	}
	for _, l := range logs {
		if l.Type == raft.LogCommand && proposer(l) == g.self && !g.votes.electable(l.Term, g.addr) {
			return g.fault.set(fmt.Errorf("position %d, term %d: %w", l.Index, l.Term, ErrNotElected))
		}
	}
	g.crash("log-before-write")
	if err := g.WAL.StoreLogs(logs); err != nil {
		return g.fault.set(fmt.Errorf("raft log: %w: %w", ErrDisk, err))
	}
	g.crash("log-after-fsync")
	return nil
}

// DeleteRange implements raft.LogStore. Without snapshots the only range that is
// rightly deleted is a suffix that was never committed.
func (g *guard) DeleteRange(low, high uint64) error {
	if err := g.fault.get(); err != nil {
		return err
	}
	if applied := g.applied.Load(); low <= applied {
		return g.fault.set(fmt.Errorf("delete %d to %d with %d applied: %w", low, high, applied, ErrCommitted))
	}
	g.crash("log-before-delete")
	if err := g.WAL.DeleteRange(low, high); err != nil {
		return g.fault.set(fmt.Errorf("raft log: %w: %w", ErrDisk, err))
	}
	g.crash("log-after-delete")
	return nil
}

// lockDir holds dir for this process; closing the file releases it. raft-wal
// would wait for ever instead.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the replica's directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrLocked, err), f.Close())
	}
	return f, nil
}
