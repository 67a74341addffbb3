package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

// office is a CA's directory, opened for issuing: a root's, or an issuing CA's.
type office struct {
	dir string
	*cert.CA
	register *registerFile
}

// openOffice opens a CA with its keyring's passphrase. The caller closes it.
func openOffice(dir string, passphrase []byte, tell io.Writer, now time.Time) (*office, error) {
	root, err := readCertificate(filepath.Join(dir, pkiRoot))
	if err != nil {
		return nil, err
	}
	keys, err := keyring.Open(filepath.Join(dir, pkiKeyring), passphrase, gm.Emmansun())
	if err != nil {
		return nil, fmt.Errorf("the CA's keyring: %w", err)
	}
	o := &office{dir: dir}
	switch issuing, err := readCertificate(filepath.Join(dir, pkiIssuing)); {
	case err == nil:
		if o.CA, err = cert.OpenIssuingCA(root, issuing, keys.TLSSigner()); err != nil {
			return nil, err
		}
	case errors.Is(err, fs.ErrNotExist):
		if o.CA, err = cert.OpenCA(root, keys.TLSSigner()); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	o.register, err = openRegister(dir, tell, now)
	return o, err
}

func (o *office) close() error { return o.register.close() }

// grant is what is given to one department: two certificates, by usage.
type grant struct {
	sign, enc cert.Request
	licensed  map[cert.Usage]*cert.Licensed
}

// Why a key is not certified.
var (
	errKeyTaken       = errors.New("the key is certified already")
	errKeyCompromised = errors.New("a certificate for this key was revoked because others may have it")
)

// issue issues both certificates and has them on record before it returns them.
func (o *office) issue(g grant, now time.Time) (chains map[cert.Usage][]byte, err error) {
	if g.sign.Key == g.enc.Key {
		return nil, fmt.Errorf("%w: one key for signing and for encryption", cert.ErrRequest)
	}
	chains = map[cert.Usage][]byte{}
	var records []cert.Record
	for _, r := range []cert.Request{g.sign, g.enc} {
		if e, ok := o.register.Holder(r.Key); ok && (e.Name != r.Dept || e.Usage != r.Usage.String()) {
			return nil, exitError{exitDenied, fmt.Errorf("%w: the %s key for %s is the %s key of %s (certificate %s); it needs a key of its own",
				errKeyTaken, r.Usage, r.Dept, dash(e.Usage), e.Name, e.Serial)}
		}
		if o.register.Compromised(r.Key) {
			return nil, exitError{exitDenied, &hintError{fmt.Errorf("%w: the %s key of %s", errKeyCompromised, r.Usage, r.Dept),
				"the department makes a new key, and requests for that one"}}
		}
		chain, err := o.Issue(r, now)
		if err != nil {
			return nil, err
		}
		record, err := cert.RecordOf(chain, now)
		if err != nil {
			return nil, err
		}
		record.Licensed = g.licensed[r.Usage]
		chains[r.Usage], records = chain, append(records, record)
	}
	return chains, o.register.add(records...)
}

// deliver writes a department's certificates, which are on record already.
func (o *office) deliver(out string, chains map[cert.Usage][]byte) error {
	err := writeFiles(out, []file{
		{pkiSign, 0o644, cert.EncodePEM(chains[cert.Signing])}, {pkiEnc, 0o644, cert.EncodePEM(chains[cert.Encryption])},
		{pkiRoot, 0o644, cert.EncodePEM(o.Root().DER())},
	})
	if err != nil {
		return fmt.Errorf("the certificates are on the CA's register and could not be written to %s: issue again when they can: %w", out, err)
	}
	return nil
}

// revoke puts revocations on record and returns the CA's new list, which it also
// writes into the CA's directory.
func (o *office) revoke(serials []string, reason cert.Reason, now, next time.Time) (*cert.Revocations, error) {
	var records []cert.Record
	at := now.UTC().Truncate(time.Second)
	for i, serial := range serials {
		e, ok := o.register.Find(serial)
		switch {
		case !ok:
			return nil, &hintError{fmt.Errorf("this CA has issued no certificate %s", serial), "see xinqiao pki list --ca " + o.dir}
		case e.Revoked != nil || slices.Contains(serials[:i], serial):
			return nil, &hintError{fmt.Errorf("certificate %s is revoked already", serial), "xinqiao pki revoke --refresh makes a new list"}
		}
		records = append(records, cert.Record{Event: cert.Revoke, At: at, Serial: serial, Reason: reason})
	}
	_, number := o.register.Revocations()
	records = append(records, cert.Record{Event: cert.ListOut, At: at, Number: number})
	if err := o.register.add(records...); err != nil {
		return nil, err
	}
	list, _ := o.register.Revocations()
	der, err := o.IssueRevocations(list, number, now, next)
	if err != nil {
		return nil, err
	}
	if err := writeFiles(o.dir, []file{{pkiCRL, 0o644, cert.EncodeRevocations(der)}}); err != nil {
		return nil, &hintError{err, "the revocations are on record: xinqiao pki revoke --refresh makes the list"}
	}
	return cert.InspectRevocations(der)
}

// caPassphrase returns the passphrase of a CA's keyring: its own if one is given,
// else the other keyring's.
func caPassphrase(file string, other []byte) ([]byte, error) {
	if file != "" || os.Getenv(envCAPassphrase) != "" {
		return readPassphrase(file, envCAPassphrase)
	}
	return other, nil
}
