package ledger

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
)

// headOf is the head of the node's own tree.
func (n *node) headOf(t *testing.T, size uint64) checkpoint.Checkpoint {
	t.Helper()
	root, err := n.Root(size)
	if err != nil {
		t.Fatal(err)
	}
	return checkpoint.Checkpoint{Origin: testOrigin, Size: size, Root: root}
}

// note signs head with the departments' own keys, past what their nodes would
// agree to: what colluding departments can do.
func (w *world) note(t *testing.T, head checkpoint.Checkpoint, signers ...exchange.Dept) []byte {
	t.Helper()
	n := checkpoint.Note{Checkpoint: head}
	for _, d := range signers {
		p := w.realm.parties[d]
		c, err := checkpoint.Cosign(p.signer, gm.Emmansun(), string(d), p.key, w.clock(), head)
		if err != nil {
			t.Fatal(err)
		}
		n.Cosignatures = append(n.Cosignatures, c)
	}
	return n.Encode()
}

// cosignAll brings a checkpoint of all departments to every node.
func (w *world) cosignAll(t *testing.T, size uint64) {
	t.Helper()
	note := checkpoint.Note{Checkpoint: w.leader().headOf(t, size)}
	for _, d := range depts() {
		c, err := w.nodes[d].Cosign(t.Context(), size, note.Root)
		if err != nil {
			t.Fatal(err)
		}
		note.Cosignatures = append(note.Cosignatures, c)
	}
	for _, d := range depts() {
		if err := w.nodes[d].Accept(t.Context(), note.Encode()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCosignRefuses(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["gongan"]
		size := n.Size()
		head := n.headOf(t, size)
		if _, err := n.Cosign(t.Context(), size, gm.Digest{1}); exchange.KindOf(err) != exchange.Integrity || n.Stats().RefusedHeads != 1 || n.Stats().SplitViews != 0 {
			t.Errorf("another root: %v", err)
		}
		if n.Halted() != nil {
			t.Error("a wrong root in a request halted the node: anyone could stop it")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Cosign(ctx, size+1, head.Root); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a size that is not here yet: %v", err)
		}
		c, err := n.Cosign(t.Context(), size, head.Root)
		if err != nil {
			t.Fatal(err)
		}
		own := map[string]gm.PublicKey{"gongan": n.key}
		if _, err := checkpoint.Verify([]gm.Engine{gm.Emmansun(), gm.Tjfoc()}, checkpoint.Note{Checkpoint: head, Cosignatures: []checkpoint.Cosignature{c}}, own, 1); err != nil {
			t.Errorf("the cosignature does not verify: %v", err)
		}
		if _, err := n.Cosign(t.Context(), size, head.Root); err != nil {
			t.Errorf("the same head again: %v", err)
		}
		smaller := n.headOf(t, size-1)
		if _, err := n.Cosign(t.Context(), smaller.Size, smaller.Root); exchange.KindOf(err) != exchange.Conflict {
			t.Errorf("a smaller head: %v", err)
		}
	})
}

// TestCosignPersistsFirst crashes a node on both sides of the write: before it
// nothing was said, after it the node remembers what it may have said.
func TestCosignPersistsFirst(t *testing.T) {
	t.Parallel()
	s := newMemStorage()
	seen := map[string]uint64{}
	config := func(c *Config) {
		if c.Self == "gongan" {
			c.Crash = func(point string) {
				if strings.HasPrefix(point, "cosign-") {
					seen[point], _, _ = s.Cosigned()
				}
			}
		}
	}
	storage := func(d exchange.Dept) Storage {
		if d == "gongan" {
			return s
		}
		return newMemStorage()
	}
	inWorld(t, worldConfig{config: config, storage: storage}, func(t *testing.T, w *world) {
		n := w.nodes["gongan"]
		head := n.headOf(t, n.Size())
		if _, err := n.Cosign(t.Context(), head.Size, head.Root); err != nil {
			t.Fatal(err)
		}
		if before, known := seen["cosign-before-persist"]; !known || before != 0 {
			t.Errorf("recorded before the write: %d, %v", before, known)
		}
		if after := seen["cosign-after-persist"]; after != head.Size {
			t.Errorf("recorded when the signature leaves: %d, want %d", after, head.Size)
		}
		s.mu.Lock()
		s.fail = errors.New("disk is full")
		s.mu.Unlock()
		w.write("zhujian", withdrawConsent("zhujian"))
		synctest.Wait()
		head = n.headOf(t, n.Size())
		if _, err := n.Cosign(t.Context(), head.Size, head.Root); !errors.Is(err, ErrHalted) {
			t.Errorf("cosigned without a record: %v", err)
		}
		if n.Halted() == nil {
			t.Error("the node goes on after a failed write")
		}
	})
}

// TestOpenRefusesRollback: a stored ledger that is not the one this node has
// cosigned does not open; one whose tail was merely not flushed does.
func TestOpenRefusesRollback(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["gongan"]
		early := n.storage.(*memStorage).clone()
		w.write("zhujian", withdrawConsent("zhujian"))
		w.settle()
		w.cosignAll(t, n.Size())
		good := n.storage.(*memStorage).clone()

		unflushed := early.clone()
		unflushed.cosigned, unflushed.cosignedRoot, unflushed.noteSize, unflushed.note = good.cosigned, good.cosignedRoot, good.noteSize, good.note
		o := w.restart("gongan", unflushed)
		if err := o.waitFor(t.Context(), func() bool { return o.verified == good.cosigned }); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Cosign(t.Context(), good.cosigned, good.cosignedRoot); err != nil {
			t.Errorf("after the tail was applied again: %v", err)
		}

		rewritten := good.clone()
		rewritten.cosignedRoot[0] ^= 1
		if _, err := Open(w.config("gongan", rewritten)); !errors.Is(err, ErrHalted) {
			t.Errorf("another history than the cosigned one: %v", err)
		}
		// The log brings another tail than the one that was cosigned.
		forked := unflushed.clone()
		forked.cosignedRoot[0] ^= 1
		f := w.restart("gongan", forked)
		if err := f.waitFor(t.Context(), func() bool { return f.verified == good.cosigned }); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Cosign(t.Context(), good.cosigned, good.cosignedRoot); !errors.Is(err, ErrHalted) {
			t.Errorf("cosigned a second history: %v", err)
		}
	})
}

