package httpsig

import (
	"sync"
	"time"

	"xinqiao/crypto/gm"
)

// Replays remembers nonces while their signatures could be accepted. Its memory
// is bounded, and one key cannot use up another's share. When there is no room
// nothing is accepted: forgetting a nonce early would be a way to replay.
type Replays struct {
	engine gm.Engine
	since  time.Time
	perKey int

	mu   sync.Mutex // protects keys
	keys map[string]*nonces
}

// nonces are those of one key, as hashes, so that a long nonce costs what a
// short one does.
type nonces struct {
	seen  map[gm.Digest]struct{}
	until map[int64][]gm.Digest // by the second after which they may be forgotten
	swept int64                 // what ended before this second was forgotten
}

// NewReplays returns a memory of at most perKey nonces for each key. Memory does
// not outlive the process, so signatures from before since, its start, are
// refused: nobody knows whether they were used. The caller keeps the number of keys bounded: only known ones are added.
func NewReplays(e gm.Engine, since time.Time, perKey int) *Replays {
	return &Replays{engine: e, since: since, perKey: perKey, keys: map[string]*nonces{}}
}

// Add notes a nonce of a signature that held. It fails with Replayed, with
// Expired for what was forgotten before the clock was set back, and with Later
// when there is no room or the signature is from before the memory begins.
func (r *Replays) Add(now time.Time, keyID, nonce string, created, expires time.Time) error {
	if created.Before(r.since) {
		return fail(Later, "the signature is from before this server started: sign again")
	}
	hash := r.engine.Sum([]byte(nonce))
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.keys[keyID]
	if n == nil {
		n = &nonces{seen: map[gm.Digest]struct{}{}, until: map[int64][]gm.Digest{}}
		r.keys[keyID] = n
	}
	n.sweep(now.Unix())
	if expires.Unix() < n.swept { // the clock was set back
		return fail(Expired, "the signature expired by an earlier reading of the clock")
	}
	if _, again := n.seen[hash]; again {
		return fail(Replayed, "the nonce was used before")
	}
	if len(n.seen) >= r.perKey {
		return fail(Later, "too many signatures of this key are in force at once")
	}
	n.seen[hash] = struct{}{}
	n.until[expires.Unix()] = append(n.until[expires.Unix()], hash)
	return nil
}

// sweep forgets what no signature can use any more.
func (n *nonces) sweep(now int64) {
	if now <= n.swept {
		return
	}
	for end, hashes := range n.until { // at most one for each second of a signature's life
		if end >= now {
			continue
		}
		for _, h := range hashes {
			delete(n.seen, h)
		}
		delete(n.until, end)
	}
	n.swept = now
}
