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
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

// Files of a CA's directory and of a department's.
const (
	pkiKeyring   = "keys.xq"
	pkiRoot      = "root.pem"
	pkiWebCA     = "web-ca.pem"
	pkiWebCAKey  = "web-ca.key"
	pkiSign      = "sign.pem"
	pkiEnc       = "enc.pem"
	pkiWeb       = "web.pem"
	pkiWebKey    = "web.key"
	pkiRootYears = 20
	pkiDays      = 730
	pkiNearEnd   = 60 * 24 * time.Hour // when `pki show` begins to urge
)

// newPKICommand returns `xinqiao pki`: the exchange's certificates.
func newPKICommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pki",
		Short: "Make, issue and show certificates",
		Long: `Make, issue and show certificates: the exchange's SM2 root and the signing and
encryption certificates of departments, and P-256 certificates for the browsers,
scripts and monitoring of one department.

A keyring's passphrase is read from --passphrase-file or XINQIAO_PASSPHRASE, the
CA's from --ca-passphrase-file or XINQIAO_CA_PASSPHRASE where it is another.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(usageError)
	cmd.AddCommand(newPKIInit(), newPKIIssue(), newPKIShow())
	return cmd
}

func newPKIInit() *cobra.Command {
	var dir, name, passphraseFile string
	cmd := &cobra.Command{
		Use:     "init --dir DIR --name NAME",
		Short:   "Make the exchange's root and a web CA in a new directory",
		Example: "  xinqiao pki init --dir ca --name '信桥根 2026' --passphrase-file ca.pass",
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE: func(cmd *cobra.Command, _ []string) error {
			passphrase, err := readPassphrase(passphraseFile, "XINQIAO_CA_PASSPHRASE", "XINQIAO_PASSPHRASE")
			if err != nil {
				return err
			}
			if err := initPKI(dir, name, passphrase, time.Now()); err != nil {
				return pkiError(err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "made %s: give %s to every department and keep the rest offline\n"+
				"next: xinqiao pki issue --ca %s --dept NAME --keyring FILE --out DIR\n", dir, pkiRoot, dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the CA's directory, made if missing")
	cmd.Flags().StringVar(&name, "name", "", "the name in the root certificate")
	cmd.Flags().StringVar(&passphraseFile, "passphrase-file", "", "file with the passphrase of the CA's keyring")
	mustRequire(cmd, "dir", "name")
	return cmd
}

func initPKI(dir, name string, passphrase []byte, now time.Time) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	life := now.AddDate(pkiRootYears, 0, 0).Sub(now)
	// The web CA comes first: if it cannot be made, no keyring is left behind.
	webCert, webKey, err := cert.NewWebCA(name, now, life)
	if err != nil {
		return err
	}
	keys, err := keyring.CreateFrom(filepath.Join(dir, pkiKeyring), passphrase, gm.Emmansun(), keyring.First{At: now})
	if err != nil {
		return err
	}
	_, root, err := cert.NewCA(name, keys.TLSSigner(), now, life)
	if err != nil {
		return err
	}
	return writeFiles(dir, []file{
		{pkiRoot, 0o644, cert.EncodePEM(root)}, {pkiWebCA, 0o644, webCert}, {pkiWebCAKey, 0o600, webKey},
	})
}

// issueFlags are the flags of `pki issue`.
type issueFlags struct {
	ca, dept, keyring, out           string
	hosts                            []string
	days                             int
	web                              bool
	passphraseFile, caPassphraseFile string
}

func newPKIIssue() *cobra.Command {
	var f issueFlags
	cmd := &cobra.Command{
		Use:   "issue --ca DIR --out DIR (--dept D --keyring FILE | --web --host H)",
		Short: "Issue a department's two certificates, or a web certificate",
		Long: `Issue a department's signing and encryption certificates for the keys of its
