package ledger

import (
	"sync"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// holder stops one node's verifier where it checks a signature.
type holder struct {
	mu   sync.Mutex
	gate chan struct{} // non-nil while stopped
}

func newHolder() *holder { return &holder{} }

func (h *holder) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gate = make(chan struct{})
}

func (h *holder) goOn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.gate)
	h.gate = nil
}

func (h *holder) pass() {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

// config holds d's verifier. Its engines are wrapped only for the verifier: the
// department's frames are checked by the leader's.
func (h *holder) config(d exchange.Dept) func(*Config) {
	return func(c *Config) {
		if c.Self == d {
			c.Verified = func(uint64, Leaf, Entry, gm.Digest) { h.pass() }
		}
	}
}

// biased is an engine with an opinion of its own about signatures.
type biased struct {
	gm.Engine
	accept func(body []byte) bool // instead of verifying
}

func (b biased) Name() string { return "biased" }

func (b biased) Verify(_ gm.PublicKey, msg []byte, _ gm.Signature) bool { return b.accept(msg) }

// expiring counts how often certificates are looked at.
type expiring struct {
	mu    sync.Mutex
	calls int
	from  time.Time
	to    time.Time
}

func (e *expiring) identify(der []byte, at time.Time) (string, gm.PublicKey, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	if at.Before(e.from) || at.After(e.to) {
		return "", gm.PublicKey{}, ErrFormat
	}
	return string(der), gm.PublicKey{}, nil
}
