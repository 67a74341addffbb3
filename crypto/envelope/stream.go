package envelope

import (
	"io"

	"xinqiao/crypto/gm"
)

// A Writer seals a document of any length up to MaxStream in constant memory.
// What it writes is what Seal returns for the same content. It is for one
// goroutine.
//
// Close declares the document whole. So it must not be deferred: whoever stops
// half-way leaves the Writer unclosed, and no recipient takes the part for the
// document.
type Writer struct {
	dst    io.Writer
	chunks *chunks
	buf    []byte // content not yet sealed, at most a chunk
	out    []byte // the sealed chunk on its way to dst
	err    error  // why nothing more is written
}

// NewWriter begins a message to dst, bound to context as Seal binds it.
func (s *Sealer) NewWriter(dst io.Writer, context []byte) (*Writer, error) {
	start, c, err := s.start(context, 0)
	if err != nil {
		return nil, err
	}
	w := &Writer{dst: dst, chunks: c, buf: make([]byte, 0, chunkSize), out: make([]byte, 0, sealedChunk)}
	if err := w.write(start); err != nil {
		return nil, err
	}
	return w, nil
}

// NewWriter begins one message for the recipients, with a content key of its own.
func NewWriter(e gm.Engine, rand io.Reader, dst io.Writer, context []byte, to ...Recipient) (*Writer, error) {
	s, err := NewSealer(e, rand, to...)
	if err != nil {
		return nil, err
	}
	return s.NewWriter(dst, context)
}

// Write seals p. After the first error, which is dst's, io.ErrShortWrite or
// ErrTooLong, the Writer refuses everything with it; after Close with ErrClosed.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 && w.err == nil {
		if len(w.buf) == chunkSize { // and more comes, so it is not the last
			w.flush(false)
			continue
		}
		m := min(chunkSize-len(w.buf), len(p))
		w.buf = append(w.buf, p[:m]...)
		p, n = p[m:], n+m
	}
	return n, w.err
}

// Close seals the last chunk; it does not close the underlying writer. The
// document is whole only when Close returned nil. A second Close is ErrClosed.
func (w *Writer) Close() error {
	w.flush(true)
	clear(w.buf[:cap(w.buf)])
	if w.err != nil {
		return w.err
	}
	w.err = ErrClosed
	return nil
}

func (w *Writer) flush(last bool) {
	if w.err != nil {
		return
	}
	out, err := w.chunks.seal(w.out[:0], w.buf, last)
	if err != nil {
		w.err = err
		return
	}
	w.buf = w.buf[:0]
	w.err = w.write(out)
}

func (w *Writer) write(b []byte) error {
	n, err := w.dst.Write(b)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// A Reader opens a document of any length in constant memory. It is for one
// goroutine.
//
// It gives out only bytes that their sealer wrote, in their order. But what was
// read is a beginning of the document, and the document only when Read has
// returned io.EOF: an attacker who cuts the envelope shows as ErrOpen at the end
// of what is left, so whoever acts on a beginning, or stops early, has not been
// told that there was no more. Keep what was read aside until io.EOF.
type Reader struct {
	src    io.Reader
	chunks *chunks
	in     []byte // a sealed chunk and the byte after it, which tells whether it is the last
	have   int    // bytes in in that were read ahead
	plain  []byte // the open chunk
	left   []byte // what of it was not yet given out
	err    error  // why nothing more is read
}

// NewReader reads the beginning of an envelope from src and unwraps its key for
// the recipient id with u. It returns ErrFormat, ErrNotRecipient, ErrOpen or the
// error of src. The envelope ends where src does.
func NewReader(e gm.Engine, id gm.Digest, u Unwrapper, context []byte, src io.Reader) (*Reader, error) {
	c, err := readStart(e, id, u, context, src)
	if err != nil {
		return nil, err
	}
	return &Reader{src: src, chunks: c, in: make([]byte, sealedChunk+1), plain: make([]byte, 0, chunkSize)}, nil
}

// Read returns io.EOF after the last byte of a whole and authentic document,
// ErrOpen when it is not, ErrTooLong, or the error of the source. Any error is
// final.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.left) == 0 && r.err == nil {
		r.next()
	}
	if len(r.left) == 0 {
		return 0, r.err
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// next opens a chunk. After the last, err is io.EOF, which Read keeps back until
// all of the chunk was given out.
func (r *Reader) next() {
	n, err := fill(r.src, r.in[r.have:])
	if err != nil {
		r.err = err
		return
	}
	n += r.have
	last := n < len(r.in)
	plain, err := r.chunks.open(r.plain[:0], r.in[:min(n, sealedChunk)], last)
	if err != nil {
		r.err = err
		return
	}
	r.left = plain
	if last {
		r.err = io.EOF
		return
	}
	r.in[0], r.have = r.in[sealedChunk], 1
}
