package node_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
	"xinqiao/exchange/demo"
	"xinqiao/ledger/verify"
)

// TestLife takes one network through what changes it as a whole: its first
// start, time, a stop of everything, and new rules.
func TestLife(t *testing.T) {
	n := found(t)
	n.start(t, demo.Gongan)
	n.healthAlone(t)
	n.start(t, demo.Minzheng, demo.Zhujian, demo.Renshe, demo.Shuiwu, demo.Weijian)
	n.ready(t)
	for _, dept := range n.all() {
		if status, body := n.call(t, dept, "GET", "/readyz", "", nil); status != http.StatusOK || bytes.Contains(body, []byte(`"ok":false`)) {
			t.Errorf("%s: status %d %s", dept, status, body)
		}
	}
	answer := n.exchangeAll(t)
	n.timePasses(t)
	n.aWeekendPasses(t)
	n.nothingInTheClear(t)
	n.restart(t, answer)
	n.newRules(t, answer)
}

type condition struct {
	Name string
	OK   bool
	Why  string
}

// healthAlone: one of three voters lives and is not ready, and says why.
func (n *network) healthAlone(t *testing.T) {
	t.Helper()
	if status, body := n.call(t, demo.Gongan, "GET", "/livez", "", nil); status != http.StatusOK {
		t.Errorf("livez: %d %s", status, body)
	}
	status, body := n.call(t, demo.Gongan, "GET", "/readyz", "", nil)
	var conditions []condition
	if err := json.Unmarshal(body, &conditions); err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, c := range conditions {
		if c.OK != (c.Why == "") {
			t.Errorf("%s: ok=%t because %q", c.Name, c.OK, c.Why)
		}
		if !c.OK {
			missing[c.Name] = true
		}
	}
	if status != http.StatusServiceUnavailable || !missing["leader"] || !missing["facts"] || missing["store"] {
		t.Errorf("readyz: %d %s", status, body)
	}
	if status, _ := n.call(t, demo.Gongan, "GET", "/api/v1/ledger/checkpoint", "", nil); status != http.StatusNotFound {
		t.Errorf("a checkpoint of nothing: %d", status)
	}
}

// exchangeAll conducts one exchange of each outcome and returns the allowed one.
func (n *network) exchangeAll(t *testing.T) exchange.Answer {
	t.Helper()
	c := n.consent(t, form(demo.Wife(), "ZJ-CANARY-1", 9))
	answer := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-CANARY-1", c.ID))
	none := n.consent(t, form(demo.Unmarried(), "ZJ-CANARY-2", 2))
	for want, q := range map[exchange.Outcome]exchange.Question{exchange.NoRecord: question(demo.Unmarried(), "ZJ-CANARY-2", none.ID),
		exchange.Refused: question(demo.Husband(), "ZJ-CANARY-3", "")} {
		if a := n.ask(t, demo.Zhujian, q); a.Outcome != want {
			t.Errorf("outcome %s, want %s", a.Outcome, want)
		}
	}
	if answer.Outcome != exchange.Allowed {
		t.Fatalf("outcome %s for %v", answer.Outcome, answer.Reasons)
	}
	rows, _, err := n.sdk[demo.Minzheng].Search(t.Context(), exchange.LedgerQuery{Subject: demo.Wife().ID})
	if err != nil || len(rows) == 0 {
		t.Errorf("search by subject: %d rows, %v", len(rows), err)
	}
	eventually(t, "others can see that 民政 has looked for a person", func() bool {
		return len(n.rows(t, demo.Gongan, func(r exchange.LedgerRow) bool { return r.Kind == "view" && r.Author == demo.Minzheng })) > 0
	})
	return answer
}

