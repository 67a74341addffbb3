package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"xinqiao/crypto/envelope"
	"xinqiao/crypto/gm"
)

// maxInput bounds a file that sm signs or verifies, in bytes, maxSignature a
// signature: these are read into memory, as keys are. The other verbs stream.
const (
	maxInput     = 1 << 30
	maxSignature = 4 << 10
)

// newSMCommand returns `xinqiao sm`: SM2, SM3 and SM4 for files, in the forms
// that openssl 3 reads and writes. These are tools for people and scripts; a
// node's own keys live in its keyring.
func newSMCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sm",
		Short: "Hash, sign, verify, seal and open files with SM2, SM3 and SM4",
		Long: `Hash, sign, verify, seal and open files with SM2, SM3 and SM4.

Keys are PEM files (PKCS #8, SubjectPublicKeyInfo) and signatures DER, as openssl 3
writes and reads them; the signer id is 1234567812345678. A file named - is
standard input or output.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(usageError)
	cmd.AddCommand(newSMHash(), newSMKeygen(), newSMSign(), newSMVerify(), newSMSeal(), newSMOpen())
	return cmd
}

// smVerb fills in what the verbs with flags have in common.
func smVerb(cmd *cobra.Command, required ...string) *cobra.Command {
	cmd.Args = usageArgs(cobra.NoArgs)
	cmd.PreRunE = usageFlags
	for _, name := range required {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // a flag that is not defined above
		}
	}
	return cmd
}

func newSMHash() *cobra.Command {
	return &cobra.Command{
		Use:     "hash FILE…",
		Short:   "Print the SM3 hash of files",
		Example: "  xinqiao sm hash report.pdf",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, path := range args {
				if err := hashFile(cmd, path); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func hashFile(cmd *cobra.Command, path string) error {
	in, err := openInput(cmd, path)
	if err != nil {
		return err
	}
	defer in.Close()
	h := gm.Emmansun().NewHash()
	if _, err := io.Copy(h, in); err != nil {
		return fmt.Errorf("hash %s: %w", path, err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%x  %s\n", h.Sum(nil), path)
	return err
}

func newSMKeygen() *cobra.Command {
	var out, pub string
	cmd := &cobra.Command{
		Use:     "keygen --out KEY --pub PUB",
		Short:   "Make an SM2 key pair in two PEM files",
		Long:    "Make an SM2 key pair in two PEM files. The private key is not encrypted and its\nfile readable by its owner only; files are never replaced.",
		Example: "  xinqiao sm keygen --out key.pem --pub pub.pem",
		RunE: func(*cobra.Command, []string) error {
			key, err := gm.GenerateKey(rand.Reader)
			if err != nil {
				return err
			}
			if err := createFile(out, gm.MarshalPrivatePEM(key), 0o600); err != nil {
				return err
			}
			return createFile(pub, gm.MarshalPublicPEM(key.Public()), 0o644)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write the private key to this file")
	cmd.Flags().StringVar(&pub, "pub", "", "write the public key to this file")
	return smVerb(cmd, "out", "pub")
}

func newSMSign() *cobra.Command {
	var keyPath, in, out string
	cmd := &cobra.Command{
		Use:     "sign --key KEY --in FILE --out SIG",
		Short:   "Sign a file with an SM2 key",
		Example: "  xinqiao sm sign --key key.pem --in report.pdf --out report.sig",
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := readPrivateKey(cmd, keyPath)
			if err != nil {
				return err
			}
			msg, err := readInput(cmd, in, maxInput)
			if err != nil {
				return err
			}
			sig, err := gm.Emmansun().Sign(key, msg)
			if err != nil {
				return err
			}
			return writeOutput(cmd, out, sig.ASN1(), 0o644)
		},
	}
	cmd.Flags().StringVar(&keyPath, "key", "", "private key (PEM)")
	cmd.Flags().StringVar(&in, "in", "", "file to sign")
	cmd.Flags().StringVar(&out, "out", "", "write the signature (DER) to this file")
	return smVerb(cmd, "key", "in", "out")
}

func newSMVerify() *cobra.Command {
	var keyPath, in, sigPath string
	cmd := &cobra.Command{
		Use:     "verify --key PUB --in FILE --sig SIG",
		Short:   "Verify an SM2 signature of a file with both engines (exit 3: not valid)",
		Example: "  xinqiao sm verify --key pub.pem --in report.pdf --sig report.sig",
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := readPublicKey(cmd, keyPath)
			if err != nil {
				return err
			}
			msg, err := readInput(cmd, in, maxInput)
			if err != nil {
				return err
			}
			der, err := readInput(cmd, sigPath, maxSignature)
			if err != nil {
				return err
			}
			sig, err := gm.ParseSignature(der)
			if err != nil {
				return exitError{exitUnverified, fmt.Errorf("signature not valid: %s: %w", sigPath, err)}
			}
			switch gm.VerifyBoth(gm.Emmansun(), gm.Tjfoc(), key, msg, sig) {
			case gm.AgreeValid:
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "valid")
				return err
			case gm.Split:
				return exitError{exitUnverified, errors.New("signature not valid: the two engines disagree about it, so it may have been crafted; keep the file and report it")}
			}
			return exitError{exitUnverified, errors.New("signature not valid: the file, the key or the signer id (1234567812345678) is not what was signed with")}
		},
	}
	cmd.Flags().StringVar(&keyPath, "key", "", "public key (PEM)")
	cmd.Flags().StringVar(&in, "in", "", "file that was signed")
	cmd.Flags().StringVar(&sigPath, "sig", "", "signature (DER)")
	return smVerb(cmd, "key", "in", "sig")
}

func newSMSeal() *cobra.Command {
	var in, out, context string
	var to []string
	cmd := &cobra.Command{
		Use:     "seal --to PUB… --in FILE --out SEALED",
		Short:   "Encrypt a file for up to 16 public keys",
		Example: "  xinqiao sm seal --to a.pem --to b.pem --in report.pdf --out report.sealed",
		RunE: func(cmd *cobra.Command, _ []string) error {
			engine := gm.Emmansun()
			var recipients []envelope.Recipient
			for _, path := range to {
				key, err := readPublicKey(cmd, path)
				if err != nil {
					return err
				}
				recipients = append(recipients, envelope.Recipient{ID: envelope.KeyID(engine, key), Key: key})
			}
			sealer, err := envelope.NewSealer(engine, rand.Reader, recipients...)
			if err != nil {
				return err
			}
			from, err := openInput(cmd, in)
			if err != nil {
				return err
			}
			defer from.Close()
			return produce(cmd, out, 0o644, func(to io.Writer) error {
				w, err := sealer.NewWriter(to, []byte(context))
				if err != nil {
					return err
				}
				if _, err := io.Copy(w, from); err != nil {
					return fmt.Errorf("seal %s: %w", in, err)
				}
				return w.Close()
			})
		},
	}
	cmd.Flags().StringArrayVar(&to, "to", nil, "public key (PEM) of a recipient; repeat for more")
	cmd.Flags().StringVar(&in, "in", "", "file to encrypt")
	cmd.Flags().StringVar(&out, "out", "", "write the sealed file here")
	cmd.Flags().StringVar(&context, "context", "", "words that opening must repeat, such as a case number")
	return smVerb(cmd, "to", "in", "out")
}

// softKey opens envelopes with a key from a file.
type softKey struct {
	engine gm.Engine
	key    *gm.PrivateKey
}

func (k softKey) Unwrap(ciphertext []byte) ([]byte, error) {
	return k.engine.Decrypt(k.key, ciphertext)
}

// unseal opens an envelope while it is read.
func unseal(to io.Writer, from io.Reader, key *gm.PrivateKey, context []byte) error {
	engine := gm.Emmansun()
	r, err := envelope.NewReader(engine, envelope.KeyID(engine, key.Public()), softKey{engine, key}, context, from)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, r)
	return err
}

func newSMOpen() *cobra.Command {
	var keyPath, in, out, context string
	cmd := &cobra.Command{
		Use:   "open --key KEY --in SEALED --out FILE",
		Short: "Decrypt a sealed file (exit 3: changed, or sealed with other words)",
		Long: `Decrypt a sealed file. The output file appears once all of it has been found
