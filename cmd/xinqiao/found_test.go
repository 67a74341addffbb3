package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/exchange"
	"xinqiao/exchange/demo"
	"xinqiao/exchange/node"
)

// TestFoundByHand founds a ledger of three departments with nothing but the
// commands and the shipped example of a charter, as its people would, and waits
// until every node is ready. The root certifies the authority and an issuing CA,
// which certifies the departments: one by its signing requests. Then a department
// rotates its keys while its node runs, and another is revoked and not let in again.
func TestFoundByHand(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin(t, "xinqiao"), args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "XINQIAO_PASSPHRASE=a passphrase for this test")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("xinqiao %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	depts := []exchange.Dept{demo.Minzheng, demo.Zhujian, demo.Gongan}
	run("pki", "init", "--dir", "ca", "--name", "Test root")
	run("pki", "init", "--under", "ca", "--dir", "issuing", "--name", "Test issuing CA")
	run("pki", "revoke", "--ca", "issuing", "--refresh")
	run("pki", "issue", "--ca", "ca", "--dept", "authority", "--keyring", "authority/keys.xq", "--out", "authority")
	charter, err := os.ReadFile("../../deploy/config/charter.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(charter)
	for i, dept := range depts {
		name := string(dept)
		if dept == demo.Minzheng {
			run("pki", "csr", "--dept", name, "--keyring", name+"/keys.xq", "--out", name, "--host", "127.0.0.1")
			run("pki", "issue", "--ca", "issuing", "--dept", name, "--csr", name+"/sign.csr", "--csr", name+"/enc.csr", "--out", name, "--host", "127.0.0.1")
		} else {
			run("pki", "issue", "--ca", "issuing", "--dept", name, "--keyring", name+"/keys.xq", "--out", name, "--host", "127.0.0.1")
		}
		run("pki", "issue", "--web", "--ca", "ca", "--host", "127.0.0.1", "--out", name)
		raft, peer, web := free(t), free(t), free(t)
		text = strings.ReplaceAll(text, fmt.Sprintf("127.0.0.1:174%d3", 4+i), raft)
		text = strings.ReplaceAll(text, fmt.Sprintf("127.0.0.1:174%d4", 4+i), peer)
		department(t, filepath.Join(dir, name), dept, raft, peer, web)
	}
	writeFile(t, filepath.Join(dir, "charter.yaml"), text)
	baseline, err := os.ReadFile("../../exchange/demo/rules/baseline.yaml")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "baseline.yaml"), string(baseline))
	run("genesis", "--charter", "charter.yaml", "--keyring", "authority/keys.xq", "--out", ".")

	ca, err := os.ReadFile(filepath.Join(dir, "ca", "web-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatal("the web CA does not parse")
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(client.CloseIdleConnections)
	processes := map[exchange.Dept]*exec.Cmd{}
	for _, dept := range depts {
		processes[dept] = serveProcess(t, filepath.Join(dir, string(dept)))
	}
	for _, dept := range depts {
		web, err := os.ReadFile(filepath.Join(dir, string(dept), "web.addr"))
		if err != nil {
			t.Fatal(err)
		}
		untilReady(t, client, "https://"+string(web)+"/readyz", filepath.Join(dir, string(dept), "node.log"))
	}

	run("keyring", "rotate", "--keyring", "zhujian/keys.xq", "--sign", "--enc", "--tag")
	run("pki", "csr", "--dept", "zhujian", "--keyring", "zhujian/keys.xq", "--out", "zhujian", "--host", "127.0.0.1")
	run("pki", "renew", "--ca", "issuing", "--dept", "zhujian", "--csr", "zhujian/sign.csr", "--csr", "zhujian/enc.csr", "--out", "zhujian", "--early")
	for i, want := range []bool{true, false} {
		var done node.Renewed
		out := run("renew", "--config", "zhujian/node.yaml", "-o", "json")
		if err := json.Unmarshal([]byte(out), &done); err != nil || done.Changed != want {
			t.Errorf("renewal %d: %v %s", i, err, out)
		}
	}
	run("trust", "add", "--trust", "trust.json", "zhujian/sign.pem")
	_ = processes[demo.Zhujian].Process.Kill()
	_ = processes[demo.Zhujian].Wait()
	serveProcess(t, filepath.Join(dir, "zhujian"))
	web, err := os.ReadFile(filepath.Join(dir, "zhujian", "web.addr"))
	if err != nil {
		t.Fatal(err)
	}
	untilReady(t, client, "https://"+string(web)+"/readyz", filepath.Join(dir, "zhujian", "node.log"))

	chain, err := readCertificate(filepath.Join(dir, "gongan", pkiSign))
	if err != nil {
		t.Fatal(err)
	}
	id, err := cert.Inspect(chain)
	if err != nil {
		t.Fatal(err)
	}
	run("pki", "revoke", "--ca", "issuing", "--serial", id.Serial, "--reason", "keyCompromise")
	_ = processes[demo.Gongan].Process.Kill()
	_ = processes[demo.Gongan].Wait()
	serveProcess(t, filepath.Join(dir, "gongan"))
	untilLogged(t, filepath.Join(dir, "minzheng", "node.log"), node.ErrRevoked.Error())
}

func untilLogged(t *testing.T, log, text string) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q is not logged:\n%s", text, b)
		}
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// department writes what a department's own people provide.
func department(t *testing.T, dir string, dept exchange.Dept, raft, peer, web string) {
	t.Helper()
	catalogue, err := json.Marshal(demo.Catalogue(dept))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "catalogue.json"), string(catalogue))
	rules, err := filepath.Glob("../../exchange/demo/rules/" + string(dept) + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		b, err := os.ReadFile(r)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "rules", filepath.Base(r)), string(b))
	}
	writeFile(t, filepath.Join(dir, "web.addr"), web)
	writeFile(t, filepath.Join(dir, "node.yaml"), fmt.Sprintf(`department: %s
population: synthetic
genesis: ../genesis.json
data: data
keyring: keys.xq
sign_cert: sign.pem
enc_cert: enc.pem
crl: ../issuing/crl.pem
listen: {raft: %q, peer: %q, web: %q}
web: {cert: web.pem, key: web.key}
rules: rules
catalogue: catalogue.json
vault: vault
operators: [{id: op-1, role: case_handler}]
officers: [auditor]
`, dept, raft, peer, web))
}

func serveProcess(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "node.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin(t, "xinqiao"), "serve", "--config", filepath.Join(dir, "node.yaml"))
	cmd.Env = append(os.Environ(), "XINQIAO_PASSPHRASE=a passphrase for this test")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
	})
	return cmd
}

func untilReady(t *testing.T, c *http.Client, url, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		resp, err := c.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			b, _ := os.ReadFile(log)
			t.Fatalf("%s: %v\n%s", url, err, b)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
