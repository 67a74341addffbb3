package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"xinqiao/crypto/cert"
)

// TestPKILicensed has openssl play a licensed CA, with a CA between its root and the
// department, whose keys the exchange then certifies once more.
func TestPKILicensed(t *testing.T) {
	t.Parallel()
	const sigopt, id = "-sigopt", "distid:1234567812345678"
	o := newPKIOffice(t)
	o.csr(t, "minzheng", "m")
	p := o.path
	if err := os.Mkdir(p("l"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(p(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
	const leaf = "basicConstraints=critical,CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
	write("l/ca.ext", ca+"authorityKeyIdentifier=keyid\n")
	write("l/sign.ext", leaf+"keyUsage=critical,digitalSignature,nonRepudiation\n")
	write("l/enc.ext", leaf+"keyUsage=critical,keyEncipherment,dataEncipherment,keyAgreement\n")
	for _, name := range []string{"root", "sub"} {
		mustOpenssl(t, "genpkey", "-algorithm", "SM2", "-out", p("l/"+name+".key"))
	}
	mustOpenssl(t, "req", "-x509", "-new", "-key", p("l/root.key"), "-sm3", sigopt, id, "-subj", "/C=CN/O=licensed/CN=licensed root", "-days", "3000",
		"-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", p("l/root.pem"))
	mustOpenssl(t, "req", "-new", "-key", p("l/sub.key"), "-sm3", sigopt, id, "-subj", "/C=CN/O=licensed/CN=licensed sub", "-out", p("l/sub.csr"))
	certify := func(csr, above, subject, ext, out string) {
		t.Helper()
		mustOpenssl(t, "x509", "-req", "-in", p(csr), "-CA", p("l/"+above+".pem"), "-CAkey", p("l/"+above+".key"), "-CAcreateserial", "-sm3",
			sigopt, id, "-vfyopt", id, "-subj", subject, "-days", "1000", "-extfile", p("l/"+ext+".ext"), "-out", p("l/"+out+".pem"))
	}
	certify("l/sub.csr", "root", "/C=CN/O=licensed/CN=licensed sub", "ca", "sub")
	for _, usage := range []string{"sign", "enc"} {
		certify("m/"+usage+".csr", "sub", "/C=CN/O=Bureau of Civil Affairs/CN=minzheng", usage, usage)
	}
	certify("m/enc.csr", "sub", "/CN=somebody", "sign", "swapped")
	o.csr(t, "gongan", "g")
	certify("g/sign.csr", "sub", "/CN=gongan", "sign", "other")

	licensed := func(sign, enc, root, between string) []string {
		args := []string{"--licensed-sign", p(sign), "--licensed-enc", p(enc)}
		if between != "" {
			args = append(args, "--licensed-chain", p(between))
		}
		if root != "" {
			args = append(args, "--licensed-ca", p(root))
		}
		return args
	}
	csr := append([]string{"csr", "--dept", "minzheng", "--keyring", p("m/keys.xq"), "--out", p("m")}, o.dept...)
	_, told := mustPKI(t, append(csr, licensed("l/sign.pem", "l/enc.pem", "", "l/sub.pem")...)...)
	if !strings.Contains(told, "--licensed-chain "+pkiLicensedChain) {
		t.Errorf("csr tells %s", told)
	}
	_, told = mustPKI(t, o.args("issue", "minzheng", "m", licensed("m/"+pkiLicensedSign, "m/"+pkiLicensedEnc, "l/root.pem", "m/"+pkiLicensedChain)...)...)
	if !strings.Contains(told, "Bureau of Civil Affairs") {
		t.Errorf("the operator is not shown the licensed subject: %s", told)
	}
	rows := o.rows(t)
	if len(rows) != 2 || rows[0].Licensed == nil || rows[1].Licensed == nil || !strings.Contains(rows[1].Licensed.Subject, "Bureau of Civil Affairs") ||
		rows[0].Licensed.Fingerprint == rows[1].Licensed.Fingerprint {
		t.Errorf("register: %+v", rows)
	}
	if _, err := cert.Inspect(o.chain(t, "m/sign.pem")); err != nil {
		t.Errorf("what is issued is not of the exchange's profile: %v", err)
	}
	for name, test := range map[string]struct {
		args []string
		exit int
		kind error
	}{
		"another root":       {licensed("l/sign.pem", "l/enc.pem", "offline/root.pem", "l/sub.pem"), exitUnverified, cert.ErrLicensed},
		"without the CA":     {licensed("l/sign.pem", "l/enc.pem", "l/root.pem", ""), exitUnverified, cert.ErrLicensed},
		"swapped":            {licensed("l/enc.pem", "l/sign.pem", "l/root.pem", "l/sub.pem"), exitUnverified, cert.ErrLicensed},
		"one for both":       {licensed("l/sign.pem", "l/sign.pem", "l/root.pem", "l/sub.pem"), exitUnverified, cert.ErrLicensed},
		"another's":          {licensed("l/other.pem", "l/enc.pem", "l/root.pem", "l/sub.pem"), exitUnverified, errLicensedKey},
		"of the other key":   {licensed("l/swapped.pem", "l/enc.pem", "l/root.pem", "l/sub.pem"), exitUnverified, errLicensedKey},
		"the exchange's own": {licensed("m/sign.pem", "l/enc.pem", "l/root.pem", "l/sub.pem"), exitFailed, nil},
		"no root":            {licensed("l/sign.pem", "l/enc.pem", "", "l/sub.pem"), exitUsage, nil},
		"half of them":       {[]string{"--licensed-sign", p("l/sign.pem"), "--licensed-ca", p("l/root.pem")}, exitUsage, nil},
	} {
		_, _, err := runPKI(t, o.args("issue", "minzheng", "m", test.args...)...)
		if code := exitCode(err); test.exit == exitFailed && code == 0 || test.exit != exitFailed && code != test.exit || test.kind != nil && !errors.Is(err, test.kind) {
			t.Errorf("%s: exit %d, %v", name, exitCode(err), err)
		}
	}
	if _, _, err := runPKI(t, append(csr, licensed("l/other.pem", "l/enc.pem", "", "")...)...); !errors.Is(err, errLicensedKey) {
		t.Errorf("csr with another's licensed certificate: %v", err)
	}
	if got := o.rows(t); len(got) != 2 {
		t.Errorf("%d certificates on the register after refusals", len(got))
	}
}
