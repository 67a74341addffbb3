package envelope

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"xinqiao/crypto/gm"
)

// sealStream seals text through a Writer in pieces.
func sealStream(s *Sealer, dst io.Writer, context, text []byte, piece int) error {
	w, err := s.NewWriter(dst, context)
	if err != nil {
		return err
	}
	for p := range slices.Chunk(text, piece) {
		if n, err := w.Write(p); err != nil || n != len(p) {
			return fmt.Errorf("wrote %d of %d: %w", n, len(p), err)
		}
	}
	return w.Close()
}

// sameSalt is a source of randomness that gives every message the same salt, so
// that two of them can be compared.
type sameSalt struct{}

func (sameSalt) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i)
	}
	return len(b), nil
}

func TestWriterWritesWhatSealReturns(t *testing.T) {
	t.Parallel()
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		a, b := newHolder(t, gm.Emmansun()), newHolder(t, gm.Tjfoc())
		s, err := NewSealer(e, sameSalt{}, a.Recipient, b.Recipient)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2*chunkSize - 1, 2 * chunkSize, 2*chunkSize + 1} {
			want, err := s.Seal([]byte("c"), text(n))
			if err != nil {
				t.Fatal(err)
			}
			for _, piece := range []int{1000, chunkSize - 1, chunkSize, chunkSize + 1, 3 * chunkSize} {
				var got bytes.Buffer
				if err := sealStream(s, &got, []byte("c"), text(n), piece); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), want) {
					t.Errorf("%s: %d bytes in pieces of %d: other bytes than Seal's", e.Name(), n, piece)
				}
			}
			for _, to := range []holder{a, b} {
				if got, err := to.open([]byte("c"), want); err != nil || !bytes.Equal(got, text(n)) {
					t.Errorf("%s to %s: %d bytes: %v", e.Name(), to.engine.Name(), n, err)
				}
			}
		}
	}
}

func TestReaderTakesAnySource(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	for _, n := range []int{0, 1, chunkSize, chunkSize + 1, 2 * chunkSize} {
		want := text(n)
		sealed := seal(t, nil, want, to)
		for name, source := range map[string]func(io.Reader) io.Reader{
			"one byte a time":        iotest.OneByteReader,
			"half of what is asked":  iotest.HalfReader,
			"the end beside bytes":   iotest.DataErrReader,
			"now and then no answer": func(r io.Reader) io.Reader { return &idle{r: r, every: 3} },
		} {
			if got, err := to.stream(nil, source(bytes.NewReader(sealed))); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %s: %v", n, name, err)
			}
		}
		r, err := NewReader(to.engine, to.ID, to, nil, bytes.NewReader(sealed))
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, want); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// idle answers every so many reads with no bytes and no error.
type idle struct {
	r        io.Reader
	every, n int
}

func (i *idle) Read(b []byte) (int, error) {
	if i.n++; i.n%i.every == 0 {
		return 0, nil
	}
	return i.r.Read(b)
}

