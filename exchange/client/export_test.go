package client

import (
	"context"
	"time"
)

// SetWait replaces the wait between attempts.
func (c *Client) SetWait(wait func(context.Context, time.Duration) error) { c.wait = wait }

// SetClock replaces the clock of a client that signs.
func (c *Client) SetClock(now func() time.Time) { c.sign.now = now }
