package ledger

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
)

// fate is what the consensus of a test makes of a proposal.
type fate int

const (
	commits  fate = iota
	drops         // not handed on, and says so
	loses         // committed, but the answer is lost
	vanishes      // not committed, and nobody can tell
	doubles       // committed twice: a retry of the transport
)

// world is several nodes' ledgers over one replicated log.
type world struct {
	t     testing.TB
	realm *realm

	// at is added to the clock of every node.
	at atomic.Int64 // nanoseconds

	mu sync.Mutex
	// mu protects what follows.
	fate  func(from exchange.Dept, frame []byte) fate // decides about each proposal; it may block
	log   [][]byte
	nodes map[exchange.Dept]*node
}

// node is one department's ledger with its part of the consensus.
type node struct {
	*party
	*Ledger
	world   *world
	storage Storage
	cut     bool  // from the others: it neither proposes nor applies
	failed  error // what ApplyBatch returned
}

// worldConfig are the choices of a test; the zero value is a usual world.
type worldConfig struct {
	storage func(exchange.Dept) Storage
	config  func(*Config)
	certs   time.Duration // life of the certificates
	bare    bool          // without the founding entries
}

// inWorld runs f in a bubble of its own time with a founded ledger on four
// nodes. When it returns, every goroutine of the ledgers must have ended.
func inWorld(t *testing.T, c worldConfig, f func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if c.certs == 0 {
			c.certs = 100 * time.Hour
		}
		w := &world{t: t, realm: newRealm(t, time.Now(), c.certs), nodes: map[exchange.Dept]*node{}}
		if c.storage == nil {
			c.storage = func(exchange.Dept) Storage { return newMemStorage() }
		}
		for _, d := range depts() {
			w.nodes[d] = w.open(d, c.storage(d), c.config)
		}
		if !c.bare {
			for _, entries := range w.realm.founding() {
				w.write(entries[0].Author, entries...)
			}
			w.settle()
		}
		f(t, w)
		for _, n := range w.nodes {
			if err := n.Close(); err != nil {
				t.Errorf("%s: close: %v", n.dept, err)
			}
		}
	})
}

func (w *world) clock() time.Time { return time.Now().Add(time.Duration(w.at.Load())) }

func (w *world) advance(d time.Duration) { w.at.Add(int64(d)) }

func (w *world) config(d exchange.Dept, s Storage) Config {
	p := w.realm.parties[d]
	return Config{Origin: testOrigin, Self: d, Signers: p.signers,
		AuthorityCert: w.realm.parties[exchange.Authority].cert, Engine: gm.Emmansun(), Second: gm.Tjfoc(),
		Storage: s, Identify: w.realm.identify, Clock: w.clock, Log: slog.New(slog.DiscardHandler)}
}

func (w *world) open(d exchange.Dept, s Storage, change func(*Config)) *node {
	w.t.Helper()
	c := w.config(d, s)
	if change != nil {
		change(&c)
	}
	l, err := Open(c)
	if err != nil {
		w.t.Fatalf("open %s: %v", d, err)
	}
	n := &node{party: w.realm.parties[d], Ledger: l, world: w, storage: s}
	l.Start(n)
	return n
}

// settle waits until every goroutine has nothing left to do and the flush has
// come round.
func (w *world) settle() {
	time.Sleep(2 * flushEvery) // of the bubble's time
	synctest.Wait()
}

func (w *world) node(d exchange.Dept) *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[d]
}

func (w *world) leader() *node { return w.node(depts()[0]) }

// Propose is the node's Replicator.
func (n *node) Propose(ctx context.Context, frame []byte) error {
	w := n.world
	w.mu.Lock()
	cut, decide := n.cut, w.fate
	w.mu.Unlock()
	if cut {
		return ErrNotProposed
	}
	if err := w.leader().CheckFrame(frame); err != nil {
		return errors.Join(ErrNotProposed, err)
	}
	what := commits
	if decide != nil {
		what = decide(n.dept, frame)
	}
	switch what {
	case drops:
		return ErrNotProposed
	case vanishes:
		return errors.New("connection lost")
	case doubles:
		w.commit(frame)
	}
	w.commit(frame)
	if what == loses {
		return errors.New("connection lost")
	}
	return nil
}

