package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/canon"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/policy"
	"xinqiao/policy/rule"
)

// withdrawBy has a department take back the consent.
func (w *world) withdrawBy(dept exchange.Dept, id string) {
	w.t.Helper()
	info := must[exchange.AuthorityInfo](w.t)(w.sites[dept].broker.Withdraw(w.t.Context(), "counter", id, "changed my mind"))
	if info.State != string(policy.StateWithdrawn) {
		w.t.Errorf("withdrawn by %s: %s", dept, info.State)
	}
}

// TestWithdrawalRaces: a withdrawal that comes while an exchange is under way
// stops it, wherever it stands, and the ledger says what happened.
func TestWithdrawalRaces(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for _, test := range []struct {
		name  string
		point string // of the holder
		first ledger.Result
	}{
		{"between decision and entry", "holder-after-outbox", ledger.Stale},
		{"between fetch and outbox", "holder-before-outbox", ledger.Stale},
		{"between entry and release", "holder-after-append", ledger.Committed},
	} {
		for _, by := range []exchange.Dept{asker, holder} {
			t.Run(fmt.Sprintf("%s/by %s", test.name, by), func(t *testing.T) {
				t.Parallel()
				c.play(t, func(t *testing.T, w *world) {
					id := w.consent(5)
					w.sites[holder].once(test.point, func() { w.withdrawBy(by, id) })
					got := must[exchange.Answer](t)(w.askWith("k", question(id)))
					if got.Outcome != exchange.Refused || len(got.Fields) > 0 || !slices.Contains(codesIn(got.Reasons), exchange.DenyWithdrawn) {
						t.Errorf("%v because of %v", got.Outcome, got.Reasons)
					}
					all := w.accesses(other)
					if len(all) != 2 || all[0].result != test.first || all[0].Outcome != exchange.Allowed ||
						all[1].result != ledger.Committed || all[1].Outcome != exchange.Refused || all[1].Corrects != all[0].id {
						t.Errorf("the ledger holds %+v", all)
					}
					// The answer that was prepared is gone from the outbox.
					w.ok(w.sites[holder].store.Each(kindOutbox, func(_, raw []byte) error {
						var p prepared
						if err := canon.Unmarshal(raw, &p); err != nil || len(p.Sealed) > 0 {
							t.Errorf("the outbox holds a response: %v", err)
						}
						return nil
					}))
				})
			})
		}
	}
}

// TestWithdrawnBeforeRetry: an answer waits in the outbox for its entry, which
// comes too late. Asking again is decided anew, and says which entry it corrects.
func TestWithdrawnBeforeRetry(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		w.setFate(func(from exchange.Dept) fate {
			if from == holder {
				return refuse
			}
			return deliver
		})
		if _, err := w.askWith("k", question(id)); !exchange.Is(err, exchange.Unavailable) {
			t.Fatal(err)
		}
		w.withdrawBy(asker, id)
		w.setFate(nil)
		w.sites[holder].restart()
		got := must[exchange.Answer](t)(w.askWith("k", question(id)))
		all := w.accesses(asker)
		if got.Outcome != exchange.Refused || len(all) != 2 || all[0].result != ledger.Stale || all[1].Corrects != all[0].id {
			t.Errorf("%v, the ledger holds %+v", got.Outcome, all)
		}
	})
}

// TestHeldUpAnswer: an answer that reaches the requester after the withdrawal is
// not opened, and asking again is denied.
func TestHeldUpAnswer(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		w.sites[asker].once("requester-after-reply", func() { w.withdrawBy(holder, id) })
		got, err := w.askWith("k", question(id))
		if !exchange.Is(err, exchange.Unavailable) || len(got.Fields) > 0 || len(w.sites[asker].store.rows[kindAnswer]) > 0 {
			t.Fatalf("%v, %v", got.Outcome, err)
		}
		if got, err = w.askWith("k", question(id)); err != nil || got.Outcome != exchange.Refused {
			t.Errorf("asked again: %v, %v", got.Outcome, err)
		}
	})
}

