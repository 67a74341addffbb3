package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/channel"
	"xinqiao/crypto/envelope"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/broker"
	"xinqiao/exchange/console"
	"xinqiao/exchange/peer"
	"xinqiao/exchange/source"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
	"xinqiao/ledger/index"
	"xinqiao/ledger/replica"
	"xinqiao/ledger/store"
	"xinqiao/policy/authority"
)

// Options are what a caller may set beside the Config.
type Options struct {
	Clock func() time.Time // time.Now when nil
	Log   *slog.Logger     // required
	// Crash is called at named points and may end the process there; tests of
	// crashes set it.
	Crash func(point string)
}

// Node is one department's running node.
type Node struct {
	cfg       Config
	log       *slog.Logger
	clock     func() time.Time
	crash     func(string)
	id        *identity
	store     *store.Store
	ledger    *ledger.Ledger
	replica   *replica.Replica
	index     *index.Index
	broker    *broker.Broker
	metrics   *metrics
	client    *peer.Client
	end       *channel.Endpoint
	recheck   chan struct{} // somebody's admission may have changed; holds one
	codes     *console.Codes
	tickets   []authority.Ticket
	published atomic.Bool
	fatal     chan error
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	mu    sync.Mutex
	stops []stop // mu protects stops
}

type stop struct {
	name string
	fn   func(context.Context) error
}

// Start opens everything in its order and returns once the node listens; it
// becomes ready when it has found a leader and its facts are on the ledger. A
// failure on the way takes apart what was opened.
func Start(ctx context.Context, cfg Config, o Options) (*Node, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Crash == nil {
		o.Crash = func(string) {}
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n := &Node{cfg: cfg, log: o.Log, clock: o.Clock, crash: o.Crash, fatal: make(chan error, 4), cancel: cancel, recheck: make(chan struct{}, 1), codes: console.NewCodes(o.Clock)}
	n.push("background work", func(context.Context) error { cancel(); n.wg.Wait(); return nil })
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"identity", n.openIdentity}, {"store", n.openStore}, {"ledger", n.openLedger}, {"channels", n.openChannels},
		{"exchange", n.openBroker}, {"web", n.openWeb}, {"run", n.run}} {
		if err := step.do(run); err != nil {
			err = fmt.Errorf("start %s: %w", step.name, err)
			stopCtx, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer done()
			return nil, errors.Join(err, n.Stop(stopCtx))
		}
	}
	return n, nil
}

// Fatal yields the reason when the node must stop: a ledger that does not
// verify, a failed write. Going on would risk what was promised.
func (n *Node) Fatal() <-chan error { return n.fatal }

// Stop ends what goes on in the background and takes the node apart in the
// reverse order: listeners first, so that nothing new arrives, then
// replication, then the store.
func (n *Node) Stop(ctx context.Context) error {
	n.cancel()
	n.mu.Lock()
	stops := n.stops
	n.stops = nil
	n.mu.Unlock()
	var err error
	for i := len(stops) - 1; i >= 0; i-- {
		if e := stops[i].fn(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("stop %s: %w", stops[i].name, e))
		}
	}
	return err
}

func (n *Node) push(name string, fn func(context.Context) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stops = append(n.stops, stop{name, fn})
}

func (n *Node) openIdentity(context.Context) (err error) {
	if n.id, err = openIdentity(n.cfg, n.clock(), n.log); err != nil {
		return err
	}
	n.push("keyring", func(context.Context) error { return n.id.keys.Close() })
	return nil
}

func (n *Node) openStore(context.Context) (err error) {
	if err := os.MkdirAll(n.cfg.Data, 0o700); err != nil {
		return err
	}
	n.store, err = store.Open(filepath.Join(n.cfg.Data, "ledger.db"), store.Options{Origin: n.id.anchors.Origin})
	if err != nil {
		return err
	}
	n.push("store", func(context.Context) error { return n.store.Close() })
	key := make([]byte, gm.HashSize) // the index lives in this process only, and so does its key
	if _, err := rand.Read(key); err != nil {
		return err
	}
	n.index = index.New(func(subject string) index.Tag {
		d := gm.HMAC(n.id.engine, key, []byte(subject))
		return index.Tag(d[:16])
	})
	return n.sameGenesis()
}

func (n *Node) openLedger(context.Context) (err error) {
	n.metrics = newMetrics(n)
	n.ledger, err = ledger.Open(ledger.Config{Origin: n.id.anchors.Origin, Self: n.cfg.Department, AuthorityCert: n.id.anchors.authoritySign,
		Engine: n.id.engine, Second: n.id.second, Signers: n.id.own.signer, Storage: n.store, Identify: n.id.signing, Clock: n.clock, Log: n.log, Verified: n.verified, Crash: n.crash})
	return err
}