func TestAcceptRefuses(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["gongan"]
		head := n.headOf(t, n.Size())
		elsewhere := head
		elsewhere.Origin = "other/sm"
		for _, c := range []struct {
			name string
			note []byte
			is   error
			kind exchange.Kind
		}{
			{"garbage", []byte("x"), checkpoint.ErrFormat, exchange.Internal},
			{"too few", w.note(t, head, "gongan", "zhujian"), checkpoint.ErrQuorum, exchange.Internal},
			{"one of them thrice", w.note(t, head, "gongan", "gongan", "gongan"), checkpoint.ErrQuorum, exchange.Internal},
			{"the authority is no member", w.note(t, head, "gongan", "zhujian", exchange.Authority), checkpoint.ErrQuorum, exchange.Internal},
			{"another ledger", w.note(t, elsewhere, depts()...), nil, exchange.Forged},
		} {
			err := n.Accept(t.Context(), c.note)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || exchange.KindOf(err) != c.kind {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if _, _, err := n.Checkpoint(); !errors.Is(err, ErrNotFound) || n.Halted() != nil {
			t.Errorf("after what was refused: %v, %v", err, n.Halted())
		}
		good := w.note(t, head, depts()[:3]...)
		for range 2 {
			if err := n.Accept(t.Context(), good); err != nil {
				t.Errorf("a quorum: %v", err)
			}
		}
		if size, note, err := n.Checkpoint(); err != nil || size != head.Size || string(note) != string(good) {
			t.Errorf("checkpoint: %d %v", size, err)
		}
	})
}

// TestQuorumCountsExpiredMembers: departments whose certificates are out of
// force still count as members, so fewer cannot make a quorum.
func TestQuorumCountsExpiredMembers(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		for _, d := range depts()[2:] {
			w.write(d, factEntry(d, label("gone "+string(d)), FactChange{Type: FactCert, Key: string(d), Action: Withdraw}))
		}
		w.settle()
		n := w.leader()
		if err := n.Accept(t.Context(), w.note(t, n.headOf(t, n.Size()), depts()[:2]...)); !errors.Is(err, checkpoint.ErrQuorum) {
			t.Errorf("two of four members: %v", err)
		}
	})
}

// TestAcceptWaitsForItsElectorate: who is a member is itself a fact, and counts
// only once this node has verified who said so.
func TestAcceptWaitsForItsElectorate(t *testing.T) {
	t.Parallel()
	hold := newHolder()
	inWorld(t, worldConfig{config: hold.config("gongan")}, func(t *testing.T, w *world) {
		n := w.nodes["gongan"]
		head := n.headOf(t, n.Size())
		hold.stop()
		w.write(exchange.Authority, factEntry(exchange.Authority, label("x"), FactChange{Type: FactMember, Key: "renshe", Action: Set,
			Replaces: n.version(FactMember, "renshe")}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		note := w.note(t, head, depts()...)
		if err := n.Accept(ctx, note); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("accepted by members that are not verified: %v", err)
		}
		hold.goOn()
		if err := n.Accept(t.Context(), note); err != nil {
			t.Error(err)
		}
	})
}

// TestForkHalts: a quorum's checkpoint that contradicts the node's own tree, at
// the newest size or at an older one, is proof of a fork.
func TestForkHalts(t *testing.T) {
	t.Parallel()
	for _, back := range []uint64{0, 3} {
		inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
			n := w.nodes["gongan"]
			w.cosignAll(t, n.Size())
			head := n.headOf(t, n.Size()-back)
			if err := n.Accept(t.Context(), w.note(t, head, depts()...)); err != nil || n.Halted() != nil {
				t.Fatalf("its own head: %v", err)
			}
			head.Root[5] ^= 1
			if err := n.Accept(t.Context(), w.note(t, head, depts()[:2]...)); !errors.Is(err, checkpoint.ErrQuorum) || n.Halted() != nil {
				t.Errorf("two liars: %v", err)
			}
			if err := n.Accept(t.Context(), w.note(t, head, depts()[1:]...)); !errors.Is(err, ErrHalted) {
				t.Errorf("fork %d back: %v", back, err)
			}
			if s := n.Stats(); !s.Halted || s.SplitViews != 1 {
				t.Errorf("after the fork: %+v", s)
			}
			if _, err := n.Cosign(t.Context(), n.Size(), n.headOf(t, n.Size()).Root); !errors.Is(err, ErrHalted) {
				t.Errorf("cosigned after a fork: %v", err)
			}
			if _, err := n.answerAs("gongan"); !errors.Is(err, ErrHalted) {
				t.Errorf("appended after a fork: %v", err)
			}
		})
	}
}

