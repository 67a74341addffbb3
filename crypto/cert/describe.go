package cert

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"xinqiao/crypto/gm"
)

// Kind says which of the exchange's four certificates one is.
type Kind string

// The kinds.
const (
	KindRoot       Kind = "root"
	KindDepartment Kind = "department"
	KindWebCA      Kind = "web-ca"
	KindWeb        Kind = "web"
)

// Description is what people want to know about a certificate. It is read from
// the certificate and vouches for nothing.
type Description struct {
	Kind        Kind      `json:"kind"`
	Name        string    `json:"name"`            // a department's name, or the subject's
	Usage       string    `json:"usage,omitempty"` // of a department's key
	Hosts       []string  `json:"hosts,omitempty"`
	Serial      string    `json:"serial"`
	Fingerprint string    `json:"fingerprint"` // SM3, of web certificates SHA-256, of the DER bytes; hexadecimal
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
}

// Describe reads any of the exchange's certificates (DER). Others are ErrProfile.
func Describe(der []byte) (Description, error) {
	// The standard library knows no SM2 curve, so it reads web certificates only.
	if c, err := x509.ParseCertificate(der); err == nil && c.PublicKeyAlgorithm == x509.ECDSA {
		return describeWeb(c), nil
	}
	c, key, err := parse(der)
	if err != nil {
		return Description{}, err
	}
	sum := gm.Emmansun().Sum(der)
	d := Description{
		Kind: KindRoot, Name: c.Subject.CommonName, Serial: fmt.Sprintf("%x", c.SerialNumber),
		Fingerprint: hex.EncodeToString(sum[:]), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
	if c.IsCA {
		return d, checkRoot(c)
	}
	id, err := identify(c, key)
	if err != nil {
		return Description{}, err
	}
	d.Kind, d.Name, d.Usage = KindDepartment, id.Dept, id.Usage.String()
	for _, name := range c.DNSNames {
		if name != Name(id.Dept) {
			d.Hosts = append(d.Hosts, name)
		}
	}
	for _, ip := range c.IPAddresses {
		d.Hosts = append(d.Hosts, ip.String())
	}
	return d, nil
}

func describeWeb(c *x509.Certificate) Description {
	sum := sha256.Sum256(c.Raw)
	d := Description{
		Kind: KindWeb, Name: c.Subject.CommonName, Hosts: c.DNSNames, Serial: fmt.Sprintf("%x", c.SerialNumber),
		Fingerprint: hex.EncodeToString(sum[:]), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
	for _, ip := range c.IPAddresses {
		d.Hosts = append(d.Hosts, ip.String())
	}
	if c.IsCA {
		d.Kind = KindWebCA
	}
	return d
}
