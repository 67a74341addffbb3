// Command xinqiao is a department's node and its tools: one file a verb.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"xinqiao/exchange"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// run is main with its arguments, for tests.
func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintf(root.ErrOrStderr(), "xinqiao: %v\n", err)
		if e := (*exchange.Error)(nil); errors.As(err, &e) && e.Hint != "" {
			fmt.Fprintln(root.ErrOrStderr(), e.Hint)
		}
	}
	return exitCode(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "xinqiao",
		Short: "Xinqiao (信桥): exchange certified materials between departments, every access on record",
		Long: `Xinqiao (信桥) lets government departments share certified materials under
national cryptography (SM2, SM3, SM4), under consent and law, and records every
access in a ledger that every department replicates.

Exit codes: 0 done, 1 failed, 2 usage, 3 verification failed, 4 denied.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(usageError)
	root.AddCommand(newBenchCommand(), newDemoCommand(), newGenesisCommand(), newKeyringCommand(), newServeCommand(), newLedgerCommand(), newLoginCommand(), newMemberCommand(),
		newPKICommand(), newRenewCommand(), newSMCommand(), newTrustCommand())
	return root
}
