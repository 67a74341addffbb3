package node

import (
	"slices"
	"sync"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/envelope"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange/broker"
	"xinqiao/ledger"
)

// keychain finds the private keys of certificates; the keyring is one.
type keychain interface {
	signerOf(gm.PublicKey) (ledger.Signer, bool)
	openerOf(gm.PublicKey) (envelope.Unwrapper, bool)
}

// ring is a keyring as a keychain.
type ring struct{ *keyring.Keyring }

func (r ring) signerOf(key gm.PublicKey) (ledger.Signer, bool) { return r.SignerOf(key) }

func (r ring) openerOf(key gm.PublicKey) (envelope.Unwrapper, bool) { return r.DecrypterOf(key) }

// ownCerts are this department's certificates that were ever in force or are to
// be, with the key of each that this node holds. It is safe for concurrent use.
type ownCerts struct {
	keys keychain

	mu      sync.Mutex
	signers map[gm.Digest]ledger.SigningKey
	openers []broker.Opener // newest first; replaced, never changed
}

func newOwnCerts(keys keychain) *ownCerts {
	return &ownCerts{keys: keys, signers: map[gm.Digest]ledger.SigningKey{}}
}

// add takes in pairs, the newest first. Certificates that do not read, or whose
// key is not here, are left out: what needs them says so.
func (o *ownCerts) add(pairs ...ledger.CertPair) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range slices.Backward(pairs) {
		if id, err := cert.Inspect(p.Sign); err == nil {
			if s, ok := o.keys.signerOf(id.Key); ok {
				o.signers[id.Fingerprint] = ledger.SigningKey{Signer: s, Public: id.Key}
			}
		}
		id, err := cert.Inspect(p.Enc)
		if err != nil || slices.ContainsFunc(o.openers, func(have broker.Opener) bool { return have.ID == id.Fingerprint }) {
			continue
		}
		if u, ok := o.keys.openerOf(id.Key); ok {
			o.openers = append([]broker.Opener{{ID: id.Fingerprint, Unwrapper: u}}, o.openers...)
		}
	}
}

// learn takes in certificates that were put in force for this department, by
// itself or by the authority; at start all that ever were.
func (n *Node) learn(e ledger.Entry) {
	if f := e.Fact; f != nil && f.Type == ledger.FactCert && f.Action == ledger.Set && f.Key == string(n.cfg.Department) {
		if certs, err := ledger.DecodeCerts(f.Content); err == nil {
			n.id.own.add(certs.Pairs()...)
		}
	}
}

func (o *ownCerts) signer(cert gm.Digest) (ledger.SigningKey, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key, ok := o.signers[cert]
	return key, ok
}

func (o *ownCerts) all() []broker.Opener {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.openers
}
