package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"xinqiao/exchange"
)

// Faults is how long a writer on another node waited while the leader went
// away: the longest gap between two of its entries, from receipt to receipt.
type Faults struct {
	CrashGaps   []float64 `json:"leader_crash_gaps_ms"` // the leader dies
	CrashMax    float64   `json:"leader_crash_gap_max_ms"`
	PlannedGaps []float64 `json:"planned_restart_gaps_ms"` // it hands over before it stops
	PlannedMax  float64   `json:"planned_restart_gap_max_ms"`
}

const (
	crashes  = 3
	planned  = 10
	settleIn = 300 * time.Millisecond // of writing before and after a fault
)

// faults stops the leader of a new ledger again and again while another node's
// writer goes on. The ledger is new because a node that starts reads all of it.
func faults(ctx context.Context, path string) (f *Faults, err error) {
	c, err := openCluster(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	f = &Faults{}
	for range planned {
		gap, err := c.without(ctx, func(d exchange.Dept) error { return c.stop(ctx, d) })
		if err != nil {
			return nil, fmt.Errorf("planned restart: %w", err)
		}
		f.PlannedGaps = append(f.PlannedGaps, ms(gap))
		f.PlannedMax = max(f.PlannedMax, ms(gap))
	}
	for range crashes {
		gap, err := c.without(ctx, c.abandon)
		if err != nil {
			return nil, fmt.Errorf("crash of the leader: %w", err)
		}
		f.CrashGaps = append(f.CrashGaps, ms(gap))
		f.CrashMax = max(f.CrashMax, ms(gap))
	}
	return f, nil
}

// without takes the leader away by stop while another node's writer goes on,
// brings it back, and returns the writer's longest gap.
func (c *cluster) without(ctx context.Context, stop func(exchange.Dept) error) (time.Duration, error) {
	leader := c.leader()
	if leader == nil {
		return 0, errors.New("no node leads")
	}
	writer := c.node(asker(leader.dept))
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	type outcome struct {
		gap time.Duration
		err error
	}
	enough, done := make(chan struct{}), make(chan outcome, 1)
	go func() {
		var o outcome
		for last := time.Now(); ; {
			if o.err = writer.append(ctx); o.err != nil {
				break
			}
			now := time.Now()
			o.gap, last = max(o.gap, now.Sub(last)), now
			select {
			case <-enough:
				done <- o
				return
			default:
			}
		}
		done <- o
	}()
	err := pause(ctx, settleIn)
	if err == nil {
		err = stop(leader.dept)
	}
	for err == nil && c.leader() == nil {
		err = pause(ctx, 5*time.Millisecond)
	}
	if err == nil {
		err = pause(ctx, settleIn)
	}
	close(enough)
	o := <-done
	if err := errors.Join(err, o.err); err != nil {
		return 0, err
	}
	return o.gap, c.revive(ctx, leader)
}

// abandon ends d's node as its death looks to the others.
func (c *cluster) abandon(d exchange.Dept) error {
	n := c.node(d)
	err := n.replica.Abandon()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Join(err, c.stop(ctx, d))
}

// revive starts a node again and waits until it has caught up.
func (c *cluster) revive(ctx context.Context, was *node) error {
	l, err := net.Listen("tcp", c.addrs[was.dept])
	if err != nil {
		return err
	}
	if err := c.start(was.dept, l); err != nil {
		return fmt.Errorf("start the node of %s again: %w", was.dept, err)
	}
	c.node(was.dept).access = was.access
	return c.verified(ctx) // the checkpoint comes to it with the next one
}
