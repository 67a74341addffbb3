package gm

import (
	stdasn1 "encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	esm4 "github.com/emmansun/gmsm/sm4"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// ErrEnveloped reports an enveloped key that is malformed, wrapped to another
// key, or does not hold the private key of the public key beside it.
var ErrEnveloped = errors.New("not an enveloped SM2 key for this signing key")

// maxEnveloped bounds an enveloped key and its PEM form, in bytes: a real one
// has about 260.
const maxEnveloped = 4096

func oidSM4ECB() stdasn1.ObjectIdentifier {
	return stdasn1.ObjectIdentifier{1, 2, 156, 10197, 1, 104, 1}
}

func oidSM4() stdasn1.ObjectIdentifier {
	return stdasn1.ObjectIdentifier{1, 2, 156, 10197, 1, 104}
}

// ParseEnvelopedKey reads the encryption key that a key centre made for a
// department and wrapped under its signing key, the SM2EnvelopedKey of GM/T
// 0009-2012 and GB/T 35276-2017:
//
//	SEQUENCE { symAlgID, symEncryptedKey SM2Cipher, sm2PublicKey BIT STRING, sm2EncryptedPrivateKey BIT STRING }
//
// decrypt is Engine.Decrypt with the signing key's private part. The symmetric
// algorithm is SM4 in ECB mode without padding; the private key has 32 bytes, or
// 64 with 32 leading zero bytes as the fixed fields of GM/T 0018 have. As ECB
// protects nothing against change, the key counts only if it is that of the public
// key beside it. Every failure of the input is ErrEnveloped and tells no more.
func ParseEnvelopedKey(der []byte, decrypt func(ciphertext []byte) ([]byte, error)) (*PrivateKey, error) {
	var seq, algorithm, wrapped cryptobyte.String
	var oid stdasn1.ObjectIdentifier
	var public, sealed stdasn1.BitString
	in := cryptobyte.String(der)
	if len(der) > maxEnveloped || !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadASN1(&algorithm, asn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) || !emptyParameters(algorithm) ||
		!seq.ReadASN1Element(&wrapped, asn1.SEQUENCE) ||
		!seq.ReadASN1BitString(&public) || !seq.ReadASN1BitString(&sealed) || !seq.Empty() ||
		!oid.Equal(oidSM4ECB()) && !oid.Equal(oidSM4()) ||
		public.BitLength%8 != 0 || sealed.BitLength != 8*32 && sealed.BitLength != 8*64 {
		return nil, ErrEnveloped
	}
	want, err := ParsePublicKey(public.Bytes)
	if err != nil {
		return nil, ErrEnveloped
	}
	key, err := decrypt(wrapped)
	if err != nil {
		if errors.Is(err, ErrDecrypt) {
			return nil, ErrEnveloped
		}
		return nil, fmt.Errorf("unwrap an enveloped key: %w", err)
	}
	defer clear(key)
	block, err := esm4.NewCipher(key)
	if err != nil {
		return nil, ErrEnveloped
	}
	scalar := ecb(block.Decrypt, sealed.Bytes)
	defer clear(scalar)
	for len(scalar) > 32 && scalar[0] == 0 {
		scalar = scalar[1:]
	}
	if len(scalar) != 32 {
		return nil, ErrEnveloped
	}
	got, err := NewPrivateKey(scalar)
	if err != nil || got.Public() != want {
		return nil, ErrEnveloped
	}
	return got, nil
}

// MarshalEnvelopedKey wraps key to the signing key to, in the form that
// ParseEnvelopedKey reads. It is a key centre's half, for tests and exercises.
func MarshalEnvelopedKey(e Engine, rand io.Reader, to PublicKey, key *PrivateKey) ([]byte, error) {
	content := make([]byte, SM4KeySize)
	defer clear(content)
	if _, err := io.ReadFull(rand, content); err != nil {
		return nil, err
	}
	wrapped, err := e.Encrypt(to, content)
	if err != nil {
		return nil, err
	}
	block, err := esm4.NewCipher(content)
	if err != nil {
		return nil, err
	}
	scalar := key.Scalar()
	defer clear(scalar)
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidSM4ECB())
			b.AddASN1NULL()
		})
		b.AddBytes(wrapped)
		b.AddASN1BitString(key.public.point[:])
		b.AddASN1BitString(ecb(block.Encrypt, scalar))
	})
	return b.Bytes()
}

// EnvelopedDER returns the DER of a file with an enveloped key, which may be PEM
// under any label: key centres do not agree on one.
func EnvelopedDER(file []byte) ([]byte, error) {
	if len(file) > maxEnveloped {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrEnveloped, len(file))
	}
	if block, _ := pem.Decode(file); block != nil {
		return block.Bytes, nil
	}
	return file, nil
}

// emptyParameters reports whether what follows an algorithm's OID is nothing or
// NULL.
func emptyParameters(s cryptobyte.String) bool {
	var null cryptobyte.String
	return s.Empty() || s.ReadASN1(&null, asn1.NULL) && null.Empty() && s.Empty()
}

// ecb runs an SM4 block over whole blocks. It is this format's, not ours: nothing
// else is encrypted so.
func ecb(block func(dst, src []byte), in []byte) []byte {
	out := make([]byte, len(in))
	for i := 0; i+esm4.BlockSize <= len(in); i += esm4.BlockSize {
		block(out[i:], in[i:])
	}
	return out
}
