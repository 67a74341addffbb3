package broker

import (
	"testing"

	"xinqiao/exchange"
)

// TestDenialTagsLinkNoAnswers: anyone may ask about anyone and be denied. The
// tag in that denial's entry must not point at the answers that others were
// given about the same person; among answers and among denials tags do link.
func TestDenialTagsLinkNoAnswers(t *testing.T) {
	t.Parallel()
	newCast(t).play(t, func(t *testing.T, w *world) {
		id := w.consent(5)
		for _, ask := range []struct{ key, authority string }{{"allowed-1", id}, {"denied-1", ""}, {"allowed-2", id}, {"denied-2", ""}} {
			must[exchange.Answer](t)(w.askWith(ask.key, question(ask.authority)))
		}
		all := w.accesses(other)
		if len(all) != 4 {
			t.Fatalf("%d accesses, want 4", len(all))
		}
		if all[0].HolderTag != all[2].HolderTag || all[1].HolderTag != all[3].HolderTag {
			t.Error("tags of the same kind about one subject differ")
		}
		if all[0].HolderTag == all[1].HolderTag {
			t.Error("a denial's tag tells which answers are about the same person")
		}
	})
}