// commit puts frames onto the replicated log as one batch, unchecked: what a
// lying leader can do.
func (w *world) commit(frames ...[]byte) {
	w.t.Helper()
	w.push(batchOf(w.t, w.clock(), frames...))
}

func (w *world) push(cmd []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, cmd)
	for _, n := range w.nodes {
		w.deliver(n)
	}
}

// deliver brings n up to date unless it is cut off. The caller holds mu.
func (w *world) deliver(n *node) {
	for !n.cut && n.failed == nil && n.AppliedIndex() < uint64(len(w.log)) {
		next := n.AppliedIndex() + 1
		n.failed = n.ApplyBatch(next, w.log[next-1])
	}
}

func (w *world) setCut(d exchange.Dept, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[d].cut = cut
	w.deliver(w.nodes[d])
}

func (w *world) setFate(f func(exchange.Dept, []byte) fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fate = f
}

// write commits entries as the author's next frame: how the authority, which
// runs no node, writes.
func (w *world) write(author exchange.Dept, entries ...Entry) {
	w.t.Helper()
	w.commit(w.realm.parties[author].frameOf(w.t, w.last(author), entries...))
}

// clockEntry is gongan's, over the present head, with the cosignatures of by as
// of at.
func (w *world) clockEntry(name string, at time.Time, by ...exchange.Dept) Entry {
	w.t.Helper()
	l, certs := w.leader(), map[exchange.Dept]uint64{}
	for _, d := range by {
		certs[d] = l.version(FactCert, string(d))
	}
	head := checkpoint.Checkpoint{Origin: testOrigin, Size: l.Size()}
	var err error
	if head.Root, err = l.Root(head.Size); err != nil {
		w.t.Fatal(err)
	}
	return w.realm.clockEntry(w.t, "gongan", label(name), head, at, certs)
}

func (w *world) last(author exchange.Dept) authorState {
	l := w.leader()
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.authors[author]
}

// restart opens d's ledger again on what s holds, as after a crash.
func (w *world) restart(d exchange.Dept, s Storage) *node {
	w.t.Helper()
	if err := w.nodes[d].Close(); err != nil {
		w.t.Fatalf("close %s: %v", d, err)
	}
	n := w.open(d, s, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[d] = n
	w.deliver(n)
	return n
}

// basis is that of minzheng answering zhujian, as the node sees it.
func (n *node) basis() Basis {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return usualBasis(n.state)
}

// version is that of a fact on the node.
func (n *node) version(t FactType, key string) uint64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.state.facts.get(t, key).Ref().Version
}

// answer has the node append an allowed access and returns its receipt.
func (n *node) answer(name string) (Receipt, error) {
	e := accessEntry("minzheng", "zhujian", label(name), n.basis())
	if _, err := n.Append(n.world.t.Context(), e); err != nil {
		return Receipt{}, err
	}
	return n.Receipt(n.world.t.Context(), e.ID)
}

func withdrawConsent(author exchange.Dept) Entry {
	return factEntry(author, label("withdrawal"), FactChange{Type: FactAuthority, Key: consentKey(), Action: Withdraw,
		Provider: "minzheng", Grantee: "zhujian"})
}

// witnesses lets nodes reach each other's Cosign and Accept; dead ones never answer,
// and lie changes what a member answers.
type witnesses struct {
	world *world
	lie   func(exchange.Dept, checkpoint.Cosignature) checkpoint.Cosignature
	dead  map[exchange.Dept]bool
}

func (w *witnesses) Cosign(ctx context.Context, d exchange.Dept, size uint64, root gm.Digest) (checkpoint.Cosignature, error) {
	if w.dead[d] {
		<-ctx.Done()
		return checkpoint.Cosignature{}, ctx.Err()
	}
	c, err := w.world.node(d).Cosign(ctx, size, root)
	if w.lie != nil {
		c = w.lie(d, c)
	}
	return c, err
}

func (w *witnesses) Publish(ctx context.Context, d exchange.Dept, note []byte) error {
	if w.dead[d] {
		return errors.New("no route")
	}
	return w.world.node(d).Accept(ctx, note)
}
