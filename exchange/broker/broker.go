package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"xinqiao/crypto/envelope"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/ledger"
	"xinqiao/policy"
	"xinqiao/policy/authority"
	"xinqiao/policy/rule"
)

// Source opens the department's own records, with a permit in hand; package
// source has implementations. It returns ErrNoRecord's kind, NotFound, when the
// source has no record of the subject.
type Source interface {
	Fetch(ctx context.Context, permit policy.Permit, subject exchange.Subject) (material.Material, error)
}

// Peer carries a signed request to the holder's node and its reply back. An
// error of kind Unavailable means that the request was not delivered; any other
// leaves it open.
type Peer interface {
	Ask(ctx context.Context, holder exchange.Dept, request []byte) ([]byte, error)
}

// Store keeps small records by kind and key, durable when Put returns.
type Store interface {
	Put(kind string, key, value []byte) error
	Get(kind string, key []byte) (value []byte, ok bool, err error)
	Each(kind string, fn func(key, value []byte) error) error
	Delete(kind string, key []byte) error
}

// Identify returns whose certificate der is and its key, or an error when it
// does not chain to the exchange's root or is not valid at the time.
type Identify func(der []byte, at time.Time) (dept string, key gm.PublicKey, err error)

// Config is what a Broker needs. Every field is required.
type Config struct {
	Self       exchange.Dept
	Population exchange.Population
	Engine     gm.Engine
	Ledger     *ledger.Ledger
	Keys       Keys
	// Signers returns the key of this department's signing certificate with the
	// fingerprint, if the node has it; Openers all its encryption keys, newest first.
	Signers      func(cert gm.Digest) (ledger.SigningKey, bool)
	Openers      func() []Opener
	Authority    envelope.Recipient // the authority's encryption key: it can open every body
	SigningCert  Identify
	SealingCert  Identify
	Source       Source
	Peer         Peer
	Store        Store
	Roster       []authority.Ticket // this department's operators
	Clock        func() time.Time
	Log          *slog.Logger
	Observe      func(outcome string, decide, record time.Duration)    // metrics of the holder's side
	BodyOpened   func(author exchange.Dept, entry ledger.ID, d Detail) // what a party may search by
	Crash        func(point string)
	AnswerWithin time.Duration // how long Ask waits for its own replica; 10 s when zero
}

// Detail is what this node may read of an access that it is a party to.
type Detail struct {
	Item     exchange.Item
	Views    []exchange.View
	Purpose  exchange.Purpose
	Case     exchange.Case
	Operator exchange.Operator
	Subject  exchange.Subject
	Reasons  []exchange.Reason
}

// Broker conducts exchanges for one department, as requester and as holder. It
// is safe for concurrent use.
type Broker struct {
	cfg   Config
	locks keyed

	mu sync.Mutex
	// mu protects the caches and figures.
	bundles    cache[rule.Bundle]
	catalogues cache[[]exchange.CatalogueItem]
	sealers    map[string]*envelope.Sealer // of bodies, by requester, its certificate and epoch
	denials    DenialStats
}

// New returns a broker.
func New(cfg Config) *Broker {
	if cfg.Crash == nil {
		cfg.Crash = func(string) {}
	}
	if cfg.AnswerWithin == 0 {
		cfg.AnswerWithin = 10 * time.Second
	}
	return &Broker{cfg: cfg, locks: newKeyed(), sealers: map[string]*envelope.Sealer{}}
}

// Kinds of record in the Store.
const (
	kindOutbox      = "outbox"      // what the holder has prepared, by requester and request
	kindBody        = "body"        // sealed bodies, by entry and its author
	kindAnswer      = "answer"      // what the requester has opened, by request
	kindAuthority   = "authority"   // authority records and cases
	kindIdempotency = "idempotency" // what a system's key stands for
	kindAck         = "ack"         // answers to acknowledge, by entry
	kindDenials     = "denials"     // what was denied, by requester and window, until it is summed up
)

func nonce() gm.Digest {
	var d gm.Digest
	// crypto/rand.Read does not fail (Go 1.24 and later).
	_, _ = rand.Read(d[:])
	return d
}

// keyed is a set of mutexes by key, so that one request is worked on once.
type keyed struct {
	mu    *sync.Mutex
	inUse map[string]*waiters
}

type waiters struct {
	sync.Mutex
	n int
}

func newKeyed() keyed { return keyed{mu: &sync.Mutex{}, inUse: map[string]*waiters{}} }

func (k keyed) lock(key string) (unlock func()) {
	k.mu.Lock()
	w := k.inUse[key]
	if w == nil {
		w = &waiters{}
		k.inUse[key] = w
	}
	w.n++
	k.mu.Unlock()
	w.Lock()
	return func() {
		w.Unlock()
		k.mu.Lock()
		if w.n--; w.n == 0 {
			delete(k.inUse, key)
		}
		k.mu.Unlock()
	}
}

// cache keeps what was parsed from the newest version of each department's fact.
type cache[T any] map[factName]parsed[T]

type factName struct {
	typ ledger.FactType
	key string
}

type parsed[T any] struct {
	version uint64
	value   T
}

// parse returns what fact's content means, from the cache where it is there.
func parse[T any](mu *sync.Mutex, c *cache[T], f *ledger.Fact, read func([]byte) (T, error)) (T, error) {
	var none T
	if f == nil || !f.Active {
		return none, nil
	}
	mu.Lock()
	defer mu.Unlock()
	if p, ok := (*c)[factName{f.Type, f.Key}]; ok && p.version == f.Version {
		return p.value, nil
	}
	v, err := read(f.Content)
	if err != nil {
		return none, err
	}
	if *c == nil {
		*c = cache[T]{}
	}
	(*c)[factName{f.Type, f.Key}] = parsed[T]{f.Version, v}
	return v, nil
}

var errSignature = errors.New("the signature does not hold")

// appendError says what an append's failure means to a caller.
func appendError(op string, err error) error {
	switch {
	case errors.Is(err, ledger.ErrHalted):
		return &exchange.Error{Kind: exchange.Integrity, Code: exchange.CodeLedgerBroken, Op: op,
			Msg: "this node's ledger does not verify, so it releases nothing", Hint: "tell the node's operator", Err: err}
	case errors.Is(err, ledger.ErrBusy):
		return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeBusy, Op: op,
			Msg: "too many exchanges wait to be recorded", Hint: "try again in a moment with the same key", Err: err}
	case errors.Is(err, ledger.ErrNotProposed):
		return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum, Op: op,
			Msg: "the ledger has no quorum, so nothing can be recorded and nothing was released", Hint: "try again with the same key when the other departments' nodes can be reached", Err: err}
	case errors.Is(err, ledger.ErrUndetermined), errors.Is(err, ledger.ErrClosed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeUnknownResult, Op: op,
			Msg: "it is not known yet whether the exchange was recorded; nothing was released", Hint: "ask again with the same key", Err: err}
	}
	return err
}
