package node_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/demo"
	"xinqiao/exchange/node"
	"xinqiao/ledger/store"
)

// TestShippedConfig loads the commented example that an administrator starts
// from.
func TestShippedConfig(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "deploy", "config", "node.yaml")
	cfg, err := node.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Department != demo.Minzheng || cfg.Population != exchange.Real || len(cfg.Systems) != 1 || len(cfg.Operators) != 2 || len(cfg.Officers) != 1 {
		t.Errorf("the example reads as %+v", cfg)
	}
	if cfg.Genesis != filepath.Join(filepath.Dir(path), "genesis.json") || !filepath.IsAbs(cfg.Data) {
		t.Errorf("paths are not taken from the file's place: %s, %s", cfg.Genesis, cfg.Data)
	}
}

// TestSystemKeys: the key of a system lies beside the file that names it.
func TestSystemKeys(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile(filepath.Join("..", "..", "deploy", "config", "node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(example)
	for _, line := range []string{"- name: marriage-archive", "  key: systems/", "  signed: true", "  scopes: [exchange]\n", "  expires:"} {
		if !strings.Contains(text, "  # "+line) {
			t.Fatalf("the example has no commented %q", line)
		}
		text = strings.Replace(text, "  # "+line, "  "+line, 1)
	}
	path := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := node.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := cfg.Systems; len(s) != 2 || !s[1].Signed || s[1].Token != "" || s[1].Key != filepath.Join(filepath.Dir(path), "systems", "marriage-archive.pem") {
		t.Errorf("the systems read as %+v", s)
	}
}

// TestStrictConfig: what is misspelt, said twice or left out is an error that
// names it, and never a default.
func TestStrictConfig(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile(filepath.Join("..", "..", "deploy", "config", "node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, instead, says string }{
		{"unknown key", "officers:", "offices:", "offices"},
		{"unknown key inside", "  raft:", "  rafft:", "rafft"},
		{"unknown key of a system", "    scopes:", "    scope:", "scope"},
		{"key twice", "department: minzheng", "department: minzheng\ndepartment: gongan", "department"},
		{"no department", "department: minzheng", "", "department"},
		{"malformed department", "department: minzheng", "department: Min Zheng", "department"},
		{"the authority", "department: minzheng", "department: authority", "department"},
		{"no population", "population: real", "", "population"},
		{"unknown population", "population: real", "population: some", "population"},
		{"no genesis", "genesis: genesis.json", "", "genesis"},
		{"no data", "data: /var/lib/xinqiao/data", "", "data"},
		{"no keyring", "keyring: keys.xq", "", "keyring"},
		{"no signing certificate", "sign_cert: sign.pem", "", "sign_cert"},
		{"no encryption certificate", "enc_cert: enc.pem", "", "enc_cert"},
		{"no rules", "rules: rules", "", "rules"},
		{"no catalogue", "catalogue: catalogue.json", "", "catalogue"},
		{"no vault", "vault: /var/lib/xinqiao/vault", "", "vault"},
		{"no port", "10.1.0.5:8443", "10.1.0.5", "listen.web"},
		{"no web key", "  key: web.key", "", "web.key"},
		{"malformed operator", "op-0417", "Ms Chen", "operator"},
		{"operator without role", "{id: op-0417, role: case_handler}", "{id: op-0417}", "operator"},
		{"system with nothing", `    token_sm3: "` + strings.Repeat("0", 64) + `"`, "", "marriage-counter"},
		{"system that cannot sign", "    scopes: [exchange, consent, catalogue]", "    signed: true", "marriage-counter"},
		{"list for text", "log_level: info", "log_level: [info]", "log_level"},
		{"not YAML", "department: minzheng", "department: {", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(string(example), c.old) {
				t.Fatalf("the example has no %q", c.old)
			}
			path := filepath.Join(t.TempDir(), "broken.yaml")
			if err := os.WriteFile(path, []byte(strings.Replace(string(example), c.old, c.instead, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := node.Load(path)
			if err == nil {
				t.Fatalf("it loads as %+v", cfg)
			}
			if !strings.Contains(err.Error(), "broken.yaml") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error names neither the file nor what is wrong: %v", err)
			}
		})
	}
	if _, err := node.Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestStartRefuses: a node that is set up wrongly says so and leaves nothing
// running, no port taken and its ledger as it was.
func TestStartRefuses(t *testing.T) {
	n, other := found(t), found(t)
	in := func(dept exchange.Dept, name string) string { return filepath.Join(n.dir(dept), name) }
	wrong := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(wrong, []byte("correct horse"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "keys.xq")
	if b, err := os.ReadFile(in(demo.Gongan, "keys.xq")); err != nil || os.WriteFile(open, b, 0o600) != nil || os.Chmod(open, 0o644) != nil {
		t.Fatal(err)
	}
	empty, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(in(demo.Gongan, "keys.xq"), link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*node.Config)
		step   string // where it is refused
		is     error
	}{
		{"passphrase", func(c *node.Config) { c.PassphraseFile = wrong }, "identity", keyring.ErrPassphrase},
		{"no passphrase file", func(c *node.Config) { c.PassphraseFile = filepath.Join(empty, "none") }, "identity", os.ErrNotExist},
		{"keyring that others can read", func(c *node.Config) { c.Keyring = open }, "identity", keyring.ErrPermissions},
		{"no keyring agent", func(c *node.Config) { c.Keyring = "unix:" + filepath.Join(empty, "agent.sock") }, "identity", keyring.ErrUnavailable},
		{"keyring that is a link", func(c *node.Config) { c.Keyring = link }, "identity", keyring.ErrNotFile},
		{"another's certificates", func(c *node.Config) {
			c.SignCert, c.EncCert = in(demo.Minzheng, "sign.pem"), in(demo.Minzheng, "enc.pem")
		}, "identity", nil},
		{"another's keyring", func(c *node.Config) {
			c.Keyring, c.PassphraseFile = in(demo.Minzheng, "keys.xq"), in(demo.Minzheng, "passphrase")
		}, "identity", nil},
		{"another department's name", func(c *node.Config) { c.Department = demo.Minzheng }, "identity", nil},
		{"certificates the wrong way round", func(c *node.Config) { c.SignCert, c.EncCert = c.EncCert, c.SignCert }, "identity", nil},
		{"foreign genesis", func(c *node.Config) { c.Genesis = filepath.Join(other.Dir, "genesis.json") }, "identity", nil},
		{"web key of another", func(c *node.Config) { c.Web.Key = in(demo.Minzheng, "web.key") }, "identity", nil},
		{"unknown engine", func(c *node.Config) { c.Engine = "openssl" }, "identity", nil},
		{"no rules", func(c *node.Config) { c.Rules = empty }, "run", nil},
		{"another's catalogue", func(c *node.Config) { c.Catalogue = in(demo.Minzheng, "catalogue.json") }, "run", nil},
		{"token in clear", func(c *node.Config) { c.Systems[0].Token = "letmein" }, "web", nil},
		{"no key file", func(c *node.Config) { c.Systems[0].Key = filepath.Join(empty, "none") }, "web", os.ErrNotExist},
		{"a system with another curve", func(c *node.Config) { c.Systems[0].Key = in(demo.Gongan, "web.pem") }, "web", gm.ErrKeyFile},
		{"a system without a key that must sign", func(c *node.Config) { c.Systems[0].Signed = true }, "web", nil},
		{"a moment for ever", func(c *node.Config) { c.Systems[0].Expires = "never" }, "web", nil},
		{"web port in use", func(c *node.Config) { c.Listen.Web = listenOn(t) }, "web", syscall.EADDRINUSE},
		{"peer port in use", func(c *node.Config) { c.Listen.Peer = listenOn(t) }, "channels", syscall.EADDRINUSE},
		{"raft port in use", func(c *node.Config) { c.Listen.Raft = listenOn(t) }, "channels", syscall.EADDRINUSE},
		{"data under a file", func(c *node.Config) { c.Data = filepath.Join(wrong, "data") }, "store", syscall.ENOTDIR},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := n.config(t, demo.Gongan)
			c.change(&cfg)
			before := runtime.NumGoroutine()
			running, err := node.Start(t.Context(), cfg, n.options(demo.Gongan))
			if err == nil {
				t.Fatalf("it starts; stop: %v", running.Stop(t.Context()))
			}
			if !strings.HasPrefix(err.Error(), "start "+c.step+": ") || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v", err)
			}
			n.gone(t, before)
			n.free(t, demo.Gongan)
		})
	}
	n.start(t, n.all()...) // set up rightly it starts, after all that
	n.ready(t)
	t.Run("twice", func(t *testing.T) {
		cfg := n.config(t, demo.Gongan)
		cfg.Listen = node.Listen{Raft: "127.0.0.1:0", Peer: "127.0.0.1:0", Web: "127.0.0.1:0"}
		if _, err := node.Start(t.Context(), cfg, n.options(demo.Gongan)); !errors.Is(err, store.ErrLocked) {
			t.Errorf("a second process on one data directory: %v", err)
		}
		if !n.nodes[demo.Gongan].Ready() {
			t.Error("the first one has suffered")
		}
	})
	n.stop(t, n.all()...)
	for name, change := range map[string]func(*node.Config){
		"another founding's data":    func(c *node.Config) { c.Data = n.config(t, demo.Gongan).Data },
		"refounded by the authority": func(c *node.Config) { *c = n.config(t, demo.Gongan); c.Genesis = n.refound(t) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := other.config(t, demo.Gongan)
			change(&cfg)
			before := runtime.NumGoroutine()
			running, err := node.Start(t.Context(), cfg, n.options(demo.Gongan))
			if err == nil {
				t.Fatalf("it starts on another ledger's data; stop: %v", running.Stop(t.Context()))
			}
			if !errors.Is(err, node.ErrForeignData) {
				t.Errorf("%v", err)
			}
			n.gone(t, before)
		})
	}
}

// listenOn takes a port for the length of the test.
func listenOn(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// gone waits until no more goroutines run than before.
func (n *network) gone(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines more than before:\n%s", runtime.NumGoroutine()-before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// refound signs a second genesis as the same authority: the same name, the same
// keys, one share grant less.
func (n *network) refound(t *testing.T) string {
	t.Helper()
	authority := n.authority(t)
	g, entries := authority.genesis, authority.first.Entries
	var err error
	if g.Frames[0], err = authority.frame(1, gm.Digest{}, entries[:len(entries)-1]); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "genesis.json")
	if err := g.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}
