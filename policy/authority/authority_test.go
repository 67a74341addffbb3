package authority_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/policy"
	"xinqiao/policy/authority"
)

var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// An identity number with a wrong check character: nobody's.
const nobody = "110101199003070000"

func consent() authority.Record {
	return authority.Record{
		Suite: gm.Suite, Schema: authority.Schema, ID: [16]byte{1}, Basis: policy.Consent,
		Subject:  exchange.Subject{Kind: exchange.Person, ID: nobody},
		Provider: "minzheng", Grantee: "zhujian", Matter: "000725001000", Case: "ZJ-2026-1",
		Purposes: []exchange.Purpose{"housing-eligibility"},
		Views: []exchange.ItemView{{Item: "civil/marriage-record", View: exchange.View{Field: "marital_status", Mode: exchange.Value}},
			{Item: "civil/marriage-record", View: exchange.View{Field: "spouse_name", Mode: exchange.Value}}},
		Use:       authority.Use{Fetch: "once", MaxReads: 3, Onward: "deny"},
		NotBefore: now.Unix(), NotAfter: now.AddDate(0, 0, 30).Unix(), Retain: "P30D",
		Notice: exchange.Notice{Template: "N-17", Version: 4, Hash: strings.Repeat("ab", 32), Lang: "zh-CN"},
		Collection: authority.Collection{Channel: "window", Assurance: authority.C3, Evidence: []gm.Digest{{9}},
			Officer: "op-1", Second: "op-2"},
		Withdraw: []string{"window"},
	}
}

func duty() authority.Record {
	r := consent()
	r.Basis, r.Statute = policy.StatutoryDuty, []authority.Statute{{Act: "act", Article: "7", Duty: "verify"}}
	r.Notice, r.Collection, r.Withdraw = exchange.Notice{}, authority.Collection{Channel: "none", Assurance: authority.Statutory}, nil
	return r
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	for _, r := range []authority.Record{consent(), duty()} {
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := authority.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, got); d != "" {
			t.Error(d)
		}
		if _, err := authority.Decode(append(b, 0)); !errors.Is(err, authority.ErrRecord) {
			t.Errorf("trailing bytes: %v", err)
		}
		if _, err := authority.Decode(b[:len(b)-1]); !errors.Is(err, authority.ErrRecord) {
			t.Errorf("truncated: %v", err)
		}
	}
	if _, err := authority.Decode(make([]byte, authority.MaxSize+1)); !errors.Is(err, authority.ErrRecord) {
		t.Error("an oversize record is looked at")
	}
}

