package ledger

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/merkle"
)

// TestReadWaits: a decision sees a fact only once this node has verified it,
// and an absence only while there is nothing newer about the same fact.
func TestReadWaits(t *testing.T) {
	t.Parallel()
	hold := newHolder()
	inWorld(t, worldConfig{config: hold.config("minzheng")}, func(t *testing.T, w *world) {
		n := w.nodes["minzheng"]
		hold.stop()
		w.write("zhujian", withdrawConsent("zhujian"))
		synctest.Wait()
		reads := map[string]func(*View) bool{
			"fact": func(v *View) bool { return v.Fact(FactAuthority, consentKey()).Active },
			"pair": func(v *View) bool { return len(v.Pair(FactAuthority, "minzheng", "zhujian")) > 0 },
			"all":  func(v *View) bool { return v.All(FactAuthority)[0].Active },
		}
		for name, read := range reads {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := n.Read(ctx, func(v *View) error {
				read(v)
				return nil
			})
			if cancel(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s beyond the watermark: %v", name, err)
			}
		}
		if err := n.Read(t.Context(), func(v *View) error {
			if v.Fact(FactGrant, grantKey()) == nil || v.Fact(FactGrant, "absent") != nil {
				t.Error("facts behind the watermark")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		done := make(chan bool, 1)
		go func() {
			var active bool
			if err := n.Read(t.Context(), func(v *View) error {
				active = v.Fact(FactAuthority, consentKey()).Active
				return nil
			}); err != nil {
				t.Error(err)
			}
			done <- active
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("read beyond the watermark")
		default:
		}
		hold.goOn()
		if <-done {
			t.Error("the withdrawal was not seen")
		}
		failure := errors.New("mine")
		if err := n.Read(t.Context(), func(*View) error { return failure }); !errors.Is(err, failure) {
			t.Errorf("the function's own error: %v", err)
		}
	})
}

// altered returns frame with its parts changed, and its root made to fit again.
func altered(t *testing.T, frame []byte, change func(*Frame, *FrameBody)) []byte {
	t.Helper()
	var f Frame
	var body FrameBody
	if err := errors.Join(canon.Unmarshal(frame, &f), canon.Unmarshal(f.Body, &body)); err != nil {
		t.Fatal(err)
	}
	change(&f, &body)
	f.Body = canon.MustMarshal(body)
	return canon.MustMarshal(f)
}

// TestForgedFrameHalts: a lying leader commits a frame that its author did not
// sign. The members that check it stop, and nothing behind it is believed.
func TestForgedFrameHalts(t *testing.T) {
	t.Parallel()
	e := withdrawConsent("zhujian")
	for name, forge := range map[string]func(*testing.T, *world) []byte{
		"signature of nobody": func(t *testing.T, w *world) []byte {
			return altered(t, w.realm.parties["zhujian"].frameOf(t, w.last("zhujian"), e), func(f *Frame, _ *FrameBody) { f.Sig[40] ^= 1 })
		},
		"zero signature": func(t *testing.T, w *world) []byte {
			return altered(t, w.realm.parties["zhujian"].frameOf(t, w.last("zhujian"), e), func(f *Frame, _ *FrameBody) { f.Sig = gm.Signature{} })
		},
		"another member's signature": func(t *testing.T, w *world) []byte {
			p := *w.realm.parties["zhujian"]
			p.signer = w.realm.parties["gongan"].signer
			return p.frameOf(t, w.last("zhujian"), e)
		},
		"body changed after signing": func(t *testing.T, w *world) []byte {
			other := encode(t, ackEntry("zhujian", label("other"), "minzheng"))
			return altered(t, w.realm.parties["zhujian"].frameOf(t, w.last("zhujian"), e), func(f *Frame, b *FrameBody) {
				f.Entries[0], b.Root = other, merkle.LeafHash(gm.Emmansun(), other)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
				n := w.leader()
				r, err := n.answer("a")
				if err != nil {
					t.Fatal(err)
				}
				w.settle()
				size := n.Size()
				frame := forge(t, w)
				if err := n.CheckFrame(frame); exchange.KindOf(err) != exchange.Forged {
					t.Errorf("an honest leader would propose it: %v", err)
				}
				w.commit(frame)
				synctest.Wait()
				for _, o := range w.nodes {
					s := o.Stats()
					if !errors.Is(o.Halted(), ErrHalted) || s.Verified > size || s.VerifyFailures != 1 || s.EngineMismatches != 0 {
						t.Errorf("%s: %v, %+v", o.dept, o.Halted(), s)
					}
					select {
					case <-o.Fatal():
					default:
						t.Errorf("%s does not say that it is broken", o.dept)
					}
				}
				if err := n.Read(t.Context(), func(*View) error { return nil }); !errors.Is(err, ErrHalted) {
					t.Errorf("read: %v", err)
				}
				released(t, "halted", n.Release(r, OwnNode, responseOf(label("a"))), exchange.CodeLedgerBroken)
				if _, _, _, err := n.Await(t.Context(), "zhujian", label("never")); !errors.Is(err, ErrHalted) {
					t.Errorf("await: %v", err)
				}
			})
		})
	}
}

// TestCertificateOfAnotherHalts: the authority puts one department's certificate
// in another's place. What is signed with it counts for neither.
func TestCertificateOfAnotherHalts(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n, thief := w.leader(), *w.realm.parties["gongan"]
		w.write(exchange.Authority, factEntry(exchange.Authority, label("x"), FactChange{Type: FactCert, Key: "zhujian", Action: Set,
			Replaces: n.version(FactCert, "zhujian"), Content: canon.MustMarshal(Certs{Sign: thief.cert})}))
		w.settle()
		thief.dept = "zhujian"
		frame := thief.frameOf(t, w.last("zhujian"), withdrawConsent("zhujian"))
		if err := n.CheckFrame(frame); exchange.KindOf(err) != exchange.Forged {
			t.Errorf("the leader would propose it: %v", err)
		}
		w.commit(frame)
		synctest.Wait()
		for _, o := range w.nodes {
			if !errors.Is(o.Halted(), ErrHalted) {
				t.Errorf("%s believes it", o.dept)
			}
		}
	})
}

