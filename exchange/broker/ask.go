package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/ledger"
)

// asked is what a calling system's idempotency key stands for.
type asked struct {
	Question gm.Digest `cbor:"1,keyasint"` // keyed digest of what was asked
	ID       ledger.ID `cbor:"2,keyasint"`
	Request  []byte    `cbor:"3,keyasint"` // signed, as it is sent, and sent again
	Expires  int64     `cbor:"4,keyasint"`
}

// answered is an answer that this node has verified and opened.
type answered struct {
	System string        `cbor:"1,keyasint"`
	Author exchange.Dept `cbor:"2,keyasint"`
	Entry  ledger.ID     `cbor:"3,keyasint"`
	Answer answerRecord  `cbor:"4,keyasint"`
}

// answerRecord is exchange.Answer in its stored form.
type answerRecord struct {
	Outcome  exchange.Outcome     `cbor:"1,keyasint"`
	Holder   exchange.Dept        `cbor:"2,keyasint"`
	Item     exchange.Item        `cbor:"3,keyasint"`
	AsOf     int64                `cbor:"4,keyasint"`
	IssuedAt int64                `cbor:"5,keyasint,omitempty"`
	Fields   []exchange.Disclosed `cbor:"6,keyasint,omitempty"`
	Reasons  []exchange.Reason    `cbor:"7,keyasint,omitempty"`
	Retain   string               `cbor:"8,keyasint,omitempty"`
}

// Ask puts a question to its holder and returns the answer once this node's own
// replica holds the entry of it. system is the calling system and key its
// idempotency key: the same key and question give the same answer and one
// entry, whatever failed in between. A denial is an Answer, not an error.
func (b *Broker) Ask(ctx context.Context, system, key string, q exchange.Question) (exchange.Answer, error) {
	const op = "broker.Ask"
	if err := q.Check(b.cfg.Population); err != nil {
		return exchange.Answer{}, err
	}
	name, err := b.cfg.Keys.LocalTag(kindIdempotency, []byte("ask\x00"+system+"\x00"+key))
	if err != nil {
		return exchange.Answer{}, err
	}
	defer b.locks.lock(string(name[:]))()
	question, err := b.cfg.Keys.LocalTag("question", canon.MustMarshal(q))
	if err != nil {
		return exchange.Answer{}, err
	}

	var a asked
	known, err := b.load(kindIdempotency, name[:], &a)
	if err != nil {
		return exchange.Answer{}, err
	}
	if known && a.Question != question {
		return exchange.Answer{}, &exchange.Error{Kind: exchange.Conflict, Code: exchange.CodeConflict, Op: op,
			Msg: "the idempotency key was used for another question", Hint: "use a new key for each question"}
	}
	if known {
		if answer, err := b.Answered(ctx, system, a.ID.String()); !exchange.Is(err, exchange.NotFound) {
			return answer, err
		}
	}
	// One that would expire on its way would be refused, and that recorded.
	if !known || b.cfg.Clock().Add(clockSkew).After(millis(a.Expires)) {
		if a, err = b.newRequest(ctx, q, question); err != nil {
			return exchange.Answer{}, err
		}
		if err := b.save(kindIdempotency, name[:], a); err != nil {
			return exchange.Answer{}, err
		}
	}
	b.cfg.Crash("requester-before-send")
	out, err := b.cfg.Peer.Ask(ctx, q.Holder, a.Request)
	if err != nil {
		return exchange.Answer{}, claimed(err)
	}
	b.cfg.Crash("requester-after-reply")
	return b.receive(ctx, system, q, a, out)
}

// claimed is what to make of an error that the holder's node, or nobody,
// answered. A denial and "no record" count only with an entry; a holder that
// claims one without is not believed.
func claimed(err error) error {
	switch exchange.KindOf(err) {
	case exchange.Denied, exchange.NotFound:
		return untrue(exchange.CodeNotRecorded, "the holder claims an outcome that it has not recorded", err)
	}
	return err
}

