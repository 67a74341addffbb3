package source_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/exchange/source"
	"xinqiao/policy"
)

const (
	marriage  exchange.Item = "civil/marriage-record"
	household exchange.Item = "population/household-record"
)

func now() time.Time { return time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC) }

func person(id string) exchange.Subject {
	return exchange.Subject{Kind: exchange.Person, ID: id}
}

func wife() exchange.Subject { return person("990102199403120029") }

func husband() exchange.Subject { return person("990102199208250018") }

func newKeys(t testing.TB) *keyring.Keyring {
	t.Helper()
	k, err := keyring.Generate(gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func issue(t testing.TB, k *keyring.Keyring, s exchange.Subject, item exchange.Item, value string) material.Material {
	t.Helper()
	m, err := material.Issue(gm.Emmansun(), k, rand.Reader, material.Draft{Item: item, Schema: 1, Subject: s, Issuer: "minzheng",
		Cert: gm.Digest{7}, IssuedAt: now(), Fields: []material.FieldValue{{Field: "marital_status", Value: value}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// permit is what a decision about facts that are all fine gives.
func permit(t testing.TB, holder exchange.Dept, item exchange.Item) policy.Permit {
	t.Helper()
	const purpose, matter, role = exchange.Purpose("housing-eligibility"), exchange.Matter("000725001000"), exchange.Role("case_handler")
	views := []exchange.View{{Field: "marital_status", Mode: exchange.Value}}
	later := now().AddDate(1, 0, 0)
	d := policy.Decide(policy.Facts{At: now(), Holder: holder, Requester: "zhujian", HolderActive: true, RequesterActive: true, Item: item,
		Views: views, Purpose: purpose, Matter: matter, Role: role, CaseOpen: true, ItemKnown: true, MaterialsCurrent: true,
		Baseline: &policy.Baseline{Purposes: []policy.Term{{Code: string(purpose)}}, Matters: []policy.Term{{Code: string(matter)}},
			Roles: []policy.Term{{Code: string(role)}}, Bases: []policy.BasisKind{policy.Consent}},
		Rules: []policy.Rule{{ID: "r", Item: item, Provider: holder, Purposes: []exchange.Purpose{purpose}, Basis: []policy.BasisKind{policy.Consent},
			To:     []policy.Recipient{{Dept: "zhujian", Matters: []exchange.Matter{matter}, Roles: []exchange.Role{role}}},
			Fields: map[exchange.Field][]exchange.View{"marital_status": views}, NotAfter: later}},
		Restrictions: &policy.Restrictions{Dept: "zhujian"},
		Grant: policy.Grant{Present: true, Active: true, NotAfter: later, Items: []policy.GrantItem{{Item: item, Views: views,
			Purposes: []exchange.Purpose{purpose}}}},
		Authority: policy.Authority{Present: true, State: policy.StateActive, Basis: policy.Consent, Provider: holder, Grantee: "zhujian",
			SubjectMatches: true, CaseMatches: true, Matter: matter, Purposes: []exchange.Purpose{purpose},
			Views: []exchange.ItemView{{Item: item, View: views[0]}}, NotAfter: later, MaxReads: 1, ReadsLeft: 1}})
	p, ok := d.Permit()
	if !ok {
		t.Fatalf("the facts of this test are not fine: %v", d.Reasons)
	}
	return p
}

// fetcher is what every source is.
type fetcher interface {
	Fetch(ctx context.Context, p policy.Permit, s exchange.Subject) (material.Material, error)
}

// contract is what every source keeps. put stores a record by the source's own
// way.
func contract(t *testing.T, k *keyring.Keyring, f fetcher, put func(s exchange.Subject, m material.Material)) {
	t.Helper()
	ctx := t.Context()
	open := permit(t, "minzheng", marriage)
	status := func(s exchange.Subject) string {
		t.Helper()
		m, err := f.Fetch(ctx, open, s)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Verify(gm.Emmansun(), k.SignPublic(), material.Want{Item: marriage, Subject: s, Issuer: "minzheng", Cert: gm.Digest{7}}); err != nil {
			t.Fatal(err)
		}
		return m.Disclosures[0].Value
	}
	if _, err := f.Fetch(ctx, open, wife()); !errors.Is(err, source.ErrNoRecord) || exchange.KindOf(err) != exchange.NotFound {
		t.Errorf("an empty source: %v", err)
	}
	put(wife(), issue(t, k, wife(), marriage, "已婚"))
	put(wife(), issue(t, k, wife(), household, "other"))
	put(husband(), issue(t, k, husband(), marriage, "husband's"))
	if got := status(wife()); got != "已婚" {
		t.Errorf("fetched %s", got)
	}
	put(wife(), issue(t, k, wife(), marriage, "离异"))
	if got := status(wife()); got != "离异" {
		t.Errorf("fetched %s after it was replaced", got)
	}
	if got := status(husband()); got != "husband's" {
		t.Errorf("fetched %s", got)
	}
	for name, c := range map[string]struct {
		permit  policy.Permit
		subject exchange.Subject
		want    error
	}{
		"no permit":               {policy.Permit{}, wife(), source.ErrPermit},
		"no permit and no record": {policy.Permit{}, person("990102199001010010"), source.ErrPermit},
		"another's permit":        {permit(t, "gongan", marriage), wife(), source.ErrPermit},
		"another item":            {permit(t, "minzheng", "civil/divorce-record"), wife(), source.ErrNoRecord},
		"another person":          {open, person("990102199001010010"), source.ErrNoRecord},
		"an organisation":         {open, exchange.Subject{Kind: exchange.Organisation, ID: wife().ID}, source.ErrNoRecord},
		"nobody":                  {open, exchange.Subject{}, source.ErrNoRecord},
		"a path":                  {open, person("../../etc/passwd"), source.ErrNoRecord},
	} {
		m, err := f.Fetch(ctx, c.permit, c.subject)
		if !errors.Is(err, c.want) || m.Body != nil || m.Disclosures != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.Fetch(cancelled, open, wife()); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled fetch: %v", err)
	}
}

func newVault(t testing.TB, dir string, k *keyring.Keyring) *source.Vault {
	t.Helper()
	v, err := source.OpenVault(dir, k, gm.Emmansun())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVaultContract(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	v := newVault(t, t.TempDir(), k)
	contract(t, k, v, func(s exchange.Subject, m material.Material) {
		if err := v.Put(s, m); err != nil {
			t.Fatal(err)
		}
	})
}

func TestVaultContractInBulk(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	v := newVault(t, filepath.Join(t.TempDir(), "made", "here"), k)
	contract(t, k, v, func(s exchange.Subject, m material.Material) {
		if err := v.PutAll([]source.Record{{Subject: s, Material: m}}, 2); err != nil {
			t.Fatal(err)
		}
	})
}

func TestVaultReopens(t *testing.T) {
	t.Parallel()
	k, dir := newKeys(t), t.TempDir()
	if err := newVault(t, dir, k).Put(wife(), issue(t, k, wife(), marriage, "已婚")); err != nil {
		t.Fatal(err)
	}
	if _, err := newVault(t, dir, k).Fetch(t.Context(), permit(t, "minzheng", marriage), wife()); err != nil {
		t.Errorf("after reopening: %v", err)
	}
	// Another keyring does not even find the name.
	if _, err := newVault(t, dir, newKeys(t)).Fetch(t.Context(), permit(t, "minzheng", marriage), wife()); !errors.Is(err, source.ErrNoRecord) {
		t.Errorf("with another keyring: %v", err)
	}
}

func TestPutRefuses(t *testing.T) {
	t.Parallel()
	k, dir := newKeys(t), t.TempDir()
	v := newVault(t, dir, k)
	m := issue(t, k, wife(), marriage, "已婚")
	if err := v.Put(husband(), m); !errors.Is(err, source.ErrMismatch) {
		t.Errorf("under another's name: %v", err)
	}
	if err := v.Put(wife(), material.Material{}); !errors.Is(err, material.ErrForm) {
		t.Errorf("nothing: %v", err)
	}
	if err := v.PutAll([]source.Record{{Subject: wife(), Material: m}, {Subject: husband(), Material: m}}, 2); !errors.Is(err, source.ErrMismatch) {
		t.Errorf("in bulk under another's name: %v", err)
	}
	if err := v.PutAll([]source.Record{{Subject: wife(), Material: m}}, 0); err == nil {
		t.Error("nobody works and it is done")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := v.Put(wife(), m); err == nil {
		t.Error("put into no directory")
	}
}

// files returns the vault's files by name.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestDiskTellsNothing: neither names nor contents hold what is known of a
// person, names do not repeat between items or vaults, and nobody else may read.
func TestDiskTellsNothing(t *testing.T) {
	t.Parallel()
	k, dir := newKeys(t), t.TempDir()
	v := newVault(t, dir, k)
	for _, item := range []exchange.Item{marriage, household} {
		if err := v.Put(wife(), issue(t, k, wife(), item, "canary-已婚")); err != nil {
			t.Fatal(err)
		}
	}
	all := files(t, dir)
	if len(all) != 2 {
		t.Errorf("%d files for two records", len(all))
	}
	unkeyed := gm.Emmansun().Sum([]byte(wife().ID))
	for name, content := range all {
		for _, canary := range []string{"canary", wife().ID, "19940312", "marriage", "marital_status", "minzheng", hex.EncodeToString(unkeyed[:])} {
			if strings.Contains(name, canary) || bytes.Contains(content, []byte(canary)) {
				t.Errorf("%s is on disk", canary)
			}
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("file mode %o", info.Mode().Perm())
		}
	}
	other := t.TempDir()
	k2 := newKeys(t)
	if err := newVault(t, other, k2).Put(wife(), issue(t, k2, wife(), marriage, "x")); err != nil {
		t.Fatal(err)
	}
	for name := range files(t, other) {
		if _, same := all[name]; same {
			t.Error("two vaults give one record one name")
		}
	}
}

// TestDiskIsNotTrusted: what somebody with access to the directory changes is
// noticed: a swap of two people's or items' files, and every single byte.
func TestDiskIsNotTrusted(t *testing.T) {
	t.Parallel()
	k, dir := newKeys(t), t.TempDir()
	v := newVault(t, dir, k)
	open := permit(t, "minzheng", marriage)
	nameOf := func(s exchange.Subject, item exchange.Item) string {
		t.Helper()
		before := files(t, dir)
		if err := v.Put(s, issue(t, k, s, item, "x")); err != nil {
			t.Fatal(err)
		}
		for name := range files(t, dir) {
			if _, old := before[name]; !old {
				return filepath.Join(dir, name)
			}
		}
		t.Fatal("no new file")
		return ""
	}
	hers, his, home := nameOf(wife(), marriage), nameOf(husband(), marriage), nameOf(wife(), household)
	good, err := os.ReadFile(hers)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, content []byte) {
		t.Helper()
		if err := os.WriteFile(hers, content, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := v.Fetch(t.Context(), open, wife())
		if !errors.Is(err, source.ErrDamaged) || m.Body != nil || exchange.KindOf(err) == exchange.NotFound {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, name := range map[string]string{"another person's file": his, "another item's file": home} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		refused(what, b)
	}
	for n := range good {
		bad := bytes.Clone(good)
		bad[n] ^= 1
		refused(fmt.Sprintf("byte %d changed", n), bad)
	}
	refused("empty", nil)
	refused("cut", good[:len(good)-1])
	refused("longer", append(bytes.Clone(good), 0))
	refused("far longer", make([]byte, 5<<20))
	if err := os.WriteFile(hers, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Fetch(t.Context(), open, wife()); err != nil {
		t.Errorf("the good file again: %v", err)
	}
	// A directory in its place is a failure, not "no record".
	if err := errors.Join(os.Remove(hers), os.Mkdir(hers, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Fetch(t.Context(), open, wife()); err == nil || exchange.KindOf(err) == exchange.NotFound {
		t.Errorf("an unreadable record: %v", err)
	}
}

// insider seals like the vault's own keyring and lies about whose record it is.
type insider struct {
	*keyring.Keyring
	sealed []byte
}

func (i insider) OpenLocal(string, []byte, []byte) ([]byte, error) { return i.sealed, nil }

// TestSealIsNotTheOnlyCheck: even a record that opens must be about the subject
// and item that were asked for.
func TestSealIsNotTheOnlyCheck(t *testing.T) {
	t.Parallel()
	k, dir := newKeys(t), t.TempDir()
	if err := newVault(t, dir, k).Put(wife(), issue(t, k, wife(), marriage, "x")); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]material.Material{"another's": issue(t, k, husband(), marriage, "x"), "of another item": issue(t, k, wife(), household, "x")} {
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		v, err := source.OpenVault(dir, insider{k, b}, gm.Emmansun())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Fetch(t.Context(), permit(t, "minzheng", marriage), wife()); !errors.Is(err, source.ErrMismatch) {
			t.Errorf("a record %s: %v", name, err)
		}
	}
}

// TestReadersSeeWholeRecords while the record is replaced.
func TestReadersSeeWholeRecords(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	dir := t.TempDir()
	v := newVault(t, dir, k)
	open := permit(t, "minzheng", marriage)
	versions := []material.Material{issue(t, k, wife(), marriage, "one"), issue(t, k, wife(), marriage, strings.Repeat("two", 5000))}
	if err := v.Put(wife(), versions[0]); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for n := range 20 {
				if err := v.Put(wife(), versions[(n+w)%2]); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 50 {
				if _, err := v.Fetch(t.Context(), open, wife()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var names []string
	for name := range files(t, dir) {
		names = append(names, filepath.Ext(name))
	}
	if diff := cmp.Diff([]string{".rec"}, names); diff != "" {
		t.Errorf("left behind: %s", diff)
	}
}

// TestErrorsNameNobody: no error quotes the subject's identifier.
func TestErrorsNameNobody(t *testing.T) {
	t.Parallel()
	k, dir := newKeys(t), t.TempDir()
	v := newVault(t, dir, k)
	if err := v.Put(wife(), issue(t, k, wife(), marriage, "canary")); err != nil {
		t.Fatal(err)
	}
	for name := range files(t, dir) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, damaged := v.Fetch(t.Context(), permit(t, "minzheng", marriage), wife())
	_, missing := v.Fetch(t.Context(), permit(t, "minzheng", marriage), husband())
	mismatch := v.Put(husband(), issue(t, k, wife(), marriage, "canary"))
	for _, err := range []error{damaged, missing, mismatch} {
		if err == nil || strings.Contains(err.Error(), wife().ID) || strings.Contains(err.Error(), husband().ID) || strings.Contains(err.Error(), "canary") {
			t.Errorf("error: %v", err)
		}
	}
}
