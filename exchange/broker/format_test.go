package broker

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
	"xinqiao/exchange/material"
	"xinqiao/ledger"
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

func run(first byte) (d gm.Digest) {
	for i := range d {
		d[i] = first + byte(i)
	}
	return d
}

func fixedKey(t *testing.T) *gm.PrivateKey {
	t.Helper()
	scalar := run(1)
	key, err := gm.NewPrivateKey(scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func fixedRequest() request {
	age := exchange.View{Field: "birth_date", Mode: exchange.Predicate, Predicate: "age>=18"}
	return request{Suite: gm.Suite, Origin: "city.gov.example/ledger", ID: ledger.ID{0x01, 15: 0x10}, Nonce: run(0x20), Requester: "zhujian",
		Holder: "minzheng", RequesterCert: run(0x40), HolderCert: run(0x60), Item: "civil/marriage-record",
		Subject: exchange.Subject{Kind: exchange.Person, ID: "990102199403120029"}, Views: []exchange.View{age}, Purpose: "housing-eligibility",
		Matter: "000700001000", Case: caseProof{Case: "GZ-2026-000123", Key: "0123456789abcdef0123456789abcdef", Salt: run(0x80)},
		Operator:  operatorProof{Operator: "zj-017", Role: "case_handler", Salt: run(0xa0)},
		Authority: &authorityProof{Key: "fedcba9876543210fedcba9876543210", Record: []byte("a record"), Salt: run(0xc0)},
		Tag:       ledger.Tag{1, 15: 2}, Epoch: "2026-11", Issued: 1795426200123, Expires: 1795426500123, Seen: 4711}
}

// TestFormat pins the objects between the departments. Some values could never
// be sent as they are: here every part is filled, so that every key is held.
func TestFormat(t *testing.T) {
	t.Parallel()
	q := fixedRequest()
	pin(t, "request", q)
	pin(t, "signed", signed{Body: []byte("a body"), Sig: gm.Signature{1, 63: 2}})
	pin(t, "response", response{Suite: gm.Suite, Request: run(1), Entry: ledger.ID{1, 15: 3}, Holder: "minzheng", Requester: "zhujian",
		Outcome: exchange.Refused, AsOf: 1795426201000, Retain: "P30D",
		Presentation: &material.Presentation{Body: []byte("a material"), Sig: gm.Signature{3, 63: 4}, SubjectSalt: run(5),
			Disclosed:  []material.Disclosure{{Salt: run(6), Field: "marital_status", Value: "已婚"}},
			Predicates: []material.PredicateResult{{Field: "birth_date", Predicate: "age>=18", Holds: true}}},
		Reasons: []exchange.Reason{{Code: exchange.DenyPurpose, Article: "809-21", Detail: "housing"}}})
	pin(t, "reply", reply{Entry: ledger.ID{1, 15: 3}, Sealed: []byte("an envelope"), Denial: []byte("a response"), Body: []byte("another")})
	pin(t, "catalogue", []exchange.CatalogueItem{{Item: q.Item, Holder: "minzheng", Title: "婚姻登记信息", TitleEN: "Marriage record", Version: 1,
		Fields: []exchange.CatalogueField{{Name: "birth_date", Title: "出生日期", TitleEN: "Date of birth", Type: "date", Sensitive: true,
			Predicates: []string{"age>=18"}}},
		Sharing: "conditional", Provider: "11990100MB1X00000A"}})
	pin(t, "status", [][]byte{bytes.Repeat([]byte{7}, 16), bytes.Repeat([]byte{8}, 16)})
}

// TestFormatOmitted pins what an absent part looks like: nothing, where the
// format says opt.
func TestFormatOmitted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		v    any
		want string
	}{
		"case":      {caseProof{Case: "1"}, "a2016131035820" + strings.Repeat("00", 32)},
		"operator":  {operatorProof{Operator: "1"}, "a2016131035820" + strings.Repeat("00", 32)},
		"authority": {authorityProof{Key: "1"}, "a301613102f6035820" + strings.Repeat("00", 32)},
		"view":      {exchange.View{Field: "f", Mode: exchange.Value}, "a20161660205"},
		"reason":    {exchange.Reason{Code: "X"}, "a1016158"},
		"reply":     {reply{}, "a10150" + strings.Repeat("00", 16)},
		"status":    {[][]byte{}, "80"},
	} {
		if got := hex.EncodeToString(canon.MustMarshal(c.v)); got != c.want {
			t.Errorf("%s is encoded as %s and was %s", name, got, c.want)
		}
	}
	var q, all map[uint64]any
	whole := fixedRequest()
	bare := whole
	bare.Authority, bare.Seen = nil, 0
	for to, from := range map[*map[uint64]any]request{&all: whole, &q: bare} {
		if err := canon.Unmarshal(canon.MustMarshal(from), to); err != nil {
			t.Fatal(err)
		}
	}
	if len(all) != 21 || len(q) != 19 || q[16] != nil || q[21] != nil {
		t.Errorf("a request has %d keys, and %d without its optional ones", len(all), len(q))
	}
}

