package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

// issueFlags are the flags of `pki issue`, and of `pki renew`.
type issueFlags struct {
	ca, dept, keyring, out           string
	hosts, csr                       []string
	days                             int
	licensed                         licensedFlags
	web                              bool
	passphraseFile, caPassphraseFile string
}

func newPKIIssue() *cobra.Command {
	var f issueFlags
	cmd := &cobra.Command{
		Use:   "issue --ca DIR --out DIR (--dept D (--csr FILE --csr FILE | --keyring FILE) | --web --host H)",
		Short: "Issue a department's two certificates, or a web certificate",
		Long: `Issue a department's signing and encryption certificates for the keys of its two
signing requests (see pki csr), whose names must all be accepted with --host; with
--licensed-ca, only if a licensed CA has certified the same keys for it before; in
a small exchange, where the CA has the department's keyring at hand, for its keys,
and the keyring is made if it is missing. With --web, issue a P-256 certificate and
key for the addresses at which a department's own systems reach its node.`,
		Example: `  xinqiao pki issue --ca issuing --dept minzheng --csr sign.csr --csr enc.csr --host 10.1.0.5 --out minzheng
  xinqiao pki issue --ca ca --dept minzheng --keyring minzheng/keys.xq --out minzheng --host 10.1.0.5
  xinqiao pki issue --ca ca --web --host node.minzheng.example --out minzheng`,
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE:    func(cmd *cobra.Command, _ []string) error { return pkiError(f.run(cmd, time.Now())) },
	}
	f.define(cmd)
	cmd.Flags().BoolVar(&f.web, "web", false, "issue a P-256 web certificate instead")
	return cmd
}

// define declares the flags that issuing and renewing have in common.
func (f *issueFlags) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.ca, "ca", "", "the CA's directory")
	flags.StringVar(&f.out, "out", "", "directory for the certificates, made if missing; older ones are replaced")
	flags.StringVar(&f.dept, "dept", "", "the department's name in the exchange")
	flags.StringArrayVar(&f.csr, "csr", nil, "signing request; twice, the signing key's first")
	flags.StringVar(&f.keyring, "keyring", "", "the department's keyring, instead of requests")
	flags.StringArrayVar(&f.hosts, "host", nil, "host name or IP address of the node; may be repeated")
	f.licensed.define(cmd, true)
	flags.IntVar(&f.days, "days", pkiDays, "days until the certificates expire")
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase of the department's keyring")
	flags.StringVar(&f.caPassphraseFile, "ca-passphrase-file", "", "file with the passphrase of the CA's keyring, if it is another")
	mustRequire(cmd, "ca", "out")
}

func (f *issueFlags) run(cmd *cobra.Command, now time.Time) error {
	if f.web {
		if len(f.hosts) == 0 || f.dept != "" || f.keyring != "" || len(f.csr) > 0 {
			return usageError(cmd, errors.New("--web goes with at least one --host, and without --dept, --csr and --keyring"))
		}
		if err := f.checkDays(cmd); err != nil {
			return err
		}
		return f.issueWeb(cmd, now)
	}
	if err := f.check(cmd); err != nil {
		return err
	}
	o, keys, err := f.open(cmd, now)
	if err != nil {
		return err
	}
	defer o.close()
	g, err := f.grant(cmd, keys, now)
	if err != nil {
		return err
	}
	chains, err := o.issue(g, now)
	if err != nil {
		return err
	}
	if err := o.deliver(f.out, chains); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "issued %s and %s in %s for %s; older certificates stay valid until the ledger withdraws them\n",
		pkiSign, pkiEnc, f.out, f.dept)
	return nil
}

func (f *issueFlags) checkDays(cmd *cobra.Command) error {
	if f.days < 1 || f.days > 3660 {
		return usageError(cmd, errors.New("--days must be 1 to 3660"))
	}
	return nil
}

// check holds the flags of certificates for a department.
func (f *issueFlags) check(cmd *cobra.Command) error {
	switch {
	case f.dept == "" || (f.keyring == "") == (len(f.csr) == 0):
		return usageError(cmd, errors.New("--dept, and either --csr twice or --keyring, are needed"))
	case len(f.csr) != 0 && len(f.csr) != 2:
		return usageError(cmd, errors.New("--csr is needed twice: for the signing key, and for the encryption key"))
	}
	if err := f.licensed.check(cmd, true); err != nil {
		return err
	}
	return f.checkDays(cmd)
}

