package broker

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
	"xinqiao/ledger"
)

// TestExchange is one exchange without a mishap, and the same for a person who
// is on no record.
func TestExchange(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		got := must[exchange.Answer](t)(w.askWith("k1", question(id)))
		want := []exchange.Disclosed{{View: value("marital_status"), Value: "married"}, {View: value("spouse_name"), Value: spouseName}}
		if got.Outcome != exchange.Allowed || !cmp.Equal(got.Fields, want) || len(got.Reasons) > 0 || got.Retain != "P30D" {
			t.Fatalf("answer is %v with %d fields and %v %s", got.Outcome, len(got.Fields), got.Reasons, w.logs)
		}
		all := w.accesses(other)
		if len(all) != 1 || all[0].result != ledger.Committed || all[0].id.String() != got.Receipt.Entry {
			t.Fatalf("the ledger holds %d accesses", len(all))
		}
		again := must[exchange.Answer](t)(w.sites[asker].broker.Answered(t.Context(), "counter", got.ID))
		if !cmp.Equal(again, got) {
			t.Fatal(cmp.Diff(again, got))
		}
		if _, err := w.sites[asker].broker.Answered(t.Context(), "another system", got.ID); !exchange.Is(err, exchange.NotFound) {
			t.Fatalf("another system's answer: %v", err)
		}
	})
}
