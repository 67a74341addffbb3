package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

// importFlags name the files that keys come from.
type importFlags struct {
	keyringFlags
	sign, enc, enveloped string
}

func newKeyringImport() *cobra.Command {
	var f importFlags
	cmd := keyringVerb(&cobra.Command{
		Use:   "import --keyring FILE (--sign-key PEM (--enc-key PEM | --enveloped FILE) | --enveloped FILE)",
		Short: "Take over keys that exist, from a licensed CA or its key centre",
		Long: `Take over keys that exist, for a department that holds certificates of a licensed
CA. With --sign-key a new keyring is made from a signing key (plain PKCS #8) and an
encryption key: plain PKCS #8, or enveloped under the signing key as key centres
deliver it (GM/T 0009, GB/T 35276; DER or PEM). With --enveloped alone the encryption
key is added to an existing keyring, so that the signing key never leaves it.`,
		Example: `  xinqiao keyring import --keyring minzheng/keys.xq --sign-key sign.key --enveloped enc.p7
  xinqiao keyring import --keyring minzheng/keys.xq --enveloped renewed.der`,
	}, &f.keyringFlags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd, time.Now()) }
	flags := cmd.Flags()
	flags.StringVar(&f.sign, "sign-key", "", "the signing key, plain PKCS #8 PEM")
	flags.StringVar(&f.enc, "enc-key", "", "the encryption key, plain PKCS #8 PEM")
	flags.StringVar(&f.enveloped, "enveloped", "", "the encryption key, enveloped under the signing key")
	return cmd
}

func (f *importFlags) run(cmd *cobra.Command, now time.Time) error {
	switch {
	case f.sign == "" && f.enc == "" && f.enveloped != "":
		return f.add(cmd, now)
	case f.sign == "" || (f.enc == "") == (f.enveloped == ""):
		return usageError(cmd, errors.New("want --sign-key with either --enc-key or --enveloped, or --enveloped alone"))
	}
	passphrase, err := f.passphrase()
	if err != nil {
		return err
	}
	defer clear(passphrase)
	first := keyring.First{At: now}
	if first.Sign, err = readKeyFile(f.sign); err != nil {
		return err
	}
	if f.enc != "" {
		first.Enc, err = readKeyFile(f.enc)
	} else {
		first.Enc, err = f.readEnveloped(first.Sign)
	}
	if err != nil {
		return err
	}
	k, err := keyring.CreateFrom(f.keyring, passphrase, gm.Emmansun(), first)
	if err != nil {
		return keyringError(err)
	}
	defer k.Close()
	fmt.Fprintf(cmd.ErrOrStderr(), "made %s: back it up, and destroy the files that the keys came from\n"+
		"next: name it in the node's configuration with the certificates of these keys\n", f.keyring)
	return showKeys(cmd, k, false, now)
}

// add puts an enveloped key into an existing keyring.
func (f *importFlags) add(cmd *cobra.Command, now time.Time) error {
	file, err := readSecretFile(f.enveloped)
	if err != nil {
		return err
	}
	der, err := gm.EnvelopedDER(file)
	if err != nil {
		return fmt.Errorf("%s: %w", f.enveloped, err)
	}
	k, err := f.open(gm.Emmansun())
	if err != nil {
		return err
	}
	defer k.Close()
	if _, err := k.AddEnveloped(der, now); err != nil {
		return keyringError(fmt.Errorf("%s: %w", f.enveloped, err))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "added the encryption key; %s\n", certifyNext)
	return showKeys(cmd, k, false, now)
}

func (f *importFlags) readEnveloped(sign *gm.PrivateKey) (*gm.PrivateKey, error) {
	file, err := readSecretFile(f.enveloped)
	if err != nil {
		return nil, err
	}
	der, err := gm.EnvelopedDER(file)
	if err == nil {
		var key *gm.PrivateKey
		if key, err = gm.ParseEnvelopedKey(der, func(c []byte) ([]byte, error) { return gm.Emmansun().Decrypt(sign, c) }); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", f.enveloped, err)
}

func readKeyFile(path string) (*gm.PrivateKey, error) {
	file, err := readSecretFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(file)
	key, err := gm.ParsePrivatePEM(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}
