package gm

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrSelfTest reports an engine that gives a wrong answer on this machine.
var ErrSelfTest = errors.New("the crypto engine fails its self-test")

// SelfTest computes published vectors with e and fails on the first wrong
// answer. A node runs it for both engines before it opens a key: a library can be
// right in its own tests and wrong on one processor (emmansun issue #560).
func SelfTest(e Engine) error {
	for _, t := range []struct {
		name string
		run  func(Engine) error
	}{
		{"SM3 (GM/T 0004)", testHash},
		{"SM4 (GM/T 0002)", testBlock},
		{"SM4-GCM (RFC 8998)", testAEAD},
		{"SM2 signature (GM/T 0003.5)", testSignature},
		{"SM2 signature (emmansun issue 560)", testCarry},
		{"SM2 encryption (GM/T 0003.5)", testEncryption},
	} {
		if err := t.run(e); err != nil {
			return fmt.Errorf("%w: %s: %s: %w", ErrSelfTest, e.Name(), t.name, err)
		}
	}
	return nil
}

var errWrongAnswer = errors.New("wrong answer")

// unhex decodes the vectors below, which are written with spaces.
func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err) // a typing error in this file
	}
	return b
}

// testHash: GM/T 0004-2012, annex A, examples 1 and 2.
func testHash(e Engine) error {
	for _, v := range []struct{ message, want string }{
		{"abc", "66c7f0f462eeedd9 d1f2d46bdc10e4e2 4167c4875cf2f7a2 297da02b8f4ba8e0"},
		{strings.Repeat("abcd", 16), "debe9ff92275b8a1 38604889c18e5a4d 6fdb70e5387e5765 293dcba39c0c5732"},
	} {
		h := e.NewHash()
		h.Write([]byte(v.message))
		sum := e.Sum([]byte(v.message[:1]), []byte(v.message[1:]))
		if want := unhex(v.want); !bytes.Equal(sum[:], want) || !bytes.Equal(h.Sum(nil), want) {
			return errWrongAnswer
		}
	}
	return nil
}

// blockMaker and digestVerifier reach below the Engine interface for the two
// vectors that are not about whole operations. An engine from outside this package
// (a device) has no such door and passes on the others.
type (
	blockMaker interface {
		newBlock(key []byte) (cipher.Block, error)
	}
	digestVerifier interface {
		verifyDigest(key PublicKey, digest Digest, sig Signature) bool
	}
)

// testBlock: GM/T 0002-2012, annex A, example 1.
func testBlock(e Engine) error {
	m, ok := e.(blockMaker)
	if !ok {
		return nil
	}
	key := unhex("0123456789abcdef fedcba9876543210")
	block, err := m.newBlock(key)
	if err != nil {
		return err
	}
	got := make([]byte, len(key))
	block.Encrypt(got, key)
	if !bytes.Equal(got, unhex("681edf34d206965e 86b3e94f536e4246")) {
		return errWrongAnswer
	}
	block.Decrypt(got, got)
	if !bytes.Equal(got, key) {
		return errWrongAnswer
	}
	return nil
}

// testAEAD: RFC 8998, appendix A.1.
func testAEAD(e Engine) error {
	plaintext := unhex("aaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbb cccccccccccccccc dddddddddddddddd" +
		"eeeeeeeeeeeeeeee ffffffffffffffff eeeeeeeeeeeeeeee aaaaaaaaaaaaaaaa")
	aad := unhex("feedfacedeadbeef feedfacedeadbeef abaddad2")
	nonce := unhex("00001234567800000000abcd")
	want := unhex("17f399f08c67d5ee 19d0dc9969c4bb7d 5fd46fd375648906 9157b282bb200735" +
		"d82710ca5c22f0cc fa7cbf93d496ac15 a56834cbcf98c397 b4024a2691233b8d" +
		"83de3541e4c2b581 77e065a9bf7b62ec")
	aead, err := e.NewAEAD(unhex("0123456789abcdef fedcba9876543210"))
	if err != nil {
		return err
	}
	if !bytes.Equal(aead.Seal(nil, nonce, plaintext, aad), want) {
		return errWrongAnswer
	}
	got, err := aead.Open(nil, nonce, want, aad)
	if err != nil || !bytes.Equal(got, plaintext) {
		return errWrongAnswer
	}
	want[len(want)-1] ^= 1
	if _, err := aead.Open(nil, nonce, want, aad); err == nil {
		return errWrongAnswer
	}
	return nil
}

