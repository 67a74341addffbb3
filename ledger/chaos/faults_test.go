package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"xinqiao/exchange"
)

// points are the labelled places at which a node may die, in turn.
func points() []string {
	return []string{"log-before-write", "store-before-fsync", "votes-before-write", "ledger-before-flush", "append-before-propose",
		"votes-after-write", "store-after-fsync", "cosign-before-persist", "votes-after-fsync", "log-after-fsync", "ledger-after-flush",
		"votes-after-rename", "store-before-commit", "cosign-after-persist", "log-before-delete", "log-after-delete"}
}

// nemesis injects one fault after the other and keeps nodes running.
type nemesis struct {
	c   *cluster
	r   *rand.Rand
	log func(format string, args ...any)

	mu      sync.Mutex
	count   map[string]int
	reason  map[exchange.Dept]bool // the node may end with exitDisk: its disk was broken
	strange []string               // ends that no fault explains
}

func newNemesis(c *cluster, r *rand.Rand, log func(string, ...any)) *nemesis {
	return &nemesis{c: c, r: r, log: log, count: map[string]int{}, reason: map[exchange.Dept]bool{}}
}

func (n *nemesis) did(fault, format string, args ...any) {
	n.mu.Lock()
	n.count[fault]++
	n.mu.Unlock()
	n.log("%-14s %s", fault, fmt.Sprintf(format, args...))
}

// tend starts what has ended, and notes ends that no fault explains.
func (n *nemesis) tend() {
	for _, d := range depts() {
		node := n.c.nodes[d]
		if node.running() {
			continue
		}
		n.ended(d, node.exitCode())
		if err := node.start(); err != nil {
			n.mu.Lock()
			n.strange = append(n.strange, err.Error())
			n.mu.Unlock()
		}
	}
}

func (n *nemesis) ended(d exchange.Dept, code int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if code != -1 && code != 0 && !(code == exitDisk && n.reason[d]) {
		n.strange = append(n.strange, fmt.Sprintf("%s ended with code %d: see its log", d, code))
	}
	n.reason[d] = false
}

// pause lets the cluster work under a fault.
func (n *nemesis) pause(from, to time.Duration, stop <-chan struct{}) {
	t := time.NewTimer(from + time.Duration(n.r.Int64N(int64(to-from))))
	defer t.Stop()
	select {
	case <-stop:
	case <-t.C:
	}
}

// run injects faults until stop is closed, then takes them all back.
func (n *nemesis) run(stop <-chan struct{}) {
	faults := []func(stop <-chan struct{}){n.kill, n.point, n.freeze, n.isolate, n.point, n.oneWay, n.partial, n.delay, n.loss, n.point,
		n.slowDisk, n.failDisk, n.jump, n.stopAll, n.point, n.killLeader}
	n.r.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for i := 0; ; i++ {
		select {
		case <-stop:
			n.calm()
			return
		default:
		}
		faults[i%len(faults)](stop)
		n.c.heal()
		n.pause(150*time.Millisecond, 700*time.Millisecond, stop)
		n.tend()
	}
}

func (n *nemesis) calm() {
	n.c.heal()
	n.tend()
	for _, d := range depts() {
		n.strike(d, Fault{})
	}
}

func (n *nemesis) strike(d exchange.Dept, f Fault) bool {
	var none bool
	return n.c.nodes[d].call("Fault", f, &none, 2*time.Second) == nil
}

func (n *nemesis) any() exchange.Dept { return depts()[n.r.IntN(len(depts()))] }

// leader returns the leader, or somebody when nobody leads.
func (n *nemesis) leader() exchange.Dept {
	if d := n.c.leader(); d != "" {
		return d
	}
	return n.any()
}

func (n *nemesis) kill(stop <-chan struct{}) {
	d := n.any()
	n.did("kill", "%s", d)
	n.c.nodes[d].kill()
	n.pause(50*time.Millisecond, 1500*time.Millisecond, stop)
}

func (n *nemesis) killLeader(stop <-chan struct{}) {
	d := n.leader()
	n.did("kill-leader", "%s", d)
	n.c.nodes[d].kill()
	n.pause(1500*time.Millisecond, 3*time.Second, stop)
}

// point has a node die at the next labelled point in turn. Votes are written only
// when somebody is elected, and entries deleted only when a leader lost them, so the
// leader is killed for those.
func (n *nemesis) point(stop <-chan struct{}) {
	n.mu.Lock()
	passed := 0
	for fault, times := range n.count {
		if strings.HasPrefix(fault, "at ") || fault == "not reached" {
			passed += times
		}
	}
	n.mu.Unlock()
	point := points()[passed%len(points())]
	leader := n.leader()
	var victims []exchange.Dept
	for _, d := range depts() {
		if votes(d) && d != leader {
			victims = append(victims, d)
		}
	}
	d := victims[n.r.IntN(len(victims))]
	elected := strings.HasPrefix(point, "votes-") || strings.HasSuffix(point, "-delete")
	if !elected && n.r.IntN(2) == 0 {
		d = leader
	}
	if !n.strike(d, Fault{Point: point, After: 1 + n.r.IntN(3)}) {
		return
	}
	if elected {
		n.strike(d, Fault{Point: point, After: 1})
		n.c.nodes[leader].kill()
	}
	for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if !n.c.nodes[d].running() {
			n.did("at "+point, "%s died there", d)
			n.pause(50*time.Millisecond, 500*time.Millisecond, stop)
			return
		}
	}
	n.strike(d, Fault{})
	n.did("not reached", "%s on %s", point, d)
}

