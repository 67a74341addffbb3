package ledger

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// FactType says what a fact is about. The numbers are on the ledger and are
// never changed.
type FactType uint8

// The types of fact, with the key of each and who may set and withdraw it.
const (
	FactBaseline     FactType = 1  // key "authority"; set by the authority
	FactRules        FactType = 2  // key department; its own
	FactRestrictions FactType = 3  // key department; its own
	FactMember       FactType = 4  // key department; set by the authority
	FactCert         FactType = 5  // key department; set by the authority or renewed by the department, withdrawn by either
	FactGrant        FactType = 6  // key an id; set by the authority, withdrawn also by the provider
	FactAuthority    FactType = 7  // key an id; set by the grantee, withdrawn by either party or the authority
	FactCase         FactType = 8  // key an id; set and withdrawn by the grantee
	FactRoster       FactType = 9  // key department; its own
	FactStatus       FactType = 10 // key department; its own
	FactCatalogue    FactType = 11 // key department; its own
)

var factNames = map[FactType]string{
	FactBaseline: "baseline", FactRules: "rules", FactRestrictions: "restrictions", FactMember: "member", FactCert: "cert",
	FactGrant: "grant", FactAuthority: "authority", FactCase: "case", FactRoster: "roster", FactStatus: "status",
	FactCatalogue: "catalogue",
}

// String returns the type's name.
func (t FactType) String() string {
	if n, ok := factNames[t]; ok {
		return n
	}
	return fmt.Sprintf("fact(%d)", uint8(t))
}

// pair reports whether facts of the type lie between a provider and a grantee.
// Those are withdrawn once and for all; their keys are never used again.
func (t FactType) pair() bool { return t == FactGrant || t == FactAuthority || t == FactCase }

// Action is what happens to a fact.
type Action uint8

// The actions.
const (
	Set      Action = 1
	Withdraw Action = 2
)

const (
	maxKey     = 40
	maxContent = 96 << 10
)

// FactChange sets or withdraws one fact.
type FactChange struct {
	Type       FactType      `cbor:"1,keyasint"`
	Key        string        `cbor:"2,keyasint"`
	Action     Action        `cbor:"3,keyasint"`
	Provider   exchange.Dept `cbor:"4,keyasint,omitempty"` // of pair facts
	Grantee    exchange.Dept `cbor:"5,keyasint,omitempty"`
	NotBefore  int64         `cbor:"6,keyasint,omitempty"`  // Unix seconds; 0 is unbounded
	NotAfter   int64         `cbor:"7,keyasint,omitempty"`  //
	MaxReads   uint32        `cbor:"8,keyasint,omitempty"`  // of authority records; 0 is unbounded
	Content    []byte        `cbor:"9,keyasint,omitempty"`  // public: rules, certificates, grants
	Commitment gm.Digest     `cbor:"10,keyasint"`           // to what stays between the parties, or zero
	Replaces   uint64        `cbor:"11,keyasint,omitempty"` // the version that a Set replaces; 0 sets a new fact
}

var keyForm = regexp.MustCompile(`^[a-z0-9-]{2,40}$`)

func (c *FactChange) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: fact: %s", ErrFormat, what) }
	_, known := factNames[c.Type]
	switch {
	case !known:
		return bad("unknown type")
	case c.Action != Set && c.Action != Withdraw:
		return bad("unknown action")
	case !keyForm.MatchString(c.Key):
		return bad("malformed key")
	case c.Type.pair() && !exchange.ValidID(c.Key):
		return bad("the key of a pair fact is an id")
	case !c.Type.pair() && !exchange.Dept(c.Key).Valid():
		return bad("the key is not a department")
	case c.Type == FactBaseline && c.Key != string(exchange.Authority):
		return bad("the baseline is the authority's")
	case c.Type == FactMember && c.Key == string(exchange.Authority):
		return bad("the authority is not a member")
	case len(c.Content) > maxContent:
		return bad("content is over the limit")
	case c.NotAfter != 0 && c.NotAfter <= c.NotBefore:
		return bad("validity ends before it begins")
	case c.Action == Withdraw && (len(c.Content) > 0 || c.NotBefore != 0 || c.NotAfter != 0 || c.MaxReads != 0 || c.Replaces != 0):
		return bad("a withdrawal names the fact alone")
	case c.Type.pair() != (c.Provider != "") || c.Type.pair() != (c.Grantee != ""):
		return bad("provider and grantee are named exactly for facts of a pair")
	case c.Type.pair() && (!c.Provider.Valid() || !c.Grantee.Valid() || c.Provider == c.Grantee):
		return bad("the pair is malformed")
	}
	if c.Type == FactCert && c.Action == Set {
		// A department whose certificates do not decode could never write again;
		// for the authority nobody could mend that.
		certs, err := DecodeCerts(c.Content)
		if err != nil || len(certs.Sign) == 0 || len(certs.Earlier) > MaxEarlierCerts {
			return bad("the content is not a department's certificates")
		}
	}
	return nil
}

