package node_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
	"xinqiao/exchange/client"
	"xinqiao/exchange/demo"
)

// twoFieldsAndNoMore looks at the raw body: what was asked for is in it, and of
// the record's other values nothing is, wherever a mistake could have put it.
func twoFieldsAndNoMore(t *testing.T, n *network) {
	c := n.consent(t, form(demo.Wife(), "ZJ-TWO", 5))
	status, body := n.call(t, demo.Zhujian, "POST", "/api/v1/exchanges", client.NewKey(), inJSON(t, question(demo.Wife(), "ZJ-TWO", c.ID)))
	if status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	var got struct {
		Outcome string
		Fields  []map[string]string
		Receipt exchange.Receipt
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	rec := recordOf(t, demo.Minzheng, demo.MarriageRecord, demo.Wife())
	want := []map[string]string{{"field": "marital_status", "mode": "value", "value": rec.Value("marital_status")},
		{"field": "spouse_name", "mode": "value", "value": demo.HusbandName}}
	if diff := cmp.Diff(want, got.Fields); diff != "" || got.Outcome != "allowed" {
		t.Errorf("outcome %q, fields (-want +got):\n%s", got.Outcome, diff)
	}
	others := 0
	for _, f := range rec.Fields {
		if f.Value == "" || f.Field == "marital_status" || f.Field == "spouse_name" {
			continue
		}
		others++
		if bytes.Contains(body, []byte(f.Value)) {
			t.Errorf("the response holds the value of %s, which nobody asked for", f.Field)
		}
	}
	if others < 8 {
		t.Errorf("only %d other values were looked for: the record has changed", others)
	}
	for _, dept := range n.all() {
		var row exchange.LedgerRow
		eventually(t, "the entry reaches "+string(dept), func() bool {
			var err error
			row, err = n.sdk[dept].Row(t.Context(), got.Receipt.Index)
			return err == nil
		})
		party := dept == demo.Minzheng || dept == demo.Zhujian
		if row.Leaf != got.Receipt.LeafHash || row.Entry != got.Receipt.Entry || row.Outcome != exchange.Allowed {
			t.Errorf("%s has another entry at %d", dept, got.Receipt.Index)
		}
		if row.Open != party || (row.Case != "") != party || (row.Operator != "") != party || (len(row.Views) > 0) != party {
			t.Errorf("%s, party %t, reads open=%t case=%q operator=%q", dept, party, row.Open, row.Case, row.Operator)
		}
	}
}

func noRecordIsAnAnswer(t *testing.T, n *network) {
	c := n.consent(t, form(demo.Unmarried(), "ZJ-NONE", 2))
	a := n.ask(t, demo.Zhujian, question(demo.Unmarried(), "ZJ-NONE", c.ID))
	if a.Outcome != exchange.NoRecord || len(a.Fields) != 0 || a.AsOf.IsZero() || a.Receipt.Entry == "" {
		t.Errorf("outcome %s with %d fields as of %s", a.Outcome, len(a.Fields), a.AsOf)
	}
	if rows := n.accesses(t, demo.Minzheng, "ZJ-NONE"); len(rows) != 1 || rows[0].Outcome != exchange.NoRecord {
		t.Errorf("the ledger has %d accesses", len(rows))
	}
}

// denials each ask one thing wrong under an otherwise good consent. Each is an
// answer, gives nothing, and stands on the ledger with its reason for the
// parties.
func denials(t *testing.T, n *network) {
	f := form(demo.Wife(), "ZJ-DENY", 10)
	f.Views = append(f.Views, exchange.ItemView{Item: demo.MarriageRecord, View: exchange.View{Field: "spouse_id_no", Mode: exchange.Compare}})
	c := n.consent(t, f)
	n.consent(t, form(demo.Wife(), "ZJ-DENY-OTHER", 1)) // opens that case too
	for _, d := range []struct {
		name   string
		from   exchange.Dept
		change func(*exchange.Question)
		code   exchange.Code
	}{
		{"no consent", demo.Zhujian, func(q *exchange.Question) { q.Authority = "" }, exchange.DenyNoAuthority},
		{"no such consent", demo.Zhujian, func(q *exchange.Question) { q.Authority = strings.Repeat("0f", 16) }, exchange.DenyNoAuthority},
		{"purpose", demo.Zhujian, func(q *exchange.Question) { q.Purpose = "social-subsidy" }, exchange.DenyPurpose},
		{"matter", demo.Zhujian, func(q *exchange.Question) { q.Matter = "000714003000" }, exchange.DenyMatter},
		{"field beyond the consent", demo.Zhujian, func(q *exchange.Question) { q.Views = append(q.Views, value("registered_on")) }, exchange.DenyAuthScope},
		{"field beyond the rule", demo.Zhujian, func(q *exchange.Question) { q.Views = append(q.Views, value("certificate_no")) }, exchange.DenyField},
		{"photo", demo.Zhujian, func(q *exchange.Question) { q.Views = []exchange.View{value("photo")} }, exchange.DenyBaseline},
		{"identity number in clear", demo.Zhujian, func(q *exchange.Question) { q.Views = []exchange.View{value("spouse_id_no")} }, exchange.DenyBaseline},
		{"mode that is not there yet", demo.Zhujian, func(q *exchange.Question) {
			q.Views = []exchange.View{{Field: "spouse_id_no", Mode: exchange.Compare}}
		}, exchange.DenyField},
		{"role", demo.Zhujian, func(q *exchange.Question) { q.Operator = reviewer }, exchange.DenyOperator},
		{"operator", demo.Zhujian, func(q *exchange.Question) { q.Operator = "op-6666" }, exchange.DenyOperator},
		{"another open case", demo.Zhujian, func(q *exchange.Question) { q.Case = "ZJ-DENY-OTHER" }, exchange.DenyAuthScope},
		{"case never opened", demo.Zhujian, func(q *exchange.Question) { q.Case = "ZJ-DENY-NEVER" }, exchange.DenyCase},
		{"another subject", demo.Zhujian, func(q *exchange.Question) { q.Subject = demo.Elder() }, exchange.DenyAuthScope},
		{"another holder's item", demo.Zhujian, func(q *exchange.Question) {
			q.Holder, q.Item, q.Views = demo.Gongan, demo.HouseholdRecord, []exchange.View{value("name")}
		}, exchange.DenyAuthScope},
		{"no rule for the department", demo.Weijian, func(*exchange.Question) {}, exchange.DenyNoRule},
		{"another's consent", demo.Renshe, func(*exchange.Question) {}, exchange.DenyNoAuthority},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			q := question(demo.Wife(), "ZJ-DENY", c.ID)
			d.change(&q)
			a := n.ask(t, d.from, q)
			if a.Outcome != exchange.Refused || !has(a.Reasons, d.code) || len(a.Fields) != 0 {
				t.Fatalf("outcome %s with %d fields for %v, want denied for %s", a.Outcome, len(a.Fields), a.Reasons, d.code)
			}
			row, err := n.sdk[q.Holder].Row(t.Context(), a.Receipt.Index)
			if err != nil {
				t.Fatal(err)
			}
			if row.Entry != a.Receipt.Entry || row.Outcome != exchange.Refused || row.Requester != d.from || !has(row.Reasons, d.code) {
				t.Errorf("the holder's ledger says %s of %s for %v", row.Outcome, row.Requester, row.Reasons)
			}
		})
	}
}

