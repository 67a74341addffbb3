package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

func newKeyringPassphrase() *cobra.Command {
	var f keyringFlags
	var newFile string
	cmd := keyringVerb(&cobra.Command{
		Use:   "passphrase --keyring FILE --new-passphrase-file FILE",
		Short: "Change a keyring's passphrase",
		Long: `Change a keyring's passphrase. The new one is read from --new-passphrase-file or
XINQIAO_NEW_PASSPHRASE. Backups still open with the old one: whoever had it and a
backup has the keys, so after a leak rotate and retire them.`,
		Example: "  xinqiao keyring passphrase --keyring minzheng/keys.xq --passphrase-file old --new-passphrase-file new",
	}, &f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		next, err := readPassphrase(newFile, "XINQIAO_NEW_PASSPHRASE")
		if err != nil {
			return err
		}
		defer clear(next)
		k, err := f.open(gm.Emmansun())
		if err != nil {
			return err
		}
		defer k.Close()
		if err := k.Rekey(next, keyring.DefaultCost()); err != nil {
			return keyringError(err)
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "the passphrase is changed\n"+
			"next: change passphrase_file of the node or agent; one that runs goes on and needs the new passphrase at its next start")
		return nil
	}
	cmd.Flags().StringVar(&newFile, "new-passphrase-file", "", "file with the new passphrase (or XINQIAO_NEW_PASSPHRASE)")
	return cmd
}
