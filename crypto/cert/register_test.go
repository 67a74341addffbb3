package cert_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/cert"
)

// book writes a register's file.
func book(t testing.TB, records ...cert.Record) []byte {
	t.Helper()
	var file []byte
	for _, r := range records {
		line, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		file = append(file, line...)
	}
	return file
}

func TestRegister(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	r := request(t, "minzheng", cert.Signing)
	r.Hosts = []string{"node.example", "10.0.0.1"}
	record := func(chain []byte) cert.Record {
		record, err := cert.RecordOf(chain, epoch)
		if err != nil {
			t.Fatal(err)
		}
		return record
	}
	sign := record(issue(t, h.issuing, r))
	enc := record(issue(t, h.issuing, request(t, "minzheng", cert.Encryption)))
	long := request(t, "minzheng", cert.Signing)
	long.Lifetime = 2 * year
	renewed := record(issue(t, h.issuing, long))
	below := record(h.issuing.Issuing())
	if below.Kind != cert.KindIssuingCA || sign.Kind != cert.KindDepartment || sign.Name != "minzheng" || !slices.Equal(sign.Hosts, r.Hosts) {
		t.Errorf("records %+v, %+v", below, sign)
	}
	revoked := cert.Record{Event: cert.Revoke, At: epoch.Add(time.Hour), Serial: sign.Serial, Reason: cert.KeyCompromise}
	out := cert.Record{Event: cert.ListOut, At: epoch.Add(time.Hour), Number: 4}
	file := book(t, below, sign, enc, renewed, revoked, out)
	reg, torn, err := cert.ReadRegister(file)
	if err != nil || torn != nil {
		t.Fatalf("%q, %v", torn, err)
	}
	var serials []string
	for _, e := range reg.Entries() {
		serials = append(serials, e.Serial+" "+e.Status(epoch.Add(2*time.Hour), time.Hour))
	}
	want := []string{below.Serial + " valid", sign.Serial + " revoked", enc.Serial + " valid", renewed.Serial + " valid"}
	if diff := cmp.Diff(want, serials); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	current := reg.Current("minzheng", epoch)
	if len(current) != 2 || current[0].Serial != renewed.Serial || len(reg.Current("minzheng", epoch.Add(3*year))) != 0 || len(reg.Current("gongan", epoch)) != 0 {
		t.Errorf("current %+v", current)
	}
	if e, ok := reg.Holder(r.Key); !ok || e.Serial != sign.Serial {
		t.Errorf("holder %+v", e)
	}
	if _, ok := reg.Holder(newKey(t).Public()); ok {
		t.Error("a key that nobody has is somebody's")
	}
	if !reg.Compromised(r.Key) || reg.Compromised(long.Key) || reg.Compromised(newKey(t).Public()) {
		t.Error("the key that was revoked as compromised is not, or another is")
	}
	list, number := reg.Revocations()
	if number != 5 || !slices.Equal(list, []cert.Revoked{{Serial: sign.Serial, At: revoked.At, Reason: cert.KeyCompromise}}) {
		t.Errorf("list %d: %v", number, list)
	}

	// Cut anywhere, a register is what its whole lines say, and the rest is told.
	for n := range file {
		reg, torn, err := cert.ReadRegister(file[:n])
		if err != nil {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		if whole := bytes.Count(file[:n], []byte("\n")); len(torn) > 0 && (bytes.Contains(torn, []byte("\n")) || len(reg.Entries()) != min(whole, 4)) {
			t.Fatalf("cut to %d bytes: %d entries, torn %q", n, len(reg.Entries()), torn)
		}
	}
	// Power that fails may leave zeros where a line was to be.
	if _, torn, err := cert.ReadRegister(append(bytes.Clone(file), make([]byte, 300)...)); err != nil || len(torn) != 300 {
		t.Errorf("zeros behind the last line: %d torn, %v", len(torn), err)
	}
	line := func(r cert.Record) string { return string(book(t, r)) }
	good := line(sign)
	for name, bad := range map[string]string{
		"issued twice":          good + good,
		"revoked twice":         good + line(revoked) + line(revoked),
		"revoked, not issued":   line(revoked),
		"number goes back":      line(out) + line(out),
		"empty line":            "\n" + good,
		"damage in the middle":  good[:40] + "\n" + line(enc),
		"unknown field":         strings.Replace(good, `{"event"`, `{"x":1,"event"`, 1),
		"two records in a line": strings.TrimSpace(good) + line(enc),
		"unknown event":         strings.Replace(good, `"issued"`, `"forgotten"`, 1),
		"another's field":       strings.Replace(good, `{"event"`, `{"number":3,"event"`, 1),
		"no serial":             strings.Replace(good, sign.Serial, "", 1),
		"serial in upper case":  strings.Replace(good, sign.Serial, strings.ToUpper(sign.Serial)+"A", 1),
		"no department":         strings.Replace(good, `"minzheng"`, `"Min"`, 1),
		"other usage":           strings.Replace(good, `"usage":"signing"`, `"usage":"both"`, 1),
		"overlong":              `{"event":"list","at":"2026-01-01T00:00:00Z","number":` + strings.Repeat(" ", 20000) + "1}\n",
		"number zero":           `{"event":"list","at":"2026-01-01T00:00:00Z","number":0}` + "\n",
		"number without a next": `{"event":"list","at":"2026-01-01T00:00:00Z","number":9223372036854775807}` + "\n",
		"no time":               `{"event":"list","number":1}` + "\n",
		"hold":                  strings.Replace(good+line(revoked), string(cert.KeyCompromise), "certificateHold", 1),
	} {
		if _, _, err := cert.ReadRegister([]byte(bad)); !errors.Is(err, cert.ErrRegister) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (cert.Record{Event: cert.Issued, At: epoch}).Encode(); !errors.Is(err, cert.ErrRegister) {
		t.Errorf("an empty record is written: %v", err)
	}
	if _, err := cert.RecordOf([]byte{0x30, 0}, epoch); !errors.Is(err, cert.ErrProfile) {
		t.Errorf("a record of no certificate: %v", err)
	}
}
