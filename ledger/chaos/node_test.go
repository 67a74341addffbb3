package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/rpc"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/channel"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/peer"
	"xinqiao/ledger"
	"xinqiao/ledger/replica"
	"xinqiao/ledger/store"
)

// Exit codes of a node. A kill has none.
const (
	exitDisk   = 3 // a write failed: right after an injected fault, and only then
	exitHalted = 4 // the ledger does not add up: never right
)

// process is one node: what exchange/node assembles, without broker and faces.
type process struct {
	settings
	founding
	dir    string
	keys   *keyring.Keyring
	end    *channel.Endpoint
	store  *store.Store
	ledger *ledger.Ledger
	rep    *replica.Replica
	client *peer.Client
	faults faults
	acked  *acked // nil unless Unowned
	log    *slog.Logger

	released *os.File
}

// faults are those that strike inside the process.
type faults struct {
	skew atomic.Int64 // of the clock, nanoseconds
	slow atomic.Int64 // added to every write, nanoseconds

	mu    sync.Mutex
	point string // dies there
	after int    // when it has been passed so often
	files []*os.File
}

// at is the Crash hook of ledger, store and replica.
func (f *faults) at(point string) {
	if d := time.Duration(f.slow.Load()); d > 0 && (point == "store-before-fsync" || point == "log-before-write") {
		time.Sleep(d)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if point != f.point {
		return
	}
	if f.after--; f.after <= 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing more happens here
	}
}

