package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
)

// Files of a CA's directory and of a department's.
const (
	pkiKeyring  = "keys.xq"
	pkiRoot     = "root.pem"
	pkiIssuing  = "issuing.pem"
	pkiRegister = "issued"
	pkiCRL      = "crl.pem"
	pkiWebCA    = "web-ca.pem"
	pkiWebCAKey = "web-ca.key"
	pkiSign     = "sign.pem"
	pkiEnc      = "enc.pem"
	pkiSignCSR  = "sign.csr"
	pkiEncCSR   = "enc.csr"
	pkiWeb      = "web.pem"
	pkiWebKey   = "web.key"

	pkiDays    = 730
	pkiNearEnd = 60 * 24 * time.Hour // when `pki show` and `pki list` begin to urge
	pkiMaxFile = 1 << 20             // of what is read from others
)

// Variables that hold passphrases.
const (
	envPassphrase   = "XINQIAO_PASSPHRASE"
	envCAPassphrase = "XINQIAO_CA_PASSPHRASE"
)

// newPKICommand returns `xinqiao pki`: the exchange's certificates.
func newPKICommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pki",
		Short: "Make, issue, renew, revoke and show certificates",
		Long: `Make, issue, renew, revoke and show certificates: the exchange's SM2 root and the
issuing CA below it, the signing and encryption certificates of departments, and
P-256 certificates for the browsers, scripts and monitoring of one department.

A keyring's passphrase is read from --passphrase-file or XINQIAO_PASSPHRASE, the
CA's from --ca-passphrase-file or XINQIAO_CA_PASSPHRASE where it is another.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(usageError)
	cmd.AddCommand(newPKIInit(), newPKICSR(), newPKIIssue(), newPKIRenew(), newPKIRevoke(), newPKIList(), newPKIShow())
	return cmd
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

func localTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04 MST")
}

func checkOutput(cmd *cobra.Command, output string) error {
	if output != "table" && output != "json" {
		return usageError(cmd, fmt.Errorf("-o %s: want table or json", output))
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// readSmall reads a file that somebody else may have made.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, pkiMaxFile+1))
	if err == nil && len(b) > pkiMaxFile {
		err = fmt.Errorf("%s: %w: more than %d bytes", path, cert.ErrFile, pkiMaxFile)
	}
	return b, err
}

func readCertificate(path string) ([]byte, error) {
	b, err := readSmall(path)
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

// pkiError gives an error its exit code: what the caller can mend is a usage
// error, what does not verify is told apart from what failed.
func pkiError(err error) error {
	var e exitError
	if errors.As(err, &e) {
		return err
	}
	if errors.Is(err, cert.ErrRequest) {
		return exitError{exitUsage, err}
	}
	for _, kind := range []error{cert.ErrCSR, cert.ErrForeign, cert.ErrProfile, cert.ErrList, cert.ErrLicensed, cert.ErrRegister, errLicensedKey} {
		if errors.Is(err, kind) {
			return exitError{exitUnverified, err}
		}
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
