package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/envelope"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/ledger"
	"xinqiao/policy"
)

// prepared is a decided exchange as it waits in the holder's outbox: durable
// before its entry is appended, released only against the entry's receipt.
type prepared struct {
	Request gm.Digest `cbor:"1,keyasint"`
	Entry   []byte    `cbor:"2,keyasint"`
	Sealed  []byte    `cbor:"3,keyasint,omitempty"`
	Denial  []byte    `cbor:"4,keyasint,omitempty"`
	Body    []byte    `cbor:"5,keyasint"`
	// Gate is that of the sealed answer: chosen with the decision, so that nothing
	// that changes later opens a wider one.
	Gate ledger.Gate `cbor:"6,keyasint,omitempty"`
}

// decideAgain bounds how often a decision is made anew because its basis
// changed while it was being recorded.
const decideAgain = 4

// Answer is the holder's side of an exchange: it checks who asks, decides,
// prepares the answer, records the access and only then lets the answer out.
// from is the department that the channel has authenticated. The reply is
// encoded for the requester's node.
func (b *Broker) Answer(ctx context.Context, from exchange.Dept, msg []byte) ([]byte, error) {
	// After the first record the caller going away changes nothing.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	digest := digestOf(b.cfg.Engine, msg)
	// Before anything is believed: who asks and with which certificates may be news.
	if q, err := readUnverified(msg); err == nil {
		b.catchUp(ctx, q.Seen)
	}
	q, refusal := b.authenticate(ctx, from, msg)
	key := outboxKey(from, q.ID, digest, refusal != nil)
	defer b.locks.lock(string(key))()

	var corrects ledger.ID
	if p, ok, err := b.outbox(key); err != nil {
		return nil, err
	} else if ok {
		if p.Request != digest {
			return nil, &exchange.Error{Kind: exchange.Conflict, Code: exchange.CodeReplay, Op: "broker.Answer",
				Msg: "the request's id was used for another request", Hint: "choose a new id for each request"}
		}
		out, stale, err := b.record(ctx, p)
		if err != nil || stale.IsZero() {
			return out, err
		}
		corrects = stale // the basis has changed since: decide anew
	}
	for range decideAgain {
		started := b.cfg.Clock()
		p, outcome, err := b.decide(ctx, from, q, msg, refusal, corrects)
		if err != nil {
			return nil, err
		}
		decided := b.cfg.Clock()
		if err := b.keep(key, p); err != nil {
			return nil, err
		}
		out, stale, err := b.record(ctx, p)
		if err != nil {
			return nil, err
		}
		if stale.IsZero() {
			b.cfg.Observe(outcome.String(), decided.Sub(started), b.cfg.Clock().Sub(decided))
			return out, nil
		}
		corrects = stale
	}
	return nil, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeStale, Op: "broker.Answer",
		Msg: "what the decision rests on kept changing", Hint: "try again with the same key"}
}

// catchUpWithin bounds how long a holder waits for what a requester has seen.
const catchUpWithin = 2 * time.Second

// catchUp waits until this node has verified as much of the ledger as the
// requester had when it asked: a consent that was registered a moment ago must
// not be denied because this replica is a moment behind. Whoever claims to have
// seen more than there is waits, for nothing; the decision is made by what is
// here.
func (b *Broker) catchUp(ctx context.Context, seen uint64) {
	ctx, cancel := context.WithTimeout(ctx, catchUpWithin)
	defer cancel()
	if err := b.cfg.Ledger.AwaitVerified(ctx, seen); err != nil {
		b.cfg.Log.Debug("a requester has seen more of the ledger than this node", "err", err)
	}
}

// authenticate checks that the request is from's, meant for this department,
// fresh and whole. What fails is a refusal that is recorded: an authenticated
// department has tried something.
func (b *Broker) authenticate(ctx context.Context, from exchange.Dept, msg []byte) (request, *exchange.Reason) {
	refuse := func(code exchange.Code) *exchange.Reason {
		return &exchange.Reason{Code: exchange.DenyBadMessage, Detail: string(code)}
	}
	var q request
	var who, self party
	err := b.cfg.Ledger.Read(ctx, func(v *ledger.View) (err error) {
		if who, err = readParty(v, from); err == nil {
			self, err = readParty(v, b.cfg.Self)
		}
		return err
	})
	now := b.cfg.Clock()
	if err != nil || !who.active(now) {
		return q, &exchange.Reason{Code: exchange.DenyMember}
	}
	cert, err := b.openWord(who, from, domainRequest, msg, &q, now)
	switch {
	case errors.Is(err, errCertificate):
		return request{}, &exchange.Reason{Code: exchange.DenyMember}
	case err != nil:
		return request{}, refuse(exchange.CodeSignature)
	}
	question := exchange.Question{Holder: q.Holder, Item: q.Item, Subject: q.Subject, Views: q.Views, Purpose: q.Purpose,
		Matter: q.Matter, Case: q.Case.Case, Operator: q.Operator.Operator}
	switch {
	case q.Suite != gm.Suite:
		return q, refuse(exchange.CodeSuite)
	case q.Requester != from || q.RequesterCert != cert:
		return q, refuse(exchange.CodeSignature)
	case q.Holder != b.cfg.Self || !b.spoke(self, q.HolderCert, now) || q.Origin != b.cfg.Ledger.Origin():
		return q, refuse(exchange.CodeAudience)
	case q.ID.IsZero() || q.Epoch != ledger.Epoch(millis(q.Issued)):
		return q, refuse(exchange.CodeField)
	case !q.timely(now):
		return q, refuse(exchange.CodeExpired)
	}
	if err := question.Check(b.cfg.Population); err != nil {
		return q, refuse(err.Code)
	}
	return q, nil
}

