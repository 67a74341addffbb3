package exchange

// Codes of malformed or unacceptable messages.
const (
	CodeInternal      Code = "XQ-INTERNAL"
	CodeJSON          Code = "XQ-REQ-JSON"            // not JSON, unknown or duplicate member
	CodeTooLarge      Code = "XQ-REQ-TOO-LARGE"       //
	CodeContentType   Code = "XQ-REQ-CONTENT-TYPE"    //
	CodeField         Code = "XQ-REQ-FIELD"           // a member is missing or malformed
	CodeSubject       Code = "XQ-REQ-SUBJECT"         // the subject's identifier
	CodeNoViews       Code = "XQ-REQ-NO-FIELDS"       // an empty field list would be an existence oracle
	CodeUnknownDept   Code = "XQ-REQ-UNKNOWN-DEPT"    //
	CodeUnknownItem   Code = "XQ-REQ-UNKNOWN-ITEM"    //
	CodeNotFound      Code = "XQ-REQ-NOT-FOUND"       //
	CodeMethod        Code = "XQ-REQ-METHOD"          //
	CodeIdempotency   Code = "XQ-REQ-IDEMPOTENCY-KEY" // missing, malformed
	CodeConflict      Code = "XQ-REQ-KEY-REUSED"      // same idempotency key, other content
	CodeCredentials   Code = "XQ-AUTH-CREDENTIALS"    // missing, unknown or expired
	CodeScope         Code = "XQ-AUTH-SCOPE"          // the system may not do this
	CodeSignature     Code = "XQ-MSG-SIGNATURE"       // forged, or not the certificate's key
	CodeAudience      Code = "XQ-MSG-AUDIENCE"        // addressed to another department
	CodeExpired       Code = "XQ-MSG-EXPIRED"         // expired, or from the future
	CodeReplay        Code = "XQ-MSG-REPLAY"          // a nonce seen before
	CodeSuite         Code = "XQ-MSG-SUITE"           // unknown suite: nothing is negotiated
	CodeEnvelope      Code = "XQ-MSG-ENVELOPE"        // a sealed message does not open or does not bind
	CodeBinding       Code = "XQ-MSG-BINDING"         // answer and ledger entry do not match
	CodeNoQuorum      Code = "XQ-LEDGER-NO-QUORUM"    // nothing can be recorded, so nothing is released
	CodeUnknownResult Code = "XQ-LEDGER-UNDETERMINED" // ask again with the same key
	CodeNotRecorded   Code = "XQ-LEDGER-NOT-RECORDED" // the peer's answer has no entry in this node's ledger
	CodeStale         Code = "XQ-LEDGER-STALE"        // the basis kept changing while deciding
	CodeLedgerBroken  Code = "XQ-LEDGER-INTEGRITY"    // verification failed: this node releases nothing
	CodeReleaseLate   Code = "XQ-LEDGER-RELEASE-LATE" // the release deadline has passed
	CodePeerDown      Code = "XQ-PEER-UNREACHABLE"    //
	CodeSource        Code = "XQ-SOURCE-UNAVAILABLE"  //
	CodeMaterial      Code = "XQ-MATERIAL-INVALID"    // a material does not verify
	CodeKeys          Code = "XQ-KEYS-UNAVAILABLE"    // whatever holds this node's keys does not answer
	CodeBusy          Code = "XQ-NODE-BUSY"           // a queue is full
	CodeQuota         Code = "XQ-PEER-QUOTA"          // the holder has denied so much that it only counts now
)

// Codes of denial: each is one guard of the decision.
const (
	DenyNoRule       Code = "XQ-DENY-NO-RULE"      // the holder has no rule for this requester and item
	DenyPurpose      Code = "XQ-DENY-PURPOSE"      // the rule does not list the purpose
	DenyMatter       Code = "XQ-DENY-MATTER"       // the rule does not list the matter for this department
	DenyField        Code = "XQ-DENY-FIELD"        // a field is not permitted in the mode asked for
	DenyBasis        Code = "XQ-DENY-BASIS"        // the rule does not accept this kind of basis
	DenyNoAuthority  Code = "XQ-DENY-NO-AUTHORITY" // no authority record (consent) for this person and case
	DenyWithdrawn    Code = "XQ-DENY-WITHDRAWN"    // it was withdrawn
	DenyAuthExpired  Code = "XQ-DENY-AUTH-EXPIRED" // outside its validity
	DenyAuthScope    Code = "XQ-DENY-AUTH-SCOPE"   // it does not cover the field, purpose, case or subject
	DenyExhausted    Code = "XQ-DENY-EXHAUSTED"    // its reads are used up
	DenyNoGrant      Code = "XQ-DENY-NO-GRANT"     // no share grant between the departments for the item
	DenyGrantScope   Code = "XQ-DENY-GRANT-SCOPE"  // the grant does not cover field or purpose
	DenyCase         Code = "XQ-DENY-CASE"         // the case is not open for this pair
	DenyOperator     Code = "XQ-DENY-OPERATOR"     // the operator is not on the roster in the role required
	DenyBaseline     Code = "XQ-DENY-BASELINE"     // the authority's baseline forbids it
	DenyRequester    Code = "XQ-DENY-REQUESTER"    // the requester's own restriction forbids it
	DenyMember       Code = "XQ-DENY-MEMBER"       // a party is not an active member, or its certificate is not
	DenyRuleExpired  Code = "XQ-DENY-RULE-EXPIRED" // the rule is outside its validity
	DenyBadMessage   Code = "XQ-DENY-BAD-MESSAGE"  // an authenticated department sent an unacceptable request
	DenyJudges       Code = "XQ-DENY-JUDGES"       // the two evaluators disagree, or one failed
	DenyMaterial     Code = "XQ-DENY-MATERIAL"     // the material is revoked or its status is unknown
	DenyUnknownItem  Code = "XQ-DENY-UNKNOWN-ITEM" // the holder's catalogue has no such item
	DenyUndetermined Code = "XQ-DENY-UNDETERMINED" // a fact needed for the decision could not be read
)
