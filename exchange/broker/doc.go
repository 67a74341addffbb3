// Package broker conducts one exchange from question to sealed answer. It is
// the only place where policy, ledger, keys and materials meet: read ask.go (the
// requester's side) and answer.go (the holder's) from top to bottom and you have
// seen the security argument. DESIGN.md in exchange numbers the steps.
//
// It knows neither HTTP nor consensus nor disk formats: what it needs of them it
// declares as interfaces.
package broker
