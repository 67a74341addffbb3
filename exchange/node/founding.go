package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
	"xinqiao/ledger/verify"
	"xinqiao/policy"
	"xinqiao/policy/authority"
	"xinqiao/policy/rule"
)

// Charter is the YAML file in which the sharing authority writes down what it
// decides before the first start. Paths are relative to the file; unknown keys
// are errors. deploy/config/charter.yaml is a commented example.
type Charter struct {
	Origin   string          `yaml:"origin"`    // names the ledger, for example "city.gov.example/ledger"
	Root     string          `yaml:"root"`      // SM2 root certificate, PEM
	SignCert string          `yaml:"sign_cert"` // the authority's own certificates, PEM
	EncCert  string          `yaml:"enc_cert"`
	Baseline string          `yaml:"baseline"` // the baseline rules, YAML
	Members  []CharterMember `yaml:"members"`
	Grants   []CharterGrant  `yaml:"grants"`
}

// CharterMember admits one department.
type CharterMember struct {
	Department exchange.Dept `yaml:"department"`
	Name       string        `yaml:"name"`
	NameEN     string        `yaml:"name_en"`
	USCC       string        `yaml:"uscc"`
	Voter      bool          `yaml:"voter"`
	Raft       string        `yaml:"raft"` // host:port where its peers reach it
	Peer       string        `yaml:"peer"`
	SignCert   string        `yaml:"sign_cert"`
	EncCert    string        `yaml:"enc_cert"`
}

// CharterGrant is one share grant. Views are written "field:mode" or
// "field:predicate:age>=18".
type CharterGrant struct {
	Provider  exchange.Dept      `yaml:"provider"`
	Requester exchange.Dept      `yaml:"requester"`
	Item      exchange.Item      `yaml:"item"`
	Views     []string           `yaml:"views"`
	Purposes  []exchange.Purpose `yaml:"purposes"`
	Scenario  string             `yaml:"scenario"`
	Basis     string             `yaml:"basis"`
	From      time.Time          `yaml:"from"`
	To        time.Time          `yaml:"to"`
}

// ReadCharter reads a charter and everything it names.
func ReadCharter(path string, now time.Time) (Founding, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Founding{}, fmt.Errorf("read the charter: %w", err)
	}
	var c Charter
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&c); err != nil {
		return Founding{}, fmt.Errorf("%s: %s", filepath.Base(path), yaml.FormatError(err, false, true))
	}
	f, err := c.founding(filepath.Dir(path), now)
	if err != nil {
		return Founding{}, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return f, nil
}

func (c Charter) founding(base string, now time.Time) (Founding, error) {
	f := Founding{Origin: c.Origin, At: now}
	if !checkpoint.ValidOrigin(c.Origin) {
		return f, errors.New("origin is missing or malformed")
	}
	pem := func(name string, der *[]byte) error {
		file, err := os.ReadFile(filepath.Join(base, name))
		if err != nil {
			return err
		}
		*der, err = cert.DecodePEM(file)
		return err
	}
	if err := errors.Join(pem(c.Root, &f.Root), pem(c.SignCert, &f.Sign), pem(c.EncCert, &f.Enc)); err != nil {
		return f, err
	}
	baseline, err := os.ReadFile(filepath.Join(base, c.Baseline))
	if err != nil {
		return f, err
	}
	if f.Baseline, err = rule.EncodeBundle(map[string][]byte{rule.BaselineFile: baseline}); err != nil {
		return f, err
	}
	for _, m := range c.Members {
		a := Admission{Dept: m.Department, Member: ledger.Member{Name: m.Name, NameEN: m.NameEN, USCC: m.USCC, Voter: m.Voter,
			Raft: m.Raft, Peer: m.Peer}}
		if err := errors.Join(pem(m.SignCert, &a.Certs.Sign), pem(m.EncCert, &a.Certs.Enc)); err != nil {
			return f, fmt.Errorf("member %s: %w", m.Department, err)
		}
		for _, der := range [][]byte{a.Certs.Sign, a.Certs.Enc} {
			if who, err := cert.Verify(f.Root, der, now); err != nil || who.Dept != string(m.Department) {
				return f, fmt.Errorf("member %s: its certificate is not the department's: %w", m.Department, err)
			}
		}
		f.Members = append(f.Members, a)
	}
	for _, g := range c.Grants {
		grant, err := g.grant()
		if err != nil {
			return f, fmt.Errorf("grant of %s to %s for %s: %w", g.Provider, g.Requester, g.Item, err)
		}
		f.Grants = append(f.Grants, grant)
	}
	return f, c.voters()
}

// voters refuses a number of voters that cannot lose one and go on, or that
// gains nothing by being even.
func (c Charter) voters() error {
	n := 0
	for _, m := range c.Members {
		if m.Voter {
			n++
		}
	}
	if n != 3 && n != 5 && n != 7 {
		return fmt.Errorf("%d members vote: want 3, 5 or 7", n)
	}
	return nil
}

func (g CharterGrant) grant() (authority.Grant, error) {
	id, err := ledger.NewID()
	if err != nil {
		return authority.Grant{}, err
	}
	item := policy.GrantItem{Item: g.Item, Purposes: g.Purposes}
	for _, text := range g.Views {
		field, rest, _ := strings.Cut(text, ":")
		name, predicate, _ := strings.Cut(rest, ":")
		mode, err := exchange.ParseMode(name)
		if err != nil {
			return authority.Grant{}, err
		}
		item.Views = append(item.Views, exchange.View{Field: exchange.Field(field), Mode: mode, Predicate: predicate})
	}
	out := authority.Grant{Suite: gm.Suite, ID: id, Provider: g.Provider, Requester: g.Requester, Class: g.Item.Class(),
		Items: []policy.GrantItem{item}, Scenario: g.Scenario, Basis: g.Basis, NotBefore: g.From.Unix(), NotAfter: g.To.Unix()}
	_, err = out.Encode()
	return out, err
}

// WriteTrust writes what an outsider's verifier takes as given: the root, the
// authority and the members' certificates.
func (f Founding) WriteTrust(path string) error {
	e := gm.Emmansun()
	t := verify.Trust{Origin: f.Origin, Root: f.Root, Authority: verify.Fingerprint(e, f.Sign), Quorum: checkpoint.Quorum(len(f.Members))}
	for _, m := range f.Members {
		t.Members = append(t.Members, verify.Member{Dept: m.Dept, Name: m.Member.Name,
			Certificates: []string{verify.Fingerprint(e, m.Certs.Sign)}})
	}
	b, err := t.Encode()
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}
