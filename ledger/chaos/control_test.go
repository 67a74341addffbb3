package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/verify"
)

// Control is what the test asks of a node.
type Control struct{ p *process }

// Outcome is what a client of the ledger is told.
type Outcome struct {
	Result   string // committed | stale | refused | conflict | not-proposed | unknown
	Index    uint64
	Slot     ledger.Slot
	Released bool
	Err      string
}

// Write is an entry to append, and whether its response is to be released.
type Write struct {
	Entry   []byte
	Release bool
	Within  time.Duration
}

// Append has an entry appended and its response released.
func (c *Control) Append(w Write, out *Outcome) error {
	e, err := ledger.DecodeEntry(w.Entry)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.Within)
	defer cancel()
	if w.Release && c.p.acked != nil {
		return c.unowned(ctx, e, out)
	}
	placed, err := c.p.ledger.Append(ctx, e)
	if err != nil {
		*out = failed(err)
		return nil
	}
	*out = Outcome{Result: placed.Result.String(), Index: placed.Index, Slot: placed.Slot}
	if !w.Release || placed.Result != ledger.Committed {
		return nil
	}
	r, err := c.p.ledger.Receipt(ctx, e.ID)
	if err == nil {
		err = c.p.ledger.Release(r, ledger.OwnNode, e.Access.Response)
	}
	if err == nil {
		out.Released = true
		return c.p.release(e.ID)
	}
	out.Err = err.Error()
	return nil
}

func failed(err error) Outcome {
	result := "unknown"
	switch {
	case errors.Is(err, ledger.ErrConflict):
		result = "conflict"
	case errors.Is(err, ledger.ErrNotProposed), errors.Is(err, ledger.ErrBusy):
		result = "not-proposed"
	}
	return Outcome{Result: result, Err: err.Error()}
}

// unowned releases when the leader says that the frame is committed, and does not
// look at its own replica: the control's mistake.
func (c *Control) unowned(ctx context.Context, e ledger.Entry, out *Outcome) error {
	go c.p.ledger.Append(ctx, e)
	for ctx.Err() == nil {
		if c.p.acked.has(e.ID) {
			*out = Outcome{Result: "committed", Released: true}
			return c.p.release(e.ID)
		}
		time.Sleep(time.Millisecond)
	}
	*out = Outcome{Result: "unknown"}
	return nil
}

// release lets a response out of the process: a line in a file that outlives it.
func (p *process) release(id ledger.ID) error {
	_, err := fmt.Fprintln(p.released, id)
	return err
}

// Question is about one consent at its holder's node.
type Question struct {
	Requester exchange.Dept
	Consent   string
}

// Standing is how a consent stands on one node, behind its watermark.
type Standing struct {
	Basis ledger.Basis
	Fact  *ledger.Fact
}

// Read is a decision's reading of the facts.
func (c *Control) Read(q Question, out *Standing) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	self := c.p.Self
	return c.p.ledger.Read(ctx, func(v *ledger.View) error {
		out.Fact = v.Fact(ledger.FactAuthority, q.Consent)
		for slot, at := range map[ledger.Slot]struct {
			t   ledger.FactType
			key string
		}{
			ledger.SlotBaseline: {ledger.FactBaseline, string(exchange.Authority)}, ledger.SlotHolderRules: {ledger.FactRules, string(self)},
			ledger.SlotRequesterRules: {ledger.FactRestrictions, string(q.Requester)}, ledger.SlotHolderMember: {ledger.FactMember, string(self)},
			ledger.SlotRequesterMember: {ledger.FactMember, string(q.Requester)}, ledger.SlotHolderCert: {ledger.FactCert, string(self)},
			ledger.SlotRequesterCert: {ledger.FactCert, string(q.Requester)}, ledger.SlotGrant: {ledger.FactGrant, grantKey(self, q.Requester)},
			ledger.SlotAuthority: {ledger.FactAuthority, q.Consent}, ledger.SlotCase: {ledger.FactCase, caseKey(self, q.Requester)},
			ledger.SlotRoster: {ledger.FactRoster, string(q.Requester)}, ledger.SlotStatus: {ledger.FactStatus, string(self)},
		} {
			*out.Basis.At(slot) = v.Fact(at.t, at.key).Ref()
		}
		return nil
	})
}

// State is how a node stands.
type State struct {
	Size, Verified, Cosigned uint64
	Root                     gm.Digest
	Leader                   exchange.Dept
	Leads                    bool
	Stats                    ledger.Stats
}

// State tells how the node stands.
func (c *Control) State(_ bool, out *State) (err error) {
	l := c.p.ledger
	s := l.Stats()
	*out = State{Size: s.Size, Verified: s.Verified, Cosigned: s.CosignedSize, Leader: c.p.rep.Leader(), Leads: c.p.rep.IsLeader(), Stats: s}
	out.Root, err = l.Root(s.Size)
	return err
}

// Root returns the root of the first size leaves.
func (c *Control) Root(size uint64, out *gm.Digest) (err error) {
	*out, err = c.p.ledger.Root(size)
	return err
}

// Leaves returns the leaves from an index on, at most 500.
func (c *Control) Leaves(from uint64, out *[][]byte) error {
	for i := from; i < min(from+500, c.p.ledger.Size()); i++ {
		b, err := c.p.ledger.Leaf(i)
		if err != nil {
			return err
		}
		*out = append(*out, b)
	}
	return nil
}

// Fault is a change of what strikes inside the node.
type Fault struct {
	Skew, Slow time.Duration
	Point      string // the node dies there
	After      int
	Fail       bool // every later write and fsync of the store fails
}

// Fault sets what strikes inside the node.
func (c *Control) Fault(f Fault, _ *bool) error {
	c.p.faults.skew.Store(int64(f.Skew))
	c.p.faults.slow.Store(int64(f.Slow))
	c.p.faults.mu.Lock()
	defer c.p.faults.mu.Unlock()
	c.p.faults.point, c.p.faults.after = f.Point, f.After
	if f.Fail {
		for _, file := range c.p.faults.files {
			file.Close() // what bbolt writes to it now fails, and so does the fsync
		}
	}
	return nil
}

// Export makes an evidence file of entries and checks it as an outsider would.
func (c *Control) Export(about []uint64, out *[]byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s := verify.Selection{Exporter: c.p.Self, Created: time.Now()}
	for _, i := range about {
		proof, err := c.p.ledger.Proof(ctx, i)
		if err != nil {
			return err
		}
		if len(s.Proofs) > 0 && proof.Size != s.Proofs[0].Size {
			return errors.New("the head moved on: ask again")
		}
		s.Proofs = append(s.Proofs, proof)
	}
	for d, der := range c.p.Sign {
		who, err := cert.Verify(c.p.Root, der, time.Now())
		if err != nil {
			return err
		}
		s.Certificates = append(s.Certificates, verify.Certificate{Dept: d, DER: der, Key: who.Key})
	}
	var err error
	*out, err = verify.Export(gm.Emmansun(), c.p.keys, s)
	return err
}