// newRequest signs a question. The signature covers everything that the
// decision will rest on, and its nonce hides it in the ledger.
func (b *Broker) newRequest(ctx context.Context, q exchange.Question, question gm.Digest) (asked, error) {
	holder, err := b.findHolder(ctx, q)
	if err != nil {
		return asked{}, err
	}
	id, err := ledger.NewID()
	if err != nil {
		return asked{}, err
	}
	cert, key, err := b.signer("broker.Ask")
	if err != nil {
		return asked{}, err
	}
	now := b.cfg.Clock()
	r := request{Suite: gm.Suite, Origin: b.cfg.Ledger.Origin(), ID: id, Nonce: nonce(), Requester: b.cfg.Self, Holder: q.Holder,
		RequesterCert: cert, HolderCert: b.cfg.Engine.Sum(holder.certs.Sign), Item: q.Item, Subject: q.Subject, Views: q.Views,
		Purpose: q.Purpose, Matter: q.Matter, Case: caseProof{Case: q.Case}, Operator: operatorProof{Operator: q.Operator},
		Epoch: ledger.Epoch(now), Issued: now.UnixMilli(), Expires: now.Add(requestLife).UnixMilli(), Seen: b.cfg.Ledger.Size()}
	if r.Tag, err = b.cfg.Keys.Tag(r.Epoch, subjectKey(q.Subject)); err != nil {
		return asked{}, err
	}
	for _, t := range b.cfg.Roster {
		if t.Operator == q.Operator {
			r.Operator = operatorProof{Operator: t.Operator, Role: t.Role, Salt: t.Salt}
		}
	}
	if err := b.attachCase(&r); err != nil {
		return asked{}, err
	}
	if err := b.attachAuthority(&r, q.Authority); err != nil {
		return asked{}, err
	}
	msg, err := sign(key, domainRequest, r)
	return asked{Question: question, ID: id, Request: msg, Expires: r.Expires}, err
}

// findHolder makes sure that the question can reach anyone.
func (b *Broker) findHolder(ctx context.Context, q exchange.Question) (party, error) {
	if q.Holder == b.cfg.Self {
		return party{}, &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Pointer: "/holder", Op: "broker.Ask",
			Msg: "the holder is this department itself", Hint: "read your own records from your own systems"}
	}
	var holder party
	itemKnown := false
	err := b.cfg.Ledger.Read(ctx, func(v *ledger.View) (err error) {
		if holder, err = readParty(v, q.Holder); err != nil || holder.member == nil {
			return err
		}
		items, err := b.catalogue(v.Fact(ledger.FactCatalogue, string(q.Holder)))
		itemKnown = false
		for _, item := range items {
			itemKnown = itemKnown || item.Item == q.Item
		}
		return err
	})
	switch {
	case err != nil:
		return holder, appendError("broker.Ask", err)
	case holder.member == nil || len(holder.certs.Sign) == 0:
		return holder, &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeUnknownDept, Pointer: "/holder", Op: "broker.Ask",
			Msg: "no such department is a member of this exchange", Hint: "see GET /api/v1/catalogue for departments and what they hold"}
	case !itemKnown:
		return holder, &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeUnknownItem, Pointer: "/item", Op: "broker.Ask",
			Msg: "the department's catalogue has no such item", Hint: "see GET /api/v1/catalogue for what it holds"}
	}
	return holder, nil
}

// attachAuthority opens the authority record to the holder. One that this node
// does not hold is named all the same: the holder denies, and that is recorded.
func (b *Broker) attachAuthority(r *request, id string) error {
	if id == "" {
		return nil
	}
	var rec authorityRecord
	known, err := b.load(kindAuthority, []byte(id), &rec)
	if err != nil {
		return err
	}
	r.Authority = &authorityProof{Key: id}
	if known {
		r.Authority.Record, r.Authority.Salt = rec.Record, rec.Salt
	}
	return nil
}

