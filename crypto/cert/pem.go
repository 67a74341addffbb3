package cert

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const pemCertificate = "CERTIFICATE"

// ErrFile reports a file that does not hold what its reader wants, and nothing else.
var ErrFile = errors.New("not a certificate file")

// EncodePEM returns a certificate or a chain as openssl writes and reads it: a
// block for each certificate, the leaf first.
func EncodePEM(chain []byte) []byte {
	list, err := links(chain)
	if err != nil {
		list = [][]byte{chain}
	}
	var file []byte
	for _, der := range list {
		file = append(file, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})...)
	}
	return file
}

// DecodePEM returns the certificate of a file, or the two of a chain, leaf first,
// as one. Text in front of a block is allowed, as `openssl x509 -text` writes it.
// A third block is not, nor one certificate twice, nor anything behind the last:
// what a reader skips without a word is where people err.
func DecodePEM(file []byte) ([]byte, error) {
	blocks, err := decodeBlocks(file, maxLinks, pemCertificate)
	if err != nil {
		return nil, err
	}
	if len(blocks) > 1 && bytes.Equal(blocks[0].Bytes, blocks[1].Bytes) {
		return nil, fmt.Errorf("%w: it holds one certificate twice", ErrFile)
	}
	var chain []byte
	for _, b := range blocks {
		chain = append(chain, b.Bytes...)
	}
	return chain, nil
}

// decodeBlocks returns the blocks of a file: at least one and at most so many, of
// these types, each one DER element.
func decodeBlocks(file []byte, most int, types ...string) ([]*pem.Block, error) {
	var blocks []*pem.Block
	for rest := file; len(blocks) == 0 || len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(blocks) == 0 {
				return nil, fmt.Errorf("%w: it holds no PEM block", ErrFile)
			}
			return nil, fmt.Errorf("%w: something follows the last block", ErrFile)
		}
		in, one := cryptobyte.String(block.Bytes), cryptobyte.String(nil)
		switch {
		case !slices.Contains(types, block.Type):
			return nil, fmt.Errorf("%w: it holds a %q", ErrFile, block.Type)
		case len(blocks) == most:
			return nil, fmt.Errorf("%w: it holds more than %d blocks", ErrFile, most)
		case len(block.Headers) > 0 || !in.ReadASN1Element(&one, cbasn1.SEQUENCE) || !in.Empty():
			return nil, fmt.Errorf("%w: block %d is not one DER element", ErrFile, len(blocks)+1)
		}
		blocks = append(blocks, block)
	}
	return blocks, nil
}
