package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/merkle"
)

// A Replicator carries this department's frames to every node.
type Replicator interface {
	// Propose returns nil once the frame is committed. ErrNotProposed means that
	// nothing was handed on; any other error leaves the outcome open.
	Propose(ctx context.Context, frame []byte) error
}

// Config is what a Ledger needs.
type Config struct {
	Origin        string // of the ledger, names it in frames and checkpoints
	Self          exchange.Dept
	AuthorityCert []byte // DER, from the genesis file
	Engine        gm.Engine
	Second        gm.Engine // the other engine, for the second verdict
	// Signers returns the key of this department's signing certificate with the
	// fingerprint. The ledger asks by the certificate in force, so that a renewed one
	// is used from its own entry on. It must not call back.
	Signers func(cert gm.Digest) (SigningKey, bool)
	Storage Storage
	// Identify returns whose signing certificate der is and its key, or an error
	// when it does not chain to the root or was not valid at the time.
	Identify func(der []byte, at time.Time) (dept string, key gm.PublicKey, err error)
	Clock    func() time.Time
	Log      *slog.Logger
	// Verified is called for every leaf in order once its author's signature has
	// been checked here; it must not call back. It may be nil.
	Verified func(index uint64, leaf Leaf, entry Entry, hash gm.Digest)
	// Crash stops the process at a named point, in tests of crashes; nil elsewhere.
	Crash func(point string)
}

// A Ledger is one node's replica: the state, the tree, what waits to be
// flushed, and the watermark up to which this node has itself verified who
// wrote what. It is safe for concurrent use.
type Ledger struct {
	cfg     Config
	idents  *Identities
	queue   chan *appending
	clocks  chan *appending // a clock entry that goes in front of the queue
	pending atomic.Int64    // bytes of the entries in queue
	halt    chan struct{}
	stop    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup

	vouched vouched // frames that this node has verified before they were proposed

	cosigning sync.Mutex // one cosignature at a time; taken before mu

	mu sync.RWMutex
	// mu protects what follows.
	state     *State
	tree      *merkle.Tree
	applied   uint64    // position in the replicated log
	unflushed time.Time // since when something applied is not on disk; zero when nothing is
	busy      map[Pressure]uint64
	leaves    []newLeaf                 // not yet flushed
	frames    map[gm.Digest]FrameRecord // of those leaves
	dirty     bool
	toVerify  []verifyItem
	verified  uint64                 // leaves below it are verified
	disputed  map[gm.Digest]struct{} // frames about which the engines disagree
	changed   chan struct{}          // closed and replaced whenever something above changes
	haltErr   error
	cosigned  cosignState
	witnesses map[exchange.Dept]witnessed
	opened    time.Time // this node's clock
	// clockOld is the witnessed time that had grown old when a frame was to be
	// written, Unix ms; -1 before the first.
	clockOld int64
	stats    Stats
}

// Stats is what a node's metrics show of its ledger.
type Stats struct {
	Size             uint64
	Applied          uint64 // position in the replicated log
	Verified         uint64
	Flushed          uint64
	CosignedSize     uint64
	CosignedTime     time.Time // of the newest accepted checkpoint, this node's clock
	VerifyFailures   uint64
	EngineMismatches uint64
	Conflicts        uint64
	Busy             map[Pressure]uint64 // entries and frames refused, by what was full
	LateFrames       uint64              // committed and left out, because no quorum had witnessed their time
	Witnessed        time.Time           // zero before the first leaf
	SplitViews       uint64              // cosigned heads that contradict this tree: a fork
	RefusedHeads     uint64              // heads that someone wanted cosigned and that contradict this tree
	Lagging          []exchange.Dept     // members whose cosignature the checkpoints have gone without for over a minute
	Halted           bool
}

