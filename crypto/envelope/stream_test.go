package envelope

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"math/bits"
	mrand "math/rand/v2"
	"runtime"
	"testing"
	"testing/iotest"

	"xinqiao/crypto/gm"
)

// streamed seals with a Writer, in pieces of the sizes given.
func streamed(t testing.TB, s *Sealer, context, plaintext []byte, pieces ...int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := s.NewWriter(&out, context)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; len(plaintext) > 0; i++ {
		n := min(pieces[i%len(pieces)], len(plaintext))
		if k, err := w.Write(plaintext[:n]); err != nil || k != n {
			t.Fatalf("write %d: %d, %v", n, k, err)
		}
		plaintext = plaintext[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestWriterMakesWhatSealMakes: the same salt gives the same bytes, however the
// document is cut into writes.
func TestWriterMakesWhatSealMakes(t *testing.T) {
	t.Parallel()
	a, b := newHolder(t, gm.Emmansun()), newHolder(t, gm.Tjfoc())
	s, err := NewSealer(gm.Emmansun(), rand.Reader, a.Recipient, b.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 3*chunkSize + 7} {
		salt := bytes.Repeat([]byte{byte(n)}, saltSize)
		s.rand = bytes.NewReader(salt)
		want, err := s.Seal([]byte("context"), text(n))
		if err != nil {
			t.Fatal(err)
		}
		for _, pieces := range [][]int{{1 << 20}, {chunkSize}, {1000, 1, chunkSize + 1}, {chunkSize - 1, 2}} {
			s.rand = bytes.NewReader(salt)
			if got := streamed(t, s, []byte("context"), text(n), pieces...); !bytes.Equal(got, want) {
				t.Errorf("%d bytes in pieces of %v: another envelope", n, pieces)
			}
		}
		for _, h := range []holder{a, b} {
			if got, err := h.open([]byte("context"), want); err != nil || !bytes.Equal(got, text(n)) {
				t.Errorf("%d bytes: %v", n, err)
			}
			for _, slow := range []io.Reader{iotest.OneByteReader(bytes.NewReader(want)), iotest.DataErrReader(bytes.NewReader(want))} {
				if got, err := h.stream([]byte("context"), slow); err != nil || !bytes.Equal(got, text(n)) {
					t.Errorf("%d bytes, slowly: %v", n, err)
				}
			}
		}
	}
}

// endless gives n bytes that nobody keeps.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	e.left -= n
	return n, nil
}

// TestStreamInConstantMemory sends four times MaxPlaintext through Writer and
// Reader at once.
func TestStreamInConstantMemory(t *testing.T) {
	const size = 4 * MaxPlaintext
	h := newHolder(t, gm.Emmansun())
	s, err := NewSealer(gm.Emmansun(), rand.Reader, h.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	from, to := io.Pipe()
	go func() {
		w, err := s.NewWriter(to, nil)
		if err == nil {
			_, err = io.Copy(w, &endless{size})
		}
		if err == nil {
			err = w.Close()
		}
		to.CloseWithError(err)
	}()
	r, err := NewReader(gm.Emmansun(), h.ID, h, nil, from)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n != size {
		t.Fatalf("%d of %d bytes, %v", n, size, err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.Sys - before.Sys; grown > 16<<20 {
		t.Errorf("%d MiB more are in use", grown>>20)
	}
}

// TestReaderGivesOnlyWhatIsAuthentic: up to the damage the bytes are right, and
// the end is never io.EOF.
func TestReaderGivesOnlyWhatIsAuthentic(t *testing.T) {
	t.Parallel()
	h := newHolder(t, gm.Emmansun())
	plain := text(3*chunkSize + 9)
	sealed := seal(t, nil, plain, h)
	at := bodyAt(t, sealed)
	chunk := func(i int) []byte { return sealed[at+i*sealedChunk : min(at+(i+1)*sealedChunk, len(sealed))] }
	join := func(parts ...[]byte) []byte { return append(bytes.Clone(sealed[:at]), bytes.Join(parts, nil)...) }
	flipped := bytes.Clone(sealed)
	flipped[at+2*sealedChunk+5] ^= 1
	for name, tc := range map[string]struct {
		envelope []byte
		chunks   int // that may be read
	}{
		"cut after a chunk":   {join(chunk(0), chunk(1)), 1},
		"cut inside a chunk":  {sealed[:at+sealedChunk+99], 1},
		"cut inside the tag":  {sealed[:len(sealed)-1], 3},
		"reordered":           {join(chunk(0), chunk(2), chunk(1), chunk(3)), 1},
		"repeated":            {join(chunk(0), chunk(0), chunk(1), chunk(2), chunk(3)), 1},
		"left out":            {join(chunk(0), chunk(2), chunk(3)), 1},
		"a bit":               {flipped, 2},
		"something behind it": {append(bytes.Clone(sealed), 1), 3},
		"another message":     {join(chunk(0), seal(t, nil, plain, h)[at+sealedChunk:]), 1},
	} {
		got, err := h.stream(nil, bytes.NewReader(tc.envelope))
		if !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
		if len(got) > tc.chunks*chunkSize || !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: %d bytes are given out", name, len(got))
		}
	}
}

// TestStreamFailures: an error of the disk or the network is not one of the
// envelope, stays, and leaves nothing that opens.
func TestStreamFailures(t *testing.T) {
	t.Parallel()
	h := newHolder(t, gm.Emmansun())
	s, err := NewSealer(gm.Emmansun(), rand.Reader, h.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left on device")
	var out bytes.Buffer
	w, err := s.NewWriter(&limited{&out, 2 * chunkSize, full}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text(4 * chunkSize)); !errors.Is(err, full) {
		t.Errorf("write: %v", err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, full) {
		t.Errorf("a write after it: %v", err)
	}
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("close: %v", err)
	}
	if _, err := h.stream(nil, &out); err == nil {
		t.Error("what was written opens")
	}
	if _, err := s.NewWriter(&limited{&out, 3, full}, nil); !errors.Is(err, full) {
		t.Errorf("no room for the header: %v", err)
	}
	good := seal(t, nil, text(2*chunkSize), h)
	broken := io.MultiReader(bytes.NewReader(good[:len(good)-chunkSize]), iotest.ErrReader(full))
	if _, err := h.stream(nil, broken); !errors.Is(err, full) {
		t.Errorf("read: %v", err)
	}
	var done bytes.Buffer
	w, err = s.NewWriter(&done, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err == nil || w.Close() == nil {
		t.Error("it goes on behind its end")
	}
	if got, err := h.stream(nil, &done); err != nil || len(got) != 0 {
		t.Errorf("an empty document: %d bytes, %v", len(got), err)
	}
}

// limited writes n bytes and then fails.
type limited struct {
	to   io.Writer
	n    int
	fail error
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.n {
		return 0, l.fail
	}
	l.n -= len(p)
	return l.to.Write(p)
}

// TestTenThousandChangedBytes changes one byte of an envelope at a time; none
// opens, whole or streamed.
func TestTenThousandChangedBytes(t *testing.T) {
	t.Parallel()
	h, other := newHolder(t, gm.Emmansun()), newHolder(t, gm.Emmansun())
	sealed := seal(t, []byte("context"), text(700), h, other)
	random := mrand.New(mrand.NewPCG(1, 2))
	opened := 0
	for range 10_000 {
		at, change := random.IntN(len(sealed)), byte(1+random.IntN(255))
		sealed[at] ^= change
		if got, err := h.open([]byte("context"), sealed); err == nil || got != nil {
			opened++
			t.Errorf("byte %d changed by %08b opens", at, bits.Reverse8(change))
		}
		sealed[at] ^= change
	}
	if _, err := h.open([]byte("context"), sealed); err != nil || opened > 0 {
		t.Errorf("the unchanged envelope: %v; %d changed ones open", err, opened)
	}
}
