package replica

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// Bare is hashicorp/raft with raft-wal and nothing of ours: three servers in
// this process on loopback over a state machine that does nothing, with a node's
// own settings. The benchmark sets the ledger against it; no node runs one.
type Bare struct {
	rafts []*raft.Raft
	logs  []*wal.WAL
	nets  []*raft.NetworkTransport
}

// bareServers is how many voters a Bare has.
const bareServers = 3

// OpenBare makes one below dir, which is empty, and waits until it has a leader.
func OpenBare(dir string) (b *Bare, err error) {
	b = &Bare{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	logger := newRaftLogger(slog.New(slog.DiscardHandler))
	var first raft.Configuration
	for i := range bareServers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return b, err
		}
		t := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: loopback{l}, MaxPool: outgoingPool,
			Timeout: rpcTimeout, Logger: logger})
		b.nets = append(b.nets, t)
		first.Servers = append(first.Servers, raft.Server{ID: raft.ServerID(fmt.Sprint(i)), Address: t.LocalAddr()})
	}
	for i, s := range first.Servers {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.MkdirAll(path, 0o700); err != nil {
			return b, err
		}
		log, err := wal.Open(path, wal.WithLogger(logger))
		if err != nil {
			return b, err
		}
		b.logs = append(b.logs, log)
		cache, err := raft.NewLogCache(logCache, log)
		if err != nil {
			return b, err
		}
		c := raftConfig(Config{Heartbeat: time.Second}, logger, nil)
		c.LocalID = s.ID
		votes := raft.NewInmemStore()
		if err := raft.BootstrapCluster(c, cache, votes, noSnapshots{}, b.nets[i], first); err != nil {
			return b, err
		}
		r, err := raft.NewRaft(c, idle{}, cache, votes, noSnapshots{}, b.nets[i])
		if err != nil {
			return b, err
		}
		b.rafts = append(b.rafts, r)
	}
	for deadline := time.Now().Add(electWithin); b.leader() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return b, fmt.Errorf("bare raft: no leader within %v", electWithin)
		}
	}
	return b, nil
}

const electWithin = 20 * time.Second

func (b *Bare) leader() *raft.Raft {
	for _, r := range b.rafts {
		if r.State() == raft.Leader {
			return r
		}
	}
	return nil
}

// Apply returns when data is committed and the leader's state machine has seen it.
func (b *Bare) Apply(data []byte) error {
	r := b.leader()
	if r == nil {
		return raft.ErrNotLeader
	}
	return r.Apply(data, enqueueWithin).Error()
}

// Close stops the servers.
func (b *Bare) Close() error {
	var errs []error
	var stopped []raft.Future
	for _, r := range b.rafts {
		stopped = append(stopped, r.Shutdown())
	}
	for _, n := range b.nets { // first, or a sender that waits for its reader never ends
		n.CloseStreams()
		errs = append(errs, n.Close())
	}
	for _, f := range stopped {
		errs = append(errs, f.Error())
	}
	for _, l := range b.logs {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// loopback is a raft.StreamLayer without a channel.
type loopback struct{ net.Listener }

// Dial implements raft.StreamLayer.
func (loopback) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(addr), timeout)
}

// idle is a state machine that does nothing, in batches.
type idle struct{}

// Apply implements raft.FSM.
func (idle) Apply(*raft.Log) any { return nil }

// ApplyBatch implements raft.BatchingFSM.
func (idle) ApplyBatch(logs []*raft.Log) []any { return make([]any, len(logs)) }

// Snapshot is never asked for.
func (idle) Snapshot() (raft.FSMSnapshot, error) { return nil, errNoSnapshots }

// Restore is never asked for.
func (idle) Restore(s io.ReadCloser) error { return s.Close() }