// TestReaderGivesOnlyABeginning: whatever was done to the chunks, what was read
// before the error is a beginning of the document, made of whole chunks, and the
// end is never io.EOF.
func TestReaderGivesOnlyABeginning(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	want := text(3*chunkSize + 100)
	s, err := NewSealer(gm.Emmansun(), rand.Reader, to.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.Seal(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Seal(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	at := bodyAt(t, sealed)
	head, c := sealed[:at], slices.Collect(slices.Chunk(sealed[at:], sealedChunk))
	foreign := slices.Collect(slices.Chunk(other[at:], sealedChunk))
	flipped := func(i, at int) []byte {
		b := bytes.Clone(c[i])
		b[at] ^= 1
		return b
	}
	for name, v := range map[string]struct {
		chunks [][]byte
		good   int // chunks that are read before the error
	}{
		"first changed":            {[][]byte{flipped(0, 0), c[1], c[2], c[3]}, 0},
		"third changed":            {[][]byte{c[0], c[1], flipped(2, 7), c[3]}, 2},
		"tag of the second":        {[][]byte{c[0], flipped(1, sealedChunk-1), c[2], c[3]}, 1},
		"last changed":             {[][]byte{c[0], c[1], c[2], flipped(3, 0)}, 3},
		"cut after a chunk":        {[][]byte{c[0], c[1]}, 1},
		"cut in a chunk":           {[][]byte{c[0], c[1], c[2][:1000]}, 2},
		"cut in a tag":             {[][]byte{c[0], c[1], c[2][:sealedChunk-1]}, 2},
		"cut after a byte":         {[][]byte{c[0], c[1], c[2][:1]}, 2},
		"cut in the last tag":      {[][]byte{c[0], c[1], c[2], c[3][:len(c[3])-1]}, 3},
		"nothing left":             {nil, 0},
		"two swapped":              {[][]byte{c[0], c[2], c[1], c[3]}, 1},
		"one repeated":             {[][]byte{c[0], c[1], c[1], c[2], c[3]}, 2},
		"one left out":             {[][]byte{c[0], c[2], c[3]}, 1},
		"first left out":           {[][]byte{c[1], c[2], c[3]}, 0},
		"last repeated":            {[][]byte{c[0], c[1], c[2], c[3], c[3]}, 3},
		"a byte appended":          {[][]byte{c[0], c[1], c[2], c[3], {0}}, 3},
		"a chunk appended":         {[][]byte{c[0], c[1], c[2], c[3], c[0]}, 3},
		"another message's chunk":  {[][]byte{c[0], foreign[1], c[2], c[3]}, 1},
		"another message's end":    {[][]byte{c[0], c[1], c[2], foreign[3]}, 3},
		"another message appended": {[][]byte{c[0], c[1], c[2], c[3], other}, 3},
	} {
		bad := append(bytes.Clone(head), bytes.Join(v.chunks, nil)...)
		got, err := to.stream(nil, bytes.NewReader(bad))
		if !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(got, want[:v.good*chunkSize]) {
			t.Errorf("%s: %d bytes were given out, want %d chunks", name, len(got), v.good)
		}
		if whole, err := to.open(nil, bad); err == nil || whole != nil {
			t.Errorf("%s: opens", name)
		}
	}
}

// TestReaderErrorsAreFinal: after an error no later chunk is given out.
func TestReaderErrorsAreFinal(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	bad := seal(t, nil, text(2*chunkSize+1), to)
	bad[bodyAt(t, bad)+sealedChunk] ^= 1
	r, err := NewReader(to.engine, to.ID, to, nil, bytes.NewReader(bad))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); !errors.Is(err, ErrOpen) || len(got) != chunkSize {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for range 3 {
		if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, ErrOpen) {
			t.Errorf("reads on: %d bytes, %v", n, err)
		}
	}
}

// TestSourceThatBreaksOff: an error of the source is passed on, wherever it
// comes, and is never taken for the end of the envelope. io.ErrUnexpectedEOF is
// what an HTTP body gives that was cut.
func TestSourceThatBreaksOff(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	sealed := seal(t, nil, text(chunkSize+10), to)
	at := bodyAt(t, sealed)
	for _, broken := range []error{io.ErrUnexpectedEOF, errors.New("connection reset")} {
		for _, n := range []int{0, 3, 8, 100, at - 1, at, at + 1, at + sealedChunk, at + sealedChunk + 1, len(sealed)} {
			source := io.MultiReader(bytes.NewReader(sealed[:n]), iotest.ErrReader(broken))
			if _, err := to.stream(nil, source); !errors.Is(err, broken) {
				t.Errorf("broken after %d bytes: %v", n, err)
			}
		}
	}
}

// limited takes so many bytes and then fails, or only claims less.
type limited struct {
	bytes.Buffer
	room int
	err  error
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(l.room, len(b))
	l.room -= n
	l.Buffer.Write(b[:n])
	if n < len(b) {
		return n, l.err
	}
	return n, nil
}

func TestAFailedWritePoisons(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	s, err := NewSealer(gm.Emmansun(), rand.Reader, to.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left")
	for _, v := range []struct{ fails, want error }{{full, full}, {nil, io.ErrShortWrite}} {
		if _, err := s.NewWriter(&limited{room: 10, err: v.fails}, nil); !errors.Is(err, v.want) {
			t.Errorf("a head that is not written: %v", err)
		}
		dst := &limited{room: len(s.head) + 200, err: v.fails}
		w, err := s.NewWriter(dst, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := w.Write(text(chunkSize)); n != chunkSize || err != nil {
			t.Errorf("the first chunk is kept: %d, %v", n, err)
		}
		if n, err := w.Write(text(10)); n != 0 || !errors.Is(err, v.want) {
			t.Errorf("the write that fails: %d, %v", n, err)
		}
		dst.room = 1 << 20 // there is room again, but the stream has a gap
		size := dst.Len()
		if n, err := w.Write(text(10)); n != 0 || !errors.Is(err, v.want) {
			t.Errorf("a write after the failed one: %d, %v", n, err)
		}
		if err := w.Close(); !errors.Is(err, v.want) {
			t.Errorf("close after a failed write: %v", err)
		}
		if dst.Len() != size {
			t.Error("something was written after the failure")
		}
	}
}

func TestWriterEnds(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	s, err := NewSealer(gm.Emmansun(), rand.Reader, to.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	var dst bytes.Buffer
	w, err := s.NewWriter(&dst, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text(chunkSize + 1)); err != nil {
		t.Fatal(err)
	}
	// Whoever stops here has written a beginning, and it shows.
	if got, err := to.open(nil, dst.Bytes()); !errors.Is(err, ErrOpen) || got != nil {
		t.Errorf("an envelope without an end opens: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(dst.Bytes())
	if n, err := w.Write([]byte{1}); n != 0 || !errors.Is(err, ErrClosed) {
		t.Errorf("write after close: %d, %v", n, err)
	}
	if n, err := w.Write(nil); n != 0 || !errors.Is(err, ErrClosed) {
		t.Errorf("empty write after close: %d, %v", n, err)
	}
	if err := w.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	if !bytes.Equal(dst.Bytes(), whole) {
		t.Error("something was written after the end")
	}
	if got, err := to.open(nil, whole); err != nil || !bytes.Equal(got, text(chunkSize+1)) {
		t.Errorf("the whole: %v", err)
	}
}

func TestStreamsEndSomewhere(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	s, err := NewSealer(gm.Emmansun(), rand.Reader, to.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.NewWriter(io.Discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.message.next = maxChunks - 1
	if _, err := w.Write(text(chunkSize)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, ErrTooLong) {
		t.Errorf("a chunk over the limit: %v", err)
	}
	r, err := NewReader(to.engine, to.ID, to, nil, bytes.NewReader(seal(t, nil, text(10), to)))
	if err != nil {
		t.Fatal(err)
	}
	r.message.next = maxChunks
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("read over the limit: %v", err)
	}
	big := seal(t, nil, make([]byte, MaxPlaintext), to)
	if _, err := to.open(nil, big); err != nil {
		t.Errorf("the largest document of Seal: %v", err)
	}
	var stream bytes.Buffer
	if err := sealStream(s, &stream, nil, make([]byte, MaxPlaintext+1), 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(to.engine, to.ID, to, nil, stream.Bytes()); !errors.Is(err, ErrTooLong) {
		t.Errorf("Open of a byte more: %v", err)
	}
	if got, err := to.stream(nil, &stream); err != nil || len(got) != MaxPlaintext+1 {
		t.Errorf("read of a byte more: %v", err)
	}
}

// pattern is a document that is nowhere in memory: it yields and checks bytes by
// their place.
type pattern struct{ at, size int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.size {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.size-p.at)]
	for i := range b {
		b[i] = byte((p.at + int64(i)) * 0x9e3779b1 >> 20)
	}
	p.at += int64(len(b))
	return len(b), nil
}

func (p *pattern) Write(b []byte) (int, error) {
	for i := range b {
		if b[i] != byte((p.at+int64(i))*0x9e3779b1>>20) {
			return i, fmt.Errorf("another byte at %d", p.at+int64(i))
		}
	}
	p.at += int64(len(b))
	return len(b), nil
}

// TestStreamsInConstantMemory seals 256 MiB into a pipe and opens them from it.
// It does not run beside other tests, so what is allocated meanwhile is its own:
// all of it, not only what is alive at once, stays below a hundredth.
func TestStreamsInConstantMemory(t *testing.T) {
	const size = 256 << 20
	to := newHolder(t, gm.Emmansun())
	s, err := NewSealer(gm.Emmansun(), rand.Reader, to.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	in, out := io.Pipe()
	sealed := make(chan error, 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	go func() {
		w, err := s.NewWriter(out, nil)
		if err == nil {
			_, err = io.Copy(w, &pattern{size: size})
		}
		if err == nil {
			err = w.Close()
		}
		out.CloseWithError(err)
		sealed <- err
	}()
	r, err := NewReader(to.engine, to.ID, to, nil, in)
	if err != nil {
		t.Fatal(err)
	}
	var opened pattern
	if _, err := io.Copy(&opened, r); err != nil || opened.at != size {
		t.Errorf("opened %d bytes: %v", opened.at, err)
	}
	in.CloseWithError(io.ErrClosedPipe) // nothing hangs when reading stopped early
	if err := <-sealed; err != nil {
		t.Errorf("sealed: %v", err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > size/100 {
		t.Errorf("%d bytes were allocated for %d", got, size)
	}
}
