package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/policy/authority"
)

// Genesis is what the sharing authority gives to every member before the first
// start: the trust anchors, and its own first frames, which admit the members.
// Whoever holds the same genesis checks the same ledger.
type Genesis struct {
	Format        string   `json:"format"` // "xinqiao-genesis/1"
	Origin        string   `json:"origin"` // names the ledger in every signature
	Root          string   `json:"root"`   // SM2 root certificate, PEM
	AuthoritySign string   `json:"authoritySign"`
	AuthorityEnc  string   `json:"authorityEnc"`
	Frames        [][]byte `json:"frames"` // signed by the authority, base64
}

const genesisFormat = "xinqiao-genesis/1"

// anchors are a genesis in the form that is worked with.
type anchors struct {
	Genesis
	root, authoritySign, authorityEnc []byte // DER
	authority                         cert.Identity
	members                           map[exchange.Dept]ledger.Member
	certs                             map[exchange.Dept]ledger.Certs
}

// ReadGenesis reads and checks a genesis file.
func ReadGenesis(path string) (Genesis, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Genesis{}, fmt.Errorf("read the genesis: %w", err)
	}
	var g Genesis
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&g); err != nil {
		return Genesis{}, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	_, err = g.open(time.Now())
	return g, err
}

// Write writes the genesis file, readable by all: it holds nothing secret.
func (g Genesis) Write(path string) error {
	b, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func (g Genesis) open(now time.Time) (*anchors, error) {
	if g.Format != genesisFormat {
		return nil, fmt.Errorf("genesis: format is not %q", genesisFormat)
	}
	var err error
	a := &anchors{Genesis: g, members: map[exchange.Dept]ledger.Member{}, certs: map[exchange.Dept]ledger.Certs{}}
	for text, der := range map[string]*[]byte{g.Root: &a.root, g.AuthoritySign: &a.authoritySign, g.AuthorityEnc: &a.authorityEnc} {
		if *der, err = cert.DecodePEM([]byte(text)); err != nil {
			return nil, fmt.Errorf("genesis: %w", err)
		}
	}
	if a.authority, err = cert.Verify(a.root, a.authoritySign, now); err != nil {
		return nil, fmt.Errorf("genesis: the authority's certificate: %w", err)
	}
	if a.authority.Dept != string(exchange.Authority) || a.authority.Usage != cert.Signing {
		return nil, errors.New("genesis: the authority's certificate is not the authority's signing certificate")
	}
	return a, a.readMembers()
}

// readMembers takes the first members out of the authority's frames: what a
// node trusts until it has the ledger itself.
func (a *anchors) readMembers() error {
	for _, raw := range a.Frames {
		var f ledger.Frame
		if err := canon.Unmarshal(raw, &f); err != nil {
			return fmt.Errorf("genesis: frame: %w", err)
		}
		if !gm.Emmansun().Verify(a.authority.Key, gm.Preimage(ledger.DomainFrame, f.Body), f.Sig) {
			return errors.New("genesis: a frame is not signed by the authority")
		}
		for _, b := range f.Entries {
			e, err := ledger.DecodeEntry(b)
			if err != nil {
				return fmt.Errorf("genesis: %w", err)
			}
			if e.Fact == nil {
				continue
			}
			switch dept := exchange.Dept(e.Fact.Key); e.Fact.Type {
			case ledger.FactMember:
				a.members[dept], err = ledger.DecodeMember(e.Fact.Content)
			case ledger.FactCert:
				a.certs[dept], err = ledger.DecodeCerts(e.Fact.Content)
			}
			if err != nil {
				return fmt.Errorf("genesis: %w", err)
			}
		}
	}
	if len(a.members) == 0 {
		return errors.New("genesis: it admits no member")
	}
	return nil
}

// Admission is one department as the authority admits it.
type Admission struct {
	Dept   exchange.Dept
	Member ledger.Member
	Certs  ledger.Certs
}

// Founding is what the sharing authority decides before the first start.
type Founding struct {
	Origin   string
	Root     []byte // DER
	Sign     []byte // the authority's own certificates, DER
	Enc      []byte
	Members  []Admission
	Baseline []byte // content of the baseline fact
	Grants   []authority.Grant
	At       time.Time
}

// Found signs the genesis of a new ledger as the authority.
func Found(e gm.Engine, s ledger.Signer, f Founding) (Genesis, error) {
	pemOf := func(der []byte) string { return string(cert.EncodePEM(der)) }
	g := Genesis{Format: genesisFormat, Origin: f.Origin, Root: pemOf(f.Root), AuthoritySign: pemOf(f.Sign), AuthorityEnc: pemOf(f.Enc)}
	changes := []ledger.FactChange{
		{Type: ledger.FactCert, Key: string(exchange.Authority), Action: ledger.Set, Content: canon.MustMarshal(ledger.Certs{Sign: f.Sign, Enc: f.Enc})},
		{Type: ledger.FactBaseline, Key: string(exchange.Authority), Action: ledger.Set, Content: f.Baseline},
	}
	for _, m := range f.Members {
		changes = append(changes,
			ledger.FactChange{Type: ledger.FactMember, Key: string(m.Dept), Action: ledger.Set, Content: canon.MustMarshal(m.Member)},
			ledger.FactChange{Type: ledger.FactCert, Key: string(m.Dept), Action: ledger.Set, Content: canon.MustMarshal(m.Certs)})
	}
	for _, grant := range f.Grants {
		content, err := grant.Encode()
		if err != nil {
			return g, err
		}
		changes = append(changes, ledger.FactChange{Type: ledger.FactGrant, Key: ledger.ID(grant.ID).String(), Action: ledger.Set,
			Provider: grant.Provider, Grantee: grant.Requester, NotBefore: grant.NotBefore, NotAfter: grant.NotAfter, Content: content})
	}
	entries := make([][]byte, 0, len(changes))
	for i := range changes {
		id, err := ledger.NewID()
		if err != nil {
			return g, err
		}
		b, err := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: id, Author: exchange.Authority,
			Origin: f.At.UnixMilli(), Fact: &changes[i]}.Encode()
		if err != nil {
			return g, err
		}
		entries = append(entries, b)
	}
	frame, err := ledger.NewFrame(e, s, f.Origin, exchange.Authority, e.Sum(f.Sign), 1, gm.Digest{}, entries)
	if err != nil {
		return g, err
	}
	g.Frames = [][]byte{frame}
	_, err = g.open(f.At)
	return g, err
}
