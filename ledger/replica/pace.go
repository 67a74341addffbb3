package replica

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A leader whose disk is slow slows everybody: it writes each entry before it
// sends it. A follower whose disk is slow slows nobody, so a slow leader hands over.
const (
	slowWrite  = 30 * time.Millisecond // ten times the usual fsync of a busy disk
	paceWrites = 16                    // that the mean is taken over, before it counts
	// yieldPause is how long a node keeps the leadership that came back to it: when
	// all disks are slow, handing it round helps nobody.
	yieldPause = 5 * time.Minute
)

// pace is how long writes to the raft log take.
type pace struct {
	mu     sync.Mutex
	mean   time.Duration // later writes weigh more
	writes int           // since reset
}

func (p *pace) took(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writes++; p.writes == 1 {
		p.mean = d
	}
	p.mean += (d - p.mean) / paceWrites
}

// reset begins again, as this node begins to lead.
func (p *pace) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes = 0
}

// now returns the mean, and whether it is that of a slow disk.
func (p *pace) now() (mean time.Duration, slow bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mean, p.writes >= paceWrites && p.mean > slowWrite
}

// yield hands leadership over when this node's disk is slow, and not again
// before yieldPause is over.
func (r *Replica) yield() {
	mean, slow := r.pace.now()
	if !slow || !r.yielded.IsZero() && time.Since(r.yielded) < yieldPause {
		return
	}
	r.yielded = time.Now() // a duration is measured, not a time told
	r.cfg.Log.Warn("the disk of this node is slow: it hands leadership over", "mean write", mean)
	if err := r.await(r.raft.LeadershipTransfer()); err != nil {
		r.cfg.Log.Warn("leadership was not handed over", "err", err)
		return
	}
	r.count.yielded.Add(1)
}

// timed measures what reaches the disk.
type timed struct {
	raftLog
	pace *pace
	stop func(point string) // Config.Crash, which may delay
}

// StoreLogs implements raft.LogStore.
func (t timed) StoreLogs(logs []*raft.Log) error {
	began := time.Now()
	defer func() { t.pace.took(time.Since(began)) }()
	t.stop("log-before-write")
	if err := t.raftLog.StoreLogs(logs); err != nil {
		return err
	}
	t.stop("log-after-fsync")
	return nil
}
