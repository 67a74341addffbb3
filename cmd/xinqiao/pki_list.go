package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
)

// pkiListNearEnd is when `pki list` begins to urge for the next revocation list.
const pkiListNearEnd = 7 * 24 * time.Hour

func newPKIList() *cobra.Command {
	var ca, output string
	cmd := &cobra.Command{
		Use:     "list --ca DIR",
		Short:   "List what a CA has issued, how it stands and what to do",
		Example: "  xinqiao pki list --ca issuing\n  xinqiao pki list --ca issuing -o json",
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			return listRegister(cmd, ca, output == "json", time.Now())
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "", "the CA's directory")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	mustRequire(cmd, "ca")
	return cmd
}

// listed is one row of `pki list`.
type listed struct {
	cert.Record
	Status   string      `json:"status"` // valid, expiring, expired, not_yet_valid or revoked
	DaysLeft *int        `json:"days_left,omitempty"`
	Reason   cert.Reason `json:"reason,omitempty"`
	Revoked  time.Time   `json:"revoked_at,omitzero"`
}

func listRegister(cmd *cobra.Command, dir string, asJSON bool, now time.Time) error {
	reg, err := readRegister(dir, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	rows := []listed{}
	for _, e := range reg.Entries() {
		row := listed{Record: e.Record, Status: e.Status(now, pkiNearEnd)}
		if e.Revoked != nil {
			row.Reason, row.Revoked = e.Revoked.Reason, e.Revoked.At
		} else {
			left := max(0, int(e.Until.Sub(now)/(24*time.Hour)))
			row.DaysLeft = &left
		}
		rows = append(rows, row)
	}
	if asJSON {
		err = writeJSON(cmd.OutOrStdout(), rows)
	} else {
		err = listTable(cmd.OutOrStdout(), rows)
	}
	if err != nil {
		return err
	}
	return listHints(cmd.ErrOrStderr(), dir, reg, rows, now)
}

func listTable(out io.Writer, rows []listed) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERIAL\tDEPARTMENT\tUSAGE\tUNTIL\tSTATUS\tDAYS LEFT")
	for _, r := range rows {
		usage, left, status := r.Usage, "-", r.Status
		if r.Kind == cert.KindIssuingCA {
			usage = string(r.Kind)
		}
		if r.DaysLeft != nil {
			left = fmt.Sprint(*r.DaysLeft)
		}
		if r.Reason != "" {
			status += " (" + string(r.Reason) + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Serial, r.Name, usage, localTime(r.Until), status, left)
	}
	return w.Flush()
}

// listHints says what to do next, once for each department: about what nothing
// newer stands for.
func listHints(w io.Writer, dir string, reg *cert.Register, rows []listed, now time.Time) error {
	if len(rows) == 0 {
		fmt.Fprintf(w, "nothing issued yet: xinqiao pki issue --ca %s --dept NAME --csr SIGN.csr --csr ENC.csr --out DIR\n", dir)
	}
	told := map[string]bool{}
	for _, r := range rows {
		if r.Kind != cert.KindDepartment || told[r.Name] || r.Status != "expiring" && r.Status != "expired" {
			continue
		}
		switch current := reg.Current(r.Name, now); {
		case len(current) == 0:
			fmt.Fprintf(w, "%s has no valid certificate: xinqiao pki issue --ca %s --dept %s --csr SIGN.csr --csr ENC.csr --out DIR\n", r.Name, dir, r.Name)
		case current[0].Until.Sub(now) < pkiNearEnd:
			fmt.Fprintf(w, "the certificates of %s end on %s: xinqiao pki renew --ca %s --dept %s --csr SIGN.csr --csr ENC.csr --out DIR\n",
				r.Name, localTime(current[0].Until), dir, r.Name)
		default:
			continue
		}
		told[r.Name] = true
	}
	b, err := readSmall(filepath.Join(dir, pkiCRL))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var lists [][]byte
	if err == nil {
		lists, err = cert.DecodeRevocations(b)
	}
	for _, der := range lists {
		list, err := cert.InspectRevocations(der)
		if err != nil {
			return fmt.Errorf("%s: %w", pkiCRL, err)
		}
		if list.NextUpdate.Sub(now) < pkiListNearEnd {
			fmt.Fprintf(w, "the revocation list is due for renewal on %s: xinqiao pki revoke --ca %s --refresh\n", localTime(list.NextUpdate), dir)
		}
	}
	return err
}
