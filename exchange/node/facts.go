package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/policy/authority"
	"xinqiao/policy/rule"
)

// ownFact is one fact that this department itself puts on the ledger.
type ownFact struct {
	typ     ledger.FactType
	content []byte
}

// readOwnFacts reads what this department publishes from its files: rules,
// restrictions, catalogue, roster and the list of revoked materials.
func (n *Node) readOwnFacts() ([]ownFact, error) {
	rules, restrictions, err := readRules(n.cfg.Rules)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(n.cfg.Catalogue)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	var items []exchange.CatalogueItem
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&items); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(n.cfg.Catalogue), err)
	}
	for _, item := range items {
		if item.Holder != n.cfg.Department || !item.Item.Valid() {
			return nil, fmt.Errorf("%s: item %q is not this department's, or malformed", filepath.Base(n.cfg.Catalogue), item.Item)
		}
	}
	catalogue, err := canon.Marshal(items)
	if err != nil {
		return nil, err
	}
	roster, err := n.roster()
	if err != nil {
		return nil, err
	}
	return []ownFact{
		{ledger.FactCatalogue, catalogue},
		{ledger.FactRules, rules},
		{ledger.FactRestrictions, restrictions},
		{ledger.FactRoster, roster},
		{ledger.FactStatus, canon.MustMarshal([][]byte{})},
	}, nil
}

// readRules reads the directory of rules into the two bundles it holds.
func readRules(dir string) (rules, restrictions []byte, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, nil, err
	}
	files, own := map[string][]byte{}, map[string][]byte{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, fmt.Errorf("read the rules: %w", err)
		}
		if base := filepath.Base(name); base == rule.RestrictionsFile {
			own[base] = b
		} else {
			files[base] = b
		}
	}
	if len(files) == 0 || len(own) == 0 {
		return nil, nil, fmt.Errorf("the rules directory needs at least one rule and %s", rule.RestrictionsFile)
	}
	if rules, err = rule.EncodeBundle(files); err != nil {
		return nil, nil, err
	}
	restrictions, err = rule.EncodeBundle(own)
	return rules, restrictions, err
}

// storedRoster is the roster as it was last published, with the salts that only
// this department holds.
type storedRoster struct {
	Roster  []byte             `cbor:"1,keyasint"`
	Tickets []authority.Ticket `cbor:"2,keyasint"`
}

const kindRoster = "roster"

// roster returns the content of the roster fact. The salts are drawn anew only
// when the list of operators has changed.
func (n *Node) roster() ([]byte, error) {
	want := make([]authority.Operator, len(n.cfg.Operators))
	for i, o := range n.cfg.Operators {
		want[i] = authority.Operator{ID: o.ID, Role: o.Role}
	}
	if raw, ok, err := n.store.Get(kindRoster, []byte(kindRoster)); err != nil {
		return nil, err
	} else if ok {
		var s storedRoster
		b, err := n.id.keys.OpenLocal(kindRoster, nil, raw)
		if err == nil {
			err = canon.Unmarshal(b, &s)
		}
		if err != nil {
			return nil, fmt.Errorf("stored roster: %w", err)
		}
		have := make([]authority.Operator, len(s.Tickets))
		for i, t := range s.Tickets {
			have[i] = authority.Operator{ID: t.Operator, Role: t.Role}
		}
		if slices.Equal(have, want) {
			n.tickets = s.Tickets
			return s.Roster, nil
		}
	}
	roster, tickets, err := authority.NewRoster(n.id.engine, rand.Reader, want)
	if err != nil {
		return nil, err
	}
	content, err := roster.Encode()
	if err != nil {
		return nil, err
	}
	sealed, err := n.id.keys.SealLocal(kindRoster, nil, canon.MustMarshal(storedRoster{Roster: content, Tickets: tickets}))
	if err != nil {
		return nil, err
	}
	n.tickets = tickets
	return content, n.store.Put(kindRoster, []byte(kindRoster), sealed)
}

// publishLoop brings the ledger's copy of this department's own facts in line
// with its files, until it has or ctx ends.
func (n *Node) publishLoop(ctx context.Context, own []ownFact) {
	for ctx.Err() == nil {
		err := n.publish(ctx, own)
		if err == nil {
			n.published.Store(true)
			return
		}
		n.log.Debug("own facts are not on the ledger yet", "err", err)
		sleep(ctx, 200*time.Millisecond)
	}
}

func (n *Node) publish(ctx context.Context, own []ownFact) error {
	var changes []ledger.FactChange
	err := n.ledger.Read(ctx, func(v *ledger.View) error {
		changes = nil
		if m := v.Fact(ledger.FactMember, string(n.cfg.Department)); !m.In(v.Now()) {
			return errors.New("the ledger does not hold this department's membership yet")
		}
		for _, f := range own {
			c := ledger.FactChange{Type: f.typ, Key: string(n.cfg.Department), Action: ledger.Set, Content: f.content}
			if old := v.Fact(f.typ, c.Key); old != nil {
				if old.Active && bytes.Equal(old.Content, f.content) {
					continue
				}
				c.Replaces = old.Version
			}
			changes = append(changes, c)
		}
		c, err := n.renewal(v, false)
		if c != nil {
			changes = append(changes, *c)
		}
		return err
	})
	if err != nil {
		return err
	}
	errs := make(chan error, len(changes))
	for i := range changes { // together, so that they share a frame
		go func() { errs <- n.appendFact(ctx, &changes[i]) }()
	}
	for range changes {
		err = errors.Join(err, <-errs)
	}
	return err
}

// appendFact has one change recorded. While the outcome is open it appends the
// same entry again: another would be recorded beside the first.
func (n *Node) appendFact(ctx context.Context, c *ledger.FactChange) error {
	id, err := ledger.NewID()
	if err != nil {
		return err
	}
	e := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: id, Author: n.cfg.Department, Origin: n.clock().UnixMilli(), Fact: c}
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, 5*time.Second)
		placed, err := n.ledger.Append(within, e)
		cancel()
		switch {
		case errors.Is(err, ledger.ErrNotProposed), errors.Is(err, ledger.ErrUndetermined), errors.Is(err, ledger.ErrBusy):
			n.log.Debug("own fact waits", "type", c.Type.String(), "err", err)
			sleep(ctx, 200*time.Millisecond)
			continue
		case err != nil:
			return err
		case placed.Result != ledger.Committed:
			return fmt.Errorf("%s: %s by %s", c.Type, placed.Result, placed.Slot)
		}
		// Decisions, pages and searches read behind the watermark: before it has
		// passed the fact, this node does not yet go by what it has published.
		return n.ledger.AwaitVerified(ctx, placed.Index+1)
	}
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
