package keyring

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"xinqiao/crypto/gm"
)

const (
	clientConns = 16               // connections of one client at once
	callTime    = 15 * time.Second // for one operation, waiting for a connection included
)

// client is the Device of a process that talks to an agent.
type client struct {
	path  string
	slots chan struct{} // one for each call that is under way

	mu     sync.Mutex
	idle   []net.Conn // mu protects idle and closed
	closed bool
}

// Dial returns the device of the agent at a socket. An operation while no agent
// answers fails with ErrUnavailable; the next one connects anew. Close ends it.
func Dial(path string) (Device, error) {
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("keyring agent: %w", err)
	}
	c := &client{path: path, slots: make(chan struct{}, clientConns)}
	conn, err := c.connect()
	if err != nil {
		return nil, unavailable(err)
	}
	c.put(conn)
	return c, nil
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// connect opens a connection to an agent of this process's own user: another
// user's would learn what is signed and decrypted.
func (c *client) connect() (net.Conn, error) {
	conn, err := net.DialTimeout("unix", c.path, moveTime)
	if err != nil {
		return nil, err
	}
	if err = checkPeer(conn, os.Geteuid()); err == nil {
		err = greet(conn)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (c *client) take() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) == 0 {
		return nil
	}
	conn := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	return conn
}

func (c *client) put(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return
	}
	c.idle = append(c.idle, conn)
}

// drop closes what is idle: an agent that broke one connection broke all.
func (c *client) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.idle {
		_ = conn.Close()
	}
	c.idle = nil
}

// Close ends the connections.
func (c *client) Close() error {
	c.drop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

// call puts a request to the agent. A connection from before may have died with
// its agent, so the request is put once more, on a fresh one: no operation leaves
// anything behind that a second one would double.
func (c *client) call(q request) (response, error) {
	patience := time.NewTimer(callTime)
	defer patience.Stop()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-patience.C:
		return response{}, unavailable(errors.New("too many operations wait"))
	}
	if conn := c.take(); conn != nil {
		if r, err := c.talk(conn, q); err == nil {
			return r, r.Code.err()
		}
		c.drop()
	}
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return response{}, unavailable(net.ErrClosed)
	}
	conn, err := c.connect()
	if err != nil {
		return response{}, unavailable(err)
	}
	r, err := c.talk(conn, q)
	if err != nil {
		return response{}, unavailable(err)
	}
	return r, r.Code.err()
}

// talk exchanges one request and response, and keeps the connection if it went
// well.
func (c *client) talk(conn net.Conn, q request) (r response, err error) {
	err = within(conn, callTime, func() error {
		if err := writeFrame(conn, q); err != nil {
			return err
		}
		return readFrame(conn, maxFrame, &r)
	})
	if err != nil {
		return response{}, errors.Join(err, conn.Close())
	}
	c.put(conn)
	return r, nil
}

// Keys implements Device.
func (c *client) Keys() ([]Key, error) {
	r, err := c.call(request{Op: opKeys})
	if err != nil {
		return nil, err
	}
	keys, err := fromWire(r.Keys)
	if err != nil {
		return nil, unavailable(err)
	}
	return keys, nil
}

// Sign implements Device.
func (c *client) Sign(id ID, use Use, msg []byte) (sig gm.Signature, err error) {
	err = c.use(request{Op: opSign, ID: id, Use: use, Body: msg}, sig[:])
	return sig, err
}

// MAC implements Device.
func (c *client) MAC(id ID, input []byte) (d gm.Digest, err error) {
	err = c.use(request{Op: opMAC, ID: id, Body: input}, d[:])
	return d, err
}

// use copies an answer of fixed length to out.
func (c *client) use(q request, out []byte) error {
	if len(q.Body) > MaxMessage {
		return ErrRefused
	}
	r, err := c.call(q)
	if err != nil {
		return err
	}
	if copy(out, r.Body) != len(out) || len(r.Body) != len(out) {
		return unavailable(errFrame)
	}
	return nil
}

// Decrypt implements Device.
func (c *client) Decrypt(id ID, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) > MaxMessage {
		return nil, gm.ErrDecrypt
	}
	r, err := c.call(request{Op: opDecrypt, ID: id, Body: ciphertext})
	if err != nil {
		return nil, err
	}
	return r.Body, nil
}