// receive is the requester's half of the promise: nothing is opened before this
// node's own replica has applied and verified the entry that the answer claims.
func (b *Broker) receive(ctx context.Context, system string, q exchange.Question, a asked, out []byte) (exchange.Answer, error) {
	var r reply
	if err := canon.Unmarshal(out, &r); err != nil {
		return exchange.Answer{}, untrue(exchange.CodeEnvelope, "the holder's reply is malformed", err)
	}
	req, err := readUnverified(a.Request)
	if err != nil {
		return exchange.Answer{}, fmt.Errorf("the request that was sent: %w", err)
	}
	digest := digestOf(b.cfg.Engine, a.Request)
	within, cancel := context.WithTimeout(ctx, b.cfg.AnswerWithin)
	defer cancel()
	index, leaf, entry, err := b.cfg.Ledger.Await(within, q.Holder, r.Entry)
	if errors.Is(err, context.DeadlineExceeded) {
		return exchange.Answer{}, &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeNotRecorded, Op: "broker.Ask",
			Msg: "the holder has answered, and this node's ledger does not hold the entry yet; the answer was not opened", Hint: "ask again with the same key", Err: err}
	}
	if err != nil {
		return exchange.Answer{}, appendError("broker.Ask", err)
	}
	if err := b.matches(entry, leaf, req, digest, r); err != nil {
		return exchange.Answer{}, err
	}
	if err := b.inForce(entry.Access); err != nil {
		return exchange.Answer{}, err
	}
	reasons, err := b.takeBody(entry, r.Body, req, a.Request)
	if err != nil {
		return exchange.Answer{}, err
	}
	answer, err := b.open(ctx, req, digest, entry, r)
	if err != nil {
		return exchange.Answer{}, err
	}
	if !slices.Equal(answer.Reasons, reasons) || (len(reasons) > 0) != (answer.Outcome == exchange.Refused) {
		return exchange.Answer{}, untrue(exchange.CodeBinding, "the holder gives other reasons than it has recorded", nil)
	}
	b.cfg.Crash("requester-before-store")
	if err := b.keepAnswer(system, a.ID, entry, answer); err != nil {
		return exchange.Answer{}, err
	}
	b.cfg.Crash("requester-after-store")
	hash, err := b.cfg.Ledger.LeafHash(index)
	if err != nil {
		return exchange.Answer{}, err
	}
	return answer.public(a.ID, ledger.PublicReceipt(b.cfg.Ledger.Origin(), entry.Author, entry.ID, index, hash, leaf.At())), nil
}

// inForce refuses an answer that was held up until what it rests on was
// withdrawn. Asking again reaches the holder, which then decides anew.
func (b *Broker) inForce(a *ledger.Access) error {
	if a.Outcome == exchange.Refused {
		return nil
	}
	if slot, ok := b.cfg.Ledger.Current(a); !ok {
		return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeStale, Op: "broker.Ask",
			Msg:  "what the answer rests on was withdrawn or changed while it was on its way: " + slot.String() + "; it was not opened",
			Hint: "ask again with the same key; the decision is made anew"}
	}
	return nil
}

// matches compares the ledger entry with the request and the reply: the entry
// must speak of exactly this exchange.
func (b *Broker) matches(entry ledger.Entry, leaf ledger.Leaf, q request, request gm.Digest, r reply) error {
	a := entry.Access
	switch {
	case entry.Kind != ledger.KindAccess || leaf.Result != ledger.Committed:
		return untrue(exchange.CodeBinding, "the entry that the holder names is not a committed access", nil)
	case a.Requester != b.cfg.Self || a.Request != request:
		return untrue(exchange.CodeBinding, "the entry that the holder names is of another request", nil)
	case !refusedUnread(a) && (a.Class != q.Item.Class() || a.RequesterTag != q.Tag || a.Epoch != q.Epoch):
		return untrue(exchange.CodeBinding, "the entry that the holder names is about another subject, class or epoch", nil)
	case a.Outcome != exchange.Refused && !q.restsOn(a):
		return untrue(exchange.CodeBinding, "the entry that the holder names rests on another authority or case", nil)
	case a.Size != ledger.SizeBucket(len(r.Sealed)):
		return untrue(exchange.CodeBinding, "the entry that the holder names gives another size", nil)
	case (a.Outcome == exchange.Refused) != (r.Denial != nil) || (r.Denial == nil) == (r.Sealed == nil):
		return untrue(exchange.CodeBinding, "the reply's kind is not the outcome on the ledger", nil)
	case r.Sealed != nil && b.cfg.Engine.Sum(r.Sealed) != a.Response:
		return untrue(exchange.CodeBinding, "the response is not the one on the ledger", nil)
	}
	return nil
}

