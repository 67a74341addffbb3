package keyring

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"xinqiao/crypto/gm"
)

const (
	masterSize = 32
	maxKeys    = 64 // in one keyring
)

// store is the software Device: keys in memory, in a file that every change
// replaces. It is not a certified module.
type store struct {
	engine gm.Engine
	path   string                   // empty: memory only
	step   func(point string) error // tests stop a change at a point; nil otherwise

	change sync.Mutex // serialises changes and reloads; protects lock and seen
	lock   *lock      // how the file is sealed
	seen   gm.Digest  // the file's hash when it was last read or written

	mu   sync.RWMutex
	keys []*softKey // mu protects the slice; the keys in it do not change
}

// softKey is a key with its secret part; one of pair and master is set.
type softKey struct {
	Key
	pair   *gm.PrivateKey
	master [masterSize]byte
}

// String withholds the key.
func (k *softKey) String() string { return k.Kind.String() + " key withheld" }

// GoString withholds the key.
func (k *softKey) GoString() string { return k.String() }

// First are the first keys of a new keyring.
type First struct {
	Sign *gm.PrivateKey // nil: a new key
	Enc  *gm.PrivateKey // nil: a new key
	At   time.Time      // when the keys are made; zero: not known
	Cost Cost           // zero: DefaultCost
}

