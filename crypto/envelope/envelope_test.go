package envelope

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

// holder is a recipient with its private key.
type holder struct {
	Recipient
	t      testing.TB
	engine gm.Engine
	key    *gm.PrivateKey
}

func (h holder) Unwrap(c []byte) ([]byte, error) { return h.engine.Decrypt(h.key, c) }

func newHolder(t testing.TB, e gm.Engine) holder {
	t.Helper()
	key, err := gm.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return holder{Recipient{KeyID(e, key.Public()), key.Public()}, t, e, key}
}

// open is Open; a Reader must come to the same verdict, so that every test here is
// one of both.
func (h holder) open(context, sealed []byte) ([]byte, error) {
	h.t.Helper()
	whole, err := Open(h.engine, h.ID, h, context, sealed)
	streamed, streamErr := h.stream(context, bytes.NewReader(sealed))
	if !errors.Is(streamErr, err) || err == nil && !bytes.Equal(whole, streamed) {
		h.t.Errorf("Open gives %d bytes and %v, a Reader %d bytes and %v", len(whole), err, len(streamed), streamErr)
	}
	return whole, err
}

// stream reads an envelope to its end.
func (h holder) stream(context []byte, from io.Reader) ([]byte, error) {
	r, err := NewReader(h.engine, h.ID, h, context, from)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func seal(t testing.TB, context, plaintext []byte, to ...holder) []byte {
	t.Helper()
	var r []Recipient
	for _, h := range to {
		r = append(r, h.Recipient)
	}
	sealed, err := Seal(gm.Emmansun(), rand.Reader, context, plaintext, r...)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// text is n bytes of which no two chunks are alike.
func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16 ^ i)
	}
	return b
}

func TestRoundTripSizes(t *testing.T) {
	t.Parallel()
	engines := []gm.Engine{gm.Emmansun(), gm.Tjfoc()}
	for _, n := range []int{0, 1, 1000, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 3*chunkSize + 5} {
		for _, from := range engines {
			a, b := newHolder(t, gm.Emmansun()), newHolder(t, gm.Tjfoc())
			sealed, err := Seal(from, rand.Reader, []byte("context"), text(n), a.Recipient, b.Recipient)
			if err != nil {
				t.Fatal(err)
			}
			for _, to := range []holder{a, b} {
				got, err := to.open([]byte("context"), sealed)
				if err != nil || !bytes.Equal(got, text(n)) {
					t.Errorf("%d bytes from %s to %s: %v", n, from.Name(), to.engine.Name(), err)
				}
			}
		}
	}
}

func TestEveryChangedBitFails(t *testing.T) {
	t.Parallel()
	to, other := newHolder(t, gm.Emmansun()), newHolder(t, gm.Emmansun())
	sealed := seal(t, []byte("c"), []byte("a marriage record"), to, other)
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			got, err := to.open([]byte("c"), bad)
			if err == nil || got != nil {
				t.Fatalf("byte %d, bit %d: opens to %q", i, bit, got)
			}
			if !errors.Is(err, ErrOpen) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrNotRecipient) {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
}

func TestEveryTruncationFails(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	sealed := seal(t, nil, text(100), to)
	for n := range sealed {
		if got, err := to.open(nil, sealed[:n]); err == nil || got != nil {
			t.Fatalf("opens when cut to %d bytes", n)
		}
	}
	if _, err := to.open(nil, append(bytes.Clone(sealed), 0)); err == nil {
		t.Error("opens with a byte more")
	}
}

// bodyAt returns where the chunks begin.
func bodyAt(t testing.TB, sealed []byte) int {
	t.Helper()
	_, head, _, err := parse(sealed)
	if err != nil {
		t.Fatal(err)
	}
	return len(head) + saltSize + gm.HashSize
}

func TestChunksKeepTheirPlaces(t *testing.T) {
	t.Parallel()
	const full = chunkSize + gm.TagSize
	to := newHolder(t, gm.Emmansun())
	sealed := seal(t, nil, text(3*chunkSize), to)
	at := bodyAt(t, sealed)
	head, c := sealed[:at], [][]byte{sealed[at : at+full], sealed[at+full : at+2*full], sealed[at+2*full:]}
	empty := bytes.Repeat([]byte{1}, gm.TagSize)
	for name, chunks := range map[string][][]byte{
		"two swapped":         {c[1], c[0], c[2]},
		"last first":          {c[2], c[1], c[0]},
		"last dropped":        {c[0], c[1]},
		"first dropped":       {c[1], c[2]},
		"middle dropped":      {c[0], c[2]},
		"one twice":           {c[0], c[0], c[1], c[2]},
		"last twice":          {c[0], c[1], c[2], c[2]},
		"empty chunk added":   {c[0], c[1], c[2], empty},
		"nothing left":        {},
		"only the last":       {c[2]},
		"last one byte short": {c[0], c[1], c[2][:full-1]},
	} {
		bad := append(bytes.Clone(head), bytes.Join(chunks, nil)...)
		if got, err := to.open(nil, bad); err == nil || got != nil {
			t.Errorf("%s: opens", name)
		}
	}
	if got, err := to.open(nil, append(bytes.Clone(head), bytes.Join(c, nil)...)); err != nil || len(got) != 3*chunkSize {
		t.Fatalf("the unchanged order: %v", err)
	}
}

