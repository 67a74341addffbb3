package envelope

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"xinqiao/crypto/gm"
)

// errFinished reports a write behind the end of a document.
var errFinished = errors.New("write to an envelope that is finished")

// A Writer seals a document of any length while it is written, in the memory of
// one chunk. The result is the envelope that Seal would make. Without Close it is
// no envelope: nobody opens it.
type Writer struct {
	to      io.Writer
	message *message
	pending []byte // not yet sealed: whether it is the last chunk is not known
	sealed  []byte // reused
	err     error  // after the first failure nothing more is written
}

// NewWriter begins an envelope for the Sealer's recipients, which opens only with
// the same context.
func (s *Sealer) NewWriter(to io.Writer, context []byte) (*Writer, error) {
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(s.rand, salt); err != nil {
		return nil, fmt.Errorf("make a salt: %w", err)
	}
	m, err := deriveMessage(s.engine, s.key[:], salt, s.headSum, context)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	w := &Writer{to: to, message: m, pending: make([]byte, 0, chunkSize), sealed: make([]byte, 0, sealedChunk)}
	for _, part := range [][]byte{s.head, salt, m.commitment} {
		if _, err := to.Write(part); err != nil {
			return nil, fmt.Errorf("write the envelope: %w", err)
		}
	}
	return w, nil
}

// Write seals what fills chunks and keeps the rest. After an error the envelope
// cannot be completed.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.err != nil {
		return 0, w.err
	}
	for len(p) > 0 {
		if len(w.pending) == chunkSize {
			if err := w.flush(false); err != nil {
				return n, err
			}
		}
		k := min(chunkSize-len(w.pending), len(p))
		w.pending = append(w.pending, p[:k]...)
		n, p = n+k, p[k:]
	}
	return n, nil
}

// Close seals the last chunk. It does not close what the envelope is written to.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.flush(true); err != nil {
		return err
	}
	w.err = errFinished
	return nil
}

func (w *Writer) flush(last bool) error {
	w.sealed = w.message.seal(w.sealed[:0], w.pending, last)
	clear(w.pending)
	w.pending = w.pending[:0]
	if _, err := w.to.Write(w.sealed); err != nil {
		w.err = fmt.Errorf("write the envelope: %w", err)
	}
	return w.err
}

// A Reader opens an envelope of any length while it is read, in the memory of two
// chunks. Every byte that it returns is authentic and in its place; that the
// document is whole is known only from io.EOF. Whoever stops before, or meets
// another error, holds the beginning of a document and must not take it for one.
type Reader struct {
	from    *bufio.Reader
	message *message
	chunk   []byte // reused
	plain   []byte // opened and not yet read
	err     error
}

// NewReader begins to open an envelope for the recipient id, whose private key u
// uses. It returns ErrFormat, ErrNotRecipient, ErrOpen or an error of from.
func NewReader(e gm.Engine, id gm.Digest, u Unwrapper, context []byte, from io.Reader) (*Reader, error) {
	r := &Reader{from: bufio.NewReaderSize(from, sealedChunk+1)}
	head, err := r.take(nil, fixed)
	if err != nil {
		return nil, err
	}
	n, err := headerLength(head)
	if err != nil {
		return nil, err
	}
	if head, err = r.take(head, n); err != nil {
		return nil, err
	}
	h, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	keys, err := r.take(nil, saltSize+gm.HashSize)
	if err != nil {
		return nil, err
	}
	if r.message, err = unlock(e, id, u, context, h, head, keys[:saltSize], keys[saltSize:]); err != nil {
		return nil, err
	}
	r.chunk = make([]byte, sealedChunk)
	return r, nil
}

// take appends n bytes; an envelope that ends before is none.
func (r *Reader) take(b []byte, n int) ([]byte, error) {
	b = append(b, make([]byte, n)...)
	if _, err := io.ReadFull(r.from, b[len(b)-n:]); err != nil {
		return nil, cutShort(err)
	}
	return b, nil
}

// cutShort is ErrFormat where the stream ended, and an error of the stream
// otherwise.
func cutShort(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrFormat
	}
	return fmt.Errorf("read the envelope: %w", err)
}

// Read returns authentic bytes; see Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 && r.err == nil {
		r.advance()
	}
	if len(r.plain) == 0 {
		return 0, r.err
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// advance opens the next chunk. The last one is the one that nothing follows; if
// that was not sealed as the last, something was cut off.
func (r *Reader) advance() {
	n, err := io.ReadFull(r.from, r.chunk)
	whole := err == nil
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	last := !whole
	if err == nil && whole {
		_, err = r.from.Peek(1)
		if last = err == io.EOF; last {
			err = nil
		}
	}
	switch {
	case err != nil:
		r.err = fmt.Errorf("read the envelope: %w", err)
		return
	case n < gm.TagSize, n == gm.TagSize && r.message.next > 0:
		// A last chunk without content stands only for an empty document.
		r.err = ErrOpen
		return
	}
	if r.plain, r.err = r.message.open(r.chunk[:0], r.chunk[:n], last); r.err == nil && last {
		r.err = io.EOF
	}
}