// TestApplyOnce: a command that is delivered again at the same position changes
// nothing.
func TestApplyOnce(t *testing.T) {
	t.Parallel()
	l, p := paperLedger(t, newMemStorage()), paperRealm().parties[exchange.Authority]
	cmd := batchOf(t, time.Unix(5, 0), p.frameOf(t, authorState{}, factEntry(p.dept, label("a"), FactChange{Type: FactBaseline,
		Key: string(p.dept), Action: Set})))
	later := batchOf(t, time.Unix(9, 0))
	for range 2 {
		if err := errors.Join(l.ApplyBatch(7, cmd), l.ApplyBatch(7, later), l.ApplyBatch(3, later)); err != nil {
			t.Fatal(err)
		}
		if l.Size() != 1 || l.AppliedIndex() != 7 || l.state.time != 5000 {
			t.Errorf("%d leaves, position %d, time %d", l.Size(), l.AppliedIndex(), l.state.time)
		}
	}
}

// TestBadBatchHalts: what an honest leader never proposes stops the node before
// anything of it is applied.
func TestBadBatchHalts(t *testing.T) {
	t.Parallel()
	p := paperRealm().parties["zhujian"]
	good := p.frameOf(t, authorState{}, ackEntry("zhujian", label("a"), "minzheng"))
	unknown := canon.MustMarshal(Entry{Suite: gm.Suite, Kind: 9, ID: label("x"), Author: "zhujian"})
	reframe := func(entries ...[]byte) []byte {
		return altered(t, good, func(f *Frame, b *FrameBody) {
			f.Entries, b.Count, b.Root = entries, uint32(len(entries)), merkle.Root(gm.Emmansun(), entryHashes(gm.Emmansun(), entries))
		})
	}
	foreign := encode(t, ackEntry("gongan", label("a"), "minzheng"))
	many := make([][]byte, MaxFrameEntries+1)
	for i := range many {
		many[i] = foreign
	}
	batch := func(b Batch) []byte { return canon.MustMarshal(b) }
	for name, cmd := range map[string][]byte{
		"nothing":                 nil,
		"garbage":                 []byte("garbage"),
		"truncated":               batch(Batch{Version: 1, Frames: [][]byte{good}})[:40],
		"trailing byte":           append(batch(Batch{Version: 1, Frames: [][]byte{good}}), 0),
		"version 0":               batch(Batch{Frames: [][]byte{good}}),
		"version 2":               batch(Batch{Version: 2, Frames: [][]byte{good}}),
		"empty frame":             batch(Batch{Version: 1, Frames: [][]byte{good, {}}}),
		"frame without entries":   batch(Batch{Version: 1, Frames: [][]byte{good, reframe()}}),
		"too many entries":        batch(Batch{Version: 1, Frames: [][]byte{reframe(many...)}}),
		"unknown kind":            batch(Batch{Version: 1, Frames: [][]byte{good, reframe(unknown)}}),
		"another's entry":         batch(Batch{Version: 1, Frames: [][]byte{good, reframe(foreign)}}),
		"root of something else":  batch(Batch{Version: 1, Frames: [][]byte{altered(t, good, func(_ *Frame, b *FrameBody) { b.Root[0] ^= 1 })}}),
		"unknown suite":           batch(Batch{Version: 1, Frames: [][]byte{altered(t, good, func(_ *Frame, b *FrameBody) { b.Suite = "SM-2" })}}),
		"sequence number 0":       batch(Batch{Version: 1, Frames: [][]byte{altered(t, good, func(_ *Frame, b *FrameBody) { b.Seq = 0 })}}),
		"oversize":                batch(Batch{Version: 1, Frames: [][]byte{bytes.Repeat([]byte{0x41}, MaxFrame+1)}}),
		"count is not the number": batch(Batch{Version: 1, Frames: [][]byte{altered(t, good, func(_ *Frame, b *FrameBody) { b.Count = 2 })}}),
	} {
		l := paperLedger(t, newMemStorage())
		if err := l.ApplyBatch(1, cmd); !errors.Is(err, ErrHalted) || !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
		if l.Size() != 0 || l.AppliedIndex() != 0 {
			t.Errorf("%s: something was applied", name)
		}
		if err := l.ApplyBatch(1, batch(Batch{Version: 1})); !errors.Is(err, ErrHalted) {
			t.Errorf("%s: went on afterwards: %v", name, err)
		}
	}
}

