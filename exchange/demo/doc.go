// Package demo is six synthetic departments and their people: what they hold,
// who is in it, and the materials issued from it.
//
// Nobody in it exists. Names are drawn from lists of surnames and given names,
// the city is invented, and every identity number carries a wrong check character,
// so that it cannot be anybody's.
package demo
