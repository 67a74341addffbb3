package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"xinqiao/crypto/envelope"
)

// runSM runs `xinqiao sm …` in this process and returns its standard output
// and exit code.
func runSM(t *testing.T, stdin string, args ...string) (stdout string, code int) {
	t.Helper()
	root := &cobra.Command{Use: "xinqiao", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newSMCommand())
	var out, errs bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append([]string{"sm"}, args...))
	err := root.Execute()
	if err != nil {
		t.Logf("sm %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), exitCode(err)
}

func mustSM(t *testing.T, args ...string) string {
	t.Helper()
	out, code := runSM(t, "", args...)
	if code != 0 {
		t.Fatalf("sm %s: exit %d", strings.Join(args, " "), code)
	}
	return out
}

// files makes named paths in a new directory.
func files(t *testing.T) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	return func(name string) string { return filepath.Join(dir, name) }
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSMHash(t *testing.T) {
	t.Parallel()
	f := files(t)
	write(t, f("abc"), "abc")
	const want = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
	if got := mustSM(t, "hash", f("abc"), f("abc")); got != want+"  "+f("abc")+"\n"+want+"  "+f("abc")+"\n" {
		t.Errorf("printed %q", got)
	}
	if got, code := runSM(t, "abc", "hash", "-"); code != 0 || got != want+"  -\n" {
		t.Errorf("printed %q, exit %d", got, code)
	}
}

func TestSMSignVerify(t *testing.T) {
	t.Parallel()
	f := files(t)
	mustSM(t, "keygen", "--out", f("key"), "--pub", f("pub"))
	mustSM(t, "keygen", "--out", f("other"), "--pub", f("otherpub"))
	if info, err := os.Stat(f("key")); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for name, content := range map[string]string{"in": "a document", "changed": "a documenT", "empty": ""} {
		write(t, f(name), content)
	}
	mustSM(t, "sign", "--key", f("key"), "--in", f("in"), "--out", f("sig"))
	if got := mustSM(t, "verify", "--key", f("pub"), "--in", f("in"), "--sig", f("sig")); got != "valid\n" {
		t.Errorf("printed %q", got)
	}
	mustSM(t, "sign", "--key", f("key"), "--in", f("empty"), "--out", f("emptysig"))
	mustSM(t, "verify", "--key", f("pub"), "--in", f("empty"), "--sig", f("emptysig"))
	write(t, f("longsig"), read(t, f("sig"))+"\x00")
	write(t, f("nosig"), "")
	for name, args := range map[string][]string{
		"changed file":  {"--key", f("pub"), "--in", f("changed"), "--sig", f("sig")},
		"other key":     {"--key", f("otherpub"), "--in", f("in"), "--sig", f("sig")},
		"trailing byte": {"--key", f("pub"), "--in", f("in"), "--sig", f("longsig")},
		"no signature":  {"--key", f("pub"), "--in", f("in"), "--sig", f("nosig")},
	} {
		if out, code := runSM(t, "", append([]string{"verify"}, args...)...); code != exitUnverified || out != "" {
			t.Errorf("%s: exit %d, printed %q", name, code, out)
		}
	}
}

func TestSMSealOpen(t *testing.T) {
	t.Parallel()
	f := files(t)
	for _, who := range []string{"a", "b", "c"} {
		mustSM(t, "keygen", "--out", f(who), "--pub", f(who+".pub"))
	}
	content := strings.Repeat("a document\n", 20000)
	write(t, f("in"), content)
	mustSM(t, "seal", "--to", f("a.pub"), "--to", f("b.pub"), "--context", "case 7", "--in", f("in"), "--out", f("sealed"))
	for _, who := range []string{"a", "b"} {
		mustSM(t, "open", "--key", f(who), "--context", "case 7", "--in", f("sealed"), "--out", f(who+".out"))
		if read(t, f(who+".out")) != content {
			t.Errorf("%s reads another text", who)
		}
		if info, err := os.Stat(f(who + ".out")); err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	sealed := read(t, f("sealed"))
	write(t, f("changed"), sealed[:len(sealed)-1]+string(sealed[len(sealed)-1]^1))
	for name, c := range map[string]struct {
		key, in, context string
		want             int
	}{
		"not a recipient": {"c", "sealed", "case 7", exitFailed},
		"another context": {"a", "sealed", "case 8", exitUnverified},
		"changed":         {"a", "changed", "case 7", exitUnverified},
		"not sealed":      {"a", "in", "case 7", exitFailed},
	} {
		_, code := runSM(t, "", "open", "--key", f(c.key), "--context", c.context, "--in", f(c.in), "--out", f("leak"))
		if code != c.want {
			t.Errorf("%s: exit %d", name, code)
		}
		if _, err := os.Stat(f("leak")); err == nil {
			t.Errorf("%s: something was written", name)
		}
	}
}

func TestSMExitCodes(t *testing.T) {
	t.Parallel()
	f := files(t)
	mustSM(t, "keygen", "--out", f("key"), "--pub", f("pub"))
	key := read(t, f("key"))
	write(t, f("in"), "x")
	for name, c := range map[string]struct {
		args []string
		want int
	}{
		"no verb":               {nil, 0},
		"unknown verb":          {[]string{"frobnicate"}, exitUsage},
		"unknown flag":          {[]string{"sign", "--frobnicate"}, exitUsage},
		"missing flag":          {[]string{"sign", "--key", f("key"), "--in", f("in")}, exitUsage},
		"stray argument":        {[]string{"sign", "--key", f("key"), "--in", f("in"), "--out", f("o"), "stray"}, exitUsage},
		"nothing to hash":       {[]string{"hash"}, exitUsage},
		"nobody to seal to":     {[]string{"seal", "--in", f("in"), "--out", f("o")}, exitUsage},
		"missing file":          {[]string{"hash", f("missing")}, exitFailed},
		"public key to sign":    {[]string{"sign", "--key", f("pub"), "--in", f("in"), "--out", f("o")}, exitFailed},
		"private key to verify": {[]string{"verify", "--key", f("key"), "--in", f("in"), "--sig", f("in")}, exitFailed},
		"sealed twice to one":   {[]string{"seal", "--to", f("pub"), "--to", f("pub"), "--in", f("in"), "--out", f("o")}, exitFailed},
		"key file exists":       {[]string{"keygen", "--out", f("key"), "--pub", f("p2")}, exitFailed},
	} {
		if _, code := runSM(t, "", c.args...); code != c.want {
			t.Errorf("%s: exit %d, want %d", name, code, c.want)
		}
	}
	if read(t, f("key")) != key {
		t.Error("a key was replaced")
	}
}

// openssl runs the real tool.
func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	return string(out), err
}

func mustOpenssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := openssl(t, args...)
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func TestSMWithOpenssl(t *testing.T) {
	t.Parallel()
	f := files(t)
	mustOpenssl(t, "genpkey", "-algorithm", "SM2", "-out", f("their.key"))
	mustOpenssl(t, "pkey", "-in", f("their.key"), "-pubout", "-out", f("their.pub"))
	mustSM(t, "keygen", "--out", f("our.key"), "--pub", f("our.pub"))
	if got := mustOpenssl(t, "pkey", "-in", f("our.key"), "-pubout"); got != read(t, f("our.pub")) {
		t.Error("openssl derives another public key from our private key")
	}
	mustOpenssl(t, "pkey", "-in", f("our.key"), "-check", "-noout")
	write(t, f("in"), "a document that both sign")

	const id = "distid:1234567812345678"
	for _, key := range []string{"our", "their"} {
		mustSM(t, "sign", "--key", f(key+".key"), "--in", f("in"), "--out", f("sig"))
		mustOpenssl(t, "dgst", "-sm3", "-verify", f(key+".pub"), "-sigopt", id, "-signature", f("sig"), f("in"))
		mustOpenssl(t, "dgst", "-sm3", "-sign", f(key+".key"), "-sigopt", id, "-out", f("sig"), f("in"))
		mustSM(t, "verify", "--key", f(key+".pub"), "--in", f("in"), "--sig", f("sig"))
		mustOpenssl(t, "dgst", "-sm3", "-sign", f(key+".key"), "-sigopt", "distid:somebody-else", "-out", f("sig"), f("in"))
		if _, code := runSM(t, "", "verify", "--key", f(key+".pub"), "--in", f("in"), "--sig", f("sig")); code != exitUnverified {
			t.Errorf("a signature under another id: exit %d", code)
		}
	}
	theirs := mustOpenssl(t, "dgst", "-sm3", "-r", f("in"))
	if got := mustSM(t, "hash", f("in")); got[:64] != theirs[:64] {
		t.Errorf("hash %s, openssl %s", got, theirs)
	}
	mustSM(t, "seal", "--to", f("their.pub"), "--in", f("in"), "--out", f("sealed"))
	mustSM(t, "open", "--key", f("their.key"), "--in", f("sealed"), "--out", f("opened"))
	if read(t, f("opened")) != read(t, f("in")) {
		t.Error("sealed to openssl's key, opened to another text")
	}
}

// TestEnvelopeIsOpenToOthers opens the wrapped content key with openssl, so
// that an envelope does not depend on this program.
func TestEnvelopeIsOpenToOthers(t *testing.T) {
	t.Parallel()
	f := files(t)
	mustSM(t, "keygen", "--out", f("key"), "--pub", f("pub"))
	write(t, f("in"), "x")
	mustSM(t, "seal", "--to", f("pub"), "--in", f("in"), "--out", f("sealed"))
	sealed := []byte(read(t, f("sealed")))
	// The only recipient's wrapped key is a DER SEQUENCE that ends the header.
	end := 8 + int(sealed[6])<<8 + int(sealed[7])
	at := 8
	for ; at < end-3; at++ {
		if sealed[at] == 0x30 && sealed[at+1] == 0x81 && at+3+int(sealed[at+2]) == end {
			break
		}
	}
	write(t, f("wrapped"), string(sealed[at:end]))
	mustOpenssl(t, "pkeyutl", "-decrypt", "-inkey", f("key"), "-in", f("wrapped"), "-out", f("content"))
	if got := read(t, f("content")); len(got) != 32 {
		t.Errorf("a content key of %d bytes", len(got))
	}
}

// TestSMWritesWholeFiles: what cannot be opened to its end leaves the older file as
// it is, and nothing beside it.
func TestSMWritesWholeFiles(t *testing.T) {
	t.Parallel()
	f := files(t)
	mustSM(t, "keygen", "--out", f("key"), "--pub", f("pub"))
	write(t, f("in"), strings.Repeat("a document of several chunks\n", 20_000))
	mustSM(t, "seal", "--to", f("pub"), "--in", f("in"), "--out", f("sealed"))
	sealed := read(t, f("sealed"))
	write(t, f("out"), "older")
	if err := os.Chmod(f("out"), 0o640); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"cut": sealed[:len(sealed)/2], "changed at the end": sealed[:len(sealed)-1] + "x"} {
		write(t, f("bad"), content)
		if _, code := runSM(t, "", "open", "--key", f("key"), "--in", f("bad"), "--out", f("out")); code != exitUnverified {
			t.Errorf("%s: exit %d", name, code)
		}
		if got := read(t, f("out")); got != "older" {
			t.Errorf("%s: the output holds %d bytes", name, len(got))
		}
	}
	mustSM(t, "open", "--key", f("key"), "--in", f("sealed"), "--out", f("out"))
	info, err := os.Stat(f("out"))
	if err != nil || info.Mode().Perm() != 0o640 || read(t, f("out")) != read(t, f("in")) {
		t.Errorf("opened with mode %v, %v", info.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(f("out")), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestSMPipes seals and opens from standard input to standard output. What is cut
// is not called whole: the exit code says so, whatever went out before.
func TestSMPipes(t *testing.T) {
	t.Parallel()
	f := files(t)
	mustSM(t, "keygen", "--out", f("key"), "--pub", f("pub"))
	content := strings.Repeat("a document of several chunks\n", 10_000)
	sealed, code := runSM(t, content, "seal", "--to", f("pub"), "--in", "-", "--out", "-")
	if code != 0 || strings.Contains(sealed, "a document") {
		t.Fatalf("seal: exit %d, %d bytes", code, len(sealed))
	}
	open := []string{"open", "--key", f("key"), "--in", "-", "--out", "-"}
	if got, code := runSM(t, sealed, open...); code != 0 || got != content {
		t.Errorf("open: exit %d, %d bytes", code, len(got))
	}
	for _, n := range []int{0, 100, len(sealed) / 2, len(sealed) - 1} {
		got, code := runSM(t, sealed[:n], open...)
		if code == 0 || !strings.HasPrefix(content, got) || len(got) == len(content) {
			t.Errorf("cut to %d bytes: exit %d, %d bytes", n, code, len(got))
		}
	}
}

// TestSMTakesLargeFiles seals and opens more than an envelope in memory may hold.
// The file is sparse.
func TestSMTakesLargeFiles(t *testing.T) {
	t.Parallel()
	f := files(t)
	const size = envelope.MaxPlaintext + 1
	mustSM(t, "keygen", "--out", f("key"), "--pub", f("pub"))
	write(t, f("in"), "")
	if err := os.Truncate(f("in"), size); err != nil {
		t.Fatal(err)
	}
	mustSM(t, "seal", "--to", f("pub"), "--in", f("in"), "--out", f("sealed"))
	mustSM(t, "open", "--key", f("key"), "--in", f("sealed"), "--out", f("opened"))
	if want, got := mustSM(t, "hash", f("in")), mustSM(t, "hash", f("opened")); want[:64] != got[:64] {
		t.Error("opened to another document")
	}
}

// TestSMBoundsSmallFiles: what should be a key or a signature is not read beyond
// what one can have.
func TestSMBoundsSmallFiles(t *testing.T) {
	t.Parallel()
	f := files(t)
	mustSM(t, "keygen", "--out", f("key"), "--pub", f("pub"))
	write(t, f("in"), "x")
	mustSM(t, "sign", "--key", f("key"), "--in", f("in"), "--out", f("sig"))
	for _, name := range []string{"key", "pub", "sig"} {
		write(t, f("long."+name), read(t, f(name))+strings.Repeat("\n", 100_000))
	}
	for name, args := range map[string][]string{
		"private key": {"sign", "--key", f("long.key"), "--in", f("in"), "--out", f("o")},
		"public key":  {"verify", "--key", f("long.pub"), "--in", f("in"), "--sig", f("sig")},
		"signature":   {"verify", "--key", f("pub"), "--in", f("in"), "--sig", f("long.sig")},
	} {
		if _, code := runSM(t, "", args...); code != exitFailed {
			t.Errorf("%s: exit %d", name, code)
		}
	}
}
