package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"xinqiao/exchange"
)

// ErrRPC: a raft message that this node does not take.
var ErrRPC = errors.New("raft message refused")

const (
	rpcTimeout      = 10 * time.Second
	outgoingPool    = 3
	maxConnsPerPeer = 16
)

type netConfig struct {
	Addr     string
	Listener net.Listener
	Dial     func(addr string, timeout time.Duration) (net.Conn, error)
	PeerOf   func(net.Conn) (exchange.Dept, bool)
	Voter    func(exchange.Dept) bool
	Logger   hclog.Logger
	Log      *slog.Logger
	Count    *counters
	Stuck    time.Duration // how long a message may wait for its place in a pipeline
}

// network is the transport given to raft. What goes out is raft's own
// NetworkTransport. What comes in has a NetworkTransport for each department, so
// that each message is known by the certificate it came under, and passes
// acceptable before raft sees it.
//
// It installs no heartbeat handler, here or on those transports: hashicorp/raft
// handles heartbeats off its main loop otherwise and can write a command in a
// term that this node does not lead (#695, in v1.8.0). Heartbeats wait their turn
// like every message.
type network struct {
	*raft.NetworkTransport
	cfg  netConfig
	rpc  chan raft.RPC
	done chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	peers map[exchange.Dept]*inbound
}

// inbound is what one department sends.
type inbound struct {
	*raft.NetworkTransport
	stream *stream
	conns  []net.Conn // oldest first, closed ones until they are pushed out
}

func newNetwork(cfg netConfig) *network {
	n := &network{cfg: cfg, rpc: make(chan raft.RPC), done: make(chan struct{}), peers: map[exchange.Dept]*inbound{}}
	n.NetworkTransport = n.transport(&stream{addr: cfg.Addr, dial: cfg.Dial, done: make(chan struct{})})
	n.wg.Go(n.acceptLoop)
	return n
}

func (n *network) transport(s *stream) *raft.NetworkTransport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: s, MaxPool: outgoingPool,
		Timeout: rpcTimeout, Logger: n.cfg.Logger.Named("net")})
}

// SetHeartbeatHandler does nothing, on purpose.
func (n *network) SetHeartbeatHandler(func(raft.RPC)) {}

// Consumer returns the messages that were let in.
func (n *network) Consumer() <-chan raft.RPC { return n.rpc }

// Close ends the transport and every connection. It may be called again.
func (n *network) Close() error {
	n.mu.Lock()
	select {
	case <-n.done:
		n.mu.Unlock()
		return nil
	default:
	}
	close(n.done)
	err := errors.Join(n.cfg.Listener.Close(), n.NetworkTransport.Close())
	n.NetworkTransport.CloseStreams()
	for _, p := range n.peers {
		err = errors.Join(err, p.NetworkTransport.Close())
		for _, c := range p.conns {
			c.Close()
		}
	}
	n.mu.Unlock()
	n.wg.Wait()
	return err
}

func (n *network) acceptLoop() {
	for {
		conn, err := n.cfg.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			n.cfg.Log.Warn("raft listener", "err", err)
			t := time.NewTimer(100 * time.Millisecond)
			select {
			case <-n.done:
				t.Stop()
				return
			case <-t.C:
				continue
			}
		}
		dept, known := n.cfg.PeerOf(conn)
		if !known || !n.cfg.Voter(dept) {
			n.cfg.Count.refusedPeers.Add(1)
			n.cfg.Log.Warn("raft connection refused: only voters send raft messages", "dept", string(dept))
			conn.Close()
			continue
		}
		n.admit(dept, conn)
	}
}

// admit hands conn to its department's transport. A department has few
// connections: a new one pushes the oldest out, so that a peer that was cut off
// without a word does not lock itself out.
func (n *network) admit(dept exchange.Dept, conn net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.done:
		conn.Close()
		return
	default:
	}
	p := n.peers[dept]
	if p == nil {
		s := &stream{addr: n.cfg.Addr, conns: make(chan net.Conn), done: make(chan struct{})}
		p = &inbound{NetworkTransport: n.transport(s), stream: s}
		n.peers[dept] = p
		n.wg.Go(func() { n.relay(dept, p) })
	}
	if len(p.conns) == maxConnsPerPeer {
		p.conns[0].Close()
		p.conns = slices.Delete(p.conns, 0, 1)
	}
	p.conns = append(p.conns, conn)
	select {
	case p.stream.conns <- conn:
	case <-p.stream.done:
		conn.Close()
	}
}

// relay passes on what dept may say.
func (n *network) relay(dept exchange.Dept, p *inbound) {
	for {
		select {
		case <-n.done:
			return
		case rpc := <-p.Consumer():
			if err := acceptable(dept, rpc.Command); err != nil {
				n.cfg.Count.refusedRPCs.Add(1)
				n.cfg.Log.Warn("raft message refused", "dept", string(dept), "err", err)
				rpc.Respond(nil, err)
				continue
			}
			select {
			case n.rpc <- rpc:
			case <-n.done:
				rpc.Respond(nil, raft.ErrTransportShutdown)
				return
			}
		}
	}
}

// acceptable refuses messages in another department's name, snapshots, and what
// would make the library panic.
func acceptable(dept exchange.Dept, command any) error {
	h, ok := command.(raft.WithRPCHeader)
	if !ok {
		return fmt.Errorf("%w: unknown kind", ErrRPC)
	}
	if string(h.GetRPCHeader().ID) != string(dept) {
		return fmt.Errorf("%w: sent in another department's name", ErrRPC)
	}
	switch c := command.(type) {
	case *raft.AppendEntriesRequest:
		return acceptableEntries(c)
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest, *raft.TimeoutNowRequest:
		return nil
	}
	return fmt.Errorf("%w: unknown kind", ErrRPC)
}

func acceptableEntries(c *raft.AppendEntriesRequest) error {
	for i, l := range c.Entries {
		if l == nil || l.Index != c.PrevLogEntry+1+uint64(i) || l.Term > c.Term {
			return fmt.Errorf("%w: entries do not follow each other", ErrRPC)
		}
		switch l.Type {
		case raft.LogNoop, raft.LogBarrier:
		case raft.LogCommand:
			if proposer(l) == "" {
				return fmt.Errorf("%w: a command was damaged on its way", ErrRPC)
			}
		case raft.LogConfiguration:
			if !decodes(l.Data) {
				return fmt.Errorf("%w: a configuration is malformed", ErrRPC)
			}
		default:
			return fmt.Errorf("%w: unknown entry type %d", ErrRPC, l.Type)
		}
	}
	return nil
}

// decodes reports whether b is a raft configuration; the library panics over
// one that is not.
func decodes(b []byte) (ok bool) {
	defer func() { ok = recover() == nil && ok }()
	return len(raft.DecodeConfiguration(b).Servers) > 0
}

// stream is a raft.StreamLayer that accepts what is put into conns.
type stream struct {
	addr  string
	dial  func(addr string, timeout time.Duration) (net.Conn, error)
	conns chan net.Conn // nil for the outgoing side
	once  sync.Once
	done  chan struct{}
}

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *stream) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

// Addr returns the address that the others know this node by.
func (s *stream) Addr() net.Addr { return address(s.addr) }

// Dial implements raft.StreamLayer.
func (s *stream) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if s.dial == nil {
		return nil, fmt.Errorf("%w: not a dialling transport", ErrRPC)
	}
	return s.dial(string(addr), timeout)
}

type address string

// Network implements net.Addr.
func (address) Network() string { return "tcp" }

// String implements net.Addr.
func (a address) String() string { return string(a) }