func TestRefusedRecords(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*authority.Record){
		"other suite":             func(r *authority.Record) { r.Suite = "SM-0" },
		"other schema":            func(r *authority.Record) { r.Schema = "xinqiao.authority/2" },
		"no id":                   func(r *authority.Record) { r.ID = [16]byte{} },
		"no subject":              func(r *authority.Record) { r.Subject = exchange.Subject{} },
		"with oneself":            func(r *authority.Record) { r.Grantee = r.Provider },
		"no case":                 func(r *authority.Record) { r.Case = "" },
		"no purpose":              func(r *authority.Record) { r.Purposes = nil },
		"purpose twice":           func(r *authority.Record) { r.Purposes = append(r.Purposes, r.Purposes[0]) },
		"no views":                func(r *authority.Record) { r.Views = nil },
		"view twice":              func(r *authority.Record) { r.Views = append(r.Views, r.Views[0]) },
		"view of nothing":         func(r *authority.Record) { r.Views[0].View.Mode = exchange.Never },
		"no reads":                func(r *authority.Record) { r.Use.MaxReads = 0 },
		"reads without end":       func(r *authority.Record) { r.Use.MaxReads = 1001 },
		"onward":                  func(r *authority.Record) { r.Use.Onward = "allow" },
		"no beginning":            func(r *authority.Record) { r.NotBefore = 0 },
		"ends before it begins":   func(r *authority.Record) { r.NotAfter = r.NotBefore },
		"31 days at a window":     func(r *authority.Record) { r.NotAfter = r.NotBefore + 30*24*3600 + 1 },
		"periodic at a window":    func(r *authority.Record) { r.Use.Fetch = "periodic" },
		"one officer":             func(r *authority.Record) { r.Collection.Second = "" },
		"one officer twice":       func(r *authority.Record) { r.Collection.Second = r.Collection.Officer },
		"no evidence":             func(r *authority.Record) { r.Collection.Evidence = nil },
		"empty evidence":          func(r *authority.Record) { r.Collection.Evidence = []gm.Digest{{}} },
		"no notice":               func(r *authority.Record) { r.Notice = exchange.Notice{} },
		"no way to withdraw":      func(r *authority.Record) { r.Withdraw = nil },
		"no retention":            func(r *authority.Record) { r.Retain = "" },
		"window passed off as C1": func(r *authority.Record) { r.Collection.Assurance = authority.C1 },
		"no assurance":            func(r *authority.Record) { r.Collection.Assurance = "" },
		"consent as duty":         func(r *authority.Record) { r.Basis = policy.StatutoryDuty },
		"consent under assurance S": func(r *authority.Record) {
			r.Collection = authority.Collection{Channel: "none", Assurance: authority.Statutory, Evidence: []gm.Digest{{1}}}
		},
		"emergency": func(r *authority.Record) { r.Basis = policy.Emergency },
		"no basis":  func(r *authority.Record) { r.Basis = "" },
		"over a year authenticated": func(r *authority.Record) {
			r.Collection.Assurance, r.Collection.Channel = authority.C2, "authenticated"
			r.NotAfter = r.NotBefore + 367*24*3600
		},
		"duty without a statute": func(r *authority.Record) { *r = duty(); r.Statute = nil },
		"duty half cited":        func(r *authority.Record) { *r = duty(); r.Statute[0].Article = "" },
		"duty of two years":      func(r *authority.Record) { *r = duty(); r.NotAfter = r.NotBefore + 2*366*24*3600 },
	} {
		r := consent()
		spoil(&r)
		if err := r.Check(now); !errors.Is(err, authority.ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Encode(); !errors.Is(err, authority.ErrRecord) {
			t.Errorf("%s: encoded: %v", name, err)
		}
	}
	r := consent()
	if err := r.Check(time.Unix(r.NotAfter, 0)); !errors.Is(err, authority.ErrRecord) {
		t.Error("a record that has ended is registered")
	}
	if r.Check(now) != nil || duty().Check(now) != nil {
		t.Error("a good record is refused")
	}
}

func standing(t *testing.T, r authority.Record, salt []byte) authority.Standing {
	t.Helper()
	c, err := r.Commitment(gm.Emmansun(), salt)
	if err != nil {
		t.Fatal(err)
	}
	return authority.Standing{Commitment: c, Provider: r.Provider, Grantee: r.Grantee, State: policy.StateActive,
		NotBefore: r.NotBefore, NotAfter: r.NotAfter, MaxReads: r.Use.MaxReads, Reads: 1}
}

