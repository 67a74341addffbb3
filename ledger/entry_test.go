package ledger

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// TestEntryRefused: Encode refuses to write and DecodeEntry to read what State
// would not know how to take.
func TestEntryRefused(t *testing.T) {
	t.Parallel()
	access := func(f func(*Access)) Entry {
		e := accessEntry("minzheng", "zhujian", label("a"), Basis{})
		f(e.Access)
		return e
	}
	change := func(f func(*FactChange)) Entry {
		c := FactChange{Type: FactRules, Key: "minzheng", Action: Set}
		f(&c)
		return factEntry("minzheng", label("a"), c)
	}
	pair := func(f func(*FactChange)) Entry {
		c := FactChange{Type: FactGrant, Key: grantKey(), Action: Set, Provider: "minzheng", Grantee: "zhujian"}
		f(&c)
		return factEntry(exchange.Authority, label("a"), c)
	}
	ack := func(f func(*Entry)) Entry {
		e := ackEntry("zhujian", label("a"), "minzheng")
		f(&e)
		return e
	}
	for name, e := range map[string]Entry{
		"no suite":                    ack(func(e *Entry) { e.Suite = "" }),
		"no id":                       ack(func(e *Entry) { e.ID = ID{} }),
		"no author":                   ack(func(e *Entry) { e.Author = "" }),
		"kind 0":                      ack(func(e *Entry) { e.Kind = 0 }),
		"unknown kind":                ack(func(e *Entry) { e.Kind, e.Ack = 7, nil }),
		"content of another kind":     ack(func(e *Entry) { e.Kind = KindView }),
		"two contents":                ack(func(e *Entry) { e.View = &Viewing{Action: "show"} }),
		"acknowledges nothing":        ack(func(e *Entry) { e.Ack = &Ack{Holder: "minzheng"} }),
		"acknowledges too much":       ack(func(e *Entry) { e.Ack = &Ack{Holder: "minzheng", Entries: make([]ID, 257)} }),
		"unknown viewing":             ack(func(e *Entry) { e.Kind, e.Ack, e.View = KindView, nil, &Viewing{Action: "delete"} }),
		"not by the holder":           access(func(a *Access) { a.Holder = "gongan" }),
		"asks itself":                 access(func(a *Access) { a.Requester = "minzheng" }),
		"no class":                    access(func(a *Access) { a.Class = "" }),
		"class with the item":         access(func(a *Access) { a.Class = "civil/marriage-record" }),
		"undecided":                   access(func(a *Access) { a.Outcome = exchange.Undecided }),
		"unknown outcome":             access(func(a *Access) { a.Outcome = 9 }),
		"allowed without a response":  access(func(a *Access) { a.Response = gm.Digest{} }),
		"denied with a response":      access(func(a *Access) { a.Outcome = exchange.Refused }),
		"no record, no response":      access(func(a *Access) { a.Outcome, a.Response = exchange.NoRecord, gm.Digest{} }),
		"no commitment to the body":   access(func(a *Access) { a.Body = gm.Digest{} }),
		"no commitment to a request":  access(func(a *Access) { a.Request = gm.Digest{} }),
		"malformed epoch":             access(func(a *Access) { a.Epoch = "2026-13" }),
		"slot without version":        access(func(a *Access) { a.Basis[3] = Ref{Key: "minzheng"} }),
		"slot without key":            access(func(a *Access) { a.Basis[3] = Ref{Version: 1} }),
		"unknown fact":                change(func(c *FactChange) { c.Type = 12 }),
		"unknown action":              change(func(c *FactChange) { c.Action = 3 }),
		"no key":                      change(func(c *FactChange) { c.Key = "" }),
		"key of another form":         change(func(c *FactChange) { c.Key = "Min/zheng" }),
		"rules under an id":           change(func(c *FactChange) { c.Key = "0" + grantKey()[1:] }),
		"rules of a pair":             change(func(c *FactChange) { c.Provider, c.Grantee = "minzheng", "zhujian" }),
		"validity inverted":           change(func(c *FactChange) { c.NotBefore, c.NotAfter = 5, 5 }),
		"withdrawal with content":     change(func(c *FactChange) { c.Action, c.Content = Withdraw, []byte{1} }),
		"withdrawal of a version":     change(func(c *FactChange) { c.Action, c.Replaces = Withdraw, 3 }),
		"oversize content":            change(func(c *FactChange) { c.Content = make([]byte, maxContent+1) }),
		"baseline of a department":    change(func(c *FactChange) { c.Type = FactBaseline }),
		"the authority as member":     change(func(c *FactChange) { c.Type, c.Key = FactMember, string(exchange.Authority) }),
		"certificates that are none":  change(func(c *FactChange) { c.Type, c.Content = FactCert, []byte("x") }),
		"empty certificates":          change(func(c *FactChange) { c.Type, c.Content = FactCert, canon.MustMarshal(Certs{}) }),
		"grant under a name":          pair(func(c *FactChange) { c.Key = "minzheng" }),
		"grant without a grantee":     pair(func(c *FactChange) { c.Grantee = "" }),
		"grant to oneself":            pair(func(c *FactChange) { c.Grantee = "minzheng" }),
		"grant by a malformed name":   pair(func(c *FactChange) { c.Provider = "Ministry" }),
		"withdrawal without the pair": pair(func(c *FactChange) { c.Action, c.Provider, c.Grantee = Withdraw, "", "" }),
	} {
		if _, err := e.Encode(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s was written: %v", name, err)
		}
		if _, err := DecodeEntry(canon.MustMarshal(e)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s was read: %v", name, err)
		}
	}
}

// TestDecodeEntryIsStrict: nothing but what Encode wrote is an entry.
func TestDecodeEntryIsStrict(t *testing.T) {
	t.Parallel()
	good := encode(t, accessEntry("minzheng", "zhujian", label("a"), Basis{}))
	rapid.Check(t, func(t *rapid.T) {
		b := bytes.Clone(good)
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			b = b[:rapid.IntRange(0, len(b)-1).Draw(t, "end")]
		case 1:
			b = append(b, rapid.SliceOfN(rapid.Byte(), 1, 8).Draw(t, "tail")...)
		case 2:
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		}
		e, err := DecodeEntry(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("not ErrFormat: %v", err)
			}
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("a second form of the same entry: %v", err)
		}
	})
	if _, err := DecodeEntry(make([]byte, MaxEntry+1)); !errors.Is(err, ErrFormat) {
		t.Errorf("oversize: %v", err)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	id, err := NewID()
	if err != nil || id.IsZero() {
		t.Fatal(err)
	}
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Errorf("%v %v", got, err)
	}
	for _, s := range []string{"", "0", id.String() + "0", id.String()[1:] + "g"} {
		if _, err := ParseID(s); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestEpochAndSize(t *testing.T) {
	t.Parallel()
	shanghai := time.FixedZone("", 8*3600)
	if got := Epoch(time.Date(2026, 12, 1, 7, 0, 0, 0, shanghai)); got != "2026-11" {
		t.Errorf("epoch %s: departments must agree whatever their zone", got)
	}
	var got []uint8
	for _, n := range []int{0, 1, 2, 1023, 1024, 2047} {
		got = append(got, SizeBucket(n))
	}
	if d := cmp.Diff([]uint8{0, 1, 2, 10, 11, 11}, got); d != "" {
		t.Error(d)
	}
}
