package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/channel"
	"xinqiao/crypto/keyring"
	"xinqiao/ledger"
)

// credentials are the certificates that the configuration names, with their
// keys in the keyring: what this node shows to its peers, and what it puts on the
// ledger when they are newer than those there.
type credentials struct {
	pair    ledger.CertPair
	sign    cert.Identity
	enc     cert.Identity
	signKey *keyring.SignKey
	encKey  *keyring.EncKey
}

// readCredentials reads the configured certificates and finds their keys. They
// must be this department's, of the right uses, and valid at the time.
func (id *identity) readCredentials(c Config, now time.Time) (*credentials, error) {
	var out credentials
	var err error
	if out.pair.Sign, out.sign, err = id.certificate(c, c.SignCert, cert.Signing, now); err != nil {
		return nil, fmt.Errorf("sign_cert: %w", err)
	}
	if out.pair.Enc, out.enc, err = id.certificate(c, c.EncCert, cert.Encryption, now); err != nil {
		return nil, fmt.Errorf("enc_cert: %w", err)
	}
	var ok bool
	if out.signKey, ok = id.keys.SignerOf(out.sign.Key); !ok {
		return nil, errors.New("sign_cert: the keyring does not hold its key")
	}
	if out.encKey, ok = id.keys.DecrypterOf(out.enc.Key); !ok {
		return nil, errors.New("enc_cert: the keyring does not hold its key")
	}
	return &out, nil
}

// channel is what the node shows to its peers.
func (c *credentials) channel() channel.Credentials {
	return channel.Credentials{SignCert: c.pair.Sign, EncCert: c.pair.Enc, Signer: c.signKey.TLSSigner(),
		Decrypter: c.encKey.TLSDecrypter(), Sign: c.signKey.Sign}
}

// ErrNotInForce reports that the ledger holds no certificates of this department
// in force: they were withdrawn, and only the authority sets others.
var ErrNotInForce = errors.New("the ledger holds no certificates of this department in force: ask the authority to set them")

// renewal returns the change that puts the configured certificates in force, or
// nil when they are, or are older than those that are. forget leaves out every
// earlier pair: what rested on them ends, as it must when a key was lost.
func (n *Node) renewal(v *ledger.View, forget bool) (*ledger.FactChange, error) {
	creds := n.id.creds.Load()
	fact := v.Fact(ledger.FactCert, string(n.cfg.Department))
	if fact == nil || !fact.Active {
		return nil, ErrNotInForce
	}
	held, err := ledger.DecodeCerts(fact.Content)
	if err != nil {
		return nil, err
	}
	next := held
	if !bytes.Equal(held.Sign, creds.pair.Sign) || !bytes.Equal(held.Enc, creds.pair.Enc) {
		if was, err := older(creds, held); was || err != nil {
			n.log.Warn("the configured certificates are older than those in force: nothing is changed", "serial", creds.sign.Serial)
			return nil, err
		}
		next = held.Renew(creds.pair)
	}
	if forget {
		next.Earlier = nil
	}
	content := canon.MustMarshal(next)
	if bytes.Equal(content, fact.Content) {
		return nil, nil
	}
	return &ledger.FactChange{Type: ledger.FactCert, Key: string(n.cfg.Department), Action: ledger.Set, Replaces: fact.Version, Content: content}, nil
}

// older reports whether what is configured was in force before what is now: a file
// from a backup must not bring back a key that was replaced.
func older(c *credentials, held ledger.Certs) (bool, error) {
	if slices.ContainsFunc(held.Earlier, func(p ledger.CertPair) bool {
		return bytes.Equal(p.Sign, c.pair.Sign) && bytes.Equal(p.Enc, c.pair.Enc)
	}) {
		return true, nil
	}
	inForce, err := cert.Inspect(held.Sign)
	return err == nil && c.sign.NotBefore.Before(inForce.NotBefore), err
}

// Renewed says what Renew came to.
type Renewed struct {
	Serial  string    `json:"serial"` // of the signing certificate in use now
	Until   time.Time `json:"until"`
	Web     time.Time `json:"web_until"` // of the HTTPS certificate in use now
	Changed bool      `json:"changed"`   // the ledger holds them since this call
}

// Renew reads keyring and certificates again, that of HTTPS among them, shows the
// new ones to whoever connects and puts the department's on the ledger, under those in force. Exchanges go on meanwhile: what
// rests on the earlier certificates stays, unless forget says that they must not
// be believed any more. On failure the node goes on with what it had.
func (n *Node) Renew(ctx context.Context, forget bool) (Renewed, error) {
	if err := n.id.keys.Reload(); err != nil {
		return Renewed{}, fmt.Errorf("read the keyring again: %w", err)
	}
	creds, err := n.id.readCredentials(n.cfg, n.clock())
	if err != nil {
		return Renewed{}, err
	}
	web, err := readWeb(n.cfg)
	if err != nil {
		return Renewed{}, err
	}
	if err := n.end.Reload(creds.channel()); err != nil {
		return Renewed{}, err
	}
	n.id.use(creds)
	n.id.web.Store(web)
	var change *ledger.FactChange
	err = n.ledger.Read(ctx, func(v *ledger.View) (err error) {
		change, err = n.renewal(v, forget)
		return err
	})
	if err == nil && change != nil {
		err = n.appendFact(ctx, change)
	}
	if err != nil {
		return Renewed{}, fmt.Errorf("put the certificates on the ledger: %w", err)
	}
	n.log.Info("certificates read again", "serial", creds.sign.Serial, "changed", change != nil, "forget", forget)
	return Renewed{Serial: creds.sign.Serial, Until: creds.sign.NotAfter, Web: web.Leaf.NotAfter, Changed: change != nil}, nil
}

// use makes the certificates those that this node shows and answers for.
func (id *identity) use(c *credentials) {
	id.own.add(c.pair)
	id.creds.Store(c)
}
