package broker

import (
	"fmt"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/ledger"
)

// Domains of what the parties sign to each other.
const (
	domainRequest  = "xinqiao/ask/v1"
	domainResponse = "xinqiao/answer/v1"
	domainCase     = "xinqiao/case/v1"
)

// request is what a requester signs. Its digest, hidden by the nonce, stands in
// the holder's ledger entry.
type request struct {
	Suite         string           `cbor:"1,keyasint"`
	Origin        string           `cbor:"2,keyasint"` // of the ledger
	ID            ledger.ID        `cbor:"3,keyasint"`
	Nonce         gm.Digest        `cbor:"4,keyasint"`
	Requester     exchange.Dept    `cbor:"5,keyasint"`
	Holder        exchange.Dept    `cbor:"6,keyasint"` // the audience
	RequesterCert gm.Digest        `cbor:"7,keyasint"`
	HolderCert    gm.Digest        `cbor:"8,keyasint"`
	Item          exchange.Item    `cbor:"9,keyasint"`
	Subject       exchange.Subject `cbor:"10,keyasint"`
	Views         []exchange.View  `cbor:"11,keyasint"`
	Purpose       exchange.Purpose `cbor:"12,keyasint"`
	Matter        exchange.Matter  `cbor:"13,keyasint"`
	Case          caseProof        `cbor:"14,keyasint"`
	Operator      operatorProof    `cbor:"15,keyasint"`
	Authority     *authorityProof  `cbor:"16,keyasint,omitempty"`
	Tag           ledger.Tag       `cbor:"17,keyasint"` // the requester's own tag of the subject
	Epoch         string           `cbor:"18,keyasint"`
	Issued        int64            `cbor:"19,keyasint"` // Unix ms
	Expires       int64            `cbor:"20,keyasint"`
	Seen          uint64           `cbor:"21,keyasint,omitempty"` // leaves that the requester has applied: the holder catches up before it decides
}

// timely reports whether the request is of now. It compares before it
// subtracts: the times are the requester's, and may be anything.
func (q *request) timely(now time.Time) bool {
	at, skew := now.UnixMilli(), clockSkew.Milliseconds()
	return q.Issued <= at+skew && q.Issued > 0 && q.Expires > q.Issued && at <= q.Expires &&
		q.Expires-q.Issued <= requestLife.Milliseconds()
}

// detail is what the body of the request's entry says it was about.
func (q *request) detail() ledger.Body {
	d := ledger.Body{Item: q.Item, Subject: q.Subject, Views: q.Views, Purpose: q.Purpose, Matter: q.Matter,
		Case: q.Case.Case, Operator: q.Operator.Operator}
	if q.Authority != nil {
		d.Authority = q.Authority.Key
	}
	return d
}

// restsOn reports whether an access names the authority and the case that the
// request named: on another authority's quota, this one's would not be used up.
func (q *request) restsOn(a *ledger.Access) bool {
	return q.Authority != nil && a.Basis.At(ledger.SlotAuthority).Key == q.Authority.Key &&
		a.Basis.At(ledger.SlotCase).Key == q.Case.Key
}

// caseProof opens the commitment of a case fact to the holder.
type caseProof struct {
	Case exchange.Case `cbor:"1,keyasint"`
	Key  string        `cbor:"2,keyasint,omitempty"` // of the case fact; empty when none was opened
	Salt gm.Digest     `cbor:"3,keyasint"`
}

// operatorProof shows that the operator is on the requester's roster. Without a
// salt it asserts only the name.
type operatorProof struct {
	Operator exchange.Operator `cbor:"1,keyasint"`
	Role     exchange.Role     `cbor:"2,keyasint,omitempty"`
	Salt     gm.Digest         `cbor:"3,keyasint"`
}

// authorityProof opens the commitment of an authority fact to the holder.
type authorityProof struct {
	Key    string    `cbor:"1,keyasint"`
	Record []byte    `cbor:"2,keyasint"`
	Salt   gm.Digest `cbor:"3,keyasint"`
}

