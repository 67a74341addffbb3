package api

import (
	"slices"

	"xinqiao/exchange"
)

// RouteList returns the table of routes for the test of the contract.
func RouteList() []string {
	var out []string
	for _, r := range routes() {
		out = append(out, r.method+" "+r.path)
	}
	slices.Sort(out)
	return out
}

// Unverified is how a refusal of a signature leaves the API.
func Unverified(err error) *exchange.Error { return unverified(err) }
