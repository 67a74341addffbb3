package node_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/demo"
	"xinqiao/exchange/node"
	"xinqiao/ledger"
)

// TestTLS13Network runs a whole network over TLS 1.3: one exchange, proofs, new
// keys for a department, and the end of another's channels.
func TestTLS13Network(t *testing.T) {
	n := found(t)
	n.change = func(c *node.Config) { c.Channel = "tls13" }
	n.start(t, n.all()...)
	n.ready(t)
	c := n.consent(t, form(demo.Wife(), "ZJ-TLS-1", 5))
	a := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-TLS-1", c.ID))
	if a.Outcome != exchange.Allowed {
		t.Fatalf("%s for %v", a.Outcome, a.Reasons)
	}
	n.proves(t, a)
	n.rotate(t, demo.Minzheng)
	n.renew(t, demo.Minzheng, false)
	if a := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-TLS-1", c.ID)); a.Outcome != exchange.Allowed {
		t.Errorf("after the renewal: %s for %v", a.Outcome, a.Reasons)
	}
	n.banish(t, demo.Weijian)
	eventually(t, "the others cut the channels of a department whose certificate was withdrawn", func() bool {
		return bytes.Contains(n.logs.bytes(), []byte("channel cut"))
	})
	n.logs.forget(func(line []byte) bool { return bytes.Contains(line, []byte(`"department":"weijian"`)) }) // it is alone now
}

// banish has the sharing authority, which runs no node, withdraw a department's
// certificates: a frame of its own, which any node takes to the leader.
func (n *network) banish(t *testing.T, dept exchange.Dept) {
	t.Helper()
	authority := n.authority(t)
	id, err := ledger.NewID()
	if err != nil {
		t.Fatal(err)
	}
	entry, err := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: id, Author: exchange.Authority, Origin: time.Now().UnixMilli(),
		Fact: &ledger.FactChange{Type: ledger.FactCert, Key: string(dept), Action: ledger.Withdraw}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	first := authority.first
	frame, err := authority.frame(2, ledger.FrameHash(gm.Emmansun(), first.Body, first.Sig), [][]byte{entry})
	if err != nil {
		t.Fatal(err)
	}
	n.carry(t, frame)
}

// TestMixedChannels: a node set to another protocol than the rest takes part in
// nothing, its log and theirs say why, and the others go on.
func TestMixedChannels(t *testing.T) {
	n := found(t)
	n.change = func(c *node.Config) {
		if c.Department == demo.Weijian {
			c.Channel = "tls13"
		}
	}
	n.start(t, demo.Gongan, demo.Minzheng, demo.Zhujian, demo.Weijian)
	says := func(odd bool, what string) func() bool {
		return func() bool {
			for line := range bytes.Lines(n.logs.bytes()) {
				if bytes.Contains(line, []byte(`"department":"weijian"`)) == odd && bytes.Contains(line, []byte(what)) {
					return true
				}
			}
			return false
		}
	}
	const theirs, its = "the peer speaks TLS and this node GM TLS", "the peer speaks GM TLS and this node TLS 1.3"
	ctx, cancel := context.WithTimeout(t.Context(), readyWithin)
	defer cancel()
	for _, dept := range []exchange.Dept{demo.Gongan, demo.Minzheng, demo.Zhujian} {
		if err := n.nodes[dept].WaitReady(ctx); err != nil {
			t.Fatalf("%s does not become ready: %v", dept, err)
		}
	}
	eventually(t, "the odd node's log says why", says(true, its))
	eventually(t, "the others' logs say why", says(false, theirs))
	if n.nodes[demo.Weijian].Ready() {
		t.Error("a node without a channel is ready")
	}
	c := n.consent(t, form(demo.Wife(), "ZJ-MIXED-1", 5))
	if a := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-MIXED-1", c.ID)); a.Outcome != exchange.Allowed {
		t.Errorf("%s for %v", a.Outcome, a.Reasons)
	}
}
