package exchange

import "time"

// ConsentForm is what a department system registers when a subject has given
// consent for one holder and one case.
type ConsentForm struct {
	Provider  Dept       // who holds what the consent is for
	Subject   Subject    //
	Matter    Matter     //
	Case      Case       //
	Purposes  []Purpose  //
	Views     []ItemView //
	NotBefore time.Time  // zero: from registration
	NotAfter  time.Time  //
	MaxReads  uint32     // at least 1
	Notice    Notice     // what the subject was shown
	Channel   string     // "window" (assurance C3) or "authenticated" (C2)
	Evidence  []string   // SM3 hashes, hexadecimal, of the signed form or assertion
	Officers  []Operator // who witnessed it; two at a window
}

// ItemView is one view of one item.
type ItemView struct {
	Item Item `json:"item" cbor:"1,keyasint"`
	View View `json:"view" cbor:"2,keyasint"`
}

// Notice identifies the text that told the subject who gets what and why
// (PIPL Art. 17).
type Notice struct {
	Template string `json:"template" cbor:"1,keyasint"`
	Version  uint32 `json:"version" cbor:"2,keyasint"`
	Hash     string `json:"hash" cbor:"3,keyasint"` // SM3 of the text, hexadecimal
	Lang     string `json:"lang" cbor:"4,keyasint"`
}

// AuthorityInfo is the state of one authority record (授权记录).
type AuthorityInfo struct {
	ID        string
	State     string // active | withdrawn | expired | exhausted
	Basis     string // "consent"
	Provider  Dept
	Grantee   Dept
	NotBefore time.Time
	NotAfter  time.Time
	MaxReads  uint32
	Reads     uint32
	Receipt   Receipt // of the entry that brought about the state
}

// Page is where a listing stands: the rows from Cursor downwards, newest first.
type Page struct {
	Cursor string // empty: from the newest
	Limit  int    // 1 to 200; 0 means 50
}

// LedgerQuery selects ledger rows. Zero fields select everything. Item,
// Operator and Subject match only rows whose body this node may open.
type LedgerQuery struct {
	Dept     Dept // as holder, requester or author
	Outcome  Outcome
	Kind     string // entry kind's name
	From, To time.Time
	Item     Item
	Operator Operator
	Subject  string // the subject's identifier; never logged
	Page     Page
}

// LedgerRow is one ledger entry as a person may see it. The second half is
// filled only when this node is a party and holds the body.
type LedgerRow struct {
	Index     uint64    `json:"index"`
	Entry     string    `json:"entry"`
	Kind      string    `json:"kind"`
	Result    string    `json:"result"` // committed | stale | refused
	Time      time.Time `json:"time"`
	Author    Dept      `json:"author"`
	Holder    Dept      `json:"holder,omitempty"`
	Requester Dept      `json:"requester,omitempty"`
	Class     string    `json:"class,omitempty"`
	Outcome   Outcome   `json:"outcome,omitzero"`
	Leaf      string    `json:"leaf"`     // SM3 leaf hash, hexadecimal
	Cosigned  bool      `json:"cosigned"` // covered by a checkpoint with a quorum of cosignatures

	Open     bool     `json:"open"`
	Item     Item     `json:"item,omitempty"`
	Views    []View   `json:"views,omitempty"`
	Purpose  Purpose  `json:"purpose,omitempty"`
	Case     Case     `json:"case,omitempty"`
	Operator Operator `json:"operator,omitempty"`
	Reasons  []Reason `json:"reasons,omitempty"`
}

// LedgerProof lets anyone check that an entry stands in the ledger.
type LedgerProof struct {
	Index      uint64   `json:"index"`
	Leaf       []byte   `json:"leaf"`       // the exact bytes
	Frame      []byte   `json:"frame"`      // the author's signed frame record
	Size       uint64   `json:"size"`       // of the tree that Path leads to
	Path       [][]byte `json:"path"`       // RFC 9162 inclusion proof
	Checkpoint string   `json:"checkpoint"` // the note with cosignatures whose size is Size
}
