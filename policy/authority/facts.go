package authority

import (
	"encoding/hex"
	"fmt"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/policy"
)

// Standing is what the ledger says of a record: everything that is known of it
// without the record itself. Times are Unix seconds.
type Standing struct {
	Commitment gm.Digest
	Provider   exchange.Dept
	Grantee    exchange.Dept
	State      State // as entries brought it about; expiry and use are judged besides
	NotBefore  int64
	NotAfter   int64
	MaxReads   uint32
	Reads      uint32 // committed
}

// At returns the state at t as a person is shown it: an active record past its
// end is expired, one whose reads are used up is exhausted.
func (s Standing) At(t time.Time) State {
	switch {
	case s.State != policy.StateActive:
		return s.State
	case t.Unix() >= s.NotAfter:
		return policy.StateExpired
	case s.Reads >= s.MaxReads:
		return policy.StateExhausted
	}
	return policy.StateActive
}

// Facts returns what policy.Decide wants to know of the record for a question
// about subject in the given case. A record that is not the one committed to,
// or whose parties, validity or quota differ from the ledger's, is no record:
// the ledger enforces what stands there, so nothing else may be judged.
func (r Record) Facts(e gm.Engine, salt []byte, s Standing, subject exchange.Subject, c exchange.Case) policy.Authority {
	commitment, err := r.Commitment(e, salt)
	if err != nil || commitment != s.Commitment || r.Provider != s.Provider || r.Grantee != s.Grantee ||
		r.NotBefore != s.NotBefore || r.NotAfter != s.NotAfter || r.Use.MaxReads != s.MaxReads {
		return policy.Authority{}
	}
	return policy.Authority{
		Present: true, State: s.State, Basis: r.Basis, Provider: r.Provider, Grantee: r.Grantee,
		SubjectMatches: r.Subject == subject, CaseMatches: r.Case == c, Matter: r.Matter,
		Purposes: r.Purposes, Views: r.Views,
		NotBefore: time.Unix(r.NotBefore, 0).UTC(), NotAfter: time.Unix(r.NotAfter, 0).UTC(),
		MaxReads: int(r.Use.MaxReads), ReadsLeft: int(s.MaxReads) - int(s.Reads),
	}
}

// FromConsent makes the record of a consent that a department system registers:
// "window" is assurance C3, "authenticated" is C2. The grantee is the
// department that registers. It is checked as of now.
func FromConsent(id [16]byte, grantee exchange.Dept, f exchange.ConsentForm, now time.Time) (Record, error) {
	r := Record{
		Suite: gm.Suite, Schema: Schema, ID: id, Basis: policy.Consent, Subject: f.Subject,
		Provider: f.Provider, Grantee: grantee, Matter: f.Matter, Case: f.Case, Purposes: f.Purposes, Views: f.Views,
		Use:       Use{Fetch: "once", MaxReads: f.MaxReads, Onward: "deny"},
		NotBefore: f.NotBefore.Unix(), NotAfter: f.NotAfter.Unix(), Retain: "P30D", Notice: f.Notice,
		Collection: Collection{Channel: f.Channel}, Withdraw: []string{"window", "app", "12345"},
	}
	if f.NotBefore.IsZero() {
		r.NotBefore = now.Unix()
	}
	switch f.Channel {
	case "window":
		r.Collection.Assurance = C3
	case "authenticated":
		r.Collection.Assurance = C2
	}
	for _, h := range f.Evidence {
		var d gm.Digest
		if n, err := hex.Decode(d[:], []byte(trim(h))); err != nil || n != len(d) || len(h) != 2*len(d) {
			return Record{}, fmt.Errorf("%w: evidence is not an SM3 value of 64 hexadecimal digits", ErrRecord)
		}
		r.Collection.Evidence = append(r.Collection.Evidence, d)
	}
	switch len(f.Officers) {
	case 0:
	case 1:
		r.Collection.Officer = f.Officers[0]
	case 2:
		r.Collection.Officer, r.Collection.Second = f.Officers[0], f.Officers[1]
	default:
		return Record{}, fmt.Errorf("%w: more than two officers", ErrRecord)
	}
	return r, r.Check(now)
}

// trim bounds what hex.Decode may write to the size of a digest.
func trim(h string) string { return h[:min(len(h), 2*gm.HashSize)] }

// Facts returns what policy.Decide wants to know of the grant for the two
// departments. Active is the ledger's word on whether it was withdrawn. A grant
// for another pair is no grant.
func (g Grant) Facts(active bool, provider, requester exchange.Dept) policy.Grant {
	if g.form() != nil || g.Provider != provider || g.Requester != requester {
		return policy.Grant{}
	}
	return policy.Grant{Present: true, Active: active, Items: g.Items,
		NotBefore: time.Unix(g.NotBefore, 0).UTC(), NotAfter: time.Unix(g.NotAfter, 0).UTC()}
}
