package replica

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"xinqiao/exchange"
)

const (
	reconcileEvery = time.Second
	changeWithin   = 5 * time.Second
)

// leadLoop starts the leader's duties when this node is elected and ends them
// when it no longer leads.
func (r *Replica) leadLoop(notify <-chan bool) {
	cancel := func() {}
	var duties chan struct{}
	for {
		var elected bool
		select {
		case <-r.done:
			cancel()
			if duties != nil {
				<-duties
			}
			return
		case elected = <-notify:
		}
		r.setLeading(false)
		cancel()
		if !elected {
			continue
		}
		if duties != nil {
			<-duties
		}
		ctx, stop := context.WithCancel(context.Background())
		cancel, duties = stop, make(chan struct{})
		go func(ended chan struct{}) {
			defer close(ended)
			r.lead(ctx)
		}(duties)
	}
}

// lead waits until everything before this node's term is applied, gives an
// empty ledger its genesis, then takes frames and keeps the raft configuration
// equal to the signed members.
func (r *Replica) lead(ctx context.Context) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for !r.prepare() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	r.mu.Lock()
	if ctx.Err() == nil {
		r.leading.Store(true)
	}
	r.mu.Unlock()
	r.cfg.Log.Info("this node leads")
	for {
		for ctx.Err() == nil && r.reconcile() {
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// prepare reports whether the ledger is ready for frames.
func (r *Replica) prepare() bool {
	if err := r.await(r.raft.Barrier(changeWithin)); err != nil {
		r.cfg.Log.Warn("leader is not ready", "err", err)
		return false
	}
	if r.applier.AppliedIndex() > 0 || len(r.cfg.Genesis) == 0 {
		return true
	}
	// One command: half a genesis would be taken for a whole one after a crash.
	if err := r.commit(r.cfg.Genesis); err != nil {
		r.cfg.Log.Warn("genesis is not committed", "err", err)
		return false
	}
	r.cfg.Log.Info("genesis committed", "frames", len(r.cfg.Genesis))
	return true
}

// change is one step towards the signed membership.
type change struct {
	what string // "add", "move", "remove", or "" for none
	peer Peer
}

// nextChange compares the raft configuration with the signed members and
// returns the first difference that the leader may mend by itself. It never
// makes a voter, because a voter that is not caught up, or one that nobody
// signed, puts the quorum at risk; and it leaves the leader for last.
func nextChange(conf []Peer, members []Peer, self exchange.Dept) change {
	if len(members) == 0 {
		return change{} // the ledger is empty: nobody has signed anything yet
	}
	for _, m := range members {
		if m.Addr == "" {
			continue
		}
		at := slices.IndexFunc(conf, func(p Peer) bool { return p.Dept == m.Dept })
		taken := slices.ContainsFunc(conf, func(p Peer) bool { return p.Addr == m.Addr && p.Dept != m.Dept })
		switch {
		case taken: // raft refuses two servers with one address
		case at < 0:
			return change{"add", Peer{Dept: m.Dept, Addr: m.Addr}}
		case conf[at].Addr != m.Addr && m.Dept != self:
			return change{"move", Peer{Dept: m.Dept, Addr: m.Addr, Voter: conf[at].Voter}}
		}
	}
	var own change
	for _, p := range conf {
		if slices.ContainsFunc(members, func(m Peer) bool { return m.Dept == p.Dept }) {
			continue
		}
		if p.Dept != self {
			return change{"remove", p}
		}
		own = change{"remove", p}
	}
	return own
}

// unsigned lists the voters of the configuration that no signed member entry
// names as voters.
func unsigned(conf []Peer, members []Peer) []exchange.Dept {
	var list []exchange.Dept
	for _, p := range conf {
		signed := slices.ContainsFunc(members, func(m Peer) bool { return m.Dept == p.Dept && m.Voter })
		if p.Voter && !signed && len(members) > 0 {
			list = append(list, p.Dept)
		}
	}
	return list
}

// reconcile makes at most one change, waits for it, and reports whether it was
// made: then there may be another.
func (r *Replica) reconcile() bool {
	conf, index := r.configuration()
	members := r.cfg.Members()
	if bad := unsigned(conf, members); len(bad) > 0 {
		r.cfg.Log.Error("the raft configuration has voters that no signed member entry names", "voters", bad)
	}
	c := nextChange(conf, members, r.cfg.Self)
	id, addr := raft.ServerID(c.peer.Dept), raft.ServerAddress(c.peer.Addr)
	var f raft.Future
	switch {
	case c.what == "":
		return false
	case c.what == "remove" && c.peer.Dept == r.cfg.Self:
		f = r.raft.LeadershipTransfer() // the next leader removes this node
	case c.what == "remove":
		f = r.raft.RemoveServer(id, index, changeWithin)
	case c.what == "move" && c.peer.Voter:
		f = r.raft.AddVoter(id, addr, index, changeWithin)
	default:
		f = r.raft.AddNonvoter(id, addr, index, changeWithin)
	}
	if err := r.await(f); err != nil {
		r.cfg.Log.Warn("raft configuration not changed", "change", c.what, "dept", string(c.peer.Dept), "err", err)
		return false
	}
	r.cfg.Log.Info("raft configuration changed", "change", c.what, "dept", string(c.peer.Dept))
	return true
}

// configuration returns raft's latest configuration and its position in the log.
func (r *Replica) configuration() ([]Peer, uint64) {
	f := r.raft.GetConfiguration()
	if f.Error() != nil {
		return nil, 0
	}
	var list []Peer
	for _, s := range f.Configuration().Servers {
		list = append(list, Peer{Dept: exchange.Dept(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return list, f.Index()
}
