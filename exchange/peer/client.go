package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
)

// ClientConfig is what a Client needs; every field is required.
type ClientConfig struct {
	// Self is this node's department; calls to it are refused.
	Self exchange.Dept
	// Dial opens a connection whose other end is dept, or fails.
	Dial func(ctx context.Context, addr string, dept exchange.Dept) (net.Conn, error)
	// Address returns where dept's node listens for its peers, host:port.
	Address func(dept exchange.Dept) (addr string, ok bool)
}

const dialWithin = 5 * time.Second

// Client asks other nodes, over connections that it keeps for a while. It is
// safe for concurrent use.
//
// Its errors are *exchange.Error, but for Forward. Kind Unavailable means that
// nothing happened at the other node: it could not be reached or said so itself.
// Undetermined means that the call may have been carried out.
type Client struct {
	cfg       ClientConfig
	transport *http.Transport
}

// NewClient returns a Client.
func NewClient(cfg ClientConfig) *Client {
	c := &Client{cfg: cfg}
	c.transport = &http.Transport{
		DialContext:            c.dial,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    8,
		MaxConnsPerHost:        128,
		IdleConnTimeout:        time.Minute, // before the other side's
		MaxResponseHeaderBytes: 8 << 10,
	}
	return c
}

// Close closes idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// dial is asked for a host that is the department's name: where it listens is
// looked up, and who answers there is proven, when a connection is made.
func (c *Client) dial(ctx context.Context, _, hostport string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	dept := exchange.Dept(name)
	addr, ok := c.cfg.Address(dept)
	if !ok {
		return nil, fmt.Errorf("no member entry names an address of %s", dept)
	}
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := c.cfg.Dial(ctx, addr, dept)
	if err != nil {
		return nil, err
	}
	return &metered{Conn: conn}, nil
}

// Ask carries a signed request to the holder's node and its signed answer back.
func (c *Client) Ask(ctx context.Context, holder exchange.Dept, request []byte) ([]byte, error) {
	return c.call(ctx, "peer.Ask", holder, pathAsk, request)
}

// Forward hands a frame to the leader's node. nil is the leader's word that it
// is committed, ledger.ErrNotProposed means that the leader certainly did not
// take it over, ledger.ErrUndetermined that this is not known.
func (c *Client) Forward(ctx context.Context, leader exchange.Dept, frame []byte) error {
	_, err := c.call(ctx, "peer.Forward", leader, pathFrame, frame)
	switch {
	case err == nil:
		return nil
	case nothingHappened(exchange.KindOf(err)):
		return fmt.Errorf("%w: %w", ledger.ErrNotProposed, err)
	}
	return fmt.Errorf("%w: %w", ledger.ErrUndetermined, err)
}

// nothingHappened reports whether a frame was refused at the door.
func nothingHappened(k exchange.Kind) bool {
	switch k {
	case exchange.Unavailable, exchange.Invalid, exchange.TooLarge, exchange.Unsupported, exchange.Unauthenticated, exchange.NotFound:
		return true
	}
	return false
}

// Cosign asks dept's node for its cosignature over a head of the ledger. The
// caller verifies it.
func (c *Client) Cosign(ctx context.Context, dept exchange.Dept, size uint64, root gm.Digest) (checkpoint.Cosignature, error) {
	const op = "peer.Cosign"
	var none checkpoint.Cosignature
	b, err := c.call(ctx, op, dept, pathCosign, canon.MustMarshal(head{Size: size, Root: root}))
	if err != nil {
		return none, err
	}
	var s cosigned
	if err := canon.Unmarshal(b, &s); err != nil {
		return none, unreadable(op, err)
	}
	if s.Name != string(dept) {
		return none, unreadable(op, errors.New("cosignature in another name"))
	}
	return checkpoint.Cosignature{Name: s.Name, Time: time.Unix(s.Time, 0).UTC(), Sig: s.Sig, KeyHash: s.KeyHash}, nil
}

// Publish hands dept's node a cosigned checkpoint.
func (c *Client) Publish(ctx context.Context, dept exchange.Dept, note []byte) error {
	_, err := c.call(ctx, "peer.Publish", dept, pathCheckpoint, canon.MustMarshal(published{Note: note}))
	return err
}

