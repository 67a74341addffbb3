// Package envelope is the sealed document: encrypted for up to sixteen
// recipients and bound to a context. Seal and Open work in memory and give the
// whole document or nothing; Writer and Reader stream the same bytes in constant
// memory.
//
//	"XQE1" | header length (4 bytes, big-endian) | header | salt (32) | commitment (32) | chunks
//
// The header is canonical CBOR: the suite, and for each recipient the id of its
// key and the 32-byte content key encrypted to it by SM2. From the content key, the
// salt, the hash of everything up to the header's end and the hash of the context,
// HKDF-SM3 derives the commitment and the SM4 key of this message. Chunks are
// SM4-GCM over 64 KiB each, with their number and a last-chunk flag as nonce.
//
// The commitment is there because GCM does not commit to its key: without it a
// sealer could wrap two content keys and let two recipients read two different
// texts from the same bytes.
package envelope

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

// Limits. MaxPlaintext, in bytes, is that of Seal and Open; a larger document is
// for Writer and Reader, which go on to MaxStream (16 TiB). There one key has
// encrypted 2^40 blocks, and what that tells about the text is still below 2^-48.
const (
	MaxRecipients = 16
	MaxPlaintext  = 64 << 20
	MaxStream     = maxChunks * chunkSize
)

const (
	magic          = "XQE1"
	domain         = "xinqiao/envelope/v1"
	idDomain       = "xinqiao/key-id/v1"
	chunkSize      = 64 << 10
	sealedChunk    = chunkSize + gm.TagSize
	maxChunks      = 1 << 28
	saltSize       = 32
	contentKeySize = 32
	maxHeader      = 16 << 10
	maxWrapped     = 512
)

// Errors of this package.
var (
	// ErrOpen is the one answer to every cryptographic failure: a wrong key, a
	// wrong context, changed, cut, repeated or reordered bytes.
	ErrOpen = errors.New("the envelope does not open")
	// ErrNotRecipient reports an envelope that is addressed to others.
	ErrNotRecipient = errors.New("the envelope is not addressed to this key")
	// ErrFormat reports bytes that do not begin as an envelope of this version and
	// suite does.
	ErrFormat = errors.New("not an envelope of this version")
	// ErrTooLong reports a document over MaxPlaintext or a stream over MaxStream.
	ErrTooLong = errors.New("the document is too long")
	// ErrClosed reports a Write after Close.
	ErrClosed = errors.New("the envelope is closed")
)

// A Recipient is who may open: the id under which it finds its wrapped key (the
// SM3 hash of its encryption certificate, or KeyID) and the key itself.
type Recipient struct {
	ID  gm.Digest
	Key gm.PublicKey
}

// Unwrapper decrypts with a recipient's private key; *keyring.Keyring is one.
type Unwrapper interface {
	Unwrap(ciphertext []byte) ([]byte, error)
}

// KeyID is the recipient id of a bare public key that has no certificate.
func KeyID(e gm.Engine, key gm.PublicKey) gm.Digest {
	return e.Sum(gm.Preimage(idDomain, key.Bytes()))
}

type header struct {
	Suite string    `cbor:"1,keyasint"`
	To    []wrapped `cbor:"2,keyasint"`
}

type wrapped struct {
	ID  gm.Digest `cbor:"1,keyasint"`
	Key []byte    `cbor:"2,keyasint"` // content key under SM2, ASN.1
}

// A Sealer seals many messages to the same recipients under one content key,
// which is wrapped once. Each message has its own salt and key. It is safe for
// concurrent use if its source of randomness is; it holds the content key, so
// it lives no longer than an epoch.
type Sealer struct {
	engine  gm.Engine
	rand    io.Reader
	head    []byte // magic, length and header
	headSum gm.Digest
	key     [contentKeySize]byte
}

// NewSealer makes a content key from rand and wraps it for 1 to MaxRecipients
// recipients, who need different ids.
func NewSealer(e gm.Engine, rand io.Reader, to ...Recipient) (*Sealer, error) {
	if len(to) == 0 || len(to) > MaxRecipients {
		return nil, fmt.Errorf("seal for %d recipients: want 1 to %d", len(to), MaxRecipients)
	}
	s := &Sealer{engine: e, rand: rand}
	if _, err := io.ReadFull(rand, s.key[:]); err != nil {
		return nil, fmt.Errorf("make a content key: %w", err)
	}
	h := header{Suite: gm.Suite}
	for _, r := range to {
		if h.find(r.ID) != nil {
			return nil, errors.New("seal: two recipients have the same id")
		}
		w, err := e.Encrypt(r.Key, s.key[:])
		if err != nil {
			return nil, fmt.Errorf("wrap the content key: %w", err)
		}
		h.To = append(h.To, wrapped{ID: r.ID, Key: w})
	}
	head, err := canon.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode the envelope's header: %w", err)
	}
	s.head = binary.BigEndian.AppendUint32([]byte(magic), uint32(len(head)))
	s.head = append(s.head, head...)
	s.headSum = e.Sum(s.head)
	return s, nil
}

