// Package material makes and checks certified materials (证明材料): a record of
// one subject, signed once by the department that holds it, of which any subset
// of fields can be shown later and still verifies against that one signature.
//
// The construction is that of SD-JWT (RFC 9901) with SM2, SM3 and deterministic
// CBOR: the signed body holds salted digests of the fields instead of the fields,
// and a presentation carries the salt and value of those that are shown. The
// package does no I/O and keeps no state; DESIGN.md says what a presentation
// proves and what it does not.
package material
