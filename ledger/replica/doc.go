// Package replica makes every node's ledger the same. It is the only door to
// hashicorp/raft: it carries signed frames into the replicated log on the
// leader, forwards them there from any other node, and hands committed batches
// to the ledger in one order.
//
// DESIGN.md says which of the library's defaults are overridden, and why.
package replica