// Seal encrypts plaintext, at most MaxPlaintext bytes, to one message. It opens
// only with the same context, which is not part of the message.
func (s *Sealer) Seal(context, plaintext []byte) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, fmt.Errorf("seal %d bytes: %w: the limit is %d", len(plaintext), ErrTooLong, MaxPlaintext)
	}
	n := max(1, (len(plaintext)+chunkSize-1)/chunkSize)
	out, c, err := s.start(context, len(plaintext)+n*gm.TagSize)
	if err != nil {
		return nil, err
	}
	for range n - 1 {
		if out, err = c.seal(out, plaintext[:chunkSize], false); err != nil {
			return nil, err
		}
		plaintext = plaintext[chunkSize:]
	}
	return c.seal(out, plaintext, true)
}

// start begins a message: it returns everything before the chunks, with room for
// them, and what seals them.
func (s *Sealer) start(context []byte, room int) ([]byte, *chunks, error) {
	at := len(s.head) + saltSize
	out := append(make([]byte, 0, at+gm.HashSize+room), s.head...)[:at]
	salt := out[len(s.head):]
	if _, err := io.ReadFull(s.rand, salt); err != nil {
		return nil, nil, fmt.Errorf("make a salt: %w", err)
	}
	commitment, c, err := deriveMessage(s.engine, s.key[:], salt, s.headSum, context)
	if err != nil {
		return nil, nil, err
	}
	return append(out, commitment...), c, nil
}

// Seal seals one message for the recipients, with a content key of its own.
func Seal(e gm.Engine, rand io.Reader, context, plaintext []byte, to ...Recipient) ([]byte, error) {
	s, err := NewSealer(e, rand, to...)
	if err != nil {
		return nil, err
	}
	return s.Seal(context, plaintext)
}

// Open decrypts an envelope for the recipient id, whose private key u uses. It
// returns ErrFormat, ErrNotRecipient, ErrTooLong or ErrOpen, and plaintext only
// when every chunk was authentic.
func Open(e gm.Engine, id gm.Digest, u Unwrapper, context, sealed []byte) ([]byte, error) {
	in := bytes.NewReader(sealed)
	c, err := readStart(e, id, u, context, in)
	if err != nil {
		return nil, err
	}
	body := sealed[len(sealed)-in.Len():]
	n := max(1, (len(body)+sealedChunk-1)/sealedChunk)
	if len(body)-n*gm.TagSize > MaxPlaintext {
		return nil, fmt.Errorf("open %d bytes: %w: the limit is %d", len(sealed), ErrTooLong, MaxPlaintext)
	}
	plaintext := make([]byte, 0, len(body))
	for range n - 1 {
		if plaintext, err = c.open(plaintext, body[:sealedChunk], false); err != nil {
			return nil, err
		}
		body = body[sealedChunk:]
	}
	return c.open(plaintext, body, true)
}

// readStart reads everything before the chunks and returns what opens them.
func readStart(e gm.Engine, id gm.Digest, u Unwrapper, context []byte, in io.Reader) (*chunks, error) {
	s, err := parseStart(in)
	if err != nil {
		return nil, err
	}
	w := s.find(id)
	if w == nil {
		return nil, ErrNotRecipient
	}
	contentKey, err := u.Unwrap(w.Key)
	if err != nil || len(contentKey) != contentKeySize {
		return nil, ErrOpen
	}
	defer clear(contentKey)
	commitment, c, err := deriveMessage(e, contentKey, s.salt, e.Sum(s.head), context)
	if err != nil {
		return nil, err
	}
	if !gm.Equal(commitment, s.commitment) {
		return nil, ErrOpen
	}
	return c, nil
}

// start is what stands before the chunks.
type start struct {
	header
	head             []byte // magic, length and header
	salt, commitment []byte
}

