package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
)

func newPKIRenew() *cobra.Command {
	var f issueFlags
	var early bool
	cmd := &cobra.Command{
		Use:   "renew --ca DIR --dept D (--csr FILE --csr FILE | --keyring FILE) --out DIR",
		Short: "Renew a department's certificates while the old ones still hold",
		Long: `Issue new certificates, for the same keys or for new ones, that begin now. The old
ones stay valid until their own end, so there is time to change over. The names are the old certificates' unless --host gives others.
More than half a life before the end a renewal is refused, unless --early.`,
		Example: "  xinqiao pki renew --ca issuing --dept minzheng --csr sign.csr --csr enc.csr --out minzheng",
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE:    func(cmd *cobra.Command, _ []string) error { return pkiError(f.renew(cmd, early, time.Now())) },
	}
	f.define(cmd)
	cmd.Flags().BoolVar(&early, "early", false, "renew certificates that have more than half their life left")
	return cmd
}

func (f *issueFlags) renew(cmd *cobra.Command, early bool, now time.Time) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	o, keys, err := f.open(cmd, now)
	if err != nil {
		return err
	}
	defer o.close()
	current := o.register.Current(f.dept, now)
	if len(current) == 0 {
		return &hintError{fmt.Errorf("this CA has no valid certificates of %s to renew", f.dept), "xinqiao pki issue makes new ones"}
	}
	if last := current[0]; !early && last.Until.Sub(now) > last.Until.Sub(last.From)/2 {
		return exitError{exitDenied, &hintError{fmt.Errorf("certificate %s of %s lasts until %s, more than half its life", last.Serial, f.dept, localTime(last.Until)),
			"if it must be, say --early"}}
	}
	if len(f.hosts) == 0 {
		f.hosts = current[0].Hosts
	}
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
	f.tellOverlap(cmd, current)
	return nil
}

// tellOverlap says how long the old certificates hold and what has to happen by then.
func (f *issueFlags) tellOverlap(cmd *cobra.Command, old []cert.Entry) {
	w := cmd.ErrOrStderr()
	fmt.Fprintf(w, "renewed: %s and %s in %s are valid from now\n", pkiSign, pkiEnc, f.out)
	end := old[0].Until
	for _, e := range old {
		if e.Until.Before(end) {
			end = e.Until
		}
		fmt.Fprintf(w, "old %s certificate %s holds until %s\n", e.Usage, e.Serial, localTime(e.Until))
	}
	fmt.Fprintf(w, "before %s:\n"+
		"  1. %s puts the files in the place of the old ones and runs `xinqiao renew --config FILE`: its node goes on meanwhile\n"+
		"  2. the authority gives out the trust file with the new one: xinqiao trust add --trust trust.json %s\n"+
		"  3. the old ones end by themselves; a key that was lost or exchanged is revoked: xinqiao pki revoke --ca %s --serial S --reason superseded\n",
		localTime(end), f.dept, pkiSign, f.ca)
}