// signed is a canonical body with its author's signature.
type signed struct {
	Body []byte       `cbor:"1,keyasint"`
	Sig  gm.Signature `cbor:"2,keyasint"`
}

// response is what a holder signs and seals to the requester; for a denial it
// is signed alone.
type response struct {
	Suite        string                 `cbor:"1,keyasint"`
	Request      gm.Digest              `cbor:"2,keyasint"` // digest of the signed request
	Entry        ledger.ID              `cbor:"3,keyasint"`
	Holder       exchange.Dept          `cbor:"4,keyasint"`
	Requester    exchange.Dept          `cbor:"5,keyasint"`
	Outcome      exchange.Outcome       `cbor:"6,keyasint"`
	AsOf         int64                  `cbor:"7,keyasint"` // Unix ms
	Presentation *material.Presentation `cbor:"8,keyasint,omitempty"`
	Reasons      []exchange.Reason      `cbor:"9,keyasint,omitempty"`
	Retain       string                 `cbor:"10,keyasint,omitempty"`
}

// reply is what travels back: exactly one of Sealed and Denial, and the sealed
// body of the entry.
type reply struct {
	Entry  ledger.ID `cbor:"1,keyasint"`
	Sealed []byte    `cbor:"2,keyasint,omitempty"`
	Denial []byte    `cbor:"3,keyasint,omitempty"` // encoded signed response
	Body   []byte    `cbor:"4,keyasint,omitempty"`
}

// Keys uses this department's secrets that nobody else has a counterpart of;
// crypto/keyring is one.
type Keys interface {
	Tag(epoch, data string) ([16]byte, error)
	SealLocal(purpose string, aad, plaintext []byte) ([]byte, error)
	OpenLocal(purpose string, aad, sealed []byte) ([]byte, error)
	LocalTag(purpose string, data []byte) (gm.Digest, error)
}

func sign(k ledger.Signer, domain string, v any) ([]byte, error) {
	b, err := canon.Marshal(v)
	if err != nil {
		return nil, err
	}
	sig, err := k.Sign(domain, b)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return canon.Marshal(signed{Body: b, Sig: sig})
}

// openSigned checks key's signature over msg and decodes its body into v.
func openSigned(e gm.Engine, key gm.PublicKey, domain string, msg []byte, v any) error {
	var s signed
	if err := canon.Unmarshal(msg, &s); err != nil {
		return err
	}
	if !e.Verify(key, gm.Preimage(domain, s.Body), s.Sig) {
		return errSignature
	}
	return canon.Unmarshal(s.Body, v)
}

// readUnverified decodes a request: one that this node signed itself, or another's
// of which nothing is believed.
func readUnverified(msg []byte) (q request, err error) {
	var s signed
	if err := canon.Unmarshal(msg, &s); err != nil {
		return q, err
	}
	return q, canon.Unmarshal(s.Body, &q)
}

// digestOf is what the ledger entry keeps of a signed request.
func digestOf(e gm.Engine, signedRequest []byte) gm.Digest {
	return gm.Commit(e, ledger.DomainRequest, nil, signedRequest)
}

// subjectKey is the text under which a department tags a subject.
func subjectKey(s exchange.Subject) string { return string(s.Kind) + "\x00" + s.ID }

// caseCommitment is what a case fact commits to.
func caseCommitment(e gm.Engine, salt gm.Digest, c exchange.Case, holder exchange.Dept) gm.Digest {
	return gm.Commit(e, domainCase, salt[:], []byte(string(c)+"\x00"+string(holder)))
}

// sealContext binds a sealed response to its request and entry.
func sealContext(request gm.Digest, entry ledger.ID) []byte {
	return gm.Preimage(domainResponse, append(request[:], entry[:]...))
}

// bodyContext binds a sealed body to its entry.
func bodyContext(entry ledger.ID) []byte { return gm.Preimage(ledger.DomainBody, entry[:]) }

func millis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
