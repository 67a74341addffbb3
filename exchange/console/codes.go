package console

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
	"sync"
	"time"
)

const (
	codeLife  = 10 * time.Minute
	codeBytes = 10 // 80 bits: guessing is hopeless long before the limiter matters
	maxCodes  = 100
)

// Codes hands out one-time codes for the console and redeems them. A code lives
// 10 minutes, works once and is kept in memory only. Codes is safe for
// concurrent use.
type Codes struct {
	clock func() time.Time

	mu sync.Mutex
	// mu protects codes.
	codes map[string]issued
}

type issued struct {
	officer string
	until   time.Time
}

// NewCodes returns a Codes that has issued nothing.
func NewCodes(clock func() time.Time) *Codes {
	return &Codes{clock: clock, codes: map[string]issued{}}
}

// Issue returns a fresh code for the officer, in the form XXXX-XXXX-XXXX-XXXX.
// Whoever holds it is that officer: it is shown to nobody else and never logged.
// An earlier code of the same officer stops working. ok is false for an empty
// name, and while too many codes are waiting.
func (c *Codes) Issue(officer string) (code string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	for k, v := range c.codes {
		if v.officer == officer || !now.Before(v.until) {
			delete(c.codes, k)
		}
	}
	if officer == "" || len(c.codes) >= maxCodes {
		return "", false
	}
	var b [codeBytes]byte
	rand.Read(b[:]) // never fails
	raw := base32.StdEncoding.EncodeToString(b[:])
	c.codes[raw] = issued{officer: officer, until: now.Add(codeLife)}
	return raw[:4] + "-" + raw[4:8] + "-" + raw[8:12] + "-" + raw[12:], true
}

// Redeem uses a code up. Case, spaces and hyphens do not matter.
func (c *Codes) Redeem(code string) (officer string, ok bool) {
	raw := strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(code))
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.codes[raw] // 80 random bits: the lookup's timing gives nothing to climb
	delete(c.codes, raw)
	if !ok || !c.clock().Before(v.until) {
		return "", false
	}
	return v.officer, true
}