// TestOneEnvelopePerText: even the sealer cannot write a full chunk and then an
// empty last one, which would be a second form of the same text.
func TestOneEnvelopePerText(t *testing.T) {
	t.Parallel()
	e := gm.Emmansun()
	to := newHolder(t, e)
	s, err := NewSealer(e, rand.Reader, to.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	salt := make([]byte, saltSize)
	crafted := func(parts ...[]byte) []byte {
		t.Helper()
		m, err := deriveMessage(e, s.key[:], salt, s.headSum, nil)
		if err != nil {
			t.Fatal(err)
		}
		sealed := append(append(bytes.Clone(s.head), salt...), m.commitment...)
		for i, part := range parts {
			if sealed, err = m.seal(sealed, part, i == len(parts)-1); err != nil {
				t.Fatal(err)
			}
		}
		return sealed
	}
	if _, err := to.open(nil, crafted(text(chunkSize))); err != nil {
		t.Fatalf("the usual form: %v", err)
	}
	for name, second := range map[string][]byte{
		"an empty chunk at the end": crafted(text(chunkSize), nil),
		"short chunks":              crafted(text(10), text(10)),
		"an empty chunk first":      crafted(nil, text(10)),
	} {
		if got, err := to.open(nil, second); !errors.Is(err, ErrOpen) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMessagesOfOneSealer(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	s, err := NewSealer(gm.Emmansun(), rand.Reader, to.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Seal([]byte("1"), text(2*chunkSize))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Seal([]byte("1"), text(2*chunkSize))
	if err != nil {
		t.Fatal(err)
	}
	at := bodyAt(t, a)
	if !bytes.Equal(a[:len(s.head)], b[:len(s.head)]) {
		t.Error("the content key is wrapped anew")
	}
	if bytes.Equal(a[at:], b[at:]) {
		t.Error("two messages share a key stream")
	}
	const full = chunkSize + gm.TagSize
	mixed := append(bytes.Clone(a[:at+full]), b[at+full:]...)
	if _, err := to.open([]byte("1"), mixed); !errors.Is(err, ErrOpen) {
		t.Errorf("a chunk of another message is taken: %v", err)
	}
	for _, sealed := range [][]byte{a, b} {
		if _, err := to.open([]byte("1"), sealed); err != nil {
			t.Error(err)
		}
	}
}

func TestSealerIsConcurrent(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		s, err := NewSealer(e, rand.Reader, to.Recipient)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				want := bytes.Repeat([]byte{byte(i)}, 500)
				sealed, err := s.Seal(nil, want)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := to.open(nil, sealed); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %v", e.Name(), err)
				}
				var stream bytes.Buffer
				if err := sealStream(s, &stream, nil, want, 100); err != nil {
					t.Error(err)
				}
				if got, err := to.open(nil, stream.Bytes()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, streamed: %v", e.Name(), err)
				}
			})
		}
		wg.Wait()
	}
}

func TestContextBinds(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	rapid.Check(t, func(t *rapid.T) {
		context := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "context")
		other := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "other")
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "plaintext")
		sealed, err := Seal(gm.Emmansun(), rand.Reader, context, plaintext, to.Recipient)
		if err != nil {
			t.Fatal(err)
		}
		got, err := to.open(other, sealed)
		if bytes.Equal(context, other) {
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Fatalf("does not open: %v", err)
			}
		} else if !errors.Is(err, ErrOpen) || got != nil {
			t.Fatalf("opens in another context: %v", err)
		}
		if len(plaintext) > 16 && bytes.Contains(sealed, plaintext) || len(context) > 16 && bytes.Contains(sealed, context) {
			t.Fatal("the envelope shows its content or context")
		}
	})
}

