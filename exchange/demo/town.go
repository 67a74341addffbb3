package demo

import (
	"fmt"
	"math/rand/v2"
	"time"

	"xinqiao/exchange"
)

// The seed of the population. With another one every generated person changes;
// the cast stays.
const seedHigh, seedLow = 0x78696e7169616f, 2026

// households that are drawn, beside those of the cast.
const drawnHouseholds = 110

// today is the day on which the population is described. Nothing in it happens
// later.
func today() time.Time { return day(2026, time.October, 31) }

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

// town is the population while it is made.
type town struct {
	names
	rng        *rand.Rand
	residents  []*resident // the living, in the order of their households
	households int
	marriages  int
	births     map[string]int // by district and date: the order code of an identity number
	physicians int
}

type resident struct {
	id, name       string
	sex            sex
	born           time.Time
	ethnicity      string
	district       district
	address        string
	householdNo    string
	relation       string // to the head of the household
	marriage       *marriage
	mother, father *resident
	birthNo        string
	work           *work
	home           *property
	hue            int // of the drawn portrait
}

type marriage struct {
	number        string
	on            time.Time
	registry      string
	status        string
	remarks       string
	husband, wife *resident
}

type work struct {
	employer  organisation
	since     time.Time
	months    int
	active    bool
	base      int // monthly, yuan
	income    int // taxable, of the year before today, yuan
	physician string
}

type property struct {
	number   string
	area     float64
	on       time.Time
	mortgage string
}

func (r *resident) subject() exchange.Subject {
	return exchange.Subject{Kind: exchange.Person, ID: r.id}
}

func (r *resident) age() int {
	years := today().Year() - r.born.Year()
	if r.born.AddDate(years, 0, 0).After(today()) {
		years--
	}
	return years
}

// settle makes the cast and then household after household.
func settle(n names) *town {
	t := &town{names: n, rng: rand.New(rand.NewPCG(seedHigh, seedLow)), births: map[string]int{}}
	t.settleCast()
	for range drawnHouseholds {
		switch k := t.rng.IntN(100); {
		case k < 55:
			t.family(t.between(27, 57), false)
		case k < 65:
			t.family(t.between(60, 84), false)
		case k < 75:
			t.family(t.between(28, 45), true)
		case k < 88:
			t.move(t.adult(t.pick(), t.between(22, 45)))
		case k < 94:
			t.divorced(t.between(30, 52))
		default:
			t.widowed(t.between(58, 88))
		}
	}
	return t
}

// between returns a number from low to high, both included.
func (t *town) between(low, high int) int { return low + t.rng.IntN(high-low+1) }

func (t *town) chance(percent int) bool { return t.rng.IntN(100) < percent }

func one[T any](t *town, list []T) T { return list[t.rng.IntN(len(list))] }

func (t *town) pick() sex { return one(t, []sex{male, female}) }

// bornAt returns a birthday of one who is age years old today.
func (t *town) bornAt(age int) time.Time {
	return today().AddDate(-age, 0, -t.rng.IntN(365))
}

// adult makes a person of that age who comes from elsewhere.
func (t *town) adult(s sex, age int) *resident {
	r := &resident{sex: s, born: t.bornAt(age), ethnicity: "汉族", district: one(t, t.districts)}
	switch {
	case t.chance(6):
		r.name, r.ethnicity = one(t, t.long[s])+"·"+one(t, t.long[male]), "维吾尔族"
	case t.chance(4):
		r.name, r.ethnicity = one(t, t.surnames)+one(t, t.given[s]), "回族"
	default:
		r.name = one(t, t.surnames) + one(t, t.given[s])
	}
	t.number(r)
	t.employ(r)
	return r
}

// number gives a person an identity number: division, date of birth, order code
// (odd for men), and a check character that is wrong.
func (t *town) number(r *resident) {
	key := r.district.code + r.born.Format("20060102")
	// The cast has the first codes of its days.
	order := 11 + 2*t.births[key]
	t.births[key]++
	if r.sex == female {
		order++
	}
	r.id = syntheticID(fmt.Sprintf("%s%03d", key, order))
	r.hue = t.rng.IntN(360)
}

// move makes a household of people, the first of whom is its head.
func (t *town) move(people ...*resident) {
	head := people[0]
	t.households++
	no := fmt.Sprintf("%s%06d", head.district.code, t.households)
	address := fmt.Sprintf("信桥市%s%s%d号%d幢%d室", head.district.name, one(t, head.district.streets), t.between(1, 188), t.between(1, 9),
		100*t.between(1, 6)+t.between(1, 4))
	for _, r := range people {
		r.householdNo, r.address = no, address
		if r == head {
			r.relation = "户主"
		}
		t.residents = append(t.residents, r)
	}
	if head.age() >= 28 && t.chance(60) {
		t.own(head)
	}
}

