package node_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/client"
	"xinqiao/exchange/demo"
	"xinqiao/exchange/node"
	"xinqiao/ledger/verify"
)

// openRing opens the keyring in a directory of the network, as the command
// `xinqiao keyring` does beside a running node.
func openRing(t *testing.T, dir string) *keyring.Keyring {
	t.Helper()
	passphrase, err := os.ReadFile(filepath.Join(dir, "passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.Open(filepath.Join(dir, "keys.xq"), passphrase, gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// rotate makes a department new keys of both kinds and has certificates issued
// for them, in the place of its old ones. It returns the new signing certificate.
func (n *network) rotate(t *testing.T, dept exchange.Dept) []byte {
	t.Helper()
	keys := openRing(t, n.dir(dept))
	sign, err := keys.AddSign(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	enc, err := keys.AddEnc(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := cert.OpenCA(readPEM(t, filepath.Join(n.Dir, "ca", "root.pem")), openRing(t, filepath.Join(n.Dir, "ca")).TLSSigner())
	if err != nil {
		t.Fatal(err)
	}
	var made []byte
	for name, r := range map[string]cert.Request{"enc.pem": {Usage: cert.Encryption, Key: enc}, "sign.pem": {Usage: cert.Signing, Key: sign}} {
		r.Dept, r.Hosts, r.Lifetime = string(dept), []string{"127.0.0.1"}, 24*time.Hour
		der, err := ca.Issue(r, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if r.Usage == cert.Signing {
			made = der
		}
		if err := os.WriteFile(filepath.Join(n.dir(dept), name), cert.EncodePEM(der), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return made
}

// renew has the running node take what rotate made.
func (n *network) renew(t *testing.T, dept exchange.Dept, forget bool) node.Renewed {
	t.Helper()
	got, err := n.nodes[dept].Renew(t.Context(), forget)
	if err != nil {
		t.Fatalf("%s: %v", dept, err)
	}
	return got
}

// load asks without a pause, from several callers, until stop is set. Every
// question must be answered.
func (n *network) load(t *testing.T, stop *atomic.Bool) (wait func() []exchange.Answer) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var answers []exchange.Answer
	for worker := range 3 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				number := exchange.Case(fmt.Sprintf("ZJ-LOAD-%d-%d", worker, i))
				info, err := n.sdk[demo.Zhujian].Register(t.Context(), client.NewKey(), form(demo.Wife(), number, 5))
				if err != nil {
					t.Errorf("register: %v", err)
					return
				}
				for range 3 {
					a, err := n.sdk[demo.Zhujian].Ask(t.Context(), client.NewKey(), question(demo.Wife(), number, info.ID))
					if err != nil || a.Outcome != exchange.Allowed || len(a.Fields) != 2 {
						t.Errorf("ask: %s for %v, %v", a.Outcome, a.Reasons, err)
						return
					}
					mu.Lock()
					answers = append(answers, a)
					mu.Unlock()
				}
			}
		})
	}
	return func() []exchange.Answer { wg.Wait(); return answers }
}

// trusts is the trust file with the members' new certificates.
func (n *network) trusts(t *testing.T, renewed ...[]byte) verify.Trust {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(n.Dir, "trust.json"))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := verify.ParseTrust(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range renewed {
		if trust, _, err = trust.Renewed(der, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return trust
}

// TestRotationUnderLoad gives the holder, the requester and the leader of Raft
// new signing and encryption keys while exchanges run. None fails; evidence of
// what was recorded before, between and after is proven; and everything comes up
// again from disk.
func TestRotationUnderLoad(t *testing.T) {
	n := grow(t)
	var stop atomic.Bool
	wait := n.load(t, &stop)
	var renewed [][]byte
	for _, dept := range []exchange.Dept{demo.Minzheng, demo.Zhujian, demo.Gongan, demo.Minzheng} {
		renewed = append(renewed, n.rotate(t, dept))
		if got := n.renew(t, dept, false); !got.Changed {
			t.Errorf("%s: nothing has changed", dept)
		}
	}
	if got := n.renew(t, demo.Minzheng, false); got.Changed {
		t.Error("a second call changes something")
	}
	stop.Store(true)
	answers := wait()
	if t.Failed() || len(answers) < 6 {
		t.Fatalf("%d answers", len(answers))
	}
	trust := n.trusts(t, renewed...)
	for _, a := range []exchange.Answer{answers[0], answers[len(answers)/2], answers[len(answers)-1]} {
		for _, dept := range []exchange.Dept{demo.Minzheng, demo.Weijian} {
			file, err := n.sdk[dept].Evidence(t.Context(), a.Receipt.Index)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := verify.Run(file, trust); err != nil {
				t.Errorf("evidence from %s: %v", dept, err)
			}
		}
		if again, err := n.sdk[demo.Zhujian].Answer(t.Context(), a.ID); err != nil || len(again.Fields) != 2 {
			t.Errorf("an answer from before, again: %v", err)
		}
	}
	n.stop(t, n.all()...)
	n.start(t, n.all()...)
	n.ready(t)
	for _, a := range []exchange.Answer{answers[0], answers[len(answers)-1]} {
		if row, err := n.sdk[demo.Minzheng].Row(t.Context(), a.Receipt.Index); err != nil || !row.Open || row.Case == "" {
			t.Errorf("a party cannot read its entry after the restart: %v", err)
		}
	}
	c := n.consent(t, form(demo.Wife(), "ZJ-AFTER-1", 5))
	if a := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-AFTER-1", c.ID)); a.Outcome != exchange.Allowed {
		t.Errorf("after the restart: %s for %v", a.Outcome, a.Reasons)
	}
}

// TestRotationOfALostKey: a department whose key was lost drops it. What rested
// on it is not handed out again, and its materials have to be issued anew.
func TestRotationOfALostKey(t *testing.T) {
	n := grow(t)
	c := n.consent(t, form(demo.Wife(), "ZJ-LOST-1", 5))
	before := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-LOST-1", c.ID))
	if before.Outcome != exchange.Allowed {
		t.Fatalf("%s for %v", before.Outcome, before.Reasons)
	}
	n.rotate(t, demo.Minzheng)
	n.renew(t, demo.Minzheng, true)
	eventually(t, "the requester's node does not hand the answer out again", func() bool {
		_, err := n.sdk[demo.Zhujian].Answer(t.Context(), before.ID)
		return exchange.Is(err, exchange.Denied)
	})
	a := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-LOST-1", c.ID))
	if a.Outcome != exchange.Refused || !has(a.Reasons, exchange.DenyMaterial) {
		t.Errorf("material under the lost key: %s for %v", a.Outcome, a.Reasons)
	}
	said := false
	n.logs.forget(func(line []byte) bool {
		said = said || bytes.Contains(line, []byte("issue it again"))
		return bytes.Contains(line, []byte("issue it again"))
	})
	if !said {
		t.Error("the log does not say what to do about the material")
	}
}

// TestRenewRefuses: what a node does not take. It goes on with what it has.
func TestRenewRefuses(t *testing.T) {
	n := grow(t)
	dir := n.dir(demo.Minzheng)
	in := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := map[string][]byte{"sign.pem": in("sign.pem"), "enc.pem": in("enc.pem")}
	for name, bad := range map[string]map[string][]byte{
		"damaged":                  {"sign.pem": []byte("x")},
		"missing":                  {"sign.pem": nil},
		"the wrong way round":      {"sign.pem": good["enc.pem"], "enc.pem": good["sign.pem"]},
		"another department's":     {"sign.pem": mustRead(t, filepath.Join(n.dir(demo.Zhujian), "sign.pem"))},
		"of a key not in the ring": {"enc.pem": n.strayCertificate(t)},
	} {
		t.Run(name, func(t *testing.T) {
			for file, content := range bad {
				path := filepath.Join(dir, file)
				if content == nil {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				} else if err := os.WriteFile(path, content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := n.nodes[demo.Minzheng].Renew(t.Context(), false); err == nil {
				t.Errorf("taken: %+v", got)
			}
			for file, content := range good {
				if err := os.WriteFile(filepath.Join(dir, file), content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	// An older pair, as from a backup, does not come back into force.
	n.rotate(t, demo.Minzheng)
	n.renew(t, demo.Minzheng, false)
	for file, content := range good {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.renew(t, demo.Minzheng, false); got.Changed {
		t.Error("the certificate from before is in force again")
	}
	c := n.consent(t, form(demo.Wife(), "ZJ-GOES-ON", 5))
	if a := n.ask(t, demo.Zhujian, question(demo.Wife(), "ZJ-GOES-ON", c.ID)); a.Outcome != exchange.Allowed {
		t.Errorf("afterwards: %s for %v", a.Outcome, a.Reasons)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// strayCertificate is an encryption certificate of 民政 for a key that it does
// not have.
func (n *network) strayCertificate(t *testing.T) []byte {
	t.Helper()
	keys, err := keyring.Generate(gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := cert.OpenCA(readPEM(t, filepath.Join(n.Dir, "ca", "root.pem")), openRing(t, filepath.Join(n.Dir, "ca")).TLSSigner())
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Issue(cert.Request{Dept: string(demo.Minzheng), Usage: cert.Encryption, Key: keys.EncPublic(), Lifetime: time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return cert.EncodePEM(der)
}

// TestRenewedWebCertificate replaces the certificate of HTTPS under a client that
// goes on asking: no request fails, and a new connection meets the new one.
func TestRenewedWebCertificate(t *testing.T) {
	n := found(t)
	n.start(t, demo.Gongan)
	dir := n.dir(demo.Gongan)
	serial := func() string {
		c, err := tls.Dial("tcp", n.config(t, demo.Gongan).Listen.Web, &tls.Config{RootCAs: n.http.Transport.(*http.Transport).TLSClientConfig.RootCAs})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	webCert, webKey, err := cert.IssueWeb(n.WebCA, mustRead(t, filepath.Join(n.Dir, "ca", "web-ca.key")), []string{"127.0.0.1"}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cfg := n.config(t, demo.Gongan)
	if err := errors.Join(os.WriteFile(cfg.Web.Cert, webCert, 0o644), os.WriteFile(cfg.Web.Key, webKey, 0o600)); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var load sync.WaitGroup
	load.Go(func() {
		for !stop.Load() {
			if status, _ := n.call(t, demo.Gongan, "GET", "/livez", "", nil); status != http.StatusOK {
				t.Errorf("livez: %d", status)
			}
		}
	})
	// Alone the node has no ledger yet and says so; HTTPS has its new certificate
	// all the same.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := n.nodes[demo.Gongan].Renew(ctx, false); !errors.Is(err, node.ErrNotInForce) {
		t.Errorf("without a ledger: %v", err)
	}
	after := serial()
	stop.Store(true)
	load.Wait()
	if after == before {
		t.Errorf("%s shows its old certificate", dir)
	}
}
