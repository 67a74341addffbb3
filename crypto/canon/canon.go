// Package canon gives every signed or hashed object one byte form:
// deterministic CBOR (RFC 8949 section 4.2.1) with integer keys, decoded
// strictly.
//
// The rule of the house is: hash what was signed, store what was hashed. Bytes
// that were signed are kept and passed on as they are; Marshal is called once,
// by their author.
package canon

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Errors of Unmarshal.
var (
	// ErrMalformed reports bytes that are no value of the type that is asked for.
	ErrMalformed = errors.New("not an encoding of such an object")
	// ErrNotCanonical reports bytes that decode, but are not the one form that
	// Marshal gives their value.
	ErrNotCanonical = errors.New("not the canonical encoding of its value")
)

// MaxSize bounds what Unmarshal looks at, in bytes.
const MaxSize = 4 << 20

// Marshal returns the canonical bytes of v. Struct fields carry
// `cbor:"N,keyasint"` tags.
func Marshal(v any) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(v)
}

// MustMarshal is Marshal for values of this module's own types, which always
// have an encoding; it panics otherwise.
func MustMarshal(v any) []byte {
	b, err := Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("canon: %T has no encoding: %v", v, err))
	}
	return b
}

// Unmarshal decodes canonical bytes into v. It refuses unknown and duplicate
// keys, indefinite lengths, tags, trailing bytes and more than MaxSize bytes with
// ErrMalformed, and any encoding but the one Marshal gives with ErrNotCanonical.
// After an error v may hold a part of what was decoded: do not use it.
func Unmarshal(b []byte, v any) error {
	if len(b) > MaxSize {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrMalformed, len(b), MaxSize)
	}
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   16,
		MaxArrayElements:  1 << 17,
		MaxMapPairs:       1 << 12,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		return err
	}
	if err := mode.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	encode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return err
	}
	again := comparison{rest: b}
	if err := encode.NewEncoder(&again).Encode(v); err != nil {
		return err
	}
	if again.differs || len(again.rest) > 0 {
		return ErrNotCanonical
	}
	return nil
}

// comparison is a writer that compares what it is given with what is expected,
// so that the second encoding is not kept.
type comparison struct {
	rest    []byte // still expected
	differs bool
}

// Write implements io.Writer.
func (c *comparison) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(c.rest, p) {
		c.differs = true
	}
	if !c.differs {
		c.rest = c.rest[len(p):]
	}
	return len(p), nil
}
