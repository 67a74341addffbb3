package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/ledger"
)

// newKeyringCommand returns `xinqiao keyring`: a department's keys and their
// generations.
func newKeyringCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keyring",
		Short: "Show, rotate, retire, import and serve a department's keys",
		Long: `Show, rotate, retire, import and serve a department's keys.

A keyring file holds signing keys, encryption keys and masters, encrypted under a
passphrase that is read from --passphrase-file or XINQIAO_PASSPHRASE. No verb shows
or exports a private key. A change replaces the file in one step, so a node or an
agent that has it open goes on; back the file up after each change.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(usageError)
	cmd.AddCommand(newKeyringShow(), newKeyringRotate(), newKeyringRetire(), newKeyringPassphrase(), newKeyringImport(), newKeyringServe())
	return cmd
}

// keyringFlags are those of every keyring verb.
type keyringFlags struct{ keyring, passphraseFile string }

// keyringVerb adds them to a verb, and what all verbs have in common.
func keyringVerb(cmd *cobra.Command, f *keyringFlags) *cobra.Command {
	cmd.Args = usageArgs(cobra.NoArgs)
	cmd.PreRunE = usageFlags
	cmd.Flags().StringVar(&f.keyring, "keyring", "", "the keyring file")
	cmd.Flags().StringVar(&f.passphraseFile, "passphrase-file", "", "file with the keyring's passphrase (or XINQIAO_PASSPHRASE)")
	mustRequire(cmd, "keyring")
	return cmd
}

// passphrase reads the passphrase; the caller clears it.
func (f *keyringFlags) passphrase() ([]byte, error) {
	return readPassphrase(f.passphraseFile, "XINQIAO_PASSPHRASE")
}

// open opens the keyring file.
func (f *keyringFlags) open(engine gm.Engine) (*keyring.Keyring, error) {
	passphrase, err := f.passphrase()
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	k, err := keyring.Open(f.keyring, passphrase, engine)
	return k, keyringError(err)
}

// keyringError adds what to do about an error of a keyring.
func keyringError(err error) error {
	for _, known := range []struct {
		is   error
		hint string
	}{
		{keyring.ErrPermissions, "a keyring belongs to the service's user alone: chown and chmod 600, and run this as that user"},
		{fs.ErrNotExist, "`xinqiao pki` makes a department's keyring, `xinqiao keyring import` one from keys that exist"},
		{fs.ErrExist, "a keyring is never overwritten: name a new file"},
		{keyring.ErrLast, "make the next key first: xinqiao keyring rotate"},
		{keyring.ErrUnavailable, "is `xinqiao keyring serve` running, as this user?"},
	} {
		if errors.Is(err, known.is) {
			return &hintError{err, known.hint}
		}
	}
	return err
}

func newKeyringShow() *cobra.Command {
	var f keyringFlags
	var output string
	var certs []string
	cmd := keyringVerb(&cobra.Command{
		Use:   "show --keyring FILE",
		Short: "List a keyring's keys",
		Long: `List a keyring's keys, the oldest first. A key is active if it is used without
naming it: the signing and encryption key of the certificates given with --cert, or
the oldest; the tag master of the present epoch; the newest local master.`,
		Example: `  xinqiao keyring show --keyring minzheng/keys.xq --cert minzheng/sign.pem --cert minzheng/enc.pem
  xinqiao keyring show --keyring unix:/run/xinqiao/keyring/agent.sock -o json`,
	}, &f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if output != "table" && output != "json" {
			return usageError(cmd, fmt.Errorf("-o %s: want table or json", output))
		}
		k, err := f.openOrDial()
		if err != nil {
			return err
		}
		defer k.Close()
		if err := useCertificates(k, certs); err != nil {
			return err
		}
		return showKeys(cmd, k, output == "json", time.Now())
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringArrayVar(&certs, "cert", nil, "a certificate of the department in force, PEM; may be repeated")
	return cmd
}

// agentPrefix marks a keyring that an agent holds, as in a node's configuration.
const agentPrefix = "unix:"

func (f *keyringFlags) byAgent() bool { return strings.HasPrefix(f.keyring, agentPrefix) }

// openOrDial opens a file, or asks the agent at unix:PATH.
func (f *keyringFlags) openOrDial() (*keyring.Keyring, error) {
	if !f.byAgent() {
		return f.open(gm.Emmansun())
	}
	d, err := keyring.Dial(strings.TrimPrefix(f.keyring, agentPrefix))
	if err != nil {
		return nil, keyringError(err)
	}
	return keyring.New(gm.Emmansun(), d)
}

// useCertificates makes the keys that certificates name the active ones.
func useCertificates(k *keyring.Keyring, paths []string) error {
	sign, enc := k.SignPublic(), k.EncPublic()
	for _, path := range paths {
		der, err := readCertificate(path)
		if err != nil {
			return err
		}
		who, err := cert.Inspect(der)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		switch who.Usage {
		case cert.Signing:
			sign = who.Key
		case cert.Encryption:
			enc = who.Key
		}
	}
	if err := k.Use(sign, enc); err != nil {
		return &hintError{fmt.Errorf("a certificate names a key that is not in this keyring: %w", err), "list the keys without --cert"}
	}
	return nil
}

// shownKey is one row of `keyring show`.
type shownKey struct {
	Key    string     `json:"key"`
	Kind   string     `json:"kind"`
	Made   *time.Time `json:"made,omitempty"`
	From   string     `json:"from_epoch,omitempty"`
	Active bool       `json:"active"`
	Public string     `json:"public_key,omitempty"` // uncompressed point, hexadecimal
}

func shownKeys(k *keyring.Keyring, epoch string) []shownKey {
	active := map[keyring.Kind]keyring.ID{}
	for _, key := range k.Keys() {
		switch key.Kind {
		case keyring.KindSign, keyring.KindEnc:
			if key.Public == k.SignPublic() || key.Public == k.EncPublic() {
				active[key.Kind] = key.ID
			}
		case keyring.KindTag:
			if key.From <= epoch {
				active[key.Kind] = key.ID
			}
		default:
			active[key.Kind] = key.ID
		}
	}
	var rows []shownKey
	for _, key := range k.Keys() {
		row := shownKey{Key: key.ID.String(), Kind: key.Kind.String(), From: key.From, Active: active[key.Kind] == key.ID}
		if !key.Made.IsZero() {
			row.Made = &key.Made
		}
		if !key.Public.IsZero() {
			row.Public = hex.EncodeToString(key.Public.Bytes())
		}
		rows = append(rows, row)
	}
	return rows
}

func showKeys(cmd *cobra.Command, k *keyring.Keyring, asJSON bool, now time.Time) error {
	rows := shownKeys(k, ledger.Epoch(now))
	if asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tKIND\tMADE\tFROM EPOCH\tSTATE")
	for _, r := range rows {
		made, state := "", "held"
		if r.Made != nil {
			made = r.Made.Local().Format("2006-01-02 15:04 MST")
		}
		if r.Active {
			state = "active"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Key, r.Kind, dash(made), dash(r.From), state)
	}
	return w.Flush()
}

// readSecretFile reads a small file with a key; the caller clears it.
func readSecretFile(path string) ([]byte, error) {
	const limit = 64 << 10
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, limit)
	}
	return os.ReadFile(path)
}