// TestReadAgain: what was answered is refused once the consent is withdrawn.
func TestReadAgain(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		first := must[exchange.Answer](t)(w.askWith("k", question(id)))
		w.withdrawBy(holder, id)
		w.sites[asker].restart()
		if got, err := w.sites[asker].broker.Answered(t.Context(), "counter", first.ID); !exchange.Is(err, exchange.Denied) || len(got.Fields) > 0 {
			t.Errorf("read again: %v, %v", got.Outcome, err)
		}
		if got, err := w.askWith("k", question(id)); !exchange.Is(err, exchange.Denied) || len(got.Fields) > 0 {
			t.Errorf("asked again: %v, %v", got.Outcome, err)
		}
		if got := must[exchange.Answer](t)(w.askWith("k2", question(id))); got.Outcome != exchange.Refused {
			t.Errorf("asked anew: %v", got.Outcome)
		}
	})
}

// TestBasisChanges: every fact that a decision rests on can change while it is
// recorded. The decision is then made anew, by what is in force.
func TestBasisChanges(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	caseKey := func(w *world) string {
		var rec caseRecord
		name := must[[]byte](w.t)(caseName(w.members[asker].keys, testCase, holder))
		if ok, err := w.sites[asker].broker.load(kindAuthority, name, &rec); err != nil || !ok {
			w.t.Fatal("no case", err)
		}
		return rec.Key
	}
	for _, test := range []struct {
		name string
		do   func(w *world)
		want exchange.Outcome
		code exchange.Code
	}{
		{"the holder's rules are published anew", func(w *world) {
			text := strings.ReplaceAll(ruleText, "P30D", "P10D")
			w.publish(holder, ledger.FactChange{Type: ledger.FactRules, Key: string(holder), Action: ledger.Set,
				Content: must[[]byte](w.t)(rule.EncodeBundle(map[string][]byte{"marriage.yaml": []byte(text)}))})
		}, exchange.Allowed, ""},
		{"the holder's rules are withdrawn", func(w *world) {
			w.publish(holder, ledger.FactChange{Type: ledger.FactRules, Key: string(holder), Action: ledger.Withdraw})
		}, exchange.Refused, exchange.DenyNoRule},
		{"the case is closed", func(w *world) {
			w.publish(asker, ledger.FactChange{Type: ledger.FactCase, Key: caseKey(w), Action: ledger.Withdraw, Provider: holder, Grantee: asker})
		}, exchange.Refused, exchange.DenyCase},
		{"the roster is withdrawn", func(w *world) {
			w.publish(asker, ledger.FactChange{Type: ledger.FactRoster, Key: string(asker), Action: ledger.Withdraw})
		}, exchange.Refused, exchange.DenyOperator},
		{"the restrictions are withdrawn", func(w *world) {
			w.publish(asker, ledger.FactChange{Type: ledger.FactRestrictions, Key: string(asker), Action: ledger.Withdraw})
		}, exchange.Refused, exchange.DenyUndetermined},
		{"the status list is withdrawn", func(w *world) {
			w.publish(holder, ledger.FactChange{Type: ledger.FactStatus, Key: string(holder), Action: ledger.Withdraw})
		}, exchange.Refused, exchange.DenyMaterial},
		{"the baseline is withdrawn", func(w *world) {
			w.decree(ledger.FactChange{Type: ledger.FactBaseline, Key: string(exchange.Authority), Action: ledger.Withdraw})
		}, exchange.Refused, exchange.DenyUndetermined},
		{"the requester is expelled", func(w *world) {
			w.decree(ledger.FactChange{Type: ledger.FactMember, Key: string(asker), Action: ledger.Withdraw})
		}, exchange.Refused, exchange.DenyMember},
	} {
		for _, point := range []string{"holder-after-outbox", "holder-after-append"} {
			t.Run(test.name+"/"+point, func(t *testing.T) {
				t.Parallel()
				c.play(t, func(t *testing.T, w *world) {
					id := w.consent(5)
					w.sites[holder].once(point, func() { test.do(w) })
					got := must[exchange.Answer](t)(w.askWith("k", question(id)))
					if got.Outcome != test.want || test.code != "" && !slices.Contains(codesIn(got.Reasons), test.code) {
						t.Errorf("%v because of %v", got.Outcome, got.Reasons)
					}
					if got.Outcome == exchange.Allowed && got.Retain != "P10D" {
						t.Errorf("decided by the rule that keeps for %s", got.Retain)
					}
					if all := w.accesses(other); len(all) != 2 || all[1].Corrects != all[0].id {
						t.Errorf("the ledger holds %d accesses", len(all))
					}
				})
			})
		}
	}
}

