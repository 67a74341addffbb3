// Package console is the officers' pages: the access ledger as this node may
// read it, with the proof of each entry, read-only.
//
// Pages are made on the server and need no script. Nothing is fetched from
// elsewhere, and the content security policy forbids it.
package console
