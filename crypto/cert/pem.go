package cert

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
)

const pemCertificate = "CERTIFICATE"

// ErrFile reports a file that does not hold exactly one certificate.
var ErrFile = errors.New("not a certificate file")

// EncodePEM returns a certificate as openssl writes and reads it.
func EncodePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
}

// DecodePEM returns the one certificate of a file. Text in front of it is
// allowed, as `openssl x509 -text` writes it; a second block is not, because a
// chain read as a certificate would lose its rest without a word.
func DecodePEM(file []byte) ([]byte, error) {
	block, rest := pem.Decode(file)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%w: it holds no PEM block", ErrFile)
	case block.Type != pemCertificate:
		return nil, fmt.Errorf("%w: it holds a %q", ErrFile, block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fmt.Errorf("%w: something follows the certificate", ErrFile)
	}
	return block.Bytes, nil
}
