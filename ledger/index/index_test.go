package index

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

func tag(subject string) Tag {
	d := gm.HMAC(gm.Emmansun(), []byte("test key"), []byte(subject))
	return Tag(d[:16])
}

var start = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

func row(i uint64, author, holder, requester exchange.Dept, o exchange.Outcome) exchange.LedgerRow {
	return exchange.LedgerRow{Index: i, Entry: fmt.Sprintf("%032x", i), Kind: "access", Result: "committed",
		Time: start.Add(time.Duration(i) * time.Second), Author: author, Holder: holder, Requester: requester,
		Class: "civil", Outcome: o}
}

func indices(rows []exchange.LedgerRow) []uint64 {
	out := []uint64{}
	for _, r := range rows {
		out = append(out, r.Index)
	}
	return out
}

// all pages through a query.
func all(t interface{ Fatal(...any) }, x *Index, q exchange.LedgerQuery) []uint64 {
	out := []uint64{}
	for pages := 0; ; pages++ {
		rows, next, err := x.Search(q)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, indices(rows)...)
		if next == "" {
			return out
		}
		if pages > 10_000 {
			t.Fatal("the cursor does not advance")
		}
		q.Page.Cursor = next
	}
}

// Every query gives what a scan by the definition gives, page by page,
// whatever the limits.
func TestSearchAgreesWithAScan(t *testing.T) {
	t.Parallel()
	depts := []exchange.Dept{"minzheng", "zhujian", "gongan"}
	subjects := []string{"", "A", "B"}
	rapid.Check(t, func(rt *rapid.T) {
		x := New(tag)
		x.max = rapid.IntRange(1, 20).Draw(rt, "scan")
		type full struct {
			exchange.LedgerRow
			d *Detail
		}
		var model []full
		at := start
		for i := range rapid.IntRange(0, 40).Draw(rt, "rows") {
			r := row(uint64(i*2), rapid.SampledFrom(depts).Draw(rt, "author"), rapid.SampledFrom(depts).Draw(rt, "holder"),
				rapid.SampledFrom(depts).Draw(rt, "requester"), exchange.Outcome(rapid.IntRange(1, 3).Draw(rt, "outcome")))
			at = at.Add(time.Duration(rapid.IntRange(0, 2).Draw(rt, "step")) * time.Second)
			r.Time = at
			f := full{LedgerRow: r}
			if rapid.Bool().Draw(rt, "open") {
				f.d = &Detail{Item: exchange.Item(rapid.SampledFrom([]string{"civil/a", "civil/b"}).Draw(rt, "item")),
					Operator: "op1", Subject: rapid.SampledFrom(subjects).Draw(rt, "subject")}
			}
			if f.d != nil && i%2 == 0 {
				x.Open(r.Author, r.Entry, *f.d) // before its row
			}
			x.Add(r)
			if f.d != nil && i%2 == 1 {
				x.Open(r.Author, r.Entry, *f.d)
			}
			model = append(model, f)
		}
		q := exchange.LedgerQuery{
			Dept:    rapid.SampledFrom(append(depts, "", "nobody")).Draw(rt, "q dept"),
			Outcome: exchange.Outcome(rapid.IntRange(0, 3).Draw(rt, "q outcome")),
			Item:    exchange.Item(rapid.SampledFrom([]string{"", "civil/a"}).Draw(rt, "q item")),
			Subject: rapid.SampledFrom(append(subjects, "C")).Draw(rt, "q subject"),
			Page:    exchange.Page{Limit: rapid.IntRange(1, 7).Draw(rt, "limit")},
		}
		if rapid.Bool().Draw(rt, "bounded") {
			q.From = start.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "from")) * time.Second)
			q.To = q.From.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "for")) * time.Second)
		}
		want := []uint64{}
		for _, f := range slices.Backward(model) {
			if q.Dept != "" && f.Author != q.Dept && f.Holder != q.Dept && f.Requester != q.Dept ||
				q.Outcome != 0 && f.Outcome != q.Outcome ||
				f.Time.Before(q.From) || !q.To.IsZero() && !f.Time.Before(q.To) ||
				q.Item != "" && (f.d == nil || f.d.Item != q.Item) ||
				q.Subject != "" && (f.d == nil || f.d.Subject != q.Subject) {
				continue
			}
			want = append(want, f.Index)
		}
		if diff := cmp.Diff(want, all(rt, x, q)); diff != "" {
			rt.Fatalf("query %+v (-want +got):\n%s", q, diff)
		}
	})
}

