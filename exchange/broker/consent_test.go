package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/policy"
)

// pairFacts counts the cases and authorities on the ledger that are in force.
func (w *world) pairFacts() (cases, authorities int) {
	w.t.Helper()
	w.delivered()
	w.ok(w.sites[other].ledger.Read(w.t.Context(), func(v *ledger.View) error {
		cases, authorities = len(v.Pair(ledger.FactCase, holder, asker)), len(v.Pair(ledger.FactAuthority, holder, asker))
		return nil
	}))
	return cases, authorities
}

// TestRegisterFaults fails or stops a registration at each step. The same key
// comes to one consent and one open case, and another key never to a second case.
func TestRegisterFaults(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	nth := func(n int, done bool) func(w *world) {
		return func(w *world) {
			puts := 0
			w.sites[asker].store.setFault(func(string) (bool, bool) { puts++; return puts == n, done })
		}
	}
	proposals := func(n int, f fate) func(w *world) {
		return func(w *world) {
			i := 0
			w.setFate(func(exchange.Dept) fate {
				if i++; i >= n {
					return f
				}
				return deliver
			})
		}
	}
	tests := map[string]func(w *world){
		"stopped before the append": func(w *world) {
			w.sites[asker].once("register-before-append", func() { panic(errDisk) })
		},
		"no quorum for the case":                proposals(1, refuse),
		"no quorum for the consent":             proposals(2, refuse),
		"silence about the case":                proposals(1, drop),
		"silence about the consent":             proposals(2, drop),
		"the case is committed without answer":  proposals(1, lose),
		"the replica lags behind the case":      func(w *world) { w.hold(asker, true) },
		"the replica lags and answers are lost": func(w *world) { w.hold(asker, true); proposals(1, lose)(w) },
	}
	for n := 1; n <= 3; n++ {
		for _, done := range []bool{false, true} {
			tests[fmt.Sprintf("write %d fails, done=%v", n, done)] = nth(n, done)
		}
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				do(w)
				func() {
					defer func() {
						if r := recover(); r != nil && r != error(errDisk) {
							t.Errorf("stopped at %v", r)
						}
					}()
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					_, _ = w.sites[asker].broker.Register(ctx, "counter", "c", w.form(5)) // its outcome is the next one's
				}()
				w.setFate(nil)
				w.sites[asker].store.setFault(nil)
				w.sites[asker].restart()
				w.deliverLate()
				w.hold(asker, false)
				info := must[exchange.AuthorityInfo](t)(w.sites[asker].broker.Register(t.Context(), "counter", "c", w.form(5)))
				again := must[exchange.AuthorityInfo](t)(w.sites[asker].broker.Register(t.Context(), "counter", "c", w.form(5)))
				if info.State != string(policy.StateActive) || info.ID != again.ID {
					t.Errorf("%s is %s, then %s", info.ID, info.State, again.ID)
				}
				if cases, authorities := w.pairFacts(); cases != 1 || authorities != 1 {
					t.Errorf("%d cases and %d consents", cases, authorities)
				}
				w.settled(info.ID, "k")
				must[exchange.AuthorityInfo](t)(w.sites[asker].broker.Register(t.Context(), "counter", "d", w.form(5)))
				if cases, authorities := w.pairFacts(); cases != 1 || authorities != 2 {
					t.Errorf("after a second consent: %d cases and %d consents", cases, authorities)
				}
			})
		})
	}
}

// TestRegisterBehind: a registration that is tried again while the replica has
// not seen yet what the first try brought about appends the same, not the like.
func TestRegisterBehind(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		w.hold(asker, true)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		b := w.sites[asker].broker
		if _, err := b.Register(ctx, "counter", "c", w.form(5)); !exchange.Is(err, exchange.Undetermined) {
			t.Fatalf("%v", err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := b.Register(t.Context(), "counter", "c", w.form(5))
			done <- err
		}()
		synctest.Wait()
		w.hold(asker, false)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if cases, authorities := w.pairFacts(); cases != 1 || authorities != 1 {
			t.Errorf("%d cases and %d consents", cases, authorities)
		}
	})
}

