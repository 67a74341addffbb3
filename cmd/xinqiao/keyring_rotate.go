package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/ledger"
)

// rotateFlags say of which kinds a new key is made.
type rotateFlags struct {
	keyringFlags
	sign, enc, tag, local bool
	from                  string
}

func newKeyringRotate() *cobra.Command {
	var f rotateFlags
	cmd := keyringVerb(&cobra.Command{
		Use:   "rotate --keyring FILE (--sign | --enc | --tag | --local)",
		Short: "Add a new key beside the old ones",
		Long: `Add a new key beside the old ones. Nothing changes hands by it: a signing or
encryption key is used once a certificate in the ledger names it, a tag master from
its first epoch on, a local master for what is stored from now on. Old keys stay
for what is old, until they are retired.`,
		Example: `  xinqiao keyring rotate --keyring minzheng/keys.xq --sign --enc
  xinqiao keyring rotate --keyring minzheng/keys.xq --tag --from-epoch 2027-01`,
	}, &f.keyringFlags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd, time.Now()) }
	flags := cmd.Flags()
	flags.BoolVar(&f.sign, "sign", false, "a signing key")
	flags.BoolVar(&f.enc, "enc", false, "an encryption key")
	flags.BoolVar(&f.tag, "tag", false, "a master of subject tags")
	flags.BoolVar(&f.local, "local", false, "a master of what this node stores")
	flags.StringVar(&f.from, "from-epoch", "", "the first epoch of the tag master, YYYY-MM: the next month unless given")
	return cmd
}

func (f *rotateFlags) run(cmd *cobra.Command, now time.Time) error {
	if !f.sign && !f.enc && !f.tag && !f.local {
		return usageError(cmd, errors.New("say what to rotate: --sign, --enc, --tag or --local"))
	}
	if err := f.firstEpoch(now); err != nil {
		return usageError(cmd, err)
	}
	k, err := f.open(gm.Emmansun())
	if err != nil {
		return err
	}
	defer k.Close()
	for _, step := range []struct {
		wanted bool
		what   string
		add    func() (gm.PublicKey, error)
		next   string
	}{
		{f.sign, "signing key", func() (gm.PublicKey, error) { return k.AddSign(now) }, certifyNext},
		{f.enc, "encryption key", func() (gm.PublicKey, error) { return k.AddEnc(now) }, certifyNext},
		{f.tag, "tag master", func() (gm.PublicKey, error) { return gm.PublicKey{}, k.AddTag(f.from, now) },
			"it serves the epochs from " + f.from + " on; the running node takes it up with `xinqiao renew`"},
		{f.local, "local master", func() (gm.PublicKey, error) { return gm.PublicKey{}, k.AddLocal(now) },
			"the running node takes it up with `xinqiao renew`"},
	} {
		if !step.wanted {
			continue
		}
		if _, err := step.add(); err != nil {
			return keyringError(err)
		}
		keys := k.Keys()
		fmt.Fprintln(cmd.OutOrStdout(), keys[len(keys)-1].ID)
		fmt.Fprintf(cmd.ErrOrStderr(), "made a %s; %s\n", step.what, step.next)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "back up %s now: the last backup lacks what was made\n", f.keyring)
	return nil
}

const certifyNext = "nothing uses it before a certificate names it\n" +
	"next: `xinqiao pki csr` and have the certificate issued, or `xinqiao pki renew`; then `xinqiao renew` for the running node.\n" +
	"Retire the old key when no certificate in force names it and nothing more is sealed to it: xinqiao keyring retire"

// firstEpoch fills in the tag master's first epoch and refuses one that has
// begun: what was tagged in it would not be found again.
func (f *rotateFlags) firstEpoch(now time.Time) error {
	if !f.tag {
		if f.from != "" {
			return errors.New("--from-epoch goes with --tag")
		}
		return nil
	}
	if f.from == "" {
		y, m, _ := now.UTC().Date()
		f.from = ledger.Epoch(time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC))
		return nil
	}
	at, err := time.Parse("2006-01", f.from)
	if err != nil {
		return fmt.Errorf("--from-epoch %s: want YYYY-MM", f.from)
	}
	if ledger.Epoch(at) <= ledger.Epoch(now) {
		return fmt.Errorf("--from-epoch %s has begun: %w", f.from, keyring.ErrEpoch)
	}
	return nil
}
