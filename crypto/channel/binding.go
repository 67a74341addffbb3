package channel

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
)

// bindingDomain separates what is signed here from every other object.
const bindingDomain = "xinqiao/channel-binding/v1"

// maxProof bounds a proof on the wire: a chain of two certificates and a signature.
const maxProof = 8 << 10

// maxDept is the longest name of a department: longer ones are not worth a line in
// the log.
const maxDept = 32

// binding proves the departments at both ends of one TLS connection to each other.
//
// The client speaks first: it sends its signing certificate and a signature over
// the connection's exported secret, its own department and the one that it wants to
// reach. The server answers with its own, over the same secret, both departments and
// the client's proof, and only to a client that it has admitted: it signs nothing
// for strangers. Whoever sits between two TLS connections has two secrets, so no
// proof of the one counts in the other; the role in the signature keeps a proof from
// being sent back to its author. Each side's message is one frame: its length in four
// bytes, big-endian, and canonical CBOR. A frame without content is a refusal.
type binding struct {
	endpoint *Endpoint
	own      *credentials
	conn     *tls.Conn
	secret   gm.Digest
	peer     cert.Identity
}

// The roles in a signature.
const (
	roleClient = 1
	roleServer = 2
)

// statement is what a side signs.
type statement struct {
	Suite  string    `cbor:"1,keyasint"`
	Role   uint8     `cbor:"2,keyasint"`
	Secret gm.Digest `cbor:"3,keyasint"` // exported from this TLS connection
	Self   string    `cbor:"4,keyasint"`
	Peer   string    `cbor:"5,keyasint"`
	Answer gm.Digest `cbor:"6,keyasint"` // SM3 of the client's proof; zero in the client's own
}

// proof is what a side sends.
type proof struct {
	Suite string       `cbor:"1,keyasint"`
	Chain []byte       `cbor:"2,keyasint"` // of the signing certificate, DER
	Peer  string       `cbor:"3,keyasint"` // who the client wants to reach; the server repeats who asked
	Sig   gm.Signature `cbor:"4,keyasint"` // over gm.Preimage(bindingDomain, canonical statement)
}

// dial is the client's part.
func (b *binding) dial(dept string) error {
	mine, err := b.prove(roleClient, dept, gm.Digest{})
	if err != nil {
		return err
	}
	if err := b.send(mine); err != nil {
		return err
	}
	theirs, err := b.receive()
	if err != nil {
		return err
	}
	return b.check(theirs, roleServer, dept, gm.Emmansun().Sum(mine))
}

// answer is the server's part.
func (b *binding) answer() error {
	theirs, err := b.receive()
	if err != nil {
		return err
	}
	if err = b.check(theirs, roleClient, "", gm.Digest{}); err == nil {
		err = b.endpoint.room(b.peer.Dept)
	}
	if err == nil {
		var mine []byte
		if mine, err = b.prove(roleServer, b.peer.Dept, gm.Emmansun().Sum(theirs)); err == nil {
			return b.send(mine)
		}
	}
	if refused := b.send(nil); refused != nil {
		return errors.Join(err, refused)
	}
	return err
}

// prove makes this side's proof for a peer.
func (b *binding) prove(role uint8, peer string, answer gm.Digest) ([]byte, error) {
	body, err := canon.Marshal(statement{Suite: gm.Suite, Role: role, Secret: b.secret, Self: b.endpoint.dept, Peer: peer, Answer: answer})
	if err != nil {
		return nil, err
	}
	sig, err := b.own.Sign(bindingDomain, body)
	if err != nil {
		return nil, fmt.Errorf("sign the channel binding: %w", err)
	}
	return canon.Marshal(proof{Suite: gm.Suite, Chain: b.own.SignCert, Peer: peer, Sig: sig})
}

// check holds a peer's proof to its certificate, which is verified and admitted
// first; want is the department that it has to be, or empty.
func (b *binding) check(raw []byte, role uint8, want string, answer gm.Digest) error {
	var p proof
	if err := canon.Unmarshal(raw, &p); err != nil || p.Suite != gm.Suite || len(p.Peer) > maxDept {
		return malformed("channel binding")
	}
	id, err := b.endpoint.judgeOne(p.Chain, want)
	if err != nil {
		return err
	}
	if p.Peer != b.endpoint.dept {
		return fmt.Errorf("%w: %q wanted to reach %q", ErrIdentity, id.Dept, p.Peer)
	}
	body, err := canon.Marshal(statement{Suite: gm.Suite, Role: role, Secret: b.secret, Self: id.Dept, Peer: b.endpoint.dept, Answer: answer})
	if err != nil {
		return err
	}
	if !gm.Emmansun().Verify(id.Key, gm.Preimage(bindingDomain, body), p.Sig) {
		return fmt.Errorf("%w: the channel binding is not signed by %q for this connection", ErrProtocol, id.Dept)
	}
	b.peer = id
	return nil
}

func (b *binding) send(content []byte) error {
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(content))), content...)
	if _, err := b.conn.Write(frame); err != nil {
		return protocol13Error(err)
	}
	return nil
}

func (b *binding) receive() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(b.conn, head[:]); err != nil {
		return nil, protocol13Error(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	switch {
	case n == 0:
		return nil, ErrRefused
	case n > maxProof:
		return nil, fmt.Errorf("%w: a channel binding of %d bytes", ErrProtocol, n)
	}
	content := make([]byte, n)
	if _, err := io.ReadFull(b.conn, content); err != nil {
		return nil, protocol13Error(err)
	}
	return content, nil
}
