package ledger_test

import (
	"path/filepath"
	"testing"

	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/store"
)

// TestOverStore is TestRestartGoesOn with every node's ledger in a file.
func TestOverStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stores []*store.Store
	ledger.OverStorage(t, func(d exchange.Dept) ledger.Storage {
		s, err := store.Open(filepath.Join(dir, string(d)), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, s)
		return s
	})
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
