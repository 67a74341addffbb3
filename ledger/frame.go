package ledger

import (
	"fmt"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/merkle"
)

// Domains of this package's signatures and commitments.
const (
	DomainFrame   = "xinqiao/frame/v1"
	DomainRequest = "xinqiao/request/v1"
	DomainBody    = "xinqiao/body/v1"
	DomainView    = "xinqiao/view/v1"
)

// Limits of a frame.
const (
	MaxFrameEntries = 256
	MaxFrame        = 512 << 10 // bytes, encoded
)

// FrameBody is what a department signs: the entries it gathered, chained to its
// previous frame, so that a frame dropped or reordered by anyone shows.
type FrameBody struct {
	Suite  string        `cbor:"1,keyasint"`
	Origin string        `cbor:"2,keyasint"` // of the ledger
	Dept   exchange.Dept `cbor:"3,keyasint"`
	Cert   gm.Digest     `cbor:"4,keyasint"` // fingerprint of the signing certificate
	Seq    uint64        `cbor:"5,keyasint"` // from 1, without gaps
	Prev   gm.Digest     `cbor:"6,keyasint"` // Hash of frame Seq−1, zero for the first
	Root   gm.Digest     `cbor:"7,keyasint"` // RFC 9162 tree over the entries
	Count  uint32        `cbor:"8,keyasint"`
}

// A Frame is a signed body with its entries.
type Frame struct {
	Body    []byte       `cbor:"1,keyasint"` // canonical FrameBody, as signed
	Sig     gm.Signature `cbor:"2,keyasint"` // over gm.Preimage(DomainFrame, Body)
	Entries [][]byte     `cbor:"3,keyasint"`
}

// A FrameRecord is what stays of a frame once its entries are leaves: enough to
// check the signature over any one of them.
type FrameRecord struct {
	Body   []byte       `cbor:"1,keyasint"`
	Sig    gm.Signature `cbor:"2,keyasint"`
	Leaves []gm.Digest  `cbor:"3,keyasint"` // merkle.LeafHash of each entry, in order
}

// A Signer signs for a department; crypto/keyring is one.
type Signer interface {
	Sign(domain string, body []byte) (gm.Signature, error)
}

// A SigningKey is the key of a signing certificate.
type SigningKey struct {
	Signer
	Public gm.PublicKey
}

// NewFrame signs entries as the frame that follows prev.
func NewFrame(e gm.Engine, s Signer, origin string, dept exchange.Dept, cert gm.Digest, seq uint64, prev gm.Digest, entries [][]byte) ([]byte, error) {
	hashes := entryHashes(e, entries)
	body, err := canon.Marshal(FrameBody{Suite: gm.Suite, Origin: origin, Dept: dept, Cert: cert, Seq: seq, Prev: prev,
		Root: merkle.Root(e, hashes), Count: uint32(len(entries))})
	if err != nil {
		return nil, err
	}
	sig, err := s.Sign(DomainFrame, body)
	if err != nil {
		return nil, fmt.Errorf("sign frame: %w", err)
	}
	b, err := canon.Marshal(Frame{Body: body, Sig: sig, Entries: entries})
	if err == nil && len(b) > MaxFrame {
		err = fmt.Errorf("%w: frame of %d bytes is over the limit of %d", ErrFormat, len(b), MaxFrame)
	}
	return b, err
}

func entryHashes(e gm.Engine, entries [][]byte) []gm.Digest {
	hashes := make([]gm.Digest, len(entries))
	for i, b := range entries {
		hashes[i] = merkle.LeafHash(e, b)
	}
	return hashes
}

// FrameHash identifies a frame: it covers body and signature.
func FrameHash(e gm.Engine, body []byte, sig gm.Signature) gm.Digest {
	return e.Sum(gm.Preimage(DomainFrame, body), sig[:])
}

// parsedFrame is a frame whose form, root and entries were checked. Its
// signature was not.
type parsedFrame struct {
	FrameBody
	hash    gm.Digest
	record  FrameRecord
	entries []Entry
	raw     [][]byte
}

// parseFrame checks everything about a frame that needs no state: canonical
// bytes, limits, root, and that each entry is well formed and by the frame's
// department.
func parseFrame(e gm.Engine, b []byte) (*parsedFrame, error) {
	bad := func(what string) error { return fmt.Errorf("%w: frame: %s", ErrFormat, what) }
	if len(b) > MaxFrame {
		return nil, bad("over the limit")
	}
	var f Frame
	if err := canon.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: frame: %w", ErrFormat, err)
	}
	p := &parsedFrame{raw: f.Entries, record: FrameRecord{Body: f.Body, Sig: f.Sig, Leaves: entryHashes(e, f.Entries)}}
	if err := canon.Unmarshal(f.Body, &p.FrameBody); err != nil {
		return nil, fmt.Errorf("%w: frame body: %w", ErrFormat, err)
	}
	switch {
	case p.Suite != gm.Suite:
		return nil, bad("unknown suite")
	case !p.Dept.Valid() || p.Seq == 0:
		return nil, bad("no author or sequence number")
	case len(f.Entries) == 0 || len(f.Entries) > MaxFrameEntries || int(p.Count) != len(f.Entries):
		return nil, bad("wrong number of entries")
	case merkle.Root(e, p.record.Leaves) != p.Root:
		return nil, bad("the root does not cover the entries")
	}
	for _, raw := range f.Entries {
		entry, err := DecodeEntry(raw)
		if err != nil {
			return nil, err
		}
		if entry.Author != p.Dept {
			return nil, bad("an entry is by another department")
		}
		if entry.Kind == KindClock && len(f.Entries) > 1 {
			return nil, bad("a clock entry is not alone")
		}
		p.entries = append(p.entries, entry)
	}
	p.hash = FrameHash(e, f.Body, f.Sig)
	return p, nil
}
