// Package source adapts a department's own systems to the exchange: it gives the
// certified material of one subject to a caller who holds a policy.Permit, which
// only a decision that allowed can make.
//
// So far there is one source, the built-in Vault. A database or an HTTP service
// is another type with the same Fetch.
package source