// refusedUnread reports whether the holder refused a message it could not read,
// so that its entry can name neither class nor subject.
func refusedUnread(a *ledger.Access) bool {
	return a.Outcome == exchange.Refused && a.Class == unread && a.RequesterTag == ledger.Tag{}
}

// open verifies the holder's signature and what it says, and takes out the
// fields. The answer must hold exactly the views that were asked for.
func (b *Broker) open(ctx context.Context, q request, digest gm.Digest, entry ledger.Entry, r reply) (answerRecord, error) {
	var none answerRecord
	msg := r.Denial
	if r.Sealed != nil {
		var err error
		if msg, err = b.unseal(sealContext(digest, entry.ID), r.Sealed); err != nil {
			return none, untrue(exchange.CodeEnvelope, "the sealed response does not open", err)
		}
	}
	holder, err := b.party(ctx, q.Holder)
	if err != nil {
		return none, appendError("broker.Ask", err)
	}
	var resp response
	if _, err := b.openWord(holder, q.Holder, domainResponse, msg, &resp, b.cfg.Clock()); err != nil {
		return none, untrue(exchange.CodeSignature, "the holder's signature does not hold", err)
	}
	if resp.Suite != gm.Suite || resp.Request != digest || resp.Entry != entry.ID || resp.Holder != q.Holder ||
		resp.Requester != b.cfg.Self || resp.Outcome != entry.Access.Outcome || (resp.Presentation != nil) != (resp.Outcome == exchange.Allowed) {
		return none, untrue(exchange.CodeBinding, "the signed response is of another exchange", nil)
	}
	// An allowed answer is of now, by the clock that the holder let the request in with.
	asOf := millis(resp.AsOf)
	if resp.Outcome != exchange.Refused && (asOf.Before(millis(q.Issued).Add(-clockSkew)) || asOf.After(millis(q.Expires).Add(clockSkew))) {
		return none, untrue(exchange.CodeBinding, "the signed response is of another time", nil)
	}
	answer := answerRecord{Outcome: resp.Outcome, Holder: q.Holder, Item: q.Item, AsOf: resp.AsOf, Reasons: resp.Reasons, Retain: resp.Retain}
	if resp.Presentation == nil {
		return answer, nil
	}
	shown, err := b.verifyMaterial(holder, resp.Presentation, material.Want{Item: q.Item, Subject: q.Subject, Views: q.Views, Issuer: q.Holder, At: asOf})
	if err != nil {
		return none, untrue(exchange.CodeMaterial, "the material does not verify", err)
	}
	answer.Fields, answer.IssuedAt = shown.Fields, shown.IssuedAt.UnixMilli()
	return answer, nil
}

// verifyMaterial holds a presentation to its issuer's certificate: the one in
// force, or one that the issuer still lists and that is valid or was when the
// material was issued. A material outlives the certificate that it was issued under.
func (b *Broker) verifyMaterial(issuer party, p *material.Presentation, w material.Want) (material.Verified, error) {
	head, err := p.Head()
	if err != nil {
		return material.Verified{}, err
	}
	for i, pair := range issuer.certs.Pairs() {
		if w.Cert = b.cfg.Engine.Sum(pair.Sign); w.Cert != head.Cert {
			continue
		}
		dept, key, err := b.cfg.SigningCert(pair.Sign, b.cfg.Clock())
		if err != nil && i > 0 { // renewed, and over since
			dept, key, err = b.cfg.SigningCert(pair.Sign, head.IssuedAt)
		}
		if err != nil || dept != string(w.Issuer) {
			return material.Verified{}, errors.Join(errCertificate, err)
		}
		return p.Verify(b.cfg.Engine, key, w)
	}
	return material.Verified{}, fmt.Errorf("%w: it is none of the issuer's", errCertificate)
}

