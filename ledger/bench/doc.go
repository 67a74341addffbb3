// Package bench measures three replicating ledgers on real disks, and in the
// same run what bounds them: bare hashicorp/raft, and the bare cost of their
// signatures and hashes.
//
// Everything of the ledger's path is real: SM2 keys and certificates, frames,
// raft over loopback TCP, fsync, verification on every node, bbolt, cosigned
// checkpoints. Left out is what belongs to the hop and not to the ledger:
// frames are forwarded and cosignatures asked for by a call within the process,
// and neither raft here nor bare raft runs inside the GM TLS channel.
package bench
