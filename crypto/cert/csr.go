package cert

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	tx509 "github.com/tjfoc/gmsm/x509"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"xinqiao/crypto/gm"
)

const (
	pemCSR = "CERTIFICATE REQUEST"
	maxCSR = 8 << 10
)

// ErrCSR reports bytes that are no certificate signing request, one that asks for
// more than names, or one that is not signed by its own key.
var ErrCSR = errors.New("not a certificate signing request that can be granted")

// A CSR is a certificate signing request (PKCS #10, RFC 2986) of a department. It
// proves that whoever made it holds the key, and nothing else: not when it was
// made, nor that its names are the department's.
type CSR struct {
	Dept  string
	Usage Usage    // of the key; NoUsage if the request does not say
	Hosts []string // names and addresses asked for beside Name(Dept)
	Key   gm.PublicKey
}

// NewCSR makes a request (DER) for the signer's key. The signer has the shape of
// gm.NewSigner. Errors of the names and of the usage are ErrRequest.
func NewCSR(dept string, usage Usage, hosts []string, signer crypto.Signer) ([]byte, error) {
	if !deptForm.MatchString(dept) || usage != Signing && usage != Encryption {
		return nil, fmt.Errorf("make signing request: %w: %q names no department, or its key is for nothing", ErrRequest, dept)
	}
	names, ips, err := splitHosts(dept, hosts)
	if err != nil {
		return nil, fmt.Errorf("make signing request: %w", err)
	}
	der, err := tx509.CreateCertificateRequest(rand.Reader, &tx509.CertificateRequest{
		Subject: pkix.Name{CommonName: dept}, SignatureAlgorithm: tx509.SM2WithSM3, DNSNames: names, IPAddresses: ips,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, extKeyUsage}, Value: usage.extension()}},
	}, signer)
	if err == nil {
		// A signer that answers with another key's signature shows here.
		_, err = ParseCSR(der)
	}
	if err != nil {
		return nil, fmt.Errorf("make signing request: %w", err)
	}
	return der, nil
}

