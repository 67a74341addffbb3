package ledger

import "xinqiao/crypto/gm"

// Storage keeps what was committed; ledger/store is one. Calls come from one
// Ledger; Flush is never called concurrently with itself, the readers may be.
type Storage interface {
	// Replay calls fn for every stored leaf, in order, with the record of its
	// frame, and returns the position of the replicated log that the leaves add
	// up to and the ledger time then.
	Replay(fn func(index uint64, leaf []byte, frame FrameRecord) error) (applied uint64, time int64, err error)
	// Flush writes leaves, frames and position in one durable transaction: all
	// or nothing, on disk when it returns.
	Flush(Flush) error
	// Leaf returns the bytes of a stored leaf, or ErrNotFound.
	Leaf(index uint64) ([]byte, error)
	// Frame returns the encoded FrameRecord of a stored frame, or ErrNotFound.
	Frame(hash gm.Digest) ([]byte, error)
	// PutCheckpoint keeps the newest checkpoint that a quorum has cosigned.
	PutCheckpoint(size uint64, note []byte) error
	// Checkpoint returns it; size 0 when there is none.
	Checkpoint() (size uint64, note []byte, err error)
	// PutCosigned records that this node is about to cosign; it is durable when
	// PutCosigned returns, and only then may the cosignature leave.
	PutCosigned(size uint64, root gm.Digest) error
	// Cosigned returns what was last recorded; size 0 when nothing was.
	Cosigned() (size uint64, root gm.Digest, err error)
}

// Flush is what one transaction writes.
type Flush struct {
	Applied uint64 // position in the replicated log
	Time    int64  // ledger time, Unix ms
	First   uint64 // index of Leaves[0]
	Leaves  [][]byte
	Frames  map[gm.Digest]FrameRecord
}
