package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"xinqiao/exchange"
	"xinqiao/exchange/demo"
	"xinqiao/exchange/node"
)

// standing takes the ledger's standing from a node into the file that the
// authority is given.
func (h *handmade) standing() node.Standing {
	h.t.Helper()
	out := h.run("member", "list", "--config", "minzheng/node.yaml", "-o", "json")
	if err := os.WriteFile(filepath.Join(h.dir, "standing.json"), []byte(out), 0o600); err != nil {
		h.t.Fatal(err)
	}
	s, err := node.ReadStanding([]byte(out))
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// sign has the authority sign an order on the standing that it was given last.
func (h *handmade) sign(verb string, dept exchange.Dept, args ...string) error {
	h.t.Helper()
	_, err := h.try(append([]string{"member", verb, string(dept), "--standing", "standing.json", "--keyring", "authority/keys.xq", "--out", "order.xq"}, args...)...)
	return err
}

// order signs on the newest standing and submits.
func (h *handmade) order(verb string, dept exchange.Dept, args ...string) {
	h.t.Helper()
	h.standing()
	if err := h.sign(verb, dept, args...); err != nil {
		h.t.Fatal(err)
	}
	h.run("member", "submit", "--config", "minzheng/node.yaml", "order.xq")
}

func (h *handmade) untilVote(dept exchange.Dept, want node.Vote) {
	h.t.Helper()
	var got node.Vote
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if got = h.standing().Member(dept).Vote; got == want {
			return
		}
	}
	h.t.Fatalf("%s %s, want %s", dept, got, want)
}

// TestMembersByHand has a fourth department join a running ledger, gives it a vote,
// and takes a dead voter's; then the dead one leaves for good.
func TestMembersByHand(t *testing.T) {
	h := foundByHand(t)
	raft, peer := h.certify(demo.Renshe)
	h.standing()
	if h.sign("set", demo.Renshe, "--vote") == nil {
		t.Error("a stranger is signed without a name and certificates")
	}
	if h.sign("set", demo.Gongan, "--vote=false") == nil || h.sign("withdraw", demo.Gongan) == nil {
		t.Error("an order that leaves two voters is signed")
	}
	if h.sign("set", demo.Renshe, "--sign-cert", "gongan/sign.pem", "--enc-cert", "gongan/enc.pem") == nil {
		t.Error("another department's certificates are signed")
	}
	h.order("set", demo.Renshe, "--name", "人社局", "--name-en", "Human Resources", "--uscc", "11330100MB1234567X", "--raft", raft, "--peer", peer,
		"--sign-cert", "renshe/sign.pem", "--enc-cert", "renshe/enc.pem")
	h.run("member", "submit", "--config", "zhujian/node.yaml", "order.xq") // again, elsewhere: it is found
	h.serve(demo.Renshe)
	h.ready(demo.Renshe)
	h.untilVote(demo.Renshe, node.Replicates)

	before := h.standing()
	h.order("set", demo.Renshe, "--vote")
	h.untilVote(demo.Renshe, node.Votes)
	h.kill(demo.Gongan)
	h.order("set", demo.Gongan, "--vote=false")
	h.untilVote(demo.Gongan, node.Replicates)
	h.order("withdraw", demo.Gongan)
	h.untilVote(demo.Gongan, node.Absent)

	now := h.standing()
	if m := now.Member(demo.Gongan); m.Active {
		t.Errorf("gongan is still a member: %+v", m)
	}
	if now.Seq != before.Seq+3 {
		t.Errorf("the authority has written %d frames, want 3", now.Seq-before.Seq)
	}
	if err := os.WriteFile(filepath.Join(h.dir, "standing.json"), mustJSON(t, before), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.sign("withdraw", demo.Zhujian, "--certificates"); err != nil {
		t.Fatal(err)
	}
	if out, err := h.try("member", "submit", "--config", "minzheng/node.yaml", "order.xq"); err == nil {
		t.Errorf("an order on an old standing takes effect: %s", out)
	}
	if m := h.standing().Member(demo.Zhujian); !m.CertActive {
		t.Error("and did")
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
