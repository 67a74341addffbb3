package demo

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/exchange"
)

func population(t *testing.T) *Population {
	t.Helper()
	p, err := People()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// find returns the one record of an item about a subject.
func find(p *Population, dept exchange.Dept, item exchange.Item, s exchange.Subject) (Record, bool) {
	i := slices.IndexFunc(p.Records(dept), func(r Record) bool { return r.Item == item && r.Subject == s })
	if i < 0 {
		return Record{}, false
	}
	return p.Records(dept)[i], true
}

func of(p *Population, dept exchange.Dept, item exchange.Item) []Record {
	return slices.DeleteFunc(slices.Clone(p.Records(dept)), func(r Record) bool { return r.Item != item })
}

func TestPeopleAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	if !reflect.DeepEqual(population(t), population(t)) {
		t.Error("two populations from one seed")
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	p := population(t)
	if n := len(p.Subjects()); n < 250 || n > 500 {
		t.Errorf("%d people", n)
	}
	for _, c := range []struct {
		dept exchange.Dept
		item exchange.Item
		min  int
	}{{Gongan, HouseholdRecord, 250}, {Minzheng, MarriageRecord, 150}, {Renshe, InsuranceRecord, 100}, {Shuiwu, IncomeCertificate, 80},
		{Zhujian, PropertyRecord, 40}, {Weijian, BirthCertificate, 40}, {Weijian, PractisingLicence, 5}} {
		n := len(of(p, c.dept, c.item))
		t.Logf("%s: %d", c.item, n)
		if n < c.min {
			t.Errorf("%s: %d records, want at least %d", c.item, n, c.min)
		}
	}
}

func TestEveryFieldIsThere(t *testing.T) {
	t.Parallel()
	want := map[exchange.Item][]exchange.Field{
		MarriageRecord:    {"record_no", "marital_status", "registered_on", "registry", "holder_name", "holder_id_no", "spouse_name", "spouse_id_no", "certificate_no", "remarks", "photo"},
		HouseholdRecord:   {"name", "sex", "birth_date", "id_no", "ethnicity", "address", "household_no", "relation_to_head", "photo"},
		InsuranceRecord:   {"name", "id_no", "insured_since", "months_paid", "employer_name", "employer_uscc", "status", "monthly_base"},
		IncomeCertificate: {"name", "id_no", "year", "taxable_income", "tax_paid", "certificate_no", "issued_on"},
		PropertyRecord:    {"name", "id_no", "property_no", "address", "area_sqm", "registered_on", "mortgage", "status"},
		BirthCertificate:  {"certificate_no", "child_name", "born_on", "mother_name", "mother_id_no", "father_name", "father_id_no", "hospital"},
		PractisingLicence: {"name", "id_no", "licence_no", "category", "valid_from", "valid_to", "status"},
	}
	// Everything else has a value in every record.
	mayBeEmpty := map[exchange.Field]bool{"remarks": true, "spouse_name": true, "spouse_id_no": true, "photo": true}
	p := population(t)
	for _, d := range Departments() {
		for _, r := range p.Records(d.Dept) {
			var got []exchange.Field
			for _, f := range r.Fields {
				got = append(got, f.Field)
				if f.Value == "" && (!mayBeEmpty[f.Field] || r.Item != MarriageRecord) {
					t.Errorf("%s: a record has no %s", r.Item, f.Field)
				}
			}
			if diff := cmp.Diff(want[r.Item], got); diff != "" {
				t.Fatalf("%s: %s", r.Item, diff)
			}
		}
	}
}

func TestCatalogue(t *testing.T) {
	t.Parallel()
	items := 0
	for _, d := range Departments() {
		for _, c := range Catalogue(d.Dept) {
			items++
			if !c.Item.Valid() || c.Holder != d.Dept || c.Provider != d.USCC || c.Title == "" || c.TitleEN == "" || c.Version == 0 || c.Sharing != "conditional" {
				t.Errorf("%s: %+v", c.Item, c)
			}
			seen := map[exchange.Field]bool{}
			for _, f := range c.Fields {
				if !f.Name.Valid() || seen[f.Name] || f.Title == "" || f.TitleEN == "" ||
					!slices.Contains([]string{textType, dateType, numberType, codeType, imageType}, f.Type) {
					t.Errorf("%s: field %+v", c.Item, f)
				}
				seen[f.Name] = true
				for _, pred := range f.Predicates {
					if v := (exchange.View{Field: f.Name, Mode: exchange.Predicate, Predicate: pred}); !v.Valid() {
						t.Errorf("%s: view %+v", c.Item, v)
					}
				}
			}
		}
	}
	if items != 7 {
		t.Errorf("%d items", items)
	}
	if len(Catalogue("nobody")) != 0 {
		t.Error("a department that is not there holds something")
	}
}

// TestNobodyIsReal: no number in the demo could be looked up anywhere else.
func TestNobodyIsReal(t *testing.T) {
	t.Parallel()
	p := population(t)
	synthetic := func(what string, s exchange.Subject) {
		if err := s.Check(exchange.Synthetic); err != nil {
			t.Errorf("%s is refused by a synthetic exchange: %v", what, err)
		}
		if s.Check(exchange.Real) == nil {
			t.Errorf("%s could be a real one", what)
		}
	}
	seen := map[exchange.Subject]bool{}
	for _, s := range p.Subjects() {
		synthetic("a person's number", s)
		if seen[s] {
			t.Error("two people have one number")
		}
		seen[s] = true
	}
	for _, d := range Departments() {
		synthetic(string(d.Dept)+"'s code", exchange.Subject{Kind: exchange.Organisation, ID: d.USCC})
		for _, r := range p.Records(d.Dept) {
			for _, f := range r.Fields {
				if f.Value == "" {
					continue
				}
				if strings.HasSuffix(string(f.Field), "id_no") {
					synthetic(string(f.Field), exchange.Subject{Kind: exchange.Person, ID: f.Value})
				}
				if strings.HasSuffix(string(f.Field), "uscc") {
					synthetic(string(f.Field), exchange.Subject{Kind: exchange.Organisation, ID: f.Value})
				}
			}
		}
	}
}

func TestOneRecordEach(t *testing.T) {
	t.Parallel()
	p := population(t)
	for _, d := range Departments() {
		seen := map[string]bool{}
		for _, r := range p.Records(d.Dept) {
			key := string(r.Item) + r.Subject.ID
			if seen[key] {
				t.Errorf("%s: two records of one person", r.Item)
			}
			seen[key] = true
			if !slices.Contains(p.Subjects(), r.Subject) {
				t.Errorf("%s: a record of nobody", r.Item)
			}
		}
	}
}

func TestSpousesShareARecord(t *testing.T) {
	t.Parallel()
	p := population(t)
	records := of(p, Minzheng, MarriageRecord)
	byID := map[string]Record{}
	holders := map[string]int{} // by record number
	for _, r := range records {
		byID[r.Subject.ID] = r
		holders[r.Value("record_no")]++
	}
	for _, r := range records {
		if r.Value("holder_id_no") != r.Subject.ID {
			t.Error("a record is about another person than its holder")
		}
		home, ok := find(p, Gongan, HouseholdRecord, r.Subject)
		if !ok || home.Value("name") != r.Value("holder_name") {
			t.Error("public security and civil affairs know a person by two names")
		}
		spouse, lives := byID[r.Value("spouse_id_no")]
		switch r.Value("marital_status") {
		case "已婚":
			if !lives || spouse.Value("record_no") != r.Value("record_no") || spouse.Value("spouse_id_no") != r.Subject.ID ||
				spouse.Value("holder_name") != r.Value("spouse_name") || spouse.Value("spouse_name") != r.Value("holder_name") ||
				spouse.Value("registered_on") != r.Value("registered_on") || holders[r.Value("record_no")] != 2 {
				t.Errorf("record %s differs between the spouses", r.Value("record_no"))
			}
		case "丧偶":
			if lives || r.Value("spouse_name") == "" || holders[r.Value("record_no")] != 1 {
				t.Errorf("record %s: a widow whose spouse has a record", r.Value("record_no"))
			}
		case "离异":
			if r.Value("spouse_name") != "" || holders[r.Value("record_no")] != 2 {
				t.Errorf("record %s of a divorce", r.Value("record_no"))
			}
		default:
			t.Errorf("marital status %q", r.Value("marital_status"))
		}
	}
}

func TestParentsAreOlder(t *testing.T) {
	t.Parallel()
	p := population(t)
	for _, r := range of(p, Weijian, BirthCertificate) {
		for _, parent := range []exchange.Field{"mother", "father"} {
			home, ok := find(p, Gongan, HouseholdRecord, exchange.Subject{Kind: exchange.Person, ID: r.Value(parent + "_id_no")})
			if !ok || home.Value("name") != r.Value(parent+"_name") {
				t.Fatalf("the %s of a child is not on record", parent)
			}
			born, err := time.Parse(time.DateOnly, home.Value("birth_date"))
			if err != nil {
				t.Fatal(err)
			}
			child, err := time.Parse(time.DateOnly, r.Value("born_on"))
			if err != nil {
				t.Fatal(err)
			}
			if child.Before(born.AddDate(18, 0, 0)) || child.After(today()) {
				t.Errorf("a %s born on %s of a child born on %s", parent, home.Value("birth_date"), r.Value("born_on"))
			}
		}
	}
}

func TestHouseholdsAndDates(t *testing.T) {
	t.Parallel()
	p := population(t)
	heads := map[string]int{}
	for _, r := range of(p, Gongan, HouseholdRecord) {
		if r.Value("relation_to_head") == "户主" {
			heads[r.Value("household_no")]++
		} else {
			heads[r.Value("household_no")] += 0
		}
		if got := r.Subject.ID[6:14]; got != strings.ReplaceAll(r.Value("birth_date"), "-", "") {
			t.Errorf("born on %s by the number and on %s by the record", got, r.Value("birth_date"))
		}
		if odd := (r.Subject.ID[16]-'0')%2 == 1; odd != (r.Value("sex") == string(male)) {
			t.Error("the number tells another sex than the record")
		}
	}
	for no, n := range heads {
		if n != 1 {
			t.Errorf("household %s has %d heads", no, n)
		}
	}
	for _, d := range Departments() {
		for _, c := range Catalogue(d.Dept) {
			for _, r := range of(p, d.Dept, c.Item) {
				for _, f := range c.Fields {
					if f.Type != dateType {
						continue
					}
					on, err := time.Parse(time.DateOnly, r.Value(f.Name))
					if err != nil || (f.Name != "valid_to" && on.After(today())) {
						t.Errorf("%s: %s is %q", c.Item, f.Name, r.Value(f.Name))
					}
				}
			}
		}
	}
}

func TestCast(t *testing.T) {
	t.Parallel()
	p := population(t)
	name := func(s exchange.Subject) string {
		r, ok := find(p, Gongan, HouseholdRecord, s)
		if !ok {
			return ""
		}
		return r.Value("name")
	}
	for want, s := range map[string]exchange.Subject{WifeName: Wife(), HusbandName: Husband(), ChildName: Child(), UnmarriedName: Unmarried(),
		ElderName: Elder(), WidowName: Widow()} {
		if got := name(s); got != want {
			t.Errorf("%s is %q", want, got)
		}
	}
	marriage, ok := find(p, Minzheng, MarriageRecord, Wife())
	if !ok || marriage.Value("marital_status") != "已婚" || marriage.Value("spouse_name") != HusbandName || len(marriage.Fields) != 11 {
		t.Errorf("the couple's record: %v", marriage.Item)
	}
	if _, ok := find(p, Minzheng, MarriageRecord, Unmarried()); ok {
		t.Error("there is a marriage record of the unmarried")
	}
	if r, ok := find(p, Minzheng, MarriageRecord, Widow()); !ok || r.Value("marital_status") != "丧偶" {
		t.Error("the widow is none")
	}
	for _, s := range []exchange.Subject{Wife(), Husband()} {
		if _, ok := find(p, Zhujian, PropertyRecord, s); ok {
			t.Error("the couple owns a home and asks for support")
		}
		if r, ok := find(p, Renshe, InsuranceRecord, s); !ok || len(r.Value("months_paid")) != 2 {
			t.Error("one of the couple is not insured")
		}
		if _, ok := find(p, Shuiwu, IncomeCertificate, s); !ok {
			t.Error("one of the couple has no income certificate")
		}
	}
	if _, ok := find(p, Weijian, BirthCertificate, Child()); !ok {
		t.Error("the child has no birth certificate")
	}
}

// TestRareNamesSurvive: characters outside the basic plane, one of an extension,
// names of four characters, and long names with a dot.
func TestRareNamesSurvive(t *testing.T) {
	t.Parallel()
	p := population(t)
	var all []string
	for _, r := range of(p, Gongan, HouseholdRecord) {
		all = append(all, r.Value("name"))
	}
	joined := strings.Join(all, " ")
	for _, c := range []string{"𬱖", "𠮷", "㛃", "䶮", "·", "欧阳德顺"} {
		if !strings.Contains(joined, c) {
			t.Errorf("nobody's name has %s", c)
		}
	}
	if strings.ContainsRune(joined, '\uFFFD') {
		t.Error("a name was cut")
	}
}

func TestTax(t *testing.T) {
	t.Parallel()
	// At each step of the table the two rates give the same tax.
	for _, c := range []struct{ income, want int }{{0, 0}, {36000, 1080}, {36100, 1090}, {144000, 11880}, {300000, 43080}, {420000, 73080},
		{660000, 145080}, {960000, 250080}, {1000000, 268080}} {
		if got := taxOf(c.income); got != c.want {
			t.Errorf("tax on %d is %d, want %d", c.income, got, c.want)
		}
	}
}
