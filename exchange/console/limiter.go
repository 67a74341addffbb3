package console

import (
	"sync"
	"time"
)

// Limits of failed log-ins per minute.
const (
	triesPerAddress = 5
	triesInAll      = 60
)

// limiter counts failed log-ins by address and altogether. It forgets every
// minute, which also bounds what it holds.
type limiter struct {
	mu sync.Mutex
	// mu protects everything below.
	since  time.Time
	failed map[string]int
	all    int
}

// allows reports whether the address may try now.
func (l *limiter) allows(address string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil || now.Sub(l.since) >= time.Minute || now.Before(l.since) {
		l.since, l.failed, l.all = now, map[string]int{}, 0
	}
	return l.failed[address] < triesPerAddress && l.all < triesInAll
}

func (l *limiter) fail(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed[address]++
	l.all++
}
