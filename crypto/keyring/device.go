package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

// Errors of a Device, and so of every use of a key.
var (
	// ErrNoKey reports a key that is not held: never was, or was retired.
	ErrNoKey = errors.New("the keyring does not hold this key")
	// ErrRefused reports a use that the key is not for: an object without a domain,
	// an object in a handshake, a master over free input.
	ErrRefused = errors.New("the keyring does not do this with this key")
	// ErrUnavailable reports that whatever holds the keys does not answer. Nothing
	// was signed or opened as far as the caller may act on it; trying again is safe.
	ErrUnavailable = errors.New("the holder of the keys does not answer")
)

// MaxMessage bounds what is signed, decrypted or authenticated in one use, in
// bytes: the largest object that anyone would decode, without what goes around it
// on the way to an agent.
const MaxMessage = canon.MaxSize - 4096

// Kind is what a key is for. A key has one kind and serves nothing else.
type Kind uint8

// The kinds. They stand in keyring files and are never renumbered.
const (
	KindSign  Kind = 1 + iota // SM2 private key that signs
	KindEnc                   // SM2 private key that decrypts
	KindTag                   // master of subject tags from an epoch on
	KindLocal                 // master of what is sealed at rest on this node
	KindName                  // master of the names of things at rest; never rotated
)

// String returns the word that `xinqiao keyring` prints.
func (k Kind) String() string {
	switch k {
	case KindSign:
		return "sign"
	case KindEnc:
		return "enc"
	case KindTag:
		return "tag"
	case KindLocal:
		return "local"
	case KindName:
		return "name"
	}
	return "unknown"
}

// domain is that of everything a master of this kind authenticates; empty for
// keys that are no masters.
func (k Kind) domain() string {
	switch k {
	case KindTag:
		return "xinqiao/tag/v2"
	case KindLocal:
		return "xinqiao/local/v2"
	case KindName:
		return "xinqiao/local-name/v1"
	}
	return ""
}

// An ID names one key for ever: it is computed from the key, so no counter can
// make it mean another key after a backup is restored.
type ID [16]byte

// String returns the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// idDomain separates the IDs of masters from what the masters are for.
const idDomain = "xinqiao/keyring-id/v1"

func publicID(e gm.Engine, kind Kind, pub gm.PublicKey) ID {
	d := e.Sum(gm.Preimage(idDomain, []byte{byte(kind)}), pub.Bytes())
	return ID(d[:16])
}

func masterID(e gm.Engine, kind Kind, master []byte) ID {
	d := gm.HMAC(e, master, gm.Preimage(idDomain, []byte{byte(kind)}))
	return ID(d[:16])
}

// A Key describes a key that is held. It holds nothing secret.
type Key struct {
	ID     ID
	Kind   Kind
	Public gm.PublicKey // of KindSign and KindEnc
	Made   time.Time    // zero when it is not known
	From   string       // the first epoch of a KindTag master; empty for the first one
}

// Use is the form of what a key is to sign.
type Use uint8

// The uses.
const (
	// UseObject signs a gm.Preimage whose domain is not empty.
	UseObject Use = 1 + iota
	// UseHandshake signs for GM TLS and X.509: anything that is no gm.Preimage. The
	// other end chooses part of it.
	UseHandshake
	// UseRequest signs, with an encryption key, the PKCS #10 request for its own
	// certificate and nothing else.
	UseRequest
)

// A Device holds keys and uses them; no operation returns one. The software
// store is one Device, an agent in another process a second (Dial), and a
// cryptographic device behind SDF (GM/T 0018) fits the same four operations:
// DESIGN.md has the table.
//
// A Device is safe for concurrent use, refuses what its doc of Use and of Kind
// does not allow with ErrRefused, a key that it does not hold with ErrNoKey, and
// answers ErrUnavailable when it cannot be reached. What it returned without an
// error was done with exactly the key that the ID names.
type Device interface {
	// Keys lists the keys that are held now, the oldest first.
	Keys() ([]Key, error)
	// Sign signs msg of the form use under gm.DefaultUID: SM2 over
	// e = SM3(ZA ‖ msg), GB/T 32918.2. A device that takes e has it computed in
	// front of it, after CheckSign.
	Sign(id ID, use Use, msg []byte) (gm.Signature, error)
	// Decrypt decrypts an SM2 ciphertext in the ASN.1 form of GM/T 0009. Any
	// failure of the ciphertext is gm.ErrDecrypt and tells no more.
	Decrypt(id ID, ciphertext []byte) ([]byte, error)
	// MAC returns HMAC-SM3 under a master. input is a gm.Preimage in the domain of
	// the master's kind.
	MAC(id ID, input []byte) (gm.Digest, error)
}

// CheckSign returns ErrRefused unless key may sign msg in the form use. Every
// Device calls it before it signs.
func CheckSign(key Key, use Use, msg []byte) error {
	if len(msg) > MaxMessage {
		return fmt.Errorf("%w: sign %d bytes, the limit is %d", ErrRefused, len(msg), MaxMessage)
	}
	rest, object := bytes.CutPrefix(msg, []byte(gm.Suite+"\x00"))
	switch {
	case use == UseObject && key.Kind == KindSign:
		if object && bytes.IndexByte(rest, 0) > 0 {
			return nil
		}
		return fmt.Errorf("%w: sign an object without a domain", ErrRefused)
	case use == UseHandshake && key.Kind == KindSign:
		if !object {
			return nil
		}
		return fmt.Errorf("%w: sign an object in a handshake", ErrRefused)
	case use == UseRequest && key.Kind == KindEnc:
		if requests(msg, key.Public) {
			return nil
		}
		return fmt.Errorf("%w: sign with an encryption key what is no request for its certificate", ErrRefused)
	}
	return fmt.Errorf("%w: sign with a key of kind %q", ErrRefused, key.Kind)
}

// CheckMAC returns ErrRefused unless key may authenticate input. Every Device
// calls it before it does.
func CheckMAC(key Key, input []byte) error {
	domain := key.Kind.domain()
	if domain == "" || len(input) > MaxMessage || !bytes.HasPrefix(input, gm.Preimage(domain, nil)) {
		return fmt.Errorf("%w: a mac of kind %q over %d bytes that are not of its domain", ErrRefused, key.Kind, len(input))
	}
	return nil
}

// requests reports whether msg is the CertificationRequestInfo (RFC 2986) of
// pub: the part of a request that its key signs.
func requests(msg []byte, pub gm.PublicKey) bool {
	var version int
	var body, name, spki, attributes, algorithm, bits cryptobyte.String
	in := cryptobyte.String(msg)
	return in.ReadASN1(&body, asn1.SEQUENCE) && in.Empty() &&
		body.ReadASN1Integer(&version) && version == 0 &&
		body.ReadASN1(&name, asn1.SEQUENCE) &&
		body.ReadASN1(&spki, asn1.SEQUENCE) &&
		body.ReadASN1(&attributes, asn1.Tag(0).ContextSpecific().Constructed()) && body.Empty() &&
		spki.ReadASN1(&algorithm, asn1.SEQUENCE) &&
		spki.ReadASN1(&bits, asn1.BIT_STRING) && spki.Empty() &&
		bytes.Equal(bits, append([]byte{0}, pub.Bytes()...))
}