// timePasses moves every node's clock: a consent ends at its time.
func (n *network) timePasses(t *testing.T) {
	t.Helper()
	f := form(demo.Elder(), "ZJ-CANARY-4", 5)
	f.NotAfter = time.Now().Add(4 * time.Minute)
	c := n.consent(t, f)
	before := n.ask(t, demo.Zhujian, question(demo.Elder(), "ZJ-CANARY-4", c.ID))
	if before.Outcome != exchange.Allowed {
		t.Fatalf("before its end: %s for %v", before.Outcome, before.Reasons)
	}
	// A holder stops releasing when a release waits long for its checkpoint, and by
	// its clock this one is about to.
	eventually(t, "the answer's entry is cosigned", func() bool {
		row, err := n.sdk[demo.Minzheng].Row(t.Context(), before.Receipt.Index)
		return err == nil && row.Cosigned
	})
	n.skew.Add(int64(5 * time.Minute))
	after := n.ask(t, demo.Zhujian, question(demo.Elder(), "ZJ-CANARY-4", c.ID))
	if after.Outcome != exchange.Refused || !has(after.Reasons, exchange.DenyAuthExpired) {
		t.Errorf("after its end: %s for %v", after.Outcome, after.Reasons)
	}
	if a, err := n.sdk[demo.Zhujian].Answer(t.Context(), before.ID); !exchange.Is(err, exchange.Denied) || len(a.Fields) > 0 {
		t.Errorf("the earlier answer, after its end: %s, %v", a.Outcome, err)
	}
	if info, err := n.sdk[demo.Minzheng].Authority(t.Context(), c.ID); err != nil || info.State != "expired" {
		t.Errorf("the consent is %s, %v", info.State, err)
	}
}

// aWeekendPasses without anybody asking: the ledger's clock is far behind the
// nodes', and the first question finds a quorum that brings it forward.
func (n *network) aWeekendPasses(t *testing.T) {
	t.Helper()
	n.skew.Add(int64(60 * time.Hour))
	if after := n.ask(t, demo.Zhujian, question(demo.Elder(), "ZJ-CANARY-5", "")); after.Outcome != exchange.Refused {
		t.Errorf("after the weekend: %s", after.Outcome)
	}
	for _, dept := range n.all() {
		eventually(t, "a quorum's word about the time is on every replica", func() bool {
			return len(n.rows(t, dept, func(r exchange.LedgerRow) bool {
				return r.Kind == "clock" && r.Result == "committed" && time.Until(r.Time) > 59*time.Hour
			})) > 0
		})
	}
}

// nothingInTheClear stops everything, so that all is on disk, and looks for what
// the exchanges were about in every file that the nodes have written and in
// every line that they have logged.
func (n *network) nothingInTheClear(t *testing.T) {
	t.Helper()
	n.stop(t, n.all()...)
	canaries := map[string]bool{"ZJ-CANARY": true, string(handler): true, string(reviewer): true, demo.WifeName: true, demo.UnmarriedName: true}
	for _, s := range []exchange.Subject{demo.Wife(), demo.Husband(), demo.Elder(), demo.Unmarried()} {
		canaries[s.ID] = true
	}
	for _, s := range []exchange.Subject{demo.Wife(), demo.Elder()} {
		for _, f := range recordOf(t, demo.Minzheng, demo.MarriageRecord, s).Fields {
			if len(f.Value) >= 6 { // shorter ones occur by chance
				canaries[f.Value] = true
			}
		}
	}
	look := func(where string, content []byte) {
		for c := range canaries {
			for how, spelling := range spellings(c) {
				if bytes.Contains(content, spelling) {
					t.Errorf("%s holds a canary of %d bytes, %s", where, len(c), how)
				}
			}
		}
	}
	look("the log", n.logs.bytes())
	files, size := 0, 0
	for _, dept := range n.all() {
		for _, dir := range []string{"data", "vault"} {
			root := filepath.Join(n.dir(dept), dir)
			err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				b, err := os.ReadFile(path)
				files, size = files+1, size+len(b)
				look(string(dept)+" "+strings.TrimPrefix(path, root), b)
				look("the name "+path, []byte(d.Name()))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if files < 6*4 || size < 6<<15 {
		t.Errorf("only %d files with %d bytes were looked at", files, size)
	}
	// The search itself must be able to find something.
	if config, err := os.ReadFile(n.Site(demo.Minzheng).Config); err != nil || !bytes.Contains(config, []byte(handler)) {
		t.Errorf("the operator does not stand in the configuration: %v", err)
	}
}

// spellings are the forms in which text could hide from a plain search.
func spellings(s string) map[string][]byte {
	forms := map[string][]byte{"as it is": []byte(s), "in hexadecimal": []byte(hex.EncodeToString([]byte(s))),
		"in hexadecimal capitals": []byte(strings.ToUpper(hex.EncodeToString([]byte(s))))}
	for shift := range 3 {
		b := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + s))
		forms["in base64, shift "+string(rune('0'+shift))] = []byte(b[(shift*8+5)/6 : len(b)-1])
	}
	return forms
}

