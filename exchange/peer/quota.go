package peer

import (
	"sync"
	"time"

	"xinqiao/exchange"
)

// quota keeps one department from taking what all need: places for calls that
// run at once, by route, and a rate of frames. Departments are admitted members,
// so their number bounds the maps.
type quota struct {
	places int
	rate   float64 // frames a second, and the burst
	clock  func() time.Time

	mu      sync.Mutex
	running map[place]int
	buckets map[exchange.Dept]bucket
}

type place struct {
	dept  exchange.Dept
	route string
}

type bucket struct {
	left float64
	at   time.Time
}

func newQuota(places int, rate float64, clock func() time.Time) *quota {
	return &quota{places: places, rate: rate, clock: clock, running: map[place]int{}, buckets: map[exchange.Dept]bucket{}}
}

// enter takes a place for a call; release gives it back.
func (q *quota) enter(dept exchange.Dept, route string) (release func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := place{dept, route}
	if q.running[p] >= q.places {
		return nil, false
	}
	q.running[p]++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.running[p]--
	}, true
}

// spend takes one frame from the department's rate.
func (q *quota) spend(dept exchange.Dept) bool {
	now := q.clock()
	q.mu.Lock()
	defer q.mu.Unlock()
	b, known := q.buckets[dept]
	if !known {
		b = bucket{q.rate, now}
	}
	if passed := now.Sub(b.at); passed > 0 {
		b.left = min(q.rate, b.left+passed.Seconds()*q.rate)
	}
	b.at = now
	ok := b.left >= 1
	if ok {
		b.left--
	}
	q.buckets[dept] = b
	return ok
}
