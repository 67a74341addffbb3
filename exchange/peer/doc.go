// Package peer is node-to-node: it asks another node and answers another node.
//
// Messages are HTTP/1.1 POSTs with CBOR bodies over connections that
// crypto/channel has authenticated; who asks is the connection's department and
// nothing in the message. Neither confidentiality nor proof rests on this hop:
// requests, answers, frames and cosignatures are signed, and sealed where they
// are secret, by those who made them.
package peer
