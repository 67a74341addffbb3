package ledger

import (
	"sync"

	"xinqiao/crypto/gm"
)

// vouched remembers the frames that CheckFrame found good on this node, so that
// a leader does neither parse nor verify the same bytes again when they come back
// to it committed. It is this node's own word, never another's, and is lost with
// the process.
type vouched struct {
	mu     sync.Mutex
	parsed map[string]*parsedFrame // by the frame's bytes, all of them
	bytes  int                     // of the keys of parsed
	certs  map[gm.Digest]gm.Digest // by frame hash, the fingerprint it was verified under
}

// What waits to be committed is bounded. Frames beyond it, and those that were
// never committed, are only looked at twice.
const (
	maxVouched      = 1024
	maxVouchedBytes = 8 << 20
)

func (v *vouched) add(bytes []byte, f *parsedFrame) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.certs == nil || len(v.certs) >= maxVouched {
		v.certs = map[gm.Digest]gm.Digest{}
	}
	v.certs[f.hash] = f.Cert
	if v.parsed == nil || v.bytes+len(bytes) > maxVouchedBytes {
		v.parsed, v.bytes = map[string]*parsedFrame{}, 0
	}
	if _, known := v.parsed[string(bytes)]; !known {
		v.bytes += len(bytes)
	}
	v.parsed[string(bytes)] = f
}

// frame returns what exactly these bytes were parsed to, once, or nil.
func (v *vouched) frame(bytes []byte) *parsedFrame {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := v.parsed[string(bytes)]
	if f != nil {
		delete(v.parsed, string(bytes))
		v.bytes -= len(bytes)
	}
	return f
}

// signature reports whether the frame's signature was found good under the
// certificate, and forgets it. A frame's hash covers body and signature, and the
// fingerprint the key: the same question has the same answer.
func (v *vouched) signature(frame, cert gm.Digest) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	was, ok := v.certs[frame]
	delete(v.certs, frame)
	return ok && was == cert
}
