package broker

import (
	"context"
	"slices"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// renew gives a department new keys and certificates and puts them on the
// ledger. keep says whether the old ones are listed on.
func (w *world) renew(dept exchange.Dept, keep bool) {
	w.t.Helper()
	s := w.sites[dept]
	next := w.enrol(w.t, dept, w.now())
	s.later.Store(next)
	certs, ok := s.ledger.AppliedCerts(dept)
	if !ok {
		w.t.Fatalf("%s has no certificates", dept)
	}
	if certs = certs.Renew(ledger.CertPair{Sign: next.sign, Enc: next.enc}); !keep {
		certs.Earlier = nil
	}
	w.publish(dept, ledger.FactChange{Type: ledger.FactCert, Key: string(dept), Action: ledger.Set, Content: canon.MustMarshal(certs)})
}

// TestRenewalOnTheWay renews certificates at every place of an exchange, of
// either side: the caller gets its answer, for one entry.
func TestRenewalOnTheWay(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for _, who := range []exchange.Dept{holder, asker} {
		for at, points := range map[exchange.Dept][]string{
			holder: {"holder-after-fetch", "holder-before-outbox", "holder-after-outbox", "holder-after-append", "holder-before-reply"},
			asker:  {"requester-before-send", "requester-after-reply", "requester-before-store", "requester-after-store"},
		} {
			for _, point := range points {
				t.Run(string(who)+" at "+point, func(t *testing.T) {
					t.Parallel()
					c.play(t, func(t *testing.T, w *world) {
						id := w.consent(5)
						w.sites[at].once(point, func() { w.renew(who, true) })
						got := must[exchange.Answer](t)(w.askWith("k", question(id)))
						if got.Outcome != exchange.Allowed || len(got.Fields) != 2 || w.released(holder) != 1 || w.reads(id) != 1 {
							t.Errorf("%s for %v, %d entries", got.Outcome, got.Reasons, w.released(holder))
						}
						again := must[exchange.Answer](t)(w.sites[asker].broker.Answered(t.Context(), "counter", got.ID))
						if again.Outcome != exchange.Allowed || w.released(holder) != 1 {
							t.Errorf("again: %s, %d entries", again.Outcome, w.released(holder))
						}
						// The next exchange is under the new ones, with the old material.
						if next := must[exchange.Answer](t)(w.askWith("k2", question(id))); next.Outcome != exchange.Allowed {
							t.Errorf("the next: %s for %v", next.Outcome, next.Reasons)
						}
						for _, d := range []exchange.Dept{holder, asker} {
							a := w.accesses(d)[0]
							if _, ok, err := w.sites[d].broker.Body(holder, a.id); err != nil || !ok {
								t.Errorf("%s cannot read the detail of its first exchange: %t %v", d, ok, err)
							}
						}
					})
				})
			}
		}
	}
}

// TestRenewalNotYetSeen: the holder learns of the requester's new certificates
// from the ledger before it judges a request that is signed under them.
func TestRenewalNotYetSeen(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		w.hold(holder, true)
		w.renew(asker, true)
		next := w.ask
		w.ask = func(ctx context.Context, from, to exchange.Dept, msg []byte) ([]byte, error) {
			time.AfterFunc(catchUpWithin/2, func() { w.hold(holder, false) })
			return next(ctx, from, to, msg)
		}
		if got := must[exchange.Answer](t)(w.askWith("k", question(id))); got.Outcome != exchange.Allowed {
			t.Errorf("%s for %v", got.Outcome, got.Reasons)
		}
	})
}

// TestOldCertificateEnds: what is signed under a certificate that was replaced
// counts for the life of a request after an ordinary renewal, and not at all when
// the new certificates leave it out.
func TestOldCertificateEnds(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for _, tc := range []struct {
		name string
		who  exchange.Dept
		keep bool
		wait time.Duration
		code exchange.Code // why the old request is denied; empty if it is not
	}{
		{"requester renewed", asker, true, 0, ""},
		{"requester renewed long ago", asker, true, renewalGrace + time.Second, exchange.CodeSignature},
		{"requester replaced a lost key", asker, false, 0, exchange.CodeSignature},
		{"holder renewed", holder, true, 0, ""},
		{"holder renewed long ago", holder, true, renewalGrace + time.Second, exchange.CodeAudience},
		{"holder replaced a lost key", holder, false, 0, exchange.CodeAudience},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				q := w.request(question(w.consent(5)))
				w.renew(tc.who, tc.keep)
				w.advance(tc.wait)
				if tc.wait > 0 { // the authority's word carries the ledger's clock over
					w.decree(ledger.FactChange{Type: ledger.FactMember, Key: "elsewhere", Action: ledger.Set})
				}
				q.Issued, q.Expires = w.now().UnixMilli(), w.now().Add(requestLife).UnixMilli()
				out := must[[]byte](t)(w.sites[holder].broker.Answer(t.Context(), asker, w.signed(w.members[asker], q)))
				if tc.code == "" {
					if w.released(holder) != 1 {
						t.Errorf("not answered: %v", w.denial(out).Reasons)
					}
					return
				}
				reasons := w.denial(out).Reasons
				if w.released(holder) != 0 || !slices.ContainsFunc(reasons, func(r exchange.Reason) bool { return r.Detail == string(tc.code) }) {
					t.Errorf("denied for %v", reasons)
				}
			})
		})
	}
}

// TestMaterialOfALostKey: when a holder drops a certificate whose key was lost,
// materials that were issued under it are not shown any more.
func TestMaterialOfALostKey(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		w.renew(holder, false)
		w.delivered() // to the requester, who would name the certificate from before
		got := must[exchange.Answer](t)(w.askWith("k", question(id)))
		if got.Outcome != exchange.Refused || !slices.Contains(codesIn(got.Reasons), exchange.DenyMaterial) {
			t.Errorf("%s for %v", got.Outcome, got.Reasons)
		}
	})
}

// TestHolderUsesALostKey: a holder that goes on answering under a certificate
// that it has dropped is not believed.
func TestHolderUsesALostKey(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		w.sites[asker].once("requester-after-reply", func() { w.renew(holder, false) })
		if got, err := w.askWith("k", question(id)); err == nil {
			t.Errorf("opened: %s", got.Outcome)
		}
	})
}