// ErrForeignData reports a data directory that holds the ledger of another
// genesis. An origin alone does not tell two foundings apart, and a node that
// began with the one and went on with the other would cosign a fork.
var ErrForeignData = errors.New("the data directory holds the ledger of another genesis: name another directory, or restore this ledger's genesis")

// sameGenesis compares the first leaf with the genesis's first frame.
func (n *Node) sameGenesis() error {
	b, err := n.store.Leaf(0)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	leaf, _, err := ledger.DecodeLeaf(b)
	if err != nil {
		return err
	}
	var first ledger.Frame
	if err := canon.Unmarshal(n.id.anchors.Frames[0], &first); err != nil {
		return fmt.Errorf("genesis: frame: %w", err)
	}
	if leaf.Frame != ledger.FrameHash(n.id.engine, first.Body, first.Sig) {
		return ErrForeignData
	}
	return nil
}

// verified feeds the search index; the ledger calls it for every leaf in order.
func (n *Node) verified(at uint64, leaf ledger.Leaf, e ledger.Entry, hash gm.Digest) {
	row := exchange.LedgerRow{Index: at, Entry: e.ID.String(), Kind: kindName(e), Result: leaf.Result.String(), Time: leaf.At(),
		Author: e.Author, Leaf: fmt.Sprintf("%x", hash)}
	if a := e.Access; a != nil {
		row.Holder, row.Requester, row.Class, row.Outcome = a.Holder, a.Requester, a.Class, a.Outcome
	}
	if s := e.Denied; s != nil {
		row.Holder, row.Requester, row.Outcome = e.Author, s.Requester, exchange.Refused
	}
	if f := e.Fact; f != nil {
		row.Holder, row.Requester = f.Provider, f.Grantee
	}
	n.index.Add(row)
	n.learn(e)
	if f := e.Fact; f != nil && (f.Type == ledger.FactMember || f.Type == ledger.FactCert) {
		select {
		case n.recheck <- struct{}{}:
		default:
		}
	}
	if a := e.Access; a != nil && (a.Holder == n.cfg.Department || a.Requester == n.cfg.Department) {
		n.broker.Reopen(e.Author, e.ID)
	}
}

// kindName tells an officer what an entry is: its kind, and for facts which.
func kindName(e ledger.Entry) string {
	if e.Fact == nil {
		return e.Kind.String()
	}
	if e.Fact.Action == ledger.Withdraw {
		return e.Fact.Type.String() + "-withdrawn"
	}
	return e.Fact.Type.String()
}

// openChannels opens the two GM TLS listeners and what runs over them.
func (n *Node) openChannels(context.Context) error {
	mode, err := channel.ParseMode(n.cfg.Channel)
	if err != nil {
		return err
	}
	end, err := channel.New(channel.Config{Root: n.id.anchors.root, Credentials: n.id.creds.Load().channel(), Mode: mode,
		Admit: n.admit, Issuers: n.issuers, Clock: n.clock, Log: n.log})
	if err != nil {
		return err
	}
	n.end = end
	raftListener, err := end.Listen(n.cfg.Listen.Raft)
	if err != nil {
		return fmt.Errorf("listen.raft: %w", err)
	}
	n.push("raft listener", func(context.Context) error { return ignoreClosed(raftListener.Close()) })
	dial := func(ctx context.Context, addr string, dept exchange.Dept) (net.Conn, error) {
		return end.Dial(ctx, addr, string(dept))
	}
	n.client = peer.NewClient(peer.ClientConfig{Self: n.cfg.Department, Dial: dial, Address: n.peerAddress})
	n.push("peer client", func(context.Context) error { n.client.Close(); return nil })
	if n.replica, err = replica.Open(n.replicaConfig(), n.ledger, n.client, raftListener, dial); err != nil {
		return err
	}
	n.push("replica", n.replica.Shutdown)
	n.push("ledger", func(context.Context) error { return n.ledger.Close() })
	peerListener, err := end.Listen(n.cfg.Listen.Peer)
	if err != nil {
		return fmt.Errorf("listen.peer: %w", err)
	}
	server := peer.NewServer(peer.ServerConfig{Asked: lateAsked{n}, Appender: n.replica, Witness: witness{n}, PeerOf: peerOf, Clock: n.clock, Log: n.log})
	n.push("peer server", server.Shutdown)
	n.wg.Go(func() {
		if err := server.Serve(peerListener); err != nil {
			n.fail(fmt.Errorf("peer server: %w", err))
		}
	})
	return nil
}

