package ledger

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
)

// history is a fixed pseudo-random sequence of commands with n entries: access,
// allowed, denied and stale, quotas, withdrawals, replaced rules, and a clock
// entry for every five minutes. It hands each command to take.
func history(t testing.TB, n int, take func(cmd []byte)) {
	t.Helper()
	r, rnd := paperRealm(), rand.New(rand.NewPCG(1, 2))
	s := newState(gm.Emmansun(), testOrigin, r.parties[exchange.Authority].cert)
	now := time.Date(2026, 3, 2, 8, 30, 0, 0, time.UTC)
	push := func(entries ...Entry) {
		author := entries[0].Author
		now = now.Add(time.Duration(rnd.IntN(40)-5) * time.Millisecond)
		cmd := batchOf(t, now, r.parties[author].frameOf(t, s.authors[author], entries...))
		take(cmd)
		batch, frames, err := parseBatch(gm.Emmansun(), cmd, nil)
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
		if now.UnixMilli()-s.witnessed > clockEvery.Milliseconds() {
			certs := map[exchange.Dept]uint64{}
			for _, d := range depts() {
				certs[d] = s.facts.get(FactCert, string(d)).Version
			}
			head := checkpoint.Checkpoint{Origin: testOrigin, Size: s.size}
			push(r.clockEntry(t, "gongan", label(fmt.Sprint("golden ", i)), head, now, certs))
			i++
			continue
		}
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
}

var million = flag.Bool("million", false, "TestGoldenRoot: a million entries, not only twenty thousand")

// golden are the trees that fixed histories add up to. A change here forks every
// ledger: nodes of two versions would go apart.
var golden = map[int]string{
	20_000:    "20000 leaves, 5962 committed, 14010 stale, root 9c71a411a151343ab63a17f8c73873b335ace0b757a4d8234009cd6370e7d1a8",
	1_000_000: "1000000 leaves, 262944 committed, 735405 stale, root ea3f58629ae599df22ef159546befb040e3cd62bd20f41d341e61c27dcd2d0ed",
}

// TestGoldenRoot: the same entries give the same tree on every machine, in every
// build and in every version, or a node that was upgraded would leave the others.
func TestGoldenRoot(t *testing.T) {
	t.Parallel()
	for n, want := range golden {
		if n > 20_000 && !*million {
			continue
		}
		l := paperLedger(t, forgetful{newMemStorage()})
		var results [Rejected + 1]int
		at := uint64(0)
		history(t, n, func(cmd []byte) {
			at++
			if err := l.ApplyBatch(at, cmd); err != nil {
				t.Fatal(err)
			}
			for _, leaf := range l.leaves {
				results[leaf.leaf.Result]++
			}
			if err := l.flush(); err != nil {
				t.Fatal(err)
			}
			l.toVerify = nil // no signature here holds
		})
		root, err := l.Root(l.Size())
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%d leaves, %d committed, %d stale, root %x", l.Size(), results[Committed], results[Stale], root)
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if results[Stale] < n/20 || results[Committed] < n/4 || l.Size() != uint64(n) || l.Stats().LateFrames > 0 {
			t.Errorf("the history is too uniform: %s", got)
		}
	}
}

// forgetful is a storage that a million leaves do not fill.
type forgetful struct{ *memStorage }

func (forgetful) Flush(Flush) error { return nil }

// BenchmarkApply is one entry applied, in frames of 1 to 20, without signatures.
func BenchmarkApply(b *testing.B) {
	const n = 20000
	var cmds [][]byte
	history(b, n, func(cmd []byte) { cmds = append(cmds, cmd) })
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
