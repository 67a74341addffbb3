package peer

import (
	"net/http"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// The routes. They and their bodies are what nodes of different versions must
// agree on.
const (
	pathAsk        = "/peer/v1/ask"
	pathFrame      = "/peer/v1/frame"
	pathCosign     = "/peer/v1/cosign"
	pathCheckpoint = "/peer/v1/checkpoint"
	pathStatus     = "/peer/v1/status"
)

const contentType = "application/cbor"

// Limits of bodies, in bytes.
const (
	maxAsk        = 1 << 20       // a signed request
	maxReply      = canon.MaxSize // a signed answer: nobody decodes a larger one
	maxFrame      = ledger.MaxFrame
	maxCheckpoint = 256 << 10 // a checkpoint with its cosignatures
	maxSmall      = 4 << 10
	maxFailure    = 64 << 10
)

// limits of one route.
type limits struct {
	in, out int64         // bytes of request and answer
	within  time.Duration // for the whole call, when its caller sets no earlier end
}

// limitsOf returns a route's limits; ok is false for anything else.
func limitsOf(path string) (l limits, ok bool) {
	switch path {
	case pathAsk:
		return limits{maxAsk, maxReply, 30 * time.Second}, true
	case pathFrame:
		return limits{maxFrame, maxSmall, 5 * time.Second}, true
	case pathCosign:
		return limits{maxSmall, maxSmall, 3 * time.Second}, true
	case pathCheckpoint:
		return limits{maxCheckpoint, maxSmall, 5 * time.Second}, true
	case pathStatus:
		return limits{maxSmall, maxSmall, 3 * time.Second}, true
	}
	return limits{}, false
}

// failure is an exchange.Error on the wire. What may not be shown, its cause
// and where it arose, stays behind.
type failure struct {
	Kind    exchange.Kind     `cbor:"1,keyasint"`
	Code    exchange.Code     `cbor:"2,keyasint"`
	Msg     string            `cbor:"3,keyasint"`
	Hint    string            `cbor:"4,keyasint,omitempty"`
	Reasons []exchange.Reason `cbor:"5,keyasint,omitempty"`
	Pointer string            `cbor:"6,keyasint,omitempty"`
}

func failureOf(e *exchange.Error) failure {
	return failure{e.Kind, e.Code, e.Msg, e.Hint, e.Reasons, e.Pointer}
}

func (f failure) err(op string) *exchange.Error {
	if f.Kind > exchange.Integrity {
		f.Kind = exchange.Internal // a newer node's kind
	}
	return &exchange.Error{Kind: f.Kind, Code: f.Code, Op: op, Msg: f.Msg, Hint: f.Hint, Reasons: f.Reasons, Pointer: f.Pointer}
}

// httpStatus is for logs on the way; the other node reads the body.
func httpStatus(k exchange.Kind) int {
	switch k {
	case exchange.Invalid, exchange.Forged, exchange.Expired:
		return http.StatusBadRequest
	case exchange.Unauthenticated:
		return http.StatusUnauthorized
	case exchange.Denied:
		return http.StatusForbidden
	case exchange.NotFound:
		return http.StatusNotFound
	case exchange.Conflict:
		return http.StatusConflict
	case exchange.TooLarge:
		return http.StatusRequestEntityTooLarge
	case exchange.Unsupported:
		return http.StatusUnsupportedMediaType
	case exchange.Unavailable:
		return http.StatusServiceUnavailable
	case exchange.Undetermined:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// head is a tree head to be cosigned.
type head struct {
	Size uint64    `cbor:"1,keyasint"`
	Root gm.Digest `cbor:"2,keyasint"`
}

// cosigned is a checkpoint.Cosignature on its way back.
type cosigned struct {
	Name    string       `cbor:"1,keyasint"`
	Time    int64        `cbor:"2,keyasint"` // Unix seconds
	Sig     gm.Signature `cbor:"3,keyasint"`
	KeyHash [4]byte      `cbor:"4,keyasint"`
}

// published carries a checkpoint note.
type published struct {
	Note []byte `cbor:"1,keyasint"`
}

// Status is what a node tells another about itself.
type Status struct {
	Dept     exchange.Dept `cbor:"1,keyasint"`
	Version  string        `cbor:"2,keyasint"` // of the program
	Origin   string        `cbor:"3,keyasint"` // of the ledger
	Size     uint64        `cbor:"4,keyasint"` // leaves applied
	Verified uint64        `cbor:"5,keyasint"` // leaves verified
	Cosigned uint64        `cbor:"6,keyasint"` // size of the newest cosigned checkpoint
	Leader   exchange.Dept `cbor:"7,keyasint"` // as far as the node knows
	Time     int64         `cbor:"8,keyasint"` // of the node's clock, Unix ms
	Halted   bool          `cbor:"9,keyasint"`
}
