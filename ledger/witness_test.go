package ledger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"xinqiao/exchange"
)

// TestWitnessLags: a member that does not cosign is neither caught up nor, after a
// minute of checkpoints without it, in order; a ledger at rest accuses nobody.
func TestWitnessLags(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.leader()
		via := &witnesses{world: w, dead: map[exchange.Dept]bool{"renshe": true}}
		write := func(name string) {
			t.Helper()
			if _, err := n.Append(t.Context(), ackEntry(n.dept, label(name), "zhujian")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second) // of the bubble's time: the checkpoint over it
		}
		is := func(when string, lagging ...exchange.Dept) {
			t.Helper()
			if diff := cmp.Diff(lagging, n.Stats().Lagging, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: lagging:\n%s", when, diff)
			}
		}
		w.publishing(t, via, func() {
			write("a")
			is("at first")
			if n.CaughtUp("renshe") || !n.CaughtUp("zhujian") || n.CaughtUp("nobody") {
				t.Error("renshe has not shown what it has, zhujian has")
			}
			time.Sleep(2 * lagAfter)
			is("at rest")
			write("b")
			is("after a minute without it", "renshe")
		})
		w.publishing(t, &witnesses{world: w}, func() {
			write("c")
			is("when it is back")
			if !n.CaughtUp("renshe") {
				t.Error("renshe cosigned the newest head and counts as behind")
			}
		})
	})
}
