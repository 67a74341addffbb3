package ledger

import (
	"encoding/hex"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// history is a fixed pseudo-random sequence of commands with n entries: access,
// allowed, denied and stale, quotas, withdrawals, replaced rules.
func history(t testing.TB, n int) (cmds [][]byte) {
	t.Helper()
	r, rnd := paperRealm(), rand.New(rand.NewPCG(1, 2))
	s := newState(gm.Emmansun(), testOrigin, r.parties[exchange.Authority].cert)
	now := time.Date(2026, 3, 2, 8, 30, 0, 0, time.UTC)
	push := func(entries ...Entry) {
		author := entries[0].Author
		now = now.Add(time.Duration(rnd.IntN(40)-5) * time.Millisecond)
		cmd := batchOf(t, now, r.parties[author].frameOf(t, s.authors[author], entries...))
		cmds = append(cmds, cmd)
		batch, frames, err := parseBatch(gm.Emmansun(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		s.apply(batch, frames)
	}
	for _, entries := range r.founding() {
		push(entries...)
	}
	consent, old := consentKey(), usualBasis(s)
	for i := int(s.size); i < n; {
		var entries []Entry
		author := exchange.Dept("minzheng")
		for range min(1+rnd.IntN(20), n-i) {
			id := label(fmt.Sprint("golden ", i))
			b := basisOf(s, "minzheng", "zhujian", grantKey(), consent, caseKey())
			switch rnd.IntN(8) {
			case 0:
				b = old
			case 1:
				entries = append(entries, deniedEntry("minzheng", "gongan", id))
				i++
				continue
			}
			e := accessEntry("minzheng", "zhujian", id, b)
			e.Access.HolderTag = Tag{byte(rnd.IntN(50))}
			entries = append(entries, e)
			i++
		}
		push(entries...)
		if rnd.IntN(10) > 0 || i >= n {
			continue
		}
		old = basisOf(s, "minzheng", "zhujian", grantKey(), consent, caseKey())
		id := label(fmt.Sprint("golden ", i))
		i++
		switch author = "zhujian"; rnd.IntN(3) {
		case 0:
			push(factEntry(author, id, FactChange{Type: FactAuthority, Key: consent, Action: Withdraw, Provider: "minzheng", Grantee: "zhujian"}))
		case 1:
			push(factEntry(author, id, FactChange{Type: FactRoster, Key: "zhujian", Action: Set, Content: id[:],
				Replaces: s.facts.get(FactRoster, "zhujian").Version}))
		case 2:
			consent = id.String()
			push(factEntry(author, id, FactChange{Type: FactAuthority, Key: consent, Action: Set, Provider: "minzheng", Grantee: "zhujian",
				MaxReads: uint32(rnd.IntN(100))}))
		}
	}
	return cmds
}

// TestGoldenRoot: the same entries give the same tree on every machine and in
// every version, or a node that was upgraded would leave the others.
func TestGoldenRoot(t *testing.T) {
	t.Parallel()
	const n = 20000
	const file = "testdata/golden.txt"
	l := paperLedger(t, newMemStorage())
	var results [Rejected + 1]int
	for i, cmd := range history(t, n) {
		if err := l.ApplyBatch(uint64(i+1), cmd); err != nil {
			t.Fatal(err)
		}
	}
	for _, leaf := range l.leaves {
		results[leaf.leaf.Result]++
	}
	root, err := l.Root(l.Size())
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%d leaves, %d committed, %d stale\nroot %s\n", l.Size(), results[Committed], results[Stale], hex.EncodeToString(root[:]))
	if f := flag.Lookup("rewrite"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got %swant %s", got, want)
	}
	if results[Stale] < n/20 || results[Committed] < n/4 || !strings.HasPrefix(got, fmt.Sprint(n)) {
		t.Errorf("the history is too uniform: %s", got)
	}
}

// BenchmarkApply is one entry applied, in frames of 1 to 20, without signatures.
func BenchmarkApply(b *testing.B) {
	const n = 20000
	cmds := history(b, n)
	b.ResetTimer()
	for b.Loop() {
		l := paperLedger(b, newMemStorage())
		for i, cmd := range cmds {
			if err := l.ApplyBatch(uint64(i+1), cmd); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
}

// BenchmarkAppend is one entry from Append to Receipt on a single node with real
// signatures and no disk.
func BenchmarkAppend(b *testing.B) {
	w := &world{t: b, realm: newRealm(b, time.Now(), 100*time.Hour), nodes: map[exchange.Dept]*node{}}
	w.nodes["minzheng"] = w.open("minzheng", newMemStorage(), func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	for _, entries := range w.realm.founding() {
		w.write(entries[0].Author, entries...)
	}
	n := w.leader()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		if _, err := n.answer(fmt.Sprint(i)); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := n.Close(); err != nil {
		b.Fatal(err)
	}
}
