package replica

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"xinqiao/exchange"
)

// TestSlowLeaderYields makes the leader's disk slow by 50 ms a write. It hands
// over, the others go on, and it does not take leadership back.
func TestSlowLeaderYields(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var slow atomic.Value
	slow.Store(exchange.Dept(""))
	c.crash = func(d exchange.Dept, point string) {
		if point == "log-before-write" && slow.Load() == d {
			time.Sleep(50 * time.Millisecond)
		}
	}
	for _, v := range c.voters {
		c.start(v.Dept)
	}
	was := c.leader()
	slow.Store(was)
	n := 0
	write := func() {
		n++
		c.propose(was, fmt.Sprint("frame-", n))
	}
	eventually(t, "another leader", func() bool {
		write()
		return c.leader() != was
	})
	for range 4 * paceWrites {
		write()
	}
	if now := c.leader(); now == was {
		t.Error("leadership is back with the slow node")
	}
	if s := c.node(was).Stats(); s.Yielded != 1 || s.LogWrite < slowWrite {
		t.Errorf("%d times handed over, a write takes %v", s.Yielded, s.LogWrite)
	}
}

// TestSlowEverywhere: when all disks are slow, each node hands over once at most.
func TestSlowEverywhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.crash = func(_ exchange.Dept, point string) {
		if point == "log-before-write" {
			time.Sleep(2 * slowWrite)
		}
	}
	for _, v := range c.voters {
		c.start(v.Dept)
	}
	c.leader()
	for i := range 6 * paceWrites {
		c.propose("aa", fmt.Sprint("frame-", i))
	}
	for _, v := range c.voters {
		if s := c.node(v.Dept).Stats(); s.Yielded > 1 {
			t.Errorf("%s handed over %d times", v.Dept, s.Yielded)
		}
	}
}

// TestPace: a slow write or two are no slow disk, and an old slowness is forgotten.
func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	is := func(when string, want bool) {
		t.Helper()
		if mean, slow := p.now(); slow != want {
			t.Errorf("%s: slow is %v with a mean of %v", when, slow, mean)
		}
	}
	p.took(time.Second)
	is("after one write", false)
	for range 8 * paceWrites {
		p.took(time.Millisecond)
	}
	is("with a good disk", false)
	p.took(5 * slowWrite)
	is("with one stall", false)
	for range 2 * paceWrites {
		p.took(2 * slowWrite)
	}
	is("with a slow disk", true)
	p.reset()
	is("as a new leader", false)
}
