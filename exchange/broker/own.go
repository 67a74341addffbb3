package broker

import (
	"errors"
	"slices"
	"time"

	"xinqiao/crypto/envelope"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// An Opener is one of this department's encryption keys, with the fingerprint of
// the certificate under which others seal to it.
type Opener struct {
	ID gm.Digest
	envelope.Unwrapper
}

// errNoKey means that nothing can be signed, and so nothing is said, not even a
// denial.
func errNoKey(op string) error {
	return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeKeys, Op: op,
		Msg:  "this node has no key for the certificate that the ledger holds for its department, so it can sign nothing",
		Hint: "tell the node's operator: certificates and keyring do not match the ledger"}
}

// signer returns the key of this department's certificate in force, and the
// certificate's fingerprint.
func (b *Broker) signer(op string) (cert gm.Digest, key ledger.SigningKey, err error) {
	certs, ok := b.cfg.Ledger.AppliedCerts(b.cfg.Self)
	if ok {
		cert = b.cfg.Engine.Sum(certs.Sign)
		key, ok = b.cfg.Signers(cert)
	}
	if !ok {
		return cert, key, errNoKey(op)
	}
	return cert, key, nil
}

// ownRecipient is this department as the recipient of what it seals itself.
func (b *Broker) ownRecipient() (envelope.Recipient, error) {
	certs, ok := b.cfg.Ledger.AppliedCerts(b.cfg.Self)
	if !ok {
		return envelope.Recipient{}, errNoKey("broker.seal")
	}
	return b.recipient(b.cfg.Self, certs.Enc)
}

// listed reports whether materials that were issued under the certificate still
// count: it is this department's in force, or one that was renewed.
func (b *Broker) listed(cert gm.Digest) bool {
	certs, ok := b.cfg.Ledger.AppliedCerts(b.cfg.Self)
	return ok && slices.ContainsFunc(certs.Pairs(), func(p ledger.CertPair) bool { return b.cfg.Engine.Sum(p.Sign) == cert })
}

// unseal opens an envelope with the one of this department's encryption keys that
// it is addressed to, be that of a certificate long replaced.
func (b *Broker) unseal(context, sealed []byte) ([]byte, error) {
	for _, o := range b.cfg.Openers() {
		raw, err := envelope.Open(b.cfg.Engine, o.ID, o, context, sealed)
		if !errors.Is(err, envelope.ErrNotRecipient) {
			return raw, err
		}
	}
	return nil, envelope.ErrNotRecipient
}

// renewalGrace is how long after a renewal the certificates before it still
// speak: longer than any request and any release lives, so that a renewal drops
// none that is on its way.
const renewalGrace = 2 * requestLife

// speaks lists the signing certificates under which the department's word of
// now counts: the one in force, and for a while after a renewal those before it.
func (p party) speaks(now time.Time) [][]byte {
	if len(p.certs.Sign) == 0 {
		return nil
	}
	list := [][]byte{p.certs.Sign}
	if p.cert.Time.Add(renewalGrace).After(now) {
		for _, pair := range p.certs.Earlier {
			list = append(list, pair.Sign)
		}
	}
	return list
}

// spoke reports whether the fingerprint is of a certificate under which the
// department speaks now.
func (b *Broker) spoke(p party, cert gm.Digest, now time.Time) bool {
	return slices.ContainsFunc(p.speaks(now), func(der []byte) bool { return b.cfg.Engine.Sum(der) == cert })
}

// openWord checks that msg is the word of the department p, opens it into v and
// returns the fingerprint of the certificate that it was signed with.
func (b *Broker) openWord(p party, dept exchange.Dept, domain string, msg []byte, v any, now time.Time) (gm.Digest, error) {
	err := errCertificate
	for _, der := range p.speaks(now) {
		who, key, certErr := b.cfg.SigningCert(der, now)
		if certErr != nil || who != string(dept) {
			continue
		}
		if err = openSigned(b.cfg.Engine, key, domain, msg, v); err == nil {
			return b.cfg.Engine.Sum(der), nil
		}
		if !errors.Is(err, errSignature) {
			break // it is not encoded as it should be, whoever signed it
		}
	}
	return gm.Digest{}, err
}

var errCertificate = errors.New("the certificate does not hold")