// Status asks dept's node about itself.
func (c *Client) Status(ctx context.Context, dept exchange.Dept) (Status, error) {
	const op = "peer.Status"
	b, err := c.call(ctx, op, dept, pathStatus, nil)
	if err != nil {
		return Status{}, err
	}
	var s Status
	if err := canon.Unmarshal(b, &s); err != nil {
		return Status{}, unreadable(op, err)
	}
	if s.Dept != dept {
		return Status{}, unreadable(op, errors.New("status of another node"))
	}
	return s, nil
}

// call sends one request. The error tells whether it may have arrived: it did not
// as long as nothing of it went into a connection. A kept connection that turns
// out to be dead before that is no reason to fail.
func (c *Client) call(ctx context.Context, op string, dept exchange.Dept, path string, body []byte) ([]byte, error) {
	limit, ok := limitsOf(path)
	if !ok || !dept.Valid() || dept == exchange.Authority || dept == c.cfg.Self {
		return nil, &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeUnknownDept, Op: op, Msg: "no other node of that name"}
	}
	if int64(len(body)) > limit.in {
		return nil, &exchange.Error{Kind: exchange.TooLarge, Code: exchange.CodeTooLarge, Op: op, Msg: fmt.Sprintf("the message is over the limit of %d bytes", limit.in)}
	}
	ctx, cancel := context.WithTimeout(ctx, limit.within)
	defer cancel()
	for {
		resp, sent, kept, err := c.send(ctx, "http://"+string(dept)+path, body)
		if err == nil {
			defer resp.Body.Close()
			return receive(op, resp, limit.out)
		}
		if sent || !kept || ctx.Err() != nil {
			return nil, unanswered(op, sent, err)
		}
	}
}

// send makes one attempt. On failure it says whether something may have been sent,
// and whether the connection was one that had been kept.
func (c *Client) send(ctx context.Context, url string, body []byte) (resp *http.Response, sent, kept bool, err error) {
	var used []*metered // more than one when net/http itself tries again
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		conn := info.Conn.(*metered)
		conn.begin()
		used, kept = append(used, conn), info.Reused
	}})
	req, err := http.NewRequestWithContext(traced, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, false, false, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "") // tells the other node nothing that it needs
	// Not through http.Client: nodes do not redirect each other.
	if resp, err = c.transport.RoundTrip(req); err == nil {
		return resp, true, kept, nil
	}
	for _, conn := range used {
		sent = !conn.untouched() || sent
	}
	return nil, sent, kept, err
}

// receive reads an answer or the error in its place.
func receive(op string, resp *http.Response, limit int64) ([]byte, error) {
	if resp.StatusCode != http.StatusOK {
		limit = maxFailure
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, unanswered(op, true, err)
	case int64(len(b)) > limit:
		return nil, unreadable(op, fmt.Errorf("answer over the limit of %d bytes", limit))
	case resp.Header.Get("Content-Type") != contentType:
		return nil, unreadable(op, errors.New("answer of another content type"))
	case resp.StatusCode == http.StatusOK:
		return b, nil
	}
	var f failure
	if err := canon.Unmarshal(b, &f); err != nil {
		return nil, unreadable(op, err)
	}
	return nil, f.err(op)
}

func unanswered(op string, sent bool, err error) error {
	if !sent {
		return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodePeerDown, Op: op, Msg: "the other department's node cannot be reached; nothing was asked of it",
			Hint: "try again later with the same key; if it persists, ask that department's operator", Err: err}
	}
	return &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeUnknownResult, Op: op, Msg: "the other department's node did not answer; it may have done what it was asked",
		Hint: "ask again with the same key", Err: err}
}

// unreadable is for answers of what is no node of this exchange, or one of a
// version that this node does not understand.
func unreadable(op string, err error) error {
	return &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeUnknownResult, Op: op, Msg: "the other department's node gave an answer that this node cannot read",
		Hint: "compare the versions of the two nodes", Err: err}
}
