package envelope

import (
	"bufio"
	"fmt"
	"io"

	"xinqiao/crypto/gm"
)

// A Writer seals a document of any length while it is written, in the memory of
// one chunk. The result is the envelope that Seal would make.
//
// Close declares the document whole, so it must not be deferred: whoever stops
// half-way leaves the Writer unclosed, and nobody opens what it wrote.
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
		if err := w.write(part); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Write seals what fills chunks and keeps the rest. After an error, which is that
// of the underlying writer, io.ErrShortWrite or ErrTooLong, everything fails with it
// and the envelope cannot be completed; after Close with ErrClosed.
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
// A second Close is ErrClosed.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.flush(true); err != nil {
		return err
	}
	w.err = ErrClosed
	return nil
}

func (w *Writer) flush(last bool) error {
	w.sealed, w.err = w.message.seal(w.sealed[:0], w.pending, last)
	clear(w.pending)
	w.pending = w.pending[:0]
	if w.err == nil {
		w.err = w.write(w.sealed)
	}
	return w.err
}

func (w *Writer) write(b []byte) error {
	n, err := w.to.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write the envelope: %w", err)
	}
	return nil
}

// A Reader opens an envelope of any length while it is read, in the memory of two
// chunks. Every byte that it returns is authentic and in its place; that the
// document is whole is known only from io.EOF. Whoever stops before, or meets
// another error, holds the beginning of a document and must not take it for one.
// The envelope ends where the stream below does. Any error is final.
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
	r := &Reader{from: bufio.NewReaderSize(source{from}, sealedChunk+1)}
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

// source tells a stream that broke off from one that ended: io.ReadFull makes
// io.ErrUnexpectedEOF of an early end, and some streams, such as the body of an HTTP
// response, give it of their own when they are cut.
type source struct{ io.Reader }

func (s source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("the stream broke off: %w", err)
	}
	return n, err
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
	last := err == io.EOF || err == io.ErrUnexpectedEOF
	if err == nil {
		_, err = r.from.Peek(1)
		last = err == io.EOF
	}
	if err != nil && !last {
		r.err = fmt.Errorf("read the envelope: %w", err)
		return
	}
	if r.plain, r.err = r.message.open(r.chunk[:0], r.chunk[:n], last); r.err == nil && last {
		r.err = io.EOF
	}
}
