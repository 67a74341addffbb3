package canon_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xinqiao/crypto/canon"
)

type inner struct {
	Name string `cbor:"1,keyasint"`
}

type object struct {
	Number uint64           `cbor:"1,keyasint"`
	Hash   [4]byte          `cbor:"2,keyasint"`
	List   []inner          `cbor:"3,keyasint"`
	Map    map[string]int64 `cbor:"4,keyasint"`
	Opt    []byte           `cbor:"5,keyasint,omitempty"`
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := object{
			Number: rapid.Uint64().Draw(t, "number"),
			Hash:   [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "hash")),
			Map:    rapid.MapOf(rapid.String(), rapid.Int64()).Draw(t, "map"),
			Opt:    rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "opt"),
		}
		for _, name := range rapid.SliceOfN(rapid.String(), 1, 5).Draw(t, "names") {
			v.List = append(v.List, inner{name})
		}
		b := canon.MustMarshal(v)
		var got object
		if err := canon.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(v, got); diff != "" {
			t.Fatal(diff)
		}
		if !bytes.Equal(canon.MustMarshal(got), b) {
			t.Fatal("two encodings of one value")
		}
	})
}

func TestOneEncoding(t *testing.T) {
	t.Parallel()
	b := canon.MustMarshal(object{Number: 1, Hash: [4]byte{1, 2, 3, 4}, List: []inner{}, Map: map[string]int64{"bb": 1, "a": 2}})
	if got := hex.EncodeToString(b); got != "a401010244010203040380"+"04a2616102626262"+"01" {
		t.Errorf("encoded as %s", got)
	}
}

func TestUnmarshalIsStrict(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"nothing":             "",
		"trailing byte":       "a1016161" + "00",
		"cut":                 "a10161",
		"unknown key":         "a2016161" + "0201",
		"duplicate key":       "a2016161" + "016162",
		"long form of length": "a101780161",
		"long form of key":    "a118016161",
		"indefinite map":      "bf016161ff",
		"indefinite string":   "a1017f6161ff",
		"tag":                 "c1a1016161",
		"bytes for text":      "a1014161",
		"invalid UTF-8":       "a10161ff",
		"key left out":        "a0",
		"null":                "f6",
		"text key":            "a1644e616d656161",
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		var v inner
		if err := canon.Unmarshal(b, &v); !errors.Is(err, canon.ErrMalformed) && !errors.Is(err, canon.ErrNotCanonical) {
			t.Errorf("%s: decoded to %+v, %v", name, v, err)
		}
	}
	var v inner
	if err := canon.Unmarshal([]byte{0xa1, 0x01, 0x61, 0x61}, &v); err != nil || v.Name != "a" {
		t.Errorf("the canonical form: %v", err)
	}
	if err := canon.Unmarshal([]byte{0xa0}, &v); !errors.Is(err, canon.ErrNotCanonical) {
		t.Errorf("a key left out: %v", err)
	}
}

func TestUnmarshalIsBounded(t *testing.T) {
	t.Parallel()
	var b []byte
	if err := canon.Unmarshal(make([]byte, canon.MaxSize+1), &b); !errors.Is(err, canon.ErrMalformed) {
		t.Error("decodes over the limit")
	}
	deep := append(bytes.Repeat([]byte{0x81}, 100), 0x01)
	var v any
	if err := canon.Unmarshal(deep, &v); err == nil {
		t.Error("decodes a hundred nested arrays")
	}
	// An array that claims 2^32 elements in five bytes.
	var list []inner
	if err := canon.Unmarshal([]byte{0x9a, 0xff, 0xff, 0xff, 0xff}, &list); err == nil {
		t.Error("decodes a list that is not there")
	}
}

func TestMustMarshalPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("encodes a channel")
		}
	}()
	canon.MustMarshal(make(chan int))
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(canon.MustMarshal(object{List: []inner{{"x"}}, Map: map[string]int64{"a": 1}}))
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var v object
		var whatever any
		for _, into := range []any{&v, &whatever} {
			switch err := canon.Unmarshal(b, into); {
			case err == nil:
				if !bytes.Equal(canon.MustMarshal(into), b) {
					t.Errorf("%x is a second encoding of a %T", b, into)
				}
			case !errors.Is(err, canon.ErrMalformed) && !errors.Is(err, canon.ErrNotCanonical):
				t.Errorf("%x: %v", b, err)
			}
		}
	})
}

func BenchmarkCanon(b *testing.B) {
	v := object{Number: 7, List: []inner{{"a"}, {"b"}}, Map: map[string]int64{"a": 1}}
	encoded := canon.MustMarshal(v)
	b.Run("marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			canon.MustMarshal(v)
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var got object
			if err := canon.Unmarshal(encoded, &got); err != nil {
				b.Fatal(err)
			}
		}
	})
}
