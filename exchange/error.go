package exchange

import (
	"errors"
	"strings"
)

// Kind classifies an Error. Kinds cross the wire between nodes and are never
// renumbered. The zero Kind is Internal: an unclassified error tells nothing.
type Kind uint8

// The kinds.
const (
	Internal        Kind = iota // our fault; the cause stays in the node's log
	Invalid                     // malformed input: correct it and send again
	Unauthenticated             // who are you
	Denied                      // known, and not permitted
	NotFound                    // no such thing, or not for you
	Conflict                    // the same key with other content
	TooLarge                    // over a stated limit
	Unsupported                 // wrong content type or suite
	Forged                      // a signature, digest or binding does not hold
	Expired                     // too old, or from the future
	Unavailable                 // nothing happened; try again
	Undetermined                // it may have happened; ask again with the same key
	Integrity                   // this node's own records do not verify
)

var kindNames = [...]string{"internal", "invalid", "unauthenticated", "denied", "not_found", "conflict", "too_large",
	"unsupported", "forged", "expired", "unavailable", "undetermined", "integrity"}

// String returns the kind's name as used in logs and metrics.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "internal"
}

// Code is a stable error code, "XQ-…". Codes are a public interface.
type Code string

// Error is the one error that crosses borders between packages, nodes and
// callers. Everything but Err may be shown to the other side; Err is for this
// node's log alone.
type Error struct {
	Kind    Kind
	Code    Code
	Op      string   // what was being done, "broker.Ask"
	Msg     string   // what is wrong, for the other side
	Hint    string   // what to do next
	Reasons []Reason // of a denial, complete
	Pointer string   // JSON pointer to the offending member, if any
	Err     error    // the cause, never shown
}

// Error describes the error for a log, cause included.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	if e.Code != "" {
		b.WriteString(string(e.Code) + " ")
	}
	b.WriteString(e.Msg)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// AsError returns err as an *Error. What is not one becomes Internal with err
// as its cause.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Code: CodeInternal, Msg: "the node could not complete the request",
		Hint: "try again; if it persists, give the node's operator the trace id", Err: err}
}

// KindOf returns the kind of an error, Internal when it has none. Use Is where
// there may be no error.
func KindOf(err error) Kind {
	if err == nil {
		return Internal
	}
	return AsError(err).Kind
}

// Is reports whether err is an error of kind k; nil is of none.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// A Reason is one failed guard of a decision.
type Reason struct {
	Code    Code   `json:"code" cbor:"1,keyasint"`
	Article string `json:"article,omitempty" cbor:"2,keyasint,omitempty"` // the law or rule it rests on
	Detail  string `json:"detail,omitempty" cbor:"3,keyasint,omitempty"`  // the field or name concerned; never personal information
}
