package api

import (
	"time"

	"xinqiao/exchange"
)

// The JSON of the API. Package client reads and writes the same types.

// Field is one view, in a request.
type Field struct {
	Field     exchange.Field `json:"field"`
	Mode      exchange.Mode  `json:"mode"`
	Predicate string         `json:"predicate,omitempty"`
}

// Released is one field as it was released. Value is there exactly when Mode is
// "value", Holds exactly when it discloses a truth.
type Released struct {
	Field
	Value *string `json:"value,omitempty"`
	Holds *bool   `json:"holds,omitempty"`
}

// Question is the body of POST /api/v1/exchanges.
type Question struct {
	Holder    exchange.Dept     `json:"holder"`
	Item      exchange.Item     `json:"item"`
	Subject   Subject           `json:"subject"`
	Fields    []Field           `json:"fields"`
	Purpose   exchange.Purpose  `json:"purpose"`
	Matter    exchange.Matter   `json:"matter"`
	Case      exchange.Case     `json:"case"`
	Operator  exchange.Operator `json:"operator"`
	Authority string            `json:"authority,omitempty"`
}

// Subject is exchange.Subject in JSON.
type Subject struct {
	Kind exchange.SubjectKind `json:"kind"`
	ID   string               `json:"id"`
}

// Answer is how an exchange ended, when it was not denied; a denial is a
// Problem.
type Answer struct {
	ID       string        `json:"id"`
	Outcome  string        `json:"outcome"` // allowed, no_record or undecided
	Holder   exchange.Dept `json:"holder,omitempty"`
	Item     exchange.Item `json:"item,omitempty"`
	AsOf     time.Time     `json:"asOf,omitzero"`
	IssuedAt time.Time     `json:"issuedAt,omitzero"`
	Fields   []Released    `json:"fields,omitempty"`
	Retain   string        `json:"retain,omitempty"`
	Receipt  *Receipt      `json:"receipt,omitempty"`
}

// Receipt is exchange.Receipt in JSON.
type Receipt struct {
	Origin   string        `json:"origin"`
	Entry    string        `json:"entry"`
	Author   exchange.Dept `json:"author"`
	Index    uint64        `json:"index"`
	LeafHash string        `json:"leafHash"`
	Time     time.Time     `json:"time"`
}

// ConsentView is one view of one item in a consent.
type ConsentView struct {
	Item exchange.Item `json:"item"`
	Field
}

// Notice is exchange.Notice in JSON.
type Notice struct {
	Template string `json:"template"`
	Version  uint32 `json:"version"`
	Hash     string `json:"hash"`
	Lang     string `json:"lang"`
}

// Consent is the body of POST /api/v1/authorities.
type Consent struct {
	Provider  exchange.Dept       `json:"provider"`
	Subject   Subject             `json:"subject"`
	Matter    exchange.Matter     `json:"matter"`
	Case      exchange.Case       `json:"case"`
	Purposes  []exchange.Purpose  `json:"purposes"`
	Views     []ConsentView       `json:"views"`
	NotBefore time.Time           `json:"notBefore,omitzero"`
	NotAfter  time.Time           `json:"notAfter"`
	MaxReads  uint32              `json:"maxReads"`
	Notice    Notice              `json:"notice"`
	Channel   string              `json:"channel"`
	Evidence  []string            `json:"evidence,omitempty"`
	Officers  []exchange.Operator `json:"officers,omitempty"`
}

// Authority is exchange.AuthorityInfo in JSON.
type Authority struct {
	ID        string        `json:"id"`
	State     string        `json:"state"`
	Basis     string        `json:"basis"`
	Provider  exchange.Dept `json:"provider"`
	Grantee   exchange.Dept `json:"grantee"`
	NotBefore time.Time     `json:"notBefore,omitzero"`
	NotAfter  time.Time     `json:"notAfter"`
	MaxReads  uint32        `json:"maxReads"`
	Reads     uint32        `json:"reads"`
	Receipt   *Receipt      `json:"receipt,omitempty"`
}

