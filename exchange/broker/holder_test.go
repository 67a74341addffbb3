package broker

import (
	"context"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/envelope"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/ledger"
)

// lie is where a holder that runs a program of its own departs from the truth.
// Each function changes one thing before it is signed, sealed or recorded.
type lie struct {
	material func(w *world) material.Material
	views    func([]exchange.View) []exchange.View
	response func(w *world, r *response)
	signer   exchange.Dept // of the response
	sealTo   exchange.Dept
	context  func(request gm.Digest, entry ledger.ID) []byte
	body     func(b *ledger.Body)
	access   func(w *world, a *ledger.Access)
	reply    func(w *world, r *reply)
	refuse   bool
}

// answer is the lying holder's node: it appends an entry that the ledger takes,
// and answers.
func (l lie) answer(ctx context.Context, w *world, msg []byte) ([]byte, error) {
	b, q := w.sites[holder].broker, must[request](w.t)(readUnverified(msg))
	r := must[reading](w.t)(b.read(ctx, q))
	id := must[ledger.ID](w.t)(ledger.NewID())
	digest := digestOf(w.engine, msg)
	resp := response{Suite: gm.Suite, Request: digest, Entry: id, Holder: holder, Requester: asker, Outcome: exchange.Allowed, AsOf: w.now().UnixMilli()}
	body := q.detail()
	body.Salt, body.Request = nonce(), msg
	if l.refuse {
		resp.Outcome, resp.Reasons = exchange.Refused, []exchange.Reason{{Code: exchange.DenyCase}}
		body.Reasons = resp.Reasons
	} else {
		m, views := w.record, q.Views
		if l.material != nil {
			m = l.material(w)
		}
		if l.views != nil {
			views = l.views(slices.Clone(views))
		}
		shown := must[material.Presentation](w.t)(m.Present(views, w.now()))
		resp.Presentation = &shown
	}
	if l.response != nil {
		l.response(w, &resp)
	}
	signer, to := w.members[holder], w.members[asker]
	if l.signer != "" {
		signer = w.members[l.signer]
	}
	if l.sealTo != "" {
		to = w.members[l.sealTo]
	}
	answer := must[[]byte](w.t)(sign(signer.keys, domainResponse, resp))
	if l.context == nil {
		l.context = sealContext
	}
	sealed := must[[]byte](w.t)(envelope.Seal(w.engine, rand.Reader, l.context(digest, id), answer,
		envelope.Recipient{ID: w.engine.Sum(to.enc), Key: to.keys.EncPublic()}))
	if l.body != nil {
		l.body(&body)
	}
	raw, commitment, err := body.Encode(w.engine)
	w.ok(err)
	a := ledger.Access{Holder: holder, Requester: asker, Class: q.Item.Class(), Outcome: resp.Outcome, Basis: r.basis, Request: digest,
		Body: commitment, RequesterTag: q.Tag, Epoch: q.Epoch}
	if a.Outcome != exchange.Refused {
		a.Response, a.Size = w.engine.Sum(sealed), ledger.SizeBucket(len(sealed))
	}
	if l.access != nil {
		l.access(w, &a)
	}
	entry := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindAccess, ID: id, Author: holder, Origin: w.now().UnixMilli(), Access: &a}
	w.ok(b.append(ctx, "lie", entry))
	out := reply{Entry: id, Body: must[[]byte](w.t)(b.sealBody(asker, w.members[asker].enc, q.Epoch, id, raw))}
	if resp.Outcome == exchange.Refused {
		out.Denial = answer
	} else {
		out.Sealed = sealed
	}
	if l.reply != nil {
		l.reply(w, &out)
	}
	return canon.MustMarshal(out), nil
}

