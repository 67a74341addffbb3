// Package policy decides: rules and facts in, a decision with complete reasons
// out.
//
// Decide is a pure function. It has no clock, no I/O, no context and no state,
// so that an auditor who is given the same facts years later reaches the same
// decision. Everything is denied unless each guard holds: the authority's
// baseline, the holder's own rule, the requester's own restrictions, the share
// grant, the authority record and the open case. Guards are never skipped
// because another one failed; a denial names all of them.
package policy