keyring, which is made if it is missing; or, with --web, a P-256 certificate and
key for the addresses at which a department's own systems reach its node.`,
		Example: `  xinqiao pki issue --ca ca --dept minzheng --keyring minzheng/keys.xq --out minzheng --host 10.1.0.5
  xinqiao pki issue --ca ca --web --host node.minzheng.example --out minzheng`,
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE:    func(cmd *cobra.Command, _ []string) error { return pkiError(f.run(cmd)) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.ca, "ca", "", "the CA's directory")
	flags.StringVar(&f.out, "out", "", "directory for the certificates, made if missing; older ones are replaced")
	flags.StringVar(&f.dept, "dept", "", "the department's name in the exchange")
	flags.StringVar(&f.keyring, "keyring", "", "the department's keyring, made if missing")
	flags.StringArrayVar(&f.hosts, "host", nil, "host name or IP address of the node; may be repeated")
	flags.IntVar(&f.days, "days", pkiDays, "days until the certificates expire")
	flags.BoolVar(&f.web, "web", false, "issue a P-256 web certificate instead")
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase of the department's keyring")
	flags.StringVar(&f.caPassphraseFile, "ca-passphrase-file", "", "file with the passphrase of the CA's keyring, if it is another")
	mustRequire(cmd, "ca", "out")
	return cmd
}

func (f *issueFlags) run(cmd *cobra.Command) error {
	if f.days < 1 || f.days > 3660 {
		return usageError(cmd, errors.New("--days must be 1 to 3660"))
	}
	now := time.Now()
	if f.web {
		if len(f.hosts) == 0 || f.dept != "" || f.keyring != "" {
			return usageError(cmd, errors.New("--web goes with at least one --host, and without --dept and --keyring"))
		}
		return f.issueWeb(cmd, now)
	}
	if f.dept == "" || f.keyring == "" {
		return usageError(cmd, errors.New("--dept and --keyring are needed, or --web"))
	}
	return f.issueDept(cmd, now)
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

func (f *issueFlags) issueDept(cmd *cobra.Command, now time.Time) error {
	passphrase, err := readPassphrase(f.passphraseFile, "XINQIAO_PASSPHRASE")
	if err != nil {
		return err
	}
	caPassphrase := passphrase
	if f.caPassphraseFile != "" || os.Getenv("XINQIAO_CA_PASSPHRASE") != "" {
		if caPassphrase, err = readPassphrase(f.caPassphraseFile, "XINQIAO_CA_PASSPHRASE"); err != nil {
			return err
		}
	}
	caKeys, err := keyring.Open(filepath.Join(f.ca, pkiKeyring), caPassphrase, gm.Emmansun())
	if err != nil {
		return fmt.Errorf("the CA's keyring: %w", err)
	}
	root, err := readCertificate(filepath.Join(f.ca, pkiRoot))
	if err != nil {
		return err
	}
	ca, err := cert.OpenCA(root, caKeys.TLSSigner())
	if err != nil {
		return err
	}
	keys, err := f.openKeyring(cmd, passphrase, now)
	if err != nil {
		return err
	}
	r := cert.Request{Dept: f.dept, Usage: cert.Signing, Key: keys.SignPublic(), Hosts: f.hosts, Lifetime: days(f.days)}
	sign, err := ca.Issue(r, now)
	if err != nil {
		return err
	}
	r.Usage, r.Key = cert.Encryption, keys.EncPublic()
	enc, err := ca.Issue(r, now)
	if err != nil {
		return err
	}
	err = writeFiles(f.out, []file{
		{pkiSign, 0o644, cert.EncodePEM(sign)}, {pkiEnc, 0o644, cert.EncodePEM(enc)}, {pkiRoot, 0o644, cert.EncodePEM(root)},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "issued %s and %s in %s for %s; older certificates stay valid until the ledger withdraws them\n",
		pkiSign, pkiEnc, f.out, f.dept)
	return nil
}

func (f *issueFlags) openKeyring(cmd *cobra.Command, passphrase []byte, now time.Time) (*keyring.Keyring, error) {
	keys, err := keyring.Open(f.keyring, passphrase, gm.Emmansun())
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	if err := os.MkdirAll(filepath.Dir(f.keyring), 0o700); err != nil {
		return nil, err
	}
	if keys, err = keyring.CreateFrom(f.keyring, passphrase, gm.Emmansun(), keyring.First{At: now}); err != nil {
		return nil, err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "made %s: back it up, nothing can replace it\n", f.keyring)
	return keys, nil
}

func newPKIShow() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "show FILE…",
		Short:   "Show what certificates say and how long they last",
		Example: "  xinqiao pki show minzheng/*.pem",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "table" && output != "json" {
				return usageError(cmd, fmt.Errorf("-o %s: want table or json", output))
			}
			return showCertificates(cmd, args, output == "json", time.Now())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// shown is one row of `pki show`.
type shown struct {
	File string `json:"file"`
	cert.Description
	Status string `json:"status"` // valid, expiring, expired or not_yet_valid
}

func showCertificates(cmd *cobra.Command, paths []string, asJSON bool, now time.Time) error {
	rows := make([]shown, 0, len(paths))
	for _, path := range paths {
		der, err := readCertificate(path)
		if err != nil {
			return err
		}
		d, err := cert.Describe(der)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		rows = append(rows, shown{path, d, certStatus(d, now)})
	}
	if asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FILE\tKIND\tNAME\tUSAGE\tHOSTS\tFROM\tUNTIL\tSTATUS\tFINGERPRINT")
	for _, r := range rows {
		const local = "2006-01-02 15:04 MST"
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.File, r.Kind, r.Name, dash(r.Usage), dash(strings.Join(r.Hosts, ",")),
			r.NotBefore.Local().Format(local), r.NotAfter.Local().Format(local), r.Status, r.Fingerprint[:16])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if next := nextStep(r); next != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is %s: %s\n", r.File, strings.ReplaceAll(r.Status, "_", " "), next)
		}
	}
	return nil
}