// TestRegisterRefuses what must not come onto the ledger.
func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for _, test := range []struct {
		name string
		do   func(f *exchange.ConsentForm)
		kind exchange.Kind
	}{
		{"a provider that is no member", func(f *exchange.ConsentForm) { f.Provider = "nobody" }, exchange.NotFound},
		{"the authority as provider", func(f *exchange.ConsentForm) { f.Provider = exchange.Authority }, exchange.NotFound},
		{"oneself as provider", func(f *exchange.ConsentForm) { f.Provider = asker }, exchange.Invalid},
		{"a malformed provider", func(f *exchange.ConsentForm) { f.Provider = "x y" }, exchange.NotFound},
		{"a subject who could be real", func(f *exchange.ConsentForm) {
			f.Subject.ID = f.Subject.ID[:17] + string(exchange.CitizenCheck(f.Subject.ID[:17]))
		}, exchange.Invalid},
		{"no end", func(f *exchange.ConsentForm) { f.NotAfter = time.Time{} }, exchange.Invalid},
		{"ended", func(f *exchange.ConsentForm) { f.NotAfter = f.NotAfter.Add(-100 * time.Hour) }, exchange.Invalid},
		{"for longer than a window may give", func(f *exchange.ConsentForm) { f.NotAfter = f.NotAfter.Add(60 * 24 * time.Hour) }, exchange.Invalid},
		{"unlimited reads", func(f *exchange.ConsentForm) { f.MaxReads = 0 }, exchange.Invalid},
		{"one officer", func(f *exchange.ConsentForm) { f.Officers = f.Officers[:1] }, exchange.Invalid},
		{"the same officer twice", func(f *exchange.ConsentForm) { f.Officers[1] = f.Officers[0] }, exchange.Invalid},
		{"no evidence", func(f *exchange.ConsentForm) { f.Evidence = nil }, exchange.Invalid},
		{"no notice", func(f *exchange.ConsentForm) { f.Notice = exchange.Notice{} }, exchange.Invalid},
		{"no field", func(f *exchange.ConsentForm) { f.Views = nil }, exchange.Invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				size := w.sites[asker].ledger.Size()
				f := w.form(5)
				test.do(&f)
				if _, err := w.sites[asker].broker.Register(t.Context(), "counter", "c", f); !exchange.Is(err, test.kind) {
					t.Errorf("%v", err)
				}
				if now := w.sites[asker].ledger.Size(); now != size {
					t.Errorf("%d entries came onto the ledger", now-size)
				}
			})
		})
	}
}

// TestRegisterConflict: one key stands for one form.
func TestRegisterConflict(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		b := w.sites[asker].broker
		must[exchange.AuthorityInfo](t)(b.Register(t.Context(), "counter", "c", w.form(5)))
		if _, err := b.Register(t.Context(), "counter", "c", w.form(6)); !exchange.Is(err, exchange.Conflict) {
			t.Errorf("%v", err)
		}
	})
}

// TestStrangerWithdraws: a department that is no party cannot see the consent
// through its node, and the ledger refuses its entry when it goes round that.
func TestStrangerWithdraws(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		b := w.sites[other].broker
		if _, err := b.Withdraw(t.Context(), "counter", id, "spite"); !exchange.Is(err, exchange.NotFound) {
			t.Errorf("%v", err)
		}
		for _, change := range []ledger.FactChange{
			{Type: ledger.FactAuthority, Key: id, Action: ledger.Withdraw, Provider: holder, Grantee: asker},
			{Type: ledger.FactAuthority, Key: id, Action: ledger.Withdraw, Provider: holder, Grantee: other},
			{Type: ledger.FactAuthority, Key: id, Action: ledger.Set, Provider: holder, Grantee: other, MaxReads: 1},
		} {
			entry := must[ledger.Entry](t)(b.factEntry(change))
			if placed := must[ledger.Placed](t)(w.sites[other].ledger.Append(t.Context(), entry)); placed.Result != ledger.Rejected {
				t.Errorf("the ledger took it as %s", placed.Result)
			}
		}
		w.settled(id, "k")
	})
}

