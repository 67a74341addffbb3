package ledger

import "time"

// crowd is whom the next frame waits for. Those whose entries one frame brought
// learn of it together and come back one by one: without patience the first of
// them would go alone and all others a whole round later, in half as many
// entries a frame and with twice the signatures. So a frame waits, for a part of
// the time that the last one took, until as many are there as the last one carried
// and found waiting behind it. A lone writer never waits, and writers that do not
// come back are waited for less and less.
type crowd struct {
	entries  int
	patience time.Duration
	missed   int // times in a row that they did not come
}

const (
	maxPatience = 4 * time.Millisecond
	maxMissed   = 4
)

// expect says how many entries are likely, after a round that took so long.
func (c *crowd) expect(entries int, round time.Duration) {
	c.entries, c.patience = min(entries, MaxFrameEntries), min(round/4, maxPatience)>>c.missed
}

// wait starts the time that the frame may wait.
func (c *crowd) wait() *time.Timer { return time.NewTimer(c.patience) }

// came notes that all were there before the time was over.
func (c *crowd) came(late *time.Timer) {
	if late.Stop() && c.entries > 1 {
		c.missed = 0
	}
}