// Open reads the stored ledger back and starts verifying it. The replicated log
// goes on behind AppliedIndex.
func Open(cfg Config) (*Ledger, error) {
	l := &Ledger{cfg: cfg, queue: make(chan *appending, maxPending), busy: map[Pressure]uint64{}, clocks: make(chan *appending, 1), clockOld: -1, halt: make(chan struct{}), stop: make(chan struct{}),
		state: newState(cfg.Engine, cfg.Origin, cfg.AuthorityCert), tree: merkle.New(cfg.Engine),
		frames: map[gm.Digest]FrameRecord{}, disputed: map[gm.Digest]struct{}{}, witnesses: map[exchange.Dept]witnessed{}, opened: cfg.Clock(), changed: make(chan struct{}),
		idents: NewIdentities(cfg.Engine, cfg.Identify)}
	if l.cfg.Crash == nil {
		l.cfg.Crash = func(string) {}
	}
	// Ledger time is that of the newest leaf; what the disk says beside it adds nothing.
	applied, _, err := cfg.Storage.Replay(l.restore)
	if err != nil {
		return nil, fmt.Errorf("read the stored ledger back: %w", err)
	}
	l.applied = applied
	l.stats.Flushed = l.state.size
	if err := l.openCosigned(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Ledger) restore(index uint64, b []byte, r FrameRecord) error {
	n, f, err := l.state.restore(index, b, r)
	if err != nil {
		return err
	}
	hash := merkle.LeafHash(l.cfg.Engine, b)
	l.tree.Append(hash)
	l.toVerify = append(l.toVerify, verifyItem{leaf: n, hash: hash, frame: f})
	return nil
}

// Start begins to verify, flush and carry this department's entries to the
// other nodes through r.
func (l *Ledger) Start(r Replicator) {
	l.wg.Go(l.verifyLoop)
	l.wg.Go(l.flushLoop)
	l.wg.Go(func() { l.appendLoop(r) })
}

// Close stops the ledger's work and flushes what was applied. It may be called
// again; nothing may be applied any more.
func (l *Ledger) Close() error {
	l.once.Do(func() { close(l.stop) })
	l.wg.Wait()
	if l.Halted() != nil {
		return nil // the last flush may be what halted it
	}
	return l.flush()
}

// ApplyBatch takes one command of the replicated log; the replica calls it in
// order, once for each position. An error means that this node must stop.
func (l *Ledger) ApplyBatch(raftIndex uint64, cmd []byte) error {
	batch, frames, err := parseBatch(l.cfg.Engine, cmd, l.vouched.frame)
	if err != nil {
		return l.haltWith(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.haltErr != nil {
		return l.haltErr
	}
	if raftIndex <= l.applied {
		return nil
	}
	leaves, accepted, late := l.state.apply(batch, frames)
	l.stats.LateFrames += uint64(late)
	next := 0
	for _, n := range leaves {
		hash := merkle.LeafHash(l.cfg.Engine, n.bytes)
		l.tree.Append(hash)
		item := verifyItem{leaf: n, hash: hash}
		if next < len(accepted) && accepted[next].hash == n.leaf.Frame {
			item.frame = &accepted[next]
			l.frames[n.leaf.Frame] = accepted[next].record
			next++
		}
		l.toVerify = append(l.toVerify, item)
	}
	l.leaves = append(l.leaves, leaves...)
	l.applied, l.dirty = raftIndex, true
	if l.unflushed.IsZero() && len(l.leaves) > 0 {
		l.unflushed = time.Now() // a duration is measured, not a time told
	}
	l.wake()
	return nil
}

// AppliedIndex returns the position in the replicated log that was last applied
// here and, after a restart, is on disk.
func (l *Ledger) AppliedIndex() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.applied
}

// Size returns the number of leaves applied here.
func (l *Ledger) Size() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.size
}

// now is this node's clock, or ledger time where that is ahead of it: what a
// slow clock must not stretch. The caller holds mu.
func (l *Ledger) now() time.Time {
	now := l.cfg.Clock()
	if at := time.UnixMilli(l.state.time); now.Before(at) {
		return at
	}
	return now
}

// Origin names the ledger.
func (l *Ledger) Origin() string { return l.cfg.Origin }

// Stats returns a copy of the ledger's figures.
func (l *Ledger) Stats() Stats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := l.stats
	s.Size, s.Applied, s.Verified, s.Halted = l.state.size, l.applied, l.verified, l.haltErr != nil
	s.Busy, s.Lagging = maps.Clone(l.busy), l.lagging()
	s.CosignedSize, s.CosignedTime = l.cosigned.size, l.cosigned.at
	if l.state.size > 0 {
		s.Witnessed = time.UnixMilli(l.state.witnessed).UTC()
	}
	return s
}

// Fatal is closed when the ledger has halted; Halted then says why.
func (l *Ledger) Fatal() <-chan struct{} { return l.halt }

// Halted returns why the ledger halted, or nil.
func (l *Ledger) Halted() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.haltErr
}

func (l *Ledger) haltWith(cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.haltLocked(cause)
}

// haltLocked keeps the first cause. The caller holds mu.
func (l *Ledger) haltLocked(cause error) error {
	if l.haltErr == nil {
		l.haltErr = errors.Join(ErrHalted, cause)
		l.cfg.Log.Error("ledger halted: this node releases and cosigns nothing more", "cause", cause)
		close(l.halt)
		l.wake()
	}
	return l.haltErr
}

// wake tells everyone who waits that something has changed. The caller holds mu.
func (l *Ledger) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// flushEvery bounds how long an applied entry stays in memory alone. The
// replicated log is the write-ahead log: what is lost here is applied again.
const flushEvery = 40 * time.Millisecond

func (l *Ledger) flushLoop() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			if err := l.flush(); err != nil {
				l.haltWith(fmt.Errorf("flush: %w", err))
				return
			}
		}
	}
}

func (l *Ledger) flush() error {
	l.mu.Lock()
	if !l.dirty {
		l.mu.Unlock()
		return nil
	}
	batch, frames := l.leaves, l.frames
	out := Flush{Applied: l.applied, Time: l.state.time, First: l.state.size - uint64(len(batch)), Frames: frames}
	l.dirty, l.frames = false, map[gm.Digest]FrameRecord{}
	l.mu.Unlock()
	started := time.Now() // what is not in this transaction came later
	for _, n := range batch {
		out.Leaves = append(out.Leaves, n.bytes)
	}
	l.cfg.Crash("ledger-before-flush")
	if err := l.cfg.Storage.Flush(out); err != nil {
		return err
	}
	l.cfg.Crash("ledger-after-flush")
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(batch) // the array lives on behind what was applied meanwhile
	l.leaves = l.leaves[len(batch):]
	l.stats.Flushed = out.First + uint64(len(batch))
	if l.unflushed = started; len(l.leaves) == 0 {
		l.unflushed = time.Time{}
	}
	return nil
}