func TestWhoMayOpen(t *testing.T) {
	t.Parallel()
	to, other := newHolder(t, gm.Emmansun()), newHolder(t, gm.Emmansun())
	sealed := seal(t, nil, []byte("x"), to)
	if _, err := other.open(nil, sealed); !errors.Is(err, ErrNotRecipient) {
		t.Errorf("another recipient: %v", err)
	}
	impostor := other
	impostor.ID = to.ID
	if _, err := impostor.open(nil, sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("the id of a recipient with another key: %v", err)
	}
	if _, err := Open(gm.Emmansun(), to.ID, answer("short"), nil, sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("a content key of a wrong length: %v", err)
	}
	if _, err := Open(gm.Emmansun(), to.ID, answer(make([]byte, contentKeySize)), nil, sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("a wrong content key: %v", err)
	}
}

// answer unwraps everything to itself.
type answer []byte

func (a answer) Unwrap([]byte) ([]byte, error) { return bytes.Clone(a), nil }

// TestOneTextForAll plays a sealer who wraps another content key for the second
// recipient, to let it read another text.
func TestOneTextForAll(t *testing.T) {
	t.Parallel()
	e := gm.Emmansun()
	a, b := newHolder(t, e), newHolder(t, e)
	s, err := NewSealer(e, rand.Reader, a.Recipient, b.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	var h header
	if err := canon.Unmarshal(s.head[len(magic)+4:], &h); err != nil {
		t.Fatal(err)
	}
	if h.To[1].Key, err = e.Encrypt(b.Key, bytes.Repeat([]byte{9}, contentKeySize)); err != nil {
		t.Fatal(err)
	}
	head := canon.MustMarshal(h)
	s.head = append(binary.BigEndian.AppendUint32([]byte(magic), uint32(len(head))), head...)
	s.headSum = e.Sum(s.head)
	sealed, err := s.Seal(nil, []byte("for a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.open(nil, sealed); err != nil {
		t.Fatalf("the crafted envelope is not even well made: %v", err)
	}
	if _, err := b.open(nil, sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("the second recipient: %v", err)
	}
}

func TestMalformedHeaders(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	one := wrapped{ID: to.ID, Key: []byte("k")}
	rest := make([]byte, saltSize+gm.HashSize+gm.TagSize)
	build := func(h any) []byte {
		head := canon.MustMarshal(h)
		b := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(head)))
		return append(append(b, head...), rest...)
	}
	many := make([]wrapped, MaxRecipients+1)
	for i := range many {
		many[i] = wrapped{ID: gm.Digest{byte(i)}, Key: []byte("k")}
	}
	if _, err := to.open(nil, build(header{gm.Suite, []wrapped{one}})); !errors.Is(err, ErrOpen) {
		t.Fatalf("the well-formed header: %v", err)
	}
	for name, bad := range map[string][]byte{
		"nothing":        nil,
		"magic only":     []byte(magic),
		"other magic":    append([]byte("XQE2"), build(header{gm.Suite, []wrapped{one}})[4:]...),
		"length 4 GiB":   append([]byte(magic), 255, 255, 255, 255, 0),
		"other suite":    build(header{"SM-2", []wrapped{one}}),
		"empty suite":    build(header{"", []wrapped{one}}),
		"no suite":       build(map[int]any{2: []wrapped{one}}),
		"no recipients":  build(header{gm.Suite, nil}),
		"too many":       build(header{gm.Suite, many}),
		"the same twice": build(header{gm.Suite, []wrapped{one, one}}),
		"no wrapped key": build(header{gm.Suite, []wrapped{{ID: to.ID}}}),
		"a huge key":     build(header{gm.Suite, []wrapped{{to.ID, make([]byte, maxWrapped+1)}}}),
		"not a map":      build([]int{1, 2}),
	} {
		if _, err := to.open(nil, bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	to := newHolder(t, gm.Emmansun())
	many := make([]Recipient, MaxRecipients+1)
	for i := range many {
		many[i] = Recipient{gm.Digest{byte(i)}, to.Key}
	}
	for name, r := range map[string][]Recipient{
		"nobody":   nil,
		"too many": many,
		"twice":    {to.Recipient, to.Recipient},
		"no key":   {{ID: to.ID}},
	} {
		if _, err := NewSealer(gm.Emmansun(), rand.Reader, r...); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	if _, err := NewSealer(gm.Emmansun(), rand.Reader, many[1:]...); err != nil {
		t.Errorf("%d recipients: %v", MaxRecipients, err)
	}
	if _, err := Seal(gm.Emmansun(), rand.Reader, nil, make([]byte, MaxPlaintext+1), to.Recipient); err == nil {
		t.Error("sealed over the limit")
	}
	for _, n := range []int{0, 10, contentKeySize, contentKeySize + 10} {
		if _, err := Seal(gm.Emmansun(), bytes.NewReader(make([]byte, n)), nil, nil, to.Recipient); err == nil {
			t.Errorf("sealed with %d random bytes", n)
		}
	}
}