// withdrawnAtEitherSide: the consent ends where its subject is, and with it
// both what is asked anew and what was answered already.
func withdrawnAtEitherSide(t *testing.T, n *network) {
	for _, at := range []exchange.Dept{demo.Minzheng, demo.Zhujian} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			number := exchange.Case("ZJ-GONE-" + string(at))
			c := n.consent(t, form(demo.Wife(), number, 5))
			key, q := client.NewKey(), question(demo.Wife(), number, c.ID)
			a, err := n.sdk[demo.Zhujian].Ask(t.Context(), key, q)
			if err != nil || a.Outcome != exchange.Allowed {
				t.Fatalf("before: %s, %v", a.Outcome, err)
			}
			if again, err := n.sdk[demo.Zhujian].Answer(t.Context(), a.ID); err != nil || cmp.Diff(a, again) != "" {
				t.Fatalf("read again: %v %s", err, cmp.Diff(a, again))
			}
			gone, err := n.sdk[at].Withdraw(t.Context(), c.ID, "withdrawn_by_subject")
			if err != nil || gone.State != "withdrawn" {
				t.Fatalf("withdraw: %s, %v", gone.State, err)
			}
			after := n.ask(t, demo.Zhujian, q)
			if after.Outcome != exchange.Refused || !has(after.Reasons, exchange.DenyWithdrawn) || after.Receipt.Index < gone.Receipt.Index {
				t.Errorf("after the withdrawal at %d: %s for %v at %d", gone.Receipt.Index, after.Outcome, after.Reasons, after.Receipt.Index)
			}
			refused := func(how string, got exchange.Answer, err error) {
				if e := exchange.AsError(err); err == nil || e.Kind != exchange.Denied || e.Code != exchange.DenyWithdrawn || len(got.Fields) != 0 {
					t.Errorf("%s after the withdrawal: %d fields, %v", how, len(got.Fields), err)
				}
			}
			got, err := n.sdk[demo.Zhujian].Answer(t.Context(), a.ID)
			refused("reading the answer", got, err)
			got, err = n.sdk[demo.Zhujian].Ask(t.Context(), key, q)
			refused("the same key", got, err)
			if twice, err := n.sdk[at].Withdraw(t.Context(), c.ID, "withdrawn_by_subject"); err != nil || twice.Receipt != gone.Receipt {
				t.Errorf("withdrawn again: %v", err)
			}
			if _, err := n.sdk[demo.Weijian].Withdraw(t.Context(), c.ID, "withdrawn_by_subject"); !exchange.Is(err, exchange.NotFound) {
				t.Errorf("a department that is no party: %v", err)
			}
		})
	}
}

