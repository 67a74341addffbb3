package cert

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"time"

	"xinqiao/crypto/gm"
)

// Kind says which of the exchange's certificates one is.
type Kind string

// The kinds.
const (
	KindRoot       Kind = "root"
	KindIssuingCA  Kind = "issuing-ca"
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
	Issuer      string    `json:"issuer,omitempty"`
	Serial      string    `json:"serial,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"` // SM3 of the chain given, of web certificates SHA-256; hexadecimal
	NotBefore   time.Time `json:"not_before,omitzero"`
	NotAfter    time.Time `json:"not_after,omitzero"`
}

// Describe reads any of the exchange's certificates, of a chain the leaf (DER).
// Others are ErrProfile.
func Describe(der []byte) (Description, error) {
	// The standard library knows no SM2 curve, so it reads web certificates only.
	if c, err := x509.ParseCertificate(der); err == nil && c.PublicKeyAlgorithm == x509.ECDSA {
		return describeWeb(c), nil
	}
	list, err := links(der)
	if err != nil {
		return Description{}, err
	}
	c, _, err := parse(list[0])
	if err != nil {
		return Description{}, err
	}
	sum := gm.Emmansun().Sum(der)
	d := Description{
		Name: printable(c.Subject.CommonName), Issuer: printable(c.Issuer.CommonName), Serial: fmt.Sprintf("%x", c.SerialNumber),
		Fingerprint: hex.EncodeToString(sum[:]), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
	switch {
	case !c.IsCA:
		return d, d.department(der)
	case len(list) > 1:
		return Description{}, fmt.Errorf("%w: it begins with a CA", ErrChain)
	case bytes.Equal(c.RawSubject, c.RawIssuer):
		d.Kind = KindRoot
		return d, checkRoot(c)
	}
	d.Kind = KindIssuingCA
	return d, checkIssuing(c)
}

func (d *Description) department(der []byte) error {
	c, err := parseChain(der)
	if err != nil {
		return err
	}
	d.Kind, d.Name, d.Usage = KindDepartment, c.id.Dept, c.id.Usage.String()
	d.Hosts = hostsOf(c.id.Dept, c.leaf.DNSNames, c.leaf.IPAddresses)
	return nil
}

// hostsOf returns the alternative names of a department's certificate without the
// one that is the department's.
func hostsOf(dept string, names []string, ips []net.IP) (hosts []string) {
	for _, name := range names {
		if name != Name(dept) {
			hosts = append(hosts, name)
		}
	}
	for _, ip := range ips {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

func describeWeb(c *x509.Certificate) Description {
	sum := sha256.Sum256(c.Raw)
	d := Description{
		Kind: KindWeb, Name: printable(c.Subject.CommonName), Issuer: printable(c.Issuer.CommonName), Hosts: c.DNSNames, Serial: fmt.Sprintf("%x", c.SerialNumber),
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