func (n *nemesis) freeze(stop <-chan struct{}) {
	d := n.leader()
	n.did("freeze", "the leader %s", d)
	n.c.nodes[d].signal(syscall.SIGSTOP)
	n.pause(500*time.Millisecond, 3*time.Second, stop)
	n.c.nodes[d].signal(syscall.SIGCONT)
}

func (n *nemesis) isolate(stop <-chan struct{}) {
	d := n.leader()
	n.did("partition", "%s from all", d)
	for _, o := range depts() {
		if o != d {
			n.c.weather(d, o, weather{Cut: true})
			n.c.weather(o, d, weather{Cut: true})
		}
	}
	n.pause(time.Second, 4*time.Second, stop)
}

func (n *nemesis) oneWay(stop <-chan struct{}) {
	d, out := n.leader(), n.r.IntN(2) == 0
	n.did("one-way", "%s, what it says is lost: %t", d, out)
	for _, o := range depts() {
		switch {
		case o == d:
		case out:
			n.c.weather(d, o, weather{Cut: true})
		default:
			n.c.weather(o, d, weather{Cut: true})
		}
	}
	n.pause(time.Second, 4*time.Second, stop)
}

func (n *nemesis) partial(stop <-chan struct{}) {
	a := n.leader()
	others := slices.DeleteFunc(depts(), func(d exchange.Dept) bool { return d == a })
	b := others[n.r.IntN(len(others))]
	n.did("partial", "%s and %s", a, b)
	n.c.weather(a, b, weather{Cut: true})
	n.c.weather(b, a, weather{Cut: true})
	n.pause(time.Second, 4*time.Second, stop)
}

func (n *nemesis) everywhere(w weather) {
	for _, a := range depts() {
		for _, b := range depts() {
			if a != b {
				n.c.weather(a, b, w)
			}
		}
	}
}

func (n *nemesis) delay(stop <-chan struct{}) {
	w := weather{Delay: time.Duration(5+n.r.IntN(120)) * time.Millisecond}
	n.did("delay", "%v everywhere", w.Delay)
	n.everywhere(w)
	n.pause(time.Second, 3*time.Second, stop)
}

func (n *nemesis) loss(stop <-chan struct{}) {
	n.did("loss", "1 in 50 pieces breaks its connection")
	n.everywhere(weather{Loss: 0.02})
	n.pause(time.Second, 3*time.Second, stop)
}

func (n *nemesis) slowDisk(stop <-chan struct{}) {
	d, slow := n.leader(), time.Duration(20+n.r.IntN(200))*time.Millisecond
	n.did("slow-disk", "%s by %v", d, slow)
	n.strike(d, Fault{Slow: slow})
	n.pause(time.Second, 3*time.Second, stop)
	n.strike(d, Fault{})
}

func (n *nemesis) failDisk(stop <-chan struct{}) {
	d := n.any()
	n.mu.Lock()
	n.reason[d] = true
	n.mu.Unlock()
	n.did("fail-disk", "every write and fsync of %s's store", d)
	n.strike(d, Fault{Fail: true})
	n.pause(time.Second, 2*time.Second, stop)
	n.c.nodes[d].kill() // an idle node may not have written
}

func (n *nemesis) jump(stop <-chan struct{}) {
	d := n.any()
	skew := []time.Duration{-time.Hour, -4 * time.Second, 3 * time.Second, time.Hour}[n.r.IntN(4)]
	if skew > time.Minute {
		d = n.leader() // it refuses its own time, and goes on when its clock is right
	}
	n.did("clock", "%s by %v", d, skew)
	n.strike(d, Fault{Skew: skew})
	n.pause(500*time.Millisecond, 2*time.Second, stop)
	n.strike(d, Fault{})
}

func (n *nemesis) stopAll(stop <-chan struct{}) {
	hard := n.r.IntN(2) == 0
	n.did("stop-all", "kill -9: %t", hard)
	s := syscall.SIGTERM
	if hard {
		s = syscall.SIGKILL
	}
	var ended []<-chan struct{}
	for _, d := range depts() {
		ended = append(ended, n.c.nodes[d].signal(s))
	}
	late := time.After(20 * time.Second)
	for i, e := range ended {
		select {
		case <-e:
		case <-late:
			d := depts()[i]
			n.mu.Lock()
			n.strange = append(n.strange, fmt.Sprintf("%s does not stop on SIGTERM", d))
			n.mu.Unlock()
			n.c.nodes[d].kill()
		}
	}
	n.pause(50*time.Millisecond, 300*time.Millisecond, stop)
	for _, d := range depts() {
		n.ended(d, n.c.nodes[d].exitCode())
	}
	if err := n.c.startAll(); err != nil {
		n.mu.Lock()
		n.strange = append(n.strange, err.Error())
		n.mu.Unlock()
	}
}
