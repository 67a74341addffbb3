package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
)

// agentPrefix marks a keyring that another process holds.
const agentPrefix = "unix:"

// agentSocket returns the agent's socket, if the configured keyring is one.
func agentSocket(name string) (path string, ok bool) { return strings.CutPrefix(name, agentPrefix) }

// openKeyring opens the file that the configuration names, or connects to the
// agent that holds it; then this process never has the keys, nor the passphrase.
func openKeyring(c Config, engine gm.Engine) (*keyring.Keyring, error) {
	socket, ok := agentSocket(c.Keyring)
	if ok {
		device, err := keyring.Dial(socket)
		if err != nil {
			return nil, fmt.Errorf("reach the keyring agent: %w", err)
		}
		return keyring.New(engine, keyDevice{device})
	}
	passphrase, err := c.Passphrase()
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	return keyring.Open(c.Keyring, passphrase, engine)
}

// relativeKeyring makes a configured keyring relative to the configuration.
func relativeKeyring(base, name string) string {
	if socket, ok := agentSocket(name); ok {
		return agentPrefix + relative(base, socket)
	}
	return relative(base, name)
}

func relative(base, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(base, path)
}

// keyDevice says what it means to the exchange when whatever holds the keys does
// not answer: nothing was signed or opened, so nothing is released.
type keyDevice struct{ keyring.Device }

func withoutKeys(err error) error {
	if !errors.Is(err, keyring.ErrUnavailable) {
		return err
	}
	return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeKeys, Op: "node.keys",
		Msg: "this node's keys are not available; nothing was released", Hint: "try again later with the same key", Err: err}
}

func (d keyDevice) Keys() ([]keyring.Key, error) {
	keys, err := d.Device.Keys()
	return keys, withoutKeys(err)
}

func (d keyDevice) Sign(id keyring.ID, use keyring.Use, msg []byte) (gm.Signature, error) {
	sig, err := d.Device.Sign(id, use, msg)
	return sig, withoutKeys(err)
}

func (d keyDevice) Decrypt(id keyring.ID, ciphertext []byte) ([]byte, error) {
	plain, err := d.Device.Decrypt(id, ciphertext)
	return plain, withoutKeys(err)
}

func (d keyDevice) MAC(id keyring.ID, input []byte) (gm.Digest, error) {
	digest, err := d.Device.MAC(id, input)
	return digest, withoutKeys(err)
}

// Close closes the device below.
func (d keyDevice) Close() error {
	if c, ok := d.Device.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}
