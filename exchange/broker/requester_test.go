package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/policy/authority"
)

// request returns what the asker's node would sign for the question.
func (w *world) request(q exchange.Question) request {
	w.t.Helper()
	a := must[asked](w.t)(w.sites[asker].broker.newRequest(w.t.Context(), q, gm.Digest{}))
	return must[request](w.t)(readUnverified(a.Request))
}

func (w *world) signed(m *member, r request) []byte {
	w.t.Helper()
	return must[[]byte](w.t)(sign(m.keys, domainRequest, r))
}

// denial reads what the holder answered; it fails unless that is a denial which
// the holder signed.
func (w *world) denial(out []byte) response {
	w.t.Helper()
	var r reply
	if err := canon.Unmarshal(out, &r); err != nil {
		w.t.Fatal(err)
	}
	if r.Sealed != nil || r.Denial == nil {
		w.t.Fatal("the reply is not a denial")
	}
	var resp response
	if err := openSigned(w.engine, w.sites[holder].generations()[0].keys.SignPublic(), domainResponse, r.Denial, &resp); err != nil {
		w.t.Fatal(err)
	}
	if resp.Outcome != exchange.Refused || resp.Presentation != nil || len(resp.Reasons) == 0 {
		w.t.Fatalf("the denial says %v", resp.Outcome)
	}
	return resp
}

