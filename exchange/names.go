package exchange

import (
	"regexp"
	"strings"
)

// Dept identifies a department (政务部门) within one exchange, for example
// "minzheng". It is chosen by the sharing authority when it admits the
// department, never reused, and appears in certificates, ledger entries and
// configuration. The unified social credit code is a property of the
// department, not its name here.
type Dept string

// Authority is the sharing authority (政务数据共享主管部门): it admits members,
// sets the baseline and issues share grants. It runs no node.
const Authority Dept = "authority"

// Item identifies a catalogue item as "class/name", for example
// "civil/marriage-record".
type Item string

// Class is the part of an item's name that may be replicated to every
// department: "civil" of "civil/marriage-record". The item itself stays between
// the parties.
func (i Item) Class() string {
	class, _, _ := strings.Cut(string(i), "/")
	return class
}

// Field names one field (数据项) of an item.
type Field string

// Purpose is a code of the purpose list (使用用途), for example "housing-eligibility".
type Purpose string

// Matter is the code of a government service matter (政务服务事项).
type Matter string

// Case is a requester's own case number (办件号). It never enters the ledger.
type Case string

// Operator is a requester's own identifier of the person who handles the case
// (经办人). It never enters the ledger.
type Operator string

// Role is an operator's role in the department's roster, for example "case_handler".
type Role string

var (
	deptForm  = regexp.MustCompile(`^[a-z][a-z0-9-]{1,31}$`)
	itemForm  = regexp.MustCompile(`^[a-z][a-z0-9-]{1,31}/[a-z][a-z0-9-]{1,47}$`)
	nameForm  = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)
	matter    = regexp.MustCompile(`^[0-9]{6,31}$`)
	reference = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$`)
)

// Valid reports whether d has the form of a department name.
func (d Dept) Valid() bool { return deptForm.MatchString(string(d)) }

// Valid reports whether i has the form "class/name".
func (i Item) Valid() bool { return itemForm.MatchString(string(i)) }

// Valid reports whether f has the form of a field name.
func (f Field) Valid() bool { return nameForm.MatchString(string(f)) }

// Valid reports whether p has the form of a purpose code.
func (p Purpose) Valid() bool { return nameForm.MatchString(string(p)) }

// Valid reports whether m has the form of a matter code.
func (m Matter) Valid() bool { return matter.MatchString(string(m)) }

// Valid reports whether c has the form of a case number.
func (c Case) Valid() bool { return reference.MatchString(string(c)) }

// Valid reports whether o has the form of an operator's identifier.
func (o Operator) Valid() bool { return reference.MatchString(string(o)) }