// parseStart reads and checks everything that needs no key, and nothing beyond
// it. Its memory is bounded by maxHeader, whatever the length claims.
func parseStart(in io.Reader) (s start, err error) {
	const fixed = len(magic) + 4
	b := make([]byte, fixed, 1<<10)
	if err := readExactly(in, b); err != nil {
		return s, err
	}
	n := binary.BigEndian.Uint32(b[len(magic):])
	if string(b[:len(magic)]) != magic || n > maxHeader {
		return s, ErrFormat
	}
	end := fixed + int(n)
	b = append(b, make([]byte, int(n)+saltSize+gm.HashSize)...)
	if err := readExactly(in, b[fixed:]); err != nil {
		return s, err
	}
	s.head, s.salt, s.commitment = b[:end:end], b[end:end+saltSize], b[end+saltSize:]
	if err := canon.Unmarshal(s.head[fixed:], &s.header); err != nil || !s.wellFormed() {
		return s, ErrFormat
	}
	return s, nil
}

// readExactly fills b. A source that ends is no envelope; one that fails says so.
func readExactly(in io.Reader, b []byte) error {
	n, err := fill(in, b)
	if err == nil && n < len(b) {
		return ErrFormat
	}
	return err
}

// fill reads until b is full or the source ends with io.EOF, which is no error
// here. io.ReadFull would not do: it gives a source that broke off with
// io.ErrUnexpectedEOF, as an HTTP body does, the look of one that ended.
func fill(in io.Reader, b []byte) (n int, err error) {
	for idle := 0; n < len(b); {
		m, err := in.Read(b[n:])
		n += m
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, fmt.Errorf("read the envelope: %w", err)
		case m > 0:
			idle = 0
		case idle == 100:
			return n, fmt.Errorf("read the envelope: %w", io.ErrNoProgress)
		default:
			idle++
		}
	}
	return n, nil
}

func (h header) wellFormed() bool {
	if h.Suite != gm.Suite || len(h.To) == 0 || len(h.To) > MaxRecipients {
		return false
	}
	for i, w := range h.To {
		if len(w.Key) == 0 || len(w.Key) > maxWrapped || (header{To: h.To[:i]}).find(w.ID) != nil {
			return false
		}
	}
	return true
}

func (h header) find(id gm.Digest) *wrapped {
	for i := range h.To {
		if h.To[i].ID == id {
			return &h.To[i]
		}
	}
	return nil
}

// deriveMessage returns the commitment of one message and what seals or opens
// its chunks.
func deriveMessage(e gm.Engine, contentKey, salt []byte, headSum gm.Digest, context []byte) ([]byte, *chunks, error) {
	contextSum := e.Sum(context)
	info := domain + "\x00" + string(headSum[:]) + string(contextSum[:])
	okm := gm.Derive(e, contentKey, salt, info, gm.HashSize+gm.SM4KeySize)
	defer clear(okm[gm.HashSize:])
	aead, err := e.NewAEAD(okm[gm.HashSize:])
	if err != nil {
		return nil, nil, fmt.Errorf("make the message's cipher: %w", err)
	}
	return okm[:gm.HashSize:gm.HashSize], &chunks{aead: aead, aad: contextSum}, nil
}

// chunks seals or opens the chunks of one message in their order.
type chunks struct {
	aead  cipher.AEAD
	aad   gm.Digest
	done  uint64
	nonce [gm.NonceSize]byte
}

// next sets the nonce: the chunk's number and whether it is the last. Counting
// from zero is safe because each message has its own key.
func (c *chunks) next(last bool) error {
	if c.done >= maxChunks {
		return ErrTooLong
	}
	binary.BigEndian.PutUint64(c.nonce[3:11], c.done)
	if last {
		c.nonce[11] = 1
	}
	c.done++
	return nil
}

// seal appends the next chunk, sealed, to dst. Every chunk but the last is full.
func (c *chunks) seal(dst, plaintext []byte, last bool) ([]byte, error) {
	if err := c.next(last); err != nil {
		return nil, err
	}
	return c.aead.Seal(dst, c.nonce[:], plaintext, c.aad[:]), nil
}

// open appends the content of the next chunk to dst, or nothing. A last chunk
// without content stands only for an empty document, so that no document has two
// forms.
func (c *chunks) open(dst, sealed []byte, last bool) ([]byte, error) {
	if len(sealed) < gm.TagSize || len(sealed) == gm.TagSize && c.done > 0 {
		return nil, ErrOpen
	}
	if err := c.next(last); err != nil {
		return nil, err
	}
	out, err := c.aead.Open(dst, c.nonce[:], sealed, c.aad[:])
	if err != nil {
		return nil, ErrOpen
	}
	return out, nil
}
