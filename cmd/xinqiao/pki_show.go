package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
)

// Kinds of what `pki show` shows beside certificates.
const (
	kindCSR         cert.Kind = "request"
	kindRevocations cert.Kind = "revocations"
)

func newPKIShow() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "show FILE…",
		Short:   "Show what certificates, requests and revocation lists say and how long they last",
		Example: "  xinqiao pki show minzheng/*.pem minzheng/*.csr issuing/crl.pem",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			return pkiError(showFiles(cmd, args, output == "json", time.Now()))
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// shown is one row of `pki show`.
type shown struct {
	File string `json:"file"`
	cert.Description
	Status  string         `json:"status"`           // valid, expiring, expired or not_yet_valid; of a request "signed"
	Number  uint64         `json:"number,omitempty"` // of a revocation list
	Revoked []cert.Revoked `json:"revoked,omitempty"`
}

func showFiles(cmd *cobra.Command, paths []string, asJSON bool, now time.Time) error {
	rows := make([]shown, 0, len(paths))
	for _, path := range paths {
		b, err := readSmall(path)
		if err != nil {
			return err
		}
		more, err := showFile(path, b, now)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		rows = append(rows, more...)
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), rows)
	}
	if err := showTable(cmd.OutOrStdout(), rows); err != nil {
		return err
	}
	for _, r := range rows {
		if next := nextStep(r); next != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is %s: %s\n", r.File, strings.ReplaceAll(r.Status, "_", " "), next)
		}
	}
	return nil
}

// showFile reads a file by what its first block says it is.
func showFile(path string, b []byte, now time.Time) ([]shown, error) {
	block, _ := pem.Decode(b)
	switch {
	case block != nil && block.Type == "CERTIFICATE REQUEST":
		der, err := cert.DecodeCSR(b)
		if err != nil {
			return nil, err
		}
		csr, err := cert.ParseCSR(der)
		return []shown{{File: path, Status: "signed", Description: cert.Description{Kind: kindCSR, Name: csr.Dept,
			Usage: csr.Usage.String(), Hosts: csr.Hosts, Fingerprint: cert.KeyFingerprint(csr.Key)}}}, err
	case block != nil && block.Type == "X509 CRL":
		return showLists(path, b, now)
	}
	chain, err := cert.DecodePEM(b)
	if err != nil {
		return nil, err
	}
	rows := []shown{}
	for _, der := range [][]byte{chain, cert.Issuer(chain)} {
		if der == nil {
			continue
		}
		d, err := cert.Describe(der)
		if err != nil {
			return nil, err
		}
		rows = append(rows, shown{File: path, Description: d, Status: cert.Status(d.NotBefore, d.NotAfter, now, pkiNearEnd)})
	}
	return rows, nil
}

func showLists(path string, b []byte, now time.Time) (rows []shown, err error) {
	lists, err := cert.DecodeRevocations(b)
	if err != nil {
		return nil, err
	}
	for _, der := range lists {
		list, err := cert.InspectRevocations(der)
		if err != nil {
			return nil, err
		}
		rows = append(rows, shown{File: path, Number: list.Number, Revoked: list.List,
			Status: cert.Status(list.ThisUpdate, list.NextUpdate, now, pkiListNearEnd),
			Description: cert.Description{Kind: kindRevocations, Name: list.Issuer, Issuer: list.Issuer,
				NotBefore: list.ThisUpdate, NotAfter: list.NextUpdate}})
	}
	return rows, nil
}

func showTable(out io.Writer, rows []shown) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FILE\tKIND\tNAME\tUSAGE\tHOSTS\tFROM\tUNTIL\tSTATUS\tSERIAL\tFINGERPRINT")
	for _, r := range rows {
		usage, serial := r.Usage, r.Serial
		if r.Kind == kindRevocations {
			usage, serial = fmt.Sprintf("%d revoked", len(r.Revoked)), fmt.Sprintf("list %d", r.Number)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.File, r.Kind, r.Name, dash(usage), dash(strings.Join(r.Hosts, ",")),
			localTime(r.NotBefore), localTime(r.NotAfter), r.Status, dash(serial), dash(r.Fingerprint[:min(16, len(r.Fingerprint))]))
	}
	return w.Flush()
}

func nextStep(r shown) string {
	switch {
	case r.Kind == kindCSR:
		return fmt.Sprintf("by its own key; at the CA: xinqiao pki issue --ca DIR --dept %s --csr SIGN.csr --csr ENC.csr --out DIR", r.Name)
	case r.Status == "valid":
		return ""
	case r.Status == "not_yet_valid":
		return "compare this machine's clock with the CA's"
	}
	switch r.Kind {
	case cert.KindDepartment:
		if r.Status == "expiring" {
			return fmt.Sprintf("xinqiao pki renew --ca DIR --dept %s --csr SIGN.csr --csr ENC.csr --out DIR, then xinqiao renew --config FILE on the node", r.Name)
		}
		return fmt.Sprintf("xinqiao pki issue --ca DIR --dept %s --csr SIGN.csr --csr ENC.csr --out DIR, then xinqiao renew --config FILE on the node", r.Name)
	case cert.KindWeb:
		return "xinqiao pki issue --web --ca DIR --out DIR --host " + strings.Join(r.Hosts, " --host ")
	case cert.KindIssuingCA:
		return "make a new one with xinqiao pki init --under ROOT, and renew with it what the old one issued"
	case kindRevocations:
		return "xinqiao pki revoke --ca DIR --refresh, and give the list to every node"
	}
	return "make a new one with xinqiao pki init, and issue anew what the old one issued"
}
