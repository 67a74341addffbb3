package store

import (
	"fmt"
	"path/filepath"
	"testing"

	"xinqiao/ledger"
)

// BenchmarkFlush is what a leaf costs on disk, flushed one by one as a state
// machine without batches would, and together as the ledger does.
func BenchmarkFlush(b *testing.B) {
	for _, n := range []int{1, 20, 256} {
		b.Run(fmt.Sprintf("leaves=%d", n), func(b *testing.B) {
			s, err := Open(filepath.Join(b.TempDir(), "ledger.db"), Options{})
			if err != nil {
				b.Fatal(err)
			}
			var f ledger.Flush
			for range n {
				f.Leaves = append(f.Leaves, make([]byte, 664))
			}
			b.ResetTimer()
			for b.Loop() {
				f.Applied++
				if err := s.Flush(f); err != nil {
					b.Fatal(err)
				}
				f.First += uint64(n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/leaf")
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
