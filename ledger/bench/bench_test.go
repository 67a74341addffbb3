package bench

import (
	"math"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"xinqiao/exchange"
)

// TestRun holds that a short run measures everything; how fast is no matter of
// a test.
func TestRun(t *testing.T) {
	r, err := Run(t.Context(), Options{Dir: t.TempDir(), For: 3 * time.Second, Appenders: 16, Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	if r.Faults != nil {
		t.Error("a short run takes no leader away")
	}
	positive(t, "Report", reflect.ValueOf(r))
	if r.Limit != "raft" && r.Limit != "crypto" {
		t.Errorf("the limit is %q", r.Limit)
	}
	if r.EntryBytes != EntrySize || r.Appenders != 16 || len(r.Rounds) != rounds {
		t.Errorf("report of another run: %+v", r)
	}
	// Every node verifies every frame, and a quorum every checkpoint.
	if r.Checked.Verifications < 3*r.Checked.Frames || r.Checked.Cosignatures < 2 {
		t.Errorf("checks are missing: %+v", r.Checked)
	}
}

// positive holds that every number within v is finite and above zero.
func positive(t *testing.T, name string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			positive(t, name+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			positive(t, name, v.Index(i))
		}
	case reflect.Float64:
		if f := v.Float(); !(f > 0) || math.IsInf(f, 0) {
			t.Errorf("%s is %v", name, f)
		}
	case reflect.Int:
		if v.Int() <= 0 {
			t.Errorf("%s is %d", name, v.Int())
		}
	case reflect.Uint64:
		if v.Uint() == 0 {
			t.Errorf("%s is 0", name)
		}
	}
}

// TestEntrySize holds that entries are as long as the report says.
func TestEntrySize(t *testing.T) {
	c, err := openCluster(t.Context(), filepath.Join(t.TempDir(), "ledger-"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range depts() {
		e, err := newEntry(c.node(d).access)
		if err != nil {
			t.Fatal(err)
		}
		b, err := e.Encode()
		if err != nil || len(b) != EntrySize {
			t.Errorf("%s: entry of %d bytes, %v", d, len(b), err)
		}
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}

// TestFaults takes the leader away once in each way: writing goes on, and it
// comes back.
func TestFaults(t *testing.T) {
	c, err := openCluster(t.Context(), filepath.Join(t.TempDir(), "ledger-"))
	if err != nil {
		t.Fatal(err)
	}
	for name, stop := range map[string]func(exchange.Dept) error{
		"planned": func(d exchange.Dept) error { return c.stop(t.Context(), d) }, "crash": c.abandon} {
		gap, err := c.without(t.Context(), stop)
		if err != nil || gap <= 0 {
			t.Errorf("%s: gap %v, %v", name, gap, err)
		}
		t.Logf("%s: %v", name, gap)
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}