// TestCertificateGone: a requester whose certificate was withdrawn gets nothing,
// and its attempt is recorded.
func TestCertificateGone(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		msg := w.signed(w.members[asker], w.request(question(w.consent(5))))
		w.decree(ledger.FactChange{Type: ledger.FactCert, Key: string(asker), Action: ledger.Withdraw})
		resp := w.denial(must[[]byte](t)(w.sites[holder].broker.Answer(t.Context(), asker, msg)))
		if !slices.Contains(codesIn(resp.Reasons), exchange.DenyMember) || w.sites[holder].source.opened() > 0 {
			t.Errorf("denied because of %v", resp.Reasons)
		}
	})
}

// TestNothingToSealTo: a requester whose encryption certificate is not its own is
// denied, and that is recorded.
func TestNothingToSealTo(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		w.decree(ledger.FactChange{Type: ledger.FactCert, Key: string(asker), Action: ledger.Set,
			Replaces: w.factRef(ledger.FactCert, string(asker)).Version,
			Content:  canon.MustMarshal(ledger.Certs{Sign: w.members[asker].sign, Enc: w.members[other].enc})})
		msg := w.signed(w.members[asker], w.request(question(id)))
		resp := w.denial(must[[]byte](t)(w.sites[holder].broker.Answer(t.Context(), asker, msg)))
		if !slices.Contains(codesIn(resp.Reasons), exchange.DenyMember) || w.released(holder) > 0 || len(w.accesses(holder)) != 1 {
			t.Errorf("denied because of %v", resp.Reasons)
		}
	})
}

// TestHostileCatalogue: by what it lists a member cannot have others' rules
// refused, and cannot pass for the holder of their items.
func TestHostileCatalogue(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	bare := exchange.CatalogueItem{Item: marriage, Holder: other, Title: "x", TitleEN: "x", Version: 1, Sharing: "conditional",
		Fields: []exchange.CatalogueField{{Name: "something_else", Type: "text"}}}
	stolen := bare
	stolen.Holder = holder
	for name, content := range map[string][]byte{
		"not a catalogue":                  []byte("\x01\x02"),
		"the holder's item without fields": canon.MustMarshal([]exchange.CatalogueItem{bare}),
		"in the holder's name":             canon.MustMarshal([]exchange.CatalogueItem{stolen}),
		"malformed item":                   canon.MustMarshal([]exchange.CatalogueItem{{Item: "", Holder: other}}),
		"emptied":                          canon.MustMarshal([]exchange.CatalogueItem{}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				id := w.consent(5)
				w.publish(other, ledger.FactChange{Type: ledger.FactCatalogue, Key: string(other), Action: ledger.Set, Content: content})
				w.sites[holder].restart() // nothing is parsed yet
				if got := must[exchange.Answer](t)(w.askWith("k", question(id))); got.Outcome != exchange.Allowed {
					t.Errorf("%v because of %v", got.Outcome, got.Reasons)
				}
				for _, item := range must[[]exchange.CatalogueItem](t)(w.sites[asker].broker.Catalogue(t.Context())) {
					if item.Holder == holder && len(item.Fields) < 2 {
						t.Error("the catalogue shows the holder's item as another listed it")
					}
				}
			})
		})
	}
}

// TestSharedItem: an item that two departments list can be ruled about by the
// fields of either, whichever comes first.
func TestSharedItem(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		const item = "housing/property-record"
		for dept, fields := range map[exchange.Dept][]exchange.CatalogueField{
			other: {{Name: "area_sqm", Predicates: []string{"area_sqm<=60"}}},
			asker: {{Name: "area_sqm", Sensitive: true, Predicates: []string{"area_sqm<=90"}}, {Name: "status"}},
		} {
			w.publish(dept, ledger.FactChange{Type: ledger.FactCatalogue, Key: string(dept), Action: ledger.Set,
				Content: canon.MustMarshal([]exchange.CatalogueItem{{Item: item, Holder: dept, Fields: fields}})})
		}
		want := []exchange.CatalogueField{{Name: "area_sqm", Sensitive: true, Predicates: []string{"area_sqm<=60", "area_sqm<=90"}}, {Name: "status"}}
		b := w.sites[holder].broker
		for range 2 { // what is cached stays what it was
			w.ok(w.sites[holder].ledger.Read(t.Context(), func(v *ledger.View) error {
				words, err := b.vocabulary(v, holder)
				for _, listed := range words.Items {
					if listed.Item == item && !cmp.Equal(listed.Fields, want) {
						t.Error(cmp.Diff(listed.Fields, want))
					}
				}
				if len(words.Items) != 2 {
					t.Errorf("%d items", len(words.Items))
				}
				return err
			}))
		}
	})
}

