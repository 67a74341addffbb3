package material_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
)

const item exchange.Item = "civil/marriage-record"

// issuer signs as a keyring does.
type issuer struct {
	key    *gm.PrivateKey
	engine gm.Engine
}

func (i issuer) Sign(domain string, body []byte) (gm.Signature, error) {
	return i.engine.Sign(i.key, gm.Preimage(domain, body))
}

func (i issuer) public() gm.PublicKey { return i.key.Public() }

func newIssuer(t testing.TB) issuer {
	t.Helper()
	key, err := gm.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{key, gm.Emmansun()}
}

var errBroken = errors.New("broken")

type brokenSigner struct{}

func (brokenSigner) Sign(string, []byte) (gm.Signature, error) { return gm.Signature{}, errBroken }

func subject() exchange.Subject {
	return exchange.Subject{Kind: exchange.Person, ID: "990102199403120029"}
}

func now() time.Time { return time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC) }

// draft's values are canaries: each is found in bytes that reveal it.
func draft() material.Draft {
	return material.Draft{Item: item, Schema: 1, Subject: subject(), Issuer: "minzheng", Cert: gm.Digest{7}, IssuedAt: now(),
		Fields: []material.FieldValue{{"marital_status", "canary-已婚"}, {"spouse_name", "canary-𬱖"}, {"spouse_id_no", "canary-id"},
			{"remarks", ""}, {"birth_date", "1994-03-12"}, {"months_paid", "36"}}}
}

func want(views ...exchange.View) material.Want {
	return material.Want{Item: item, Subject: subject(), Issuer: "minzheng", Cert: gm.Digest{7}, Views: views}
}

func value(f exchange.Field) exchange.View { return exchange.View{Field: f, Mode: exchange.Value} }

func predicate(f exchange.Field, p string) exchange.View {
	return exchange.View{Field: f, Mode: exchange.Predicate, Predicate: p}
}

