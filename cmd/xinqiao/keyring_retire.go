package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

func newKeyringRetire() *cobra.Command {
	var f keyringFlags
	var name string
	cmd := keyringVerb(&cobra.Command{
		Use:   "retire --keyring FILE --key KEY",
		Short: "Destroy a private key that is no longer needed",
		Long: `Destroy the private part of a signing or encryption key. It cannot be undone:
nothing signs with it and nothing sealed to it opens again. The key is named in
full, as ` + "`xinqiao keyring show`" + ` prints it. Older backups of the file still hold it.`,
		Example: "  xinqiao keyring retire --keyring minzheng/keys.xq --key 0123456789abcdef0123456789abcdef",
	}, &f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		k, err := f.open(gm.Emmansun())
		if err != nil {
			return err
		}
		defer k.Close()
		key, err := named(k, name)
		if err != nil {
			return usageError(cmd, err)
		}
		if err := k.Retire(key.Public); err != nil {
			return keyringError(err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "retired the %s key %s\n"+
			"next: destroy backups that still hold it; a running node or agent lets go of it with `xinqiao renew` or when it restarts\n", key.Kind, key.ID)
		return nil
	}
	cmd.Flags().StringVar(&name, "key", "", "the key, all 32 digits")
	mustRequire(cmd, "key")
	return cmd
}

// named returns the SM2 key with exactly this name.
func named(k *keyring.Keyring, name string) (keyring.Key, error) {
	for _, key := range k.Keys() {
		if key.ID.String() != name {
			continue
		}
		if key.Public.IsZero() {
			return key, fmt.Errorf("%s is a master of kind %q: what it tagged and sealed would be lost", name, key.Kind)
		}
		return key, nil
	}
	return keyring.Key{}, fmt.Errorf("%w: %s", keyring.ErrNoKey, name)
}
