package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/ledger/verify"
)

// newTrustCommand returns `xinqiao trust`: the authority's care of the file with
// which outsiders check evidence.
func newTrustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Keep the file with which anyone checks evidence",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(usageError)
	cmd.AddCommand(newTrustAdd())
	return cmd
}

func newTrustAdd() *cobra.Command {
	var trust string
	cmd := &cobra.Command{
		Use:   "add --trust TRUST CERT…",
		Short: "Add the signing certificates of members that have renewed theirs",
		Long: `Add signing certificates of members to a trust file, when they have renewed them.
What was signed under the earlier ones stays proven. Each certificate must be a
member's, issued by the root of the trust file and valid now.`,
		Example: "  xinqiao trust add --trust trust.json minzheng/sign.pem",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		PreRunE: usageFlags,
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := os.ReadFile(trust)
			if err != nil {
				return err
			}
			t, err := verify.ParseTrust(raw)
			if err != nil {
				return fmt.Errorf("%s: %w", trust, err)
			}
			for _, path := range args {
				der, err := readCertificate(path)
				if err != nil {
					return err
				}
				next, dept, err := t.Renewed(der, time.Now())
				if err != nil {
					return &hintError{fmt.Errorf("%s: %w", path, err), "xinqiao pki show " + path + " says what the file holds"}
				}
				t = next
				fmt.Fprintf(cmd.ErrOrStderr(), "%s is trusted as a certificate of %s\n", path, dept)
			}
			b, err := t.Encode()
			if err != nil {
				return err
			}
			return writeFiles(filepath.Dir(trust), []file{{filepath.Base(trust), 0o644, b}})
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "", "the trust file, which is rewritten")
	mustRequire(cmd, "trust")
	return cmd
}