// TestWithdrawFaults: however often a withdrawal is tried, the consent ends once
// and never comes back.
func TestWithdrawFaults(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for name, f := range map[string]fate{"no quorum": refuse, "silence": drop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				id := w.consent(5)
				w.setFate(func(exchange.Dept) fate { return f })
				if info, err := w.sites[asker].broker.Withdraw(t.Context(), "counter", id, "x"); err == nil || info.State == string(policy.StateWithdrawn) {
					t.Errorf("acknowledged as %s, %v", info.State, err)
				}
				w.setFate(nil)
				w.sites[asker].restart()
				w.withdrawBy(asker, id)
				w.deliverLate()
				w.withdrawBy(asker, id)
				w.withdrawBy(holder, id)
				if got := must[exchange.Answer](t)(w.askWith("k", question(id))); got.Outcome != exchange.Refused {
					t.Errorf("%v", got.Outcome)
				}
			})
		})
	}
	t.Run("expelled", func(t *testing.T) {
		t.Parallel()
		c.play(t, func(t *testing.T, w *world) {
			id := w.consent(5)
			w.decree(ledger.FactChange{Type: ledger.FactMember, Key: string(asker), Action: ledger.Withdraw})
			info, err := w.sites[asker].broker.Withdraw(t.Context(), "counter", id, "x")
			if !exchange.Is(err, exchange.Conflict) {
				t.Errorf("a withdrawal that the ledger refused is acknowledged: %s, %v", info.State, err)
			}
		})
	})
}

// TestNoPersonalData runs through exchanges of every kind and looks for what
// they were about wherever it must not be.
func TestNoPersonalData(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		ctx, b, h := t.Context(), w.sites[asker].broker, w.sites[holder]
		var failures []error
		keep := func(_ any, err error) { failures = append(failures, err) }
		id := w.consent(4)
		first := must[exchange.Answer](t)(w.askWith("k1", question(id)))
		q := question(id)
		q.Subject = stranger()
		keep(w.askWith("k2", q))
		keep(w.askWith("k2", question(id))) // conflict
		q.Subject.ID = wife().ID[:17] + string(exchange.CitizenCheck(wife().ID[:17]))
		keep(w.askWith("k3", q))
		keep(b.Register(ctx, "counter", "c", exchange.ConsentForm{Provider: holder, Subject: wife(), Case: testCase}))
		h.source.fail = errors.New("disk")
		keep(w.askWith("k4", question(id)))
		h.source.fail = nil
		h.source.put(wife(), w.issue(t, stranger(), marriage))
		keep(w.askWith("k5", question(id)))
		w.ask = func(ctx context.Context, _, _ exchange.Dept, msg []byte) ([]byte, error) {
			return lie{body: func(b *ledger.Body) { b.Operator = reviewer }}.answer(ctx, w, msg)
		}
		keep(w.askWith("k6", question(id)))
		w.withdrawBy(asker, id)
		keep(b.Answered(ctx, "counter", first.ID))
		keep(h.broker.Answer(ctx, asker, []byte(wife().ID)))
		w.ok(b.acknowledge(ctx))

		secrets := []string{wife().ID, stranger().ID, wife().ID[:17], spouseName, string(testCase), string(handler), string(reviewer), "changed my mind"}
		look := func(where string, content []byte) {
			for i, s := range secrets {
				if bytes.Contains(content, []byte(s)) {
					t.Errorf("%s holds secret %d", where, i)
				}
			}
		}
		for i, err := range failures {
			if err != nil {
				look(fmt.Sprintf("error %d", i), []byte(fmt.Sprintf("%v %+v %#v", err, err, exchange.AsError(err).Msg)))
			}
		}
		if n := len(slices.DeleteFunc(failures, func(err error) bool { return err == nil })); n < 5 {
			t.Errorf("only %d failures were looked at", n)
		}
		look("the log", []byte(w.logs.String()))
		if !strings.Contains(w.logs.String(), "authority withdrawn") {
			t.Error("the log was not captured")
		}
		w.delivered()
		l := w.sites[other].ledger
		for i := range l.Size() {
			look(fmt.Sprintf("leaf %d", i), must[[]byte](t)(l.Leaf(i)))
		}
		rows := 0
		for _, dept := range w.order {
			for kind, list := range w.sites[dept].store.rows {
				for key, v := range list {
					rows++
					look(string(dept)+"'s "+kind, append([]byte(key), v...))
				}
			}
		}
		if rows < 10 {
			t.Errorf("only %d rows were looked at", rows)
		}
	})
}
