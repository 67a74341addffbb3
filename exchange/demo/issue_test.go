package demo

import (
	"errors"
	"os"
	"testing"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/exchange/source"
)

func TestIssue(t *testing.T) {
	t.Parallel()
	p, now := population(t), time.Date(2026, time.November, 23, 9, 30, 0, 0, time.UTC)
	for _, e := range []gm.Engine{gm.Emmansun(), gm.Tjfoc()} {
		k, err := keyring.Generate(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range Departments() {
			dir := t.TempDir()
			v, err := source.OpenVault(dir, k, e)
			if err != nil {
				t.Fatal(err)
			}
			n, err := Issue(e, k, gm.Digest{7}, v, d.Dept, p, now)
			if err != nil {
				t.Fatal(err)
			}
			files, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if n != len(p.Records(d.Dept)) || n != len(files) {
				t.Errorf("%s: %d issued, %d stored, of %d", d.Dept, n, len(files), len(p.Records(d.Dept)))
			}
		}
	}
}

// TestIssuedVerify issues as Issue does and shows each field of each item.
func TestIssuedVerify(t *testing.T) {
	t.Parallel()
	e, p := gm.Emmansun(), population(t)
	k, err := keyring.Generate(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range Departments() {
		for _, c := range Catalogue(d.Dept) {
			r := of(p, d.Dept, c.Item)[0]
			m, err := certify(e, k, gm.Digest{7}, d.Dept, r, today())
			if err != nil {
				t.Fatal(err)
			}
			var views []exchange.View
			for _, f := range c.Fields {
				views = append(views, exchange.View{Field: f.Name, Mode: exchange.Value})
				for _, pred := range f.Predicates {
					views = append(views, exchange.View{Field: f.Name, Mode: exchange.Predicate, Predicate: pred})
				}
			}
			shown, err := m.Present(views, today())
			if err != nil {
				t.Fatalf("%s: %v", c.Item, err)
			}
			got, err := shown.Verify(e, k.SignPublic(), material.Want{Item: c.Item, Subject: r.Subject, Views: views, Issuer: d.Dept, Cert: gm.Digest{7}})
			if err != nil {
				t.Fatalf("%s: %v", c.Item, err)
			}
			for _, f := range got.Fields {
				if f.View.Mode == exchange.Value && f.Value != r.Value(f.View.Field) {
					t.Errorf("%s: %s changed on the way", c.Item, f.View.Field)
				}
			}
		}
	}
}

var errRefused = errors.New("refused")

type refuser struct{}

func (refuser) Sign(string, []byte) (gm.Signature, error) { return gm.Signature{}, errRefused }

func TestIssueFails(t *testing.T) {
	t.Parallel()
	e := gm.Emmansun()
	k, err := keyring.Generate(e)
	if err != nil {
		t.Fatal(err)
	}
	v, err := source.OpenVault(t.TempDir(), k, e)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Issue(e, refuser{}, gm.Digest{7}, v, Minzheng, population(t), today()); n != 0 || !errors.Is(err, errRefused) {
		t.Errorf("%d issued by nobody: %v", n, err)
	}
}

func BenchmarkIssue(b *testing.B) {
	e := gm.Emmansun()
	k, err := keyring.Generate(e)
	if err != nil {
		b.Fatal(err)
	}
	p, err := People()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		v, err := source.OpenVault(b.TempDir(), k, e)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Issue(e, k, gm.Digest{7}, v, Gongan, p, today()); err != nil {
			b.Fatal(err)
		}
	}
}