func untrue(code exchange.Code, msg string, err error) error {
	return &exchange.Error{Kind: exchange.Forged, Code: code, Op: "broker.Ask", Msg: msg,
		Hint: "the answer was thrown away; tell this node's operator, and the holder's", Err: err}
}

// keepAnswer makes the answer durable, sealed under this node's own key, and
// queues its acknowledgement.
func (b *Broker) keepAnswer(system string, id ledger.ID, entry ledger.Entry, answer answerRecord) error {
	if entry.Access.Outcome != exchange.Refused {
		if err := b.cfg.Store.Put(kindAck, bodyKey(entry.Author, entry.ID), []byte(entry.Author)); err != nil {
			return err
		}
	}
	return b.save(kindAnswer, id[:], answered{System: system, Author: entry.Author, Entry: entry.ID, Answer: answer})
}

// Answered returns an answer again, to the system that asked. What it rested on
// must still hold: an answer after a withdrawal is refused like a new request.
func (b *Broker) Answered(ctx context.Context, system, id string) (exchange.Answer, error) {
	missing := &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound, Op: "broker.Answered",
		Msg: "this system has no such exchange, or it has no answer yet", Hint: "ask again with the key of the question"}
	eid, err := ledger.ParseID(id)
	if err != nil {
		return exchange.Answer{}, missing
	}
	var a answered
	if ok, err := b.load(kindAnswer, eid[:], &a); err != nil {
		return exchange.Answer{}, err
	} else if !ok || a.System != system {
		return exchange.Answer{}, missing
	}
	index, leaf, entry, err := b.cfg.Ledger.Await(ctx, a.Author, a.Entry)
	if err != nil {
		return exchange.Answer{}, appendError("broker.Answered", err)
	}
	if entry.Access.Outcome != exchange.Refused {
		if slot, ok := b.cfg.Ledger.Current(entry.Access); !ok {
			return exchange.Answer{}, &exchange.Error{Kind: exchange.Denied, Code: exchange.DenyWithdrawn, Op: "broker.Answered",
				Msg: "what the answer rested on was withdrawn or changed: " + slot.String(), Hint: "ask again with a new key; the decision is made anew",
				Reasons: []exchange.Reason{{Code: exchange.DenyWithdrawn, Detail: slot.String()}}}
		}
	}
	hash, err := b.cfg.Ledger.LeafHash(index)
	if err != nil {
		return exchange.Answer{}, err
	}
	return a.Answer.public(eid, ledger.PublicReceipt(b.cfg.Ledger.Origin(), a.Author, a.Entry, index, hash, leaf.At())), nil
}

func (a answerRecord) public(id ledger.ID, r exchange.Receipt) exchange.Answer {
	out := exchange.Answer{ID: id.String(), Outcome: a.Outcome, Holder: a.Holder, Item: a.Item, AsOf: millis(a.AsOf),
		Fields: a.Fields, Reasons: a.Reasons, Retain: a.Retain, Receipt: r}
	if a.IssuedAt != 0 {
		out.IssuedAt = time.UnixMilli(a.IssuedAt).UTC()
	}
	return out
}

// save keeps v sealed under this node's own key, bound to its place.
func (b *Broker) save(kind string, key []byte, v any) error {
	raw, err := canon.Marshal(v)
	if err != nil {
		return err
	}
	sealed, err := b.cfg.Keys.SealLocal(kind, key, raw)
	if err != nil {
		return err
	}
	return b.cfg.Store.Put(kind, key, sealed)
}

func (b *Broker) load(kind string, key []byte, v any) (bool, error) {
	sealed, ok, err := b.cfg.Store.Get(kind, key)
	if err != nil || !ok {
		return false, err
	}
	raw, err := b.cfg.Keys.OpenLocal(kind, key, sealed)
	if err != nil {
		return false, fmt.Errorf("a stored %s record does not open: %w", kind, err)
	}
	return true, canon.Unmarshal(raw, v)
}