// TestDishonestHolder: whatever a holder answers that is not what it recorded,
// or not what was asked, is thrown away; the calling system gets no field of it,
// and neither does the store.
func TestDishonestHolder(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	about := func(s exchange.Subject, item exchange.Item) func(*world) material.Material {
		return func(w *world) material.Material { return w.issue(w.t, s, item) }
	}
	for _, test := range []struct {
		name string
		lie  lie
		code exchange.Code
	}{
		{"another person's material", lie{material: about(stranger(), marriage)}, exchange.CodeMaterial},
		{"another item", lie{material: about(wife(), "civil/adoption-record")}, exchange.CodeMaterial},
		{"more fields", lie{views: func(v []exchange.View) []exchange.View { return append(v, value("registered_on")) }}, exchange.CodeMaterial},
		{"fewer fields", lie{views: func(v []exchange.View) []exchange.View { return v[:1] }}, exchange.CodeMaterial},
		{"other fields", lie{views: func(v []exchange.View) []exchange.View { v[1] = value("registered_on"); return v }}, exchange.CodeMaterial},
		{"an edited field", lie{response: func(_ *world, r *response) { r.Presentation.Disclosed[0].Value = "single" }}, exchange.CodeMaterial},
		{"a material that another issued", lie{material: func(w *world) material.Material {
			m := w.members[other]
			return must[material.Material](w.t)(material.Issue(w.engine, m.keys, rand.Reader, material.Draft{Item: marriage, Schema: 1, Subject: wife(),
				Issuer: holder, Cert: w.engine.Sum(m.sign), IssuedAt: w.now(), Fields: []material.FieldValue{{Field: "marital_status", Value: "x"}, {Field: "spouse_name", Value: "y"}}}))
		}}, exchange.CodeMaterial},
		{"no material", lie{response: func(_ *world, r *response) { r.Presentation = nil }}, exchange.CodeBinding},
		{"allowed with reasons", lie{response: func(_ *world, r *response) { r.Reasons = []exchange.Reason{{Code: exchange.DenyCase}} }}, exchange.CodeBinding},
		{"a response of another request", lie{response: func(_ *world, r *response) { r.Request[0] ^= 1 }}, exchange.CodeBinding},
		{"a response with another entry", lie{response: func(_ *world, r *response) { r.Entry[0] ^= 1 }}, exchange.CodeBinding},
		{"a response by another holder", lie{response: func(_ *world, r *response) { r.Holder = other }}, exchange.CodeBinding},
		{"a response to another requester", lie{response: func(_ *world, r *response) { r.Requester = other }}, exchange.CodeBinding},
		{"an unknown suite", lie{response: func(_ *world, r *response) { r.Suite = "SM-0" }}, exchange.CodeBinding},
		{"as of last year", lie{response: func(_ *world, r *response) { r.AsOf -= 365 * 24 * time.Hour.Milliseconds() }}, exchange.CodeBinding},
		{"as of tomorrow", lie{response: func(_ *world, r *response) { r.AsOf += 24 * time.Hour.Milliseconds() }}, exchange.CodeBinding},
		{"another department's signature", lie{signer: other}, exchange.CodeSignature},
		{"sealed to another", lie{sealTo: other}, exchange.CodeEnvelope},
		{"sealed for another entry", lie{context: func(d gm.Digest, id ledger.ID) []byte { id[0] ^= 1; return sealContext(d, id) }}, exchange.CodeEnvelope},
		{"a swapped response", lie{reply: func(_ *world, r *reply) { r.Sealed[len(r.Sealed)-1] ^= 1 }}, exchange.CodeBinding},
		{"a response beside a denial", lie{reply: func(_ *world, r *reply) { r.Denial = []byte{1} }}, exchange.CodeBinding},
		{"nothing", lie{reply: func(_ *world, r *reply) { r.Sealed = nil }}, exchange.CodeBinding},
		{"a denial for an allowed entry", lie{reply: func(_ *world, r *reply) { r.Sealed, r.Denial = nil, r.Sealed }}, exchange.CodeBinding},
		{"a response for a denied entry", lie{refuse: true, reply: func(_ *world, r *reply) { r.Sealed, r.Denial = r.Denial, nil }}, exchange.CodeBinding},
		{"a denial that says allowed", lie{refuse: true, access: func(*world, *ledger.Access) {}, signer: other}, exchange.CodeSignature},
		{"a denial with other reasons than recorded", lie{refuse: true, body: func(b *ledger.Body) { b.Reasons = []exchange.Reason{{Code: exchange.DenyOperator}} }}, exchange.CodeBinding},
		{"a denial without reasons", lie{refuse: true, response: func(_ *world, r *response) { r.Reasons = nil }, body: func(b *ledger.Body) { b.Reasons = nil }}, exchange.CodeBinding},
		{"no body", lie{reply: func(_ *world, r *reply) { r.Body = nil }}, exchange.CodeEnvelope},
		{"another body than committed to", lie{access: func(_ *world, a *ledger.Access) { a.Body[0] ^= 1 }}, exchange.CodeBinding},
		{"a body about another person", lie{body: func(b *ledger.Body) { b.Subject = stranger() }}, exchange.CodeBinding},
		{"a body with another operator", lie{body: func(b *ledger.Body) { b.Operator = reviewer }}, exchange.CodeBinding},
		{"a body with fewer fields", lie{body: func(b *ledger.Body) { b.Views = b.Views[:1] }}, exchange.CodeBinding},
		{"a body without the request", lie{body: func(b *ledger.Body) { b.Request = nil }}, exchange.CodeBinding},
		{"an entry of another request", lie{access: func(_ *world, a *ledger.Access) { a.Request[0] ^= 1 }}, exchange.CodeBinding},
		{"an entry for another requester", lie{refuse: true, access: func(_ *world, a *ledger.Access) { a.Requester = other }}, exchange.CodeBinding},
		{"an entry with another tag", lie{access: func(_ *world, a *ledger.Access) { a.RequesterTag[0] ^= 1 }}, exchange.CodeBinding},
		{"an entry in an epoch of the past", lie{access: func(w *world, a *ledger.Access) {
			a.Epoch = "2026-01"
			a.RequesterTag = must[[16]byte](w.t)(w.members[asker].keys.Tag(a.Epoch, subjectKey(wife())))
		}}, exchange.CodeBinding},
		{"an entry with the tag in another epoch", lie{access: func(_ *world, a *ledger.Access) { a.Epoch = "2026-01" }}, exchange.CodeBinding},
		{"an entry of another class", lie{access: func(_ *world, a *ledger.Access) { a.Class = "tax" }}, exchange.CodeBinding},
		{"a denial that hides class and person", lie{refuse: true, access: func(_ *world, a *ledger.Access) { a.Class = unread }}, exchange.CodeBinding},
		{"a denial as of something unread, with a tag", lie{refuse: true, access: func(_ *world, a *ledger.Access) { a.Class = unread },
			body: func(b *ledger.Body) { *b = ledger.Body{Salt: b.Salt, Reasons: b.Reasons, Request: b.Request} }}, exchange.CodeBinding},
		{"an entry with another size", lie{access: func(_ *world, a *ledger.Access) { a.Size = 3 }}, exchange.CodeBinding},
		{"an entry on another consent", lie{access: func(w *world, a *ledger.Access) {
			*a.Basis.At(ledger.SlotAuthority) = w.factRef(ledger.FactAuthority, w.consent(9))
		}}, exchange.CodeBinding},
		{"an entry on another case", lie{access: func(w *world, a *ledger.Access) {
			b, r := w.sites[asker].broker, request{Holder: holder, Case: caseProof{Case: "ZJ-2026-0999"}}
			w.ok(b.openCase(w.t.Context(), r.Case.Case, holder))
			w.ok(b.attachCase(&r))
			*a.Basis.At(ledger.SlotCase) = w.factRef(ledger.FactCase, r.Case.Key)
		}}, exchange.CodeBinding},
		{"an entry that answers with another response", lie{access: func(_ *world, a *ledger.Access) { a.Response[0] ^= 1 }}, exchange.CodeBinding},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				id := w.consent(5)
				honest := w.ask
				w.ask = func(ctx context.Context, _, _ exchange.Dept, msg []byte) ([]byte, error) {
					return test.lie.answer(ctx, w, msg)
				}
				got, err := w.askWith("k", question(id))
				if !exchange.Is(err, exchange.Forged) || exchange.AsError(err).Code != test.code || len(got.Fields) > 0 {
					t.Fatalf("answer with %d fields, error %v, want %s", len(got.Fields), err, test.code)
				}
				if n := len(w.sites[asker].store.rows[kindAnswer]) + len(w.sites[asker].store.rows[kindAck]); n > 0 {
					t.Errorf("%d answers or acknowledgements are kept", n)
				}
				// The key still leads to the truth.
				w.ask = honest
				if got, err = w.askWith("k", question(id)); err != nil || got.Outcome != exchange.Allowed {
					t.Errorf("asked again: %v, %v", got.Outcome, err)
				}
			})
		})
	}
}

