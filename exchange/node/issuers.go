package node

import (
	"bytes"
	"slices"

	"xinqiao/crypto/cert"
)

// issuers returns the issuing CAs in the certificates that the applied ledger, or
// the genesis, holds for members. Peers show their leaves alone, and the channel
// makes chains of them again. Naming a CA here trusts nothing: the channel holds
// each to the root.
func (n *Node) issuers() [][]byte {
	var list [][]byte
	add := func(chain []byte) {
		ca := cert.Issuer(chain)
		if ca != nil && !slices.ContainsFunc(list, func(have []byte) bool { return bytes.Equal(have, ca) }) {
			list = append(list, ca)
		}
	}
	for dept := range n.members() {
		applied, _ := n.ledger.AppliedCerts(dept)
		for _, pair := range append(applied.Pairs(), n.id.anchors.certs[dept].Pairs()...) {
			add(pair.Sign)
			add(pair.Enc)
		}
	}
	return list
}