const (
	requestLife = 5 * time.Minute
	clockSkew   = 30 * time.Second
)

// outboxKey names a request in the outbox. One that did not authenticate is
// named by its digest, since its id is anybody's.
func outboxKey(from exchange.Dept, id ledger.ID, digest gm.Digest, refused bool) []byte {
	if refused {
		return append([]byte(from+"\x01"), digest[:]...)
	}
	return append([]byte(from+"\x00"), id[:]...)
}

func (b *Broker) outbox(key []byte) (p prepared, ok bool, err error) {
	raw, ok, err := b.cfg.Store.Get(kindOutbox, key)
	if err != nil || !ok {
		return p, false, err
	}
	return p, true, canon.Unmarshal(raw, &p)
}

// keep makes the prepared answer durable before anything is appended, so that
// an entry never stands for an answer that is lost.
func (b *Broker) keep(key []byte, p prepared) error {
	b.cfg.Crash("holder-before-outbox")
	if err := b.cfg.Store.Put(kindOutbox, key, canon.MustMarshal(p)); err != nil {
		return fmt.Errorf("keep the prepared answer: %w", err)
	}
	b.cfg.Crash("holder-after-outbox")
	return nil
}

// decide makes the decision and prepares everything that follows from it:
// the sealed response or the denial, the sealed body, the entry.
func (b *Broker) decide(ctx context.Context, from exchange.Dept, q request, msg []byte, refusal *exchange.Reason, corrects ledger.ID) (prepared, exchange.Outcome, error) {
	d := draft{from: from, q: q, msg: msg, digest: digestOf(b.cfg.Engine, msg), corrects: corrects, outcome: exchange.Refused,
		authentic: refusal == nil, asOf: b.cfg.Clock()}
	r, err := b.read(ctx, q)
	if refusal != nil {
		// The request may not even decode: what is read by it means nothing.
		d.reasons = []exchange.Reason{*refusal}
		if who, partyErr := b.party(ctx, from); partyErr == nil {
			d.encCert = who.certs.Enc
		}
		p, err := b.prepare(d)
		return p, d.outcome, err
	}
	if err != nil {
		b.cfg.Log.Error("facts of a request cannot be read: denied", "err", err)
		d.encCert, d.reasons = r.encCert, []exchange.Reason{{Code: exchange.DenyUndetermined}}
		p, err := b.prepare(d)
		return p, d.outcome, err
	}
	d.encCert, d.basis, d.gate = r.encCert, r.basis, r.gate
	decision := policy.Decide(r.facts)
	d.rule, d.reasons = decision.Rule, decision.Reasons
	if permit, ok := decision.Permit(); ok {
		if d.reasons = unsupported(permit.Views()); len(d.reasons) == 0 {
			d.retain = decision.Obligations.Retain
			if err := b.fetch(ctx, &d, permit, r.revoked); err != nil {
				return prepared{}, 0, err
			}
		}
	}
	p, err := b.prepare(d)
	return p, d.outcome, err
}

// unsupported names the views that a rule may permit and this holder cannot
// present yet: modes other than value and predicate.
func unsupported(views []exchange.View) (reasons []exchange.Reason) {
	for _, v := range views {
		if v.Mode != exchange.Value && v.Mode != exchange.Predicate {
			reasons = append(reasons, exchange.Reason{Code: exchange.DenyField, Detail: string(v.Field) + ":" + v.Mode.String()})
		}
	}
	return reasons
}

func (b *Broker) party(ctx context.Context, dept exchange.Dept) (p party, err error) {
	err = b.cfg.Ledger.Read(ctx, func(v *ledger.View) (err error) {
		p, err = readParty(v, dept)
		return err
	})
	return p, err
}

