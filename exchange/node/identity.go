package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// identity is who this node is: its keys and the certificates that name them.
type identity struct {
	keys    *keyring.Keyring
	creds   atomic.Pointer[credentials]
	web     atomic.Pointer[tls.Certificate]
	engine  gm.Engine
	second  gm.Engine
	anchors *anchors
	own     *ownCerts
	revoked *revocations

	// What was found out about certificates of either use.
	signers *ledger.Identities
	sealers *ledger.Identities
}

// openIdentity opens keyring, certificates and genesis and checks that they are
// one department's: a node that starts with another's keys would sign what
// nobody accepts.
func openIdentity(c Config, now time.Time, log *slog.Logger) (*identity, error) {
	id := &identity{}
	var err error
	if id.engine, id.second, err = gm.ByName(c.Engine); err != nil {
		return nil, err
	}
	for _, e := range []gm.Engine{id.engine, id.second} {
		if err := gm.SelfTest(e); err != nil {
			return nil, fmt.Errorf("self-test of the %s engine: %w", e.Name(), err)
		}
	}
	genesis, err := ReadGenesis(c.Genesis)
	if err != nil {
		return nil, err
	}
	if id.anchors, err = genesis.open(now); err != nil {
		return nil, err
	}
	if id.revoked, err = openRevocations(c.CRL, id.anchors.root, log, now); err != nil {
		return nil, fmt.Errorf("crl: %w", err)
	}
	web, err := readWeb(c)
	if err != nil {
		return nil, err
	}
	id.web.Store(web)
	// Parsed once: this is asked about in every exchange, and a root's own signature
	// does not change.
	root, err := cert.ParseRoot(id.anchors.root)
	if err != nil {
		return nil, err
	}
	identify := func(usage cert.Usage) func([]byte, time.Time) (string, gm.PublicKey, error) {
		return func(der []byte, at time.Time) (string, gm.PublicKey, error) {
			who, err := root.Verify(der, at)
			if err == nil && who.Usage != usage {
				err = errors.New("the certificate is for another use")
			}
			return who.Dept, who.Key, err
		}
	}
	id.signers = ledger.NewIdentities(id.engine, identify(cert.Signing))
	id.sealers = ledger.NewIdentities(id.engine, identify(cert.Encryption))
	if id.keys, err = openKeyring(c, id.engine); err != nil {
		return nil, fmt.Errorf("open the keyring: %w", err)
	}
	id.own = newOwnCerts(ring{id.keys})
	creds, err := id.readCredentials(c, now)
	if err != nil {
		return nil, errors.Join(err, id.keys.Close())
	}
	id.use(creds)
	return id, nil
}

// readWeb reads the certificate of the HTTPS listener and its key.
func readWeb(c Config) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.Web.Cert, c.Web.Key)
	if err != nil {
		return nil, fmt.Errorf("web certificate: %w", err)
	}
	return &pair, nil
}

func (id *identity) certificate(c Config, path string, usage cert.Usage, now time.Time) ([]byte, cert.Identity, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, cert.Identity{}, fmt.Errorf("read the certificate: %w", err)
	}
	der, err := cert.DecodePEM(file)
	if err != nil {
		return nil, cert.Identity{}, fmt.Errorf("certificate: %w", err)
	}
	who, err := cert.Verify(id.anchors.root, der, now)
	switch {
	case err != nil:
		return nil, who, fmt.Errorf("certificate: %w", err)
	case who.Dept != string(c.Department) || who.Usage != usage:
		return nil, who, fmt.Errorf("the certificate is %s's for another department or use, not this node's", who.Dept)
	}
	return der, who, nil
}

func (id *identity) signing(der []byte, at time.Time) (string, gm.PublicKey, error) {
	return id.signers.At(der, at)
}

func (id *identity) sealing(der []byte, at time.Time) (string, gm.PublicKey, error) {
	return id.sealers.At(der, at)
}

// authorityEnc returns the authority's encryption key from the genesis.
func (id *identity) authorityEnc(now time.Time) (gm.PublicKey, gm.Digest, error) {
	dept, key, err := id.sealing(id.anchors.authorityEnc, now)
	if err == nil && dept != string(exchange.Authority) {
		err = errors.New("genesis: the authority's encryption certificate names another")
	}
	return key, id.engine.Sum(id.anchors.authorityEnc), err
}