// The record that a requester sends is believed only as far as the ledger
// confirms it.
func TestFactsRestOnTheLedger(t *testing.T) {
	t.Parallel()
	e, r, salt := gm.Emmansun(), consent(), bytes.Repeat([]byte{7}, 32)
	s := standing(t, r, salt)
	a := r.Facts(e, salt, s, r.Subject, r.Case)
	if !a.Present || !a.SubjectMatches || !a.CaseMatches || a.ReadsLeft != 2 || a.State != policy.StateActive {
		t.Fatalf("facts are %+v", a)
	}
	if d := cmp.Diff(a, r.Facts(gm.Tjfoc(), salt, s, r.Subject, r.Case)); d != "" {
		t.Errorf("the engines differ: %s", d)
	}
	if a := r.Facts(e, salt, s, exchange.Subject{Kind: exchange.Person, ID: "110101199003070001"}, r.Case); a.SubjectMatches {
		t.Error("a consent of one person serves for another")
	}
	if a := r.Facts(e, salt, s, r.Subject, "ZJ-2026-2"); a.CaseMatches {
		t.Error("a consent for one case serves for another")
	}
	for name, spoil := range map[string]func(*authority.Record, *authority.Standing, *[]byte){
		"a field added":        func(r *authority.Record, _ *authority.Standing, _ *[]byte) { r.Views[0].View.Field = "photo" },
		"another subject":      func(r *authority.Record, _ *authority.Standing, _ *[]byte) { r.Subject.ID = "110101199003070001" },
		"another salt":         func(_ *authority.Record, _ *authority.Standing, salt *[]byte) { *salt = bytes.Repeat([]byte{8}, 32) },
		"a short salt":         func(_ *authority.Record, _ *authority.Standing, salt *[]byte) { *salt = (*salt)[:8] },
		"no commitment":        func(_ *authority.Record, s *authority.Standing, _ *[]byte) { s.Commitment = gm.Digest{} },
		"another provider":     func(_ *authority.Record, s *authority.Standing, _ *[]byte) { s.Provider = "gongan" },
		"another grantee":      func(_ *authority.Record, s *authority.Standing, _ *[]byte) { s.Grantee = "gongan" },
		"quota of the ledger":  func(_ *authority.Record, s *authority.Standing, _ *[]byte) { s.MaxReads = 4 },
		"unbounded quota":      func(_ *authority.Record, s *authority.Standing, _ *[]byte) { s.MaxReads = 0 },
		"longer on the ledger": func(_ *authority.Record, s *authority.Standing, _ *[]byte) { s.NotAfter++ },
		"no ledger entry":      func(_ *authority.Record, s *authority.Standing, _ *[]byte) { *s = authority.Standing{} },
	} {
		r, s, salt := consent(), s, salt
		spoil(&r, &s, &salt)
		if a := r.Facts(e, salt, s, r.Subject, r.Case); a.Present {
			t.Errorf("%s: believed", name)
		}
	}
}