func (n *node) answerAs(d exchange.Dept) (Placed, error) {
	return n.Append(n.world.t.Context(), ackEntry(d, label("answer"), "minzheng"))
}

// publishing runs PublishLoop on the leader until f returns.
func (w *world) publishing(t *testing.T, via *witnesses, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.leader().PublishLoop(ctx, via, func() bool { return true })
	}()
	f()
	cancel()
	<-done
	time.Sleep(2 * publishWithin) // deliveries that are still out
}

func (w *world) covered(d exchange.Dept) bool {
	size, _, err := w.node(d).Checkpoint()
	return err == nil && size == w.node(d).Size()
}

func TestPublish(t *testing.T) {
	t.Parallel()
	other := func(d exchange.Dept, c checkpoint.Cosignature) checkpoint.Cosignature {
		if d == "renshe" {
			c.Name = "two words"
		}
		return c
	}
	zero := func(d exchange.Dept, c checkpoint.Cosignature) checkpoint.Cosignature {
		if d == "renshe" {
			c.Sig = gm.Signature{1}
		}
		return c
	}
	stolen := func(d exchange.Dept, c checkpoint.Cosignature) checkpoint.Cosignature {
		if d == "renshe" {
			c.Name = "minzheng"
		}
		return c
	}
	for _, c := range []struct {
		name string
		dead []exchange.Dept
		lie  func(exchange.Dept, checkpoint.Cosignature) checkpoint.Cosignature
		want bool
	}{
		{name: "all alive", want: true},
		{name: "one dead", dead: []exchange.Dept{"renshe"}, want: true},
		{name: "two dead", dead: []exchange.Dept{"renshe", "gongan"}},
		{name: "one signs garbage", lie: zero, want: true},
		{name: "one gives a name that is none", lie: other, want: true},
		{name: "one gives another's name", lie: stolen, want: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
				via := &witnesses{world: w, lie: c.lie, dead: map[exchange.Dept]bool{}}
				for _, d := range c.dead {
					via.dead[d] = true
				}
				w.publishing(t, via, func() { time.Sleep(5 * time.Second) })
				for _, d := range depts() {
					if got := w.covered(d); got != (c.want && !via.dead[d]) {
						t.Errorf("%s is covered: %v", d, got)
					}
				}
			})
		})
	}
}

// TestModeARecovers: with dead witnesses releases stop, and when the witnesses
// are back the loop covers what was released and they go on.
func TestModeARecovers(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.leader()
		r, err := n.answer("a")
		if err != nil {
			t.Fatal(err)
		}
		digest := responseOf(label("a"))
		via := &witnesses{world: w, dead: map[exchange.Dept]bool{"gongan": true, "renshe": true}}
		w.publishing(t, via, func() {
			released(t, "at first", n.Release(r, OwnNode, digest), "")
			time.Sleep(uncosignedRelease + time.Second)
			released(t, "without witnesses", n.Release(r, OwnNode, digest), exchange.CodeNoQuorum)
		})
		w.publishing(t, &witnesses{world: w}, func() {
			time.Sleep(time.Second)
			released(t, "with witnesses", n.Release(r, OwnNode, digest), "")
		})
		p, err := n.Proof(t.Context(), r.Index())
		if err != nil || p.Size <= r.Index() {
			t.Errorf("proof: %v", err)
		}
	})
}

// TestNewestCheckpointComesAgain: a node that was away when a checkpoint was
// published gets it although nothing more is written.
func TestNewestCheckpointComesAgain(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		away := map[exchange.Dept]bool{"renshe": true}
		w.publishing(t, &witnesses{world: w, dead: away}, func() { time.Sleep(time.Second) })
		if w.covered("renshe") {
			t.Fatal("renshe was not away")
		}
		w.publishing(t, &witnesses{world: w}, func() { time.Sleep(uncosignedRelease) })
		if !w.covered("renshe") {
			t.Error("renshe has not got the checkpoint")
		}
	})
}
