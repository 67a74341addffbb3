package demo

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// employ gives most people of working age an employer, a few of them a
// physician's licence.
func (t *town) employ(r *resident) {
	age := r.age()
	if age < 20 || age >= 60 || !t.chance(85) {
		return
	}
	w := &work{employer: one(t, t.employers), active: t.chance(90), base: 100 * t.between(46, 180)}
	longest := max(1, (age-19)*12)
	w.months = t.between(1, longest)
	started := w.months
	if !w.active {
		started = min(longest, w.months+t.between(3, 12))
	}
	w.since = today().AddDate(0, -started, 1-today().Day()) // the first of a month
	w.income = max(0, 12*w.base-60000-100*t.between(0, 150))
	if t.chance(8) {
		w.employer = one(t, t.hospitals)
		t.physicians++
		w.physician = fmt.Sprintf("110%s%06d", r.district.code, t.physicians)
		w.active = true
	}
	r.work = w
}

// taxOf is the individual income tax on a year's taxable income in yuan, by the
// annual table of the Individual Income Tax Law.
func taxOf(income int) int {
	for _, b := range []struct{ above, percent, quick int }{
		{960000, 45, 181920}, {660000, 35, 85920}, {420000, 30, 52920}, {300000, 25, 31920}, {144000, 20, 16920}, {36000, 10, 2520},
	} {
		if income > b.above {
			return income*b.percent/100 - b.quick
		}
	}
	return income * 3 / 100
}

// surnameOf returns the surname at the beginning of a Chinese name, a double one
// where the list has it.
func (t *town) surnameOf(name string) string {
	_, first := utf8.DecodeRuneInString(name)
	for _, s := range t.surnames {
		if len(s) > first && strings.HasPrefix(name, s) {
			return s
		}
	}
	return name[:first]
}

func cutDot(name string) (given, fathers string, ok bool) { return strings.Cut(name, "·") }

// settleCast makes the people whom a story can rely on, and gives them what the
// story needs: the couple is insured, earns little and owns nothing.
func (t *town) settleCast() {
	wife := t.cast(Wife().ID, WifeName, female, "汉族")
	husband := t.cast(Husband().ID, HusbandName, male, "汉族")
	child := t.cast(Child().ID, ChildName, female, "汉族")
	child.mother, child.father = wife, husband
	t.certify(child)
	husband.work = &work{employer: t.employers[5], since: day(2021, time.March, 1), months: 67, active: true, base: 8600, income: 38400}
	wife.work = &work{employer: t.employers[1], since: day(2023, time.June, 1), months: 40, active: true, base: 6900, income: 21600}
	t.register(husband, wife, day(2017, time.May, 20))
	t.move(husband, wife, child)
	wife.relation, child.relation, husband.home = "妻", "女", nil

	alone := t.cast(Unmarried().ID, UnmarriedName, male, "汉族")
	t.move(alone)

	elder := t.cast(Elder().ID, ElderName, male, "汉族")
	partner := t.adult(female, 79)
	partner.relation = "妻"
	t.register(elder, partner, day(1969, time.October, 1))
	t.move(elder, partner)

	widow := t.cast(Widow().ID, WidowName, female, "维吾尔族")
	m := t.register(t.adult(male, 68), widow, day(1984, time.April, 8))
	m.status, m.remarks = "丧偶", "配偶死亡, 户口已注销"
	t.move(widow)
}

// cast makes a person with a fixed identity number.
func (t *town) cast(id, name string, s sex, ethnicity string) *resident {
	born, err := time.Parse("20060102", id[6:14])
	if err != nil {
		panic("demo: the cast has an identity number without a date")
	}
	r := &resident{id: id, name: name, sex: s, born: born, ethnicity: ethnicity, hue: t.rng.IntN(360)}
	for _, d := range t.districts {
		if d.code == id[:6] {
			r.district = d
		}
	}
	return r
}
