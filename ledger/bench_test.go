package ledger

import (
	"fmt"
	"testing"
	"time"

	"xinqiao/exchange"
)

// benchmarkWorld is one founded node with real keys and no disk.
func benchmarkWorld(b *testing.B) (*world, *node) {
	b.Helper()
	w := &world{t: b, realm: newRealm(b, time.Now(), 100*time.Hour), nodes: map[exchange.Dept]*node{}}
	w.nodes["minzheng"] = w.open("minzheng", newMemStorage(), nil)
	for _, entries := range w.realm.founding() {
		w.write(entries[0].Author, entries...)
	}
	b.Cleanup(func() {
		if err := w.nodes["minzheng"].Close(); err != nil {
			b.Error(err)
		}
	})
	return w, w.leader()
}

// frameFrom returns minzheng's next frame with n answers.
func frameFrom(b *testing.B, w *world, n, serial int) []byte {
	var entries []Entry
	for i := range n {
		entries = append(entries, accessEntry("minzheng", "zhujian", label(fmt.Sprint(serial, i)), w.leader().basis()))
	}
	return w.realm.parties["minzheng"].frameOf(b, w.last("minzheng"), entries...)
}

// BenchmarkCheckFrame is what the leader asks of a frame before it proposes it.
func BenchmarkCheckFrame(b *testing.B) {
	for _, n := range []int{1, 20, 256} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			w, l := benchmarkWorld(b)
			frame := frameFrom(b, w, n, 0)
			b.ResetTimer()
			for b.Loop() {
				if err := l.CheckFrame(frame); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/entry")
		})
	}
}
