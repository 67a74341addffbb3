// Package envelope is the sealed document: encrypted for up to sixteen
// recipients, bound to a context, and readable as a whole or not at all.
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
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

// Limits. MaxPlaintext is in bytes, of what Seal and Open take. A Writer and a
// Reader go on to MaxStream (16 TiB): there one key has encrypted 2^40 blocks, and
// what that tells about the text is still below 2^-48.
const (
	MaxRecipients = 16
	MaxPlaintext  = 64 << 20
	MaxStream     = maxChunks * chunkSize
)

const (
	magic          = "XQE1"
	domain         = "xinqiao/envelope/v1"
	idDomain       = "xinqiao/key-id/v1"
	fixed          = len(magic) + 4 // what stands before the header
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
	// ErrTooLong reports a document over MaxPlaintext, or a stream over MaxStream.
	ErrTooLong = errors.New("the document is too long")
	// ErrClosed reports a write to a Writer that was closed.
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
	chunks := max(1, (len(plaintext)+chunkSize-1)/chunkSize)
	out := make([]byte, 0, len(s.head)+saltSize+gm.HashSize+len(plaintext)+chunks*gm.TagSize)
	out = append(out, s.head...)
	out = out[:len(s.head)+saltSize]
	salt := out[len(s.head):]
	if _, err := io.ReadFull(s.rand, salt); err != nil {
		return nil, fmt.Errorf("make a salt: %w", err)
	}
	m, err := deriveMessage(s.engine, s.key[:], salt, s.headSum, context)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	out = append(out, m.commitment...)
	for i := range chunks {
		n := min(chunkSize, len(plaintext))
		if out, err = m.seal(out, plaintext[:n], i == chunks-1); err != nil {
			return nil, err
		}
		plaintext = plaintext[n:]
	}
	return out, nil
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
// returns ErrFormat, ErrNotRecipient, ErrTooLong or ErrOpen, and plaintext only when
// every chunk was authentic.
func Open(e gm.Engine, id gm.Digest, u Unwrapper, context, sealed []byte) ([]byte, error) {
	h, head, rest, err := parse(sealed)
	if err != nil {
		return nil, err
	}
	body := rest[saltSize+gm.HashSize:]
	m, err := unlock(e, id, u, context, h, head, rest[:saltSize], rest[saltSize:saltSize+gm.HashSize])
	if err != nil {
		return nil, err
	}
	chunks := max(1, (len(body)+sealedChunk-1)/sealedChunk)
	if len(body)-chunks*gm.TagSize > MaxPlaintext {
		return nil, fmt.Errorf("open %d bytes: %w: the limit is %d", len(sealed), ErrTooLong, MaxPlaintext)
	}
	plaintext := make([]byte, 0, len(body))
	for i := range chunks {
		n := min(sealedChunk, len(body))
		if plaintext, err = m.open(plaintext, body[:n], i == chunks-1); err != nil {
			return nil, err
		}
		body = body[n:]
	}
	return plaintext, nil
}

// unlock returns the keys of a message for one recipient, once the commitment has
// shown that they are the ones it was sealed under.
func unlock(e gm.Engine, id gm.Digest, u Unwrapper, context []byte, h header, head, salt, commitment []byte) (*message, error) {
	w := h.find(id)
	if w == nil {
		return nil, ErrNotRecipient
	}
	contentKey, err := u.Unwrap(w.Key)
	if err != nil || len(contentKey) != contentKeySize {
		return nil, ErrOpen
	}
	defer clear(contentKey)
	m, err := deriveMessage(e, contentKey, salt, e.Sum(head), context)
	if err != nil {
		return nil, fmt.Errorf("open the envelope: %w", err)
	}
	if !gm.Equal(m.commitment, commitment) {
		return nil, ErrOpen
	}
	return m, nil
}

// parse splits an envelope and checks everything before the chunks that needs no
// key.
func parse(sealed []byte) (h header, head, rest []byte, err error) {
	n, err := headerLength(sealed)
	if err != nil || len(sealed)-fixed < n {
		return h, nil, nil, ErrFormat
	}
	head, rest = sealed[:fixed+n], sealed[fixed+n:]
	if h, err = parseHeader(head); err != nil {
		return h, nil, nil, err
	}
	if len(rest) < saltSize+gm.HashSize {
		return h, nil, nil, ErrFormat
	}
	return h, head, rest, nil
}

// headerLength reads how long the header is from the first bytes of an envelope.
func headerLength(b []byte) (int, error) {
	if len(b) < fixed || string(b[:len(magic)]) != magic {
		return 0, ErrFormat
	}
	n := binary.BigEndian.Uint32(b[len(magic):fixed])
	if n > maxHeader {
		return 0, ErrFormat
	}
	return int(n), nil
}

// parseHeader reads everything up to the header's end.
func parseHeader(head []byte) (h header, err error) {
	if err := canon.Unmarshal(head[fixed:], &h); err != nil || !h.wellFormed() {
		return h, ErrFormat
	}
	return h, nil
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

// message seals or opens the chunks of one message, in their order.
type message struct {
	commitment, aad []byte
	aead            cipher.AEAD
	next            uint64 // number of the chunk to come
}

func deriveMessage(e gm.Engine, contentKey, salt []byte, headSum gm.Digest, context []byte) (*message, error) {
	contextSum := e.Sum(context)
	info := domain + "\x00" + string(headSum[:]) + string(contextSum[:])
	okm := gm.Derive(e, contentKey, salt, info, gm.HashSize+gm.SM4KeySize)
	defer clear(okm[gm.HashSize:])
	aead, err := e.NewAEAD(okm[gm.HashSize:])
	return &message{commitment: okm[:gm.HashSize], aad: contextSum[:], aead: aead}, err
}

// seal appends the next chunk, sealed, to dst. Every chunk but the last is full.
func (m *message) seal(dst, chunk []byte, last bool) ([]byte, error) {
	nonce, err := m.nonce(last)
	if err != nil {
		return nil, err
	}
	return m.aead.Seal(dst, nonce, chunk, m.aad), nil
}

// open appends the content of the next chunk to dst, or nothing. A last chunk
// without content stands only for an empty document, so that no document has two
// envelopes.
func (m *message) open(dst, chunk []byte, last bool) ([]byte, error) {
	if len(chunk) < gm.TagSize || len(chunk) == gm.TagSize && m.next > 0 {
		return nil, ErrOpen
	}
	nonce, err := m.nonce(last)
	if err != nil {
		return nil, err
	}
	out, err := m.aead.Open(dst, nonce, chunk, m.aad)
	if err != nil {
		return nil, ErrOpen
	}
	return out, nil
}

// nonce numbers the chunks. Repeating it from zero is safe because each message
// has its own key.
func (m *message) nonce(last bool) ([]byte, error) {
	if m.next >= maxChunks {
		return nil, ErrTooLong
	}
	n := make([]byte, gm.NonceSize)
	binary.BigEndian.PutUint64(n[3:11], m.next)
	m.next++
	if last {
		n[11] = 1
	}
	return n, nil
}
