package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

// pkiOffice is a root that has gone offline, an issuing CA, and the passphrase
// flags of either side.
type pkiOffice struct {
	path     func(string) string
	ca, dept []string
}

func newPKIOffice(t *testing.T) pkiOffice {
	t.Helper()
	path := pkiDir(t)
	o := pkiOffice{path: path, ca: []string{"--ca-passphrase-file", path("issuing.pass")}, dept: []string{"--passphrase-file", path("dept.pass")}}
	if err := os.WriteFile(path("issuing.pass"), []byte("of the issuing CA"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustPKI(t, "init", "--under", path("ca"), "--dir", path("issuing"), "--name", "信桥签发 1",
		"--passphrase-file", path("issuing.pass"), "--ca-passphrase-file", path("ca.pass"))
	if err := os.Rename(path("ca"), path("offline")); err != nil {
		t.Fatal(err)
	}
	return o
}

// csr makes a department's requests in a directory of its own.
func (o pkiOffice) csr(t *testing.T, dept, dir string, hosts ...string) {
	t.Helper()
	args := append([]string{"csr", "--dept", dept, "--keyring", o.path(dir + "/keys.xq"), "--out", o.path(dir)}, o.dept...)
	for _, h := range hosts {
		args = append(args, "--host", h)
	}
	mustPKI(t, args...)
}

func (o pkiOffice) args(verb, dept, dir string, more ...string) []string {
	args := append([]string{verb, "--ca", o.path("issuing"), "--dept", dept, "--csr", o.path(dir + "/sign.csr"), "--csr", o.path(dir + "/enc.csr"),
		"--out", o.path(dir)}, o.ca...)
	return append(args, more...)
}

// rows reads `pki list -o json`.
func (o pkiOffice) rows(t *testing.T) (rows []listed) {
	t.Helper()
	out, _ := mustPKI(t, "list", "--ca", o.path("issuing"), "-o", "json")
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

func (o pkiOffice) chain(t *testing.T, name string) []byte {
	t.Helper()
	chain, err := readCertificate(o.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// TestPKIBySigningRequest lives a department's life with an issuing CA: its keys
// never leave its keyring, and the root is not there.
func TestPKIBySigningRequest(t *testing.T) {
	t.Parallel()
	o := newPKIOffice(t)
	o.csr(t, "minzheng", "m", "node.example", "10.1.0.5")
	hosts := []string{"--host", "node.example", "--host", "10.1.0.5"}
	// Names in a request count for nothing until the operator has named them too.
	_, _, err := runPKI(t, o.args("issue", "minzheng", "m", hosts[:2]...)...)
	if exitCode(err) != exitDenied || !strings.Contains(err.Error(), "10.1.0.5") {
		t.Errorf("a name that is not accepted: exit %d, %v", exitCode(err), err)
	}
	_, told := mustPKI(t, o.args("issue", "minzheng", "m", hosts...)...)
	keys, err := keyring.Open(o.path("m/keys.xq"), []byte("of the department"), gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	if fingerprint := cert.KeyFingerprint(keys.EncPublic()); !strings.Contains(told, fingerprint) || !strings.Contains(told, "node.example,10.1.0.5") {
		t.Errorf("the operator is not shown what he grants: %s", told)
	}
	root := o.chain(t, "m/root.pem")
	for name, want := range map[string]cert.Identity{
		"m/sign.pem": {Usage: cert.Signing, Key: keys.SignPublic()}, "m/enc.pem": {Usage: cert.Encryption, Key: keys.EncPublic()},
	} {
		chain := o.chain(t, name)
		id, err := cert.Verify(root, chain, time.Now())
		if err != nil || id.Dept != "minzheng" || id.Usage != want.Usage || id.Key != want.Key || cert.Issuer(chain) == nil {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	rows := o.rows(t)
	if len(rows) != 2 || rows[0].Status != "valid" || *rows[0].DaysLeft != 729 || strings.Join(rows[1].Hosts, " ") != "node.example 10.1.0.5" {
		t.Errorf("list: %+v", rows)
	}
	// The files in the wrong order: requests of pki csr say which key they are for.
	o.csr(t, "shuiwu", "s")
	swapped := o.args("issue", "shuiwu", "s")
	at := slices.Index(swapped, o.path("s/sign.csr"))
	swapped[at], swapped[at+2] = swapped[at+2], swapped[at]
	mustPKI(t, swapped...)
	if id, err := cert.Inspect(o.chain(t, "s/sign.pem")); err != nil || id.Usage != cert.Signing {
		t.Errorf("%+v, %v", id, err)
	}
	out, hints := mustPKI(t, "show", o.path("m/sign.pem"), o.path("m/enc.csr"), o.path("issuing/issuing.pem"))
	if strings.Count(out, "\n") != 5 || !strings.Contains(out, "信桥签发 1") || !strings.Contains(hints, "pki issue") {
		t.Errorf("show:\n%s%s", out, hints)
	}
}

// TestPKIDenies has a CA asked for what it must not give.
func TestPKIDenies(t *testing.T) {
	t.Parallel()
	o := newPKIOffice(t)
	o.csr(t, "minzheng", "m")
	mustPKI(t, o.args("issue", "minzheng", "m")...)
	before := o.rows(t)
	write := func(name string, b []byte) {
		if err := os.MkdirAll(filepath.Dir(o.path(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(o.path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := keyring.Open(o.path("m/keys.xq"), []byte("of the department"), gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	// minzheng's keys, asked for by gongan; and minzheng's keys the other way round.
	for dir, f := range map[string]*csrFlags{"g": {dept: "gongan"}} {
		sign, enc, err := newestKeys(keys)
		if err != nil {
			t.Fatal(err)
		}
		files, err := f.requests(sign, enc)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			write(dir+"/"+file.name, file.content)
		}
	}
	der, err := cert.NewCSR("minzheng", cert.Encryption, nil, keys.TLSSigner())
	if err != nil {
		t.Fatal(err)
	}
	write("x/enc.csr", cert.EncodeCSR(der))
	fresh, err := keyring.Generate(gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	if der, err = cert.NewCSR("minzheng", cert.Signing, nil, fresh.TLSSigner()); err != nil {
		t.Fatal(err)
	}
	write("x/sign.csr", cert.EncodeCSR(der))
	read := func(name string) []byte {
		b, err := os.ReadFile(o.path(name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write("one/sign.csr", read("m/sign.csr"))
	write("one/enc.csr", read("m/sign.csr"))
	write("bad/sign.csr", read("m/sign.csr"))
	write("bad/enc.csr", []byte("-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"))
	write("cert/sign.csr", read("m/sign.pem"))
	write("cert/enc.csr", read("m/enc.csr"))
	write("big/sign.csr", make([]byte, 2<<20))
	write("big/enc.csr", read("m/enc.csr"))
	for name, test := range map[string]struct {
		args []string
		exit int
		kind error
	}{
		"another department's keys": {o.args("issue", "gongan", "g"), exitDenied, errKeyTaken},
		"another's request":         {o.args("issue", "gongan", "m"), exitDenied, nil},
		"a signing key to encrypt":  {o.args("issue", "minzheng", "x"), exitDenied, errKeyTaken},
		"one key for both":          {o.args("issue", "minzheng", "one"), exitUsage, cert.ErrRequest},
		"not a request":             {o.args("issue", "minzheng", "bad"), exitUnverified, cert.ErrCSR},
		"a certificate":             {o.args("issue", "minzheng", "cert"), exitFailed, cert.ErrFile},
		"a huge file":               {o.args("issue", "minzheng", "big"), exitFailed, cert.ErrFile},
		"no such file":              {o.args("issue", "minzheng", "none"), exitFailed, os.ErrNotExist},
		"one request":               {append([]string{"issue", "--ca", o.path("issuing"), "--dept", "minzheng", "--csr", o.path("m/sign.csr"), "--out", o.path("m")}, o.ca...), exitUsage, nil},
		"request and keyring":       {o.args("issue", "minzheng", "m", "--keyring", o.path("m/keys.xq")), exitUsage, nil},
		"renewed too early":         {o.args("renew", "minzheng", "m"), exitDenied, nil},
		"nothing to renew":          {o.args("renew", "gongan", "m"), exitFailed, nil},
		"revoked for no reason":     {[]string{"revoke", "--ca", o.path("issuing"), "--serial", "1"}, exitUsage, nil},
		"revoked on a whim":         {[]string{"revoke", "--ca", o.path("issuing"), "--serial", "1", "--reason", "certificateHold"}, exitUsage, nil},
		"refreshed and revoked":     {[]string{"revoke", "--ca", o.path("issuing"), "--serial", "1", "--refresh"}, exitUsage, nil},
		"an unknown serial":         {[]string{"revoke", "--ca", o.path("issuing"), "--serial", "1", "--reason", "superseded", "--passphrase-file", o.path("issuing.pass")}, exitFailed, nil},
		"no CA's directory":         {[]string{"list", "--ca", o.path("m/nowhere")}, exitFailed, os.ErrNotExist},
		"list as XML":               {[]string{"list", "--ca", o.path("issuing"), "-o", "xml"}, exitUsage, nil},
		"a CA below an issuing CA":  {[]string{"init", "--under", o.path("issuing"), "--dir", o.path("third"), "--name", "third", "--passphrase-file", o.path("issuing.pass")}, exitUsage, cert.ErrRequest},
	} {
		_, _, err := runPKI(t, test.args...)
		if exitCode(err) != test.exit || test.kind != nil && !errors.Is(err, test.kind) {
			t.Errorf("%s: exit %d, %v", name, exitCode(err), err)
		}
	}
	// A name that the root does not certify: nothing stands in the way of the next try.
	again := []string{"init", "--under", o.path("offline"), "--dir", o.path("again"), "--passphrase-file", o.path("issuing.pass"), "--ca-passphrase-file", o.path("ca.pass")}
	if _, _, err := runPKI(t, append(again, "--name", "信桥根")...); exitCode(err) != exitUsage || !errors.Is(err, cert.ErrRequest) {
		t.Errorf("an issuing CA of the root's name: exit %d, %v", exitCode(err), err)
	}
	mustPKI(t, append(again, "--name", "信桥签发 2")...)
	if after := o.rows(t); len(after) != len(before) {
		t.Errorf("%d certificates are on the register, %d were", len(after), len(before))
	}
	if _, err := os.Stat(o.path("third")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused init left files behind: %v", err)
	}
	if _, err := os.Stat(o.path("issuing/crl.pem")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused revocation left a list behind: %v", err)
	}
}

func TestPKIRevokeAndRenew(t *testing.T) {
	t.Parallel()
	o := newPKIOffice(t)
	o.csr(t, "minzheng", "m", "10.1.0.5")
	mustPKI(t, o.args("issue", "minzheng", "m", "--host", "10.1.0.5", "--days", "30")...)
	old := o.chain(t, "m/sign.pem")
	_, hints := mustPKI(t, "list", "--ca", o.path("issuing"))
	if !strings.Contains(hints, "pki renew") {
		t.Errorf("an end in 30 days is not urged: %q", hints)
	}
	// The names come from the register: the requests' names need no --host again.
	_, hints = mustPKI(t, o.args("renew", "minzheng", "m", "--early")...)
	if strings.Count(hints, "holds until") != 2 || !strings.Contains(hints, "xinqiao renew") {
		t.Errorf("renew tells: %s", hints)
	}
	renewed := o.chain(t, "m/sign.pem")
	root := o.chain(t, "m/root.pem")
	for name, chain := range map[string][]byte{"old": old, "new": renewed} {
		if _, err := cert.Verify(root, chain, time.Now()); err != nil {
			t.Errorf("%s certificate after the renewal: %v", name, err)
		}
	}
	if d, err := cert.Describe(renewed); err != nil || strings.Join(d.Hosts, " ") != "10.1.0.5" {
		t.Errorf("renewed for %v, %v", d.Hosts, err)
	}
	if _, hints := mustPKI(t, "list", "--ca", o.path("issuing")); strings.Contains(hints, "pki renew") {
		t.Errorf("a renewed department is urged to renew: %q", hints)
	}

	id, err := cert.Inspect(old)
	if err != nil {
		t.Fatal(err)
	}
	revoke := func(more ...string) (string, error) {
		_, hints, err := runPKI(t, append([]string{"revoke", "--ca", o.path("issuing"), "--passphrase-file", o.path("issuing.pass")}, more...)...)
		return hints, err
	}
	hints, err = revoke("--serial", strings.ToUpper(id.Serial), "--reason", "keyCompromise")
	renewedID, inspectErr := cert.Inspect(renewed)
	if err != nil || inspectErr != nil || !strings.Contains(hints, "ledger") || !strings.Contains(hints, "--refresh") || !strings.Contains(hints, renewedID.Serial) {
		t.Errorf("revoke tells %q, %v", hints, err)
	}
	if _, _, err := runPKI(t, o.args("issue", "minzheng", "m", "--host", "10.1.0.5")...); exitCode(err) != exitDenied || !errors.Is(err, errKeyCompromised) {
		t.Errorf("a key that others may have is certified again: exit %d, %v", exitCode(err), err)
	}
	list := func() *cert.Revocations {
		t.Helper()
		file, err := os.ReadFile(o.path("issuing/crl.pem"))
		if err != nil {
			t.Fatal(err)
		}
		ders, err := cert.DecodeRevocations(file)
		if err != nil || len(ders) != 1 {
			t.Fatalf("%d lists, %v", len(ders), err)
		}
		r, err := cert.ParseRoot(root)
		if err != nil {
			t.Fatal(err)
		}
		l, err := cert.ParseRevocations(r, ders[0], time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := list()
	if one, ok := first.Revoked(old); !ok || one.Reason != cert.KeyCompromise {
		t.Errorf("the list does not have it: %+v", first)
	}
	if _, ok := first.Revoked(renewed); ok {
		t.Error("the renewed certificate is revoked with the old one")
	}
	if _, err := revoke("--serial", id.Serial, "--reason", "keyCompromise"); exitCode(err) != exitFailed {
		t.Errorf("revoked twice: %v", err)
	}
	if _, err := revoke("--refresh"); err != nil {
		t.Error(err)
	}
	if next := list(); next.Number != first.Number+1 || len(next.List) != 1 {
		t.Errorf("refreshed list %+v", next)
	}
	// A list that is lost does not take the numbers with it.
	if err := os.Remove(o.path("issuing/crl.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := revoke("--refresh", "--days", "3"); err != nil || list().Number != first.Number+2 {
		t.Errorf("%+v, %v", list(), err)
	}
	out, hints := mustPKI(t, "list", "--ca", o.path("issuing"))
	if !strings.Contains(out, "revoked (keyCompromise)") || !strings.Contains(hints, "--refresh") {
		t.Errorf("list:\n%s%s", out, hints)
	}
	out, _ = mustPKI(t, "show", "-o", "json", o.path("issuing/crl.pem"))
	var rows []shown
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 1 || rows[0].Number != first.Number+2 || len(rows[0].Revoked) != 1 {
		t.Errorf("show: %v\n%s", err, out)
	}
}

// TestPKIRegisterAfterACrash cuts the register's last line short.
func TestPKIRegisterAfterACrash(t *testing.T) {
	t.Parallel()
	o := newPKIOffice(t)
	o.csr(t, "minzheng", "m")
	mustPKI(t, o.args("issue", "minzheng", "m")...)
	file := o.path("issuing/issued")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	torn := lines[1][:100]
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(append(bytes.Clone(lines[0]), torn...))
	out, told := mustPKI(t, "list", "--ca", o.path("issuing"))
	if strings.Count(out, "\n") != 2 || told == "" {
		t.Errorf("list of a torn register: %q\n%s", told, out)
	}
	if b, _ := os.ReadFile(file); len(b) != len(lines[0])+len(torn) {
		t.Error("listing changed the register")
	}
	_, told = mustPKI(t, o.args("issue", "minzheng", "m")...)
	aside, err := filepath.Glob(file + ".torn-*")
	if err != nil || len(aside) != 1 || !strings.Contains(told, aside[0]) {
		t.Fatalf("torn lines %v, told %q", aside, told)
	}
	if b, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(b, torn) {
		t.Errorf("put aside %q, %v", b, err)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(b, lines[0]) || bytes.Count(b, []byte("\n")) != 3 {
		t.Errorf("register: %v\n%s", err, b)
	}
	// Only the line's end is missing: nothing is lost and nothing put aside.
	write(bytes.TrimSuffix(whole, []byte("\n")))
	mustPKI(t, o.args("issue", "minzheng", "m")...)
	if b, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(b, whole) || bytes.Count(b, []byte("\n")) != 4 {
		t.Errorf("register: %v\n%s", err, b)
	}
	// Damage in the middle is nobody's to mend without a backup.
	write(append([]byte("x"), whole...))
	if _, _, err := runPKI(t, o.args("issue", "minzheng", "m")...); exitCode(err) != exitUnverified || !errors.Is(err, cert.ErrRegister) {
		t.Errorf("damaged: exit %d, %v", exitCode(err), err)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, append([]byte("x"), whole...)) {
		t.Errorf("a damaged register was changed: %v", err)
	}
	write(whole)
	r, err := openRegister(o.path("issuing"), os.Stderr, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := runPKI(t, o.args("issue", "minzheng", "m")...); !errors.Is(err, errRegisterBusy) {
		t.Errorf("two at one register: %v", err)
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}