func TestPagesDoNotMoveWhenRowsArrive(t *testing.T) {
	t.Parallel()
	x := New(tag)
	for i := range uint64(10) {
		x.Add(row(i, "minzheng", "minzheng", "zhujian", exchange.Allowed))
	}
	first, next, err := x.Search(exchange.LedgerQuery{Page: exchange.Page{Limit: 4}})
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(10); i < 20; i++ {
		x.Add(row(i, "minzheng", "minzheng", "zhujian", exchange.Allowed))
	}
	second, _, err := x.Search(exchange.LedgerQuery{Page: exchange.Page{Limit: 4, Cursor: next}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{9, 8, 7, 6, 5, 4, 3, 2}, append(indices(first), indices(second)...)); diff != "" {
		t.Error(diff)
	}
}

func TestRepeatedRowsChangeNothing(t *testing.T) {
	t.Parallel()
	x := New(tag)
	for range 2 {
		for i := range uint64(3) {
			x.Add(row(i, "minzheng", "minzheng", "zhujian", exchange.Allowed))
		}
	}
	if got := all(t, x, exchange.LedgerQuery{Dept: "zhujian"}); !slices.Equal(got, []uint64{2, 1, 0}) {
		t.Errorf("rows %v", got)
	}
}

// A department that reuses another's entry id must not have its row opened
// with the other's details.
func TestIdsArePerAuthor(t *testing.T) {
	t.Parallel()
	x := New(tag)
	mine, theirs := row(0, "minzheng", "minzheng", "zhujian", exchange.Allowed), row(1, "gongan", "gongan", "zhujian", exchange.Allowed)
	theirs.Entry = mine.Entry
	x.Add(mine)
	x.Add(theirs)
	x.Open("minzheng", mine.Entry, Detail{Item: "civil/marriage-record"})
	if r, _ := x.Row(1); r.Open {
		t.Error("another author's row was opened")
	}
	if r, ok := x.Lookup("minzheng", mine.Entry); !ok || !r.Open || r.Item != "civil/marriage-record" {
		t.Errorf("the row is not open: %+v", r)
	}
}

func TestForgetAndReopen(t *testing.T) {
	t.Parallel()
	x := New(tag)
	r := row(0, "minzheng", "minzheng", "zhujian", exchange.Allowed)
	x.Add(r)
	x.Open(r.Author, r.Entry, Detail{Subject: "A", Case: "C-1"})
	x.Open(r.Author, r.Entry, Detail{Subject: "B", Case: "C-1"})
	for subject, want := range map[string]int{"A": 0, "B": 1} {
		if got := all(t, x, exchange.LedgerQuery{Subject: subject}); len(got) != want {
			t.Errorf("subject %s: %d rows, want %d", subject, len(got), want)
		}
	}
	x.Forget(r.Author, r.Entry)
	if got := all(t, x, exchange.LedgerQuery{Subject: "B"}); len(got) != 0 {
		t.Errorf("an erased body is still found: %v", got)
	}
	if got, _ := x.Row(0); got.Open || got.Case != "" {
		t.Errorf("an erased body still shows: %+v", got)
	}
}

func TestTheSubjectIsNotKept(t *testing.T) {
	t.Parallel()
	x := New(tag)
	r := row(0, "minzheng", "minzheng", "zhujian", exchange.Allowed)
	x.Add(r)
	x.Open(r.Author, r.Entry, Detail{Subject: "11010119900307000X"})
	if strings.Contains(fmt.Sprintf("%+v %+v", x.details[0], x), "11010119900307000X") {
		t.Error("the identifier stands in the index")
	}
}

func TestCosignedFollowsTheCheckpoint(t *testing.T) {
	t.Parallel()
	x := New(tag)
	for i := range uint64(3) {
		x.Add(row(i, "minzheng", "minzheng", "zhujian", exchange.Allowed))
	}
	x.SetCosigned(2)
	x.SetCosigned(1) // late news
	for i, want := range []bool{true, true, false} {
		if r, _ := x.Row(uint64(i)); r.Cosigned != want {
			t.Errorf("row %d: cosigned %v, want %v", i, r.Cosigned, want)
		}
	}
}

func TestWaitingDetailsAreBounded(t *testing.T) {
	t.Parallel()
	x := New(tag)
	for i := range maxWaiting + 10 {
		x.Open("minzheng", fmt.Sprintf("%032x", i), Detail{})
	}
	if len(x.waiting) != maxWaiting || len(x.queue) != maxWaiting {
		t.Errorf("%d details wait, %d queued", len(x.waiting), len(x.queue))
	}
}

func TestMalformedPages(t *testing.T) {
	t.Parallel()
	x := New(tag)
	for _, p := range []exchange.Page{{Limit: -1}, {Limit: 201}, {Cursor: "-1"}, {Cursor: "x"}, {Cursor: "99999999999999999999"}} {
		if _, _, err := x.Search(exchange.LedgerQuery{Page: p}); exchange.KindOf(err) != exchange.Invalid {
			t.Errorf("page %+v: %v, want kind invalid", p, err)
		}
	}
}