func (f *issueFlags) issueWeb(cmd *cobra.Command, now time.Time) error {
	caCert, err := os.ReadFile(filepath.Join(f.ca, pkiWebCA))
	if err != nil {
		return err
	}
	caKey, err := os.ReadFile(filepath.Join(f.ca, pkiWebCAKey))
	if err != nil {
		return err
	}
	webCert, webKey, err := cert.IssueWeb(caCert, caKey, f.hosts, now, days(f.days))
	if err != nil {
		return err
	}
	if err := writeFiles(f.out, []file{{pkiWebKey, 0o600, webKey}, {pkiWeb, 0o644, webCert}}); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "issued %s; callers trust it by %s\n", filepath.Join(f.out, pkiWeb), filepath.Join(f.ca, pkiWebCA))
	return nil
}

// open opens the CA, and then the department's keyring if it is at hand: a CA that
// does not open leaves no new keyring behind. The caller closes the CA.
func (f *issueFlags) open(cmd *cobra.Command, now time.Time) (*office, *keyring.Keyring, error) {
	if f.keyring == "" {
		passphrase, err := readPassphrase(f.caPassphraseFile, envCAPassphrase, envPassphrase)
		if err != nil {
			return nil, nil, err
		}
		o, err := openOffice(f.ca, passphrase, cmd.ErrOrStderr(), now)
		return o, nil, err
	}
	passphrase, err := readPassphrase(f.passphraseFile, envPassphrase)
	if err != nil {
		return nil, nil, err
	}
	above, err := caPassphrase(f.caPassphraseFile, passphrase)
	if err != nil {
		return nil, nil, err
	}
	o, err := openOffice(f.ca, above, cmd.ErrOrStderr(), now)
	if err != nil {
		return nil, nil, err
	}
	keys, err := openKeyring(cmd, f.keyring, passphrase)
	if err != nil {
		o.close()
		return nil, nil, err
	}
	return o, keys, nil
}

// grant reads what is asked for, and on whose word.
func (f *issueFlags) grant(cmd *cobra.Command, keys *keyring.Keyring, now time.Time) (g grant, err error) {
	if g, err = f.requests(cmd, keys); err == nil {
		g.licensed, err = f.licensed.verify(cmd, g, now)
	}
	return g, err
}

func (f *issueFlags) requests(cmd *cobra.Command, keys *keyring.Keyring) (grant, error) {
	request := func(usage cert.Usage, key gm.PublicKey) cert.Request {
		return cert.Request{Dept: f.dept, Usage: usage, Key: key, Hosts: f.hosts, Lifetime: days(f.days)}
	}
	if keys != nil {
		sign, enc, err := newestKeys(keys)
		if err != nil {
			return grant{}, err
		}
		return grant{sign: request(cert.Signing, sign.Public()), enc: request(cert.Encryption, enc.Public())}, nil
	}
	sign, enc, err := pairCSR(f.csr)
	if err != nil {
		return grant{}, err
	}
	if err := errors.Join(f.accept(cmd, cert.Signing, sign), f.accept(cmd, cert.Encryption, enc)); err != nil {
		return grant{}, exitError{exitDenied, err}
	}
	return grant{sign: request(cert.Signing, sign.Key), enc: request(cert.Encryption, enc.Key)}, nil
}

// accept shows a request to the CA's operator and holds it to what he asked for.
func (f *issueFlags) accept(cmd *cobra.Command, usage cert.Usage, csr cert.CSR) error {
	fmt.Fprintln(cmd.ErrOrStderr(), shownCSR(usage, csr))
	if csr.Dept != f.dept {
		return fmt.Errorf("the %s request is %s's, not %s's", usage, csr.Dept, f.dept)
	}
	if refused := refusedHosts(csr, f.hosts); len(refused) > 0 {
		return &hintError{fmt.Errorf("the %s request asks for names that are not accepted: %s", usage, strings.Join(refused, ", ")),
			"if the department's node is reached by them, accept them: --host " + strings.Join(refused, " --host ")}
	}
	return nil
}

// openKeyring opens a department's keyring, or makes it.
func openKeyring(cmd *cobra.Command, path string, passphrase []byte) (*keyring.Keyring, error) {
	keys, err := keyring.Open(path, passphrase, gm.Emmansun())
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if keys, err = keyring.CreateFrom(path, passphrase, gm.Emmansun(), keyring.First{At: time.Now()}); err != nil {
		return nil, err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "made %s: back it up, nothing can replace it\n", path)
	return keys, nil
}