func certStatus(d cert.Description, now time.Time) string {
	switch {
	case now.Before(d.NotBefore):
		return "not_yet_valid"
	case now.After(d.NotAfter):
		return "expired"
	case d.NotAfter.Sub(now) < pkiNearEnd:
		return "expiring"
	}
	return "valid"
}

func nextStep(r shown) string {
	if r.Status == "valid" {
		return ""
	}
	if r.Status == "not_yet_valid" {
		return "compare this machine's clock with the CA's"
	}
	switch r.Kind {
	case cert.KindDepartment:
		return fmt.Sprintf("xinqiao pki issue --ca DIR --dept %s --keyring FILE --out DIR, then enter the new certificates in the ledger", r.Name)
	case cert.KindWeb:
		return "xinqiao pki issue --web --ca DIR --out DIR --host " + strings.Join(r.Hosts, " --host ")
	}
	return "make a new one with xinqiao pki init, and issue anew what the old one issued"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

func readCertificate(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	der, err := cert.DecodePEM(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return der, nil
}

// readPassphrase reads a file without its last line end, or else the first of the
// variables that is set. It takes no flag value: those show in process lists.
func readPassphrase(file string, variables ...string) ([]byte, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the passphrase: %w", err)
		}
		return bytes.TrimRight(b, "\r\n"), nil // as exchange/node reads it
	}
	for _, name := range variables {
		if v := os.Getenv(name); v != "" {
			return []byte(v), nil
		}
	}
	return nil, exitError{exitUsage, fmt.Errorf("no passphrase: give --passphrase-file or set %s", strings.Join(variables, " or "))}
}

type file struct {
	name    string
	mode    fs.FileMode
	content []byte
}

// writeFiles writes each file whole or not at all, replacing older ones.
func writeFiles(dir string, files []file) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range files {
		tmp, err := os.CreateTemp(dir, "."+f.name+"-*")
		if err != nil {
			return err
		}
		defer os.Remove(tmp.Name())
		_, err = tmp.Write(f.content)
		err = errors.Join(err, tmp.Chmod(f.mode), tmp.Sync(), tmp.Close())
		if err == nil {
			err = os.Rename(tmp.Name(), filepath.Join(dir, f.name))
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	return nil
}

// pkiError gives the errors that a caller can mend the exit code of a usage error.
func pkiError(err error) error {
	if errors.Is(err, cert.ErrRequest) {
		return exitError{exitUsage, err}
	}
	return err
}

// mustRequire marks flags, which the caller has defined, as required.
func mustRequire(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
}
