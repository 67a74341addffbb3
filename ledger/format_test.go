package ledger

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
	"xinqiao/ledger/merkle"
)

// pinned returns the bytes that testdata holds under name. With
// -rewrite, the flag of this package, it first writes there what the code makes now.
func pinned(t *testing.T, name string, made func() []byte) []byte {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if f := flag.Lookup("rewrite"); f != nil && f.Value.String() == "true" {
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

func run(first byte) (d gm.Digest) {
	for i := range d {
		d[i] = first + byte(i)
	}
	return d
}

func oldEntry(kind Kind) Entry {
	return Entry{Suite: gm.Suite, Kind: kind, ID: ID{1, 15: byte(kind)}, Author: "minzheng", Origin: 1795426200123}
}

func oldAccess() *Access {
	a := &Access{Holder: "minzheng", Requester: "zhujian", Class: "civil", Outcome: exchange.Allowed, Request: run(1), Response: run(2),
		Body: run(3), HolderTag: Tag{1, 15: 2}, RequesterTag: Tag{3, 15: 4}, Size: 12, Epoch: "2026-11", Corrects: ID{5, 15: 6}}
	for i := range a.Basis {
		a.Basis[i] = Ref{Key: "key-" + string(rune('a'+i)), Version: uint64(100 + i)}
	}
	return a
}

// TestFormatEntries pins one entry of each kind, with every part filled.
func TestFormatEntries(t *testing.T) {
	t.Parallel()
	access, ack, fact, view := oldEntry(KindAccess), oldEntry(KindAck), oldEntry(KindFact), oldEntry(KindView)
	access.Access = oldAccess()
	ack.Ack = &Ack{Holder: "zhujian", Entries: []ID{{7, 15: 8}, {9, 15: 10}}}
	fact.Fact = &FactChange{Type: FactAuthority, Key: label("old").String(), Action: Set, Provider: "minzheng", Grantee: "zhujian",
		NotBefore: 1795426200, NotAfter: 1795426201, MaxReads: 3, Content: []byte("content"), Commitment: run(4), Replaces: 17}
	view.View = &Viewing{Action: "export", Body: run(5), Rows: 20}
	clock := oldEntry(KindClock)
	clock.Clock = &Clock{Note: noteBy(checkpoint.Checkpoint{Origin: "city.gov.example/ledger", Size: 7, Root: run(6)}, "minzheng", "zhujian"),
		Certs: []uint64{4, 9}}
	denials := oldEntry(KindDenied)
	denials.Denied = &Denials{Requester: "zhujian", From: 1795426200000, To: 1795426800000, Count: 9900, Chain: run(7)}
	for name, content := range map[string]any{"access": access.Access, "ack": ack.Ack, "fact": fact.Fact, "view": view.View,
		"clock": clock.Clock, "denials": denials.Denied} {
		filled(t, name, reflect.ValueOf(content))
	}
	for name, e := range map[string]Entry{"entry-access": access, "entry-ack": ack, "entry-fact": fact, "entry-view": view,
		"entry-clock": clock, "entry-denials": denials} {
		pin(t, name, e)
		b, err := e.Encode()
		if err != nil || !bytes.Equal(b, pinned(t, name, func() []byte { return b })) {
			t.Errorf("%s is not encoded as it is pinned: %v", name, err)
		}
		if _, err := DecodeEntry(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFormat pins what entries travel and lie in.
func TestFormat(t *testing.T) {
	t.Parallel()
	body := FrameBody{Suite: gm.Suite, Origin: "city.gov.example/ledger", Dept: "minzheng", Cert: run(1), Seq: 2, Prev: run(2), Root: run(3), Count: 4}
	frame := Frame{Body: []byte("a body"), Sig: gm.Signature{1, 63: 2}, Entries: [][]byte{[]byte("one"), []byte("two")}}
	record := FrameRecord{Body: []byte("a body"), Sig: gm.Signature{1, 63: 2}, Leaves: []gm.Digest{run(4), run(5)}}
	leaf := Leaf{Entry: []byte("an entry"), Frame: run(1), Pos: 3, Time: 1795426200123, Result: Stale, Slot: SlotQuota, Back: 9}
	batch := Batch{Version: 1, Time: 1795426200123, Frames: [][]byte{[]byte("a frame")}}
	detail := Body{Salt: run(1), Item: "civil/marriage-record", Subject: exchange.Subject{Kind: exchange.Person, ID: "990102199403120029"},
		Views:   []exchange.View{{Field: "birth_date", Mode: exchange.Predicate, Predicate: "age>=18"}},
		Purpose: "housing-eligibility", Matter: "000700001000", Case: "1", Operator: "2", Authority: label("old").String(), Rule: "a-rule",
		Reasons: []exchange.Reason{{Code: exchange.DenyCase, Article: "7", Detail: "a detail"}}, Request: []byte("a request")}
	member := Member{Name: "民政局", NameEN: "Civil affairs", USCC: "11990100MB1X00000A", Voter: true, Raft: "a:1", Peer: "b:2"}
	certs := Certs{Sign: []byte("one"), Enc: []byte("two"), Earlier: []CertPair{{Sign: []byte("three"), Enc: []byte("four")}}}
	for name, v := range map[string]any{"frame-body": body, "frame": frame, "frame-record": record, "leaf": leaf, "batch": batch, "body": detail,
		"member": member, "certs": certs} {
		filled(t, name, reflect.ValueOf(v))
	}
	pin(t, "frame-body", body)
	pin(t, "frame", frame)
	pin(t, "frame-record", record)
	pin(t, "leaf", leaf)
	pin(t, "batch", batch)
	pin(t, "body", detail)
	pin(t, "member", member)
	pin(t, "certs", certs)
	made, err := EncodeBatch(time.UnixMilli(batch.Time), batch.Frames)
	if err != nil || !bytes.Equal(made, canon.MustMarshal(batch)) {
		t.Errorf("EncodeBatch makes %x, %v", made, err)
	}
}

// TestFormatDigests pins hashes and commitments by domain and preimage.
func TestFormatDigests(t *testing.T) {
	t.Parallel()
	e, body, sig := gm.Emmansun(), []byte("a body"), gm.Signature{1, 63: 2}
	if got, want := FrameHash(e, body, sig), e.Sum([]byte("SM-1\x00xinqiao/frame/v1\x00a body"), sig[:]); got != want {
		t.Errorf("hash of a frame: %x, want %x", got, want)
	}
	d := Body{Salt: run(1)}
	raw, got, err := d.Encode(e)
	if want := e.Sum([]byte("SM-1\x00xinqiao/body/v1\x00"), d.Salt[:], raw); err != nil || got != want {
		t.Errorf("commitment to a body: %x, %v, want %x", got, err, want)
	}
	one, two := []byte("one"), []byte("two")
	hash := func(parts ...[]byte) []byte { d := e.Sum(parts...); return d[:] }
	want := e.Sum([]byte{1}, hash([]byte{0}, one), hash([]byte{0}, two))
	if got := merkle.Root(e, entryHashes(e, [][]byte{one, two})); got != want {
		t.Errorf("root of a frame: %x, want %x", got, want)
	}
	if DomainRequest != "xinqiao/request/v1" || DomainView != "xinqiao/view/v1" {
		t.Error("a domain has changed")
	}
}
