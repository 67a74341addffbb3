package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"xinqiao/ledger"
)

// The kinds of record that a node keeps beside its ledger. The set is closed;
// the names are in the file and are never changed.
const (
	KindOutbox      = "outbox"      // sealed answers, written before their entry is appended
	KindBody        = "body"        // sealed bodies of entries
	KindRequest     = "request"     // signed requests as received
	KindAnswer      = "answer"      // answers as received
	KindAuthority   = "authority"   // what lies behind authority records
	KindRoster      = "roster"      // operators
	KindIdempotency = "idempotency" // keys of department systems and what they led to
	KindAck         = "ack"         // acknowledgements not yet appended
	KindSession     = "session"     // officers' sessions
	KindDenials     = "denials"     // denials by requester and time, until they are summed up
)

// Kinds lists them.
func Kinds() []string {
	return []string{KindOutbox, KindBody, KindRequest, KindAnswer, KindAuthority, KindRoster, KindIdempotency, KindAck, KindSession,
		KindDenials}
}

// Limits of a record, in bytes.
const (
	MaxKey   = 1024
	MaxValue = 8 << 20
)

// A Record is one change of one key: its new value, or its deletion.
type Record struct {
	Kind   string
	Key    []byte
	Value  []byte // may be empty
	Delete bool   // then there is no Value
}

func bucketOf(kind string) string { return "kv-" + kind }

// buckets lists all buckets but meta.
func buckets() []string {
	out := []string{bucketLeaf, bucketFrame, bucketMark}
	for _, k := range Kinds() {
		out = append(out, bucketOf(k))
	}
	return out
}

// Put stores value under key; it is on disk when Put returns nil. After any
// error but ErrRecord it may or may not be, and the store fails from then on.
func (s *Store) Put(kind string, key, value []byte) error {
	return s.Update([]Record{{Kind: kind, Key: key, Value: value}})
}

// Delete removes key, which need not be there; it is gone when Delete returns.
func (s *Store) Delete(kind string, key []byte) error {
	return s.Update([]Record{{Kind: kind, Key: key, Delete: true}})
}

// Update makes several changes in one durable transaction, in their order: all
// of them or none.
func (s *Store) Update(records []Record) error {
	for _, r := range records {
		if err := r.check(); err != nil {
			return err
		}
	}
	return s.do(&write{apply: func(tx *bbolt.Tx) error {
		for _, r := range records {
			if err := r.apply(tx); err != nil {
				return fmt.Errorf("write %s: %w", r.Kind, err)
			}
		}
		return nil
	}})
}

func (r Record) apply(tx *bbolt.Tx) error {
	if r.Delete {
		return in(tx, bucketOf(r.Kind)).Delete(r.Key)
	}
	return put(tx, bucketOf(r.Kind), r.Key, r.Value)
}

func (r Record) check() error {
	switch {
	case !slices.Contains(Kinds(), r.Kind):
		return fmt.Errorf("%w: unknown kind %q", ErrRecord, r.Kind)
	case len(r.Key) == 0 || len(r.Key) > MaxKey:
		return fmt.Errorf("%w: %s: key of %d bytes: want 1 to %d", ErrRecord, r.Kind, len(r.Key), MaxKey)
	case len(r.Value) > MaxValue:
		return fmt.Errorf("%w: %s: value of %d bytes is over the limit of %d", ErrRecord, r.Kind, len(r.Value), MaxValue)
	case r.Delete && len(r.Value) > 0:
		return fmt.Errorf("%w: %s: a deletion with a value", ErrRecord, r.Kind)
	}
	return nil
}

// Get returns the value under key and whether there is one. The caller owns the
// value.
func (s *Store) Get(kind string, key []byte) (value []byte, found bool, err error) {
	if err := (Record{Kind: kind, Key: key, Delete: true}).check(); err != nil {
		return nil, false, err
	}
	value, err = s.get(bucketOf(kind), key)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, false, nil
	}
	return value, err == nil, err
}

// Limits of what Each reads in one transaction.
const (
	eachRecords = 256
	eachBytes   = 1 << 20
)

// Each calls fn for the records of a kind in the order of their keys, until fn
// returns an error, which it returns. It reads in parts and holds nothing while
// fn runs: fn may write to the store, and what is written meanwhile may or may
// not be seen. fn owns its arguments.
func (s *Store) Each(kind string, fn func(key, value []byte) error) error {
	if !slices.Contains(Kinds(), kind) {
		return fmt.Errorf("%w: unknown kind %q", ErrRecord, kind)
	}
	for from := []byte(nil); ; {
		part, more, err := s.part(bucketOf(kind), from)
		if err != nil {
			return err
		}
		for _, r := range part {
			if err := fn(r.Key, r.Value); err != nil {
				return err
			}
		}
		if !more {
			return s.Err()
		}
		from = append(bytes.Clone(part[len(part)-1].Key), 0) // the least key above the last
	}
}

// part reads records from key from on, up to the limits, and whether there are more.
func (s *Store) part(bucket string, from []byte) (part []Record, more bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		size := 0
		c := in(tx, bucket).Cursor()
		for k, v := c.Seek(from); k != nil; k, v = c.Next() {
			if len(part) == eachRecords || size > eachBytes {
				more = true
				return nil
			}
			value, err := open(bucket, k, v)
			if err != nil {
				return err
			}
			part = append(part, Record{Key: bytes.Clone(k), Value: value})
			size += len(value)
		}
		return nil
	})
	return part, more, err
}
