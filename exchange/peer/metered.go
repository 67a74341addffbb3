package peer

import (
	"net"
	"sync"
)

// metered is a connection that knows whether anything of the request that holds
// it can have reached the other node. net/http knows this too, but tells only by
// sending some requests again.
type metered struct {
	net.Conn

	mu     sync.Mutex
	wrote  bool // mu protects these; something was written, or is being written, since begin
	sealed bool
}

// begin is for the moment in which a request gets the connection.
func (m *metered) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrote = false
}

// Write writes to the connection. What fails without a byte was not sent: on a
// channel, less than a whole record is nothing that the other node can read.
func (m *metered) Write(p []byte) (int, error) {
	m.mu.Lock()
	if m.sealed {
		m.mu.Unlock()
		return 0, net.ErrClosed
	}
	before := m.wrote
	m.wrote = true
	m.mu.Unlock()
	n, err := m.Conn.Write(p)
	if n == 0 && err != nil {
		m.mu.Lock()
		m.wrote = before
		m.mu.Unlock()
	}
	return n, err
}

// untouched reports whether nothing was sent since begin, and then sees to it that
// it stays so: net/http may still be about to write when its caller has given up.
func (m *metered) untouched() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wrote {
		return false
	}
	m.sealed = true
	return true
}
