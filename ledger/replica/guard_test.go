package replica

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"xinqiao/exchange"
	"xinqiao/ledger"
)

// brokenLog is a raft-wal whose next write fails, once.
type brokenLog struct {
	*wal.WAL
	fail error
}

func (b *brokenLog) StoreLogs(logs []*raft.Log) error {
	if err := b.fail; err != nil {
		b.fail = nil
		return err
	}
	return b.WAL.StoreLogs(logs)
}

func (b *brokenLog) DeleteRange(low, high uint64) error {
	if err := b.fail; err != nil {
		b.fail = nil
		return err
	}
	return b.WAL.DeleteRange(low, high)
}

func newGuard(t *testing.T) (*guard, *brokenLog) {
	t.Helper()
	w, err := wal.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	f := newFault()
	s, err := openStable(filepath.Join(t.TempDir(), "votes"), f, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	b := &brokenLog{WAL: w}
	return &guard{WAL: b, applied: new(atomic.Uint64), votes: s, self: "aa", addr: "aa:1", fault: f, crash: func(string) {}}, b
}

func command(index, term uint64, by exchange.Dept) *raft.Log {
	data := []byte("data")
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data, Extensions: mark(by, data)}
}

func TestCommittedEntriesAreNotDeleted(t *testing.T) {
	t.Parallel()
	g, raw := newGuard(t)
	for i := range uint64(10) {
		if err := g.StoreLog(command(i+1, 1, "bb")); err != nil {
			t.Fatal(err)
		}
	}
	g.applied.Store(6)
	if err := g.DeleteRange(9, 10); err != nil {
		t.Fatalf("an uncommitted suffix must go: %v", err)
	}
	for _, low := range []uint64{6, 1} {
		g.fault = newFault()
		if err := g.DeleteRange(low, 8); !errors.Is(err, ErrCommitted) {
			t.Errorf("from %d: %v", low, err)
		}
		if err := g.fault.get(); !errors.Is(err, ErrCommitted) {
			t.Errorf("from %d: fault %v", low, err)
		}
	}
	if last, _ := g.LastIndex(); last != 8 {
		t.Errorf("last index %d", last)
	}
	if err := g.StoreLog(command(9, 2, "bb")); !errors.Is(err, ErrCommitted) {
		t.Errorf("a write after the fault: %v", err)
	}
	// Without the guard the library's store obeys.
	if err := raw.DeleteRange(6, 8); err != nil {
		t.Errorf("raw store: %v", err)
	}
}

func TestFirstFailedWriteIsTheLast(t *testing.T) {
	t.Parallel()
	failed := errors.New("input/output error")
	for name, write := range map[string]func(*guard) error{
		"store":  func(g *guard) error { return g.StoreLog(command(2, 1, "bb")) },
		"delete": func(g *guard) error { return g.DeleteRange(1, 1) },
	} {
		g, raw := newGuard(t)
		if err := g.StoreLog(command(1, 1, "bb")); err != nil {
			t.Fatal(err)
		}
		raw.fail = failed
		if err := write(g); !errors.Is(err, failed) || !errors.Is(err, ErrDisk) {
			t.Errorf("%s: %v", name, err)
		}
		select {
		case err := <-g.fault.ch:
			if !errors.Is(err, ErrDisk) {
				t.Errorf("%s: fatal %v", name, err)
			}
		default:
			t.Errorf("%s: nothing told the node to stop", name)
		}
		// The disk works again, and must not be believed.
		if err := write(g); !errors.Is(err, ErrDisk) {
			t.Errorf("%s: second write: %v", name, err)
		}
		if err := g.votes.SetUint64([]byte(keyTerm), 9); !errors.Is(err, ErrDisk) {
			t.Errorf("%s: vote after the fault: %v", name, err)
		}
	}
}

func TestOwnCommandNeedsOwnElection(t *testing.T) {
	t.Parallel()
	own := func(index, term uint64) *raft.Log { return command(index, term, "aa") }
	g, _ := newGuard(t)
	vote(t, g.votes, 3, "aa:1")
	if err := g.StoreLog(own(1, 3)); err != nil {
		t.Fatalf("elected in term 3: %v", err)
	}
	if err := g.votes.SetUint64([]byte(keyTerm), 4); err != nil {
		t.Fatal(err)
	}
	if err := g.StoreLog(own(2, 3)); err != nil {
		t.Errorf("own entry of an earlier term, come back from a leader: %v", err)
	}
	if err := g.StoreLog(command(3, 4, "bb")); err != nil {
		t.Errorf("another's entry: %v", err)
	}
	if err := g.StoreLog(own(4, 4)); !errors.Is(err, ErrNotElected) {
		t.Errorf("term 4 is not this node's: %v", err)
	}
	if last, _ := g.LastIndex(); last != 3 {
		t.Errorf("last index %d", last)
	}

	g, _ = newGuard(t)
	vote(t, g.votes, 4, "bb:1")
	if err := g.StoreLog(own(1, 4)); !errors.Is(err, ErrNotElected) {
		t.Errorf("voted for another: %v", err)
	}
}

