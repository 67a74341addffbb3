package ledger

import (
	"fmt"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

// Result is what State made of an entry. The numbers are on the ledger and are
// never changed.
type Result uint8

// The results. Every new entry of an accepted frame becomes a leaf, so an auditor
// sees what was refused as well.
const (
	Committed Result = 1 // it took effect
	Stale     Result = 2 // a version it rests on is no longer in force: decide again
	Rejected  Result = 3 // its author may not do this
)

// String returns the result's name in the API.
func (r Result) String() string {
	switch r {
	case Committed:
		return "committed"
	case Stale:
		return "stale"
	case Rejected:
		return "refused"
	}
	return fmt.Sprintf("result(%d)", uint8(r))
}

// A Leaf is one position of the ledger; merkle.LeafHash over its bytes is what
// the tree holds.
type Leaf struct {
	Entry  []byte    `cbor:"1,keyasint"` // as signed
	Frame  gm.Digest `cbor:"2,keyasint"` // FrameHash of the frame that brought it
	Pos    uint32    `cbor:"3,keyasint"` // its place in that frame
	Time   int64     `cbor:"4,keyasint"` // ledger time, Unix ms, never before the leaf in front
	Result Result    `cbor:"5,keyasint"`
	Slot   Slot      `cbor:"6,keyasint"` // what made it stale or refused, else SlotNone
	Back   uint64    `cbor:"7,keyasint"` // 1 + index of the previous access with the same holder tag and epoch, or 0
}

// At returns the ledger time.
func (l Leaf) At() time.Time { return time.UnixMilli(l.Time).UTC() }

// DecodeLeaf reads a leaf and its entry.
func DecodeLeaf(b []byte) (Leaf, Entry, error) {
	var l Leaf
	if err := canon.Unmarshal(b, &l); err != nil {
		return l, Entry{}, fmt.Errorf("%w: leaf: %w", ErrFormat, err)
	}
	e, err := DecodeEntry(l.Entry)
	return l, e, err
}

// DecodeFrameRecord reads a frame record.
func DecodeFrameRecord(b []byte) (FrameRecord, FrameBody, error) {
	var r FrameRecord
	var body FrameBody
	if err := canon.Unmarshal(b, &r); err != nil {
		return r, body, fmt.Errorf("%w: frame record: %w", ErrFormat, err)
	}
	if err := canon.Unmarshal(r.Body, &body); err != nil {
		return r, body, fmt.Errorf("%w: frame body: %w", ErrFormat, err)
	}
	return r, body, nil
}

// Batch is one command of the replicated log: frames, and the leader's time.
type Batch struct {
	Version uint8    `cbor:"1,keyasint"` // 1; a node halts at one it does not know
	Time    int64    `cbor:"2,keyasint"` // Unix ms
	Frames  [][]byte `cbor:"3,keyasint"`
}

// EncodeBatch returns the command for frames at the leader's time.
func EncodeBatch(now time.Time, frames [][]byte) ([]byte, error) {
	return canon.Marshal(Batch{Version: 1, Time: now.UnixMilli(), Frames: frames})
}
