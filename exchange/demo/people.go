package demo

import (
	"fmt"
	"slices"

	"xinqiao/exchange"
	"xinqiao/exchange/material"
)

// What the demo's story is about: a couple applies for housing support
// (住房保障资格核定) and 住建 asks 民政 for their marriage record.
const (
	StoryMatter  exchange.Matter  = "000725001000"
	StoryPurpose exchange.Purpose = "housing-eligibility"
	StoryCase    exchange.Case    = "ZJ-2026-0417"
)

// Names of the people whom a story can rely on.
const (
	WifeName      = "陈𬱖"
	HusbandName   = "李浩然"
	ChildName     = "李一桥"
	UnmarriedName = "周䶮"
	ElderName     = "欧阳德顺"
	WidowName     = "古丽娜尔·艾力"
)

// Wife returns 陈𬱖, who applies for housing support: married, employed, no
// property. Her name has a character outside of Unicode's basic plane.
func Wife() exchange.Subject { return person("99010219940312002") }

// Husband returns 李浩然, her husband.
func Husband() exchange.Subject { return person("99010219920825001") }

// Child returns 李一桥, their daughter, born in 2018.
func Child() exchange.Subject { return person("99010220180601002") }

// Unmarried returns 周䶮, an adult of whom there is no marriage record.
func Unmarried() exchange.Subject { return person("99010319980117001") }

// Elder returns 欧阳德顺, born in 1943, married.
func Elder() exchange.Subject { return person("99010519430930001") }

// Widow returns 古丽娜尔·艾力, whose husband has died.
func Widow() exchange.Subject { return person("99012119610520002") }

func person(digits string) exchange.Subject {
	return exchange.Subject{Kind: exchange.Person, ID: syntheticID(digits)}
}

// Record is one record as its department holds it: every field of the item, in
// the order of the catalogue.
type Record struct {
	Item    exchange.Item
	Subject exchange.Subject
	Fields  []material.FieldValue
}

// Value returns the value of a field, "" when there is none.
func (r Record) Value(f exchange.Field) string {
	i := slices.IndexFunc(r.Fields, func(v material.FieldValue) bool { return v.Field == f })
	if i < 0 {
		return ""
	}
	return r.Fields[i].Value
}

// Population is everybody in the demo and what the departments hold about them.
// It never changes.
type Population struct {
	subjects []exchange.Subject
	records  map[exchange.Dept][]Record
}

// People makes the population, the same one each time.
func People() (*Population, error) {
	n, err := readNames()
	if err != nil {
		return nil, err
	}
	t := settle(n)
	p := &Population{records: map[exchange.Dept][]Record{}}
	for _, r := range t.residents {
		p.subjects = append(p.subjects, r.subject())
	}
	for _, d := range Departments() {
		for _, c := range Catalogue(d.Dept) {
			for _, row := range t.rows(c.Item) {
				r, err := complete(c, row)
				if err != nil {
					return nil, err
				}
				p.records[d.Dept] = append(p.records[d.Dept], r)
			}
		}
	}
	return p, nil
}

// Subjects returns everybody who lives in the demo.
func (p *Population) Subjects() []exchange.Subject { return slices.Clone(p.subjects) }

// Records returns what a department holds. The caller does not change it.
func (p *Population) Records(dept exchange.Dept) []Record { return p.records[dept] }

// row is a record by field name.
type row struct {
	subject exchange.Subject
	values  map[exchange.Field]string
}

// complete brings a row into the catalogue's order and refuses one that lacks a
// field or has another.
func complete(c exchange.CatalogueItem, r row) (Record, error) {
	out := Record{Item: c.Item, Subject: r.subject}
	for _, f := range c.Fields {
		v, ok := r.values[f.Name]
		if !ok {
			return Record{}, fmt.Errorf("demo data: a record of %s has no field %s", c.Item, f.Name)
		}
		out.Fields = append(out.Fields, material.FieldValue{Field: f.Name, Value: v})
	}
	if len(r.values) != len(c.Fields) {
		return Record{}, fmt.Errorf("demo data: a record of %s has a field that the catalogue does not name", c.Item)
	}
	return out, nil
}
