package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/demo"
	"xinqiao/exchange/node"
	"xinqiao/ledger"
)

// authority is who founded a network: what the tests need to sign in its name.
type authority struct {
	genesis node.Genesis
	first   ledger.Frame // of the genesis
	cert    gm.Digest    // under which it was signed
	keys    *keyring.Keyring
}

func (n *network) authority(t *testing.T) authority {
	t.Helper()
	dir := filepath.Join(n.Dir, "authority")
	passphrase, err := os.ReadFile(filepath.Join(dir, "passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	a := authority{}
	if a.keys, err = keyring.Open(filepath.Join(dir, "keys.xq"), passphrase, gm.Emmansun()); err != nil {
		t.Fatal(err)
	}
	if a.genesis, err = node.ReadGenesis(filepath.Join(n.Dir, "genesis.json")); err != nil {
		t.Fatal(err)
	}
	var body ledger.FrameBody
	if err := errors.Join(canon.Unmarshal(a.genesis.Frames[0], &a.first), canon.Unmarshal(a.first.Body, &body)); err != nil {
		t.Fatal(err)
	}
	a.cert = body.Cert
	return a
}

// frame signs a frame in the authority's chain.
func (a authority) frame(seq uint64, prev gm.Digest, entries [][]byte) ([]byte, error) {
	return ledger.NewFrame(gm.Emmansun(), a.keys, a.genesis.Origin, exchange.Authority, a.cert, seq, prev, entries)
}

// carry brings a frame of the authority, which runs no node, to the leader.
func (n *network) carry(t *testing.T, frame []byte) {
	t.Helper()
	carrier := n.turn(t, demo.Shuiwu)
	eventually(t, "the leader takes the authority's frame", func() bool {
		for _, d := range n.running() {
			if carrier.client.Forward(t.Context(), d, frame) == nil {
				return true
			}
		}
		return false
	})
}
