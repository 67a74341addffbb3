package ledger

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// ownsBoth is the configuration of a department whose keyring holds the keys of
// its certificate and of the one that will renew it.
func ownsBoth(dept exchange.Dept, next **party) func(*Config) {
	return func(c *Config) {
		if c.Self != dept {
			return
		}
		old := c.Signers
		c.Signers = func(cert gm.Digest) (SigningKey, bool) {
			if *next != nil {
				if key, ok := (*next).signers(cert); ok {
					return key, ok
				}
			}
			return old(cert)
		}
	}
}

// renewal is the entry by which the node's department puts next in force.
func (n *node) renewal(t *testing.T, name string, next *party) Entry {
	t.Helper()
	certs, ok := n.AppliedCerts(n.dept)
	if !ok {
		t.Fatalf("%s has no certificates", n.dept)
	}
	return factEntry(n.dept, label(name), FactChange{Type: FactCert, Key: string(n.dept), Action: Set,
		Replaces: n.version(FactCert, string(n.dept)), Content: canon.MustMarshal(certs.Renew(CertPair{Sign: next.cert}))})
}

// TestRenewalUnderLoad renews the certificates of the department that answers
// while it answers. No access becomes stale, every frame is signed with the
// certificate that its place needs, and the receipts from before still release.
func TestRenewalUnderLoad(t *testing.T) {
	t.Parallel()
	var next *party
	inWorld(t, worldConfig{config: ownsBoth("minzheng", &next)}, func(t *testing.T, w *world) {
		n := w.node("minzheng")
		old := n.cert
		next = w.realm.enrol(t, "minzheng", w.clock(), 100*time.Hour)
		before, err := n.answer("before")
		if err != nil {
			t.Fatal(err)
		}
		basis := n.basis()
		errs := make(chan error, 40)
		for i := range cap(errs) {
			go func() {
				e := accessEntry("minzheng", "zhujian", label(fmt.Sprint("load ", i)), basis)
				placed, err := n.Append(t.Context(), e)
				if err == nil && placed.Result != Committed {
					err = fmt.Errorf("%s by %s", placed.Result, placed.Slot)
				}
				errs <- err
			}()
			if i == cap(errs)/2 {
				placed, err := n.Append(t.Context(), n.renewal(t, "renewal", next))
				if err != nil || placed.Result != Committed {
					t.Fatalf("renew: %s by %s, %v", placed.Result, placed.Slot, err)
				}
			}
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		w.settle()
		if err := n.Release(before, OwnNode, responseOf(label("before"))); err != nil {
			t.Errorf("an answer from before the renewal: %v", err)
		}
		signed := map[gm.Digest]int{}
		for i := range n.Size() {
			if leaf, entry, err := DecodeLeaf(mustLeaf(t, n, i)); err != nil {
				t.Fatal(err)
			} else if entry.Author == "minzheng" {
				_, body, err := DecodeFrameRecord(mustFrame(t, n, leaf.Frame))
				if err != nil {
					t.Fatal(err)
				}
				signed[body.Cert]++
			}
		}
		e := gm.Emmansun()
		if len(signed) != 2 || signed[e.Sum(old)] < 2 || signed[e.Sum(next.cert)] < 1 {
			t.Errorf("entries by certificate: %v", signed)
		}
		w.cosignAllOf(t, n.Size(), map[exchange.Dept]*party{"minzheng": next})
		for _, o := range w.nodes {
			if err := o.Halted(); err != nil {
				t.Errorf("%s: %v", o.dept, err)
			}
			if now, ok := o.AppliedCerts("minzheng"); !ok || len(now.Earlier) != 1 || string(now.Earlier[0].Sign) != string(old) {
				t.Errorf("%s holds %d earlier certificates", o.dept, len(now.Earlier))
			}
		}
	})
}

func mustLeaf(t *testing.T, n *node, index uint64) []byte {
	t.Helper()
	b, err := n.Leaf(index)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustFrame(t *testing.T, n *node, hash gm.Digest) []byte {
	t.Helper()
	b, err := n.storage.Frame(hash)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// cosignAllOf is cosignAll, and holds the cosignatures of some to new keys.
func (w *world) cosignAllOf(t *testing.T, size uint64, renewed map[exchange.Dept]*party) {
	t.Helper()
	w.cosignAll(t, size)
	for d, p := range renewed {
		c, err := w.node(d).Cosign(t.Context(), size, w.node(d).headOf(t, size).Root)
		if err != nil {
			t.Fatal(err)
		}
		if keys := w.leader().electorate().keys; keys[string(d)] != p.key || c.Name != string(d) {
			t.Errorf("%s cosigns with %v, the others count %v", d, p.key, keys[string(d)])
		}
	}
}

// TestRenewalRefused: what a department must not put in its own place. Nothing
// of it is proposed, and the old certificate goes on.
func TestRenewalRefused(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(*testing.T, *world) *party{
		"another department's": func(_ *testing.T, w *world) *party { return w.realm.parties["gongan"] },
		"about to end": func(t *testing.T, w *world) *party {
			return w.realm.enrol(t, "minzheng", w.clock(), expiryMargin/2)
		},
		"of another root": func(t *testing.T, w *world) *party { return newRealm(t, w.clock(), time.Hour).parties["minzheng"] },
		"no certificate":  func(*testing.T, *world) *party { return &party{dept: "minzheng", cert: []byte("x")} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, worldConfig{}, func(t *testing.T, w *world) {
				n := w.node("minzheng")
				frame := n.party.frameOf(t, w.last("minzheng"), n.renewal(t, "renewal", give(t, w)))
				if err := n.CheckFrame(frame); exchange.KindOf(err) != exchange.Invalid {
					t.Errorf("the leader would propose it: %v", err)
				}
				if _, err := n.Append(t.Context(), n.renewal(t, "again", give(t, w))); !errors.Is(err, ErrNotProposed) {
					t.Errorf("append: %v", err)
				}
				if _, err := n.answer("still"); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// TestNoKeyForTheCertificate: the authority gives a department a certificate
// whose key its node does not hold. The node says so and writes nothing; it goes
// on when it has the key.
func TestNoKeyForTheCertificate(t *testing.T) {
	t.Parallel()
	var next *party
	inWorld(t, worldConfig{config: ownsBoth("minzheng", &next)}, func(t *testing.T, w *world) {
		n := w.node("minzheng")
		given := w.realm.enrol(t, "minzheng", w.clock(), 100*time.Hour)
		e := n.renewal(t, "by the authority", given)
		e.Author = exchange.Authority
		w.write(exchange.Authority, e)
		w.settle()
		if _, err := n.answer("without"); !errors.Is(err, ErrNotProposed) {
			t.Errorf("append without the key: %v", err)
		}
		if _, err := n.Cosign(t.Context(), n.Size(), n.headOf(t, n.Size()).Root); !errors.Is(err, ErrNotProposed) {
			t.Errorf("cosign without the key: %v", err)
		}
		next = given
		synctest.Wait()
		if _, err := n.answer("with"); err != nil {
			t.Errorf("with the key: %v", err)
		}
	})
}