func codesIn(reasons []exchange.Reason) (codes []exchange.Code) {
	for _, r := range reasons {
		code := r.Code
		if code == exchange.DenyBadMessage {
			code = exchange.Code(r.Detail)
		}
		if !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return codes
}

// TestDishonestRequester sends the holder what a department that does not run
// this program, or runs it against its rules, might send. Each attempt is denied
// and stands on the ledger once; the source is never opened.
func TestDishonestRequester(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	manyViews := func(n int) (views []exchange.View) {
		for i := range n {
			views = append(views, value(exchange.Field(fmt.Sprintf("f%d", i))))
		}
		return views
	}
	for _, test := range []struct {
		name   string
		do     func(w *world, r *request)
		signer exchange.Dept // asker when empty
		from   exchange.Dept // asker when empty
		code   exchange.Code // one that must be among the reasons
	}{
		{"forged signature", func(*world, *request) {}, other, asker, exchange.CodeSignature},
		{"another department's request replayed", func(*world, *request) {}, asker, other, exchange.CodeSignature},
		{"in another's name", func(_ *world, r *request) { r.Requester = other }, "", "", exchange.CodeSignature},
		{"another certificate", func(_ *world, r *request) { r.RequesterCert[0] ^= 1 }, "", "", exchange.CodeSignature},
		{"for another department", func(_ *world, r *request) { r.Holder = other }, "", "", exchange.CodeAudience},
		{"for another certificate of the holder", func(_ *world, r *request) { r.HolderCert[0] ^= 1 }, "", "", exchange.CodeAudience},
		{"for another ledger", func(_ *world, r *request) { r.Origin = "another.example/ledger" }, "", "", exchange.CodeAudience},
		{"unknown suite", func(_ *world, r *request) { r.Suite = "SM-0" }, "", "", exchange.CodeSuite},
		{"no id", func(_ *world, r *request) { r.ID = ledger.ID{} }, "", "", exchange.CodeField},
		{"another epoch's tag", func(_ *world, r *request) { r.Epoch = "2026-08" }, "", "", exchange.CodeField},
		{"expired", func(w *world, r *request) { w.advance(6 * time.Minute) }, "", "", exchange.CodeExpired},
		{"from the future", func(_ *world, r *request) {
			r.Issued += time.Minute.Milliseconds()
		}, "", "", exchange.CodeExpired},
		{"from another month", func(_ *world, r *request) {
			r.Issued -= 60 * 24 * time.Hour.Milliseconds()
			r.Expires, r.Epoch = r.Issued+60_000, ledger.Epoch(millis(r.Issued))
		}, "", "", exchange.CodeExpired},
		{"valid for a day", func(_ *world, r *request) { r.Expires += 24 * time.Hour.Milliseconds() }, "", "", exchange.CodeExpired},
		{"valid for ever by overflow", func(_ *world, r *request) {
			r.Issued = -1 << 63
			r.Expires, r.Epoch = 1<<62, ledger.Epoch(millis(r.Issued))
		}, "", "", exchange.CodeExpired},
		{"expires before it was issued", func(_ *world, r *request) { r.Expires = r.Issued - 1 }, "", "", exchange.CodeExpired},
		{"no view", func(_ *world, r *request) { r.Views = nil }, "", "", exchange.CodeNoViews},
		{"a view twice", func(_ *world, r *request) { r.Views = append(r.Views, r.Views[0]) }, "", "", exchange.CodeField},
		{"too many views", func(_ *world, r *request) { r.Views = manyViews(65) }, "", "", exchange.CodeField},
		{"malformed item", func(_ *world, r *request) { r.Item = "civil" }, "", "", exchange.CodeField},
		{"a subject who could be real", func(_ *world, r *request) {
			r.Subject.ID = r.Subject.ID[:17] + string(exchange.CitizenCheck(r.Subject.ID[:17]))
		}, "", "", exchange.CodeSubject},
		{"a field that is not permitted", func(_ *world, r *request) { r.Views = []exchange.View{value("photo")} }, "", "", exchange.DenyField},
		{"a field beyond the consent", func(_ *world, r *request) { r.Views = []exchange.View{value("registered_on")} }, "", "", exchange.DenyAuthScope},
		{"another item", func(_ *world, r *request) { r.Item = "civil/adoption-record" }, "", "", exchange.DenyUnknownItem},
		{"another purpose", func(_ *world, r *request) { r.Purpose = "social-subsidy" }, "", "", exchange.DenyAuthScope},
		{"another matter", func(_ *world, r *request) { r.Matter = "000714003000" }, "", "", exchange.DenyAuthScope},
		{"no authority", func(_ *world, r *request) { r.Authority = nil }, "", "", exchange.DenyNoAuthority},
		{"an authority that was never registered", func(_ *world, r *request) { r.Authority.Key = "0123456789abcdef0123456789abcdef" }, "", "", exchange.DenyNoAuthority},
		{"an authority record that was edited", func(w *world, r *request) {
			rec := must[authority.Record](w.t)(authority.Decode(r.Authority.Record))
			rec.Use.MaxReads = 9
			r.Authority.Record = must[[]byte](w.t)(rec.Encode())
		}, "", "", exchange.DenyNoAuthority},
		{"another salt", func(_ *world, r *request) { r.Authority.Salt[0] ^= 1 }, "", "", exchange.DenyNoAuthority},
		{"consent about another person", func(_ *world, r *request) { r.Subject = stranger() }, "", "", exchange.DenyAuthScope},
		{"consent for another case", func(w *world, r *request) {
			w.ok(w.sites[asker].broker.openCase(w.t.Context(), "ZJ-2026-0999", holder))
			r.Case.Case = "ZJ-2026-0999"
			w.ok(w.sites[asker].broker.attachCase(r))
		}, "", "", exchange.DenyAuthScope},
		{"no case", func(_ *world, r *request) { r.Case.Key = "" }, "", "", exchange.DenyCase},
		{"a case that does not open its commitment", func(_ *world, r *request) { r.Case.Salt[0] ^= 1 }, "", "", exchange.DenyCase},
		{"another department's case", func(w *world, r *request) {
			b := w.sites[other].broker
			w.ok(b.openCase(w.t.Context(), testCase, holder))
			w.ok(b.attachCase(r))
		}, "", "", exchange.DenyCase},
		{"an invented operator", func(_ *world, r *request) { r.Operator.Operator = "op-9999" }, "", "", exchange.DenyOperator},
		{"a role that the ticket does not give", func(_ *world, r *request) { r.Operator.Role = "reviewer" }, "", "", exchange.DenyOperator},
		{"another department's operator", func(w *world, r *request) {
			r.Operator.Salt = w.members[other].tickets[0].Salt
		}, "", "", exchange.DenyOperator},
		{"a mode that the holder cannot present", func(_ *world, r *request) {
			r.Views = []exchange.View{{Field: "remarks", Mode: exchange.Mask}}
		}, "", "", exchange.DenyAuthScope},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				r := w.request(question(w.consent(5)))
				test.do(w, &r)
				signer, from := test.signer, test.from
				if signer == "" {
					signer = asker
				}
				if from == "" {
					from = asker
				}
				msg := w.signed(w.members[signer], r)
				resp := w.denial(must[[]byte](t)(w.sites[holder].broker.Answer(t.Context(), from, msg)))
				if got := codesIn(resp.Reasons); !slices.Contains(got, test.code) {
					t.Errorf("denied because of %v, want %s", got, test.code)
				}
				// The same bytes again: the same denial, and no second entry.
				again := w.denial(must[[]byte](t)(w.sites[holder].broker.Answer(t.Context(), from, msg)))
				all := w.accesses(holder)
				if len(all) != 1 || all[0].result != ledger.Committed || all[0].Outcome != exchange.Refused || all[0].Requester != from || again.Entry != all[0].id {
					t.Errorf("the ledger holds %+v", all)
				}
				if n := w.sites[holder].source.opened(); n > 0 {
					t.Errorf("the source was opened %d times", n)
				}
			})
		})
	}
}

