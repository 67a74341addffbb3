package node

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/verify"
)

// access is the node's ledger as people and systems read it. What is read is
// itself recorded: officers are seen as well.
type access struct{ n *Node }

// Search returns a page of rows, newest first, and the next page's cursor.
func (a access) Search(ctx context.Context, q exchange.LedgerQuery) ([]exchange.LedgerRow, string, error) {
	rows, next, err := a.n.index.Search(q)
	if err == nil && q.Subject != "" {
		err = a.n.recordViewing(ctx, "search", len(rows))
	}
	return rows, next, err
}

// Row returns one entry.
func (a access) Row(_ context.Context, at uint64) (exchange.LedgerRow, error) {
	row, ok := a.n.index.Row(at)
	if !ok {
		return row, noEntry(nil)
	}
	return row, nil
}

func noEntry(err error) error {
	return &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound, Op: "node.ledger",
		Msg: "the ledger has no such entry", Hint: "search the ledger for the entry's index", Err: err}
}

// Proof returns what proves an entry to an outsider.
func (a access) Proof(ctx context.Context, at uint64) (exchange.LedgerProof, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	p, err := a.n.ledger.Proof(ctx, at)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return p, noEntry(err)
	case errors.Is(err, context.DeadlineExceeded):
		return p, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum, Op: "node.Proof",
			Msg: "no checkpoint with a quorum of cosignatures covers the entry yet", Hint: "try again when the other departments' nodes can be reached", Err: err}
	}
	return p, err
}

// Checkpoint returns the newest cosigned checkpoint.
func (a access) Checkpoint(context.Context) (string, error) {
	_, note, err := a.n.ledger.Checkpoint()
	if errors.Is(err, ledger.ErrNotFound) {
		return "", &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound, Op: "node.Checkpoint",
			Msg: "there is no cosigned checkpoint yet", Hint: "try again in a moment"}
	}
	return string(note), err
}

// Evidence packs the entries, with the bodies that this department holds, into
// a file that xqverify checks without this node. The export is recorded.
func (a access) Evidence(ctx context.Context, indices []uint64) ([]byte, error) {
	sel := verify.Selection{Exporter: a.n.cfg.Department, Created: a.n.clock(), Bodies: map[uint64][]byte{}}
	for _, at := range indices {
		p, err := a.Proof(ctx, at)
		if err != nil {
			return nil, err
		}
		sel.Proofs = append(sel.Proofs, p)
		_, e, err := ledger.DecodeLeaf(p.Leaf)
		if err != nil {
			return nil, err
		}
		raw, ok, err := a.n.broker.Body(e.Author, e.ID)
		if err != nil {
			return nil, err
		}
		if ok {
			sel.Bodies[at] = raw
		}
	}
	if err := a.sameHead(ctx, &sel); err != nil {
		return nil, err
	}
	key, err := a.certificates(ctx, &sel)
	if err != nil {
		return nil, err
	}
	file, err := verify.Export(a.n.id.engine, key, sel)
	if err != nil {
		return nil, err
	}
	return file, a.n.recordViewing(ctx, "export", len(indices))
}

// sameHead takes the proofs again until all lead to one tree head: a new
// checkpoint may come in between.
func (a access) sameHead(ctx context.Context, sel *verify.Selection) error {
	for range 10 {
		same := true
		for i := range sel.Proofs {
			same = same && sel.Proofs[i].Size == sel.Proofs[0].Size
		}
		if same {
			return nil
		}
		for i := range sel.Proofs {
			var err error
			if sel.Proofs[i], err = a.Proof(ctx, sel.Proofs[i].Index); err != nil {
				return err
			}
		}
	}
	return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeBusy, Op: "node.Evidence",
		Msg: "new checkpoints kept arriving while the evidence was gathered", Hint: "try again"}
}

// certificates gathers everyone's, those that were renewed too: an entry is
// proven under the certificate that it was signed with. It returns the key of this
// department's in force, which comes first.
func (a access) certificates(ctx context.Context, sel *verify.Selection) (ledger.SigningKey, error) {
	add := func(dept exchange.Dept, certs ledger.Certs) {
		for _, pair := range certs.Pairs() {
			if who, err := cert.Inspect(pair.Sign); err == nil {
				sel.Certificates = append(sel.Certificates, verify.Certificate{Dept: dept, DER: pair.Sign, Key: who.Key})
			}
		}
	}
	var own ledger.Certs
	err := a.n.ledger.Read(ctx, func(v *ledger.View) error {
		sel.Certificates = nil
		self := v.Fact(ledger.FactCert, string(a.n.cfg.Department))
		if self == nil {
			return nil
		}
		var err error
		if own, err = ledger.DecodeCerts(self.Content); err != nil {
			return err
		}
		add(a.n.cfg.Department, own)
		add(exchange.Authority, ledger.Certs{Sign: a.n.id.anchors.authoritySign})
		for _, f := range v.All(ledger.FactCert) {
			certs, err := ledger.DecodeCerts(f.Content)
			if err != nil {
				return err
			}
			if f.Key != string(a.n.cfg.Department) {
				add(exchange.Dept(f.Key), certs)
			}
		}
		return nil
	})
	if err != nil {
		return ledger.SigningKey{}, err
	}
	key, ok := a.n.id.own.signer(a.n.id.engine.Sum(own.Sign))
	if !ok {
		return key, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeKeys, Op: "node.Evidence",
			Msg:  "this node has no key for the certificate that the ledger holds for its department, so it can sign no evidence",
			Hint: "compare the node's certificates and keyring with the ledger's"}
	}
	return key, nil
}

// recordViewing puts on the ledger that people have looked: what they see is
// shown only once that is committed.
func (n *Node) recordViewing(ctx context.Context, action string, rows int) error {
	id, err := ledger.NewID()
	if err != nil {
		return err
	}
	var salt gm.Digest
	// crypto/rand.Read does not fail (Go 1.24 and later).
	_, _ = rand.Read(salt[:])
	e := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindView, ID: id, Author: n.cfg.Department, Origin: n.clock().UnixMilli(),
		View: &ledger.Viewing{Action: action, Rows: uint32(rows), Body: gm.Commit(n.id.engine, ledger.DomainView, salt[:], []byte(action))}}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := n.ledger.Append(ctx, e); err != nil {
		return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum, Op: "node.recordViewing",
			Msg: "the viewing cannot be recorded, so nothing is shown", Hint: "try again when the ledger has a quorum", Err: err}
	}
	return nil
}