func (t *town) own(r *resident) {
	r.home = &property{number: fmt.Sprintf("%sGB%05dF%08d", r.district.code, t.between(1, 99999), t.between(1, 99999999)),
		area: float64(t.between(420, 1650)) / 10, on: r.born.AddDate(t.between(25, 27), t.rng.IntN(12), t.rng.IntN(28)), mortgage: "无抵押"}
	if r.age() < 50 && t.chance(60) {
		r.home.mortgage = "已抵押"
	}
}

// marry registers a marriage on a day when both were old enough (Civil Code Art.
// 1047: 22 and 20).
func (t *town) marry(husband, wife *resident) *marriage {
	first := husband.born.AddDate(22, 0, 0)
	if w := wife.born.AddDate(20, 0, 0); w.After(first) {
		first = w
	}
	on := first.AddDate(t.rng.IntN(6), t.rng.IntN(12), t.rng.IntN(28))
	if on.After(today()) {
		on = today().AddDate(0, 0, -t.between(1, 200))
	}
	return t.register(husband, wife, on)
}

func (t *town) register(husband, wife *resident, on time.Time) *marriage {
	t.marriages++
	m := &marriage{number: fmt.Sprintf("J%s-%d-%06d", husband.district.code, on.Year(), t.marriages), on: on,
		registry: husband.district.registry, status: "已婚", husband: husband, wife: wife}
	husband.marriage, wife.marriage = m, m
	return m
}

// family is a couple, the children who live with them, and with an elder also
// the husband's widowed mother.
func (t *town) family(age int, withElder bool) {
	husband := t.adult(male, age)
	wife := t.adult(female, max(24, age+t.between(-4, 2)))
	m := t.marry(husband, wife)
	wife.relation = "妻"
	people := append([]*resident{husband, wife}, t.children(m)...)
	if withElder {
		mother := t.bereaved(female, husband.age()+t.between(22, 32))
		mother.relation = "母亲"
		people = append(people, mother)
	}
	t.move(people...)
}

// children are those of a marriage who still live at home.
func (t *town) children(m *marriage) []*resident {
	var list []*resident
	born := m.on
	for range t.rng.IntN(3) {
		born = born.AddDate(t.between(1, 4), t.rng.IntN(12), t.rng.IntN(28))
		if born.After(today()) || born.After(m.wife.born.AddDate(42, 0, 0)) {
			break
		}
		if born.AddDate(24, 0, 0).After(today()) {
			list = append(list, t.child(m, born))
		}
	}
	return list
}

// child takes the father's surname, or his given name after a dot where that is
// the custom.
func (t *town) child(m *marriage, born time.Time) *resident {
	father := m.husband
	c := &resident{sex: t.pick(), born: born, ethnicity: father.ethnicity, district: father.district, mother: m.wife, father: father}
	if given, _, ok := cutDot(father.name); ok {
		c.name = one(t, t.long[c.sex]) + "·" + given
	} else {
		c.name = t.surnameOf(father.name) + one(t, t.given[c.sex])
	}
	c.relation = map[sex]string{male: "子", female: "女"}[c.sex]
	t.number(c)
	t.certify(c)
	if c.age() >= 20 {
		t.employ(c)
	}
	return c
}

// certify makes the number of a child's birth certificate.
func (t *town) certify(c *resident) {
	c.birthNo = fmt.Sprintf("%c%09d", 'A'+rune(c.born.Year()%26), t.between(1, 999999999))
}

// divorced are two people who live apart; the children are with the mother.
func (t *town) divorced(age int) {
	m := t.marry(t.adult(male, age), t.adult(female, max(24, age+t.between(-4, 2))))
	m.status = "离异"
	on := m.on.AddDate(t.between(2, 8), t.rng.IntN(12), 0)
	if on.After(today()) {
		on = today().AddDate(0, 0, -t.between(0, 20))
	}
	if on.Before(m.on) {
		on = m.on
	}
	m.remarks = "离婚登记 " + on.Format(time.DateOnly)
	var with []*resident
	for _, c := range t.children(m) {
		if c.born.Before(on) {
			with = append(with, c)
		}
	}
	t.move(append([]*resident{m.wife}, with...)...)
	t.move(m.husband)
}

func (t *town) widowed(age int) { t.move(t.bereaved(t.pick(), age)) }

// bereaved is one whose spouse has died, and so lives nowhere in the town.
func (t *town) bereaved(s sex, age int) *resident {
	left := t.adult(s, age)
	var m *marriage
	if s == female {
		m = t.marry(t.adult(male, age+t.between(0, 6)), left)
	} else {
		m = t.marry(left, t.adult(female, max(age-t.between(0, 6), 50)))
	}
	m.status, m.remarks = "丧偶", "配偶死亡, 户口已注销"
	return left
}