// readsAreExact asks 20 times at once under a consent for three.
func readsAreExact(t *testing.T, n *network) {
	const reads, asks = 3, 20
	c := n.consent(t, form(demo.Wife(), "ZJ-READS", reads))
	answers := together(asks, func(int) (exchange.Answer, error) {
		return n.sdk[demo.Zhujian].Ask(t.Context(), client.NewKey(), question(demo.Wife(), "ZJ-READS", c.ID))
	})
	allowed := 0
	for _, a := range answers {
		switch {
		case a.err != nil:
			t.Errorf("ask: %v", a.err)
		case a.Outcome == exchange.Allowed:
			allowed++
		case !has(a.Reasons, exchange.DenyExhausted):
			t.Errorf("outcome %s for %v", a.Outcome, a.Reasons)
		}
	}
	committed := 0
	for _, r := range n.accesses(t, demo.Minzheng, "ZJ-READS") {
		if r.Outcome == exchange.Allowed && r.Result == "committed" {
			committed++
		}
	}
	info, err := n.sdk[demo.Minzheng].Authority(t.Context(), c.ID)
	if allowed != reads || committed != reads || err != nil || info.Reads != reads || info.State != "exhausted" {
		t.Errorf("%d answers and %d entries for %d reads; the record counts %d and is %s, %v", allowed, committed, reads, info.Reads, info.State, err)
	}
}

