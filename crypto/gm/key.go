package gm

import (
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"

	esm2 "github.com/emmansun/gmsm/sm2"
	tsm2 "github.com/tjfoc/gmsm/sm2"
)

// A PublicKey is a point of the SM2 curve that was checked when it was made.
// The zero value is no key and verifies nothing. PublicKeys compare with ==.
type PublicKey struct{ point [PublicKeySize]byte }

// ParsePublicKey reads the uncompressed form (04 x y) and refuses points that
// are not on the curve.
func ParsePublicKey(b []byte) (PublicKey, error) {
	var p PublicKey
	if len(b) != PublicKeySize || b[0] != 4 {
		return p, fmt.Errorf("%w: want 65 bytes beginning with 04", ErrKey)
	}
	if _, err := esm2.NewPublicKey(b); err != nil {
		return p, fmt.Errorf("%w: the point is not on the curve", ErrKey)
	}
	copy(p.point[:], b)
	return p, nil
}

// Bytes returns the uncompressed form.
func (p PublicKey) Bytes() []byte { return append([]byte(nil), p.point[:]...) }

// IsZero reports whether p is no key.
func (p PublicKey) IsZero() bool { return p == PublicKey{} }

// String returns the first bytes of the key in hexadecimal.
func (p PublicKey) String() string { return "sm2:" + hex.EncodeToString(p.point[1:9]) }

func (p PublicKey) xy() (x, y *big.Int) {
	return new(big.Int).SetBytes(p.point[1:33]), new(big.Int).SetBytes(p.point[33:])
}

func (p PublicKey) emmansun() *ecdsa.PublicKey {
	x, y := p.xy()
	//lint:ignore SA1019 the standard library has no encoding for points of the SM2 curve
	return &ecdsa.PublicKey{Curve: esm2.P256(), X: x, Y: y}
}

// A PrivateKey is an SM2 private key. Only packages under crypto hold one; it
// prints redacted and does not marshal.
type PrivateKey struct {
	public PublicKey
	key    *esm2.PrivateKey
}

// GenerateKey makes a key from rand.
func GenerateKey(rand io.Reader) (*PrivateKey, error) {
	k, err := esm2.GenerateKey(rand)
	if err != nil {
		return nil, err
	}
	return fromEmmansun(k)
}

// NewPrivateKey reads a 32-byte scalar d and refuses those outside 1 ≤ d ≤ n−2.
func NewPrivateKey(scalar []byte) (*PrivateKey, error) {
	k, err := esm2.NewPrivateKey(scalar)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	limit := new(big.Int).Sub(esm2.P256().Params().N, big.NewInt(2))
	if k.D.Sign() <= 0 || k.D.Cmp(limit) > 0 {
		return nil, fmt.Errorf("%w: the scalar is out of range", ErrKey)
	}
	return fromEmmansun(k)
}

func fromEmmansun(k *esm2.PrivateKey) (*PrivateKey, error) {
	var point [PublicKeySize]byte
	point[0] = 4
	k.X.FillBytes(point[1:33])
	k.Y.FillBytes(point[33:])
	p, err := ParsePublicKey(point[:])
	if err != nil {
		return nil, err
	}
	return &PrivateKey{public: p, key: k}, nil
}

// Public returns the public key.
func (k *PrivateKey) Public() PublicKey { return k.public }

// Scalar returns the 32-byte private scalar. It exists for crypto/keyring and
// crypto/cert, which seal and encode keys; the caller clears it after use.
func (k *PrivateKey) Scalar() []byte { return k.key.D.FillBytes(make([]byte, 32)) }

// String withholds the key.
func (k *PrivateKey) String() string { return "sm2 private key withheld" }

// GoString withholds the key.
func (k *PrivateKey) GoString() string { return k.String() }

func (k *PrivateKey) tjfoc() *tsm2.PrivateKey {
	return &tsm2.PrivateKey{PublicKey: *k.public.Tjfoc(), D: new(big.Int).Set(k.key.D)}
}
