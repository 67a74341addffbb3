package ledger

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// released checks one verdict of the gate; the empty code means that it opens.
func released(t *testing.T, what string, err error, want exchange.Code) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	if !errors.Is(err, ErrRelease) || exchange.AsError(err).Code != want {
		t.Errorf("%s: got %v, want a refusal with %s", what, err, want)
	}
}

func TestReleaseBindsToItsResponse(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n, other := w.nodes["minzheng"], w.nodes["gongan"]
		r, err := n.answer("a")
		if err != nil {
			t.Fatal(err)
		}
		right := responseOf(label("a"))
		released(t, "its own response", n.Release(r, OwnNode, right), "")
		released(t, "the zero receipt", n.Release(Receipt{}, OwnNode, right), exchange.CodeBinding)
		released(t, "the zero receipt and digest", n.Release(Receipt{}, OwnNode, gm.Digest{}), exchange.CodeBinding)
		released(t, "another response", n.Release(r, OwnNode, responseOf(label("b"))), exchange.CodeBinding)
		released(t, "no response", n.Release(r, OwnNode, gm.Digest{}), exchange.CodeBinding)
		released(t, "on another ledger", other.Release(r, OwnNode, right), exchange.CodeBinding)
		if p := r.Public(); p.Index != r.Index() || p.Entry != label("a").String() || p.Author != "minzheng" || p.Origin != testOrigin {
			t.Errorf("public receipt: %+v", p)
		}
		if p := (Receipt{}).Public(); p != (exchange.Receipt{}) {
			t.Errorf("public form of no receipt: %+v", p)
		}
	})
}

// TestReceiptOnlyForOwnCommittedAnswers: denials, stale entries, other kinds and
// other departments' entries give no receipt.
func TestReceiptOnlyForOwnCommittedAnswers(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["minzheng"]
		stale := accessEntry("minzheng", "zhujian", label("stale"), Basis{})
		for _, e := range []Entry{stale, deniedEntry("minzheng", "zhujian", label("denied")), ackEntry("minzheng", label("ack"), "gongan")} {
			if _, err := n.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if r, err := n.Receipt(t.Context(), e.ID); !errors.Is(err, ErrRelease) || r.ledger != nil {
				t.Errorf("receipt for %s: %v", e.Kind, err)
			}
		}
		if _, err := n.answer("a"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if r, err := w.nodes["zhujian"].Receipt(ctx, label("a")); err == nil || r.ledger != nil {
			t.Error("another department got a receipt")
		}
	})
}

func TestReleaseEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*testing.T, *world)
		want   exchange.Code
	}{
		{"deadline", func(_ *testing.T, w *world) { w.advance(ReleaseWithin + time.Second) }, exchange.CodeReleaseLate},
		{"deadline, slow clock", func(t *testing.T, w *world) {
			w.advance(ReleaseWithin + time.Second)
			w.write("gongan", ackEntry("gongan", label("x"), "minzheng")) // ledger time runs on
			w.advance(-time.Hour)
		}, exchange.CodeReleaseLate},
		{"consent withdrawn", func(_ *testing.T, w *world) { w.write("zhujian", withdrawConsent("zhujian")) }, exchange.DenyWithdrawn},
		{"consent withdrawn by the holder", func(_ *testing.T, w *world) { w.write("minzheng", withdrawConsent("minzheng")) }, exchange.DenyWithdrawn},
		{"grant withdrawn", func(_ *testing.T, w *world) {
			w.write(exchange.Authority, factEntry(exchange.Authority, label("x"), FactChange{Type: FactGrant, Key: grantKey(), Action: Withdraw,
				Provider: "minzheng", Grantee: "zhujian"}))
		}, exchange.DenyNoGrant},
		{"member withdrawn", func(_ *testing.T, w *world) {
			w.write(exchange.Authority, factEntry(exchange.Authority, label("x"), FactChange{Type: FactMember, Key: "zhujian", Action: Withdraw}))
		}, exchange.DenyMember},
		{"certificate withdrawn by its owner", func(_ *testing.T, w *world) {
			w.write("zhujian", factEntry("zhujian", label("x"), FactChange{Type: FactCert, Key: "zhujian", Action: Withdraw}))
		}, exchange.DenyMember},
		{"roster replaced", func(_ *testing.T, w *world) {
			version := w.leader().version(FactRoster, "zhujian")
			w.write("zhujian", factEntry("zhujian", label("x"), FactChange{Type: FactRoster, Key: "zhujian", Action: Set, Replaces: version}))
		}, exchange.DenyOperator},
		{"rules replaced", func(_ *testing.T, w *world) {
			version := w.leader().version(FactRules, "minzheng")
			w.write("minzheng", factEntry("minzheng", label("x"), FactChange{Type: FactRules, Key: "minzheng", Action: Set, Replaces: version}))
		}, exchange.CodeStale},
		{"another's consent withdrawn", func(_ *testing.T, w *world) {
			w.write("gongan", factEntry("gongan", label("x"), FactChange{Type: FactAuthority, Key: label("other").String(), Action: Set,
				Provider: "minzheng", Grantee: "gongan"}))
			w.write("gongan", factEntry("gongan", label("y"), FactChange{Type: FactAuthority, Key: label("other").String(), Action: Withdraw,
				Provider: "minzheng", Grantee: "gongan"}))
		}, ""},
		{"ledger halted", func(_ *testing.T, w *world) { w.push([]byte("no batch")) }, exchange.CodeLedgerBroken},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
				n := w.nodes["minzheng"]
				r, err := n.answer("a")
				if err != nil {
					t.Fatal(err)
				}
				c.change(t, w)
				released(t, c.name, n.Release(r, OwnNode, responseOf(label("a"))), c.want)
				slot, ok := n.Current(&r.access)
				if late := c.want == exchange.CodeReleaseLate; ok != (c.want == "" || late) || slot == SlotNone && c.want != "" && !late && c.want != exchange.CodeLedgerBroken {
					t.Errorf("replay of the answer: %v %v", slot, ok)
				}
			})
		})
	}
}

