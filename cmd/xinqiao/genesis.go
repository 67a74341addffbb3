package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange/node"
)

// newGenesisCommand returns `xinqiao genesis`: the sharing authority's act that
// founds a ledger.
func newGenesisCommand() *cobra.Command {
	var charter, keys, passphrase, out string
	cmd := &cobra.Command{
		Use:   "genesis --charter FILE --keyring FILE --out DIR",
		Short: "Found a ledger, as the sharing authority: sign who its first members are",
		Long: `Found a ledger, as the sharing authority: sign who its first members are, the
baseline rules and the first share grants.

It writes genesis.json, which every member's node is given before its first
start, and trust.json, with which anyone checks evidence (xqverify --trust).`,
		Example: "  xinqiao genesis --charter charter.yaml --keyring authority/keys.xq --passphrase-file pass --out .",
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, err := (node.Config{PassphraseFile: passphrase}).Passphrase()
			if err != nil {
				return err
			}
			engine := gm.Emmansun()
			authority, err := keyring.Open(keys, secret, engine)
			if err != nil {
				return fmt.Errorf("open the authority's keyring: %w", err)
			}
			founding, err := node.ReadCharter(charter, time.Now())
			if err != nil {
				return err
			}
			genesis, err := node.Found(engine, authority, founding)
			if err != nil {
				return err
			}
			path := filepath.Join(out, "genesis.json")
			if _, err := os.Stat(path); err == nil {
				return &hintError{fmt.Errorf("%s is there already", path), "a ledger is founded once; choose another directory for another ledger"}
			}
			if err := genesis.Write(path); err != nil {
				return err
			}
			if err := founding.WriteTrust(filepath.Join(out, "trust.json")); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "Wrote %s (%d members). Give it to every member; then each runs: xinqiao serve --config node.yaml\n",
				path, len(founding.Members))
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&charter, "charter", "", "what the authority decides, YAML (see deploy/config/charter.yaml)")
	flags.StringVar(&keys, "keyring", "", "the authority's keyring")
	flags.StringVar(&passphrase, "passphrase-file", "", "opens the keyring (or XINQIAO_PASSPHRASE)")
	flags.StringVar(&out, "out", ".", "directory for genesis.json and trust.json")
	for _, name := range []string{"charter", "keyring"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flags are defined above
		}
	}
	return cmd
}