// TestTagOracle: a department learns no tag of another epoch by asking for it.
func TestTagOracle(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		r := w.request(question(""))
		r.Issued -= 60 * 24 * time.Hour.Milliseconds()
		r.Expires, r.Epoch = r.Issued+60_000, ledger.Epoch(millis(r.Issued))
		must[[]byte](t)(w.sites[holder].broker.Answer(t.Context(), asker, w.signed(w.members[asker], r)))
		got := w.accesses(holder)[0]
		if got.HolderTag != (ledger.Tag{}) || got.Epoch != ledger.Epoch(w.now()) {
			t.Errorf("the entry has the holder's tag of epoch %s", got.Epoch)
		}
	})
}

// TestMalformed: bytes that are no request at all are denied, and recorded.
func TestMalformed(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for name, msg := range map[string][]byte{"empty": {}, "text": []byte("marriage record, please"), "null": {0xf6},
		"large": make([]byte, 200<<10)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				w.denial(must[[]byte](t)(w.sites[holder].broker.Answer(t.Context(), asker, msg)))
				if all := w.accesses(asker); len(all) != 1 || all[0].Outcome != exchange.Refused {
					t.Errorf("the ledger holds %d accesses", len(all))
				}
			})
		})
	}
	t.Run("truncated", func(t *testing.T) {
		t.Parallel()
		c.play(t, func(t *testing.T, w *world) {
			msg := w.signed(w.members[asker], w.request(question("")))
			for _, n := range []int{1, len(msg) / 2, len(msg) - 1} {
				w.denial(must[[]byte](t)(w.sites[holder].broker.Answer(t.Context(), asker, msg[:n])))
			}
			if all := w.accesses(holder); len(all) != 3 {
				t.Errorf("three attempts, %d entries", len(all))
			}
		})
	})
}

// TestSameIDOtherBytes: a request's id stands for one request.
func TestSameIDOtherBytes(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		r := w.request(question(w.consent(5)))
		must[[]byte](t)(w.sites[holder].broker.Answer(t.Context(), asker, w.signed(w.members[asker], r)))
		r.Views = r.Views[:1]
		_, err := w.sites[holder].broker.Answer(t.Context(), asker, w.signed(w.members[asker], r))
		if !exchange.Is(err, exchange.Conflict) {
			t.Errorf("the second request gets %v", err)
		}
		if n := w.released(holder); n != 1 {
			t.Errorf("%d answers were released", n)
		}
	})
}

