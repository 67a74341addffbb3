package node_test

import (
	"bytes"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/demo"
	"xinqiao/ledger"
)

// voting is the authority's entry that says whether dept votes from now on; the
// department's membership is that of the genesis.
func (a authority) voting(t *testing.T, dept exchange.Dept, voter bool) ledger.Entry {
	t.Helper()
	for i, raw := range a.first.Entries {
		e, err := ledger.DecodeEntry(raw)
		if err != nil {
			t.Fatal(err)
		}
		if e.Fact == nil || e.Fact.Type != ledger.FactMember || e.Fact.Key != string(dept) {
			continue
		}
		m, err := ledger.DecodeMember(e.Fact.Content)
		if err != nil {
			t.Fatal(err)
		}
		m.Voter = voter
		content, err := canon.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: newID(t), Author: exchange.Authority, Origin: time.Now().UnixMilli(),
			Fact: &ledger.FactChange{Type: ledger.FactMember, Key: string(dept), Action: ledger.Set, Content: content, Replaces: uint64(i) + 1}}
	}
	t.Fatalf("the genesis has no %s", dept)
	return ledger.Entry{}
}

// TestVoteMoves: the authority takes the vote of one department and gives another
// one. The nodes follow, checkpoints go on, and the exchange with them, also when
// the department without a vote is gone.
func TestVoteMoves(t *testing.T) {
	t.Parallel()
	n := grow(t)
	a := n.authority(t)
	var entries [][]byte
	for _, e := range []ledger.Entry{a.voting(t, demo.Gongan, false), a.voting(t, demo.Weijian, true)} {
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, b)
	}
	frame, err := a.frame(2, ledger.FrameHash(gm.Emmansun(), a.first.Body, a.first.Sig), entries)
	if err != nil {
		t.Fatal(err)
	}
	n.carry(t, frame)
	says := func(dept exchange.Dept, line string) bool {
		_, page := n.call(t, dept, "GET", "/metrics", "", nil)
		return bytes.Contains(page, []byte("\n"+line+"\n"))
	}
	for _, dept := range n.all() {
		eventually(t, "the votes are as signed for "+string(dept), func() bool {
			applied := n.rows(t, dept, func(r exchange.LedgerRow) bool {
				return r.Author == exchange.Authority && r.Index >= uint64(len(a.first.Entries))
			})
			return len(applied) == len(entries) && says(dept, `xinqiao_raft_peers{suffrage="voter"} 3`) &&
				says(dept, "xinqiao_raft_unsigned_voters 0") && says(dept, "xinqiao_raft_unpromoted_voters 0")
		})
	}
	n.stop(t, demo.Gongan)
	n.ready(t)
	c := n.consent(t, form(demo.Wife(), "ZJ-VOTES-1", 5))
	if a := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-VOTES-1", c.ID)); a.Outcome != exchange.Allowed {
		t.Errorf("%s for %v", a.Outcome, a.Reasons)
	}
	eventually(t, "a checkpoint over it", func() bool { return says(demo.Minzheng, "xinqiao_ledger_cosigned_lag_entries 0") })
}
