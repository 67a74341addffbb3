package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

func opened(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && s.Err() == nil {
			t.Error(err)
		}
	})
	return s
}

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "active.db") }

// flush builds a Flush of n leaves from first on, all of one frame.
func flush(t testing.TB, first uint64, n int) ledger.Flush {
	t.Helper()
	hash := gm.Digest{byte(first), byte(first >> 8), 1}
	body := canon.MustMarshal(ledger.FrameBody{Suite: gm.Suite, Origin: "test", Dept: "minzheng", Seq: first + 1, Count: uint32(n)})
	f := ledger.Flush{Applied: first + 100, Time: int64(first) + 1000, First: first,
		Frames: map[gm.Digest]ledger.FrameRecord{hash: {Body: body, Leaves: []gm.Digest{{9}}}}}
	for i := range n {
		entry, err := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindView, ID: ledger.ID{byte(i), 1}, Author: exchange.Dept("minzheng"),
			View: &ledger.Viewing{Action: "search"}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		leaf := canon.MustMarshal(ledger.Leaf{Entry: entry, Frame: hash, Pos: uint32(i), Time: int64(first), Result: ledger.Committed})
		f.Leaves = append(f.Leaves, leaf)
	}
	return f
}

// replayed returns all leaves, and position and time.
func replayed(t testing.TB, s *Store) (leaves [][]byte, applied uint64, at int64) {
	t.Helper()
	applied, at, err := s.Replay(func(i uint64, leaf []byte, frame ledger.FrameRecord) error {
		if i != uint64(len(leaves)) {
			t.Errorf("leaf %d comes as number %d", i, len(leaves))
		}
		if len(frame.Body) == 0 {
			t.Errorf("leaf %d comes without its frame", i)
		}
		leaves = append(leaves, leaf)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return leaves, applied, at
}

func TestLedgerComesBack(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := opened(t, path, Options{Origin: "test"})
	a, b := flush(t, 0, 3), flush(t, 3, replayChunk+5)
	for _, f := range []ledger.Flush{a, b, {Applied: 99999, Time: 99999, First: replayChunk + 8}} {
		if err := s.Flush(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opened(t, path, Options{Origin: "test"})
	leaves, applied, at := replayed(t, s)
	if diff := cmp.Diff(append(a.Leaves, b.Leaves...), leaves); diff != "" {
		t.Error(diff)
	}
	if applied != 99999 || at != 99999 || s.Stats().Leaves != replayChunk+8 {
		t.Errorf("applied %d, time %d, %d leaves", applied, at, s.Stats().Leaves)
	}
	if got, err := s.Leaf(1); err != nil || !bytes.Equal(got, a.Leaves[1]) {
		t.Errorf("leaf 1: %x, %v", got, err)
	}
	if _, err := s.Leaf(replayChunk + 8); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a leaf beyond the end: %v", err)
	}
	if _, err := s.Frame(gm.Digest{7}); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("an unknown frame: %v", err)
	}
	for hash, record := range a.Frames {
		if got, err := s.Frame(hash); err != nil || !bytes.Equal(got, canon.MustMarshal(record)) {
			t.Errorf("frame: %x, %v", got, err)
		}
	}
}

func TestFlushMustContinue(t *testing.T) {
	t.Parallel()
	s := opened(t, file(t), Options{})
	if err := s.Flush(flush(t, 0, 3)); err != nil {
		t.Fatal(err)
	}
	before, applied, _ := replayed(t, s)
	back := flush(t, 3, 1)
	back.Applied = applied - 1
	past := flush(t, 3, 1)
	past.Time = 1
	for name, f := range map[string]ledger.Flush{
		"a gap": flush(t, 4, 1), "a rewritten leaf": flush(t, 2, 1), "the beginning again": flush(t, 0, 3),
		"a position that goes back": back, "a time that goes back": past,
	} {
		if err := s.Flush(f); !errors.Is(err, ErrOrder) {
			t.Errorf("%s: %v, want ErrOrder", name, err)
		}
	}
	after, _, _ := replayed(t, s)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	if err := s.Flush(flush(t, 3, 1)); err != nil {
		t.Errorf("a refusal has harmed the store: %v", err)
	}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := opened(t, path, Options{})
	if size, note, err := s.Checkpoint(); size != 0 || note != nil || err != nil {
		t.Errorf("an empty store has checkpoint %d %q, %v", size, note, err)
	}
	if size, _, err := s.Cosigned(); size != 0 || err != nil {
		t.Errorf("an empty store has cosigned %d, %v", size, err)
	}
	root := gm.Digest{1, 2}
	for _, err := range []error{s.PutCheckpoint(5, []byte("five")), s.PutCheckpoint(4, []byte("four")),
		s.PutCosigned(7, root), s.PutCosigned(7, root)} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, err := range []error{s.PutCosigned(6, root), s.PutCosigned(7, gm.Digest{3})} {
		if !errors.Is(err, ErrOrder) {
			t.Errorf("a second history: %v, want ErrOrder", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opened(t, path, Options{})
	if size, note, err := s.Checkpoint(); size != 5 || string(note) != "five" || err != nil {
		t.Errorf("checkpoint %d %q, %v", size, note, err)
	}
	if size, got, err := s.Cosigned(); size != 7 || got != root || err != nil {
		t.Errorf("cosigned %d %x, %v", size, got, err)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := opened(t, path, Options{})
	if _, found, err := s.Get(KindBody, []byte("a")); found || err != nil {
		t.Errorf("an empty store has a record: %v", err)
	}
	err := s.Update([]Record{
		{Kind: KindOutbox, Key: []byte("a"), Value: []byte("sealed")},
		{Kind: KindBody, Key: []byte("a"), Value: nil},
		{Kind: KindAck, Key: []byte("x"), Value: []byte("1")},
		{Kind: KindAck, Key: []byte("x"), Delete: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(KindAck, []byte("never there")); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opened(t, path, Options{})
	for _, tc := range []struct {
		kind, key, want string
		found           bool
	}{{KindOutbox, "a", "sealed", true}, {KindBody, "a", "", true}, {KindAck, "x", "", false}, {KindOutbox, "b", "", false}} {
		got, found, err := s.Get(tc.kind, []byte(tc.key))
		if string(got) != tc.want || found != tc.found || err != nil {
			t.Errorf("%s %s: %q, %v, %v", tc.kind, tc.key, got, found, err)
		}
	}
}

func TestEachGoesThroughAllInOrder(t *testing.T) {
	t.Parallel()
	s := opened(t, file(t), Options{})
	var puts []Record
	var want []string
	for i := range 3*eachRecords + 7 {
		k := fmt.Sprintf("%05d", i)
		want = append(want, k)
		puts = append(puts, Record{Kind: KindRequest, Key: []byte(k), Value: bytes.Repeat([]byte("v"), 5000)})
	}
	if err := s.Update(append(puts, Record{Kind: KindAnswer, Key: []byte("other")})); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := s.Each(KindRequest, func(key, value []byte) error {
		got = append(got, string(key))
		return s.Delete(KindRequest, key) // what the broker does when it resumes
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	stop := errors.New("enough")
	if err := s.Each(KindAnswer, func(_, _ []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the callback's error", err)
	}
}

func TestLimitsOfRecords(t *testing.T) {
	t.Parallel()
	s := opened(t, file(t), Options{})
	for name, r := range map[string]Record{
		"unknown kind":  {Kind: "secrets", Key: []byte("k")},
		"no key":        {Kind: KindBody},
		"long key":      {Kind: KindBody, Key: make([]byte, MaxKey+1)},
		"large value":   {Kind: KindBody, Key: []byte("k"), Value: make([]byte, MaxValue+1)},
		"value deleted": {Kind: KindBody, Key: []byte("k"), Value: []byte("v"), Delete: true},
	} {
		if err := s.Update([]Record{{Kind: KindAck, Key: []byte("whole"), Value: nil}, r}); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v, want ErrRecord", name, err)
		}
	}
	if _, found, err := s.Get(KindAck, []byte("whole")); found || err != nil {
		t.Errorf("a refused update was made in part: %v", err)
	}
	if _, _, err := s.Get("secrets", []byte("k")); !errors.Is(err, ErrRecord) {
		t.Errorf("unknown kind: %v", err)
	}
}

func TestConcurrentWritersShareTransactions(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := opened(t, path, Options{})
	const writers, each = 32, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				key := fmt.Appendf(nil, "%d-%d", w, i)
				if err := s.Put(KindOutbox, key, key); err != nil {
					t.Error(err)
				}
				if got, found, err := s.Get(KindOutbox, key); !found || err != nil || !bytes.Equal(got, key) {
					t.Errorf("not there after Put: %q, %v", got, err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range uint64(each) {
			if err := s.Flush(flush(t, i, 1)); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	st := s.Stats()
	if st.Writes != writers*each+each || st.Commits >= st.Writes {
		t.Errorf("%d writes in %d transactions", st.Writes, st.Commits)
	}
	if st.Bytes == 0 || st.PageSize == 0 || st.Leaves != each || st.Failed {
		t.Errorf("stats %+v", st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := opened(t, path, Options{}).Each(KindOutbox, func(_, _ []byte) error { n++; return nil }); err != nil || n != writers*each {
		t.Errorf("%d records came back, %v", n, err)
	}
}

// faulty opens a store whose file can be broken: pull closes the descriptor
// under it, so that the next write or fsync fails.
func faulty(t *testing.T, path string) (s *Store, pull func()) {
	t.Helper()
	var f *os.File
	s, err := Open(path, Options{OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
		var err error
		f, err = os.OpenFile(name, flag, perm)
		return f, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// everything calls each method once.
func everything(t testing.TB, s *Store) map[string]error {
	_, leaf := s.Leaf(0)
	_, frame := s.Frame(gm.Digest{})
	_, _, checkpoint := s.Checkpoint()
	_, _, cosigned := s.Cosigned()
	_, _, replay := s.Replay(func(uint64, []byte, ledger.FrameRecord) error { return nil })
	_, _, get := s.Get(KindBody, []byte("k"))
	return map[string]error{
		"Put": s.Put(KindBody, []byte("k"), nil), "Delete": s.Delete(KindBody, []byte("k")), "Get": get,
		"Each":  s.Each(KindBody, func(_, _ []byte) error { return nil }),
		"Flush": s.Flush(flush(t, 0, 1)), "Leaf": leaf, "Frame": frame, "Replay": replay,
		"PutCheckpoint": s.PutCheckpoint(1, nil), "Checkpoint": checkpoint,
		"PutCosigned": s.PutCosigned(1, gm.Digest{}), "Cosigned": cosigned, "Err": s.Err(),
	}
}

func TestFirstFailedWritePoisons(t *testing.T) {
	t.Parallel()
	path := file(t)
	s, pull := faulty(t, path)
	if err := s.Put(KindOutbox, []byte("kept"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	pull()
	if err := s.Put(KindOutbox, []byte("lost"), []byte("v")); !errors.Is(err, ErrPoisoned) {
		t.Fatalf("a failed write gives %v, want ErrPoisoned", err)
	}
	for name, err := range everything(t, s) {
		if !errors.Is(err, ErrPoisoned) {
			t.Errorf("%s after a failed write: %v, want ErrPoisoned", name, err)
		}
	}
	if !s.Stats().Failed {
		t.Error("the figures do not tell")
	}
	_ = s.Close() // its descriptor is gone
	again := opened(t, path, Options{})
	if _, found, err := again.Get(KindOutbox, []byte("kept")); !found || err != nil {
		t.Errorf("what was acknowledged is gone: %v", err)
	}
	if _, found, err := again.Get(KindOutbox, []byte("lost")); found || err != nil {
		t.Errorf("what failed is there: %v", err)
	}
}

func TestFullDiskPoisons(t *testing.T) {
	t.Parallel()
	path := file(t)
	s, err := Open(path, Options{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	for n = 0; err == nil && n < 1000; n++ {
		err = s.Put(KindOutbox, fmt.Appendf(nil, "%04d", n), make([]byte, 64<<10))
	}
	if !errors.Is(err, ErrPoisoned) {
		t.Fatalf("a full file gives %v, want ErrPoisoned", err)
	}
	if err := s.Put(KindOutbox, []byte("small"), nil); !errors.Is(err, ErrPoisoned) {
		t.Errorf("the store goes on after it: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	kept := 0
	if err := opened(t, path, Options{}).Each(KindOutbox, func(_, _ []byte) error { kept++; return nil }); err != nil || kept != n-1 {
		t.Errorf("%d records of %d acknowledged came back, %v", kept, n-1, err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := opened(t, file(t), Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range everything(t, s) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestOpenRefusesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := opened(t, path, Options{Origin: "one"})
	if _, err := Open(path, Options{Origin: "one", LockTimeout: 1}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second process: %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{Origin: "two"}); !errors.Is(err, ErrFormat) {
		t.Errorf("another ledger's file: %v, want ErrFormat", err)
	}
	garbage := file(t)
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("not a store "), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(garbage, Options{}); err == nil {
		t.Error("garbage opens")
	}
	change(t, path, func(tx *bbolt.Tx) error {
		return in(tx, bucketMeta).Put([]byte("format"), []byte("xinqiao-store/2"))
	})
	if _, err := Open(path, Options{Origin: "one"}); !errors.Is(err, ErrFormat) {
		t.Errorf("a later format: %v, want ErrFormat", err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

// change edits a closed store behind its back.
func change(t *testing.T, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A damaged record is never returned, and the store says so from then on.
func TestDamageIsNoticed(t *testing.T) {
	t.Parallel()
	flip := func(bucket string, key []byte) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			v := bytes.Clone(in(tx, bucket).Get(key))
			v[len(v)-1] ^= 4
			return in(tx, bucket).Put(key, v)
		}
	}
	replay := func(s *Store) error {
		_, _, err := s.Replay(func(uint64, []byte, ledger.FrameRecord) error { return nil })
		return err
	}
	for name, tc := range map[string]struct {
		damage func(*bbolt.Tx) error
		use    func(*Store) error
	}{
		"leaf":         {flip(bucketLeaf, be64(1)), func(s *Store) error { _, err := s.Leaf(1); return err }},
		"leaf, replay": {flip(bucketLeaf, be64(1)), replay},
		"missing leaf": {func(tx *bbolt.Tx) error { return in(tx, bucketLeaf).Delete(be64(1)) }, replay},
		"swapped leaves": {func(tx *bbolt.Tx) error {
			b := in(tx, bucketLeaf)
			v := bytes.Clone(b.Get(be64(0)))
			return b.Put(be64(1), v)
		}, replay},
		"checkpoint": {flip(bucketMark, []byte(keyCheckpoint)), func(s *Store) error { _, _, err := s.Checkpoint(); return err }},
		"cosigned":   {flip(bucketMark, []byte(keyCosigned)), func(s *Store) error { _, _, err := s.Cosigned(); return err }},
		"cosigning":  {flip(bucketMark, []byte(keyCosigned)), func(s *Store) error { return s.PutCosigned(9, gm.Digest{}) }},
		"record": {flip(bucketOf(KindBody), []byte("k")),
			func(s *Store) error { _, _, err := s.Get(KindBody, []byte("k")); return err }},
		"records": {flip(bucketOf(KindBody), []byte("k")),
			func(s *Store) error { return s.Each(KindBody, func(_, _ []byte) error { return nil }) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := file(t)
			s := opened(t, path, Options{})
			err := errors.Join(s.Flush(flush(t, 0, 3)), s.PutCheckpoint(3, []byte("note")), s.PutCosigned(3, gm.Digest{1}),
				s.Put(KindBody, []byte("k"), []byte("v")), s.Close())
			if err != nil {
				t.Fatal(err)
			}
			change(t, path, tc.damage)
			s = opened(t, path, Options{})
			if err := tc.use(s); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
			if !errors.Is(s.Err(), ErrPoisoned) {
				t.Errorf("the store goes on: %v", s.Err())
			}
		})
	}
}

// A file cut short faults when its pages are read; that must be an error and
// not the end of the process.
func TestTruncatedFileIsAnError(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := opened(t, path, Options{})
	for i := range 64 {
		if err := s.Put(KindBody, fmt.Appendf(nil, "%d", i), make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(path, 64<<10); err != nil {
		t.Fatal(err)
	}
	err := s.Each(KindBody, func(_, _ []byte) error { return nil })
	if !errors.Is(err, ErrCorrupt) || !errors.Is(s.Err(), ErrPoisoned) {
		t.Errorf("got %v, then %v", err, s.Err())
	}
}