// TestQuota: a consent is read as often as it says, over all requests at once.
func TestQuota(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(2)
		type result struct {
			answer exchange.Answer
			err    error
		}
		results := make(chan result)
		const asking = 6
		for i := range asking {
			go func() {
				answer, err := w.askWith(fmt.Sprint("k", i), question(id))
				results <- result{answer, err}
			}()
		}
		got := map[exchange.Outcome]int{}
		for range asking {
			r := <-results
			if r.err != nil {
				t.Error(r.err)
			}
			got[r.answer.Outcome]++
			if r.answer.Outcome == exchange.Refused && !slices.Contains(codesIn(r.answer.Reasons), exchange.DenyExhausted) {
				t.Errorf("denied because of %v", r.answer.Reasons)
			}
		}
		if want := map[exchange.Outcome]int{exchange.Allowed: 2, exchange.Refused: 4}; !cmp.Equal(got, want) || w.released(holder) != 2 {
			t.Errorf("outcomes %v, want %v", got, want)
		}
	})
}

// TestRecordUnderTwoKeys: one authority record stands for one quota, however
// often its grantee puts it on the ledger.
func TestRecordUnderTwoKeys(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		b := w.sites[asker].broker
		r := w.request(question(w.consent(1)))
		rec := must[authority.Record](t)(authority.Decode(r.Authority.Record))
		r.Authority.Key = must[ledger.ID](t)(ledger.NewID()).String()
		entry := must[ledger.Entry](t)(b.factEntry(ledger.FactChange{Type: ledger.FactAuthority, Key: r.Authority.Key, Action: ledger.Set,
			Provider: holder, Grantee: asker, NotBefore: rec.NotBefore, NotAfter: rec.NotAfter, MaxReads: rec.Use.MaxReads,
			Commitment: must[gm.Digest](t)(rec.Commitment(w.engine, r.Authority.Salt[:]))}))
		if err := b.append(t.Context(), "test", entry); err != nil {
			t.Fatal(err)
		}
		resp := w.denial(must[[]byte](t)(w.sites[holder].broker.Answer(t.Context(), asker, w.signed(w.members[asker], r))))
		if !slices.Contains(codesIn(resp.Reasons), exchange.DenyNoAuthority) {
			t.Errorf("denied because of %v", resp.Reasons)
		}
	})
}

// TestDenialTellsNothing: whether the holder has a record changes no denial.
func TestDenialTellsNothing(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	for name, ask := range map[string]func(w *world, s exchange.Subject) exchange.Question{
		"no consent": func(_ *world, s exchange.Subject) exchange.Question {
			q := question("")
			q.Subject = s
			return q
		},
		"another's consent": func(w *world, s exchange.Subject) exchange.Question {
			form := w.form(3)
			form.Subject = person("99010119700101003")
			q := question(must[exchange.AuthorityInfo](w.t)(w.sites[asker].broker.Register(w.t.Context(), "counter", "c", form)).ID)
			q.Subject = s
			return q
		},
		"a field too many": func(w *world, s exchange.Subject) exchange.Question {
			q := question("")
			q.Subject, q.Views = s, append(q.Views, value("photo"))
			return q
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.play(t, func(t *testing.T, w *world) {
				known := must[exchange.Answer](t)(w.askWith("known", ask(w, wife())))
				unknown := must[exchange.Answer](t)(w.askWith("unknown", ask(w, stranger())))
				if known.Outcome != exchange.Refused || unknown.Outcome != exchange.Refused || !cmp.Equal(known.Reasons, unknown.Reasons) {
					t.Error(cmp.Diff(known.Reasons, unknown.Reasons))
				}
				if all := w.accesses(holder); all[0].Size != all[1].Size || w.sites[holder].source.opened() > 0 {
					t.Error("the ledger or the source tells them apart")
				}
			})
		})
	}
}