func issue(t testing.TB, i issuer, d material.Draft) material.Material {
	t.Helper()
	m, err := material.Issue(i.engine, i, rand.Reader, d)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func present(t testing.TB, m material.Material, views ...exchange.View) material.Presentation {
	t.Helper()
	p, err := m.Present(views, now())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestIssueAndPresent(t *testing.T) {
	t.Parallel()
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		i := newIssuer(t)
		i.engine = e
		m := issue(t, i, draft())
		if err := m.Verify(e, i.public(), want()); err != nil {
			t.Fatal(err)
		}
		views := []exchange.View{value("spouse_name"), predicate("birth_date", "age>=18"), value("marital_status"),
			predicate("months_paid", "months_paid<=12"), value("birth_date"), value("remarks")}
		got, err := present(t, m, views...).Verify(e, i.public(), want(views...))
		if err != nil {
			t.Fatal(err)
		}
		id, err := m.ID()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(material.Verified{MaterialID: id, IssuedAt: now(), Fields: []exchange.Disclosed{
			{View: views[0], Value: "canary-𬱖"}, {View: views[1], Holds: true}, {View: views[2], Value: "canary-已婚"}, {View: views[3]},
			{View: views[4], Value: "1994-03-12"}, {View: views[5]}}}, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	m := issue(t, i, draft())
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := material.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fmt.Sprint(m.Body, m.Sig, m.SubjectSalt), fmt.Sprint(got.Body, got.Sig, got.SubjectSalt)); diff != "" {
		t.Error(diff)
	}
	if err := got.Verify(i.engine, i.public(), want()); err != nil {
		t.Error(err)
	}
	for n := range len(b) {
		if _, err := material.Decode(b[:n]); !errors.Is(err, material.ErrForm) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
	twice := m
	twice.Disclosures = append(slices.Clone(m.Disclosures), m.Disclosures[0])
	if b, err = twice.Encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := material.Decode(b); !errors.Is(err, material.ErrForm) {
		t.Errorf("a field twice: %v", err)
	}
}

func TestDraftIsChecked(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	for name, change := range map[string]func(*material.Draft){
		"no item":            func(d *material.Draft) { d.Item = "" },
		"no issuer":          func(d *material.Draft) { d.Issuer = "" },
		"no certificate":     func(d *material.Draft) { d.Cert = gm.Digest{} },
		"no subject":         func(d *material.Draft) { d.Subject = exchange.Subject{} },
		"no kind of subject": func(d *material.Draft) { d.Subject.Kind = "" },
		"no time":            func(d *material.Draft) { d.IssuedAt = time.Time{} },
		"no fields":          func(d *material.Draft) { d.Fields = nil },
		"a field twice":      func(d *material.Draft) { d.Fields = append(d.Fields, d.Fields[0]) },
		"a bad field name":   func(d *material.Draft) { d.Fields[0].Field = "No" },
		"not UTF-8":          func(d *material.Draft) { d.Fields[0].Value = "\xff" },
		"a long value":       func(d *material.Draft) { d.Fields[0].Value = strings.Repeat("x", material.MaxValue+1) },
		"many fields": func(d *material.Draft) {
			for n := range material.MaxFields {
				d.Fields = append(d.Fields, material.FieldValue{Field: exchange.Field(fmt.Sprintf("f%d", n))})
			}
		},
		"long together": func(d *material.Draft) {
			for n := range 20 {
				d.Fields = append(d.Fields, material.FieldValue{Field: exchange.Field(fmt.Sprintf("f%d", n)), Value: strings.Repeat("x", material.MaxValue)})
			}
		},
		"ends before it begins": func(d *material.Draft) { d.ValidFrom, d.ValidTo = now(), now() },
		"valid before 1970":     func(d *material.Draft) { d.ValidTo = time.Unix(0, 0) },
	} {
		d := draft()
		change(&d)
		_, err := material.Issue(i.engine, i, rand.Reader, d)
		if !errors.Is(err, material.ErrDraft) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), subject().ID)) {
			t.Errorf("%s: the error tells a value", name)
		}
	}
	if _, err := material.Issue(i.engine, brokenSigner{}, rand.Reader, draft()); !errors.Is(err, errBroken) {
		t.Errorf("a signer that fails: %v", err)
	}
	if _, err := material.Issue(i.engine, i, bytes.NewReader(make([]byte, 40)), draft()); err == nil {
		t.Error("issues without enough random bytes")
	}
	// The largest that passes the check can be stored and read again.
	d := draft()
	for n := range 15 {
		d.Fields = append(d.Fields, material.FieldValue{Field: exchange.Field(fmt.Sprintf("f%d", n)), Value: strings.Repeat("x", material.MaxValue)})
	}
	b, err := issue(t, i, d).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := material.Decode(b); err != nil {
		t.Errorf("a large material: %v", err)
	}
}

