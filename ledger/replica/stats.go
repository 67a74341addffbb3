package replica

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"xinqiao/exchange"
)

// Stats is what a node's metrics show of its replica. Counters start at zero
// with the process.
type Stats struct {
	Leader      exchange.Dept // "" when none is known
	IsLeader    bool
	State       string // of raft: Follower, Candidate, Leader, Shutdown
	Term        uint64
	LastIndex   uint64
	CommitIndex uint64
	Applied     uint64        // position that raft has handed to the ledger
	LastContact time.Duration // since the leader was last heard; zero on the leader
	Voters      int
	Replicas    int             // servers without a vote
	Unsigned    []exchange.Dept // voters that no signed member entry names: a node with any must not cosign
	Unpromoted  []exchange.Dept // signed as voters, but without a vote so far

	LogWrite time.Duration // mean of the latest writes to the raft log, each one fsynced

	Yielded       uint64 // times that this node handed leadership over because its disk was slow
	Batches       uint64 // commands committed as leader
	Committed     uint64 // frames in them
	Forwarded     uint64
	NotProposed   uint64
	Undetermined  uint64
	Busy          uint64 // refused because the queue was full
	RefusedFrames uint64 // by Check
	RefusedPeers  uint64 // connections of who is not a voter
	RefusedRPCs   uint64 // messages in another's name, snapshots, malformed entries
}

type counters struct {
	batches, committed, forwarded, notProposed, undetermined, busy atomic.Uint64
	refusedFrames, refusedPeers, refusedRPCs, yielded              atomic.Uint64
}

// Stats returns the present figures.
func (r *Replica) Stats() Stats {
	c := &r.count
	s := Stats{Leader: r.Leader(), IsLeader: r.IsLeader(), State: r.raft.State().String(), Term: r.raft.CurrentTerm(),
		LastIndex: r.raft.LastIndex(), CommitIndex: r.raft.CommitIndex(), Applied: r.raft.AppliedIndex(),
		Batches: c.batches.Load(), Committed: c.committed.Load(), Forwarded: c.forwarded.Load(),
		NotProposed: c.notProposed.Load(), Undetermined: c.undetermined.Load(), Busy: c.busy.Load(),
		RefusedFrames: c.refusedFrames.Load(), RefusedPeers: c.refusedPeers.Load(), RefusedRPCs: c.refusedRPCs.Load(), Yielded: c.yielded.Load()}
	s.LogWrite, _ = r.pace.now()
	if at := r.raft.LastContact(); !at.IsZero() && r.raft.State() != raft.Leader {
		s.LastContact = time.Since(at)
	}
	conf, _ := r.configuration()
	members := r.cfg.Members()
	s.Unsigned = unsigned(conf, members)
	for _, p := range conf {
		if p.Voter {
			s.Voters++
			continue
		}
		s.Replicas++
		for _, m := range members {
			if m.Dept == p.Dept && m.Voter {
				s.Unpromoted = append(s.Unpromoted, p.Dept)
			}
		}
	}
	return s
}
