package demo

import (
	"fmt"

	"xinqiao/exchange"
)

// syntheticID completes 17 digits to a citizen identification number with a
// check character that is wrong, and so nobody's.
func syntheticID(digits string) string {
	right := exchange.CitizenCheck(digits)
	if right == 'X' {
		return digits + "0"
	}
	return digits + string('0'+(right-'0'+1)%10)
}

// syntheticUSCC completes 17 characters to a unified social credit code with a
// check character that is wrong. It panics on characters that no code has: all
// callers pass data of this package.
func syntheticUSCC(first string) string {
	for _, check := range "0123456789" {
		code := first + string(check)
		if (exchange.Subject{Kind: exchange.Organisation, ID: code}).Check(exchange.Synthetic) == nil {
			return code
		}
	}
	panic(fmt.Sprintf("demo: %q is not the beginning of a unified social credit code", first))
}
