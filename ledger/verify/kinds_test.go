package verify

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// TestSummedUpDenialsAreToldWithTheirNumber: an outsider reads from the file who
// was denied how often, and when.
func TestSummedUpDenialsAreToldWithTheirNumber(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story(t)
	from := time.Date(2026, 3, 2, 8, 30, 0, 0, time.UTC)
	at := w.add(t, ledger.Entry{Kind: ledger.KindDenied, Author: "minzheng", Denied: &ledger.Denials{Requester: "zhujian", From: from.UnixMilli(),
		To: from.Add(10 * time.Minute).UnixMilli(), Count: 9900, Chain: gm.Digest{1}}})
	archive, err := Export(engine, w.depts["minzheng"], w.selection(t, []uint64{at}))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(archive, w.trust())
	if err != nil || !r.Proven || len(r.Entries) != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	got := r.Entries[0]
	want := &Denials{Count: 9900, From: from, To: from.Add(10 * time.Minute)}
	if d := cmp.Diff(want, got.Denials); d != "" || got.Kind != "denials" || got.Requester != "zhujian" || got.Holder != exchange.Dept("minzheng") {
		t.Errorf("%+v: %s", got, d)
	}
	for lang, words := range map[string][]string{
		"en": {"denials beyond the quota, summed up", "9900", "zhujian", "2026-03-02 16:30:00 +08:00 – 2026-03-02 16:40:00 +08:00"},
		"zh": {"超出定额的拒绝（汇总）", "9900", "zhujian", "2026-03-02 16:30:00 +08:00 – 2026-03-02 16:40:00 +08:00"},
	} {
		for _, word := range words {
			if text := r.Text(lang); !strings.Contains(text, word) {
				t.Errorf("%s: %q is missing in\n%s", lang, word, text)
			}
		}
	}
}
