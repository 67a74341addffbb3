package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

// Copies of a department's licensed certificates, beside its requests.
const (
	pkiLicensedSign  = "licensed-sign.pem"
	pkiLicensedEnc   = "licensed-enc.pem"
	pkiLicensedChain = "licensed-chain.pem"
)

// licensedFlags name the certificates that a department already holds from a
// licensed CA (依法设立的电子认证服务机构): it keeps its keys, of which a key centre has
// made the one for encryption, and the exchange certifies them once more.
type licensedFlags struct {
	root, sign, enc, chain string
}

func (l *licensedFlags) define(cmd *cobra.Command, withRoot bool) {
	flags := cmd.Flags()
	flags.StringVar(&l.sign, "licensed-sign", "", "the department's signing certificate of a licensed CA")
	flags.StringVar(&l.enc, "licensed-enc", "", "its encryption certificate of the licensed CA")
	flags.StringVar(&l.chain, "licensed-chain", "", "the CAs between them and the licensed CA's root, the issuer first")
	if withRoot {
		flags.StringVar(&l.root, "licensed-ca", "", "the licensed CA's root certificate, from the CA itself")
	}
}

func (l *licensedFlags) check(cmd *cobra.Command, withRoot bool) error {
	given := l.sign != "" || l.enc != "" || l.chain != "" || l.root != ""
	if given && (l.sign == "" || l.enc == "" || withRoot && l.root == "") {
		return usageError(cmd, errors.New("licensed certificates come together: --licensed-sign and --licensed-enc, at the CA with --licensed-ca"))
	}
	return nil
}

// errLicensedKey reports a licensed certificate of another key than was asked for.
var errLicensedKey = errors.New("the licensed certificate is not that of the key")

// copies returns the licensed certificates to send with the requests, if there
// are any: they must be those of the keyring's keys.
func (l *licensedFlags) copies(sign, enc gm.PublicKey) ([]file, error) {
	if l.sign == "" {
		return nil, nil
	}
	var files []file
	for _, one := range []struct {
		usage      cert.Usage
		path, name string
		key        gm.PublicKey
	}{{cert.Signing, l.sign, pkiLicensedSign, sign}, {cert.Encryption, l.enc, pkiLicensedEnc, enc}} {
		der, err := readCertificate(one.path)
		if err != nil {
			return nil, err
		}
		_, key, err := cert.InspectLicensed(der, one.usage)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.path, err)
		}
		if key != one.key {
			return nil, &hintError{fmt.Errorf("%s: %w: the keyring's %s key is another", one.path, errLicensedKey, one.usage),
				"xinqiao keyring import brings a licensed CA's keys into the keyring"}
		}
		files = append(files, file{one.name, 0o644, cert.EncodePEM(der)})
	}
	if l.chain != "" {
		between, err := readCertificate(l.chain)
		if err != nil {
			return nil, err
		}
		files = append(files, file{pkiLicensedChain, 0o644, cert.EncodePEM(between)})
	}
	return files, nil
}

// verify holds the licensed certificates to the licensed CA's root and to the keys
// that are to be certified, and shows whose they are.
func (l *licensedFlags) verify(cmd *cobra.Command, g grant, now time.Time) (map[cert.Usage]*cert.Licensed, error) {
	if l.sign == "" {
		return nil, nil
	}
	root, err := readCertificate(l.root)
	if err != nil {
		return nil, err
	}
	var between []byte
	if l.chain != "" {
		if between, err = readCertificate(l.chain); err != nil {
			return nil, err
		}
	}
	found := map[cert.Usage]*cert.Licensed{}
	for _, one := range []struct {
		path string
		cert.Request
	}{{l.sign, g.sign}, {l.enc, g.enc}} {
		leaf, err := readCertificate(one.path)
		if err != nil {
			return nil, err
		}
		licensed, key, err := cert.VerifyLicensed(root, leaf, between, one.Usage, now)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.path, err)
		}
		if key != one.Key {
			return nil, fmt.Errorf("%s: %w: the request's %s key is another", one.path, errLicensedKey, one.Usage)
		}
		found[one.Usage] = &licensed
		fmt.Fprintf(cmd.ErrOrStderr(), "licensed %s certificate %s: %s\n", one.Usage, licensed.Serial, licensed.Subject)
	}
	return found, nil
}
