package rule_test

import (
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"

	"xinqiao/policy/rule"
)

// TestFormat pins the encoding of a bundle: file names in bytewise order of their
// encodings, so the shorter ones first.
func TestFormat(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"aa.yaml": []byte("1"), "b.yaml": []byte("2")}
	const want = "a266622e79616d6c41326761612e79616d6c4131"
	got, err := rule.EncodeBundle(files)
	if err != nil || hex.EncodeToString(got) != want {
		t.Errorf("encoded as %x, %v, and was %s", got, err, want)
	}
	old, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
	for i := range old {
		back, err := rule.DecodeBundle(old)
		if err != nil || !cmp.Equal(back, files) {
			t.Fatalf("read as %q, %v", back, err)
		}
		old[i] ^= 1
		if back, err := rule.DecodeBundle(old); err == nil && cmp.Equal(back, files) {
			t.Errorf("byte %d does not count", i)
		}
		old[i] ^= 1
	}
}