func TestStandingOverTime(t *testing.T) {
	t.Parallel()
	r := consent()
	s := standing(t, r, bytes.Repeat([]byte{7}, 32))
	for _, c := range []struct {
		spoil func(*authority.Standing)
		at    time.Time
		want  authority.State
	}{
		{func(*authority.Standing) {}, now, policy.StateActive},
		{func(*authority.Standing) {}, time.Unix(r.NotAfter, 0), policy.StateExpired},
		{func(s *authority.Standing) { s.Reads = 3 }, now, policy.StateExhausted},
		{func(s *authority.Standing) { s.State = policy.StateWithdrawn; s.Reads = 3 }, now, policy.StateWithdrawn},
	} {
		x := s
		c.spoil(&x)
		if got := x.At(c.at); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestFromConsent(t *testing.T) {
	t.Parallel()
	want := consent()
	form := exchange.ConsentForm{Provider: want.Provider, Subject: want.Subject, Matter: want.Matter, Case: want.Case,
		Purposes: want.Purposes, Views: want.Views, NotAfter: now.AddDate(0, 0, 30), MaxReads: 3, Notice: want.Notice,
		Channel: "window", Evidence: []string{strings.Repeat("ab", 32)}, Officers: []exchange.Operator{"op-1", "op-2"}}
	r, err := authority.FromConsent([16]byte{1}, "zhujian", form, now)
	if err != nil || r.Collection.Assurance != authority.C3 || r.NotBefore != now.Unix() {
		t.Fatalf("%v, %v", r, err)
	}
	for name, spoil := range map[string]func(*exchange.ConsentForm){
		"short evidence":  func(f *exchange.ConsentForm) { f.Evidence = []string{"ab"} },
		"long evidence":   func(f *exchange.ConsentForm) { f.Evidence = []string{strings.Repeat("ab", 33)} },
		"no hexadecimal":  func(f *exchange.ConsentForm) { f.Evidence = []string{strings.Repeat("zz", 32)} },
		"unknown channel": func(f *exchange.ConsentForm) { f.Channel = "telephone" },
		"three officers":  func(f *exchange.ConsentForm) { f.Officers = append(f.Officers, "op-3") },
		"own data":        func(f *exchange.ConsentForm) { f.Provider = "zhujian" },
		"no end":          func(f *exchange.ConsentForm) { f.NotAfter = time.Time{} },
		"already over":    func(f *exchange.ConsentForm) { f.NotBefore, f.NotAfter = now.AddDate(0, -1, 0), now },
	} {
		f := form
		f.Officers = slices.Clone(f.Officers)
		spoil(&f)
		if _, err := authority.FromConsent([16]byte{1}, "zhujian", f, now); !errors.Is(err, authority.ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func grant() authority.Grant {
	return authority.Grant{Suite: gm.Suite, ID: [16]byte{2}, Provider: "minzheng", Requester: "zhujian", Class: "civil",
		Items: []policy.GrantItem{{Item: "civil/marriage-record", Views: []exchange.View{{Field: "marital_status", Mode: exchange.Value}},
			Purposes: []exchange.Purpose{"housing-eligibility"}}},
		Scenario: "housing support", Basis: "Art. 20", NotBefore: now.Unix(), NotAfter: now.AddDate(1, 0, 0).Unix()}
}

func TestGrants(t *testing.T) {
	t.Parallel()
	g := grant()
	b, err := g.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := authority.DecodeGrant(b)
	if err != nil || cmp.Diff(g, got) != "" || g.Check(now) != nil {
		t.Errorf("%v %s", err, cmp.Diff(g, got))
	}
	if f := g.Facts(true, "minzheng", "zhujian"); !f.Present || !f.Active || len(f.Items) != 1 {
		t.Errorf("facts are %+v", f)
	}
	if f := g.Facts(true, "minzheng", "shuiwu"); f.Present {
		t.Error("a grant to one department serves another")
	}
	if f := g.Facts(true, "zhujian", "minzheng"); f.Present {
		t.Error("a grant works backwards")
	}
	for name, spoil := range map[string]func(*authority.Grant){
		"item of another class": func(g *authority.Grant) { g.Items[0].Item = "health/birth-certificate" },
		"no items":              func(g *authority.Grant) { g.Items = nil },
		"no views":              func(g *authority.Grant) { g.Items[0].Views = nil },
		"no purposes":           func(g *authority.Grant) { g.Items[0].Purposes = nil },
		"view of nothing":       func(g *authority.Grant) { g.Items[0].Views[0].Mode = exchange.Never },
		"no basis":              func(g *authority.Grant) { g.Basis = "" },
		"no end":                func(g *authority.Grant) { g.NotAfter = 0 },
		"with oneself":          func(g *authority.Grant) { g.Requester = g.Provider },
		"other suite":           func(g *authority.Grant) { g.Suite = "" },
	} {
		g := grant()
		spoil(&g)
		if _, err := g.Encode(); !errors.Is(err, authority.ErrGrant) {
			t.Errorf("%s: %v", name, err)
		}
		if f := g.Facts(true, g.Provider, g.Requester); f.Present {
			t.Errorf("%s: it grants", name)
		}
	}
	if err := g.Check(time.Unix(g.NotAfter, 0)); !errors.Is(err, authority.ErrGrant) {
		t.Error("a grant that has ended is issued")
	}
}

func TestRoster(t *testing.T) {
	t.Parallel()
	e := gm.Emmansun()
	entries := []authority.Operator{{ID: "op-1", Role: "case_handler"}, {ID: "op-2", Role: "reviewer"}, {ID: "op-1", Role: "reviewer"}}
	r, tickets, err := authority.NewRoster(e, rand.Reader, entries)
	if err != nil || len(tickets) != 3 {
		t.Fatal(err)
	}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("op-1")) || bytes.Contains(b, []byte("reviewer")) {
		t.Error("the roster names somebody")
	}
	r, err = authority.DecodeRoster(b)
	if err != nil {
		t.Fatal(err)
	}
	for i, ticket := range tickets {
		if !r.Holds(e, ticket) || !r.Holds(gm.Tjfoc(), ticket) || ticket.Operator != entries[i].ID {
			t.Errorf("ticket %d is not held", i)
		}
		forged := ticket
		forged.Role = "head"
		other := ticket
		other.Operator = "op-9"
		salt := ticket
		salt.Salt[0] ^= 1
		for _, f := range []authority.Ticket{forged, other, salt, {}, {Operator: ticket.Operator, Role: ticket.Role}} {
			if r.Holds(e, f) {
				t.Errorf("a forged ticket is held: %v %v", f.Operator, f.Role)
			}
		}
	}
	if (authority.Roster{}).Holds(e, tickets[0]) {
		t.Error("the zero roster holds somebody")
	}
	if _, err := (authority.Roster{Suite: gm.Suite, Digests: []gm.Digest{{2}, {1}}}).Encode(); !errors.Is(err, authority.ErrRoster) {
		t.Error("an unsorted roster is accepted")
	}
	for name, bad := range map[string][]authority.Operator{
		"twice":             {{ID: "a", Role: "r"}, {ID: "a", Role: "r"}},
		"no role":           {{ID: "a"}},
		"malformed":         {{ID: "a\x00b", Role: "r"}},
		"role with a space": {{ID: "a", Role: "r s"}},
	} {
		if _, _, err := authority.NewRoster(e, rand.Reader, bad); !errors.Is(err, authority.ErrRoster) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := authority.NewRoster(e, bytes.NewReader(nil), entries); err == nil {
		t.Error("a roster without randomness")
	}
}

func states() []authority.State {
	return []authority.State{policy.StateOffered, policy.StateRefused, policy.StatePending, policy.StateActive, policy.StateSuspended,
		policy.StateWithdrawn, policy.StateExpired, policy.StateExhausted, policy.StateSuperseded, policy.StateInvalid,
		policy.StateDisposalDue, policy.StateDisposed}
}

func events() []authority.Event {
	return []authority.Event{authority.Refuse, authority.Give, authority.Confirm, authority.Lapse, authority.Suspend, authority.Resume,
		authority.Withdraw, authority.Exhaust, authority.Expire, authority.Supersede, authority.Invalidate, authority.EndUse, authority.Dispose, ""}
}

// possible lists the events that lead on from s, several times over, so that
// long histories are drawn often.
func possible(s authority.State) []authority.Event {
	var out []authority.Event
	for _, e := range events() {
		if _, err := authority.Next(s, e); err == nil && e != authority.Invalidate {
			out = append(out, e, e, e, e)
		}
	}
	return out
}

// Along any history: only an active record authorises, nothing leaves a
// terminal state, and what was withdrawn, expired, exhausted or superseded
// never authorises again.
func TestLifeOfARecord(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, over := policy.StateOffered, false
		for range rapid.IntRange(1, 40).Draw(t, "length") {
			e := rapid.SampledFrom(append(possible(s), events()...)).Draw(t, "event")
			next, err := authority.Next(s, e)
			if err != nil && (next != s || !errors.Is(err, authority.ErrTransition)) {
				t.Fatalf("a refused event changes %s to %s: %v", s, next, err)
			}
			if authority.Terminal(s) && err == nil {
				t.Fatalf("%s leaves the terminal state %s", e, s)
			}
			if e == authority.Withdraw && (s == policy.StateActive || s == policy.StateSuspended || s == policy.StatePending) && next != policy.StateWithdrawn {
				t.Fatalf("withdrawal of one that is %s leads to %s", s, next)
			}
			s = next
			if authority.Authorises(s) != (s == policy.StateActive) || over && authority.Authorises(s) {
				t.Fatalf("%s authorises after its end", s)
			}
			switch s {
			case policy.StateOffered, policy.StatePending, policy.StateActive, policy.StateSuspended:
			default:
				over = true
			}
		}
	})
}

func TestEveryStateIsReachable(t *testing.T) {
	t.Parallel()
	reached := map[authority.State]bool{policy.StateOffered: true}
	for todo := []authority.State{policy.StateOffered}; len(todo) > 0; todo = todo[1:] {
		for _, e := range events() {
			if next, err := authority.Next(todo[0], e); err == nil && !reached[next] {
				reached[next] = true
				todo = append(todo, next)
			}
		}
	}
	for _, s := range states() {
		if !reached[s] {
			t.Errorf("no history reaches %s", s)
		}
	}
	if len(reached) != len(states()) {
		t.Errorf("unlisted states are reached: %v", reached)
	}
}

func TestUnknownStatesDeny(t *testing.T) {
	t.Parallel()
	for _, s := range []authority.State{"", "ACTIVE", "active ", "x"} {
		if authority.Authorises(s) {
			t.Errorf("%q authorises", s)
		}
		for _, e := range events() {
			if _, err := authority.Next(s, e); !errors.Is(err, authority.ErrTransition) {
				t.Errorf("%q has a next state on %q", s, e)
			}
		}
	}
}