func vote(t *testing.T, s *stable, term uint64, who string) {
	t.Helper()
	if err := errors.Join(s.SetUint64([]byte(keyTerm), term), s.SetUint64([]byte(keyVoteTerm), term), s.Set([]byte(keyVoteFor), []byte(who))); err != nil {
		t.Fatal(err)
	}
}

func TestVoteIsOneWrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "votes")
	s, err := openStable(path, newFault(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	vote(t, s, 3, "bb:1")
	if err := errors.Join(s.SetUint64([]byte(keyTerm), 4), s.SetUint64([]byte(keyVoteTerm), 4)); err != nil {
		t.Fatal(err)
	}
	// Here the process dies: the vote for bb in term 3 must not become one in term 4.
	s, err = openStable(path, newFault(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	term, _ := s.GetUint64([]byte(keyTerm))
	voteTerm, _ := s.GetUint64([]byte(keyVoteTerm))
	who, _ := s.Get([]byte(keyVoteFor))
	if term != 4 || voteTerm != 3 || string(who) != "bb:1" {
		t.Errorf("term %d, voted in %d for %q", term, voteTerm, who)
	}
	vote(t, s, 4, "cc:1")
	s, _ = openStable(path, newFault(), func(string) {})
	if who, _ := s.Get([]byte(keyVoteFor)); string(who) != "cc:1" || !s.voted() {
		t.Errorf("vote of term 4 for %q", who)
	}
	if err := s.Set([]byte("Other"), nil); err == nil {
		t.Error("an unknown key was taken")
	}
}

func TestDamagedVotesAreNotForgotten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "votes")
	s, err := openStable(path, newFault(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	vote(t, s, 7, "bb:1")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		for _, b := range [][]byte{bad, good[:i]} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := openStable(path, newFault(), func(string) {}); !errors.Is(err, ErrVotes) {
				t.Fatalf("byte %d of %d bytes: %v", i, len(b), err)
			}
		}
	}
}

func TestVoteThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	f := newFault()
	s, err := openStable(filepath.Join(t.TempDir(), "gone", "votes"), f, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetUint64([]byte(keyTerm), 1); !errors.Is(err, ErrDisk) {
		t.Errorf("write: %v", err)
	}
	if term, _ := s.GetUint64([]byte(keyTerm)); term != 0 {
		t.Errorf("term %d was never written", term)
	}
	if err := f.get(); !errors.Is(err, ErrDisk) {
		t.Errorf("fault: %v", err)
	}
}

func TestFSMTakesOnlyItsOwnCommands(t *testing.T) {
	t.Parallel()
	batch, err := ledger.EncodeBatch(testTime(), [][]byte{[]byte("f")})
	if err != nil {
		t.Fatal(err)
	}
	entry := func(index uint64) *raft.Log {
		return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: slices.Clone(batch), Extensions: mark("bb", batch)}
	}
	a := &recorder{index: 4}
	m := newFSM(a, newFault())
	noop := &raft.Log{Index: 6, Term: 1, Type: raft.LogConfiguration}
	for i, r := range m.ApplyBatch([]*raft.Log{entry(3), entry(4), entry(5), noop, entry(7)}) {
		if r != nil {
			t.Errorf("response %d: %v", i, r)
		}
	}
	if !slices.Equal(a.indices, []uint64{5, 7}) || m.delivered.Load() != 7 {
		t.Errorf("applied %v, delivered %d", a.indices, m.delivered.Load())
	}
	for name, spoil := range map[string]func(*raft.Log){
		"a flipped bit":  func(l *raft.Log) { l.Data[len(l.Data)-1] ^= 1 },
		"no mark":        func(l *raft.Log) { l.Extensions = nil },
		"no proposer":    func(l *raft.Log) { l.Extensions = l.Extensions[:4] },
		"another format": func(l *raft.Log) { l.Data = []byte("x"); l.Extensions = mark("bb", l.Data) },
	} {
		a := &recorder{}
		m := newFSM(a, newFault())
		bad := entry(1)
		spoil(bad)
		r := m.ApplyBatch([]*raft.Log{bad, entry(2)})
		if r[0] == nil || r[1] == nil || m.fault.get() == nil || len(a.all()) != 0 {
			t.Errorf("%s: responses %v, applied %v: nothing may be applied behind a hole", name, r, a.indices)
		}
	}
	if _, err := m.Snapshot(); err == nil {
		t.Error("a snapshot would let raft drop its log")
	}
	if err := m.Restore(nopCloser{strings.NewReader("")}); err == nil {
		t.Error("restore was accepted")
	}
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }

func TestInterruptedBootstrapIsRepeated(t *testing.T) {
	t.Parallel()
	s, err := openStable(filepath.Join(t.TempDir(), "votes"), newFault(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SetUint64([]byte(keyTerm), 1), s.forgetBootstrap()); err != nil {
		t.Fatal(err)
	}
	if term, _ := s.GetUint64([]byte(keyTerm)); term != 0 {
		t.Errorf("term %d", term)
	}
	vote(t, s, 1, "bb:1")
	if err := s.forgetBootstrap(); err != nil || !s.voted() {
		t.Errorf("a vote was forgotten: %v", err)
	}
}
