// Package authority holds what an access rests on besides rules: authority
// records (consents and the other bases), share grants between departments and
// the rosters of operators, with their states.
//
// A record is personal information. It stays with the two parties, sealed; the
// ledger gets a salted commitment to it and its state. Grants are public to the
// members. Of a roster the ledger gets salted digests only.
package authority
