package rule_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"xinqiao/exchange"
	"xinqiao/policy/rule"
)

// TestPublishedTextOutlivesCatalogues: the authority's baseline speaks of other
// departments' items. One that drops an item from its catalogue must not stop
// everybody's decisions, and a new text must still name only what there is.
func TestPublishedTextOutlivesCatalogues(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile(filepath.Join("..", "..", "exchange", "demo", "rules", rule.BaselineFile))
	if err != nil {
		t.Fatal(err)
	}
	words, whole := demoVocabulary(t)
	words.Items = slices.DeleteFunc(slices.Clone(words.Items), func(c exchange.CatalogueItem) bool { return c.Holder == "weijian" || c.Holder == "shuiwu" })
	if _, err := rule.ParseBaseline(rule.BaselineFile, src, words); err == nil {
		t.Error("a new baseline about items that nobody lists was accepted")
	}
	words.Published = true
	left, err := rule.ParseBaseline(rule.BaselineFile, src, words)
	if err != nil {
		t.Fatalf("the published baseline: %v", err)
	}
	if len(left.Forbid) != len(whole.Forbid) {
		t.Errorf("%d of %d prohibitions are left", len(left.Forbid), len(whole.Forbid))
	}
}
