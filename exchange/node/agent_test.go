package node_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/client"
	"xinqiao/exchange/demo"
)

// hold serves a department's keyring from an agent until stop, and has its node
// use it.
func (n *network) hold(t *testing.T, dept exchange.Dept) (stop func()) {
	t.Helper()
	in := func(name string) string { return filepath.Join(n.dir(dept), name) }
	l, err := keyring.Listen(in("agent/s"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(n.Site(dept).Config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "keyring: keys.xq\npassphrase_file: passphrase\n", "keyring: unix:agent/s\n", 1)
	if err := os.WriteFile(n.Site(dept).Config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	agent := keyring.NewAgent(openRing(t, n.dir(dept)), slog.New(slog.DiscardHandler))
	go func() { done <- agent.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// addKeys adds keys to a department's file that no certificate names.
func (n *network) addKeys(t *testing.T, dept exchange.Dept) {
	t.Helper()
	k := openRing(t, n.dir(dept))
	_, errSign := k.AddSign(time.Now())
	_, errEnc := k.AddEnc(time.Now())
	if err := errors.Join(errSign, errEnc, k.AddLocal(time.Now()), k.AddTag("2999-01", time.Now())); err != nil {
		t.Fatal(err)
	}
}

// TestKeysInAnAgent runs holder and requester on agents whose files hold newer
// keys than the certificates name. While either agent is away its node says so and
// nothing is released; when it is back the same key is answered, with one entry.
func TestKeysInAnAgent(t *testing.T) {
	n := found(t)
	stops := map[exchange.Dept]func(){}
	for _, dept := range []exchange.Dept{demo.Minzheng, demo.Zhujian} {
		n.addKeys(t, dept)
		stops[dept] = n.hold(t, dept)
	}
	n.start(t, n.all()...)
	n.ready(t)
	c := n.consent(t, form(demo.Wife(), "ZJ-AGENT", 9))
	q := question(demo.Wife(), "ZJ-AGENT", c.ID)
	if a := n.ask(t, demo.Zhujian, q); a.Outcome != exchange.Allowed {
		t.Fatalf("outcome %s, want allowed", a.Outcome)
	}
	// A holder without its keys cannot open its vault, which is a source like others.
	code := map[exchange.Dept]exchange.Code{demo.Zhujian: exchange.CodeKeys, demo.Minzheng: exchange.CodeSource}
	for _, away := range []exchange.Dept{demo.Zhujian, demo.Minzheng} {
		before := len(n.accesses(t, demo.Minzheng, "ZJ-AGENT"))
		stops[away]()
		key := client.NewKey()
		_, err := n.sdk[demo.Zhujian].Once().Ask(t.Context(), key, q)
		if e := exchange.AsError(err); err == nil || e.Kind != exchange.Unavailable || e.Code != code[away] {
			t.Errorf("%s without its agent: %v, want %s", away, err, code[away])
		}
		if got := len(n.accesses(t, demo.Minzheng, "ZJ-AGENT")); got != before {
			t.Errorf("%s without its agent: %d accesses were recorded", away, got-before)
		}
		stops[away] = n.hold(t, away)
		var a exchange.Answer
		eventually(t, "an answer with the agent back", func() bool {
			a, err = n.sdk[demo.Zhujian].Ask(t.Context(), key, q)
			return err == nil
		})
		if a.Outcome != exchange.Allowed {
			t.Errorf("%s with its agent back: outcome %s, want allowed", away, a.Outcome)
		}
		if got := len(n.accesses(t, demo.Minzheng, "ZJ-AGENT")); got != before+1 {
			t.Errorf("%s with its agent back: %d accesses, want 1", away, got-before)
		}
	}
	// A rotation beside a running agent arrives with the node's next look.
	for _, dept := range []exchange.Dept{demo.Minzheng, demo.Zhujian} {
		n.rotate(t, dept)
		if got := n.renew(t, dept, false); !got.Changed {
			t.Errorf("%s does not take its new keys from its agent: %+v", dept, got)
		}
	}
	eventually(t, "an answer under the new keys", func() bool {
		a, err := n.sdk[demo.Zhujian].Ask(t.Context(), client.NewKey(), q)
		return err == nil && a.Outcome == exchange.Allowed
	})
}
