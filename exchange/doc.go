// Package exchange names what the exchange talks about: who asks, of whom, for
// what, about whom, why and on what authority, and the one error type that
// crosses its borders.
//
// The package is standard library only and does no I/O. Everything here is a
// value: the zero value of each type denies or is invalid.
package exchange
