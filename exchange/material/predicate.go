package material

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"xinqiao/exchange"
)

// birthDate is the one field whose predicates are about a number derived from
// it: the age in full years.
const birthDate exchange.Field = "birth_date"

// maxDigits bounds the numbers of a predicate.
const maxDigits = 18

// EvalPredicate decides a predicate over a field's value. The form is "name, op,
// constant": name is the field, or "age" for birth_date; op is >= or <=; the
// constant is an integer without leading zeros. Age is counted in full years on
// the day that asOf falls on in China (UTC+8); who was born on 29 February turns
// a year older on 1 March of a common year. Values are dates 2006-01-02 or decimal
// numbers. A value of another form, an empty one included, or a birth after asOf
// is ErrPredicate: what cannot be decided is not false.
func EvalPredicate(predicate string, field exchange.Field, value string, asOf time.Time) (bool, error) {
	name, rest, atLeast := strings.Cut(predicate, ">=")
	if !atLeast {
		var atMost bool
		if name, rest, atMost = strings.Cut(predicate, "<="); !atMost {
			return false, fmt.Errorf("%w: it has neither >= nor <=", ErrPredicate)
		}
	}
	bound, ok := number(rest, false)
	if !ok {
		return false, fmt.Errorf("%w: its constant is not an integer", ErrPredicate)
	}
	var got *big.Rat
	switch {
	case field == birthDate && name == "age":
		age, err := fullYears(value, asOf)
		if err != nil {
			return false, err
		}
		got = big.NewRat(int64(age), 1)
	case field != birthDate && field.Valid() && name == string(field):
		if got, ok = number(value, true); !ok {
			return false, fmt.Errorf("%w: the value of %s is not a number", ErrPredicate, field)
		}
	default:
		return false, fmt.Errorf("%w: it is not one about field %s", ErrPredicate, field)
	}
	if atLeast {
		return got.Cmp(bound) >= 0, nil
	}
	return got.Cmp(bound) <= 0, nil
}

// fullYears returns the age of one born on the date.
func fullYears(born string, asOf time.Time) (int, error) {
	b, err := time.Parse(time.DateOnly, born)
	if err != nil {
		// The cause would quote the value.
		return 0, fmt.Errorf("%w: the value of %s is not a date", ErrPredicate, birthDate)
	}
	day := asOf.In(time.FixedZone("", 8*60*60))
	age := day.Year() - b.Year()
	if day.Month() < b.Month() || day.Month() == b.Month() && day.Day() < b.Day() {
		age--
	}
	if age < 0 {
		return 0, fmt.Errorf("%w: the value of %s lies in the future", ErrPredicate, birthDate)
	}
	return age, nil
}

// number reads a plain decimal number: no sign but a minus, no exponent, no
// leading zero; a fraction only where it is allowed.
func number(s string, fraction bool) (*big.Rat, bool) {
	digits := strings.TrimPrefix(s, "-")
	whole, part, dotted := strings.Cut(digits, ".")
	switch {
	case len(digits) > maxDigits || whole == "" || strings.Trim(whole+part, "0123456789") != "":
		return nil, false
	case len(whole) > 1 && whole[0] == '0':
		return nil, false
	case dotted && (!fraction || part == ""):
		return nil, false
	}
	return new(big.Rat).SetString(s)
}
