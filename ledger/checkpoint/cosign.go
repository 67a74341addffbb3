package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"xinqiao/crypto/gm"
)

// Domain separates cosignatures from every other signature of a department's
// key.
const Domain = "xinqiao/cosignature/v1"

// Errors of verification.
var (
	// ErrQuorum reports a note with too few valid cosignatures.
	ErrQuorum = errors.New("too few departments cosigned the checkpoint")
	// ErrSplit reports that the engines disagree about a cosignature, so that
	// it was not counted.
	ErrSplit = errors.New("the engines disagree about a cosignature")
)

// Signer signs with a department's key; crypto/keyring provides it.
type Signer interface {
	// Sign signs gm.Preimage(domain, body).
	Sign(domain string, body []byte) (gm.Signature, error)
}

// KeyHash identifies a cosigner's key in a note: the first four bytes of
// SM3(name || 0x0A || "sm2-cosignature-v1" || key), key being the 65-byte
// uncompressed point.
func KeyHash(e gm.Engine, name string, key gm.PublicKey) [4]byte {
	d := e.Sum([]byte(name+"\nsm2-cosignature-v1"), key.Bytes())
	return [4]byte(d[:4])
}

// Statement returns the bytes that a cosignature signs in Domain: who says it
// and when stand in front of the text, so that neither can be changed.
func Statement(name string, at time.Time, c Checkpoint) []byte {
	return append(fmt.Appendf(nil, "cosignature/sm2/v1\nname %s\ntime %d\n", name, at.Unix()), c.Body()...)
}

// Cosign states in name, with key's private half behind s, that c was seen at
// the time at. The caller has checked c against what it cosigned before, and
// keeps c durably before it hands out the result.
func Cosign(s Signer, e gm.Engine, name string, key gm.PublicKey, at time.Time, c Checkpoint) (Cosignature, error) {
	if !validName(name) || !ValidOrigin(c.Origin) || key.IsZero() || at.Unix() < 0 {
		return Cosignature{}, fmt.Errorf("cosign checkpoint %d as %q: %w", c.Size, name, ErrFormat)
	}
	at = time.Unix(at.Unix(), 0).UTC()
	sig, err := s.Sign(Domain, Statement(name, at, c))
	if err != nil {
		return Cosignature{}, fmt.Errorf("cosign checkpoint %d as %q: %w", c.Size, name, err)
	}
	return Cosignature{Name: name, Time: at, Sig: sig, KeyHash: KeyHash(e, name, key)}, nil
}

// Verify returns the sorted names of those in keys whose cosignature of n is
// valid by every engine, each name once, and an error unless they are at least
// q. Lines of other names, other keys and repeated names count for nothing.
// A q below one, no engine or the zero key verify nothing.
func Verify(engines []gm.Engine, n Note, keys map[string]gm.PublicKey, q int) (valid []string, err error) {
	if q < 1 || len(engines) == 0 {
		return nil, fmt.Errorf("a quorum of %d by %d engines: %w", q, len(engines), ErrQuorum)
	}
	split := false
	for _, s := range n.Cosignatures {
		key, known := keys[s.Name]
		if !known || slices.Contains(valid, s.Name) || s.KeyHash != KeyHash(engines[0], s.Name, key) {
			continue
		}
		preimage := gm.Preimage(Domain, Statement(s.Name, s.Time, n.Checkpoint))
		yes := 0
		for _, e := range engines {
			if e.Verify(key, preimage, s.Sig) {
				yes++
			}
		}
		switch yes {
		case len(engines):
			valid = append(valid, s.Name)
		case 0:
		default:
			split = true
		}
	}
	slices.Sort(valid)
	switch {
	case len(valid) >= q:
		return valid, nil
	case split:
		return valid, fmt.Errorf("%d of %d: %w: %w", len(valid), q, ErrQuorum, ErrSplit)
	}
	return valid, fmt.Errorf("%d of %d: %w", len(valid), q, ErrQuorum)
}

// Quorum returns the least q > (n+f)/2 with f = (n-1)/3 members that may lie:
// two different heads of one size cannot both reach it unless an honest member
// signed both. With no members it is one, which nobody reaches.
func Quorum(members int) int {
	if members < 1 {
		return 1
	}
	f := (members - 1) / 3
	return (members+f)/2 + 1
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.Unix()))
}

// readTime refuses times after the year 9999, which no clock means.
func readTime(b []byte) (time.Time, bool) {
	const end = 253402300800
	sec := binary.BigEndian.Uint64(b)
	return time.Unix(int64(sec%end), 0).UTC(), sec < end
}
