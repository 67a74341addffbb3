package peer

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

// TestFormat pins what nodes send each other beside what others have signed.
func TestFormat(t *testing.T) {
	t.Parallel()
	pin(t, "failure", failure{Kind: exchange.Integrity, Code: exchange.CodeLedgerBroken, Msg: "a message", Hint: "a hint", Pointer: "/holder",
		Reasons: []exchange.Reason{{Code: exchange.DenyCase, Article: "7", Detail: "a detail"}}})
	pin(t, "head", head{Size: 4711, Root: gm.Digest{1, 31: 2}})
	pin(t, "cosigned", cosigned{Name: "minzheng", Time: 1795426200, Sig: gm.Signature{1, 63: 2}, KeyHash: [4]byte{1, 2, 3, 4}})
	pin(t, "published", published{Note: []byte("a note")})
	pin(t, "status", Status{Dept: "minzheng", Version: "1", Origin: "city.gov.example/ledger", Size: 3, Verified: 2, Cosigned: 1,
		Leader: "gongan", Time: 1795426200123, Halted: true})
}

// TestFormatRoutes pins paths and limits, and the numbers of kinds.
func TestFormatRoutes(t *testing.T) {
	t.Parallel()
	want := map[string][3]int64{"/peer/v1/ask": {1048576, 4194304, 30}, "/peer/v1/frame": {524288, 4096, 5}, "/peer/v1/cosign": {4096, 4096, 3},
		"/peer/v1/checkpoint": {262144, 4096, 5}, "/peer/v1/status": {4096, 4096, 3}}
	for _, path := range []string{pathAsk, pathFrame, pathCosign, pathCheckpoint, pathStatus} {
		l, ok := limitsOf(path)
		if got := [3]int64{l.in, l.out, int64(l.within.Seconds())}; !ok || got != want[path] {
			t.Errorf("%s: %v, want %v", path, got, want[path])
		}
		delete(want, path)
	}
	if len(want) > 0 {
		t.Errorf("no such routes: %v", want)
	}
	kinds := []exchange.Kind{exchange.Internal, exchange.Invalid, exchange.Unauthenticated, exchange.Denied, exchange.NotFound, exchange.Conflict,
		exchange.TooLarge, exchange.Unsupported, exchange.Forged, exchange.Expired, exchange.Unavailable, exchange.Undetermined, exchange.Integrity}
	for i, k := range kinds {
		if int(k) != i {
			t.Errorf("kind %s is %d and was %d", k, k, i)
		}
	}
}