// draft is an exchange between its decision and its entry.
type draft struct {
	from      exchange.Dept
	q         request
	authentic bool // q passed authenticate
	msg       []byte
	digest    gm.Digest
	corrects  ledger.ID
	basis     ledger.Basis
	encCert   []byte
	to        envelope.Recipient // of the sealed response; unset when refused
	asOf      time.Time
	outcome   exchange.Outcome
	shown     *material.Presentation
	rule      string
	retain    string
	reasons   []exchange.Reason
	gate      ledger.Gate // of an answer
}

// tagEpoch separates the tags of denials from those of answers. Anyone may ask
// about anyone and be denied; the tag that the denial's entry shows must not
// tell which answers were about the same person.
func tagEpoch(epoch string, o exchange.Outcome) string {
	if o == exchange.Refused {
		return epoch + " denied"
	}
	return epoch
}

// unread is the class of an entry about a message that could not be read.
const unread = "unknown"

// readable reports whether the request says, in the requester's own signed
// words, what it is about. One that is not of now does not: the holder's tag of
// another epoch, computed on demand, would tell whose tag it was.
func (d *draft) readable() bool {
	return d.authentic || d.q.Requester == d.from && d.q.Item.Valid() && d.q.Epoch == ledger.Epoch(millis(d.q.Issued)) &&
		d.q.timely(d.asOf)
}

// fetch opens the source with the permit and presents no more than it permits.
// "No record" is an answer; a source that cannot be read is none, and a record
// that may not be shown is a denial, recorded like any other.
func (b *Broker) fetch(ctx context.Context, d *draft, permit policy.Permit, revoked [][]byte) error {
	deny := func(code exchange.Code, why string, err error) error {
		b.cfg.Log.Error("a permitted exchange is denied: "+why, "item", string(permit.Item()), "requester", string(d.from), "err", err)
		d.outcome, d.retain, d.reasons = exchange.Refused, "", []exchange.Reason{{Code: code}}
		return nil
	}
	var err error
	if d.to, err = b.recipient(d.from, d.encCert); err != nil {
		return deny(exchange.DenyMember, "nothing can be sealed to the requester", err)
	}
	m, err := b.cfg.Source.Fetch(ctx, permit, d.q.Subject)
	if exchange.Is(err, exchange.NotFound) {
		d.outcome = exchange.NoRecord
		return nil
	}
	if err != nil {
		return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeSource, Op: "broker.Answer",
			Msg: "the holder's source could not be read; nothing was released", Hint: "try again later with the same key", Err: err}
	}
	head, err := m.Head()
	if err != nil {
		return deny(exchange.DenyMaterial, "the source gave no material", err)
	}
	// The requester would find out, but only once it holds another's record, or
	// for one that nobody can verify.
	if !b.listed(head.Cert) {
		return deny(exchange.DenyMaterial, "the material was issued under a certificate that is not this department's any more: issue it again", nil)
	}
	if head.Item != permit.Item() || head.Issuer != b.cfg.Self || !m.About(b.cfg.Engine, d.q.Subject) {
		return deny(exchange.DenyMaterial, "the source gave a record of another subject or item", nil)
	}
	for _, gone := range revoked {
		if bytes.Equal(gone, head.ID[:]) {
			return deny(exchange.DenyMaterial, "the material is revoked", nil)
		}
	}
	shown, err := m.Present(permit.Views(), d.asOf)
	if errors.Is(err, material.ErrNoField) || errors.Is(err, material.ErrPredicate) || errors.Is(err, material.ErrMode) {
		return deny(exchange.DenyField, "the rule permits more than the material can show", err)
	}
	if err != nil {
		return deny(exchange.DenyMaterial, "the material cannot be presented", err)
	}
	d.shown, d.outcome = &shown, exchange.Allowed
	b.cfg.Crash("holder-after-fetch")
	return nil
}

