// Package ledger holds entries, the state they add up to and the invariants. It
// records judgements and never makes them: State compares the versions that a
// decision rested on with those in force, and a Receipt is the only thing that
// lets an answer out.
//
// The package knows neither consensus nor disk nor network: a Replicator carries
// frames to every node, a Storage keeps what was committed. FORMAT.md describes
// every byte that is hashed or signed.
package ledger

import "errors"

// Errors of this package. A Replicator returns ErrNotProposed and
// ErrUndetermined; everything else it returns counts as undetermined.
var (
	// ErrNotProposed: nothing was handed to consensus; trying again is safe.
	ErrNotProposed = errors.New("not proposed")
	// ErrUndetermined: the frame may or may not be committed; ask again by id.
	ErrUndetermined = errors.New("outcome not determined")
	// ErrBusy: a bound on what waits or lags keeps the entry out; see Pressure.
	ErrBusy = errors.New("ledger queue is full")
	// ErrConflict: the author has used the entry's id for other content.
	ErrConflict = errors.New("entry id was used for other content")
	// ErrNotFound: no such leaf, frame, fact or entry here.
	ErrNotFound = errors.New("not in this ledger")
	// ErrFormat: bytes are not an object of this ledger.
	ErrFormat = errors.New("malformed ledger object")
	// ErrHalted: this node's ledger found an object that it must not build on,
	// or that does not verify. It applies, releases and cosigns nothing more.
	ErrHalted = errors.New("ledger halted")
	// ErrRelease: a receipt does not let this response out.
	ErrRelease = errors.New("release refused")
	// ErrClosed: the ledger was closed.
	ErrClosed = errors.New("ledger closed")
)
