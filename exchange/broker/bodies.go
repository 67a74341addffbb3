package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/envelope"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// sealBody seals the detail of an entry to holder, requester and authority. One
// wrapped key serves all bodies of a pair and epoch.
func (b *Broker) sealBody(requester exchange.Dept, encCert []byte, epoch string, entry ledger.ID, raw []byte) ([]byte, error) {
	own, err := b.ownRecipient()
	if err != nil {
		return nil, err
	}
	name := string(requester) + "\x00" + epoch + "\x00" + string(own.ID[:]) + string(encCert)
	b.mu.Lock()
	sealer := b.sealers[name]
	b.mu.Unlock()
	if sealer == nil {
		to := []envelope.Recipient{own, b.cfg.Authority}
		// A requester without a certificate in force was refused; the others can read why.
		if len(encCert) > 0 {
			if r, err := b.recipient(requester, encCert); err == nil {
				to = append(to, r)
			} else {
				b.cfg.Log.Warn("a requester cannot be given the detail of its entry", "requester", string(requester), "err", err)
			}
		}
		if sealer, err = envelope.NewSealer(b.cfg.Engine, rand.Reader, to...); err != nil {
			return nil, err
		}
		b.mu.Lock()
		b.sealers[name] = sealer
		b.mu.Unlock()
	}
	return sealer.Seal(bodyContext(entry), raw)
}

// takeBody checks the body that came with an answer against the entry's
// commitment and against what was asked, and keeps it. A holder that sends none,
// another, or one that tells officers and the authority something else than what
// happened, is found out here, and its answer is not opened. It returns the
// reasons in it.
func (b *Broker) takeBody(entry ledger.Entry, sealed []byte, q request, msg []byte) ([]exchange.Reason, error) {
	d, raw, commitment, err := b.unsealBody(entry.ID, sealed)
	if err != nil {
		return nil, untrue(exchange.CodeEnvelope, "the detail of the entry does not open", err)
	}
	var want ledger.Body
	if !refusedUnread(entry.Access) {
		want = q.detail()
	}
	want.Salt, want.Rule, want.Reasons, want.Request = d.Salt, d.Rule, d.Reasons, msg
	if commitment != entry.Access.Body || !bytes.Equal(canon.MustMarshal(want), raw) {
		return nil, untrue(exchange.CodeBinding, "the detail is not the one that the entry commits to, or not of this request", nil)
	}
	return d.Reasons, b.keepBody(entry, sealed)
}

// keepBody stores a sealed body under its author and entry: ids are unique to
// their author only.
func (b *Broker) keepBody(entry ledger.Entry, sealed []byte) error {
	if err := b.cfg.Store.Put(kindBody, bodyKey(entry.Author, entry.ID), sealed); err != nil {
		return err
	}
	b.openBody(entry.Author, entry.ID, sealed)
	return nil
}

func bodyKey(author exchange.Dept, entry ledger.ID) []byte { return append(entry[:], author...) }

func (b *Broker) unsealBody(entry ledger.ID, sealed []byte) (ledger.Body, []byte, gm.Digest, error) {
	raw, err := b.unseal(bodyContext(entry), sealed)
	if err != nil {
		return ledger.Body{}, nil, gm.Digest{}, err
	}
	d, commitment, err := ledger.DecodeBody(b.cfg.Engine, raw)
	return d, raw, commitment, err
}

// Reopen hands the body of a verified entry to the search index again, where
// this node holds one: after a restart the ledger is read from its beginning.
func (b *Broker) Reopen(author exchange.Dept, entry ledger.ID) {
	sealed, ok, err := b.cfg.Store.Get(kindBody, bodyKey(author, entry))
	if err == nil && ok {
		b.openBody(author, entry, sealed)
	}
}

// openBody hands a body's content to the search index. One that does not open
// is left out: the ledger row stays, without its detail.
func (b *Broker) openBody(author exchange.Dept, entry ledger.ID, sealed []byte) {
	if b.cfg.BodyOpened == nil {
		return
	}
	d, _, _, err := b.unsealBody(entry, sealed)
	if err != nil {
		b.cfg.Log.Warn("a stored body does not open", "entry", entry.String(), "err", err)
		return
	}
	b.cfg.BodyOpened(author, entry, Detail{Item: d.Item, Views: d.Views, Purpose: d.Purpose, Case: d.Case, Operator: d.Operator,
		Subject: d.Subject, Reasons: d.Reasons})
}

// Body returns the exact bytes of an entry's body for evidence: they open the
// entry's commitment. Only a party holds them.
func (b *Broker) Body(author exchange.Dept, entry ledger.ID) ([]byte, bool, error) {
	sealed, ok, err := b.cfg.Store.Get(kindBody, bodyKey(author, entry))
	if err != nil || !ok {
		return nil, false, err
	}
	_, raw, _, err := b.unsealBody(entry, sealed)
	return raw, err == nil, err
}

// ackEvery bounds how long an opened answer waits for its acknowledgement.
const ackEvery = 500 * time.Millisecond

// AcknowledgeLoop appends, in batches, that this department has opened answers,
// until ctx ends. What is not appended stays queued.
func (b *Broker) AcknowledgeLoop(ctx context.Context) {
	b.every(ctx, ackEvery, "acknowledgements wait", b.acknowledge)
}

// every does work again and again until ctx ends, and logs what keeps it.
func (b *Broker) every(ctx context.Context, pause time.Duration, waits string, work func(context.Context) error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := work(ctx); err != nil && ctx.Err() == nil {
			b.cfg.Log.Warn(waits, "err", err)
		}
	}
}

func (b *Broker) acknowledge(ctx context.Context) error {
	byHolder := map[exchange.Dept][]ledger.ID{}
	err := b.cfg.Store.Each(kindAck, func(key, value []byte) error {
		holder := exchange.Dept(value)
		if len(key) > len(ledger.ID{}) && len(byHolder[holder]) < 256 {
			byHolder[holder] = append(byHolder[holder], ledger.ID(key[:len(ledger.ID{})]))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for holder, ids := range byHolder {
		id, err := ledger.NewID()
		if err != nil {
			return err
		}
		entry := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindAck, ID: id, Author: b.cfg.Self, Origin: b.cfg.Clock().UnixMilli(),
			Ack: &ledger.Ack{Holder: holder, Entries: ids}}
		if err := b.append(ctx, "broker.acknowledge", entry); err != nil {
			return err
		}
		for _, done := range ids {
			if err := b.cfg.Store.Delete(kindAck, bodyKey(holder, done)); err != nil {
				return err
			}
		}
	}
	return nil
}
