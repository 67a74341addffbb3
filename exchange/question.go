package exchange

import (
	"fmt"
	"strings"
)

// A Question is what a department system asks its own node: one item about one
// subject, the fields it needs and why it may have them.
type Question struct {
	Holder    Dept     // 数源部门, who holds the item
	Item      Item     //
	Subject   Subject  //
	Views     []View   // what is asked for; never empty
	Purpose   Purpose  //
	Matter    Matter   //
	Case      Case     // the requester's own case number
	Operator  Operator // who handles the case
	Authority string   // id of the authority record it rests on; empty when there is none
}

// MaxViews bounds the fields of one question.
const MaxViews = 64

// Check reports the first thing wrong with the question's form, or nil. It
// knows no facts: an unknown department or item is found later.
func (q Question) Check(p Population) *Error {
	bad := func(pointer, what string) *Error {
		return &Error{Kind: Invalid, Code: CodeField, Msg: what, Pointer: pointer,
			Hint: "see the API description (openapi.yaml) for the form of each member"}
	}
	switch {
	case !q.Holder.Valid():
		return bad("/holder", "holder is not the name of a department")
	case !q.Item.Valid():
		return bad("/item", `item does not have the form "class/name"`)
	case !q.Purpose.Valid():
		return bad("/purpose", "purpose is not a purpose code")
	case !q.Matter.Valid():
		return bad("/matter", "matter is not a matter code of 6 to 31 digits")
	case !q.Case.Valid():
		return bad("/case", "case is not a case number")
	case !q.Operator.Valid():
		return bad("/operator", "operator is not an operator's identifier")
	case q.Authority != "" && !ValidID(q.Authority):
		return bad("/authority", "authority is not the id of an authority record")
	case len(q.Views) == 0:
		return &Error{Kind: Invalid, Code: CodeNoViews, Msg: "no fields are asked for", Pointer: "/fields",
			Hint: "name each field you need and its mode; asking for none would only reveal whether a record exists"}
	case len(q.Views) > MaxViews:
		return bad("/fields", fmt.Sprintf("more than %d fields are asked for", MaxViews))
	}
	seen := map[View]bool{}
	for i, v := range q.Views {
		if !v.Valid() || seen[v] {
			return bad(fmt.Sprintf("/fields/%d", i), "field is malformed, discloses nothing or is named twice")
		}
		seen[v] = true
	}
	if err := q.Subject.Check(p); err != nil {
		err.Pointer = "/subject/id"
		return err
	}
	return nil
}

// ValidID reports whether s is an identifier in the form of this exchange: 32
// lower-case hexadecimal digits.
func ValidID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}