// TestFormatSignatures: what was signed once verifies for ever, in its own
// domain and unchanged. Both engines are asked.
func TestFormatSignatures(t *testing.T) {
	t.Parallel()
	key := fixedKey(t)
	for name, domain := range map[string]string{"request-signed": "xinqiao/ask/v1", "response-signed": "xinqiao/answer/v1"} {
		body := map[string]any{"request-signed": fixedRequest(), "response-signed": response{Suite: gm.Suite, Outcome: exchange.NoRecord}}[name]
		msg := pinned(t, name, func() []byte {
			b := canon.MustMarshal(body)
			sig, err := gm.Emmansun().Sign(key, gm.Preimage(domain, b))
			if err != nil {
				t.Fatal(err)
			}
			return canon.MustMarshal(signed{Body: b, Sig: sig})
		})
		open := func(e gm.Engine, msg []byte) error {
			if name == "request-signed" {
				var q request
				return openSigned(e, key.Public(), domainRequest, msg, &q)
			}
			var r response
			return openSigned(e, key.Public(), domainResponse, msg, &r)
		}
		for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
			if err := open(e, msg); err != nil {
				t.Errorf("%s, %s: %v", name, e.Name(), err)
			}
			var s signed
			if err := canon.Unmarshal(msg, &s); err != nil {
				t.Fatal(err)
			}
			for _, other := range []string{domainRequest, domainResponse, ledger.DomainFrame} {
				if e.Verify(key.Public(), gm.Preimage(other, s.Body), s.Sig) != (other == domain) {
					t.Errorf("%s, %s: the verdict in domain %s", name, e.Name(), other)
				}
			}
		}
		for i := range msg {
			changed := bytes.Clone(msg)
			changed[i] ^= 1
			if open(gm.Emmansun(), changed) == nil {
				t.Errorf("%s opens with byte %d changed", name, i)
			}
		}
	}
}

// TestFormatCommitments pins digests and contexts, each by domain and preimage.
func TestFormatCommitments(t *testing.T) {
	t.Parallel()
	e := gm.Emmansun()
	msg := canon.MustMarshal(signed{Body: canon.MustMarshal(fixedRequest()), Sig: gm.Signature{1, 63: 2}})
	digest, entry := digestOf(e, msg), ledger.ID{1, 15: 3}
	commitment := caseCommitment(e, run(0x80), "GZ-2026-000123", "minzheng")
	if got := e.Sum([]byte("SM-1\x00xinqiao/request/v1\x00"), msg); digest != got {
		t.Errorf("digest of a request: %x, want %x", digest, got)
	}
	salt := run(0x80)
	if got := e.Sum([]byte("SM-1\x00xinqiao/case/v1\x00"), salt[:], []byte("GZ-2026-000123\x00minzheng")); commitment != got {
		t.Errorf("commitment to a case: %x, want %x", commitment, got)
	}
	want := append(append([]byte("SM-1\x00xinqiao/answer/v1\x00"), digest[:]...), entry[:]...)
	if got := sealContext(digest, entry); !bytes.Equal(got, want) {
		t.Errorf("context of a response: %x, want %x", got, want)
	}
	if got, want := bodyContext(entry), append([]byte("SM-1\x00xinqiao/body/v1\x00"), entry[:]...); !bytes.Equal(got, want) {
		t.Errorf("context of a body: %x, want %x", got, want)
	}
	if got := subjectKey(fixedRequest().Subject); got != "person\x00990102199403120029" {
		t.Errorf("what a tag is made of: %q", got)
	}
}
