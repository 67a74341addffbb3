package material

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

// oldIssuer signs with a key that is no secret.
type oldIssuer struct{ key *gm.PrivateKey }

func newOldIssuer(t *testing.T) oldIssuer {
	t.Helper()
	key, err := gm.NewPrivateKey(bytes.Repeat([]byte{3}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return oldIssuer{key}
}

func (i oldIssuer) Sign(domain string, body []byte) (gm.Signature, error) {
	return gm.Emmansun().Sign(i.key, gm.Preimage(domain, body))
}

// counting gives the bytes 0x23, 0x24 and so on, which are not random.
type counting struct{ next byte }

func (c *counting) Read(b []byte) (int, error) {
	for i := range b {
		b[i], c.next = 0x23+c.next, c.next+1
	}
	return len(b), nil
}

func oldDraft() Draft {
	at := time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	return Draft{Item: "civil/marriage-record", Schema: 2, Subject: exchange.Subject{Kind: exchange.Person, ID: "990102199403120029"},
		Issuer: "minzheng", Cert: gm.Digest{7, 31: 8}, IssuedAt: at, ValidFrom: at.Add(-time.Hour), ValidTo: at.AddDate(1, 0, 0),
		Fields: []FieldValue{{"marital_status", "已婚"}, {"birth_date", "1994-03-12"}, {"remarks", ""}}}
}

func reissue(t *testing.T) Material {
	t.Helper()
	m, err := Issue(gm.Emmansun(), newOldIssuer(t), &counting{}, oldDraft())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func oldWant(views ...exchange.View) Want {
	d := oldDraft()
	return Want{Item: d.Item, Subject: d.Subject, Issuer: d.Issuer, Cert: d.Cert, Views: views, At: d.IssuedAt}
}

// TestFormat pins a material and a presentation of it.
func TestFormat(t *testing.T) {
	t.Parallel()
	whole := pinned(t, "material", func() []byte { return canon.MustMarshal(reissue(t)) })
	old, err := Decode(whole)
	if err != nil {
		t.Fatal(err)
	}
	holdMaterial(t, old, whole)
	holdPresentation(t, old)
}

// holdMaterial: what was issued once verifies for ever, and the same draft with
// the same random bytes gives the same body.
func holdMaterial(t *testing.T, old Material, whole []byte) {
	t.Helper()
	key := newOldIssuer(t).key.Public()
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		if err := old.Verify(e, key, oldWant()); err != nil {
			t.Errorf("%s: %v", e.Name(), err)
		}
	}
	again := reissue(t)
	again.Sig = old.Sig // a signature is another each time
	if got := canon.MustMarshal(again); !bytes.Equal(got, whole) {
		t.Errorf("issued again:\n%x\nwas\n%x", got, whole)
	}
	b, err := decodeBody(old.Body)
	if err != nil {
		t.Fatal(err)
	}
	filled(t, "body", reflect.ValueOf(b))
	if len(b.Digests) <= len(old.Disclosures) {
		t.Error("no decoy is held")
	}
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 1
		if m, err := Decode(changed); err == nil && m.Verify(gm.Emmansun(), key, oldWant()) == nil {
			t.Errorf("it verifies with byte %d changed", i)
		}
	}
}

// holdPresentation: what was shown once verifies for ever. Only whether the
// predicate holds can be changed; the response's signature covers that.
func holdPresentation(t *testing.T, old Material) {
	t.Helper()
	key := newOldIssuer(t).key.Public()
	views := []exchange.View{{Field: "marital_status", Mode: exchange.Value}, {Field: "birth_date", Mode: exchange.Predicate, Predicate: "age>=18"}}
	now, err := old.Present(views, oldDraft().IssuedAt)
	if err != nil {
		t.Fatal(err)
	}
	filled(t, "presentation", reflect.ValueOf(now))
	shown := pinned(t, "presentation", func() []byte { return canon.MustMarshal(now) })
	if got := canon.MustMarshal(now); !bytes.Equal(got, shown) {
		t.Errorf("shown again:\n%x\nwas\n%x", got, shown)
	}
	verify := func(b []byte) ([]exchange.Disclosed, error) {
		var p Presentation
		if err := canon.Unmarshal(b, &p); err != nil {
			return nil, err
		}
		v, err := p.Verify(gm.Emmansun(), key, oldWant(views...))
		return v.Fields, err
	}
	want := []exchange.Disclosed{{View: views[0], Value: "已婚"}, {View: views[1], Holds: true}}
	if got, err := verify(shown); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	changes := 0
	for i := range shown {
		changed := bytes.Clone(shown)
		changed[i] ^= 1
		if got, err := verify(changed); err == nil {
			if changes++; got[1].Holds {
				t.Errorf("it verifies with byte %d changed", i)
			}
		}
	}
	if changes != 1 {
		t.Errorf("%d bytes can be changed", changes)
	}
}
