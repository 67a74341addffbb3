package ledger

import (
	"sync"
	"time"

	"xinqiao/crypto/gm"
)

// Identities remembers whose certificates are, because checking a chain costs
// a hundred times what a signature does. A certificate is valid throughout an interval,
// so one that was checked at two times is good for every time between them; it
// is never taken beyond what was checked. It is safe for concurrent use.
type Identities struct {
	engine   gm.Engine
	identify func(der []byte, at time.Time) (string, gm.PublicKey, error)

	mu    sync.Mutex
	known map[gm.Digest]identity // by fingerprint
}

type identity struct {
	dept     string
	key      gm.PublicKey
	from, to time.Time // the times between which the certificate is known to be valid
}

// NewIdentities remembers what identify says, which is whose certificate der is
// and its key, or an error when it is not valid at the time.
func NewIdentities(e gm.Engine, identify func(der []byte, at time.Time) (string, gm.PublicKey, error)) *Identities {
	return &Identities{engine: e, identify: identify, known: map[gm.Digest]identity{}}
}

// identifyAhead is how far beyond the time in question a certificate is tried,
// so that the chain is not checked again for every later frame.
const identifyAhead = time.Hour

// At returns whose certificate der is and its key, if it is valid at t.
func (c *Identities) At(der []byte, t time.Time) (string, gm.PublicKey, error) {
	print := c.engine.Sum(der)
	c.mu.Lock()
	id, known := c.known[print]
	c.mu.Unlock()
	if known && !t.Before(id.from) && !t.After(id.to) {
		return id.dept, id.key, nil
	}
	dept, key, err := c.identify(der, t)
	if err != nil {
		return "", gm.PublicKey{}, err
	}
	next := identity{dept, key, t, t}
	if _, _, err := c.identify(der, t.Add(identifyAhead)); err == nil {
		next.to = next.to.Add(identifyAhead)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id, known := c.known[print]; known {
		if id.from.Before(next.from) {
			next.from = id.from
		}
		if id.to.After(next.to) {
			next.to = id.to
		}
	}
	c.known[print] = next
	return dept, key, nil
}
