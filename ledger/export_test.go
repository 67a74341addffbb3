package ledger

import (
	"testing"

	"xinqiao/exchange"
)

// OverStorage runs the tests of a whole ledger over the storage of another
// package, which imports this one.
func OverStorage(t *testing.T, storage func(exchange.Dept) Storage) {
	inWorld(t, worldConfig{storage: storage}, func(t *testing.T, w *world) { restartGoesOn(t, w) })
}
