package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

const (
	pkiRootYears    = 20
	pkiIssuingYears = 5
)

// initFlags are the flags of `pki init`.
type initFlags struct {
	dir, name, under                 string
	passphraseFile, caPassphraseFile string
}

func newPKIInit() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init --dir DIR --name NAME [--under ROOT]",
		Short: "Make the exchange's root, or an issuing CA under it, in a new directory",
		Long: `Make the exchange's root certificate and its keyring in a new directory; or, with
--under, an issuing CA with a keyring of its own, which the root in that other
directory certifies. Then the root's directory goes offline: it is needed again
for the next issuing CA, or to revoke one. Either directory has a web CA too.`,
		Example: `  xinqiao pki init --dir root --name '信桥根 2026' --passphrase-file root.pass
  xinqiao pki init --under root --dir issuing --name '信桥签发 2026' --passphrase-file issuing.pass --ca-passphrase-file root.pass`,
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE:    func(cmd *cobra.Command, _ []string) error { return pkiError(f.run(cmd, time.Now())) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "", "the new CA's directory, made if missing")
	flags.StringVar(&f.name, "name", "", "the name in the new CA's certificate")
	flags.StringVar(&f.under, "under", "", "make an issuing CA under the root in this directory")
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase of the new CA's keyring")
	flags.StringVar(&f.caPassphraseFile, "ca-passphrase-file", "", "with --under: file with the passphrase of the root's keyring, if it is another")
	mustRequire(cmd, "dir", "name")
	return cmd
}

func (f *initFlags) run(cmd *cobra.Command, now time.Time) error {
	if f.under != "" {
		return f.initIssuing(cmd, now)
	}
	if f.caPassphraseFile != "" {
		return usageError(cmd, fmt.Errorf("--ca-passphrase-file goes with --under"))
	}
	passphrase, err := readPassphrase(f.passphraseFile, envCAPassphrase, envPassphrase)
	if err != nil {
		return err
	}
	if err := f.initRoot(passphrase, now); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "made %s: give %s to every department and keep the rest to yourself\n"+
		"next: xinqiao pki init --under %s --dir DIR --name NAME, and take %s offline;\n"+
		"or, in a small exchange, issue with the root: xinqiao pki issue --ca %s --dept NAME --keyring FILE --out DIR\n",
		f.dir, pkiRoot, f.dir, f.dir, f.dir)
	return nil
}

// create makes the new CA's directory, and its keyring last of all: if the web CA
// cannot be made, no keyring is left behind.
func (f *initFlags) create(passphrase []byte, now time.Time) (*keyring.Keyring, []file, error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, nil, err
	}
	webCert, webKey, err := cert.NewWebCA(f.name, now, years(now, pkiRootYears))
	if err != nil {
		return nil, nil, err
	}
	keys, err := keyring.CreateFrom(filepath.Join(f.dir, pkiKeyring), passphrase, gm.Emmansun(), keyring.First{At: now})
	return keys, []file{{pkiWebCA, 0o644, webCert}, {pkiWebCAKey, 0o600, webKey}}, err
}

func (f *initFlags) initRoot(passphrase []byte, now time.Time) error {
	keys, files, err := f.create(passphrase, now)
	if err != nil {
		return err
	}
	_, root, err := cert.NewCA(f.name, keys.TLSSigner(), now, years(now, pkiRootYears))
	if err != nil {
		return err
	}
	return writeFiles(f.dir, append(files, file{pkiRoot, 0o644, cert.EncodePEM(root)}))
}

func (f *initFlags) initIssuing(cmd *cobra.Command, now time.Time) (err error) {
	passphrase, err := readPassphrase(f.passphraseFile, envPassphrase)
	if err != nil {
		return err
	}
	above, err := caPassphrase(f.caPassphraseFile, passphrase)
	if err != nil {
		return err
	}
	root, err := openOffice(f.under, above, cmd.ErrOrStderr(), now)
	if err != nil {
		return err
	}
	defer root.close()
	if root.Issuing() != nil {
		return fmt.Errorf("%w: %s is an issuing CA, and only the root makes one", cert.ErrRequest, f.under)
	}
	keys, files, err := f.create(passphrase, now)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // a keyring that nothing certifies would stand in the way of the next try
			err = errors.Join(err, os.Remove(filepath.Join(f.dir, pkiKeyring)))
		}
	}()
	der, err := root.IssueCA(f.name, keys.SignPublic(), now, years(now, pkiIssuingYears))
	if err != nil {
		return err
	}
	record, err := cert.RecordOf(der, now)
	if err != nil {
		return err
	}
	if err := root.register.add(record); err != nil {
		return err
	}
	files = append(files, file{pkiIssuing, 0o644, cert.EncodePEM(der)}, file{pkiRoot, 0o644, cert.EncodePEM(root.Root().DER())})
	if err := writeFiles(f.dir, files); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "made %s until %s: back up %s, then take it offline\n"+
		"next: xinqiao pki issue --ca %s --dept NAME --csr SIGN.csr --csr ENC.csr --out DIR\n",
		f.dir, localTime(record.Until), f.under, f.dir)
	return nil
}

func years(now time.Time, n int) time.Duration { return now.AddDate(n, 0, 0).Sub(now) }