// Withdrawal is the body of POST /api/v1/authorities/{id}/withdrawal. The
// reason is a code of the department's own list, never free text: free text
// ends up holding names.
type Withdrawal struct {
	Reason string `json:"reason"`
}

// CataloguePage is a page of the catalogue.
type CataloguePage struct {
	Items []exchange.CatalogueItem `json:"items"`
	Next  string                   `json:"next,omitempty"`
}

// LedgerPage is a page of ledger rows, newest first.
type LedgerPage struct {
	Rows []Row  `json:"rows"`
	Next string `json:"next,omitempty"`
}

// LedgerSearch is the body of POST /api/v1/ledger/entries/search. A search by
// subject is a POST so that no identifier stands in a URL.
type LedgerSearch struct {
	Department exchange.Dept     `json:"department,omitempty"`
	Outcome    string            `json:"outcome,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	From       time.Time         `json:"from,omitzero"`
	To         time.Time         `json:"to,omitzero"`
	Item       exchange.Item     `json:"item,omitempty"`
	Operator   exchange.Operator `json:"operator,omitempty"`
	Subject    string            `json:"subject,omitempty"`
	Cursor     string            `json:"cursor,omitempty"`
	Limit      int               `json:"limit,omitempty"`
}

// Row is exchange.LedgerRow in JSON. The members from Item on are there only
// when Open is.
type Row struct {
	Index     uint64            `json:"index"`
	Entry     string            `json:"entry"`
	Kind      string            `json:"kind"`
	Result    string            `json:"result"`
	Time      time.Time         `json:"time"`
	Author    exchange.Dept     `json:"author"`
	Holder    exchange.Dept     `json:"holder,omitempty"`
	Requester exchange.Dept     `json:"requester,omitempty"`
	Class     string            `json:"class,omitempty"`
	Outcome   string            `json:"outcome,omitempty"`
	LeafHash  string            `json:"leafHash"`
	Cosigned  bool              `json:"cosigned"`
	Open      bool              `json:"open"`
	Item      exchange.Item     `json:"item,omitempty"`
	Fields    []Field           `json:"fields,omitempty"`
	Purpose   exchange.Purpose  `json:"purpose,omitempty"`
	Case      exchange.Case     `json:"case,omitempty"`
	Operator  exchange.Operator `json:"operator,omitempty"`
	Reasons   []Reason          `json:"reasons,omitempty"`
}

// Proof is exchange.LedgerProof in JSON; byte strings are standard base64.
type Proof struct {
	Index      uint64   `json:"index"`
	Leaf       []byte   `json:"leaf"`
	Frame      []byte   `json:"frame"`
	Size       uint64   `json:"size"`
	Path       [][]byte `json:"path"`
	Checkpoint string   `json:"checkpoint"`
}

// Reason is one failed guard with what a person needs to know about it, in the
// language of the request.
type Reason struct {
	Code    exchange.Code `json:"code"`
	Article string        `json:"article,omitempty"`
	Detail  string        `json:"detail,omitempty"`
	Text    string        `json:"text,omitempty"`
	Remedy  string        `json:"remedy,omitempty"`
}

// Problem is a problem document (RFC 9457).
type Problem struct {
	Type      string        `json:"type"`
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Detail    string        `json:"detail,omitempty"`
	Instance  string        `json:"instance,omitempty"`
	Kind      string        `json:"kind"`
	Code      exchange.Code `json:"code"`
	Hint      string        `json:"hint,omitempty"`
	TraceID   string        `json:"traceId"`
	Pointer   string        `json:"pointer,omitempty"`
	Reasons   []Reason      `json:"reasons,omitempty"`
	Retryable bool          `json:"retryable"`
	// Of a denial: the exchange that ended so, and its entry.
	ID      string        `json:"id,omitempty"`
	Outcome string        `json:"outcome,omitempty"`
	Holder  exchange.Dept `json:"holder,omitempty"`
	Item    exchange.Item `json:"item,omitempty"`
	Receipt *Receipt      `json:"receipt,omitempty"`
}