func newStore(engine gm.Engine, first First) (*store, error) {
	s := &store{engine: engine}
	if first.Sign != nil && first.Enc != nil && first.Sign.Public() == first.Enc.Public() {
		return nil, fmt.Errorf("%w: one key cannot both sign and decrypt", ErrRefused)
	}
	for _, k := range []struct {
		kind Kind
		pair *gm.PrivateKey
	}{{KindSign, first.Sign}, {KindEnc, first.Enc}, {KindTag, nil}, {KindLocal, nil}, {KindName, nil}} {
		key, err := newSoftKey(engine, k.kind, k.pair, first.At)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}

// newSoftKey makes a key of a kind, from pair if it is given.
func newSoftKey(engine gm.Engine, kind Kind, pair *gm.PrivateKey, at time.Time) (*softKey, error) {
	k := &softKey{Key: Key{Kind: kind, Made: at.UTC().Truncate(time.Second)}, pair: pair}
	if at.IsZero() {
		k.Made = time.Time{}
	}
	var err error
	switch {
	case kind.domain() != "":
		_, err = io.ReadFull(rand.Reader, k.master[:])
	case pair == nil:
		k.pair, err = gm.GenerateKey(rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key of kind %q: %w", kind, err)
	}
	k.name(engine)
	return k, nil
}

// name computes what follows from the secret part.
func (k *softKey) name(engine gm.Engine) {
	if k.pair == nil {
		k.ID = masterID(engine, k.Kind, k.master[:])
		return
	}
	k.Public = k.pair.Public()
	k.ID = publicID(engine, k.Kind, k.Public)
}

func (s *store) find(id ID) (*softKey, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range s.keys {
		if k.ID == id {
			return k, nil
		}
	}
	return nil, ErrNoKey
}

// Sign implements Device.
func (s *store) Sign(id ID, use Use, msg []byte) (gm.Signature, error) {
	k, err := s.find(id)
	if err == nil {
		err = CheckSign(k.Key, use, msg)
	}
	if err != nil {
		return gm.Signature{}, err
	}
	return s.engine.Sign(k.pair, msg)
}

// Decrypt implements Device.
func (s *store) Decrypt(id ID, ciphertext []byte) ([]byte, error) {
	k, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if k.Kind != KindEnc {
		return nil, fmt.Errorf("%w: decrypt with a key of kind %q", ErrRefused, k.Kind)
	}
	return s.engine.Decrypt(k.pair, ciphertext)
}

// MAC implements Device.
func (s *store) MAC(id ID, input []byte) (gm.Digest, error) {
	k, err := s.find(id)
	if err == nil {
		err = CheckMAC(k.Key, input)
	}
	if err != nil {
		return gm.Digest{}, err
	}
	return gm.HMAC(s.engine, k.master[:], input), nil
}

// Keys implements Device: it reads the file again if another process has
// replaced it.
func (s *store) Keys() ([]Key, error) {
	s.change.Lock()
	defer s.change.Unlock()
	if s.path != "" {
		if err := s.refresh(); err != nil {
			return nil, err
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Key, len(s.keys))
	for i, k := range s.keys {
		list[i] = k.Key
	}
	return list, nil
}

func (s *store) set(keys []*softKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = keys
}

func (s *store) add(kind Kind, from string, at time.Time) (Key, error) {
	key, err := newSoftKey(s.engine, kind, nil, at)
	if err != nil {
		return Key{}, err
	}
	key.From = from
	return key.Key, s.put(key)
}

func (s *store) addEnveloped(der []byte, at time.Time) (Key, error) {
	s.mu.RLock()
	held := s.keys
	s.mu.RUnlock()
	for _, k := range slices.Backward(held) {
		if k.Kind != KindSign {
			continue
		}
		pair, err := gm.ParseEnvelopedKey(der, func(c []byte) ([]byte, error) { return s.engine.Decrypt(k.pair, c) })
		if errors.Is(err, gm.ErrEnveloped) {
			continue // it may be wrapped to an older one
		}
		if err != nil {
			return Key{}, err
		}
		key, err := newSoftKey(s.engine, KindEnc, pair, at)
		if err != nil {
			return Key{}, err
		}
		return key.Key, s.put(key)
	}
	return Key{}, gm.ErrEnveloped
}

// put adds a key to those in the file.
func (s *store) put(key *softKey) error {
	return s.replace(func(keys []*softKey) ([]*softKey, error) {
		if len(keys) >= maxKeys {
			return nil, ErrFull
		}
		keys = append(slices.Clone(keys), key)
		return keys, checkKeys(keys)
	})
}

func (s *store) retire(pub gm.PublicKey) error {
	return s.replace(func(keys []*softKey) ([]*softKey, error) {
		i := slices.IndexFunc(keys, func(k *softKey) bool { return k.pair != nil && k.Public == pub })
		if i < 0 {
			return nil, ErrNoKey
		}
		same := func(k *softKey) bool { return k.Kind == keys[i].Kind && k != keys[i] }
		if !slices.ContainsFunc(keys, same) {
			return nil, ErrLast
		}
		return slices.Delete(slices.Clone(keys), i, i+1), nil
	})
}

// checkKeys holds what is true of every keyring: no key twice or with two uses,
// one of each kind, tag masters in the order of their epochs. A file that breaks
// it was not written by this package.
func checkKeys(keys []*softKey) error {
	seen := map[gm.PublicKey]bool{}
	ids := map[ID]bool{}
	count := map[Kind]int{}
	last := ""
	for _, k := range keys {
		if k.Kind < KindSign || k.Kind > KindName {
			return fmt.Errorf("%w: a key of the unknown kind %d", ErrRefused, k.Kind)
		}
		if ids[k.ID] || k.pair != nil && seen[k.Public] {
			return fmt.Errorf("%w: a key is held twice", ErrRefused)
		}
		ids[k.ID], seen[k.Public] = true, true
		count[k.Kind]++
		switch {
		case k.Kind != KindTag && k.From != "":
			return fmt.Errorf("%w: a key of kind %q begins at an epoch", ErrEpoch, k.Kind)
		case k.Kind == KindTag && (k.From == "") != (count[KindTag] == 1), k.Kind == KindTag && count[KindTag] > 1 && k.From <= last:
			return ErrEpoch
		case k.Kind == KindTag:
			last = k.From
		}
	}
	for _, kind := range []Kind{KindSign, KindEnc, KindTag, KindLocal, KindName} {
		if count[kind] == 0 || kind == KindName && count[kind] > 1 {
			return fmt.Errorf("%w: %d keys of kind %q", ErrRefused, count[kind], kind)
		}
	}
	return nil
}
