package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
	"xinqiao/ledger/replica"
	"xinqiao/ledger/store"
)

// node is one department's ledger with everything below it.
type node struct {
	dept    exchange.Dept
	ledger  *ledger.Ledger
	replica *replica.Replica
	store   *store.Store
	access  ledger.Access // of its entries
}

// cluster is three voters in this process.
type cluster struct {
	realm  *realm
	path   string // what the names of its files begin with
	addrs  map[exchange.Dept]string
	tally  *tally
	frames [][]byte // the founding

	mu    sync.Mutex
	nodes map[exchange.Dept]*node
	stops map[exchange.Dept]func()
}

// openCluster founds a ledger in files whose names begin with path, and waits
// until every node serves.
func openCluster(ctx context.Context, path string) (c *cluster, err error) {
	c = &cluster{path: path, addrs: map[exchange.Dept]string{}, tally: &tally{}, nodes: map[exchange.Dept]*node{},
		stops: map[exchange.Dept]func(){}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.realm, err = newRealm(gm.Emmansun(), time.Now()); err != nil {
		return c, err
	}
	listeners := map[exchange.Dept]net.Listener{}
	for _, d := range depts() {
		if listeners[d], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return c, err
		}
		c.addrs[d] = listeners[d].Addr().String()
	}
	if c.frames, err = c.realm.founding(gm.Emmansun(), c.addrs); err != nil {
		return c, err
	}
	for _, d := range depts() {
		if err := c.start(d, listeners[d]); err != nil {
			return c, fmt.Errorf("start the node of %s: %w", d, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for _, d := range depts() {
		n := c.node(d)
		for n.ledger.Size() == 0 || c.leader() == nil {
			if err := pause(ctx, 5*time.Millisecond); err != nil {
				return c, fmt.Errorf("the nodes have no leader and no genesis after %v: %w", readyWithin, err)
			}
		}
		if n.access, err = newAccess(ctx, n.ledger, d); err != nil {
			return c, err
		}
	}
	return c, nil
}

const readyWithin = 30 * time.Second

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// start opens d's node on what its directory holds.
func (c *cluster) start(d exchange.Dept, l net.Listener) error {
	p, log := c.realm.parties[d], slog.New(slog.DiscardHandler)
	s, err := store.Open(c.path+string(d)+".db", store.Options{Origin: origin})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	first, second := gm.Emmansun(), gm.Tjfoc()
	print := first.Sum(p.cert)
	n := &node{dept: d, store: s}
	n.ledger, err = ledger.Open(ledger.Config{Origin: origin, Self: d, AuthorityCert: c.realm.parties[exchange.Authority].cert,
		Engine: counting{first, &c.tally.first}, Second: counting{second, &c.tally.second}, Storage: s,
		Signers: func(cert gm.Digest) (ledger.SigningKey, bool) {
			return ledger.SigningKey{Signer: signer{p.keys, c.tally}, Public: p.keys.SignPublic()}, cert == print
		},
		Identify: c.realm.identify, Clock: time.Now, Log: log})
	if err != nil {
		return errors.Join(err, s.Close(), l.Close())
	}
	var voters []replica.Peer
	for _, v := range depts() {
		voters = append(voters, replica.Peer{Dept: v, Addr: c.addrs[v], Voter: true})
	}
	members := func() (list []replica.Peer) {
		for dept, m := range n.ledger.AppliedMembers() {
			list = append(list, replica.Peer{Dept: dept, Addr: m.Raft, Voter: m.Voter})
		}
		return list
	}
	n.replica, err = replica.Open(replica.Config{Self: d, Dir: c.path + string(d), Addr: c.addrs[d], Voters: voters,
		Genesis: c.frames, Members: members, CaughtUp: n.ledger.CaughtUp, Check: n.ledger.CheckFrame, PeerOf: peerOf, Clock: time.Now, Log: log},
		n.ledger, c, named{l}, dialAs(d))
	if err != nil {
		return errors.Join(err, n.ledger.Close(), s.Close())
	}
	n.ledger.Start(n.replica)
	ctx, cancel := context.WithCancel(context.Background())
	var publishing sync.WaitGroup
	publishing.Go(func() { n.ledger.PublishLoop(ctx, c, n.replica.IsLeader) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[d] = n
	c.stops[d] = func() { cancel(); publishing.Wait() }
	return nil
}

// stop ends d's node in the order that a node's own shutdown has.
func (c *cluster) stop(ctx context.Context, d exchange.Dept) error {
	c.mu.Lock()
	n, end := c.nodes[d], c.stops[d]
	delete(c.nodes, d)
	delete(c.stops, d)
	c.mu.Unlock()
	if n == nil {
		return nil
	}
	end()
	return errors.Join(n.replica.Shutdown(ctx), n.ledger.Close(), n.store.Close())
}

func (c *cluster) close() error {
	var errs []error
	for _, d := range depts() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nobody to hand leadership over to
		errs = append(errs, c.stop(ctx, d))
	}
	return errors.Join(errs...)
}

func (c *cluster) node(d exchange.Dept) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[d]
}

func (c *cluster) leader() *node {
	for _, d := range depts() {
		if n := c.node(d); n != nil && n.replica.IsLeader() {
			return n
		}
	}
	return nil
}

// failed returns why a node has stopped, or nil.
func (c *cluster) failed() error {
	for _, d := range depts() {
		if n := c.node(d); n != nil && n.ledger.Halted() != nil {
			return fmt.Errorf("node of %s: %w", d, n.ledger.Halted())
		}
	}
	return nil
}

// Forward implements replica.Forwarder.
func (c *cluster) Forward(ctx context.Context, leader exchange.Dept, frame []byte) error {
	n := c.node(leader)
	if n == nil {
		return ledger.ErrNotProposed
	}
	return n.replica.ProposeLocal(ctx, frame)
}

// Cosign implements ledger.Witnesses.
func (c *cluster) Cosign(ctx context.Context, d exchange.Dept, size uint64, root gm.Digest) (checkpoint.Cosignature, error) {
	n := c.node(d)
	if n == nil {
		return checkpoint.Cosignature{}, ledger.ErrClosed
	}
	return n.ledger.Cosign(ctx, size, root)
}

// Publish implements ledger.Witnesses.
func (c *cluster) Publish(ctx context.Context, d exchange.Dept, note []byte) error {
	n := c.node(d)
	if n == nil {
		return ledger.ErrClosed
	}
	return n.ledger.Accept(ctx, note)
}

// tally counts the cryptography of all nodes as it happens.
type tally struct {
	first, second counts
	signed        atomic.Uint64
	frames        atomic.Uint64 // of what was signed
}

type counts struct{ verified, hashed, bytes atomic.Uint64 }

// counting is an engine that counts what it is asked on the hot path.
type counting struct {
	gm.Engine
	n *counts
}

// Verify implements gm.Engine.
func (c counting) Verify(key gm.PublicKey, msg []byte, sig gm.Signature) bool {
	c.n.verified.Add(1)
	return c.Engine.Verify(key, msg, sig)
}

// Sum implements gm.Engine.
func (c counting) Sum(parts ...[]byte) gm.Digest {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	c.n.hashed.Add(1)
	c.n.bytes.Add(uint64(size))
	return c.Engine.Sum(parts...)
}

type signer struct {
	ledger.Signer
	tally *tally
}

// Sign implements ledger.Signer.
func (s signer) Sign(domain string, body []byte) (gm.Signature, error) {
	s.tally.signed.Add(1)
	if domain == ledger.DomainFrame {
		s.tally.frames.Add(1)
	}
	return s.Signer.Sign(domain, body)
}

// nameLen is how long the name is that a connection starts with. It stands for
// the channel's certificate.
const nameLen = 32

type conn struct {
	net.Conn
	dept exchange.Dept
}

type named struct{ net.Listener }

// Accept implements net.Listener.
func (l named) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	var name [nameLen]byte
	if _, err := io.ReadFull(c, name[:]); err != nil {
		return c, nil // nobody: the replica refuses it
	}
	return conn{c, exchange.Dept(bytes.TrimRight(name[:], "\x00"))}, nil
}

func peerOf(c net.Conn) (exchange.Dept, bool) {
	n, ok := c.(conn)
	return n.dept, ok
}

func dialAs(self exchange.Dept) replica.Dial {
	return func(ctx context.Context, addr string, _ exchange.Dept) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		var name [nameLen]byte
		copy(name[:], self)
		if _, err := c.Write(name[:]); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	}
}
