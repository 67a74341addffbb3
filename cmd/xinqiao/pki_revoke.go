package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
)

// pkiListDays is how long a revocation list is current unless --days says else.
const pkiListDays = 30

// revokeFlags are the flags of `pki revoke`.
type revokeFlags struct {
	ca, reason, passphraseFile string
	serials                    []string
	refresh                    bool
	days                       int
}

func newPKIRevoke() *cobra.Command {
	var f revokeFlags
	cmd := &cobra.Command{
		Use:   "revoke --ca DIR (--serial S --reason R | --refresh)",
		Short: "Revoke certificates, and write the CA's revocation list",
		Long: `Put a revocation on the CA's register and write crl.pem, the signed list of all that
this CA has revoked. A list is current for a while only: --refresh writes the next
one though nothing was revoked. What ends a certificate in the exchange is the
ledger's entry; the list keeps a node that reads it from admitting the holder
even before, and where the ledger cannot be reached.

Reasons: ` + reasonWords() + `.`,
		Example: "  xinqiao pki revoke --ca issuing --serial 5f3a… --reason keyCompromise",
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE:    func(cmd *cobra.Command, _ []string) error { return pkiError(f.run(cmd, time.Now())) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.ca, "ca", "", "the CA's directory")
	flags.StringArrayVar(&f.serials, "serial", nil, "serial number of a certificate, from pki list; may be repeated")
	flags.StringVar(&f.reason, "reason", "", "why")
	flags.BoolVar(&f.refresh, "refresh", false, "write the next list without revoking anything")
	flags.IntVar(&f.days, "days", pkiListDays, "days until the next list is due")
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase of the CA's keyring")
	mustRequire(cmd, "ca")
	return cmd
}

func reasonWords() string {
	var words []string
	for _, r := range cert.Reasons() {
		words = append(words, string(r))
	}
	return strings.Join(words, ", ")
}

func (f *revokeFlags) run(cmd *cobra.Command, now time.Time) error {
	switch {
	case f.refresh == (len(f.serials) > 0) || f.refresh && f.reason != "":
		return usageError(cmd, errors.New("either --serial and --reason, or --refresh, are needed"))
	case !f.refresh && !validReason(f.reason):
		return usageError(cmd, fmt.Errorf("--reason must be one of %s", reasonWords()))
	case f.days < 1 || f.days > 366:
		return usageError(cmd, errors.New("--days must be 1 to 366"))
	}
	passphrase, err := readPassphrase(f.passphraseFile, envCAPassphrase, envPassphrase)
	if err != nil {
		return err
	}
	o, err := openOffice(f.ca, passphrase, cmd.ErrOrStderr(), now)
	if err != nil {
		return err
	}
	defer o.close()
	for i, s := range f.serials {
		f.serials[i] = strings.ToLower(s)
	}
	list, err := o.revoke(f.serials, cert.Reason(f.reason), now, now.Add(days(f.days)))
	if err != nil {
		return err
	}
	f.tellNext(cmd, o, list)
	return nil
}

func validReason(word string) bool {
	for _, r := range cert.Reasons() {
		if word == string(r) {
			return true
		}
	}
	return false
}

// tellNext says what a revocation does not do by itself.
func (f *revokeFlags) tellNext(cmd *cobra.Command, o *office, list *cert.Revocations) {
	w := cmd.ErrOrStderr()
	fmt.Fprintf(w, "wrote %s: list %d, %d revoked, the next is due by %s\n",
		filepath.Join(f.ca, pkiCRL), list.Number, len(list.List), localTime(list.NextUpdate))
	fmt.Fprintln(w, "next:")
	for _, serial := range f.serials {
		switch e, _ := o.register.Find(serial); e.Kind {
		case cert.KindIssuingCA:
			fmt.Fprintf(w, "  - the authority withdraws, in the ledger, the certificates that %s has issued\n", e.Name)
		default:
			fmt.Fprintf(w, "  - the authority withdraws the certificates of %s in the ledger: from then on no node accepts them\n"+
				"    (%s certificate, fingerprint %s)\n", e.Name, e.Usage, e.Fingerprint)
			for _, other := range o.register.SameKey(e.Key) {
				if other.Revoked == nil {
					fmt.Fprintf(w, "  - certificate %s is for the same key and not revoked: if the key is lost, revoke it too\n", other.Serial)
				}
			}
		}
	}
	fmt.Fprintf(w, "  - give %s to every node (crl in node.yaml); running nodes read it again by themselves\n"+
		"  - before %s: xinqiao pki revoke --ca %s --refresh\n", pkiCRL, localTime(list.NextUpdate), f.ca)
}
