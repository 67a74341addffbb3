package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

// runPKI runs `xinqiao pki …` in this process.
func runPKI(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "xinqiao", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newPKICommand())
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append([]string{"pki"}, args...))
	err = root.Execute()
	return out.String(), errs.String(), err
}

func mustPKI(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, err := runPKI(t, args...)
	if err != nil {
		t.Fatalf("pki %s: %v", strings.Join(args, " "), err)
	}
	return stdout, stderr
}

// pkiDir is a directory with passphrase files and a CA.
func pkiDir(t *testing.T) (path func(string) string) {
	t.Helper()
	dir := t.TempDir()
	path = func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"ca.pass": "of the ca\n", "dept.pass": "of the department\r\n"} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustPKI(t, "init", "--dir", path("ca"), "--name", "信桥根", "--passphrase-file", path("ca.pass"))
	return path
}

func TestPKI(t *testing.T) {
	t.Parallel()
	path := pkiDir(t)
	issue := []string{"issue", "--ca", path("ca"), "--dept", "minzheng", "--keyring", path("m/keys.xq"), "--out", path("m"),
		"--host", "10.1.0.5", "--passphrase-file", path("dept.pass"), "--ca-passphrase-file", path("ca.pass")}
	mustPKI(t, issue...)
	mustPKI(t, "issue", "--web", "--ca", path("ca"), "--host", "node.example", "--out", path("m"))

	keys, err := keyring.Open(path("m/keys.xq"), []byte("of the department"), gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	root, err := readCertificate(path("ca/root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	verify := func() (serials [2]string) {
		for i, want := range []cert.Identity{
			{Dept: "minzheng", Usage: cert.Signing, Key: keys.SignPublic()}, {Dept: "minzheng", Usage: cert.Encryption, Key: keys.EncPublic()},
		} {
			der, err := readCertificate(path([]string{"m/sign.pem", "m/enc.pem"}[i]))
			if err != nil {
				t.Fatal(err)
			}
			got, err := cert.Verify(root, der, time.Now())
			if err != nil || got.Dept != want.Dept || got.Usage != want.Usage || got.Key != want.Key {
				t.Errorf("certificate %d: %+v, %v", i, got, err)
			}
			serials[i] = got.Serial
		}
		return serials
	}
	before := verify()
	mustPKI(t, issue...) // renewal: the same keys, new certificates
	if after := verify(); after == before {
		t.Error("issuing again did not make new certificates")
	}
	for name, mode := range map[string]fs.FileMode{
		"ca/keys.xq": 0o600, "ca/web-ca.key": 0o600, "m/keys.xq": 0o600, "m/web.key": 0o600, "m/sign.pem": 0o644, "ca/root.pem": 0o644, "m/root.pem": 0o644,
	} {
		if info, err := os.Stat(path(name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	left, err := filepath.Glob(path("*/.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

func TestPKIShow(t *testing.T) {
	t.Parallel()
	path := pkiDir(t)
	mustPKI(t, "issue", "--ca", path("ca"), "--dept", "minzheng", "--keyring", path("m/keys.xq"), "--out", path("m"), "--days", "10",
		"--passphrase-file", path("dept.pass"), "--ca-passphrase-file", path("ca.pass"))
	out, hints := mustPKI(t, "show", path("ca/root.pem"), path("ca/web-ca.pem"), path("m/sign.pem"))
	if lines := strings.Count(out, "\n"); lines != 4 || !strings.Contains(out, "信桥根") {
		t.Errorf("table:\n%s", out)
	}
	if !strings.Contains(hints, "pki renew") || strings.Contains(hints, "root.pem is") {
		t.Errorf("hints: %q", hints)
	}
	out, hints = mustPKI(t, "show", "-o", "json", path("ca/root.pem"), path("m/sign.pem"))
	var rows []struct{ Kind, Name, Usage, Status, Fingerprint string }
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 2 || hints != "" {
		t.Fatalf("%v, hints %q\n%s", err, hints, out)
	}
	der, err := readCertificate(path("m/sign.pem"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := cert.Inspect(der)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x", id.Fingerprint)
	if r := rows[1]; r.Kind != "department" || r.Name != "minzheng" || r.Usage != "signing" || r.Status != "expiring" || r.Fingerprint != want {
		t.Errorf("row %+v", r)
	}
	if rows[0].Kind != "root" || rows[0].Status != "valid" {
		t.Errorf("row %+v", rows[0])
	}
}

func TestPKIRefuses(t *testing.T) {
	t.Parallel()
	path := pkiDir(t)
	pass := []string{"--passphrase-file", path("dept.pass"), "--ca-passphrase-file", path("ca.pass")}
	issue := func(more ...string) []string {
		return append(append([]string{"issue", "--ca", path("ca"), "--out", path("x")}, more...), pass...)
	}
	for name, args := range map[string][]string{
		"no verb's flags":   {"init"},
		"unknown flag":      {"init", "--passphrase", "secret"},
		"argument":          {"init", "--dir", path("y"), "--name", "x", "z"},
		"neither":           issue(),
		"both":              issue("--web", "--dept", "minzheng"),
		"no keyring":        issue("--dept", "minzheng"),
		"bad department":    issue("--dept", "Min Zheng", "--keyring", path("k1")),
		"bad host":          issue("--dept", "minzheng", "--keyring", path("k2"), "--host", "gongan.xinqiao"),
		"no days":           issue("--dept", "minzheng", "--keyring", path("k3"), "--days", "0"),
		"web without host":  issue("--web"),
		"no file":           {"show"},
		"unknown output":    {"show", "-o", "xml", path("ca/root.pem")},
		"overlong name":     {"init", "--dir", path("z"), "--name", strings.Repeat("x", 65), "--passphrase-file", path("ca.pass")},
		"web, bad host":     issue("--web", "--host", "*.example"),
		"unknown verb":      {"forget"},
		"days in the ages ": issue("--dept", "minzheng", "--keyring", path("k4"), "--days", "99999"),
	} {
		if _, _, err := runPKI(t, args...); exitCode(err) != exitUsage {
			t.Errorf("%s: exit %d, %v", name, exitCode(err), err)
		}
	}
	if _, err := os.Stat(path("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused issue left files behind: %v", err)
	}
	if _, _, err := runPKI(t, "init", "--dir", path("ca"), "--name", "again", "--passphrase-file", path("ca.pass")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("init over a CA: %v", err)
	}
	wrong := []string{"issue", "--ca", path("ca"), "--out", path("x"), "--dept", "minzheng", "--keyring", path("k5"), "--passphrase-file", path("dept.pass")}
	if _, _, err := runPKI(t, wrong...); !errors.Is(err, keyring.ErrPassphrase) || exitCode(err) != exitFailed {
		t.Errorf("the CA under the department's passphrase: %v", err)
	}
	if _, _, err := runPKI(t, "show", path("ca.pass")); !errors.Is(err, cert.ErrFile) {
		t.Errorf("show of a text: %v", err)
	}
}

// TestPKIPassphraseFromEnvironment changes the environment, so it is not parallel.
func TestPKIPassphraseFromEnvironment(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XINQIAO_PASSPHRASE", "")
	t.Setenv("XINQIAO_CA_PASSPHRASE", "")
	args := []string{"init", "--dir", filepath.Join(dir, "ca"), "--name", "root"}
	if _, _, err := runPKI(t, args...); exitCode(err) != exitUsage {
		t.Errorf("without a passphrase: %v", err)
	}
	t.Setenv("XINQIAO_PASSPHRASE", "secret")
	mustPKI(t, args...)
	if _, err := keyring.Open(filepath.Join(dir, "ca", pkiKeyring), []byte("secret"), gm.Emmansun()); err != nil {
		t.Error(err)
	}
	mustPKI(t, "issue", "--ca", filepath.Join(dir, "ca"), "--dept", "minzheng", "--keyring", filepath.Join(dir, "k"), "--out", dir)
}