// open is store.Options.OpenFile; it keeps the files, so that they can fail.
func (f *faults) open(name string, flag int, perm os.FileMode) (*os.File, error) {
	file, err := os.OpenFile(name, flag, perm)
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.files = append(f.files, file)
	}
	return file, err
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// serveNode is the node's main function. It ends with its standard input, so that
// no node outlives the test.
func serveNode(dir string) error {
	p := &process{dir: dir, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if err := readJSON(filepath.Join(dir, "settings.json"), &p.settings); err != nil {
		return err
	}
	if err := readJSON(p.Founding, &p.founding); err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for _, step := range []func() error{p.openKeys, p.openLedger, p.openReplica, p.listenControl} {
		if err := step(); err != nil {
			return err
		}
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	select {
	case <-term:
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return errors.Join(p.rep.Shutdown(ctx), p.ledger.Close(), p.store.Close())
	case err := <-p.rep.Fatal():
		p.log.Error("replica", "err", err)
	case <-p.ledger.Fatal():
		p.log.Error("ledger", "err", p.ledger.Halted())
	}
	if p.store.Err() == nil && p.ledger.Halted() != nil {
		os.Exit(exitHalted)
	}
	os.Exit(exitDisk)
	return nil
}

func (p *process) clock() time.Time { return time.Now().Add(time.Duration(p.faults.skew.Load())) }

func (p *process) openKeys() (err error) {
	if p.keys, err = keyring.Open(filepath.Join(p.dir, "keys.xq"), []byte("chaos"), gm.Emmansun()); err != nil {
		return err
	}
	p.end, err = channel.New(channel.Config{Root: p.Root, Log: p.log, Admit: p.admit,
		Credentials: channel.Credentials{SignCert: p.Sign[p.Self], EncCert: p.Enc[p.Self], Signer: p.keys.TLSSigner(),
			Decrypter: p.keys.TLSDecrypter(), Sign: p.keys.Sign}})
	return err
}

func (p *process) admit(who cert.Identity) error {
	if der, ok := p.Sign[exchange.Dept(who.Dept)]; !ok || gm.Emmansun().Sum(cert.Leaf(der)) != who.Leaf {
		return fmt.Errorf("%s is no member", who.Dept)
	}
	return nil
}

func (p *process) openLedger() (err error) {
	p.store, err = store.Open(filepath.Join(p.dir, "ledger.db"), store.Options{Origin: origin, MaxBytes: p.MaxBytes,
		OpenFile: p.faults.open, Crash: p.faults.at, LockTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	if p.released, err = os.OpenFile(filepath.Join(p.dir, "released"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	own := gm.Emmansun().Sum(p.Sign[p.Self])
	p.ledger, err = ledger.Open(ledger.Config{Origin: origin, Self: p.Self, AuthorityCert: p.AuthorityCert, Engine: gm.Emmansun(),
		Second: gm.Tjfoc(), Storage: p.store, Clock: p.clock, Log: p.log, Crash: p.faults.at,
		Signers: func(c gm.Digest) (ledger.SigningKey, bool) {
			return ledger.SigningKey{Signer: p.keys, Public: p.keys.SignPublic()}, c == own
		},
		Identify: func(der []byte, at time.Time) (string, gm.PublicKey, error) {
			who, err := cert.Verify(p.Root, der, at)
			if err == nil && who.Usage != cert.Signing {
				err = errors.New("not a signing certificate")
			}
			return who.Dept, who.Key, err
		}})
	return err
}

func (p *process) openReplica() error {
	me := p.Places[p.Self]
	cfg := replica.Config{Self: p.Self, Dir: filepath.Join(p.dir, "raft"), Addr: me.Raft, Genesis: p.Genesis, Members: p.members,
		CaughtUp: p.ledger.CaughtUp, Check: p.ledger.CheckFrame, PeerOf: peerOf, Clock: p.clock, Log: p.log, Crash: p.faults.at}
	for _, d := range depts() {
		if votes(d) {
			cfg.Voters = append(cfg.Voters, replica.Peer{Dept: d, Addr: p.Places[d].Raft, Voter: true})
		}
	}
	l, err := p.end.Listen(me.RaftReal)
	if err != nil {
		return err
	}
	by := func(links map[string]string) replica.Dial {
		return func(ctx context.Context, _ string, d exchange.Dept) (net.Conn, error) {
			return p.end.Dial(ctx, links[string(d)], string(d))
		}
	}
	p.client = peer.NewClient(peer.ClientConfig{Self: p.Self, Dial: by(me.PeerBy), Address: func(d exchange.Dept) (string, bool) {
		return p.Places[d].Peer, p.Places[d].Peer != ""
	}})
	if p.rep, err = replica.Open(cfg, p.ledger, p.client, l, by(me.RaftLink)); err != nil {
		return err
	}
	pl, err := p.end.Listen(me.PeerReal)
	if err != nil {
		return err
	}
	server := peer.NewServer(peer.ServerConfig{Appender: p.rep, Witness: p.ledger, PeerOf: peerOf, Log: p.log})
	go func() {
		if err := server.Serve(pl); err != nil {
			p.log.Error("peer server", "err", err)
		}
	}()
	var r ledger.Replicator = p.rep
	if p.Unowned {
		p.acked = &acked{Replicator: p.rep, ids: map[ledger.ID]bool{}}
		r = p.acked
	}
	p.ledger.Start(r)
	go p.ledger.PublishLoop(context.Background(), p.client, p.rep.IsLeader)
	return nil
}

func (p *process) members() (list []replica.Peer) {
	for d, m := range p.ledger.AppliedMembers() {
		list = append(list, replica.Peer{Dept: d, Addr: m.Raft, Voter: m.Voter})
	}
	return list
}

func peerOf(c net.Conn) (exchange.Dept, bool) {
	conn, ok := c.(*channel.Conn)
	if !ok {
		return "", false
	}
	return exchange.Dept(conn.Peer().Dept), true
}

// acked remembers what the leader called committed. A node that takes this for
// leave to release is the mistake that the control makes.
type acked struct {
	ledger.Replicator
	mu  sync.Mutex
	ids map[ledger.ID]bool
}

// Propose implements ledger.Replicator.
func (a *acked) Propose(ctx context.Context, frame []byte) error {
	err := a.Replicator.Propose(ctx, frame)
	var f ledger.Frame
	if err != nil || canon.Unmarshal(frame, &f) != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range f.Entries {
		if e, err := ledger.DecodeEntry(b); err == nil {
			a.ids[e.ID] = true
		}
	}
	return nil
}

func (a *acked) has(id ledger.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ids[id]
}

// listenControl lets the test speak to the node.
func (p *process) listenControl() error {
	path := filepath.Join(p.dir, "control")
	os.Remove(path) // of a process that was killed
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	s := rpc.NewServer()
	if err := s.RegisterName("Node", &Control{p}); err != nil {
		return err
	}
	go s.Accept(l)
	return nil
}