// ParseCSR reads a request (DER), of this package or of openssl. It must be signed
// by its own key, with SM2 and SM3 and in both engines' opinion; its subject is the
// department as common name and nothing else; it asks for names, addresses and one of
// the two key usages, and nothing else. Whoever wanted more would not get it, and is
// told so. Errors are ErrCSR.
func ParseCSR(der []byte) (csr CSR, err error) {
	defer func() {
		if p := recover(); p != nil {
			csr, err = CSR{}, fmt.Errorf("%w: it cannot be parsed", ErrCSR)
		}
	}()
	w, err := walkCSR(der)
	if err != nil {
		return CSR{}, err
	}
	c, err := tx509.ParseCertificateRequest(der)
	if err != nil {
		return CSR{}, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	key, err := gm.PublicKeyOf(c.PublicKey)
	if err != nil {
		return CSR{}, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	canonical, err := tx509.MarshalPKIXPublicKey(key.Tjfoc())
	if err != nil || !bytes.Equal(w.spki, canonical) {
		return CSR{}, fmt.Errorf("%w: another encoding of the public key", ErrCSR)
	}
	if !bothAccept(key, w.info, w.signature) {
		return CSR{}, fmt.Errorf("%w: it is not signed by its own key (with the SM2 id %s)", ErrCSR, gm.DefaultUID)
	}
	csr = CSR{Dept: c.Subject.CommonName, Usage: w.usage, Key: key}
	if len(c.Subject.Names) != 1 || !deptForm.MatchString(csr.Dept) {
		return CSR{}, fmt.Errorf("%w: its subject is not a department's name as the common name alone", ErrCSR)
	}
	own := 0
	for _, name := range c.DNSNames {
		if name == Name(csr.Dept) {
			own++
		}
	}
	csr.Hosts = hostsOf(csr.Dept, c.DNSNames, c.IPAddresses)
	if _, _, err := splitHosts(csr.Dept, csr.Hosts); err != nil || own > 1 {
		return CSR{}, fmt.Errorf("%w: the names %s", ErrCSR, strings.Join(csr.Hosts, ", "))
	}
	return csr, nil
}

// walkedCSR are the parts of a request whose form leaves no choice.
type walkedCSR struct {
	info, spki, signature []byte
	usage                 Usage
}

// walkCSR checks the frame of a request (RFC 2986 4). tjfoc skips attributes that it
// does not understand.
func walkCSR(der []byte) (w walkedCSR, err error) {
	malformed := fmt.Errorf("%w: malformed", ErrCSR)
	if len(der) > maxCSR {
		return w, fmt.Errorf("%w: %d bytes are too many", ErrCSR, len(der))
	}
	in, outer := cryptobyte.String(der), cryptobyte.String(nil)
	var info, algorithm cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() ||
		!outer.ReadASN1Element(&info, cbasn1.SEQUENCE) ||
		!outer.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) ||
		!outer.ReadASN1BitStringAsBytes(&w.signature) || !outer.Empty() {
		return w, malformed
	}
	if !bytes.Equal(algorithm, signatureAlgorithm()) {
		return w, fmt.Errorf("%w: it is not signed with SM2 and SM3", ErrCSR)
	}
	w.info = info
	var version int64
	var spki, attributes cryptobyte.String
	if !info.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Integer(&version) || version != 0 ||
		!info.SkipASN1(cbasn1.SEQUENCE) || // subject
		!info.ReadASN1Element(&spki, cbasn1.SEQUENCE) ||
		!info.ReadASN1(&attributes, cbasn1.Tag(0).ContextSpecific().Constructed()) || !info.Empty() {
		return w, malformed
	}
	w.spki = spki
	if attributes.Empty() {
		return w, nil
	}
	var attribute, values, extensions cryptobyte.String
	var id asn1.ObjectIdentifier
	if !attributes.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&id) ||
		!attribute.ReadASN1(&values, cbasn1.SET) || !attribute.Empty() {
		return w, malformed
	}
	if extensionRequest := (asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}); !id.Equal(extensionRequest) || !attributes.Empty() {
		return w, fmt.Errorf("%w: it has other attributes than one request for extensions", ErrCSR)
	}
	if !values.ReadASN1Element(&extensions, cbasn1.SEQUENCE) || !values.Empty() || !walkExtensions(extensions) {
		return w, malformed
	}
	w.usage, err = readWishes(extensions)
	return w, err
}

// readWishes reads a list of extensions, which passed walkExtensions: alternative
// names and a key usage may be asked for, and nothing else.
func readWishes(list cryptobyte.String) (Usage, error) {
	usage := NoUsage
	if !list.ReadASN1(&list, cbasn1.SEQUENCE) {
		return usage, ErrCSR
	}
	for !list.Empty() {
		var extension, value cryptobyte.String
		var id asn1.ObjectIdentifier
		if !list.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&id) ||
			!extension.SkipOptionalASN1(cbasn1.BOOLEAN) || !extension.ReadASN1(&value, cbasn1.OCTET_STRING) {
			return usage, ErrCSR
		}
		switch number(id) {
		case extSubjectAltName:
			if !plainNames(value) {
				return usage, fmt.Errorf("%w: its names are neither DNS names nor IP addresses", ErrCSR)
			}
		case extKeyUsage:
			for _, u := range []Usage{Signing, Encryption} {
				if bytes.Equal(value, u.extension()) {
					usage = u
				}
			}
			if usage == NoUsage {
				return usage, fmt.Errorf("%w: it asks for another key usage than %s", ErrCSR,
					"digitalSignature with nonRepudiation, or keyEncipherment with dataEncipherment")
			}
		default:
			return usage, fmt.Errorf("%w: it asks for the extension %v", ErrCSR, id)
		}
	}
	return usage, nil
}

// extension returns the value of a KeyUsage extension.
func (u Usage) extension() []byte {
	if u == Signing {
		return []byte{3, 2, 6, 0xc0}
	}
	return []byte{3, 2, 4, 0x30}
}

// EncodeCSR returns a request as openssl writes and reads it.
func EncodeCSR(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: der})
}

// DecodeCSR returns the one request of a file. Errors are ErrFile.
func DecodeCSR(file []byte) ([]byte, error) {
	blocks, err := decodeBlocks(file, 1, pemCSR)
	if err != nil {
		return nil, err
	}
	return blocks[0].Bytes, nil
}
