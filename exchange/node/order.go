package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/replica"
)

// Standing is what the sharing authority, which runs no node, has to know of the
// ledger to sign its next frame. It comes from a node that may lie: a wrong chain
// makes a frame that nobody takes, and who signs sees every membership whole.
type Standing struct {
	Format  string           `json:"format"` // "xinqiao-standing/1"
	Origin  string           `json:"origin"`
	Seq     uint64           `json:"seq"`  // of the authority's last frame
	Last    string           `json:"last"` // its hash, hexadecimal
	Cert    string           `json:"cert"` // fingerprint of the authority's certificate in force
	Members []StandingMember `json:"members"`
}

// StandingMember is one department as the ledger has it.
type StandingMember struct {
	Department exchange.Dept `json:"department"`
	ledger.Member
	Active      bool   `json:"active"`
	Version     uint64 `json:"version"` // of its member entry
	CertVersion uint64 `json:"certVersion"`
	CertActive  bool   `json:"certActive"`
	Vote        Vote   `json:"vote"`
}

// Vote is how a department stands in Raft, beside what is signed.
type Vote string

// The votes.
const (
	Votes      Vote = "votes"
	Replicates Vote = "replicates"
	Promised   Vote = "promised" // signed as a voter, and not caught up yet
	Unsigned   Vote = "unsigned" // votes, and is not signed as a voter
	Absent     Vote = "absent"   // not in Raft's configuration
)

const standingFormat = "xinqiao-standing/1"

// Standing returns the ledger's standing as this node has verified it.
func (n *Node) Standing(ctx context.Context) (Standing, error) {
	s := Standing{Format: standingFormat, Origin: n.ledger.Origin()}
	peers := n.replica.Peers()
	err := n.ledger.Read(ctx, func(v *ledger.View) error {
		seq, last := v.Chain(exchange.Authority)
		cert := v.SignCert(exchange.Authority)
		s.Seq, s.Last, s.Cert, s.Members = seq, hex.EncodeToString(last[:]), hex.EncodeToString(cert[:]), nil
		for _, f := range v.All(ledger.FactMember) {
			m := StandingMember{Department: exchange.Dept(f.Key), Active: f.Active, Version: f.Version}
			var err error
			if m.Member, err = ledger.DecodeMember(f.Content); err != nil {
				return err
			}
			if c := v.Fact(ledger.FactCert, f.Key); c != nil {
				m.CertVersion, m.CertActive = c.Version, c.Active
			}
			m.Vote = voteOf(peers, m)
			s.Members = append(s.Members, m)
		}
		return nil
	})
	return s, err
}

func voteOf(peers []replica.Peer, m StandingMember) Vote {
	for _, p := range peers {
		switch signed := m.Active && m.Voter; {
		case p.Dept != m.Department:
		case p.Voter && signed:
			return Votes
		case p.Voter:
			return Unsigned
		case signed:
			return Promised
		default:
			return Replicates
		}
	}
	return Absent
}

// ReadStanding decodes a standing.
func ReadStanding(b []byte) (s Standing, err error) {
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("standing: %w", err)
	}
	if s.Format != standingFormat {
		return s, fmt.Errorf("standing: format is not %q", standingFormat)
	}
	return s, nil
}

// Member returns a department's standing, or a new one's: without a version.
func (s Standing) Member(dept exchange.Dept) StandingMember {
	for _, m := range s.Members {
		if m.Department == dept {
			return m
		}
	}
	return StandingMember{Department: dept, Vote: Absent}
}

// Become is the authority's change that makes a department the member next.
func (m StandingMember) Become(next ledger.Member) ledger.FactChange {
	return ledger.FactChange{Type: ledger.FactMember, Key: string(m.Department), Action: ledger.Set, Replaces: m.Version, Content: canon.MustMarshal(next)}
}

// Certify is the authority's change that puts a department's certificates in force,
// in the place of those on the ledger.
func (m StandingMember) Certify(c ledger.Certs) ledger.FactChange {
	return ledger.FactChange{Type: ledger.FactCert, Key: string(m.Department), Action: ledger.Set, Replaces: m.CertVersion, Content: canon.MustMarshal(c)}
}

