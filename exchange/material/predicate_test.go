package material_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"xinqiao/exchange"
	"xinqiao/exchange/material"
)

func TestEvalPredicate(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		predicate string
		field     exchange.Field
		value     string
		asOf      string
		want      bool
	}{
		{"age>=18", "birth_date", "2008-11-23", "2026-11-23T09:00:00+08:00", true},
		{"age>=18", "birth_date", "2008-11-24", "2026-11-23T09:00:00+08:00", false},
		{"age>=18", "birth_date", "2008-12-01", "2026-11-23T09:00:00+08:00", false},
		// The day begins in China, eight hours before UTC's.
		{"age>=18", "birth_date", "2008-11-24", "2026-11-23T16:00:00Z", true},
		{"age>=18", "birth_date", "2008-11-24", "2026-11-23T15:59:59Z", false},
		{"age>=18", "birth_date", "2008-02-29", "2026-02-28T12:00:00+08:00", false},
		{"age>=18", "birth_date", "2008-02-29", "2026-03-01T00:00:00+08:00", true},
		{"age>=60", "birth_date", "1966-11-23", "2026-11-23T09:00:00+08:00", true},
		{"age<=17", "birth_date", "2008-11-24", "2026-11-23T09:00:00+08:00", true},
		{"age<=0", "birth_date", "2026-11-23", "2026-11-23T09:00:00+08:00", true},
		{"months_paid>=12", "months_paid", "12", "2026-11-23T09:00:00Z", true},
		{"months_paid>=12", "months_paid", "11", "2026-11-23T09:00:00Z", false},
		{"taxable_income<=60000", "taxable_income", "60000.00", "2026-11-23T09:00:00Z", true},
		{"taxable_income<=60000", "taxable_income", "60000.01", "2026-11-23T09:00:00Z", false},
		{"taxable_income<=60000", "taxable_income", "-1", "2026-11-23T09:00:00Z", true},
		{"taxable_income>=-5", "taxable_income", "0", "2026-11-23T09:00:00Z", true},
	} {
		got, err := material.EvalPredicate(c.predicate, c.field, c.value, at(c.asOf))
		if err != nil || got != c.want {
			t.Errorf("%s of %q at %s: %v, %v", c.predicate, c.value, c.asOf, got, err)
		}
	}
}

// TestUndecidedIsNotFalse: no malformed predicate or value gives an answer, and
// the error does not quote the value.
func TestUndecidedIsNotFalse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		predicate string
		field     exchange.Field
		value     string
	}{
		{"", "months_paid", "12"},
		{"months_paid", "months_paid", "12"},
		{"months_paid>12", "months_paid", "12"},
		{"months_paid==12", "months_paid", "12"},
		{"months_paid>=", "months_paid", "12"},
		{"months_paid>=1.5", "months_paid", "12"},
		{"months_paid>=012", "months_paid", "12"},
		{"months_paid>=+12", "months_paid", "12"},
		{"months_paid>=1e2", "months_paid", "12"},
		{"months_paid>= 12", "months_paid", "12"},
		{"months_paid >=12", "months_paid", "12"},
		{"months_paid>=12<=5", "months_paid", "12"},
		{"months_paid<=5>=12", "months_paid", "12"},
		{"months_paid>=9999999999999999999", "months_paid", "12"},
		{"age>=18", "months_paid", "12"},
		{"birth_date>=18", "birth_date", "1994-03-12"},
		{"months_paid>=12", "taxable_income", "12"},
		{">=12", "", "12"},
		{"months_paid>=12", "months_paid", ""},
		{"months_paid>=12", "months_paid", "canary12"},
		{"months_paid>=12", "months_paid", "1/2"},
		{"months_paid>=12", "months_paid", "0x10"},
		{"months_paid>=12", "months_paid", "1_000"},
		{"months_paid>=12", "months_paid", "12."},
		{"months_paid>=12", "months_paid", ".5"},
		{"months_paid>=12", "months_paid", "--1"},
		{"months_paid>=12", "months_paid", "１２"},
		{"months_paid>=12", "months_paid", strings.Repeat("9", 1000)},
		{"age>=18", "birth_date", ""},
		{"age>=18", "birth_date", "canary"},
		{"age>=18", "birth_date", "1994-02-30"},
		{"age>=18", "birth_date", "1994-3-12"},
		{"age>=18", "birth_date", "2026-12-01"},
		{"age>=18", "birth_date", "2094-03-12"},
	} {
		got, err := material.EvalPredicate(c.predicate, c.field, c.value, now())
		if !errors.Is(err, material.ErrPredicate) || got {
			t.Errorf("%q of %q: %v, %v", c.predicate, c.value, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: the error tells the value", c.predicate)
		}
	}
}
