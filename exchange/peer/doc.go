// Package peer is how nodes talk to each other: it asks another department's
// node and answers one. HTTP/1.1 with canonical CBOR runs over connections whose
// other end crypto/channel has authenticated; what is said in them is signed and
// sealed besides, so the hop is trusted with nothing but who is there.
package peer
