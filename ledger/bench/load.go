package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"xinqiao/ledger/replica"
)

// load is what one spell of work came to.
type load struct {
	entries   int
	took      time.Duration
	latencies []time.Duration
}

func (l load) rate() float64 { return float64(l.entries) / l.took.Seconds() }

func (l *load) add(o load) {
	l.entries += o.entries
	l.took += o.took
	l.latencies = append(l.latencies, o.latencies...)
}

// quantile of the latencies, which it sorts; zero of none.
func (l *load) quantile(q float64) time.Duration {
	if len(l.latencies) == 0 {
		return 0
	}
	slices.Sort(l.latencies)
	return l.latencies[min(int(q*float64(len(l.latencies))), len(l.latencies)-1)]
}

// spell has workers call do again and again for d. What was begun is finished
// and counted, and drain, which may be nil, belongs to the time that it took.
func spell(ctx context.Context, workers int, d time.Duration, do func(ctx context.Context, worker int) error, drain func() error) (load, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var total load
	var mu sync.Mutex
	var wg sync.WaitGroup
	started := time.Now()
	for w := range workers {
		wg.Go(func() {
			var own load
			for ctx.Err() == nil && time.Since(started) < d {
				at := time.Now()
				if err := do(ctx, w); err != nil {
					cancel(err)
					break
				}
				own.entries++
				own.latencies = append(own.latencies, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			total.add(own)
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return total, err
	}
	if drain != nil {
		if err := drain(); err != nil {
			return total, err
		}
	}
	total.took = time.Since(started)
	return total, nil
}

// append brings one entry from n's broker to the receipt that would let an
// answer out: committed, applied and verified on n.
func (n *node) append(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, appendWithin)
	defer cancel()
	e, err := newEntry(n.access)
	if err != nil {
		return err
	}
	p, err := n.ledger.Append(ctx, e)
	if err != nil {
		return fmt.Errorf("append on the node of %s: %w", n.dept, err)
	}
	if _, err := n.ledger.Receipt(ctx, e.ID); err != nil {
		return fmt.Errorf("entry %d of %s has no receipt: %w", p.Index, n.dept, err)
	}
	return nil
}

const appendWithin = 20 * time.Second

// many appends from workers spread over the nodes; the time ends when every node
// has verified all of it. Cosigning goes on throughout, and what it was behind in
// the end is waited for before anything else is measured.
func (c *cluster) many(ctx context.Context, workers int, d time.Duration) (load, error) {
	list := depts()
	do := func(ctx context.Context, w int) error { return c.node(list[w%len(list)]).append(ctx) }
	l, err := spell(ctx, workers, d, do, func() error { return c.verified(ctx) })
	if err == nil {
		err = c.cosigned(ctx)
	}
	if err == nil {
		err = c.failed()
	}
	return l, err
}

func (c *cluster) size() (size uint64) {
	for _, d := range depts() {
		size = max(size, c.node(d).ledger.Size())
	}
	return size
}

// verified waits until every node has verified everything.
func (c *cluster) verified(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, appendWithin)
	defer cancel()
	size := c.size()
	for _, d := range depts() {
		if err := c.node(d).ledger.AwaitVerified(ctx, size); err != nil {
			return fmt.Errorf("the node of %s has not verified %d leaves: %w", d, size, err)
		}
	}
	return nil
}

// cosigned waits until a checkpoint over everything has reached every node.
func (c *cluster) cosigned(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, appendWithin)
	defer cancel()
	size := c.size()
	for _, d := range depts() {
		for c.node(d).ledger.Stats().CosignedSize < size {
			if err := pause(ctx, time.Millisecond); err != nil {
				return fmt.Errorf("the node of %s has no checkpoint over %d leaves: %w", d, size, err)
			}
		}
	}
	return nil
}

// bare applies commands of the entries' size to raft alone.
func bare(ctx context.Context, b *replica.Bare, workers int, d time.Duration) (load, error) {
	data := make([]byte, EntrySize)
	return spell(ctx, workers, d, func(context.Context, int) error { return b.Apply(data) }, nil)
}