// restart brings everything up from disk: the same ledger, goes on, and says
// nothing twice.
func (n *network) restart(t *testing.T, answer exchange.Answer) {
	t.Helper()
	for _, dept := range n.all() {
		n.free(t, dept)
	}
	n.start(t, n.all()...)
	n.ready(t)
	for _, dept := range n.all() {
		row, err := n.sdk[dept].Row(t.Context(), answer.Receipt.Index)
		if err != nil || row.Leaf != answer.Receipt.LeafHash {
			t.Errorf("%s has another entry %d after the restart: %v", dept, answer.Receipt.Index, err)
		}
		facts := n.ownFacts(t, dept)
		want := map[string]int{"rules": 1, "restrictions": 1, "catalogue": 1, "roster": 1, "status": 1}
		if diff := cmp.Diff(want, facts); diff != "" {
			t.Errorf("%s has published (-want +got):\n%s", dept, diff)
		}
	}
	again, err := n.sdk[demo.Zhujian].Answer(t.Context(), answer.ID)
	if err != nil || cmp.Diff(answer, again) != "" {
		t.Errorf("the answer after the restart: %v %s", err, cmp.Diff(answer, again))
	}
	n.proves(t, answer)
	if row, err := n.sdk[demo.Minzheng].Row(t.Context(), answer.Receipt.Index); err != nil || !row.Open || row.Case != "ZJ-CANARY-1" {
		t.Errorf("after the restart a party cannot read its own entry: open=%t, %v", row.Open, err)
	}
}

// proves has the evidence of an answer checked without any node.
func (n *network) proves(t *testing.T, answer exchange.Answer) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(n.Dir, "trust.json"))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := verify.ParseTrust(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, dept := range []exchange.Dept{demo.Zhujian, demo.Weijian} { // a party, and one that reads no body
		file, err := n.sdk[dept].Evidence(t.Context(), answer.Receipt.Index)
		if err != nil {
			t.Fatalf("evidence from %s: %v", dept, err)
		}
		if _, err := verify.Run(file, trust); err != nil {
			t.Errorf("evidence from %s: %v", dept, err)
		}
	}
}

// ownFacts counts the facts that a department has put on the ledger about
// itself, by kind.
func (n *network) ownFacts(t *testing.T, dept exchange.Dept) map[string]int {
	t.Helper()
	count := map[string]int{}
	for _, r := range n.rows(t, dept, func(r exchange.LedgerRow) bool { return r.Author == dept && r.Requester == "" }) {
		if !slices.Contains([]string{"view", "ack", "clock"}, r.Kind) {
			count[r.Kind]++
		}
	}
	return count
}

// free checks that nothing listens where the department's node did.
func (n *network) free(t *testing.T, dept exchange.Dept) {
	t.Helper()
	cfg := n.config(t, dept)
	for _, addr := range []string{cfg.Listen.Raft, cfg.Listen.Peer, cfg.Listen.Web} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("%s: after Stop: %v", dept, err)
			continue
		}
		_ = l.Close()
	}
}

// newRules: what an owner takes out of a rule is out from its node's next start,
// for new questions and for answers that were given before.
func (n *network) newRules(t *testing.T, answer exchange.Answer) {
	t.Helper()
	n.stop(t, demo.Minzheng)
	n.free(t, demo.Minzheng)
	path := filepath.Join(n.dir(demo.Minzheng), "rules")
	names, err := filepath.Glob(filepath.Join(path, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// The couple's status may still be known; with whom, no longer.
		now := strings.Replace(string(b), "  spouse_name: value\n", "  spouse_name: never\n", 1)
		now = strings.Replace(now, "  - allow: {views: {marital_status: value, spouse_name: value}}\n", "", 1)
		if now != string(b) {
			changed++
		}
		if err := os.WriteFile(name, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if changed != 1 {
		t.Fatalf("%d rules changed: the demo's rule has another text", changed)
	}
	n.start(t, demo.Minzheng)
	n.ready(t)
	if got := n.ownFacts(t, demo.Minzheng)["rules"]; got != 2 {
		t.Errorf("%d versions of the rules are on the ledger, want 2", got)
	}
	c := n.consent(t, form(demo.Wife(), "ZJ-CANARY-5", 2))
	if a := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-CANARY-5", c.ID)); a.Outcome != exchange.Refused || !has(a.Reasons, exchange.DenyField) {
		t.Errorf("under the new rule: %s for %v", a.Outcome, a.Reasons)
	}
	eventually(t, "the requester's node has the new rules", func() bool {
		a, err := n.sdk[demo.Zhujian].Answer(t.Context(), answer.ID)
		return exchange.Is(err, exchange.Denied) && len(a.Fields) == 0
	})
}