// oneKeyOneEntry: a system that asks again, at once or later, gets the one
// answer and uses one read.
func oneKeyOneEntry(t *testing.T, n *network) {
	c := n.consent(t, form(demo.Wife(), "ZJ-KEY", 9))
	key, q := client.NewKey(), question(demo.Wife(), "ZJ-KEY", c.ID)
	answers := together(12, func(int) (exchange.Answer, error) { return n.sdk[demo.Zhujian].Ask(t.Context(), key, q) })
	for i, a := range answers {
		if a.err != nil || a.Outcome != exchange.Allowed || cmp.Diff(answers[0].Answer, a.Answer) != "" {
			t.Errorf("answer %d: %v\n%s", i, a.err, cmp.Diff(answers[0].Answer, a.Answer))
		}
	}
	if rows := n.accesses(t, demo.Minzheng, "ZJ-KEY"); len(rows) != 1 {
		t.Errorf("the ledger has %d accesses of one question", len(rows))
	}
	if info, err := n.sdk[demo.Zhujian].Authority(t.Context(), c.ID); err != nil || info.Reads != 1 {
		t.Errorf("%d reads counted, %v", info.Reads, err)
	}
	for name, change := range map[string]func(*exchange.Question){
		"subject": func(q *exchange.Question) { q.Subject = demo.Husband() },
		"fields":  func(q *exchange.Question) { q.Views = q.Views[:1] },
		"order":   func(q *exchange.Question) { q.Views = []exchange.View{q.Views[1], q.Views[0]} },
	} {
		other := q
		other.Views = slices.Clone(q.Views)
		change(&other)
		if _, err := n.sdk[demo.Zhujian].Ask(t.Context(), key, other); exchange.AsError(err).Code != exchange.CodeConflict {
			t.Errorf("the key with another %s: %v", name, err)
		}
	}
	same := form(demo.Wife(), "ZJ-KEY-FORM", 1)
	forms := together(6, func(int) (exchange.Answer, error) {
		info, err := n.sdk[demo.Zhujian].Register(t.Context(), "form-"+key, same)
		return exchange.Answer{ID: info.ID}, err
	})
	for _, f := range forms {
		if f.err != nil || f.ID != forms[0].ID {
			t.Errorf("one registration, sent often: %v", f.err)
		}
	}
	same.MaxReads = 2
	if _, err := n.sdk[demo.Zhujian].Register(t.Context(), "form-"+key, same); exchange.AsError(err).Code != exchange.CodeConflict {
		t.Errorf("the key with another form: %v", err)
	}
}

// withdrawalRacesWithReads: whatever the order in which they arrive, nothing
// that rests on a consent is committed after its withdrawal.
func withdrawalRacesWithReads(t *testing.T, n *network) {
	for round := range 4 {
		number := exchange.Case(fmt.Sprintf("ZJ-RACE-%d", round))
		c := n.consent(t, form(demo.Wife(), number, 10))
		at := []exchange.Dept{demo.Minzheng, demo.Zhujian}[round%2]
		var gone exchange.AuthorityInfo
		answers := together(9, func(i int) (exchange.Answer, error) {
			if i == 4 {
				var err error
				gone, err = n.sdk[at].Withdraw(t.Context(), c.ID, "withdrawn_by_subject")
				return exchange.Answer{Outcome: exchange.Refused}, err
			}
			return n.sdk[demo.Zhujian].Ask(t.Context(), client.NewKey(), question(demo.Wife(), number, c.ID))
		})
		given := map[string]bool{}
		for _, a := range answers {
			// An answer that was given and withdrawn before it was read may come as a refusal.
			if a.err != nil && !exchange.Is(a.err, exchange.Denied) {
				t.Errorf("%v", a.err)
			}
			if a.Outcome == exchange.Allowed {
				given[a.Receipt.Entry] = true
				if a.Receipt.Index > gone.Receipt.Index {
					t.Errorf("allowed at %d, withdrawn at %d", a.Receipt.Index, gone.Receipt.Index)
				}
			}
		}
		for _, r := range n.accesses(t, demo.Minzheng, number) {
			if r.Outcome == exchange.Allowed && r.Result == "committed" && r.Index > gone.Receipt.Index {
				t.Errorf("entry %d allows what was withdrawn at %d", r.Index, gone.Receipt.Index)
			}
			if given[r.Entry] && (r.Outcome != exchange.Allowed || r.Result != "committed") {
				t.Errorf("an answer was given on entry %d, which is %s and %s", r.Index, r.Outcome, r.Result)
			}
			delete(given, r.Entry)
		}
		if len(given) > 0 {
			t.Errorf("%d answers have no entry", len(given))
		}
	}
}

type ended struct {
	exchange.Answer
	err error
}

// together runs f n times at once.
func together(n int, f func(i int) (exchange.Answer, error)) []ended {
	results := make([]ended, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { results[i].Answer, results[i].err = f(i) })
	}
	wg.Wait()
	return results
}
