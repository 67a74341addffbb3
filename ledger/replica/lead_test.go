package replica

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
	"xinqiao/ledger"
)

// circleOf is that of aa, with those who are behind and those who are silent.
func circleOf(behind, silent []exchange.Dept) circle {
	return circle{"aa", func(d exchange.Dept) bool { return !slices.Contains(behind, d) },
		func(d exchange.Dept) bool { return slices.Contains(silent, d) }}
}

func TestLeaderFollowsTheSignedMembers(t *testing.T) {
	t.Parallel()
	p := func(name string, voter bool) Peer {
		return Peer{Dept: exchange.Dept(name), Addr: name + ":1", Voter: voter}
	}
	conf := []Peer{p("aa", true), p("bb", true), p("cc", true)}
	moved := p("bb", true)
	moved.Addr = "new:1"
	squatter := p("dd", false)
	squatter.Addr = "cc:1"
	for name, c := range map[string]struct {
		members []Peer
		want    change
	}{
		"empty ledger":                    {nil, change{}},
		"equal":                           {conf, change{}},
		"new member":                      {append(conf[:3:3], p("dd", false)), change{"add", p("dd", false)}},
		"new voter begins without a vote": {append(conf[:3:3], p("dd", true)), change{"add", p("dd", false)}},
		"moved":                           {[]Peer{p("aa", true), moved, p("cc", true)}, change{"move", moved}},
		"address of another":              {append(conf[:3:3], squatter), change{}},
		"gone":                            {[]Peer{p("aa", true), p("cc", true)}, change{"remove", p("bb", true)}},
		"self goes last":                  {[]Peer{p("cc", true)}, change{"remove", p("bb", true)}},
		"self":                            {[]Peer{p("bb", true), p("cc", true)}, change{"remove", p("aa", true)}},
		"vote taken":                      {[]Peer{p("aa", true), p("bb", true), p("cc", false)}, change{"demote", p("cc", true)}},
		"own vote taken":                  {[]Peer{p("aa", false), p("bb", true), p("cc", true)}, change{"demote", p("aa", true)}},
		"no signed voter would be left":   {[]Peer{p("aa", false), p("bb", false), p("cc", false)}, change{}},
		"nobody would be left":            {[]Peer{p("dd", false)}, change{"add", p("dd", false)}},
	} {
		if got := nextChange(conf, c.members, circleOf(nil, nil)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if got := unsigned(conf, []Peer{p("aa", true), p("bb", false)}); fmt.Sprint(got) != "[bb cc]" {
		t.Errorf("voters that nobody signed: %v", got)
	}
}

// TestVoteOnlyForTheCaughtUp: a replica that is signed as a voter waits for its
// vote until it has shown that it has the ledger.
func TestVoteOnlyForTheCaughtUp(t *testing.T) {
	t.Parallel()
	p := func(name string, voter bool) Peer {
		return Peer{Dept: exchange.Dept(name), Addr: name + ":1", Voter: voter}
	}
	conf := []Peer{p("aa", true), p("bb", true), p("cc", true), p("dd", false), p("ee", false)}
	members := []Peer{p("aa", true), p("bb", true), p("cc", true), p("dd", true), p("ee", true)}
	if got := nextChange(conf, members, circleOf([]exchange.Dept{"dd", "ee"}, nil)); got != (change{}) {
		t.Errorf("for nobody: %+v", got)
	}
	got := nextChange(conf, members, circleOf([]exchange.Dept{"dd"}, nil))
	if diff := cmp.Diff(change{"promote", p("ee", true)}, got, cmp.AllowUnexported(change{})); diff != "" {
		t.Error(diff)
	}
}

// TestNoOrderEndsTheQuorum: whatever is signed, the leader takes no vote without
// which the voters that answer could commit nothing.
func TestNoOrderEndsTheQuorum(t *testing.T) {
	t.Parallel()
	p := func(name string, voter bool) Peer {
		return Peer{Dept: exchange.Dept(name), Addr: name + ":1", Voter: voter}
	}
	conf := []Peer{p("aa", true), p("bb", true), p("cc", true), p("dd", false)}
	for name, c := range map[string]struct {
		members []Peer
		behind  []exchange.Dept
		silent  []exchange.Dept
		want    change
	}{
		"the dead one goes":                    {[]Peer{p("aa", true), p("bb", true), p("dd", false)}, nil, []exchange.Dept{"cc"}, change{"remove", p("cc", true)}},
		"a living one stays beside a dead one": {[]Peer{p("aa", true), p("cc", true), p("dd", false)}, nil, []exchange.Dept{"cc"}, change{}},
		"its successor comes first":            {[]Peer{p("aa", true), p("cc", true), p("dd", true)}, nil, []exchange.Dept{"cc"}, change{"promote", p("dd", true)}},
		"not before it is caught up":           {[]Peer{p("aa", true), p("cc", true), p("dd", true)}, []exchange.Dept{"dd"}, []exchange.Dept{"cc"}, change{}},
		"all replaced at once":                 {[]Peer{p("dd", true)}, nil, nil, change{"promote", p("dd", true)}},
		"a replica goes at any time":           {[]Peer{p("aa", true), p("bb", true), p("cc", true)}, nil, []exchange.Dept{"bb", "cc"}, change{"remove", p("dd", false)}},
	} {
		if got := nextChange(conf, c.members, circleOf(c.behind, c.silent)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestLostAnswer: raft forgets futures when it steps down. Whoever waits for one
// must go on, and must not take it for a refusal.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &Replica{done: make(chan struct{}), fault: newFault()}
		lost := make(lostFuture)
		if err := outcome(r.await(lost)); !errors.Is(err, ledger.ErrUndetermined) {
			t.Errorf("%v", err)
		}
		close(lost)
	})
}

type lostFuture chan struct{}

func (f lostFuture) Error() error { <-f; return nil }

// TestVotesMove replaces a voter that is dead, then takes the leader's own vote:
// the three that are signed at the end are a quorum without the first two.
func TestVotesMove(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.setBehind("dd", true)
	for d := range c.nodes {
		c.start(d)
	}
	c.propose("dd", "one")
	dead := c.leader()
	var alive []exchange.Dept
	for _, v := range c.voters {
		if v.Dept != dead {
			alive = append(alive, v.Dept)
		}
	}
	c.sign(append(alive, "dd")...)
	votes := func(want int, leaders ...exchange.Dept) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d voters, all of them signed", want), func() bool {
			for _, d := range leaders {
				if n := c.node(d); n.Replica != nil && n.IsLeader() {
					s := n.Stats()
					return s.Voters == want && len(s.Unsigned) == 0
				}
			}
			return false
		})
	}
	votes(2, alive...) // the leader has handed over and lost its vote; dd has none yet
	c.kill(dead)
	time.Sleep(2 * reconcileEvery)
	votes(2, alive...)
	c.setBehind("dd", false)
	votes(3, alive...)
	c.kill(alive[0])
	c.propose(alive[1], "two") // dd's vote makes the quorum
	c.start(alive[0])
	c.start(dead)
	c.wantSame([]string{"genesis", "one", "two"}, "aa", "bb", "cc", "dd")
}
