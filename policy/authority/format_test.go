package authority_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/policy"
	"xinqiao/policy/authority"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew: the formats of exchange/FORMAT.md change")

// pinned returns the bytes that testdata holds under name. With -update it
// first writes there what the code makes now.
func pinned(t *testing.T, name string, made func() []byte) []byte {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(hex.EncodeToString(made())+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) == 0 {
		t.Fatalf("%s: no bytes in hexadecimal: %v", file, err)
	}
	return b
}

// filled fails when a part of v is zero: its key, or its absence, would not be
// pinned.
func filled(t *testing.T, at string, v reflect.Value) {
	t.Helper()
	if v.IsZero() {
		t.Errorf("%s is zero", at)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		filled(t, at, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			filled(t, at+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			t.Errorf("%s is empty", at)
		}
		for i := range v.Len() {
			if v.Type().Elem().Kind() == reflect.Struct {
				filled(t, at+"[]", v.Index(i))
			}
		}
	}
}

// pin holds v to its bytes, both ways; each byte of them has to count.
func pin[T any](t *testing.T, name string, v T) {
	t.Helper()
	filled(t, name, reflect.ValueOf(v))
	encode := func() []byte { return canon.MustMarshal(v) }
	want := pinned(t, name, encode)
	if got := encode(); !bytes.Equal(got, want) {
		t.Errorf("%s is encoded as\n%x\nand was\n%x", name, got, want)
	}
	var back T
	if err := canon.Unmarshal(want, &back); err != nil || !reflect.DeepEqual(back, v) {
		t.Errorf("%s is read as another value, or not at all: %v", name, err)
	}
	for i := range want {
		changed := bytes.Clone(want)
		changed[i] ^= 1
		var other T
		if err := canon.Unmarshal(changed, &other); err == nil && reflect.DeepEqual(other, v) {
			t.Errorf("%s: byte %d does not count", name, i)
		}
	}
}

// fullRecord has every part that a record can have.
func fullRecord() authority.Record {
	r := consent()
	r.Basis, r.Statute = policy.StatutoryDuty, []authority.Statute{{Act: "an act", Article: "7", Duty: "to verify"}}
	r.Collection.Assurance = authority.Statutory
	r.Views = []exchange.ItemView{{Item: "civil/marriage-record",
		View: exchange.View{Field: "birth_date", Mode: exchange.Predicate, Predicate: "age>=18"}}}
	return r
}

// TestFormat pins records, grants, rosters and tickets.
func TestFormat(t *testing.T) {
	t.Parallel()
	g := grant()
	g.Items[0].Views = fullViews()
	roster, tickets := oldRoster(t)
	pin(t, "record", fullRecord())
	pin(t, "grant", g)
	pin(t, "roster", roster)
	pin(t, "ticket", tickets[0])
	held := map[string][]byte{}
	for name, encode := range map[string]func() ([]byte, error){"record": fullRecord().Encode, "grant": g.Encode, "roster": roster.Encode} {
		b, err := encode()
		if held[name] = pinned(t, name, func() []byte { return b }); err != nil || !bytes.Equal(b, held[name]) {
			t.Errorf("%s is not encoded as it is pinned: %v", name, err)
		}
	}
	if _, err := authority.Decode(held["record"]); err != nil {
		t.Error(err)
	}
	if _, err := authority.DecodeGrant(held["grant"]); err != nil {
		t.Error(err)
	}
	r, err := authority.DecodeRoster(held["roster"])
	if err != nil || !r.Holds(gm.Emmansun(), tickets[0]) || !r.Holds(gm.Emmansun(), tickets[1]) {
		t.Errorf("the roster does not hold its tickets: %v", err)
	}
}

func fullViews() []exchange.View {
	return []exchange.View{{Field: "birth_date", Mode: exchange.Predicate, Predicate: "age>=18"}}
}

func oldRoster(t *testing.T) (authority.Roster, []authority.Ticket) {
	t.Helper()
	salts := append(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)...)
	roster, tickets, err := authority.NewRoster(gm.Emmansun(), bytes.NewReader(salts),
		[]authority.Operator{{ID: "op-1", Role: "case_handler"}, {ID: "op-2", Role: "case_handler"}})
	if err != nil {
		t.Fatal(err)
	}
	return roster, tickets
}

// TestFormatCommitments pins domains and preimages.
func TestFormatCommitments(t *testing.T) {
	t.Parallel()
	e, salt := gm.Emmansun(), bytes.Repeat([]byte{3}, 32)
	r := fullRecord()
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := e.Sum([]byte("SM-1\x00xinqiao/authority/v1\x00"), salt, b)
	if got, err := r.Commitment(e, salt); err != nil || got != want {
		t.Errorf("commitment to a record: %x, %v, want %x", got, err, want)
	}
	roster, tickets := oldRoster(t)
	for _, ticket := range tickets {
		digest := e.Sum([]byte("SM-1\x00xinqiao/roster/v1\x00"), ticket.Salt[:], []byte(string(ticket.Operator)+"\x00"+string(ticket.Role)))
		if digest != roster.Digests[0] && digest != roster.Digests[1] {
			t.Errorf("the digest of %s is not on the roster", ticket.Operator)
		}
	}
}
