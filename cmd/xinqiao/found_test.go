package main

import (
	"bytes"
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

// handmade is a ledger of three departments that was founded with nothing but the
// commands and the shipped example of a charter, as its people would: the root
// certifies the authority and an issuing CA, which certifies the departments, one
// of them by its signing requests. Its nodes run.
type handmade struct {
	t         *testing.T
	dir       string
	client    *http.Client
	processes map[exchange.Dept]*exec.Cmd
}

// try runs a command in the people's directory and returns what it says.
func (h *handmade) try(args ...string) (string, error) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), bin(h.t, "xinqiao"), args...)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "XINQIAO_PASSPHRASE=a passphrase for this test")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("xinqiao %s: %w\n%s%s", strings.Join(args, " "), err, out, said.Bytes())
	}
	return string(out), err
}

func (h *handmade) run(args ...string) string {
	h.t.Helper()
	out, err := h.try(args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// certify gives a department its certificates and its files, and returns where its
// node listens.
func (h *handmade) certify(dept exchange.Dept) (raft, peer string) {
	h.t.Helper()
	name := string(dept)
	if dept == demo.Minzheng {
		h.run("pki", "csr", "--dept", name, "--keyring", name+"/keys.xq", "--out", name, "--host", "127.0.0.1")
		h.run("pki", "issue", "--ca", "issuing", "--dept", name, "--csr", name+"/sign.csr", "--csr", name+"/enc.csr", "--out", name, "--host", "127.0.0.1")
	} else {
		h.run("pki", "issue", "--ca", "issuing", "--dept", name, "--keyring", name+"/keys.xq", "--out", name, "--host", "127.0.0.1")
	}
	h.run("pki", "issue", "--web", "--ca", "ca", "--host", "127.0.0.1", "--out", name)
	raft, peer = free(h.t), free(h.t)
	department(h.t, filepath.Join(h.dir, name), dept, raft, peer, free(h.t))
	return raft, peer
}

// serve starts a department's node, or starts it again after a kill.
func (h *handmade) serve(dept exchange.Dept) {
	h.t.Helper()
	h.processes[dept] = serveProcess(h.t, filepath.Join(h.dir, string(dept)))
}

func (h *handmade) kill(dept exchange.Dept) {
	_ = h.processes[dept].Process.Kill()
	_ = h.processes[dept].Wait()
}

func (h *handmade) ready(dept exchange.Dept) {
	h.t.Helper()
	dir := filepath.Join(h.dir, string(dept))
	web, err := os.ReadFile(filepath.Join(dir, "web.addr"))
	if err != nil {
		h.t.Fatal(err)
	}
	untilReady(h.t, h.client, "https://"+string(web)+"/readyz", filepath.Join(dir, "node.log"))
}

func foundByHand(t *testing.T) *handmade {
	t.Helper()
	h := &handmade{t: t, dir: t.TempDir(), processes: map[exchange.Dept]*exec.Cmd{}}
	depts := []exchange.Dept{demo.Minzheng, demo.Zhujian, demo.Gongan}
	h.run("pki", "init", "--dir", "ca", "--name", "Test root")
	h.run("pki", "init", "--under", "ca", "--dir", "issuing", "--name", "Test issuing CA")
	h.run("pki", "revoke", "--ca", "issuing", "--refresh")
	h.run("pki", "issue", "--ca", "ca", "--dept", "authority", "--keyring", "authority/keys.xq", "--out", "authority")
	charter, err := os.ReadFile("../../deploy/config/charter.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(charter)
	for i, dept := range depts {
		raft, peer := h.certify(dept)
		text = strings.ReplaceAll(text, fmt.Sprintf("127.0.0.1:174%d3", 4+i), raft)
		text = strings.ReplaceAll(text, fmt.Sprintf("127.0.0.1:174%d4", 4+i), peer)
	}
	writeFile(t, filepath.Join(h.dir, "charter.yaml"), text)
	baseline, err := os.ReadFile("../../exchange/demo/rules/baseline.yaml")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(h.dir, "baseline.yaml"), string(baseline))
	h.run("genesis", "--charter", "charter.yaml", "--keyring", "authority/keys.xq", "--out", ".")

	ca, err := os.ReadFile(filepath.Join(h.dir, "ca", "web-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatal("the web CA does not parse")
	}
	h.client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(h.client.CloseIdleConnections)
	for _, dept := range depts {
		h.serve(dept)
	}
	for _, dept := range depts {
		h.ready(dept)
	}
	return h
}

// TestFoundByHand has a department rotate its keys while its node runs, and another
// revoked and not let in again.
func TestFoundByHand(t *testing.T) {
	h := foundByHand(t)
	h.run("keyring", "rotate", "--keyring", "zhujian/keys.xq", "--sign", "--enc", "--tag")
	h.run("pki", "csr", "--dept", "zhujian", "--keyring", "zhujian/keys.xq", "--out", "zhujian", "--host", "127.0.0.1")
	h.run("pki", "renew", "--ca", "issuing", "--dept", "zhujian", "--csr", "zhujian/sign.csr", "--csr", "zhujian/enc.csr", "--out", "zhujian", "--early")
	for i, want := range []bool{true, false} {
		var done node.Renewed
		out := h.run("renew", "--config", "zhujian/node.yaml", "-o", "json")
		if err := json.Unmarshal([]byte(out), &done); err != nil || done.Changed != want {
			t.Errorf("renewal %d: %v %s", i, err, out)
		}
	}
	h.run("trust", "add", "--trust", "trust.json", "zhujian/sign.pem")
	h.kill(demo.Zhujian)
	h.serve(demo.Zhujian)
	h.ready(demo.Zhujian)

	chain, err := readCertificate(filepath.Join(h.dir, "gongan", pkiSign))
	if err != nil {
		t.Fatal(err)
	}
	id, err := cert.Inspect(chain)
	if err != nil {
		t.Fatal(err)
	}
	h.run("pki", "revoke", "--ca", "issuing", "--serial", id.Serial, "--reason", "keyCompromise")
	h.kill(demo.Gongan)
	h.serve(demo.Gongan)
	untilLogged(t, filepath.Join(h.dir, "minzheng", "node.log"), node.ErrRevoked.Error())
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
