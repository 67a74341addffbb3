package node_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange/node"
)

// TestFormat pins the genesis file, in both directions. What it says of its
// frames is the ledger's format.
func TestFormat(t *testing.T) {
	t.Parallel()
	const want = `{"format":"xinqiao-genesis/1","origin":"city.gov.example/ledger","root":"one","authoritySign":"two",` +
		`"authorityEnc":"three","frames":["++8=","AQ=="]}`
	g := node.Genesis{Format: "xinqiao-genesis/1", Origin: "city.gov.example/ledger", Root: "one", AuthoritySign: "two", AuthorityEnc: "three",
		Frames: [][]byte{{0xfb, 0xef}, {1}}}
	got, err := json.Marshal(g)
	if err != nil || string(got) != want {
		t.Errorf("written as\n%s, %v, and was\n%s", got, err, want)
	}
	var back node.Genesis
	if err := json.Unmarshal([]byte(want), &back); err != nil || !cmp.Equal(back, g) {
		t.Errorf("read as %+v, %v", back, err)
	}
}
