package chaos

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// The tests here make the mistakes that the checks are for. A check that does not
// find its mistake proves nothing, so not finding one fails the run. The third
// control, raft's stock transport, is TestStockTransportWritesInAForeignTerm in
// ledger/replica: only there can the library's fault be triggered at will.

// up founds and starts a cluster in which anybody may ask.
func up(t *testing.T, configure func(*cluster)) (*cluster, *work) {
	t.Helper()
	c := newCluster(t, home(t))
	configure(c)
	if err := c.startAll(); err != nil {
		t.Fatal(err)
	}
	w := newWork(c)
	if err := w.found(60 * time.Second); err != nil {
		t.Fatal(err)
	}
	return c, w
}

// disks is every node's directory as it was when everything was last synced.
type disks struct{ c *cluster }

func (d disks) copy(t *testing.T, from, to string) {
	t.Helper()
	for _, dept := range depts() {
		home := d.c.nodes[dept].dir
		for _, name := range []string{"raft", "ledger.db"} {
			if b, err := exec.Command("rm", "-rf", filepath.Join(home, name+to)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			if b, err := exec.Command("cp", "-a", filepath.Join(home, name+from), filepath.Join(home, name+to)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
		}
	}
}

func (d disks) signal(s syscall.Signal) {
	for _, dept := range depts() {
		dead := d.c.nodes[dept].signal(s)
		if s == syscall.SIGKILL {
			<-dead
		}
	}
}

// TestControlWithoutFsync has the power fail twice. The first time the disks keep
// what was synced, and nothing may be lost. The second time they have kept nothing
// since a moment: what was written later is gone, as it is where fsync does nothing.
func TestControlWithoutFsync(t *testing.T) {
	t.Parallel()
	c, w := up(t, func(*cluster) {})
	d := disks{c}
	d.signal(syscall.SIGSTOP)
	d.copy(t, "", ".synced")
	d.signal(syscall.SIGCONT)
	for _, synced := range []bool{true, false} {
		if err := w.goesOn(60 * time.Second); err != nil {
			t.Fatal(err)
		}
		d.signal(syscall.SIGKILL)
		if !synced {
			d.copy(t, ".synced", "")
		}
		if err := c.startAll(); err != nil {
			t.Fatal(err)
		}
		if err := w.goesOn(60 * time.Second); err != nil {
			t.Fatal(err)
		}
		f := newFindings()
		if _, err := settle(c, 60*time.Second); err != nil {
			t.Fatal(err)
		}
		judge(c, w, f)
		gone, left := f.count(lost), f.count(unrecorded)
		if synced && f.any() {
			t.Errorf("with fsync: %v", f.list)
		}
		if !synced && (gone == 0 || left == 0) {
			t.Errorf("the checks do not notice a lost disk: %v", f.list)
		}
		t.Logf("control: what was synced is kept %t: found %d lost, %d released without entry", synced, gone, left)
	}
}

// TestControlWithoutOwnNode has one holder release on the leader's word that its frame
// is committed, which says nothing about what became of the entry: it was withdrawn
// meanwhile. Beside it another waits for its own node's word; there nothing may leave.
func TestControlWithoutOwnNode(t *testing.T) {
	t.Parallel()
	const honest, hasty = exchange.Dept("gongan"), exchange.Dept("renshe")
	c, w := up(t, func(c *cluster) {
		c.configure(hasty, func(s *settings) { s.Unowned = true })
	})
	for _, holder := range []exchange.Dept{honest, hasty} {
		for range 3 {
			race(t, c, w, holder)
		}
		if _, err := settle(c, 60*time.Second); err != nil {
			t.Fatal(err)
		}
		f := newFindings()
		left := released(c, ledgers(c, f), f)
		found := f.count(unrecorded)
		if holder == honest && f.any() {
			t.Errorf("with the node's own word: %v", f.list)
		}
		if holder == hasty && found == 0 {
			t.Errorf("the checks do not notice a release on the leader's word: %d released", left)
		}
		t.Logf("control: released on the leader's word %t: found %d of %d released without entry", holder == hasty, found, left)
	}
}

// race withdraws a consent where the holder hears of it late, and has the holder
// answer by what it still sees.
func race(t *testing.T, c *cluster, w *work, holder exchange.Dept) {
	t.Helper()
	on, err := w.consentOf(holder, "zhujian", 40*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := w.read(holder, on)
	if !ok || s.Fact == nil {
		t.Fatal("the holder does not read its consent")
	}
	for _, d := range depts() {
		if d != holder {
			c.links["raft "+string(d)+" "+string(holder)].set(weather{Delay: 300 * time.Millisecond}, weather{})
		}
	}
	defer c.heal()
	end := fact("zhujian", w.next("withdrawal"), ledger.FactChange{Type: ledger.FactAuthority, Key: on.key, Action: ledger.Withdraw,
		Provider: holder, Grantee: "zhujian"})
	if err := w.insist(newOp("withdraw", on.key, end), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	entry := w.next("access")
	w.send(newOp("access", on.key, ledger.Entry{Suite: gm.Suite, Kind: ledger.KindAccess, ID: entry, Author: holder, Access: &ledger.Access{
		Holder: holder, Requester: "zhujian", Class: "civil", Outcome: exchange.Allowed, Basis: s.Basis, Request: gm.Digest{1},
		Response: gm.Emmansun().Sum([]byte("response"), entry[:]), Body: gm.Digest{3}, HolderTag: ledger.Tag{7},
		RequesterTag: ledger.Tag{8}, Size: 12, Epoch: "2026-11"}}), 3, true)
}
