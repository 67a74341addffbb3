package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"xinqiao/exchange/node"
)

// newRenewCommand returns `xinqiao renew`: the last step of a rotation.
func newRenewCommand() *cobra.Command {
	var path, output string
	var forget bool
	cmd := &cobra.Command{
		Use:   "renew --config FILE",
		Short: "Have a running node take its new certificates and keys",
		Long: `Have a running node read its keyring and its certificates again, that of HTTPS
among them, and put the department's on the ledger. Exchanges go on meanwhile. What
was signed, sealed or issued under the earlier ones stays good: the new entry lists
them.

When a key was lost, --forget lists none of them. Then nothing that was signed with
the lost key counts any more: answers are not handed out again, and materials have
to be issued anew.`,
		Example: `  xinqiao keyring rotate --keyring keys.xq --sign --enc
  xinqiao pki csr --keyring keys.xq --dept minzheng --out .   (and the CA: xinqiao pki renew)
  xinqiao renew --config node.yaml`,
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return usageError(cmd, fmt.Errorf("-o %s: want text or json", output))
			}
			cfg, err := node.Load(path)
			if err != nil {
				return err
			}
			command := "/certificates"
			if forget {
				command += "?forget=true"
			}
			b, err := administer(cmd.Context(), cfg, command, nil)
			if err != nil {
				return err
			}
			if output == "json" {
				_, err := cmd.OutOrStdout().Write(b)
				return err
			}
			var r node.Renewed
			if err := json.Unmarshal(b, &r); err != nil {
				return fmt.Errorf("what the node answers: %w", err)
			}
			return sayRenewed(cmd, r)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the node's configuration")
	cmd.Flags().BoolVar(&forget, "forget", false, "a key was lost: leave the earlier certificates out")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	mustRequire(cmd, "config")
	return cmd
}

func sayRenewed(cmd *cobra.Command, r node.Renewed) error {
	const local = "2006-01-02 15:04 MST"
	state := "in force"
	if !r.Changed {
		state = "the ledger holds the configured certificates already, or newer ones"
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: signing certificate %s, until %s\nHTTPS certificate read again: until %s\n", state,
		r.Serial, r.Until.Local().Format(local), r.Web.Local().Format(local)); err != nil || !r.Changed {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "next: the authority adds it to the trust file (xinqiao trust add); keep the old keys until nothing that was sealed to them is needed")
	return nil
}
