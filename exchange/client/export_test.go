package client

import (
	"context"
	"time"
)

// SetWait replaces the wait between attempts.
func (c *Client) SetWait(wait func(context.Context, time.Duration) error) { c.wait = wait }
