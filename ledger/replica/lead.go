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
	r.pace.reset()
	r.heard.reset()
	r.mu.Lock()
	if ctx.Err() == nil {
		r.leading.Store(true)
	}
	r.mu.Unlock()
	r.cfg.Log.Info("this node leads")
	for {
		for ctx.Err() == nil && r.reconcile() {
		}
		r.yield()
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
	what string // "add", "move", "promote", "demote", "remove", or "" for none
	peer Peer   // as it is to be, or was
}

// circle is what the leader knows of the others.
type circle struct {
	self     exchange.Dept
	caughtUp func(exchange.Dept) bool // has shown that it has the whole ledger
	silent   func(exchange.Dept) bool // does not answer now
}

// nextChange compares the raft configuration with the signed members and
// returns the first difference that the leader may mend now. A vote is given only
// to who is caught up, because one that is not puts the quorum at risk, and before
// any is taken. It is taken from whoever no signed entry names as a voter, the
// leader last, as long as the voters that answer stay a quorum of those that
// remain and one of them is signed.
func nextChange(conf []Peer, members []Peer, c circle) change {
	if len(members) == 0 {
		return change{} // the ledger is empty: nobody has signed anything yet
	}
	if next := admission(conf, members, c.self); next.what != "" {
		return next
	}
	for _, p := range conf {
		if !p.Voter && hasVote(members, p.Dept) && c.caughtUp(p.Dept) {
			return change{"promote", Peer{Dept: p.Dept, Addr: p.Addr, Voter: true}}
		}
	}
	return dismissal(conf, members, c)
}

// admission brings members in, as replicas, and follows them to a new address.
func admission(conf, members []Peer, self exchange.Dept) change {
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
	return change{}
}

// dismissal takes out who is no member, and the vote of who is signed without one.
func dismissal(conf, members []Peer, c circle) change {
	var own change
	for _, p := range conf {
		next := change{"remove", p}
		if slices.ContainsFunc(members, func(m Peer) bool { return m.Dept == p.Dept }) {
			next.what = "demote"
		}
		switch {
		case next.what == "demote" && (!p.Voter || hasVote(members, p.Dept)):
		case p.Voter && !c.goesOnWithout(p.Dept, conf, members):
		case p.Dept == c.self:
			own = next
		default:
			return next
		}
	}
	return own
}

// goesOnWithout reports whether the voters other than dept are a quorum by those
// that answer, with a signed one among them.
func (c circle) goesOnWithout(dept exchange.Dept, conf, members []Peer) bool {
	voters, answering, signed := 0, 0, false
	for _, p := range conf {
		if !p.Voter || p.Dept == dept {
			continue
		}
		voters++
		if !c.silent(p.Dept) {
			answering++
			signed = signed || hasVote(members, p.Dept)
		}
	}
	return signed && answering > voters/2
}

func hasVote(list []Peer, dept exchange.Dept) bool {
	return slices.ContainsFunc(list, func(p Peer) bool { return p.Dept == dept && p.Voter })
}

// unsigned lists the voters of the configuration that no signed member entry
// names as voters.
func unsigned(conf []Peer, members []Peer) []exchange.Dept {
	var list []exchange.Dept
	for _, p := range conf {
		if p.Voter && !hasVote(members, p.Dept) && len(members) > 0 {
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
		r.cfg.Log.Warn("the raft configuration has voters that no signed member entry names", "voters", bad)
	}
	c := nextChange(conf, members, circle{r.cfg.Self, r.cfg.CaughtUp, r.heard.silent})
	id, addr := raft.ServerID(c.peer.Dept), raft.ServerAddress(c.peer.Addr)
	var f raft.Future
	switch {
	case c.what == "":
		return false
	case c.peer.Dept == r.cfg.Self:
		f = r.raft.LeadershipTransfer() // the next leader makes the change
	case c.what == "remove":
		f = r.raft.RemoveServer(id, index, changeWithin)
	case c.what == "demote":
		f = r.raft.DemoteVoter(id, index, changeWithin)
	case c.peer.Voter:
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

// Peers returns raft's latest configuration as this node has it.
func (r *Replica) Peers() []Peer {
	list, _ := r.configuration()
	return list
}