authentic. To standard output (--out -) goes what is authentic so far: only exit code
0 says that it is the whole document.`,
		Example: "  xinqiao sm open --key key.pem --in report.sealed --out report.pdf",
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := readPrivateKey(cmd, keyPath)
			if err != nil {
				return err
			}
			from, err := openInput(cmd, in)
			if err != nil {
				return err
			}
			defer from.Close()
			err = produce(cmd, out, 0o600, func(to io.Writer) error { return unseal(to, from, key, []byte(context)) })
			if errors.Is(err, envelope.ErrOpen) {
				return exitError{exitUnverified, fmt.Errorf("open %s: %w: it was changed, or sealed with another --context", in, err)}
			}
			if err != nil {
				return fmt.Errorf("open %s: %w", in, err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&keyPath, "key", "", "private key (PEM)")
	cmd.Flags().StringVar(&in, "in", "", "sealed file")
	cmd.Flags().StringVar(&out, "out", "", "write the content here, readable by its owner only")
	cmd.Flags().StringVar(&context, "context", "", "the words given when it was sealed")
	return smVerb(cmd, "key", "in", "out")
}

func readPrivateKey(cmd *cobra.Command, path string) (*gm.PrivateKey, error) {
	file, err := readInput(cmd, path, gm.MaxKeyFile)
	if err != nil {
		return nil, err
	}
	defer clear(file)
	key, err := gm.ParsePrivatePEM(file)
	if err != nil {
		return nil, fmt.Errorf("read private key %s: %w", path, err)
	}
	return key, nil
}

func readPublicKey(cmd *cobra.Command, path string) (gm.PublicKey, error) {
	file, err := readInput(cmd, path, gm.MaxKeyFile)
	if err != nil {
		return gm.PublicKey{}, err
	}
	key, err := gm.ParsePublicPEM(file)
	if err != nil {
		return gm.PublicKey{}, fmt.Errorf("read public key %s: %w", path, err)
	}
	return key, nil
}

// openInput opens a file, or standard input for "-".
func openInput(cmd *cobra.Command, path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(path)
}

// produce has a file written, or standard output for "-". The file appears whole or
// not at all, in the place of an older one, whose mode it takes over.
func produce(cmd *cobra.Command, path string, mode os.FileMode, write func(io.Writer) error) error {
	if path == "-" {
		return write(cmd.OutOrStdout())
	}
	if info, err := os.Stat(path); err == nil {
		if !info.Mode().IsRegular() { // a pipe or a device: there is nothing to replace
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			return errors.Join(write(f), f.Close())
		}
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	err = write(f)
	if err == nil {
		err = errors.Join(f.Chmod(mode), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// readInput reads a whole file, or standard input for "-", up to a limit in bytes.
func readInput(cmd *cobra.Command, path string, limit int) ([]byte, error) {
	in, err := openInput(cmd, path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("read %s: it is over the limit of %d bytes", path, limit)
	}
	return b, nil
}

// writeOutput has content written as produce does.
func writeOutput(cmd *cobra.Command, path string, content []byte, mode os.FileMode) error {
	return produce(cmd, path, mode, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// createFile writes a file that must not exist yet.
func createFile(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
