package api_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
	"xinqiao/exchange/api"
)

// FuzzDecode: whatever Decode accepts has one meaning. Written out and read
// again it is the same, and every refusal is a classified error.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{question, consent, `{}`, `{"holder":"a","holder":"b"}`, `{"fields":[{"field":"\ud83d\ude00"}]}`, `[[[[`, "\xff", `{"subject":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var q, again api.Question
		if err := api.Decode(raw, &q); err != nil {
			if k := exchange.KindOf(err); k != exchange.Invalid {
				t.Fatalf("refused as %v", k)
			}
			return
		}
		strict := json.NewDecoder(bytes.NewReader(raw))
		strict.DisallowUnknownFields()
		var oracle api.Question
		if err := strict.Decode(&oracle); err != nil || !cmp.Equal(q, oracle) {
			t.Fatalf("the standard decoder sees something else: %v", err)
		}
		if q.Fields == nil {
			return // would be written as null
		}
		for _, v := range q.Fields {
			if v.Mode == exchange.Never {
				return // does not survive omission, and Check refuses it
			}
		}
		out, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		if err := api.Decode(out, &again); err != nil {
			t.Fatalf("its own output is refused: %v", err)
		}
		if !cmp.Equal(q, again) {
			t.Fatal("reading twice gives two meanings")
		}
	})
}