// TestReleaseAfterWithdrawalNotYetVerified: the withdrawal counts as soon as it
// is applied, although this node has not yet checked who signed it.
func TestReleaseAfterWithdrawalNotYetVerified(t *testing.T) {
	t.Parallel()
	hold := newHolder()
	inWorld(t, worldConfig{config: hold.config("minzheng")}, func(t *testing.T, w *world) {
		n := w.nodes["minzheng"]
		r, err := n.answer("a")
		if err != nil {
			t.Fatal(err)
		}
		hold.stop()
		w.write("zhujian", withdrawConsent("zhujian"))
		synctest.Wait()
		if s := n.Stats(); s.Verified == s.Size {
			t.Fatal("the verifier was not held")
		}
		released(t, "withdrawn, unverified", n.Release(r, OwnNode, responseOf(label("a"))), exchange.DenyWithdrawn)
		if _, ok := n.Current(&r.access); ok {
			t.Error("the answer could be replayed")
		}
		hold.goOn()
	})
}

// TestReceiptWaitsForVerification: an entry that is applied is not enough.
func TestReceiptWaitsForVerification(t *testing.T) {
	t.Parallel()
	hold := newHolder()
	inWorld(t, worldConfig{config: hold.config("minzheng")}, func(t *testing.T, w *world) {
		n := w.nodes["minzheng"]
		e := accessEntry("minzheng", "zhujian", label("a"), n.basis())
		hold.stop()
		if _, err := n.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if r, err := n.Receipt(ctx, e.ID); !errors.Is(err, context.DeadlineExceeded) || r.ledger != nil {
			t.Errorf("receipt for what is not verified: %v", err)
		}
		hold.goOn()
		if _, err := n.Receipt(t.Context(), e.ID); err != nil {
			t.Error(err)
		}
	})
}

// TestModeAStops: when releases stay without a cosigned checkpoint for more
// than ten seconds, further ones stop, and go on when one covers them.
func TestModeAStops(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["minzheng"]
		first, err := n.answer("first")
		if err != nil {
			t.Fatal(err)
		}
		second, err := n.answer("second")
		if err != nil {
			t.Fatal(err)
		}
		released(t, "first", n.Release(first, OwnNode, responseOf(label("first"))), "")
		time.Sleep(uncosignedRelease)
		released(t, "within the time", n.Release(second, OwnNode, responseOf(label("second"))), "")
		time.Sleep(time.Millisecond)
		released(t, "uncosigned for too long", n.Release(second, OwnNode, responseOf(label("second"))), exchange.CodeNoQuorum)
		w.cosignAll(t, first.Index())
		released(t, "a checkpoint that ends just before it", n.Release(second, OwnNode, responseOf(label("second"))), exchange.CodeNoQuorum)
		w.cosignAll(t, first.Index()+1)
		released(t, "the oldest is covered", n.Release(second, OwnNode, responseOf(label("second"))), "")
		time.Sleep(2 * uncosignedRelease)
		released(t, "the second is not", n.Release(first, OwnNode, responseOf(label("first"))), exchange.CodeNoQuorum)
		w.cosignAll(t, n.Size())
		released(t, "both are", n.Release(first, OwnNode, responseOf(label("first"))), "")
	})
}

// TestModeAOverRestart: a node that gave an answer without a checkpoint still knows
// of it after a restart, and stops ten seconds after the start.
func TestModeAOverRestart(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["minzheng"]
		r, err := n.answer("first")
		if err != nil {
			t.Fatal(err)
		}
		released(t, "first", n.Release(r, OwnNode, responseOf(label("first"))), "")
		w.settle()
		n = w.restart("minzheng", n.storage)
		time.Sleep(uncosignedRelease + time.Second)
		if r, err = n.Receipt(t.Context(), r.Entry()); err != nil {
			t.Fatal(err)
		}
		released(t, "nothing is covered since the restart", n.Release(r, OwnNode, responseOf(label("first"))), exchange.CodeNoQuorum)
		w.cosignAll(t, n.Size())
		released(t, "a checkpoint has come", n.Release(r, OwnNode, responseOf(label("first"))), "")
	})
}

// TestCosignedGate: a response behind the stricter gate leaves with the checkpoint
// that includes its entry and no sooner, and one behind no gate never.
func TestCosignedGate(t *testing.T) {
	t.Parallel()
	inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
		n := w.nodes["minzheng"]
		r, err := n.answer("a")
		if err != nil {
			t.Fatal(err)
		}
		digest := responseOf(label("a"))
		released(t, "behind no gate", n.Release(r, 0, digest), exchange.CodeNoQuorum)
		released(t, "before any checkpoint", n.Release(r, Cosigned, digest), exchange.CodeNoQuorum)
		w.cosignAll(t, r.Index())
		released(t, "with a checkpoint that ends just before it", n.Release(r, Cosigned, digest), exchange.CodeNoQuorum)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.AwaitCosigned(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait for a checkpoint that does not come: %v", err)
		}
		w.cosignAll(t, r.Index()+1)
		if err := n.AwaitCosigned(t.Context(), r); err != nil {
			t.Error(err)
		}
		released(t, "with the checkpoint", n.Release(r, Cosigned, digest), "")
		released(t, "and still behind no gate", n.Release(r, 0, digest), exchange.CodeNoQuorum)
	})
}
