package peer

import (
	"fmt"
	"io"
	"net/http"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// Routes between nodes.
const (
	pathAsk        = "/peer/v1/ask"
	pathFrame      = "/peer/v1/frame"
	pathCosign     = "/peer/v1/cosign"
	pathCheckpoint = "/peer/v1/checkpoint"
)

// Limits of what crosses between nodes, in bytes.
const (
	maxAsk        = 256 << 10
	maxReply      = 64 << 20
	maxCheckpoint = 64 << 10
	maxSmall      = 16 << 10
)

const contentType = "application/cbor"

// head asks for a cosignature.
type head struct {
	Size uint64    `cbor:"1,keyasint"`
	Root gm.Digest `cbor:"2,keyasint"`
}

// cosigned is a cosignature on its way back.
type cosigned struct {
	Name    string       `cbor:"1,keyasint"`
	Time    int64        `cbor:"2,keyasint"` // Unix seconds
	Sig     gm.Signature `cbor:"3,keyasint"`
	KeyHash [4]byte      `cbor:"4,keyasint"`
}

// failure is an exchange.Error as the other side may see it, and whether a
// frame was certainly not proposed.
type failure struct {
	Kind        exchange.Kind     `cbor:"1,keyasint"`
	Code        exchange.Code     `cbor:"2,keyasint"`
	Msg         string            `cbor:"3,keyasint"`
	Hint        string            `cbor:"4,keyasint,omitempty"`
	Reasons     []exchange.Reason `cbor:"5,keyasint,omitempty"`
	NotProposed bool              `cbor:"6,keyasint,omitempty"`
}

func (f failure) err(op string) *exchange.Error {
	return &exchange.Error{Kind: f.Kind, Code: f.Code, Op: op, Msg: f.Msg, Hint: f.Hint, Reasons: f.Reasons}
}

// readBody reads at most limit bytes and refuses more.
func readBody(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = &exchange.Error{Kind: exchange.TooLarge, Code: exchange.CodeTooLarge, Op: "peer",
			Msg: fmt.Sprintf("the message is over the limit of %d bytes", limit)}
	}
	return b, err
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the peer is gone if it fails, and asks again
}

func writeFailure(w http.ResponseWriter, err error, notProposed bool) {
	e := exchange.AsError(err)
	write(w, http.StatusUnprocessableEntity, canon.MustMarshal(failure{Kind: e.Kind, Code: e.Code, Msg: e.Msg, Hint: e.Hint,
		Reasons: e.Reasons, NotProposed: notProposed}))
}
