package node

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// check is one condition of readiness.
type check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"`
}

// readiness lists why this node can or cannot conduct exchanges now.
func (n *Node) readiness() []check {
	stats, raft := n.ledger.Stats(), n.replica.Stats()
	checks := []check{
		{Name: "leader", OK: raft.Leader != "", Why: "no leader is known: the voters have no quorum or cannot be reached"},
		{Name: "replica", OK: raft.CommitIndex-min(raft.CommitIndex, stats.Applied) < 100, Why: "this node is behind in applying entries"},
		{Name: "ledger", OK: !stats.Halted, Why: "the ledger has halted: it does not verify, or a write failed"},
		{Name: "watermark", OK: stats.Size-stats.Verified < 1000, Why: "this node is behind in verifying entries"},
		{Name: "facts", OK: n.published.Load(), Why: "this department's rules and catalogue are not on the ledger yet"},
		{Name: "store", OK: n.store.Err() == nil, Why: "the store has failed"},
	}
	for i := range checks {
		if checks[i].OK {
			checks[i].Why = ""
		}
	}
	return checks
}

// Ready reports whether the node can conduct exchanges.
func (n *Node) Ready() bool {
	for _, c := range n.readiness() {
		if !c.OK {
			return false
		}
	}
	return true
}

// WaitReady blocks until the node is ready or ctx ends.
func (n *Node) WaitReady(ctx context.Context) error {
	for !n.Ready() {
		sleep(ctx, 20*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// livez says that the process answers; readyz whether it can conduct exchanges,
// and why not.
func (n *Node) health(mux *http.ServeMux) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		checks := n.readiness()
		status := http.StatusOK
		for _, c := range checks {
			if !c.OK {
				status = http.StatusServiceUnavailable
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(checks) // the client is gone if it fails
	})
}