// factRef returns the version of a fact that is in force.
func (w *world) factRef(typ ledger.FactType, key string) (ref ledger.Ref) {
	w.t.Helper()
	w.ok(w.sites[holder].ledger.Read(w.t.Context(), func(v *ledger.View) error {
		ref = v.Fact(typ, key).Ref()
		return nil
	}))
	return ref
}

// TestHonestLie: the lying holder that tells no lie is believed, so that the
// refusals above are of the lies.
func TestHonestLie(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for want, l := range map[exchange.Outcome]lie{exchange.Allowed: {}, exchange.Refused: {refuse: true}} {
		t.Run(want.String(), func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				w.ask = func(ctx context.Context, _, _ exchange.Dept, msg []byte) ([]byte, error) {
					return l.answer(ctx, w, msg)
				}
				if got, err := w.askWith("k", question(w.consent(5))); err != nil || got.Outcome != want {
					t.Errorf("%v, %v", got.Outcome, err)
				}
			})
		})
	}
}

// TestUnrecordedOutcome: a holder cannot deny, or say "no record", beside the
// ledger.
func TestUnrecordedOutcome(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		for _, kind := range []exchange.Kind{exchange.Denied, exchange.NotFound} {
			w.ask = func(context.Context, exchange.Dept, exchange.Dept, []byte) ([]byte, error) {
				return nil, &exchange.Error{Kind: kind, Code: exchange.DenyCase, Msg: "no", Reasons: []exchange.Reason{{Code: exchange.DenyCase}}}
			}
			if _, err := w.askWith("k", question("")); !exchange.Is(err, exchange.Forged) {
				t.Errorf("%v", err)
			}
		}
	})
}