// peerOf returns whose connection the channel has authenticated.
func peerOf(c net.Conn) (exchange.Dept, bool) {
	conn, ok := c.(*channel.Conn)
	if !ok {
		return "", false
	}
	return exchange.Dept(conn.Peer().Dept), true
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (n *Node) replicaConfig() replica.Config {
	cfg := replica.Config{Self: n.cfg.Department, Dir: filepath.Join(n.cfg.Data, "raft"), Addr: n.cfg.Listen.Raft,
		Members: n.raftMembers, CaughtUp: n.ledger.CaughtUp, Genesis: n.id.anchors.Frames, Check: n.ledger.CheckFrame, PeerOf: peerOf, Clock: n.clock, Log: n.log}
	for dept, m := range n.id.anchors.members {
		if m.Voter {
			cfg.Voters = append(cfg.Voters, replica.Peer{Dept: dept, Addr: m.Raft, Voter: true})
		}
	}
	sortPeers(cfg.Voters)
	return cfg
}

// members returns the active members as the applied ledger has them, or as the
// genesis does while there is no ledger yet. Admission does not wait for the
// watermark: without replication there would be none.
func (n *Node) members() map[exchange.Dept]ledger.Member {
	found := n.ledger.AppliedMembers()
	if len(found) == 0 {
		return n.id.anchors.members
	}
	return found
}

func (n *Node) raftMembers() []replica.Peer {
	var list []replica.Peer
	for dept, m := range n.ledger.AppliedMembers() {
		list = append(list, replica.Peer{Dept: dept, Addr: m.Raft, Voter: m.Voter})
	}
	sortPeers(list)
	return list
}

func sortPeers(list []replica.Peer) {
	slices.SortFunc(list, func(a, b replica.Peer) int { return strings.Compare(string(a.Dept), string(b.Dept)) })
}

func (n *Node) peerAddress(dept exchange.Dept) (string, bool) {
	m, ok := n.members()[dept]
	return m.Peer, ok
}

// admit is asked at every handshake: the peer must be an active member and show
// a certificate that the ledger lists for it, or one that is newer: it may have
// been put on the ledger where this node has not yet caught up, and this node can
// only learn that from the others. What passes over the channel is signed and
// sealed by what the ledger holds, whatever was shown here.
func (n *Node) admit(who cert.Identity) error {
	dept := exchange.Dept(who.Dept)
	if _, ok := n.members()[dept]; !ok {
		return fmt.Errorf("%s is not a member", who.Dept)
	}
	held, ok := n.ledger.AppliedCerts(dept)
	if !ok && n.ledger.Size() == 0 {
		held = n.id.anchors.certs[dept]
	}
	for _, pair := range held.Pairs() {
		if n.id.engine.Sum(cert.Leaf(pair.Sign)) == who.Leaf {
			return n.id.revoked.refuse(who, n.clock())
		}
	}
	if newest, err := cert.Inspect(held.Sign); err == nil && who.NotBefore.After(newest.NotBefore) {
		return n.id.revoked.refuse(who, n.clock())
	}
	return fmt.Errorf("%s shows another certificate than the ledger holds", who.Dept)
}

func (n *Node) openBroker(context.Context) error {
	vault, err := source.OpenVault(n.cfg.Vault, n.id.keys, n.id.engine)
	if err != nil {
		return err
	}
	key, id, err := n.id.authorityEnc(n.clock())
	if err != nil {
		return err
	}
	if _, err := n.roster(); err != nil {
		return err
	}
	n.broker = broker.New(broker.Config{Self: n.cfg.Department, Population: n.cfg.Population, Engine: n.id.engine, Ledger: n.ledger,
		Keys: n.id.keys, Signers: n.id.own.signer, Openers: n.id.own.all,
		Authority: envelope.Recipient{ID: id, Key: key}, SigningCert: n.id.signing, SealingCert: n.id.sealing,
		Source: vault, Peer: n.client, Store: n.store, Roster: n.tickets, Clock: n.clock, Log: n.log,
		Observe: n.metrics.observeExchange, Crash: n.crash,
		BodyOpened: func(author exchange.Dept, entry ledger.ID, d broker.Detail) {
			n.index.Open(author, entry.String(), index.Detail{Subject: d.Subject.ID, Item: d.Item, Views: d.Views, Purpose: d.Purpose,
				Case: d.Case, Operator: d.Operator, Reasons: d.Reasons})
		}})
	return nil
}

// run starts what goes on in the background.
func (n *Node) run(ctx context.Context) error {
	own, err := n.readOwnFacts()
	if err != nil {
		return err
	}
	n.ledger.Start(n.replica)
	n.wg.Go(func() { n.publishLoop(ctx, own) })
	n.wg.Go(func() { n.broker.AcknowledgeLoop(ctx) })
	n.wg.Go(func() { n.broker.SummariseLoop(ctx) })
	n.wg.Go(func() {
		n.ledger.PublishLoop(ctx, n.client, func() bool { return n.replica.IsLeader() && n.signedVoters() == nil })
	})
	n.wg.Go(func() { n.watch(ctx) })
	n.wg.Go(func() { n.recheckLoop(ctx) })
	return nil
}

// recheckEvery is how long a channel may outlive what admitted it where no entry of
// the ledger says so: a certificate that ends, a revocation list that comes.
const recheckEvery = time.Minute

// recheckLoop cuts the channels of peers that are not admitted any more.
func (n *Node) recheckLoop(ctx context.Context) {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.recheck:
		case <-tick.C:
		}
		n.end.Recheck()
	}
}

