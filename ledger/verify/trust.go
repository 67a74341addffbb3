package verify

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// Formats of the two files.
const (
	FormatEvidence = "xinqiao-evidence/1"
	FormatTrust    = "xinqiao-trust/1"
)

// Trust is what a verifier takes as given. It comes from the sharing authority
// by a way of its own, never together with the evidence.
type Trust struct {
	Format    string   `json:"format"`
	Origin    string   `json:"origin"`    // of the ledger
	Root      []byte   `json:"root"`      // DER of the certificate that all others chain to, base64
	Authority string   `json:"authority"` // fingerprint (SM3, hexadecimal) of the authority's signing certificate
	Members   []Member `json:"members"`
	Quorum    int      `json:"quorum"` // departments that must have cosigned a tree head
}

// Member is one department that may sign.
type Member struct {
	Dept         exchange.Dept `json:"dept"`
	Name         string        `json:"name"`         // as people call it
	Certificates []string      `json:"certificates"` // fingerprints of its signing certificates, older ones too
}

// Fingerprint identifies a certificate in trust and evidence files: SM3 of its
// DER, hexadecimal.
func Fingerprint(e gm.Engine, der []byte) string {
	d := e.Sum(der)
	return hex.EncodeToString(d[:])
}

// ParseTrust reads a trust file. What is wrong with it is a *Failure with
// ReasonTrust.
func ParseTrust(b []byte) (Trust, error) {
	var t Trust
	if err := strictJSON(b, &t); err != nil {
		return Trust{}, fail(ReasonTrust, "", "%w", err)
	}
	if err := t.check(); err != nil {
		return Trust{}, fail(ReasonTrust, "", "%w", err)
	}
	return t, nil
}

// Encode returns the trust file.
func (t Trust) Encode() ([]byte, error) {
	t.Format = FormatTrust
	if err := t.check(); err != nil {
		return nil, err
	}
	return indentJSON(t)
}

func (t Trust) check() error {
	switch {
	case t.Format != FormatTrust:
		return fmt.Errorf("format %q: want %q", t.Format, FormatTrust)
	case t.Origin == "" || len(t.Root) == 0 || !validFingerprint(t.Authority):
		return errors.New("origin, root or authority is missing or malformed")
	case t.Quorum < 1 || t.Quorum > len(t.Members):
		return fmt.Errorf("a quorum of %d among %d members", t.Quorum, len(t.Members))
	}
	seen := map[exchange.Dept]bool{}
	for _, m := range t.Members {
		if !m.Dept.Valid() || m.Dept == exchange.Authority || seen[m.Dept] || len(m.Certificates) == 0 {
			return fmt.Errorf("member %q is malformed or listed twice", m.Dept)
		}
		seen[m.Dept] = true
		for _, c := range m.Certificates {
			if !validFingerprint(c) {
				return fmt.Errorf("member %q: a fingerprint is not 64 hexadecimal digits", m.Dept)
			}
		}
	}
	return nil
}

// Renewed returns the trust file with one more certificate: what the authority
// gives out when a member has renewed. The certificate (DER) must be a member's for
// signing, issued by the root and valid at the time; one that is known already
// changes nothing.
func (t Trust) Renewed(der []byte, at time.Time) (Trust, exchange.Dept, error) {
	id, err := cert.Verify(t.Root, der, at)
	if err != nil {
		return t, "", err
	}
	dept := exchange.Dept(id.Dept)
	if id.Usage != cert.Signing {
		return t, dept, fmt.Errorf("it is %s's for %s, not for signing", dept, id.Usage)
	}
	i := slices.IndexFunc(t.Members, func(m Member) bool { return m.Dept == dept })
	if i < 0 {
		return t, dept, fmt.Errorf("%s is not a member in the trust file", dept)
	}
	print := hex.EncodeToString(id.Fingerprint[:])
	if t.trusts(dept, print) {
		return t, dept, nil
	}
	t.Members = slices.Clone(t.Members)
	t.Members[i].Certificates = append(slices.Clip(t.Members[i].Certificates), print)
	return t, dept, nil
}

// trusts reports whether the certificate with this fingerprint is dept's.
func (t Trust) trusts(dept exchange.Dept, fingerprint string) bool {
	if dept == exchange.Authority {
		return fingerprint == t.Authority
	}
	for _, m := range t.Members {
		if m.Dept == dept {
			return slices.Contains(m.Certificates, fingerprint)
		}
	}
	return false
}

func validFingerprint(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == gm.HashSize && hex.EncodeToString(b) == s
}

// strictJSON decodes one JSON value and refuses unknown members and anything
// behind it.
func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
}

func indentJSON(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}