// TestUnreadableReply: bytes that are no reply are thrown away.
func TestUnreadableReply(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(9)
		honest := w.ask
		for _, cut := range []func([]byte) []byte{
			func([]byte) []byte { return nil },
			func(b []byte) []byte { return b[:len(b)-1] },
			func(b []byte) []byte { return append(b, 0) },
		} {
			w.ask = func(ctx context.Context, from, to exchange.Dept, msg []byte) ([]byte, error) {
				out, err := honest(ctx, from, to, msg)
				return cut(out), err
			}
			if _, err := w.askWith("k", question(id)); !exchange.Is(err, exchange.Forged) {
				t.Errorf("%v", err)
			}
		}
		w.ask = honest
		if got, err := w.askWith("k", question(id)); err != nil || got.Outcome != exchange.Allowed || w.released(holder) != 1 {
			t.Errorf("%v, %v, %d released", got.Outcome, err, w.released(holder))
		}
	})
}

// TestReplayedAnswer: the answer to one request is no answer to the next.
func TestReplayedAnswer(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		var first []byte
		honest := w.ask
		w.ask = func(ctx context.Context, from, to exchange.Dept, msg []byte) ([]byte, error) {
			out, err := honest(ctx, from, to, msg)
			if first == nil {
				first = out
			}
			return first, err
		}
		if got, err := w.askWith("k1", question(id)); err != nil || got.Outcome != exchange.Allowed {
			t.Fatalf("%v, %v", got.Outcome, err)
		}
		if _, err := w.askWith("k2", question(id)); !exchange.Is(err, exchange.Forged) {
			t.Errorf("%v", err)
		}
	})
}