// paperLedger is a ledger of minzheng's that was not started: it applies and
// flushes when told to, and verifies nothing.
func paperLedger(t testing.TB, s Storage) *Ledger {
	t.Helper()
	l, err := Open(paperConfig(s))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func paperConfig(s Storage) Config {
	r := paperRealm()
	return Config{Origin: testOrigin, Self: "minzheng", AuthorityCert: r.parties[exchange.Authority].cert, Engine: gm.Emmansun(),
		Second: gm.Tjfoc(), Storage: s, Clock: func() time.Time { return time.UnixMilli(0) }, Log: slog.New(slog.DiscardHandler)}
}

// TestSplitVerdict: when the engines disagree about an access frame, its entries
// are disputed and nothing else suffers; about a fact, the node stops.
func TestSplitVerdict(t *testing.T) {
	t.Parallel()
	var doubted atomic.Pointer[gm.Digest] // root of the frame that the second engine refuses
	config := func(c *Config) {
		c.Second = biased{gm.Tjfoc(), func(msg []byte) bool {
			root := doubted.Load()
			return root == nil || !bytes.Contains(msg, root[:])
		}}
	}
	doubt := func(t *testing.T, entries ...Entry) {
		var raw [][]byte
		for _, e := range entries {
			raw = append(raw, encode(t, e))
		}
		root := merkle.Root(gm.Emmansun(), entryHashes(gm.Emmansun(), raw))
		doubted.Store(&root)
	}
	inWorld(t, worldConfig{config: config}, func(t *testing.T, w *world) {
		n := w.leader()
		e := accessEntry("minzheng", "zhujian", label("a"), n.basis())
		doubt(t, e)
		if _, err := n.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		split := 0
		for _, o := range w.nodes {
			_, _, _, err := o.Await(t.Context(), "minzheng", e.ID)
			s := o.Stats()
			if o.Halted() != nil || s.Verified != s.Size {
				t.Errorf("%s stands still: %v", o.dept, o.Halted())
			}
			if s.EngineMismatches > 0 {
				split++
				if exchange.KindOf(err) != exchange.Integrity {
					t.Errorf("%s hands the disputed entry on: %v", o.dept, err)
				}
			} else if err != nil {
				t.Errorf("%s: %v", o.dept, err)
			}
		}
		if split != 1 {
			t.Errorf("%d nodes gave a second verdict, want 1", split)
		}

		// A fact that hides behind another entry of its frame is checked all the same.
		frame := []Entry{ackEntry("zhujian", label("ack"), "minzheng"), withdrawConsent("zhujian")}
		doubt(t, frame...)
		raw := w.realm.parties["zhujian"].frameOf(t, w.last("zhujian"), frame...)
		if err := n.CheckFrame(raw); exchange.KindOf(err) != exchange.Forged {
			t.Errorf("the leader would propose it: %v", err)
		}
		w.commit(raw)
		synctest.Wait()
		for _, o := range w.nodes {
			if !errors.Is(o.Halted(), ErrHalted) {
				t.Errorf("%s believes a fact that one engine refuses", o.dept)
			}
		}
	})
}

// TestFirstEngineAlone: the engine of the hot path refuses what the other
// accepts. One member's crafted signature must not be able to stop a node.
func TestFirstEngineAlone(t *testing.T) {
	t.Parallel()
	refuse := func(c *Config) {
		if c.Self == "gongan" {
			c.Engine = biased{gm.Emmansun(), func(msg []byte) bool { return !bytes.Contains(msg, []byte("renshe")) }}
		}
	}
	inWorld(t, worldConfig{config: refuse, bare: true}, func(t *testing.T, w *world) {
		for _, entries := range w.realm.founding() {
			if entries[0].Author != "renshe" {
				w.write(entries[0].Author, entries...)
			}
		}
		w.write("renshe", ackEntry("renshe", label("a"), "minzheng"))
		synctest.Wait()
		for _, o := range w.nodes {
			_, _, _, err := o.Await(t.Context(), "renshe", label("a"))
			if o.Halted() != nil || (o.dept == "gongan") != (exchange.KindOf(err) == exchange.Integrity && err != nil) {
				t.Errorf("%s: %v, %v", o.dept, err, o.Halted())
			}
		}
	})
}

func TestCheckFrame(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{certs: time.Hour}, func(t *testing.T, w *world) {
		n, p := w.leader(), w.realm.parties["zhujian"]
		e := ackEntry("zhujian", label("a"), "minzheng")
		last := w.last("zhujian")
		good := p.frameOf(t, last, e)
		if err := n.CheckFrame(good); err != nil {
			t.Fatal(err)
		}
		stranger := *p
		stranger.dept = "stranger"
		for name, c := range map[string]struct {
			frame []byte
			want  exchange.Kind
		}{
			"another ledger": {altered(t, good, func(_ *Frame, b *FrameBody) { b.Origin = "other" }), exchange.Forged},
			"another certificate": {altered(t, good, func(_ *Frame, b *FrameBody) {
				b.Cert = gm.Emmansun().Sum(w.realm.parties["gongan"].cert)
			}), exchange.Forged},
			"no member":       {stranger.frameOf(t, authorState{}, ackEntry("stranger", label("b"), "minzheng")), exchange.Forged},
			"place is taken":  {p.frameOf(t, authorState{}, e), exchange.Conflict},
			"no frame at all": {[]byte("x"), exchange.Internal},
		} {
			if err := n.CheckFrame(c.frame); err == nil || exchange.KindOf(err) != c.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.commit(good)
		if err := n.CheckFrame(good); exchange.KindOf(err) != exchange.Conflict {
			t.Errorf("replayed: %v", err)
		}
		// A frame is refused while its certificate is still good, but not for long:
		// its batch may get a later time.
		next := p.frameOf(t, w.last("zhujian"), ackEntry("zhujian", label("c"), "minzheng"))
		w.advance(time.Hour - expiryMargin - time.Minute)
		w.write("gongan", w.clockEntry("first", w.clock(), depts()...))
		if err := n.CheckFrame(next); err != nil {
			t.Errorf("within the margin: %v", err)
		}
		w.advance(2 * time.Minute)
		if err := n.CheckFrame(next); exchange.KindOf(err) != exchange.Forged {
			t.Errorf("about to expire: %v", err)
		}
		// A lying leader commits it after the certificate's end.
		w.advance(5 * time.Minute)
		w.write("gongan", w.clockEntry("second", w.clock(), depts()...))
		w.advance(ClockBound - time.Minute)
		w.commit(next)
		synctest.Wait()
		if !errors.Is(n.Halted(), ErrHalted) {
			t.Error("a frame under an expired certificate was believed")
		}
	})
}

// TestIdentities: the cache never answers for a time that was not checked.
func TestIdentities(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := &expiring{from: start, to: start.Add(5 * time.Hour)}
	c := NewIdentities(gm.Emmansun(), e.identify)
	for i := range 3000 {
		at := start.Add(time.Duration((i*7919)%3000-600) * 10 * time.Second)
		_, _, err := c.At([]byte("minzheng"), at)
		if good := !at.Before(e.from) && !at.After(e.to); good != (err == nil) {
			t.Fatalf("at %v: %v", at.Sub(start), err)
		}
	}
	good := e.calls
	for i := range 1800 {
		if dept, _, err := c.At([]byte("minzheng"), start.Add(time.Duration(i)*10*time.Second)); err != nil || dept != "minzheng" {
			t.Fatal(err)
		}
	}
	if e.calls > good+4 {
		t.Errorf("%d more looks at a certificate that was known", e.calls-good)
	}
	if dept, _, err := c.At([]byte("zhujian"), start); err != nil || dept != "zhujian" {
		t.Errorf("another certificate is %s's: %v", dept, err)
	}
}
