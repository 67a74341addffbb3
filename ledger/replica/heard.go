package replica

import (
	"sync"

	"github.com/hashicorp/raft"

	"xinqiao/exchange"
)

// heard is who answers the leader's heartbeats.
type heard struct {
	mu     sync.Mutex
	failed map[exchange.Dept]struct{}
}

// observer lets the library tell h. Its filter is called on the spot, so nothing
// waits in a channel or is dropped from one.
func (h *heard) observer() *raft.Observer {
	return raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		switch d := o.Data.(type) {
		case raft.FailedHeartbeatObservation:
			h.failed[exchange.Dept(d.PeerID)] = struct{}{}
		case raft.ResumedHeartbeatObservation:
			delete(h.failed, exchange.Dept(d.PeerID))
		}
		return false
	})
}

// reset forgets what an earlier term knew.
func (h *heard) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = map[exchange.Dept]struct{}{}
}

func (h *heard) silent(d exchange.Dept) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, failed := h.failed[d]
	return failed
}