// prepare signs and seals what the draft says and writes its entry. A denial
// beyond the requester's quota is only counted: then it returns the error that the
// requester gets.
func (b *Broker) prepare(d draft) (prepared, error) {
	if d.outcome == exchange.Refused {
		if err := b.spend(d.from, d.digest); err != nil {
			return prepared{}, err
		}
	}
	id, err := ledger.NewID()
	if err != nil {
		return prepared{}, err
	}
	p := prepared{Request: d.digest}
	_, key, err := b.signer("broker.Answer")
	if err != nil {
		return prepared{}, err
	}
	answer, err := sign(key, domainResponse, response{Suite: gm.Suite, Request: d.digest, Entry: id, Holder: b.cfg.Self,
		Requester: d.from, Outcome: d.outcome, AsOf: d.asOf.UnixMilli(), Presentation: d.shown, Reasons: d.reasons, Retain: d.retain})
	if err != nil {
		return p, err
	}
	access := ledger.Access{Holder: b.cfg.Self, Requester: d.from, Class: unread, Outcome: d.outcome, Basis: d.basis,
		Request: d.digest, Epoch: ledger.Epoch(d.asOf), Corrects: d.corrects}
	var detail ledger.Body
	if d.readable() {
		access.Class, access.RequesterTag, access.Epoch = d.q.Item.Class(), d.q.Tag, d.q.Epoch
		if access.HolderTag, err = b.cfg.Keys.Tag(tagEpoch(access.Epoch, d.outcome), subjectKey(d.q.Subject)); err != nil {
			return p, err
		}
		detail = d.q.detail()
	}
	detail.Salt, detail.Rule, detail.Reasons, detail.Request = nonce(), d.rule, d.reasons, d.msg
	if d.outcome == exchange.Refused {
		p.Denial = answer
	} else {
		if p.Sealed, err = b.seal(d, id, answer); err != nil {
			return p, err
		}
		p.Gate = d.gate
		access.Response, access.Size = b.cfg.Engine.Sum(p.Sealed), ledger.SizeBucket(len(p.Sealed))
	}
	raw, commitment, err := detail.Encode(b.cfg.Engine)
	if err != nil {
		return p, err
	}
	access.Body = commitment
	if p.Body, err = b.sealBody(d.from, d.encCert, access.Epoch, id, raw); err != nil {
		return p, err
	}
	p.Entry, err = ledger.Entry{Suite: gm.Suite, Kind: ledger.KindAccess, ID: id, Author: b.cfg.Self,
		Origin: d.asOf.UnixMilli(), Access: &access}.Encode()
	return p, err
}

func (b *Broker) seal(d draft, id ledger.ID, answer []byte) ([]byte, error) {
	return envelope.Seal(b.cfg.Engine, rand.Reader, sealContext(d.digest, id), answer, d.to)
}

func (b *Broker) recipient(dept exchange.Dept, der []byte) (envelope.Recipient, error) {
	owner, key, err := b.cfg.SealingCert(der, b.cfg.Clock())
	if err == nil && owner != string(dept) {
		err = fmt.Errorf("it names %s", owner)
	}
	if err != nil {
		return envelope.Recipient{}, fmt.Errorf("encryption certificate of %s: %w", dept, err)
	}
	return envelope.Recipient{ID: b.cfg.Engine.Sum(der), Key: key}, nil
}

// record appends the prepared entry and, once this node has verified it, lets
// the answer out. A non-zero stale names an entry that no answer may rest on.
func (b *Broker) record(ctx context.Context, p prepared) (out []byte, stale ledger.ID, err error) {
	entry, err := ledger.DecodeEntry(p.Entry)
	if err != nil {
		return nil, stale, err
	}
	placed, err := b.cfg.Ledger.Append(ctx, entry)
	if err != nil {
		return nil, stale, appendError("broker.Answer", err)
	}
	b.cfg.Crash("holder-after-append")
	if err := b.keepBody(entry, p.Body); err != nil {
		return nil, stale, err
	}
	if placed.Result != ledger.Committed {
		return nil, entry.ID, nil
	}
	r := reply{Entry: entry.ID, Denial: p.Denial, Body: p.Body}
	if p.Denial == nil {
		receipt, err := b.cfg.Ledger.Receipt(ctx, entry.ID)
		if err != nil {
			return nil, stale, appendError("broker.Answer", err)
		}
		if p.Gate == ledger.Cosigned {
			if err := b.cfg.Ledger.AwaitCosigned(ctx, receipt); err != nil {
				return nil, stale, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum, Op: "broker.Answer", Err: err,
					Msg: "no quorum of departments has cosigned the record of this answer yet", Hint: "ask again with the same key in a moment"}
			}
		}
		r.Sealed, err = b.release(receipt, p.Gate, p.Sealed)
		if exchange.Is(err, exchange.Denied) {
			return nil, entry.ID, nil
		}
		if err != nil {
			return nil, stale, err
		}
	} else if _, _, _, err := b.cfg.Ledger.Await(ctx, b.cfg.Self, entry.ID); err != nil {
		return nil, stale, appendError("broker.Answer", err)
	}
	b.cfg.Crash("holder-before-reply")
	out, err = canon.Marshal(r)
	return out, stale, err
}

// release is the one door through which a sealed response leaves.
func (b *Broker) release(r ledger.Receipt, g ledger.Gate, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, errors.New("no response to release")
	}
	if err := b.cfg.Ledger.Release(r, g, b.cfg.Engine.Sum(sealed)); err != nil {
		return nil, err
	}
	return sealed, nil
}