// Order signs the authority's next frame: all of changes or, when another frame of
// the authority comes first, none.
func (s Standing) Order(e gm.Engine, key ledger.Signer, now time.Time, changes ...ledger.FactChange) ([]byte, error) {
	last, err := digest(s.Last)
	if err != nil {
		return nil, err
	}
	cert, err := digest(s.Cert)
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for i := range changes {
		id, err := ledger.NewID()
		if err != nil {
			return nil, err
		}
		b, err := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: id, Author: exchange.Authority, Origin: now.UnixMilli(), Fact: &changes[i]}.Encode()
		if err != nil {
			return nil, err
		}
		entries = append(entries, b)
	}
	return ledger.NewFrame(e, key, s.Origin, exchange.Authority, cert, s.Seq+1, last, entries)
}

func digest(text string) (gm.Digest, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != gm.HashSize {
		return gm.Digest{}, errors.New("standing: a digest is malformed")
	}
	return gm.Digest(b), nil
}

// Ordered is what became of one entry of an order.
type Ordered struct {
	Entry  string `json:"entry"`
	Index  uint64 `json:"index"`
	Result string `json:"result"`
	Slot   string `json:"slot,omitempty"` // why it was not committed
}

// ErrOrder: this is not an order of the authority.
var ErrOrder = errors.New("not an order of the authority")

// Submit carries an order of the authority to the leader and returns what became
// of its entries on this node. An order that was committed before is found again.
func (n *Node) Submit(ctx context.Context, order []byte) ([]Ordered, error) {
	ids, err := orderEntries(order)
	if err != nil {
		return nil, err
	}
	if err := n.proposeOrder(ctx, order, ids[0]); err != nil {
		return nil, fmt.Errorf("the leader does not take the order: if it was signed on an older standing, sign it again on a new one: %w", err)
	}
	var list []Ordered
	for _, id := range ids {
		index, leaf, _, err := n.ledger.Await(ctx, exchange.Authority, id)
		if err != nil {
			return nil, fmt.Errorf("the order was committed and did not take effect here: another frame of the authority came first, or this node is behind: %w", err)
		}
		done := Ordered{Entry: id.String(), Index: index, Result: leaf.Result.String()}
		if leaf.Result != ledger.Committed {
			done.Slot = leaf.Slot.String()
		}
		list = append(list, done)
	}
	n.log.Info("order of the authority submitted", "entries", len(list))
	return list, nil
}

// proposeOrder hands an order on until a leader has taken it or has refused it for
// what it is: an election passes.
func (n *Node) proposeOrder(ctx context.Context, order []byte, first ledger.ID) error {
	for {
		if _, known := n.ledger.Lookup(exchange.Authority, first); known {
			return nil
		}
		err := n.replica.Propose(ctx, order)
		switch exchange.KindOf(err) {
		case exchange.Invalid, exchange.Forged, exchange.Conflict:
			return err
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		sleep(ctx, orderRetry)
	}
}

// orderRetry is the pause between two attempts to reach a leader.
const orderRetry = 200 * time.Millisecond

func orderEntries(order []byte) ([]ledger.ID, error) {
	var f ledger.Frame
	var body ledger.FrameBody
	if err := errors.Join(canon.Unmarshal(order, &f), canon.Unmarshal(f.Body, &body)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOrder, err)
	}
	var ids []ledger.ID
	for _, raw := range f.Entries {
		e, err := ledger.DecodeEntry(raw)
		if err != nil || e.Author != exchange.Authority {
			return nil, fmt.Errorf("%w: an entry is malformed or another's", ErrOrder)
		}
		ids = append(ids, e.ID)
	}
	if body.Dept != exchange.Authority || len(ids) == 0 {
		return nil, fmt.Errorf("%w: it is signed by another department, or empty", ErrOrder)
	}
	return ids, nil
}