// TestStaleEntry: an entry that the ledger took as stale lets nothing in.
func TestStaleEntry(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(1)
		must[exchange.Answer](t)(w.askWith("k1", question(id))) // uses it up
		w.ask = func(ctx context.Context, _, _ exchange.Dept, msg []byte) ([]byte, error) {
			return answerStale(ctx, w, msg)
		}
		if _, err := w.askWith("k2", question(id)); !exchange.Is(err, exchange.Forged) {
			t.Errorf("%v", err)
		}
		if w.released(asker) != 1 {
			t.Errorf("%d released", w.released(asker))
		}
	})
}

// answerStale is a holder that decides as if nothing were used up, and answers
// although the ledger refuses its entry.
func answerStale(ctx context.Context, w *world, msg []byte) ([]byte, error) {
	b, m := w.sites[holder].broker, w.members[asker]
	q := must[request](w.t)(readUnverified(msg))
	r := must[reading](w.t)(b.read(ctx, q))
	shown := must[material.Presentation](w.t)(w.record.Present(q.Views, w.now()))
	p := must[prepared](w.t)(b.prepare(draft{from: asker, q: q, authentic: true, msg: msg, digest: digestOf(w.engine, msg), basis: r.basis,
		encCert: m.enc, to: envelope.Recipient{ID: w.engine.Sum(m.enc), Key: m.keys.EncPublic()}, asOf: w.now(), outcome: exchange.Allowed, shown: &shown}))
	entry := must[ledger.Entry](w.t)(ledger.DecodeEntry(p.Entry))
	placed := must[ledger.Placed](w.t)(w.sites[holder].ledger.Append(ctx, entry))
	if placed.Result != ledger.Stale || placed.Slot != ledger.SlotQuota {
		w.t.Errorf("the entry is %s by %s", placed.Result, placed.Slot)
	}
	return canon.Marshal(reply{Entry: entry.ID, Sealed: p.Sealed, Body: p.Body})
}

// TestAnswerBeforeEntry: the requester opens nothing until its own replica holds
// the entry, and says that it does not know; later the same key has the answer.
func TestAnswerBeforeEntry(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		w.hold(asker, true)
		got, err := w.askWith("k", question(id))
		if !exchange.Is(err, exchange.Undetermined) || len(got.Fields) > 0 {
			t.Fatalf("before the entry: %v, %v", got.Outcome, err)
		}
		w.hold(asker, false)
		if got, err = w.askWith("k", question(id)); err != nil || got.Outcome != exchange.Allowed || w.released(holder) != 1 {
			t.Errorf("after the entry: %v, %v, %d released", got.Outcome, err, w.released(holder))
		}
	})
}

// TestInventedEntry: a holder that names an entry which nobody has is waited for
// and not believed.
func TestInventedEntry(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		l := lie{reply: func(_ *world, r *reply) { r.Entry[15] ^= 1 }}
		w.ask = func(ctx context.Context, _, _ exchange.Dept, msg []byte) ([]byte, error) {
			return l.answer(ctx, w, msg)
		}
		if _, err := w.askWith("k", question(w.consent(5))); !exchange.Is(err, exchange.Undetermined) {
			t.Errorf("%v", err)
		}
	})
}
