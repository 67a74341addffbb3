package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

// runKeyring runs `xinqiao keyring …` in this process.
func runKeyring(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "xinqiao", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newKeyringCommand())
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append([]string{"keyring"}, args...))
	err = root.Execute()
	return out.String(), errs.String(), err
}

func mustKeyring(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	stdout, _, err := runKeyring(t, args...)
	if err != nil {
		t.Fatalf("keyring %s: %v", strings.Join(args, " "), err)
	}
	return stdout
}

// keyringDir is a directory with a keyring and passphrase files.
func keyringDir(t *testing.T) (path func(string) string) {
	t.Helper()
	dir := t.TempDir()
	path = func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"pass": "correct horse\n", "new": "battery staple\n", "empty": "\n"} {
		writeFile(t, path(name), text)
		if err := os.Chmod(path(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first := keyring.First{At: time.Now(), Cost: keyring.Cost{Time: 1, MemoryKiB: 8, Threads: 1}}
	if _, err := keyring.CreateFrom(path("keys.xq"), []byte("correct horse"), gm.Emmansun(), first); err != nil {
		t.Fatal(err)
	}
	return path
}

func listedKeys(t *testing.T, args ...string) []shownKey {
	t.Helper()
	var rows []shownKey
	if err := json.Unmarshal([]byte(mustKeyring(t, append([]string{"show", "-o", "json"}, args...)...)), &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

// states returns kind and state of each key, in order.
func states(rows []shownKey) string {
	var list []string
	for _, r := range rows {
		s := r.Kind
		if r.Active {
			s += "*"
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

// TestKeyringLife rotates, certifies, retires and re-seals as an administrator
// does.
func TestKeyringLife(t *testing.T) {
	t.Parallel()
	path := keyringDir(t)
	at := []string{"--keyring", path("keys.xq"), "--passphrase-file", path("pass")}
	with := func(args ...string) []string { return append(args, at...) }
	if got := states(listedKeys(t, at...)); got != "sign* enc* tag* local* name*" {
		t.Errorf("a new keyring: %s", got)
	}
	table := mustKeyring(t, with("show")...)
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 6 || !strings.Contains(lines[1], time.Now().Format("2006-01-02")) {
		t.Errorf("the table:\n%s", table)
	}
	made := strings.Fields(mustKeyring(t, with("rotate", "--sign", "--enc", "--tag", "--local")...))
	rows := listedKeys(t, at...)
	if got := states(rows); got != "sign* enc* tag* local name* sign enc tag local*" || len(made) != 4 {
		t.Errorf("after a rotation: %s, printed %v", got, made)
	}
	if rows[7].From <= time.Now().UTC().Format("2006-01") {
		t.Errorf("the tag master begins at %q", rows[7].From)
	}
	for i, row := range rows[5:] {
		if row.Key != made[i] {
			t.Errorf("row %d is %s, printed %s", i, row.Key, made[i])
		}
	}
	// Certificates for the new keys.
	writeFile(t, path("ca.pass"), "of the ca")
	mustPKI(t, "init", "--dir", path("ca"), "--name", "root", "--passphrase-file", path("ca.pass"))
	certify(t, path, rows[5].Public, rows[6].Public)
	if got := states(listedKeys(t, append(at, "--cert", path("sign.pem"), "--cert", path("enc.pem"))...)); got != "sign enc tag* local name* sign* enc* tag local*" {
		t.Errorf("with the new certificates: %s", got)
	}
	mustKeyring(t, with("retire", "--key", rows[0].Key)...)
	if got := states(listedKeys(t, at...)); got != "enc* tag* local name* sign* enc tag local*" {
		t.Errorf("after a retirement: %s", got)
	}
	mustKeyring(t, with("passphrase", "--new-passphrase-file", path("new"))...)
	if _, _, err := runKeyring(t, with("show")...); !errors.Is(err, keyring.ErrPassphrase) {
		t.Errorf("the old passphrase: %v", err)
	}
	if got := listedKeys(t, "--keyring", path("keys.xq"), "--passphrase-file", path("new")); len(got) != 8 {
		t.Errorf("%d keys under the new passphrase", len(got))
	}
}

func TestKeyringRefuses(t *testing.T) {
	t.Parallel()
	path := keyringDir(t)
	at := []string{"--keyring", path("keys.xq"), "--passphrase-file", path("pass")}
	rows := listedKeys(t, at...)
	month := time.Now().UTC().Format("2006-01")
	for name, c := range map[string]struct {
		args []string
		code int
		is   error
	}{
		"no verb's flag":            {[]string{"show"}, exitUsage, nil},
		"another form of output":    {append([]string{"show", "-o", "xml"}, at...), exitUsage, nil},
		"no file":                   {[]string{"show", "--keyring", path("none"), "--passphrase-file", path("pass")}, exitFailed, fs.ErrNotExist},
		"no agent":                  {[]string{"show", "--keyring", "unix:" + path("none")}, exitFailed, keyring.ErrUnavailable},
		"an empty passphrase":       {[]string{"show", "--keyring", path("keys.xq"), "--passphrase-file", path("empty")}, exitFailed, keyring.ErrPassphrase},
		"nothing to rotate":         {append([]string{"rotate"}, at...), exitUsage, nil},
		"an epoch without a tag":    {append([]string{"rotate", "--sign", "--from-epoch", "2999-01"}, at...), exitUsage, nil},
		"an epoch that has begun":   {append([]string{"rotate", "--tag", "--from-epoch", month}, at...), exitUsage, keyring.ErrEpoch},
		"no epoch":                  {append([]string{"rotate", "--tag", "--from-epoch", "next"}, at...), exitUsage, nil},
		"through an agent":          {[]string{"rotate", "--sign", "--keyring", "unix:" + path("none"), "--passphrase-file", path("pass")}, exitFailed, fs.ErrNotExist},
		"the last signing key":      {append([]string{"retire", "--key", rows[0].Key}, at...), exitFailed, keyring.ErrLast},
		"part of a name":            {append([]string{"retire", "--key", rows[0].Key[:31]}, at...), exitUsage, keyring.ErrNoKey},
		"a name in capitals":        {append([]string{"retire", "--key", strings.ToUpper(rows[0].Key)}, at...), exitUsage, keyring.ErrNoKey},
		"a master":                  {append([]string{"retire", "--key", rows[2].Key}, at...), exitUsage, nil},
		"an empty new passphrase":   {append([]string{"passphrase", "--new-passphrase-file", path("empty")}, at...), exitFailed, keyring.ErrPassphrase},
		"import over a keyring":     {append([]string{"import", "--sign-key", path("a.pem"), "--enc-key", path("b.pem")}, at...), exitFailed, fs.ErrExist},
		"import nothing":            {append([]string{"import"}, at...), exitUsage, nil},
		"import two ways":           {append([]string{"import", "--sign-key", "a", "--enc-key", "b", "--enveloped", "c"}, at...), exitUsage, nil},
		"import a public key":       {[]string{"import", "--sign-key", path("pub.pem"), "--enc-key", path("b.pem"), "--keyring", path("i"), "--passphrase-file", path("pass")}, exitFailed, gm.ErrKeyFile},
		"import one key twice":      {[]string{"import", "--sign-key", path("a.pem"), "--enc-key", path("a.pem"), "--keyring", path("i"), "--passphrase-file", path("pass")}, exitFailed, keyring.ErrRefused},
		"import no enveloped key":   {[]string{"import", "--sign-key", path("a.pem"), "--enveloped", path("b.pem"), "--keyring", path("i"), "--passphrase-file", path("pass")}, exitFailed, gm.ErrEnveloped},
		"add no enveloped key":      {append([]string{"import", "--enveloped", path("b.pem")}, at...), exitFailed, gm.ErrEnveloped},
		"an unknown engine":         {append([]string{"serve", "--engine", "openssl", "--socket", path("x/s")}, at...), exitUsage, nil},
		"a socket in an open place": {append([]string{"serve", "--socket", path("s")}, at...), exitFailed, keyring.ErrPermissions},
	} {
		for name, write := range map[string]func(*gm.PrivateKey) []byte{"a.pem": gm.MarshalPrivatePEM, "b.pem": gm.MarshalPrivatePEM,
			"pub.pem": func(k *gm.PrivateKey) []byte { return gm.MarshalPublicPEM(k.Public()) }} {
			key, err := gm.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, path(name), string(write(key)))
		}
		_, _, err := runKeyring(t, c.args...)
		if err == nil || exitCode(err) != c.code || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: exit code %d, %v", name, exitCode(err), err)
		}
	}
	if _, err := os.Stat(path("i")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused import leaves a keyring")
	}
	if got := listedKeys(t, at...); states(got) != states(rows) || got[0].Key != rows[0].Key {
		t.Error("a refused verb changed the keyring")
	}
}

// TestKeyringImport takes keys over in each form, and the keys work.
func TestKeyringImport(t *testing.T) {
	t.Parallel()
	path := keyringDir(t)
	var keys [3]*gm.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = gm.GenerateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	sign, enc, renewed := keys[0], keys[1], keys[2]
	wrap := func(to gm.PublicKey, key *gm.PrivateKey) string {
		der, err := gm.MarshalEnvelopedKey(gm.Emmansun(), rand.Reader, to, key)
		if err != nil {
			t.Fatal(err)
		}
		return string(der)
	}
	writeFile(t, path("sign.pem"), string(gm.MarshalPrivatePEM(sign)))
	writeFile(t, path("enc.pem"), string(gm.MarshalPrivatePEM(enc)))
	writeFile(t, path("enc.der"), wrap(sign.Public(), enc))
	writeFile(t, path("renewed.der"), wrap(sign.Public(), renewed))
	for name, args := range map[string][]string{"plain": {"--enc-key", path("enc.pem")}, "enveloped": {"--enveloped", path("enc.der")}} {
		at := []string{"--keyring", path(name), "--passphrase-file", path("pass")}
		mustKeyring(t, append(append([]string{"import", "--sign-key", path("sign.pem")}, args...), at...)...)
		mustKeyring(t, append([]string{"import", "--enveloped", path("renewed.der")}, at...)...)
		rows := listedKeys(t, at...)
		want := []string{hex.EncodeToString(sign.Public().Bytes()), hex.EncodeToString(enc.Public().Bytes()), "", "", "", hex.EncodeToString(renewed.Public().Bytes())}
		for i, row := range rows {
			if row.Public != want[i] {
				t.Errorf("%s: row %d has another key", name, i)
			}
		}
	}
}

// certify has the CA of pkiDir's form issue certificates for two public keys, as
// it would from requests.
func certify(t *testing.T, path func(string) string, signHex, encHex string) {
	t.Helper()
	k, err := keyring.Open(filepath.Join(path("ca"), pkiKeyring), []byte("of the ca"), gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	root, err := readCertificate(filepath.Join(path("ca"), pkiRoot))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := cert.OpenCA(root, k.TLSSigner())
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]struct {
		usage cert.Usage
		key   string
	}{"sign.pem": {cert.Signing, signHex}, "enc.pem": {cert.Encryption, encHex}} {
		point, err := hex.DecodeString(r.key)
		if err != nil {
			t.Fatal(err)
		}
		key, err := gm.ParsePublicKey(point)
		if err != nil {
			t.Fatal(err)
		}
		der, err := ca.Issue(cert.Request{Dept: "minzheng", Usage: r.usage, Key: key, Lifetime: time.Hour}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, path(name), string(cert.EncodePEM(der)))
	}
}

// TestKeyringSurvivesKill kills `keyring rotate` at moments of its change, by
// chance: the file always opens, and no rotation is half there.
func TestKeyringSurvivesKill(t *testing.T) {
	path := keyringDir(t)
	at := []string{"--keyring", path("keys.xq"), "--passphrase-file", path("pass")}
	keys := len(listedKeys(t, at...))
	for i := range 30 {
		cmd := exec.Command(bin(t, "xinqiao"), append([]string{"keyring", "rotate", "--local"}, at...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		rows := listedKeys(t, at...)
		if len(rows) != keys && len(rows) != keys+1 {
			t.Fatalf("after kill %d: %d keys, want %d or one more", i, len(rows), keys)
		}
		keys = len(rows)
	}
	mustKeyring(t, append([]string{"rotate", "--local"}, at...)...)
	left, err := filepath.Glob(path(".keyring-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("what the kills left is still there: %v, %v", left, err)
	}
}

// TestKeyringServe runs the agent's verb in this process and shows its keys
// through the socket.
func TestKeyringServe(t *testing.T) {
	path := keyringDir(t)
	run, err := os.MkdirTemp("", "xq-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	socket := filepath.Join(run, "k", "s")
	agent := exec.Command(bin(t, "xinqiao"), "keyring", "serve", "--keyring", path("keys.xq"), "--socket", socket)
	agent.Env = append(os.Environ(), "XINQIAO_PASSPHRASE=correct horse")
	var log bytes.Buffer
	agent.Stderr = &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = agent.Process.Kill() }()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		if _, _, err = runKeyring(t, "show", "--keyring", "unix:"+socket); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := states(listedKeys(t, "--keyring", "unix:"+socket)); got != "sign* enc* tag* local* name*" {
		t.Errorf("through the agent: %s", got)
	}
	// A request for certificates needs the keys' use, not the keys.
	mustPKI(t, "csr", "--dept", "minzheng", "--keyring", "unix:"+socket, "--out", path("csr"))
	for _, name := range []string{pkiSignCSR, pkiEncCSR} {
		if _, err := readCSR(filepath.Join(path("csr"), name)); err != nil {
			t.Errorf("%s through the agent: %v", name, err)
		}
	}
	if err := agent.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry[slog.LevelKey] == nil || strings.Contains(line, "correct horse") {
			t.Errorf("a line of the log: %s", line)
		}
	}
}
