package exchange

import "time"

// An Answer is how one exchange ended, as the asking system sees it.
type Answer struct {
	ID       string      // of the exchange: 32 hexadecimal digits, chosen by the requester's node
	Outcome  Outcome     //
	Holder   Dept        //
	Item     Item        //
	AsOf     time.Time   // the state of the holder's source that the answer speaks of
	IssuedAt time.Time   // when the material was issued; zero unless Allowed
	Fields   []Disclosed // exactly the views asked for; empty unless Allowed
	Reasons  []Reason    // complete; empty unless Refused
	Retain   string      // how long the requester may keep it (ISO 8601 duration), from the rule
	Receipt  Receipt     //
}

// Disclosed is one field as it was released. Value is set for Value views,
// Holds for Predicate views.
type Disclosed struct {
	View  View   `json:"view" cbor:"1,keyasint"`
	Value string `json:"value,omitempty" cbor:"2,keyasint,omitempty"`
	Holds bool   `json:"holds,omitempty" cbor:"3,keyasint,omitempty"`
}

// A Receipt names the ledger entry of an exchange. It is a statement of the
// node that gives it; ledger proofs make it evidence.
type Receipt struct {
	Origin   string    // of the ledger
	Entry    string    // id of the entry, 32 hexadecimal digits
	Author   Dept      // who signed it
	Index    uint64    // its position in the ledger, from 0
	LeafHash string    // SM3, hexadecimal
	Time     time.Time // ledger time
}

// CatalogueItem describes what a department holds (政务数据目录项).
type CatalogueItem struct {
	Item     Item             `json:"item" cbor:"1,keyasint"`
	Holder   Dept             `json:"holder" cbor:"2,keyasint"`
	Title    string           `json:"title" cbor:"3,keyasint"`   // Chinese
	TitleEN  string           `json:"titleEn" cbor:"4,keyasint"` //
	Version  uint32           `json:"version" cbor:"5,keyasint"` // of the schema
	Fields   []CatalogueField `json:"fields" cbor:"6,keyasint"`
	Sharing  string           `json:"sharing" cbor:"7,keyasint"`  // unconditional | conditional | denied
	Provider string           `json:"provider" cbor:"8,keyasint"` // unified social credit code of the holder
}

// CatalogueField describes one field of an item.
type CatalogueField struct {
	Name       Field    `json:"name" cbor:"1,keyasint"`
	Title      string   `json:"title" cbor:"2,keyasint"`
	TitleEN    string   `json:"titleEn" cbor:"3,keyasint"`
	Type       string   `json:"type" cbor:"4,keyasint"` // text | date | number | code | image
	Sensitive  bool     `json:"sensitive" cbor:"5,keyasint"`
	Predicates []string `json:"predicates,omitempty" cbor:"6,keyasint,omitempty"`
}
