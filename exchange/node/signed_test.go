package node_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/httpsig"
	"xinqiao/exchange"
	"xinqiao/exchange/client"
	"xinqiao/exchange/demo"
)

// giveKeys lets the demo's system at Zhujian sign, and adds one that must.
func giveKeys(t *testing.T, n *network) {
	t.Helper()
	dir := n.dir(demo.Zhujian)
	for _, name := range []string{"counter", "archive"} {
		key, err := gm.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string][]byte{name + ".key": gm.MarshalPrivatePEM(key), name + ".pem": gm.MarshalPublicPEM(key.Public())} {
			if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	path := n.Site(demo.Zhujian).Config
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg := n.config(t, demo.Zhujian)
	more := "systems:\n- name: archive\n  key: archive.pem\n  signed: true\n  scopes: [exchange]\n  expires: " + cfg.Systems[0].Expires + "\n"
	changed := strings.Replace(string(text), "systems:\n", more, 1)
	changed = strings.Replace(changed, "name: counter\n", "name: counter\n  key: counter.pem\n", 1)
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if cfg = n.config(t, demo.Zhujian); len(cfg.Systems) != 2 || cfg.Systems[1].Key != filepath.Join(dir, "counter.pem") || !cfg.Systems[0].Signed {
		t.Fatalf("the systems read as %+v\n%s", cfg.Systems, changed)
	}
}

// signedRequests asks with the Go client, which signs: the same system, key and
// question give the same answer, whether signed or with the token.
func signedRequests(t *testing.T, n *network) {
	file, err := os.ReadFile(filepath.Join(n.dir(demo.Zhujian), "counter.key"))
	if err != nil {
		t.Fatal(err)
	}
	private, err := gm.ParsePrivatePEM(file)
	if err != nil {
		t.Fatal(err)
	}
	key := httpsig.NewKey(gm.Emmansun(), private)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(n.WebCA) {
		t.Fatal("the web CA does not parse")
	}
	url := n.Site(demo.Zhujian).URL
	sdk := client.NewSigned(url, pool, "counter", key)
	c := n.consent(t, form(demo.Wife(), "ZJ-SIGNED", 5))
	q, idempotency := question(demo.Wife(), "ZJ-SIGNED", c.ID), client.NewKey()
	first, err := sdk.Ask(t.Context(), idempotency, q)
	if err != nil || first.Outcome != exchange.Allowed {
		t.Fatal(first.Outcome, err)
	}
	again, err := sdk.Ask(t.Context(), idempotency, q)
	if err != nil || again.ID != first.ID || again.Receipt != first.Receipt {
		t.Errorf("asked again: %v, %v; the first is %v", again, err, first)
	}
	if status, body := n.call(t, demo.Zhujian, "POST", "/api/v1/exchanges", idempotency, inJSON(t, q)); status != 200 || !bytes.Contains(body, []byte(first.ID)) {
		t.Errorf("asked again with the token: %d %s", status, body)
	}
	if got := n.accesses(t, demo.Minzheng, "ZJ-SIGNED"); len(got) != 1 {
		t.Errorf("%d entries, want 1", len(got))
	}
	stranger := client.NewSigned(url, pool, "archive", key) // another system's name
	if _, err := stranger.Ask(t.Context(), client.NewKey(), q); exchange.AsError(err).Code != exchange.CodeSignature {
		t.Errorf("under another system's name: %v", err)
	}
	other := client.NewSigned(n.Site(demo.Gongan).URL, pool, "counter", key) // a node that does not know the key
	if _, err := other.Ask(t.Context(), client.NewKey(), q); exchange.AsError(err).Code != exchange.CodeCredentials {
		t.Errorf("at another node: %v", err)
	}
}

// curlAndOpenSSL runs the script that an integrator starts from, as a system that
// must sign.
func curlAndOpenSSL(t *testing.T, n *network) {
	for _, tool := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("curl is not installed, or else bash or openssl")
		}
	}
	script, err := filepath.Abs(filepath.Join("..", "..", "deploy", "examples", "ask.sh"))
	if err != nil {
		t.Fatal(err)
	}
	ca, elsewhere := filepath.Join(t.TempDir(), "ca.pem"), t.TempDir()
	if err := os.WriteFile(ca, n.WebCA, 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(n.dir(demo.Zhujian), name) }
	run := func(body []byte, args ...string) (answer []byte, says string, exit int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "bash", append([]string{script}, args...)...)
		var out, errs bytes.Buffer
		cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = elsewhere, bytes.NewReader(body), &out, &errs
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		return out.Bytes(), errs.String(), cmd.ProcessState.ExitCode()
	}
	with := func(key string) []string {
		return []string{"--node", n.Site(demo.Zhujian).URL + "/", "--system", "archive", "--key", in(key), "--ca", ca, "--lang", "en",
			"--idempotency-key", "script-" + client.NewKey()}
	}
	c := n.consent(t, form(demo.Wife(), "ZJ-SCRIPT", 5))
	good := inJSON(t, question(demo.Wife(), "ZJ-SCRIPT", c.ID))
	file := filepath.Join(elsewhere, "question of a case.json")
	if err := os.WriteFile(file, append(good, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	var got [2]struct{ ID, Outcome string }
	same := with("archive.key")
	for i, q := range []string{filepath.Base(file), file} { // twice with one key
		answer, says, exit := run(nil, append(same, q)...)
		if err := json.Unmarshal(answer, &got[i]); err != nil || exit != 0 || got[i].Outcome != "allowed" || !bytes.Contains(answer, []byte(demo.HusbandName)) {
			t.Fatalf("exit %d, %v: %s\n%s", exit, err, answer, says)
		}
	}
	if got[0] != got[1] || len(n.accesses(t, demo.Minzheng, "ZJ-SCRIPT")) != 1 {
		t.Errorf("one idempotency key gives %v and %d entries", got, len(n.accesses(t, demo.Minzheng, "ZJ-SCRIPT")))
	}
	for name, c := range map[string]struct {
		body []byte
		args []string
		exit int
		says string // in the answer
	}{
		"denied":             {inJSON(t, question(demo.Wife(), "ZJ-SCRIPT-2", "")), append(with("archive.key"), "-"), 4, string(exchange.DenyNoAuthority)},
		"another's key":      {good, append(with("counter.key"), "-"), 1, string(exchange.CodeSignature)},
		"not JSON":           {[]byte("what?"), append(with("archive.key"), "-"), 1, string(exchange.CodeJSON)},
		"a key of the web":   {good, append(with("web.key"), "-"), 1, ""},
		"no question":        {nil, with("archive.key"), 2, ""},
		"unknown option":     {good, append(with("archive.key"), "--insecure", "-"), 2, ""},
		"http":               {good, append(with("archive.key"), "--node", "http://127.0.0.1:1", "-"), 2, ""},
		"a line break":       {good, append(with("archive.key"), "--idempotency-key", "12345678\nX: y", "-"), 2, ""},
		"roots of others":    {good, append(with("archive.key"), "--ca", in("sign.pem"), "-"), 1, ""},
		"how it is used":     {nil, []string{"--help"}, 0, "usage: ask.sh"},
		"a file that is not": {nil, append(with("archive.key"), filepath.Join(elsewhere, "none.json")), 1, ""},
	} {
		answer, says, exit := run(c.body, c.args...)
		if exit != c.exit || !strings.Contains(string(answer), c.says) || c.says == "" && len(answer) > 0 {
			t.Errorf("%s: exit %d, want %d\n%s\n%s", name, exit, c.exit, answer, says)
		}
	}
}