// The key of GM/T 0003.5-2012, annexes A and C.
const vectorKey = "3945208f7b2144b1 3f36e38ac6d39f95 889393692860b51a 42fb81ef4df7c5b8"

// testSignature: GM/T 0003.5-2012, annex A.
func testSignature(e Engine) error {
	key, err := NewPrivateKey(unhex(vectorKey))
	if err != nil {
		return err
	}
	if !bytes.Equal(key.Public().Bytes(), unhex("04 09f9df311e5421a1 50dd7d161e4bc5c6 72179fad1833fc07 6bb08ff356f35020"+
		"ccea490ce26775a5 2dc6ea718cc1aa60 0aed05fbf35e084a 6632f6072da9ad13")) {
		return errWrongAnswer
	}
	sig := Signature(unhex("f5a03b0648d2c463 0eeac513e1bb81a1 5944da3827d5b741 43ac7eaceee720b3" +
		"b1b6aa29df212fd8 763182bc0d421ca1 bb9038fd1f7f42d4 840b69c485bbc1aa"))
	message := []byte("message digest")
	if !e.Verify(key.Public(), message, sig) {
		return errWrongAnswer
	}
	if e.Verify(key.Public(), message[1:], sig) {
		return errWrongAnswer
	}
	// The standard forces k, which no engine lets a caller do; signing is tested
	// by verifying.
	own, err := e.Sign(key, message)
	if err != nil {
		return err
	}
	if !e.Verify(key.Public(), message, own) {
		return errWrongAnswer
	}
	return nil
}

// testCarry is the vector of emmansun issue #560 (published with the issue and
// in the library's own tests from v0.44.1): a valid signature of the zero digest that
// a wrong carry made amd64 processors with ADX and BMI2 reject.
func testCarry(e Engine) error {
	v, ok := e.(digestVerifier)
	if !ok {
		return nil
	}
	key, err := ParsePublicKey(unhex("04 ef4de57af00ae424 c00c4caadff7193f 804a19dd73a7e295 4db9d0d15ab4cbba" +
		"67728c3f4572878b 7a674735da9fde16 82fe2d9e0799c4a5 cde57e3d473039a2"))
	if err != nil {
		return err
	}
	sig := Signature(unhex("be0ea64e1ec06f0d 247093f3ccbbadcf b6260224272f86dd b78326e7cd6c7560" +
		"e9f6ab2fcc48a2ce f94838e66b5c7e21 fd8e4de25990dd98 ca5243f4966f2853"))
	if !v.verifyDigest(key, Digest{}, sig) {
		return errWrongAnswer
	}
	return nil
}

// vectorCiphertext is that of GM/T 0003.5-2012, annex C, in the ASN.1 form of
// GM/T 0009.
func vectorCiphertext() []byte {
	return unhex("307c" +
		"0220 04ebfc718e8d1798 620432268e77feb6 415e2ede0e073c0f 4f640ecd2e149a73" +
		"0221 00 e858f9d81e5430a5 7b36daab8f950a3c 64e6ee6a63094d99 283aff767e124df0" +
		"0420 59983c18f809e262 923c53aec295d303 83b54e39d609d160 afcb1908d0bd8766" +
		"0413 21886ca989ca9c7d 58087307ca93092d 651efa")
}

// testEncryption decrypts vectorCiphertext, and what the engine encrypts itself.
func testEncryption(e Engine) error {
	key, err := NewPrivateKey(unhex(vectorKey))
	if err != nil {
		return err
	}
	message := []byte("encryption standard")
	got, err := e.Decrypt(key, vectorCiphertext())
	if err != nil {
		return err
	}
	if !bytes.Equal(got, message) {
		return errWrongAnswer
	}
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	sealed, err := e.Encrypt(key.Public(), random)
	if err != nil {
		return err
	}
	if got, err = e.Decrypt(key, sealed); err != nil || !bytes.Equal(got, random) {
		return errWrongAnswer
	}
	return nil
}
