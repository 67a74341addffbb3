package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
)

// ClientConfig is what a Client needs; every field is required.
type ClientConfig struct {
	// Dial opens a connection whose other end is dept, or fails.
	Dial func(ctx context.Context, addr string, dept exchange.Dept) (net.Conn, error)
	// Address returns where dept's node listens for its peers.
	Address func(dept exchange.Dept) (addr string, ok bool)
}

// Client asks other nodes over pooled connections. It is safe for concurrent use.
type Client struct {
	cfg  ClientConfig
	http *http.Client
}

// notSent marks a failure before anything could reach the other node.
type notSent struct{ err error }

func (e *notSent) Error() string { return e.err.Error() }
func (e *notSent) Unwrap() error { return e.err }

// NewClient returns a client.
func NewClient(cfg ClientConfig) *Client {
	c := &Client{cfg: cfg}
	// The URL's host is the department; where it listens and who answers there is
	// looked up and proven when a connection is made.
	c.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 2 * time.Minute, DisableCompression: true,
		DialContext: func(ctx context.Context, _, hostport string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(hostport)
			if err != nil {
				return nil, &notSent{err}
			}
			addr, ok := cfg.Address(exchange.Dept(host))
			if !ok {
				return nil, &notSent{fmt.Errorf("%s is no member", host)}
			}
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			conn, err := cfg.Dial(ctx, addr, exchange.Dept(host))
			if err != nil {
				return nil, &notSent{err}
			}
			return conn, nil
		}}}
	return c
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// post sends body to dept and returns the answer's body. An error from the
// other node is a failure; one that is notSent never reached it.
func (c *Client) post(ctx context.Context, dept exchange.Dept, path string, body []byte, limit int64) ([]byte, *failure, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+string(dept)+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, &notSent{err}
	}
	// A request that was written must not be sent again behind the caller's back.
	req.GetBody = nil
	req.Header.Set("Content-Type", contentType)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	out, err := readBody(resp.Body, limit)
	if err != nil {
		return nil, nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return out, nil, nil
	case http.StatusUnprocessableEntity:
		var f failure
		if err := canon.Unmarshal(out, &f); err != nil {
			return nil, nil, fmt.Errorf("malformed failure: %w", err)
		}
		return nil, &f, nil
	}
	return nil, nil, fmt.Errorf("the node of %s answers with status %d", dept, resp.StatusCode)
}

// Ask carries a signed request to the holder's node and returns its reply.
func (c *Client) Ask(ctx context.Context, holder exchange.Dept, request []byte) ([]byte, error) {
	const op = "peer.Ask"
	ctx, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	out, f, err := c.post(ctx, holder, pathAsk, request, maxReply)
	unsent := (*notSent)(nil)
	switch {
	case f != nil:
		return nil, f.err(op)
	case errors.As(err, &unsent):
		return nil, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodePeerDown, Op: op,
			Msg: "the holder's node cannot be reached; nothing was asked", Hint: "try again later with the same key", Err: err}
	case err != nil:
		return nil, &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodePeerDown, Op: op,
			Msg: "the holder's node did not answer; it may have recorded the access", Hint: "ask again with the same key", Err: err}
	}
	return out, nil
}

// Forward carries a frame to the leader. nil means that the leader says it is
// committed, ledger.ErrNotProposed that it certainly was not handed on, anything
// else that this is not known.
func (c *Client) Forward(ctx context.Context, leader exchange.Dept, frame []byte) error {
	_, f, err := c.post(ctx, leader, pathFrame, frame, maxSmall)
	unsent := (*notSent)(nil)
	switch {
	case f != nil && f.NotProposed:
		return fmt.Errorf("%w: %s", ledger.ErrNotProposed, f.Msg)
	case f != nil:
		return fmt.Errorf("%w: %s", ledger.ErrUndetermined, f.Msg)
	case errors.As(err, &unsent):
		return fmt.Errorf("%w: %w", ledger.ErrNotProposed, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ledger.ErrUndetermined, err)
	}
	return nil
}

// Cosign asks dept's node for its cosignature over a tree head.
func (c *Client) Cosign(ctx context.Context, dept exchange.Dept, size uint64, root gm.Digest) (checkpoint.Cosignature, error) {
	var none checkpoint.Cosignature
	out, f, err := c.post(ctx, dept, pathCosign, canon.MustMarshal(head{size, root}), maxSmall)
	if f != nil {
		return none, f.err("peer.Cosign")
	}
	if err != nil {
		return none, err
	}
	var s cosigned
	if err := canon.Unmarshal(out, &s); err != nil {
		return none, err
	}
	if s.Name != string(dept) {
		return none, fmt.Errorf("the node of %s gives a cosignature of another name", dept)
	}
	return checkpoint.Cosignature{Name: s.Name, Time: time.Unix(s.Time, 0).UTC(), Sig: s.Sig, KeyHash: s.KeyHash}, nil
}

// Publish hands dept's node a cosigned checkpoint.
func (c *Client) Publish(ctx context.Context, dept exchange.Dept, note []byte) error {
	_, f, err := c.post(ctx, dept, pathCheckpoint, note, maxSmall)
	if f != nil {
		return f.err("peer.Publish")
	}
	return err
}
