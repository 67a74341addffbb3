package keyring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

// The agent's protocol, version 1, over a Unix stream socket: frames of a 4-byte
// big-endian length and that many bytes of canonical CBOR. Each side begins with
// a hello of the same form; then each request gets one response, in order.
const (
	agentName    = "xinqiao keyring agent"
	agentVersion = 1

	maxHello = 128
	maxFrame = canon.MaxSize // of a request or response
	maxPath  = 107           // of a socket's path, unix(7)

	idleTime = 10 * time.Minute // between two requests
	moveTime = 10 * time.Second // for one frame that has begun, either way
)

type hello struct {
	Name    string `cbor:"1,keyasint"`
	Version uint16 `cbor:"2,keyasint"`
}

// op is what a request asks for. There is none that changes a key or returns
// one: a node that was taken over can use keys while it lasts, and no more.
type op uint8

const (
	opKeys op = 1 + iota
	opSign
	opDecrypt
	opMAC
)

func (o op) String() string {
	switch o {
	case opKeys:
		return "keys"
	case opSign:
		return "sign"
	case opDecrypt:
		return "decrypt"
	case opMAC:
		return "mac"
	}
	return "unknown"
}

type request struct {
	Op   op     `cbor:"1,keyasint"`
	ID   ID     `cbor:"2,keyasint"`
	Use  Use    `cbor:"3,keyasint"`
	Body []byte `cbor:"4,keyasint"`
}

type response struct {
	Code code      `cbor:"1,keyasint"`
	Body []byte    `cbor:"2,keyasint"`
	Keys []wireKey `cbor:"3,keyasint"`
}

// wireKey is a Key in its wire form.
type wireKey struct {
	ID     ID     `cbor:"1,keyasint"`
	Kind   Kind   `cbor:"2,keyasint"`
	Public []byte `cbor:"3,keyasint"` // empty for a master
	Made   int64  `cbor:"4,keyasint"`
	From   string `cbor:"5,keyasint"`
}

// code is how a request ended. The words behind a failure stay in the agent's
// log.
type code uint8

const (
	codeDone code = iota
	codeFailed
	codeMalformed
	codeNoKey
	codeRefused
	codeDecrypt
	codePassphrase
	codeEnd // not on the wire: how many there are
)

func (c code) String() string {
	switch c {
	case codeDone:
		return "done"
	case codeMalformed:
		return "malformed"
	case codeNoKey:
		return "no key"
	case codeRefused:
		return "refused"
	case codeDecrypt:
		return "not decrypted"
	case codePassphrase:
		return "passphrase changed"
	}
	return "failed"
}

// err returns the error that the caller of a Device gets for a code.
func (c code) err() error {
	switch c {
	case codeDone:
		return nil
	case codeNoKey:
		return ErrNoKey
	case codeRefused:
		return ErrRefused
	case codeDecrypt:
		return gm.ErrDecrypt
	case codePassphrase:
		return fmt.Errorf("%w: restart the agent", ErrPassphrase)
	}
	return fmt.Errorf("%w: request %s: see the agent's log", ErrUnavailable, c)
}

// codeOf is the reverse of err.
func codeOf(err error) code {
	for _, c := range []code{codeNoKey, codeRefused, codeDecrypt} {
		if errors.Is(err, c.err()) {
			return c
		}
	}
	switch {
	case err == nil:
		return codeDone
	case errors.Is(err, ErrPassphrase):
		return codePassphrase
	}
	return codeFailed
}

func toWire(keys []Key) []wireKey {
	list := make([]wireKey, len(keys))
	for i, k := range keys {
		list[i] = wireKey{ID: k.ID, Kind: k.Kind, From: k.From}
		if !k.Public.IsZero() {
			list[i].Public = k.Public.Bytes()
		}
		if !k.Made.IsZero() {
			list[i].Made = k.Made.Unix()
		}
	}
	return list
}

func fromWire(list []wireKey) ([]Key, error) {
	if len(list) > maxKeys {
		return nil, errFrame
	}
	keys := make([]Key, len(list))
	for i, w := range list {
		keys[i] = Key{ID: w.ID, Kind: w.Kind, From: w.From}
		if w.Made < 0 || w.Made > maxMade || (len(w.Public) == 0) != (w.Kind.domain() != "") {
			return nil, errFrame
		}
		if w.Made > 0 {
			keys[i].Made = time.Unix(w.Made, 0).UTC()
		}
		if len(w.Public) > 0 {
			var err error
			if keys[i].Public, err = gm.ParsePublicKey(w.Public); err != nil {
				return nil, err
			}
		}
	}
	return keys, nil
}

// errFrame reports bytes that are not this protocol's.
var errFrame = errors.New("not a frame of the keyring agent's protocol")

func writeFrame(w io.Writer, v any) error {
	body := canon.MustMarshal(v)
	defer clear(body)
	frame := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...)
	defer clear(frame)
	_, err := w.Write(frame)
	return err
}

// readSize reads the beginning of a frame of at most limit bytes.
func readSize(r io.Reader, limit int) (int, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || uint64(n) > uint64(limit) {
		return 0, errFrame
	}
	return int(n), nil
}

// readBody reads the n bytes of a frame into v. Memory grows with what arrives,
// not with what is announced.
func readBody(r io.Reader, n int, v any) error {
	body, err := io.ReadAll(io.LimitReader(r, int64(n)))
	defer clear(body)
	if err != nil {
		return err
	}
	if len(body) < n {
		return io.ErrUnexpectedEOF
	}
	if err := canon.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}

func readFrame(r io.Reader, limit int, v any) error {
	n, err := readSize(r, limit)
	if err != nil {
		return err
	}
	return readBody(r, n, v)
}

// within does something with a connection that is closed if it takes longer.
func within(c net.Conn, d time.Duration, do func() error) error {
	late := time.AfterFunc(d, func() { _ = c.Close() })
	defer late.Stop()
	return do()
}

// greet exchanges hellos. Both sides write first: the frames are small.
func greet(c net.Conn) error {
	return within(c, moveTime, func() error {
		if err := writeFrame(c, hello{agentName, agentVersion}); err != nil {
			return err
		}
		var h hello
		if err := readFrame(c, maxHello, &h); err != nil {
			return err
		}
		if h.Name != agentName {
			return errFrame
		}
		if h.Version != agentVersion {
			return fmt.Errorf("the other side speaks version %d of the agent's protocol, this one %d", h.Version, agentVersion)
		}
		return nil
	})
}

// ErrPeer reports the other end of a socket that runs as another user.
var ErrPeer = errors.New("the other end of the socket is another user's process")

// checkPeer asks the kernel who is at the other end: unix(7), SO_PEERCRED.
func checkPeer(c net.Conn, uid int) error {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return ErrPeer
	}
	conn, err := raw.SyscallConn()
	if err != nil {
		return err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := conn.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if int(cred.Uid) != uid {
		return fmt.Errorf("%w: uid %d", ErrPeer, cred.Uid)
	}
	return nil
}

func checkPath(path string) error {
	if path == "" || len(path) > maxPath {
		return fmt.Errorf("the socket's path has %d bytes, the kernel takes 1 to %d: %w", len(path), maxPath, os.ErrInvalid)
	}
	return nil
}
