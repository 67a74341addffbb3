package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/keyring"
)

// csrFlags are the flags of `pki csr`.
type csrFlags struct {
	dept, keyring, out, passphraseFile string
	hosts                              []string
	licensed                           licensedFlags
}

func newPKICSR() *cobra.Command {
	var f csrFlags
	cmd := &cobra.Command{
		Use:   "csr --dept D --keyring FILE --out DIR [--host H]",
		Short: "Ask a CA for a department's two certificates; the keys stay here",
		Long: `Write sign.csr and enc.csr (PKCS #10) for the keys of the department's keyring,
which is made if it is missing. Send both files to the CA, by any way on which
nobody can exchange them; the private keys stay in the keyring.

A department that holds certificates of a licensed CA keeps its keys: it imports
them into the keyring and names the certificates here, and copies go with the
requests.`,
		Example: "  xinqiao pki csr --dept minzheng --keyring minzheng/keys.xq --host 10.1.0.5 --out minzheng",
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE:    func(cmd *cobra.Command, _ []string) error { return pkiError(f.run(cmd)) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dept, "dept", "", "the department's name in the exchange")
	flags.StringVar(&f.keyring, "keyring", "", "the department's keyring, made if missing, or unix:PATH for the agent that holds it")
	flags.StringVar(&f.out, "out", "", "directory for the requests, made if missing; older ones are replaced")
	flags.StringArrayVar(&f.hosts, "host", nil, "host name or IP address of the node; may be repeated")
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase of the keyring")
	f.licensed.define(cmd, false)
	mustRequire(cmd, "dept", "keyring", "out")
	return cmd
}

func (f *csrFlags) run(cmd *cobra.Command) error {
	if err := f.licensed.check(cmd, false); err != nil {
		return err
	}
	keys, err := f.open(cmd)
	if err != nil {
		return err
	}
	defer keys.Close()
	sign, enc, err := newestKeys(keys)
	if err != nil {
		return err
	}
	copies, err := f.licensed.copies(sign.Public(), enc.Public())
	if err != nil {
		return err
	}
	files, err := f.requests(sign, enc)
	if err != nil {
		return err
	}
	files = append(files, copies...)
	if err := writeFiles(f.out, files); err != nil {
		return err
	}
	more := ""
	for _, h := range f.hosts {
		more += " --host " + h
	}
	if len(copies) > 0 {
		more += " --licensed-ca ROOT.pem --licensed-sign " + pkiLicensedSign + " --licensed-enc " + pkiLicensedEnc
	}
	if len(copies) > 2 {
		more += " --licensed-chain " + pkiLicensedChain
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s and %s in %s\nnext, at the CA: xinqiao pki issue --ca DIR --dept %s --csr %s --csr %s%s --out DIR\n",
		pkiSignCSR, pkiEncCSR, f.out, f.dept, pkiSignCSR, pkiEncCSR, more)
	fmt.Fprintf(cmd.ErrOrStderr(), "read the CA the keys' fingerprints, to be sure that nobody exchanged the files:\n  signing    %s\n  encryption %s\n",
		cert.KeyFingerprint(sign.Public()), cert.KeyFingerprint(enc.Public()))
	return nil
}

// open opens the keyring or asks the agent that holds it, which makes nothing.
func (f *csrFlags) open(cmd *cobra.Command) (*keyring.Keyring, error) {
	if held := (&keyringFlags{keyring: f.keyring}); held.byAgent() {
		return held.openOrDial()
	}
	passphrase, err := readPassphrase(f.passphraseFile, envPassphrase)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	return openKeyring(cmd, f.keyring, passphrase)
}

func (f *csrFlags) requests(sign *keyring.SignKey, enc *keyring.EncKey) ([]file, error) {
	signCSR, err := cert.NewCSR(f.dept, cert.Signing, f.hosts, sign.TLSSigner())
	if err != nil {
		return nil, err
	}
	encCSR, err := cert.NewCSR(f.dept, cert.Encryption, f.hosts, enc.RequestSigner())
	if err != nil {
		return nil, err
	}
	return []file{{pkiSignCSR, 0o644, cert.EncodeCSR(signCSR)}, {pkiEncCSR, 0o644, cert.EncodeCSR(encCSR)}}, nil
}

// newestKeys are those that were made last: the ones for which certificates are
// asked, at first and after a rotation.
func newestKeys(keys *keyring.Keyring) (*keyring.SignKey, *keyring.EncKey, error) {
	sign, okSign := keys.SignerOf(keys.SignKeys()[0])
	enc, okEnc := keys.DecrypterOf(keys.EncKeys()[0])
	if !okSign || !okEnc {
		return nil, nil, keyring.ErrNoKey // retired in this very moment
	}
	return sign, enc, nil
}

// readCSR reads one signing request.
func readCSR(path string) (cert.CSR, error) {
	var csr cert.CSR
	b, err := readSmall(path)
	if err != nil {
		return csr, err
	}
	der, err := cert.DecodeCSR(b)
	if err == nil {
		csr, err = cert.ParseCSR(der)
	}
	if err != nil {
		return csr, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return csr, nil
}

// pairCSR reads a department's two requests. A request that says which key it is
// for is taken at its word; of two that do not, the first is for the signing key.
func pairCSR(paths []string) (sign, enc cert.CSR, err error) {
	if sign, err = readCSR(paths[0]); err != nil {
		return sign, enc, err
	}
	if enc, err = readCSR(paths[1]); err != nil {
		return sign, enc, err
	}
	if sign.Usage == cert.Encryption && enc.Usage != cert.Encryption || enc.Usage == cert.Signing && sign.Usage != cert.Signing {
		sign, enc = enc, sign
	}
	if sign.Usage == cert.Encryption || enc.Usage == cert.Signing {
		return sign, enc, fmt.Errorf("%w: both requests are for a %s key", cert.ErrRequest, sign.Usage)
	}
	return sign, enc, nil
}

// refusedHosts returns the names that a request asks for and the operator has not
// named.
func refusedHosts(csr cert.CSR, hosts []string) (refused []string) {
	for _, h := range csr.Hosts {
		if !slices.Contains(hosts, h) {
			refused = append(refused, h)
		}
	}
	return refused
}

// shownCSR is how the CA's operator sees a request before it is granted.
func shownCSR(usage cert.Usage, csr cert.CSR) string {
	return fmt.Sprintf("%s request of %s, names %s, key %s", usage, csr.Dept, dash(strings.Join(csr.Hosts, ",")), cert.KeyFingerprint(csr.Key))
}
