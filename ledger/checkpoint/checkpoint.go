// Package checkpoint encodes, cosigns and verifies tree heads.
//
// The text is a C2SP checkpoint (tlog-checkpoint) in a C2SP signed note, with
// SM3 for SHA-256 and SM2 for Ed25519: the origin line of such a log says so by
// its own name. There is no log key that could be stolen. A head counts when a
// quorum of departments cosigned it, each over its own name and time
// (tlog-cosignature).
package checkpoint

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"xinqiao/crypto/gm"
)

// MaxNote bounds what Parse looks at, in bytes: 150 cosigning departments and
// room to spare.
const MaxNote = 64 << 10

// ErrFormat reports text that is not exactly the one form of a checkpoint.
var ErrFormat = errors.New("not a checkpoint note")

// A Checkpoint is the head of one log at one size.
type Checkpoint struct {
	Origin string    // names the log; a single line without white space at its ends
	Size   uint64    // number of leaves
	Root   gm.Digest // over them
}

// Body returns the note's text: "origin\nsize\nbase64(root)\n".
func (c Checkpoint) Body() []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// ParseBody reads what Body writes and refuses every other spelling, extension
// lines included: nothing that is signed may go unread.
func ParseBody(b []byte) (Checkpoint, error) {
	var c Checkpoint
	if len(b) > MaxNote || !utf8.Valid(b) {
		return c, fmt.Errorf("%w: over %d bytes or not UTF-8", ErrFormat, MaxNote)
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) != 4 || lines[3] != "" {
		return c, fmt.Errorf("%w: want three lines, each ended", ErrFormat)
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return c, fmt.Errorf("%w: the size is not a number", ErrFormat)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != gm.HashSize {
		return c, fmt.Errorf("%w: the root is not a hash in base64", ErrFormat)
	}
	c = Checkpoint{Origin: lines[0], Size: size, Root: gm.Digest(root)}
	if !ValidOrigin(c.Origin) || !bytes.Equal(c.Body(), b) {
		return Checkpoint{}, fmt.Errorf("%w: not its canonical form", ErrFormat)
	}
	return c, nil
}

// ValidOrigin reports whether s can be an origin line: 1 to 255 bytes of
// printable text that neither begins nor ends with a space.
func ValidOrigin(s string) bool {
	return s != "" && len(s) <= 255 && s == strings.TrimSpace(s) && utf8.ValidString(s) &&
		strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// A Note is a checkpoint with the cosignatures gathered for it.
type Note struct {
	Checkpoint
	Cosignatures []Cosignature
}

// A Cosignature is one department's statement that it saw the checkpoint as a
// continuation of what it had seen before.
type Cosignature struct {
	Name    string       // the department's id
	Time    time.Time    // by the cosigner's clock, whole seconds
	Sig     gm.Signature // over Statement
	KeyHash [4]byte      // tells which of the name's keys to try; no security rests on it
}

// Size of a cosignature's payload: key hash, time, signature.
const payloadSize = 4 + 8 + gm.SignatureSize

const linePrefix = "— " // em dash and a space, as in every signed note

// Encode returns the note's text. It is meant for notes from Parse and Cosign;
// a name or origin of another form gives text that Parse refuses.
func (n Note) Encode() []byte {
	b := append(n.Body(), '\n')
	for _, s := range n.Cosignatures {
		payload := append(make([]byte, 0, payloadSize), s.KeyHash[:]...)
		payload = appendTime(payload, s.Time)
		payload = append(payload, s.Sig[:]...)
		b = fmt.Appendf(b, "%s%s %s\n", linePrefix, s.Name, base64.StdEncoding.EncodeToString(payload))
	}
	return b
}

// Parse reads a note in its one form. It says nothing about the signatures: a
// note without any parses, and Verify refuses it.
func Parse(b []byte) (Note, error) {
	if len(b) > MaxNote {
		return Note{}, fmt.Errorf("%w: %d bytes, over the limit of %d", ErrFormat, len(b), MaxNote)
	}
	body, rest, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		return Note{}, fmt.Errorf("%w: no empty line after the text", ErrFormat)
	}
	c, err := ParseBody(append(bytes.Clone(body), '\n'))
	if err != nil {
		return Note{}, err
	}
	n := Note{Checkpoint: c}
	for len(rest) > 0 {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return Note{}, fmt.Errorf("%w: the last line is not ended", ErrFormat)
		}
		s, err := parseLine(string(line))
		if err != nil {
			return Note{}, err
		}
		n.Cosignatures, rest = append(n.Cosignatures, s), after
	}
	if !bytes.Equal(n.Encode(), b) {
		return Note{}, fmt.Errorf("%w: not its canonical form", ErrFormat)
	}
	return n, nil
}

func parseLine(line string) (Cosignature, error) {
	var s Cosignature
	rest, ok := strings.CutPrefix(line, linePrefix)
	name, encoded, found := strings.Cut(rest, " ")
	if !ok || !found || !validName(name) {
		return s, fmt.Errorf("%w: a signature line is malformed", ErrFormat)
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(payload) != payloadSize {
		return s, fmt.Errorf("%w: a signature line does not hold %d bytes", ErrFormat, payloadSize)
	}
	at, ok := readTime(payload[4:12])
	if !ok {
		return s, fmt.Errorf("%w: a cosignature's time is out of range", ErrFormat)
	}
	return Cosignature{Name: name, Time: at, KeyHash: [4]byte(payload), Sig: gm.Signature(payload[12:])}, nil
}

// validName holds names to the form of department ids; a space, a plus sign or
// a line break in a name would let one line pass for another.
func validName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