func TestPresentIsExact(t *testing.T) {
	t.Parallel()
	m := issue(t, newIssuer(t), draft())
	for name, c := range map[string]struct {
		views []exchange.View
		want  error
	}{
		"nothing":                {nil, material.ErrViews},
		"twice":                  {[]exchange.View{value("remarks"), value("remarks")}, material.ErrViews},
		"no field":               {[]exchange.View{value("address")}, material.ErrNoField},
		"never":                  {[]exchange.View{{Field: "remarks"}}, material.ErrMode},
		"exists":                 {[]exchange.View{{Field: "remarks", Mode: exchange.Exists}}, material.ErrMode},
		"compare":                {[]exchange.View{{Field: "remarks", Mode: exchange.Compare}}, material.ErrMode},
		"mask":                   {[]exchange.View{{Field: "remarks", Mode: exchange.Mask}}, material.ErrMode},
		"unknown mode":           {[]exchange.View{{Field: "remarks", Mode: 99}}, material.ErrMode},
		"predicate of none":      {[]exchange.View{{Field: "birth_date", Mode: exchange.Predicate}}, material.ErrViews},
		"value with a predicate": {[]exchange.View{{Field: "remarks", Mode: exchange.Value, Predicate: "age>=18"}}, material.ErrViews},
		"predicate of another":   {[]exchange.View{predicate("birth_date", "months_paid>=12")}, material.ErrPredicate},
		"predicate of nothing":   {[]exchange.View{predicate("remarks", "remarks>=1")}, material.ErrPredicate},
		"one good, one not":      {[]exchange.View{value("remarks"), value("address")}, material.ErrNoField},
	} {
		p, err := m.Present(c.views, now())
		if !errors.Is(err, c.want) || p.Disclosed != nil || p.Predicates != nil || p.Body != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidity(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	d := draft()
	d.ValidFrom, d.ValidTo = now(), now().AddDate(1, 0, 0)
	m := issue(t, i, d)
	for _, c := range []struct {
		at    time.Time
		valid bool
	}{{now().Add(-time.Second), false}, {now(), true}, {d.ValidTo.Add(-time.Second), true}, {d.ValidTo, false}, {time.Time{}, false}} {
		if _, err := m.Present([]exchange.View{value("remarks")}, c.at); (err == nil) != c.valid || err != nil && !errors.Is(err, material.ErrValidity) {
			t.Errorf("present at %s: %v", c.at, err)
		}
		w := want(value("remarks"))
		w.At = c.at
		got, err := present(t, m, value("remarks")).Verify(i.engine, i.public(), w)
		if c.at.IsZero() {
			if err != nil || !got.ValidFrom.Equal(d.ValidFrom) || !got.ValidTo.Equal(d.ValidTo) {
				t.Errorf("the caller is not told the validity: %v", err)
			}
		} else if (err == nil) != c.valid {
			t.Errorf("verify at %s: %v", c.at, err)
		}
	}
}

// TestVerifyRefuses: a holder, or somebody between, that changes what is shown.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	i, other := newIssuer(t), newIssuer(t)
	m := issue(t, i, draft())
	d := draft()
	d.Fields[0].Value = "canary-离异"
	stranger := issue(t, i, d) // the same person and fields, another value
	views := []exchange.View{value("marital_status"), value("spouse_name"), predicate("birth_date", "age>=18")}
	type presentation = material.Presentation
	for name, c := range map[string]struct {
		change func(*presentation)
		want   error
	}{
		"one view less": {func(p *presentation) { p.Disclosed = p.Disclosed[:1] }, material.ErrViews},
		"one view more": {func(p *presentation) { p.Disclosed = append(p.Disclosed, m.Disclosures[2]) }, material.ErrViews},
		"another view":  {func(p *presentation) { p.Disclosed[1] = m.Disclosures[2] }, material.ErrViews},
		"nothing":       {func(p *presentation) { p.Disclosed, p.Predicates = nil, nil }, material.ErrViews},
		"no predicate":  {func(p *presentation) { p.Predicates = nil }, material.ErrViews},
		"predicate twice": {func(p *presentation) {
			p.Disclosed, p.Predicates = p.Disclosed[:1], append(p.Predicates, p.Predicates[0])
		}, material.ErrViews},
		"another predicate": {func(p *presentation) { p.Predicates[0].Predicate = "age>=60" }, material.ErrViews},
		"predicate for a value": {func(p *presentation) {
			p.Disclosed, p.Predicates = p.Disclosed[:1], append(p.Predicates, material.PredicateResult{Field: "spouse_name"})
		}, material.ErrViews},
		"twice": {func(p *presentation) { p.Disclosed[1] = p.Disclosed[0] }, material.ErrForged},
		"swapped values": {func(p *presentation) {
			p.Disclosed[0].Value, p.Disclosed[1].Value = p.Disclosed[1].Value, p.Disclosed[0].Value
		}, material.ErrForged},
		"swapped salts": {func(p *presentation) {
			p.Disclosed[0].Salt, p.Disclosed[1].Salt = p.Disclosed[1].Salt, p.Disclosed[0].Salt
		}, material.ErrForged},
		"swapped names": {func(p *presentation) {
			p.Disclosed[0].Field, p.Disclosed[1].Field = p.Disclosed[1].Field, p.Disclosed[0].Field
		}, material.ErrForged},
		"field of another material": {func(p *presentation) { p.Disclosed[0] = stranger.Disclosures[0] }, material.ErrForged},
		"body of another material":  {func(p *presentation) { p.Body = stranger.Body }, material.ErrForged},
		"all but fields of another": {func(p *presentation) {
			p.Body, p.Sig, p.SubjectSalt = stranger.Body, stranger.Sig, stranger.SubjectSalt
		}, material.ErrForged},
		"another salt of the subject": {func(p *presentation) { p.SubjectSalt[0] ^= 1 }, material.ErrOther},
		"no signature":                {func(p *presentation) { p.Sig = gm.Signature{} }, material.ErrForged},
		"no body":                     {func(p *presentation) { p.Body = nil }, material.ErrForged},
	} {
		p := present(t, m, views...)
		c.change(&p)
		got, err := p.Verify(i.engine, i.public(), want(views...))
		if !errors.Is(err, c.want) || got.Fields != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error tells a value", name)
		}
	}
	for name, change := range map[string]func(*material.Want){
		"another person":       func(w *material.Want) { w.Subject.ID = "990102199208250018" },
		"an organisation":      func(w *material.Want) { w.Subject.Kind = exchange.Organisation },
		"nobody":               func(w *material.Want) { w.Subject = exchange.Subject{} },
		"another item":         func(w *material.Want) { w.Item = "civil/divorce-record" },
		"another issuer":       func(w *material.Want) { w.Issuer = "gongan" },
		"another certificate":  func(w *material.Want) { w.Cert = gm.Digest{8} },
		"no certificate":       func(w *material.Want) { w.Cert = gm.Digest{} },
		"nothing":              func(w *material.Want) { *w = material.Want{} },
		"no views":             func(w *material.Want) { w.Views = nil },
		"fewer views":          func(w *material.Want) { w.Views = w.Views[:2] },
		"a mode not supported": func(w *material.Want) { w.Views = []exchange.View{{Field: "spouse_name", Mode: exchange.Mask}} },
	} {
		w := want(slices.Clone(views)...)
		change(&w)
		if _, err := present(t, m, views...).Verify(i.engine, i.public(), w); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	for name, key := range map[string]gm.PublicKey{"another key": other.public(), "no key": {}} {
		if _, err := present(t, m, views...).Verify(i.engine, key, want(views...)); !errors.Is(err, material.ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (material.Presentation{}).Verify(i.engine, i.public(), want(views...)); !errors.Is(err, material.ErrForged) {
		t.Errorf("the zero presentation: %v", err)
	}
}

// TestEveryByteCounts flips each bit of an encoded presentation of values: it
// does not decode, does not verify, or says the very same.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	m := issue(t, i, draft())
	views := []exchange.View{value("marital_status"), value("spouse_name")}
	b := canon.MustMarshal(present(t, m, views...))
	verify := func(b []byte) (material.Verified, error) {
		var p material.Presentation
		if err := canon.Unmarshal(b, &p); err != nil {
			return material.Verified{}, err
		}
		return p.Verify(i.engine, i.public(), want(views...))
	}
	good, err := verify(b)
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for n := range b {
		for bit := range 8 {
			bad := bytes.Clone(b)
			bad[n] ^= 1 << bit
			got, err := verify(bad)
			if err != nil {
				continue
			}
			same++
			if diff := cmp.Diff(good, got); diff != "" {
				t.Fatalf("bit %d of byte %d: %s", bit, n, diff)
			}
		}
	}
	if same > 0 {
		t.Errorf("%d changed presentations verify, if to the same", same)
	}
}

// TestPredicateIsTheHolders: a changed predicate result is not noticed by the
// presentation. What notices it is the holder's signature over the response.
func TestPredicateIsTheHolders(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	view := predicate("birth_date", "age>=18")
	p := present(t, issue(t, i, draft()), view)
	holder := newIssuer(t)
	response := canon.MustMarshal(p)
	sig, err := holder.Sign("xinqiao/answer/v1", response)
	if err != nil {
		t.Fatal(err)
	}
	p.Predicates[0].Holds = false
	got, err := p.Verify(i.engine, i.public(), want(view))
	if err != nil || got.Fields[0].Holds {
		t.Errorf("documented otherwise: %v", err)
	}
	if holder.engine.Verify(holder.public(), gm.Preimage("xinqiao/answer/v1", canon.MustMarshal(p)), sig) {
		t.Error("the holder's signature covers nothing")
	}
}

// TestAnySubset: whatever is asked for verifies, and nothing else is in the
// bytes: neither a value nor a salt that would let one guess it.
func TestAnySubset(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	rapid.Check(t, func(t *rapid.T) {
		d := draft()
		d.Fields = nil
		n := rapid.IntRange(1, 12).Draw(t, "fields")
		for f := range n {
			d.Fields = append(d.Fields, material.FieldValue{Field: exchange.Field(fmt.Sprintf("field_%d", f)),
				Value: fmt.Sprintf("canary<%d>%s", f, rapid.StringN(0, 8, -1).Draw(t, "value"))})
		}
		m, err := material.Issue(i.engine, i, rand.Reader, d)
		if err != nil {
			t.Fatal(err)
		}
		shown := rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 1, n, rapid.ID[int]).Draw(t, "shown")
		var views []exchange.View
		for _, f := range shown {
			views = append(views, value(d.Fields[f].Field))
		}
		p, err := m.Present(views, now())
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Verify(i.engine, i.public(), want(views...))
		if err != nil || len(got.Fields) != len(views) {
			t.Fatalf("%d fields: %v", len(got.Fields), err)
		}
		b := canon.MustMarshal(p)
		for f, field := range d.Fields {
			at := slices.Index(shown, f)
			if revealed := bytes.Contains(b, []byte(fmt.Sprintf("canary<%d>", f))); revealed != (at >= 0) {
				t.Fatalf("field %d revealed: %v", f, revealed)
			}
			if at < 0 && (bytes.Contains(b, m.Disclosures[f].Salt[:]) || bytes.Contains(b, []byte(field.Field+"\x00"))) {
				t.Fatalf("field %d: its salt leaves", f)
			}
			if at >= 0 && got.Fields[at].Value != field.Value {
				t.Fatalf("field %d has another value", f)
			}
		}
	})
}

// disclosed has the shape of a disclosure, for guessing digests from outside.
type disclosed struct {
	Salt  gm.Digest      `cbor:"1,keyasint"`
	Field exchange.Field `cbor:"2,keyasint"`
	Value string         `cbor:"3,keyasint"`
}

// digests are what the signed body commits to.
func digests(t *testing.T, body []byte) []gm.Digest {
	t.Helper()
	b := struct {
		Suite    string        `cbor:"1,keyasint"`
		Item     exchange.Item `cbor:"2,keyasint"`
		Schema   uint32        `cbor:"3,keyasint"`
		ID       [16]byte      `cbor:"4,keyasint"`
		Issuer   exchange.Dept `cbor:"5,keyasint"`
		Cert     gm.Digest     `cbor:"6,keyasint"`
		Subject  gm.Digest     `cbor:"7,keyasint"`
		IssuedAt int64         `cbor:"8,keyasint"`
		Digests  []gm.Digest   `cbor:"11,keyasint"`
	}{}
	if err := canon.Unmarshal(body, &b); err != nil {
		t.Fatal(err)
	}
	return b.Digests
}

// TestNoDictionaryAttack: marital status has five values and all are tried,
// without a salt, with those salts that a presentation shows, and with the
// right one, which finds it.
func TestNoDictionaryAttack(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	m := issue(t, i, draft())
	p := present(t, m, value("spouse_name"))
	list := digests(t, p.Body)
	found := func(salts ...gm.Digest) (n int) {
		for _, salt := range salts {
			for _, v := range []string{"canary-未婚", "canary-已婚", "canary-离异", "canary-丧偶", ""} {
				d := gm.Commit(i.engine, "xinqiao/material-field/v1", nil, canon.MustMarshal(disclosed{salt, "marital_status", v}))
				if slices.Contains(list, d) {
					n++
				}
			}
		}
		return n
	}
	if n := found(gm.Digest{}, p.SubjectSalt, p.Disclosed[0].Salt); n != 0 {
		t.Errorf("%d guesses hit", n)
	}
	if n := found(m.Disclosures[0].Salt); n != 1 {
		t.Errorf("with the salt %d guesses hit: this test cannot fail", n)
	}
}

// TestMaterialsAreUnlike: two materials of one draft share neither digest, id,
// salt nor subject commitment, their digests' order tells nothing, and the number
// of digests varies.
func TestMaterialsAreUnlike(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	counts, seen := map[int]bool{}, map[gm.Digest]bool{}
	for range 64 {
		m := issue(t, i, draft())
		list := digests(t, m.Body)
		if n := len(list); n < len(draft().Fields) || n > len(draft().Fields)+material.MaxDecoys {
			t.Fatalf("%d digests", n)
		}
		counts[len(list)] = true
		for _, d := range append(list, m.SubjectSalt) {
			if seen[d] {
				t.Fatal("a digest or salt is used twice")
			}
			seen[d] = true
		}
		if !slices.IsSortedFunc(list, func(a, b gm.Digest) int { return bytes.Compare(a[:], b[:]) }) {
			t.Fatal("the digests are not in order")
		}
	}
	if len(counts) < 4 {
		t.Errorf("only %d different numbers of digests", len(counts))
	}
}

// TestBadBodies: bodies that an issuer signed, and that are still not accepted.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	m := issue(t, i, draft())
	base := func() map[int]any {
		return map[int]any{1: "SM-1", 2: item, 3: 1, 4: make([]byte, 16), 5: "minzheng", 6: bytes.Repeat([]byte{7}, 32),
			7: bytes.Repeat([]byte{1}, 32), 8: 1, 11: [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)}}
	}
	try := func(body map[int]any) error {
		m := m
		m.Body = canon.MustMarshal(body)
		_, err := m.Head()
		return err
	}
	if err := try(base()); err != nil {
		t.Fatalf("the base of this test: %v", err)
	}
	for name, change := range map[string]func(map[int]any){
		"another suite":  func(b map[int]any) { b[1] = "SM-2" },
		"no suite":       func(b map[int]any) { delete(b, 1) },
		"unknown member": func(b map[int]any) { b[12] = 1 },
		"no time":        func(b map[int]any) { b[8] = 0 },
		"negative bound": func(b map[int]any) { b[10] = -1 },
		"no digests":     func(b map[int]any) { b[11] = [][]byte{} },
		"not in order":   func(b map[int]any) { b[11] = [][]byte{bytes.Repeat([]byte{2}, 32), bytes.Repeat([]byte{1}, 32)} },
		"a digest twice": func(b map[int]any) { b[11] = [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{1}, 32)} },
		"a short digest": func(b map[int]any) { b[11] = [][]byte{bytes.Repeat([]byte{1}, 31)} },
	} {
		b := base()
		change(b)
		if err := try(b); !errors.Is(err, material.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingPrints(t *testing.T) {
	t.Parallel()
	m := issue(t, newIssuer(t), draft())
	p := present(t, m, value("marital_status"), predicate("birth_date", "age>=18"))
	for _, v := range []any{m, &m, p, &p, m.Disclosures, p.Disclosed, p.Predicates} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "canary") || strings.Contains(s, "true") {
				t.Errorf("%T prints with %s", v, verb)
			}
		}
	}
	if s := m.LogValue().String() + p.LogValue().String(); strings.Contains(s, "canary") {
		t.Error("a log would tell")
	}
}

func FuzzPresentation(f *testing.F) {
	i := newIssuer(f)
	m := issue(f, i, draft())
	views := []exchange.View{value("marital_status")}
	p := present(f, m, views...)
	f.Add(canon.MustMarshal(p))
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var q material.Presentation
		if canon.Unmarshal(b, &q) != nil {
			return
		}
		got, err := q.Verify(i.engine, i.public(), want(views...))
		if err == nil && (len(got.Fields) != 1 || got.Fields[0].Value != "canary-已婚") {
			t.Errorf("verifies to %d fields", len(got.Fields))
		}
	})
}

func FuzzDecode(f *testing.F) {
	b, err := issue(f, newIssuer(f), draft()).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := material.Decode(b)
		if err != nil {
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("decodes to something else: %v", err)
		}
	})
}