// watch ends the node when something below it may not go on, and keeps the
// index's idea of what is cosigned.
func (n *Node) watch(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-n.replica.Fatal():
			n.fail(fmt.Errorf("replica: %w", err))
			return
		case <-n.ledger.Fatal():
			// A ledger that was forked or rots stays up to be looked at; it releases,
			// applies and cosigns nothing. A failed write is the store's and ends the process.
			if err := n.store.Err(); err != nil {
				n.fail(err)
			}
			return
		case <-tick.C:
			if size, _, err := n.ledger.Checkpoint(); err == nil {
				n.index.SetCosigned(size)
			}
		}
	}
}

func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default:
	}
}

// lateAsked and witness are the node's faces towards its peers.
type lateAsked struct{ n *Node }

func (a lateAsked) Answer(ctx context.Context, from exchange.Dept, request []byte) ([]byte, error) {
	if !a.n.published.Load() {
		return nil, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum, Op: "node.Answer",
			Msg: "the node is starting", Hint: "try again in a moment with the same key"}
	}
	return a.n.broker.Answer(ctx, from, request)
}

// voteGrace is how long a department may go on voting whose membership the
// authority has changed: the leader takes its vote as soon as the others are a
// quorum without it.
const voteGrace = 10 * time.Minute

// signedVoters refuses while somebody votes whom no signed member entry names:
// heads agreed on by such a quorum are not cosigned.
func (n *Node) signedVoters() error {
	unsigned := slices.DeleteFunc(n.replica.Stats().Unsigned, func(d exchange.Dept) bool { return n.ledger.MemberChanged(d, voteGrace) })
	if len(unsigned) == 0 || n.ledger.Size() == 0 {
		return nil
	}
	return &exchange.Error{Kind: exchange.Integrity, Code: exchange.CodeLedgerBroken, Op: "node.Cosign",
		Msg: fmt.Sprintf("%v votes without a signed membership", unsigned), Hint: "compare the Raft configuration with the ledger's members"}
}

type witness struct{ n *Node }

func (w witness) Cosign(ctx context.Context, size uint64, root gm.Digest) (checkpoint.Cosignature, error) {
	if err := w.n.signedVoters(); err != nil {
		return checkpoint.Cosignature{}, err
	}
	c, err := w.n.ledger.Cosign(ctx, size, root)
	return c, headError("node.Cosign", err)
}

func (w witness) Accept(ctx context.Context, note []byte) error {
	return headError("node.Accept", w.n.ledger.Accept(ctx, note))
}

// headError tells a peer what its tree head lacks. Whatever a peer sends is no
// internal error of this node, or one peer could fill this node's log with
// warnings.
func headError(op string, err error) error {
	switch {
	case errors.Is(err, checkpoint.ErrFormat):
		return &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Op: op, Msg: "this is not a checkpoint note", Err: err}
	case errors.Is(err, checkpoint.ErrQuorum):
		return &exchange.Error{Kind: exchange.Forged, Code: exchange.CodeSignature, Op: op,
			Msg: "too few of the members that this node knows have cosigned the checkpoint", Err: err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, ledger.ErrClosed):
		return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeBusy, Op: op,
			Msg: "this node has not verified so many entries yet", Hint: "ask again when it has", Err: err}
	}
	return err
}