// TestIdempotency: one key, one question, one entry, one answer.
func TestIdempotency(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(9)
		results := make(chan result)
		for range 20 {
			go func() {
				answer, err := w.askWith("k", question(id))
				results <- result{answer, err}
			}()
		}
		first := <-results
		for range 19 {
			if r := <-results; r.err != nil || !cmp.Equal(r.answer, first.answer) {
				t.Errorf("%v: %s", r.err, cmp.Diff(r.answer, first.answer))
			}
		}
		w.settled(id, "k")
		w.sites[asker].restart()
		w.sites[holder].restart()
		w.settled(id, "k")

		q := question(id)
		q.Views = q.Views[:1]
		if _, err := w.askWith("k", q); !exchange.Is(err, exchange.Conflict) {
			t.Errorf("the same key for another question: %v", err)
		}
		if _, err := w.sites[asker].broker.Ask(t.Context(), "another system", "k", q); err != nil || w.released(holder) != 2 {
			t.Errorf("another system's key: %v", err)
		}
	})
}

// TestCallerGoesAway: a caller that gives up changes nothing for the record, and
// finds its answer later.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		ctx, cancel := context.WithCancel(t.Context())
		w.sites[holder].once("holder-after-outbox", cancel)
		if got, err := w.sites[asker].broker.Ask(ctx, "counter", "k", question(id)); err == nil && got.Outcome != exchange.Allowed {
			t.Errorf("%v", got.Outcome)
		}
		w.settled(id, "k")
	})
}

// TestExpiredKey: a key that is asked again long after still has its answer, and
// one that never had any is asked anew.
func TestExpiredKey(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		honest := w.ask
		w.ask = func(context.Context, exchange.Dept, exchange.Dept, []byte) ([]byte, error) {
			return nil, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodePeerDown}
		}
		if _, err := w.askWith("k", question(id)); !exchange.Is(err, exchange.Unavailable) {
			t.Fatal(err)
		}
		w.ask = func(ctx context.Context, from, to exchange.Dept, msg []byte) ([]byte, error) {
			if r := must[request](t)(readUnverified(msg)); w.now().Add(clockSkew).After(millis(r.Expires)) {
				t.Error("a request is sent that would expire on its way")
			}
			return honest(ctx, from, to, msg)
		}
		w.advance(requestLife - clockSkew/2)
		w.settled(id, "k")
		w.advance(time.Hour)
		w.settled(id, "k")
	})
}

// TestAcknowledged: what was opened is acknowledged once, per holder, although
// entry ids are unique to their author only.
func TestAcknowledged(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		must[exchange.Answer](t)(w.askWith("k1", question(id)))
		must[exchange.Answer](t)(w.askWith("k2", question(id)))
		b := w.sites[asker].broker
		w.ok(b.cfg.Store.Put(kindAck, bodyKey(other, w.accesses(asker)[0].id), []byte(other)))
		w.setFate(func(exchange.Dept) fate { return refuse })
		if err := b.acknowledge(t.Context()); !exchange.Is(err, exchange.Unavailable) {
			t.Errorf("without a quorum: %v", err)
		}
		w.setFate(nil)
		w.ok(b.acknowledge(t.Context()))
		w.ok(b.acknowledge(t.Context()))
		got := map[exchange.Dept]int{}
		w.delivered()
		l := w.sites[other].ledger
		for i := range l.Size() {
			_, e, err := ledger.DecodeLeaf(must[[]byte](t)(l.Leaf(i)))
			w.ok(err)
			if e.Ack != nil && e.Author == asker {
				got[e.Ack.Holder] += len(e.Ack.Entries)
			}
		}
		if want := map[exchange.Dept]int{holder: 2, other: 1}; !cmp.Equal(got, want) {
			t.Error(cmp.Diff(got, want))
		}
	})
}
