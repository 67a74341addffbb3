package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"xinqiao/exchange/node"
	"xinqiao/ledger"
)

// newMemberCommand returns `xinqiao member`: who belongs to a ledger after its
// founding. The authority signs, on a machine without a node; a node tells it how
// the ledger stands and carries what it has signed.
func newMemberCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "member",
		Short: "Who belongs to the ledger and who votes: list, sign a change, submit it",
		Long: `Who belongs to the ledger and who votes in it. Only the sharing authority changes
that, by an entry that it signs where its keys are, without a node:

  1. at any node    xinqiao member list --config node.yaml -o json > standing.json
  2. the authority  xinqiao member set renshe --standing standing.json … --out order.xq
  3. at any node    xinqiao member submit --config node.yaml order.xq

An order holds for the standing that it was signed on: when another frame of the
authority comes first, nothing of it takes effect.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(usageError)
	cmd.AddCommand(newMemberList(), newMemberSet(), newMemberWithdraw(), newMemberSubmit())
	return cmd
}

func newMemberList() *cobra.Command {
	var path, output string
	cmd := &cobra.Command{
		Use:     "list --config FILE",
		Short:   "List the members as a running node has verified them",
		Example: "  xinqiao member list --config node.yaml -o json > standing.json",
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usageError(cmd, fmt.Errorf("-o %s: want table or json", output))
			}
			cfg, err := node.Load(path)
			if err != nil {
				return err
			}
			b, err := administer(cmd.Context(), cfg, "/standing", nil)
			if err != nil {
				return err
			}
			if output == "json" {
				_, err := cmd.OutOrStdout().Write(b)
				return err
			}
			s, err := node.ReadStanding(b)
			if err != nil {
				return err
			}
			return printMembers(cmd, s)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the node's configuration")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	mustRequire(cmd, "config")
	return cmd
}

func printMembers(cmd *cobra.Command, s node.Standing) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEPARTMENT\tMEMBER\tCERTIFICATES\tVOTE\tRAFT\tPEER\tVERSION\tNAME")
	state := map[bool]string{true: "in force", false: "withdrawn"}
	for _, m := range s.Members {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", m.Department, state[m.Active], state[m.CertActive], m.Vote, m.Raft, m.Peer, m.Version, m.Name)
	}
	return w.Flush()
}

func newMemberSubmit() *cobra.Command {
	var path, output string
	cmd := &cobra.Command{
		Use:     "submit --config FILE ORDER",
		Short:   "Put an order of the authority on the ledger, through a running node",
		Example: "  xinqiao member submit --config node.yaml order.xq",
		Args:    usageArgs(cobra.ExactArgs(1)),
		PreRunE: usageFlags,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "table" && output != "json" {
				return usageError(cmd, fmt.Errorf("-o %s: want table or json", output))
			}
			cfg, err := node.Load(path)
			if err != nil {
				return err
			}
			order, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			b, err := administer(cmd.Context(), cfg, "/orders", order)
			if err != nil {
				return err
			}
			if output == "json" {
				_, err = cmd.OutOrStdout().Write(b)
			}
			return submitted(cmd, b, output == "table", err)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the node's configuration")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	mustRequire(cmd, "config")
	return cmd
}

// submitted says what became of an order, and fails when not all of it took effect.
func submitted(cmd *cobra.Command, b []byte, table bool, err error) error {
	var list []node.Ordered
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	for _, o := range list {
		if table {
			fmt.Fprintf(cmd.OutOrStdout(), "entry %s at %d: %s %s\n", o.Entry, o.Index, o.Result, o.Slot)
		}
		if o.Result != ledger.Committed.String() && err == nil {
			err = &hintError{fmt.Errorf("entry %s is %s: %s", o.Entry, o.Result, o.Slot), "the ledger had moved on: sign the order again on a new standing (xinqiao member list)"}
		}
	}
	return err
}
