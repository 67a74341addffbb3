package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/demo"
)

// secretsOf reads the scalars and masters of a department's keyring file out of
// a keyring that is opened here. No method returns them, so reflection does, and
// panics if the keyring is built differently one day.
func secretsOf(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	passphrase, err := os.ReadFile(filepath.Join(dir, "passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := keyring.Open(filepath.Join(dir, "keys.xq"), passphrase, gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	keys := reflect.ValueOf(k).Elem().FieldByName("device").Elem().Elem().FieldByName("keys")
	for i := range keys.Len() {
		key := keys.Index(i).Elem()
		kind := keyring.Kind(key.FieldByName("Kind").Uint())
		var secret []byte
		if pair := key.FieldByName("pair"); pair.IsNil() {
			master := key.FieldByName("master")
			for j := range master.Len() {
				secret = append(secret, byte(master.Index(j).Uint()))
			}
		} else { // the words of a big.Int, least significant first
			words := pair.Elem().FieldByName("key").Elem().FieldByName("D").Elem().FieldByName("abs")
			for j := range words.Len() {
				w := words.Index(j).Uint()
				for range 8 {
					secret, w = append(secret, byte(w)), w>>8
				}
			}
			secret = append(secret, make([]byte, 32-len(secret))...)
			slices.Reverse(secret)
			if d, err := gm.NewPrivateKey(secret); err != nil || !slices.Contains(append(k.SignKeys(), k.EncKeys()...), d.Public()) {
				t.Fatalf("what was read of the %s key is not its scalar: %v", kind, err)
			}
		}
		found[kind.String()] = secret
	}
	if len(found) != 5 || len(passphrase) == 0 {
		t.Fatalf("%d kinds of secrets, want 5", len(found))
	}
	return found
}

// forms are the byte strings by which a secret shows in memory: as it is, as
// math/big keeps it in 64-bit words, as hexadecimal text, and either half of the
// first two, should it be kept in pieces.
func forms(secret []byte) [][]byte {
	words := slices.Clone(secret)
	slices.Reverse(words)
	half := len(secret) / 2
	return [][]byte{secret[:half], secret[half:], words[:half], words[half:], []byte(hex.EncodeToString(secret)),
		bytes.ToUpper([]byte(hex.EncodeToString(secret)))}
}

// inMemory says which of the secrets are in a process's readable memory, and how
// many bytes were looked at.
func inMemory(t *testing.T, pid int, secrets map[string][]byte) (found map[string]bool, looked int) {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if errors.Is(err, fs.ErrPermission) {
		t.Skipf("ptrace: this user may not read the memory of its own process %d: %v", pid, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	found = map[string]bool{}
	const piece, overlap = 1 << 20, 128
	buf := make([]byte, piece+overlap)
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' {
			continue
		}
		for at := from; at < to; at += piece {
			n, err := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			if n == 0 && err != nil {
				continue // the map is gone, or is the kernel's
			}
			looked += n
			for name, secret := range secrets {
				for _, form := range forms(secret) {
					found[name] = found[name] || bytes.Contains(buf[:n], form)
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return found, looked
}

// pidOf finds the node that serves a configuration.
func pidOf(t *testing.T, config string) int {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		line, err := os.ReadFile(name)
		if err == nil && bytes.HasSuffix(line, []byte("\x00serve\x00--config\x00"+config+"\x00")) {
			var pid int
			if _, err := fmt.Sscanf(name, "/proc/%d/", &pid); err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no process serves %s", config)
	return 0
}

// startAgent runs `xinqiao keyring serve` for a department and waits until it
// answers.
func startAgent(t *testing.T, dir, socket string) *exec.Cmd {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(bin(t, "xinqiao"), "keyring", "serve", "--keyring", filepath.Join(dir, "keys.xq"), "--socket", socket,
		"--passphrase-file", filepath.Join(dir, "passphrase"))
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 3000 {
		d, err := keyring.Dial(socket)
		if err == nil {
			if err := d.(interface{ Close() error }).Close(); err != nil {
				t.Fatal(err)
			}
			return cmd
		}
		time.Sleep(10 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	t.Fatalf("the agent does not answer: %s", text)
	return nil
}

// TestNodeMemoryNeverHoldsTheKeys runs a network in which the holder's keys live
// in an agent. After an exchange the holder's node has none of them in its memory;
// the requester's node, which opened its file itself, has its own. While the agent
// is away the holder releases nothing and says why; when it is back the same
// question is answered.
func TestNodeMemoryNeverHoldsTheKeys(t *testing.T) {
	n, err := demo.Setup(filepath.Join(t.TempDir(), "net"), "auto", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("", "xq-agent-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	holder, requester := n.Site(demo.Shuiwu), n.Site(demo.Renshe)
	dir, socket := filepath.Dir(holder.Config), filepath.Join(run, "keys", "a.sock")
	config, err := os.ReadFile(holder.Config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(config), "keyring: keys.xq\npassphrase_file: passphrase\n", "keyring: unix:"+socket+"\n", 1)
	if changed == string(config) {
		t.Fatalf("the configuration has no keyring to replace:\n%s", config)
	}
	writeFile(t, holder.Config, changed)
	hers, theirs := secretsOf(t, dir), secretsOf(t, filepath.Dir(requester.Config))

	agent := startAgent(t, dir, socket)
	c := clusterOf(t, n)
	first := subsidy(t, c, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 180*time.Second)
	defer cancel()
	if a := askUntil(ctx, t, c, "question-1", first); a.Outcome != exchange.Allowed || len(a.Fields) != 1 {
		t.Fatalf("outcome %s with %d fields, want allowed with 1", a.Outcome, len(a.Fields))
	}
	found, looked := inMemory(t, pidOf(t, holder.Config), hers)
	t.Logf("searched %d MiB of the node with an agent", looked>>20)
	for name := range hers {
		if found[name] {
			t.Errorf("the node's memory holds its %s key", name)
		}
	}
	found, looked = inMemory(t, pidOf(t, requester.Config), theirs)
	t.Logf("searched %d MiB of the node with a file", looked>>20)
	for name := range theirs {
		if !found[name] {
			t.Errorf("negative control: the search does not find the %s key of a node that has it", name)
		}
	}

	second := subsidy(t, c, 2)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	before := len(access(t, c.Client(demo.Gongan), exchange.Allowed))
	_, err = c.Client(demo.Renshe).Once().Ask(ctx, "question-2", second)
	if e := exchange.AsError(err); err == nil || e.Kind != exchange.Unavailable {
		t.Errorf("without the agent: %v, want unavailable", err)
	}
	if after := len(access(t, c.Client(demo.Gongan), exchange.Allowed)); after != before {
		t.Errorf("%d accesses were allowed without the holder's keys", after-before)
	}
	if status, _, err := c.Get(ctx, demo.Shuiwu, "/livez"); err != nil || status != 200 {
		t.Errorf("the node without its agent: livez %d, %v", status, err)
	}
	agent = startAgent(t, dir, socket)
	if a := askUntil(ctx, t, c, "question-2", second); a.Outcome != exchange.Allowed {
		t.Errorf("with the agent back: outcome %s, want allowed", a.Outcome)
	}
	stopAgent(t, agent, dir, hers)
}

// stopAgent ends the agent in order and reads its log: counts and no secret.
func stopAgent(t *testing.T, agent *exec.Cmd, dir string, secrets map[string][]byte) {
	t.Helper()
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("the agent ends with %v", err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "agent.log"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(log, []byte(`"sign done":`)) || !bytes.Contains(log, []byte(`"mac done":`)) {
		t.Errorf("the agent's log does not count what it did:\n%s", log)
	}
	passphrase, err := os.ReadFile(filepath.Join(dir, "passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(log, passphrase) {
		t.Error("the agent's log holds the passphrase")
	}
	for name, secret := range secrets {
		for _, form := range forms(secret) {
			if bytes.Contains(log, form) {
				t.Errorf("the agent's log holds the %s key", name)
			}
		}
	}
}