// mayWrite reports whether author may make the change, old being the fact as it
// stands, if any.
func (c *FactChange) mayWrite(author exchange.Dept, old *Fact) bool {
	own := author == exchange.Dept(c.Key)
	withdraw := c.Action == Withdraw
	if old != nil && c.Type.pair() && (old.Provider != c.Provider || old.Grantee != c.Grantee) {
		return false
	}
	switch c.Type {
	case FactBaseline, FactMember:
		return author == exchange.Authority
	case FactCert:
		// A department renews under the certificate that it has: once withdrawn, only
		// the authority sets another. The certificate itself is the authority's word.
		return author == exchange.Authority || own && (withdraw || old != nil)
	case FactRules, FactRestrictions, FactRoster, FactStatus, FactCatalogue:
		return own
	case FactGrant:
		return author == exchange.Authority || withdraw && author == c.Provider
	case FactAuthority:
		return author == c.Grantee || withdraw && (author == c.Provider || author == exchange.Authority)
	case FactCase:
		return author == c.Grantee
	}
	return false
}

// A Fact is the present state of one fact. It is never changed in place; a new
// version is a new Fact.
type Fact struct {
	Type       FactType
	Key        string
	Version    uint64 // 1 + index of the leaf that set or withdrew it
	Since      uint64 // the oldest version that this one continues, often itself
	Active     bool   // false once withdrawn
	Provider   exchange.Dept
	Grantee    exchange.Dept
	NotBefore  int64 // Unix seconds, 0 unbounded
	NotAfter   int64
	MaxReads   uint32
	Reads      uint32 // committed accesses that rested on it
	Content    []byte
	Commitment gm.Digest
	Time       time.Time // of the change, ledger time
	Entry      ID        // of the change
	Author     exchange.Dept
}

// In reports whether the fact is in force at t: active and within its validity.
func (f *Fact) In(t time.Time) bool {
	return f != nil && f.Active && (f.NotBefore == 0 || t.Unix() >= f.NotBefore) && (f.NotAfter == 0 || t.Unix() < f.NotAfter)
}

// continues reports whether what rested on an earlier version still holds by
// this one: it is the same, or certificates that were renewed since.
func (f *Fact) continues(version uint64) bool {
	return version >= f.Since && version <= f.Version && version > 0
}

// Left returns how many reads are left, or -1 when they are not bounded.
func (f *Fact) Left() int {
	if f.MaxReads == 0 {
		return -1
	}
	return int(f.MaxReads) - int(f.Reads)
}

// Member is the content of a FactMember: one admitted department.
type Member struct {
	Name   string `cbor:"1,keyasint" json:"name"`
	NameEN string `cbor:"2,keyasint" json:"nameEn"`
	USCC   string `cbor:"3,keyasint" json:"uscc"`
	Voter  bool   `cbor:"4,keyasint" json:"voter"`
	Raft   string `cbor:"5,keyasint" json:"raft"` // host:port
	Peer   string `cbor:"6,keyasint" json:"peer"` // host:port
}

// Certs is the content of a FactCert: a department's two certificates, DER.
type Certs struct {
	Sign []byte `cbor:"1,keyasint"`
	Enc  []byte `cbor:"2,keyasint"`
	// Earlier are the pairs that these renew, newest first. New frames need Sign;
	// what was signed under an earlier pair stays good until a set leaves it out, as
	// one does whose key was lost.
	Earlier []CertPair `cbor:"3,keyasint,omitempty"`
}

// CertPair is a department's two certificates as they once were, DER.
type CertPair struct {
	Sign []byte `cbor:"1,keyasint"`
	Enc  []byte `cbor:"2,keyasint"`
}

// MaxEarlierCerts bounds Certs.Earlier.
const MaxEarlierCerts = 16

// Renew returns the certificates that follow c without a break. The oldest pair
// goes when there are too many, and with it whatever still rests on it.
func (c Certs) Renew(next CertPair) Certs {
	earlier := c.Pairs()
	return Certs{Sign: next.Sign, Enc: next.Enc, Earlier: earlier[:min(len(earlier), MaxEarlierCerts)]}
}

// Pairs lists the pair in force and those before it, newest first.
func (c Certs) Pairs() []CertPair {
	return append([]CertPair{{Sign: c.Sign, Enc: c.Enc}}, c.Earlier...)
}

// renews reports whether c follows old without a break: nothing was left out.
func (c Certs) renews(old Certs) bool {
	want := old.Renew(CertPair{Sign: c.Sign, Enc: c.Enc})
	return len(want.Earlier) == len(old.Earlier)+1 && slices.EqualFunc(c.Earlier, want.Earlier, CertPair.equal)
}

func (p CertPair) equal(q CertPair) bool {
	return bytes.Equal(p.Sign, q.Sign) && bytes.Equal(p.Enc, q.Enc)
}

// DecodeMember reads a member fact's content.
func DecodeMember(b []byte) (m Member, err error) { return m, canon.Unmarshal(b, &m) }

// DecodeCerts reads a certificate fact's content.
func DecodeCerts(b []byte) (c Certs, err error) { return c, canon.Unmarshal(b, &c) }
