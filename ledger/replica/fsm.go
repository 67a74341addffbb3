package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"xinqiao/exchange"
)

// ErrCommand: a committed log entry is not one of this program's commands, or
// its bytes are not those that the leader proposed.
var ErrCommand = errors.New("log entry is not a command of this ledger")

var errNoSnapshots = errors.New("this version keeps the whole raft log and takes no snapshots")

// mark goes with every command as the log entry's Extensions: a checksum over
// the data, because raft-wal does not check what it reads, and who proposed it.
func mark(self exchange.Dept, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))), self...)
}

// proposer returns who proposed the entry, or "" when its mark does not fit its data.
func proposer(l *raft.Log) exchange.Dept {
	if len(l.Extensions) < 5 {
		return ""
	}
	dept := exchange.Dept(l.Extensions[4:])
	if string(mark(dept, l.Data)) != string(l.Extensions) {
		return ""
	}
	return dept
}

// fsm hands committed commands to the ledger. Raft calls it from one goroutine.
type fsm struct {
	applier Applier
	fault   *fault
	// delivered is the highest position known to be committed, durable or not:
	// below it nothing may be taken back.
	delivered atomic.Uint64
}

func newFSM(a Applier, f *fault) *fsm {
	m := &fsm{applier: a, fault: f}
	m.delivered.Store(a.AppliedIndex())
	return m
}

// ApplyBatch implements raft.BatchingFSM. A response is nil or the error after
// which this node stops.
func (m *fsm) ApplyBatch(logs []*raft.Log) []any {
	if last := logs[len(logs)-1].Index; last > m.delivered.Load() {
		m.delivered.Store(last)
	}
	responses := make([]any, len(logs))
	applied := m.applier.AppliedIndex()
	for i, l := range logs {
		if l.Type != raft.LogCommand || l.Index <= applied {
			continue
		}
		if err := m.apply(l); err != nil {
			responses[i] = err
		}
	}
	return responses
}

func (m *fsm) apply(l *raft.Log) error {
	if err := m.fault.get(); err != nil {
		return err
	}
	if proposer(l) == "" {
		return m.fault.set(fmt.Errorf("position %d: %w: checksum or proposer is wrong", l.Index, ErrCommand))
	}
	if err := m.applier.ApplyBatch(l.Index, l.Data); err != nil {
		return m.fault.set(fmt.Errorf("apply position %d: %w", l.Index, err))
	}
	return nil
}

// Apply implements raft.FSM for completeness; raft calls ApplyBatch.
func (m *fsm) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// Snapshot refuses, so that raft keeps its log.
func (m *fsm) Snapshot() (raft.FSMSnapshot, error) { return nil, errNoSnapshots }

// Restore refuses: the ledger recovers from its own storage.
func (m *fsm) Restore(s io.ReadCloser) error { return errors.Join(errNoSnapshots, s.Close()) }

// noSnapshots is a raft.SnapshotStore that holds and takes none.
type noSnapshots struct{}

// Create refuses.
func (noSnapshots) Create(raft.SnapshotVersion, uint64, uint64, raft.Configuration, uint64, raft.Transport) (raft.SnapshotSink, error) {
	return nil, errNoSnapshots
}

// List returns none.
func (noSnapshots) List() ([]*raft.SnapshotMeta, error) { return nil, nil }

// Open refuses.
func (noSnapshots) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return nil, nil, errNoSnapshots
}
