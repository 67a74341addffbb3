package demo

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"xinqiao/exchange"
)

// rows returns what is on record of an item.
func (t *town) rows(item exchange.Item) []row {
	from := map[exchange.Item]func(*resident) map[exchange.Field]string{
		MarriageRecord: marriageRow, HouseholdRecord: householdRow, InsuranceRecord: insuranceRow, IncomeCertificate: incomeRow,
		PropertyRecord: propertyRow, BirthCertificate: t.birthRow, PractisingLicence: licenceRow,
	}[item]
	var list []row
	for _, r := range t.residents {
		if values := from(r); values != nil {
			list = append(list, row{r.subject(), values})
		}
	}
	return list
}

// Each of the following returns a resident's record, or nil when there is none.

func marriageRow(r *resident) map[exchange.Field]string {
	m := r.marriage
	if m == nil {
		return nil
	}
	spouse := m.husband
	if r == m.husband {
		spouse = m.wife
	}
	values := map[exchange.Field]string{"record_no": m.number, "marital_status": m.status, "registered_on": m.on.Format(time.DateOnly),
		"registry": m.registry, "holder_name": r.name, "holder_id_no": r.id, "spouse_name": spouse.name, "spouse_id_no": spouse.id,
		"certificate_no": m.number + "-" + string(map[sex]byte{male: 'A', female: 'B'}[r.sex]), "remarks": m.remarks,
		"photo": portrait(m.husband.hue, m.wife.hue)}
	if m.status == "离异" {
		// Who somebody was married to is nobody's business any more.
		values["spouse_name"], values["spouse_id_no"], values["photo"] = "", "", ""
	}
	return values
}

func householdRow(r *resident) map[exchange.Field]string {
	return map[exchange.Field]string{"name": r.name, "sex": string(r.sex), "birth_date": r.born.Format(time.DateOnly), "id_no": r.id,
		"ethnicity": r.ethnicity, "address": r.address, "household_no": r.householdNo, "relation_to_head": r.relation, "photo": portrait(r.hue)}
}

func insuranceRow(r *resident) map[exchange.Field]string {
	w := r.work
	if w == nil {
		return nil
	}
	status := "正常参保"
	if !w.active {
		status = "暂停缴费"
	}
	return map[exchange.Field]string{"name": r.name, "id_no": r.id, "insured_since": w.since.Format(time.DateOnly),
		"months_paid": strconv.Itoa(w.months), "employer_name": w.employer.name, "employer_uscc": w.employer.uscc, "status": status,
		"monthly_base": strconv.Itoa(w.base)}
}

func incomeRow(r *resident) map[exchange.Field]string {
	w := r.work
	last := today().Year() - 1
	if w == nil || !w.active || w.since.Year() > last {
		return nil
	}
	return map[exchange.Field]string{"name": r.name, "id_no": r.id, "year": strconv.Itoa(last), "taxable_income": strconv.Itoa(w.income),
		"tax_paid": strconv.Itoa(taxOf(w.income)), "certificate_no": fmt.Sprintf("9901%d%s", last, r.id[6:17]), "issued_on": day(last+1, time.July, 1).Format(time.DateOnly)}
}

func propertyRow(r *resident) map[exchange.Field]string {
	if r.home == nil {
		return nil
	}
	return map[exchange.Field]string{"name": r.name, "id_no": r.id, "property_no": r.home.number, "address": r.address,
		"area_sqm": strconv.FormatFloat(r.home.area, 'f', 1, 64), "registered_on": r.home.on.Format(time.DateOnly), "mortgage": r.home.mortgage,
		"status": "现势"}
}

func (t *town) birthRow(r *resident) map[exchange.Field]string {
	if r.birthNo == "" {
		return nil
	}
	return map[exchange.Field]string{"certificate_no": r.birthNo, "child_name": r.name, "born_on": r.born.Format(time.DateOnly),
		"mother_name": r.mother.name, "mother_id_no": r.mother.id, "father_name": r.father.name, "father_id_no": r.father.id,
		"hospital": t.hospitals[r.hue%len(t.hospitals)].name}
}

func licenceRow(r *resident) map[exchange.Field]string {
	if r.work == nil || r.work.physician == "" {
		return nil
	}
	from := day(2023+r.hue%3, time.January, 1)
	return map[exchange.Field]string{"name": r.name, "id_no": r.id, "licence_no": r.work.physician, "category": "临床",
		"valid_from": from.Format(time.DateOnly), "valid_to": from.AddDate(5, 0, -1).Format(time.DateOnly), "status": "有效"}
}

// portrait draws one silhouette for each hue, as a data URL: a picture of nobody
// that still is a picture.
func portrait(hues ...int) string {
	svg := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d 48">`, 40*len(hues))
	for i, h := range hues {
		x := 20 + 40*i
		svg += fmt.Sprintf(`<g fill="hsl(%d,40%%,45%%)"><circle cx="%d" cy="18" r="10"/><ellipse cx="%d" cy="44" rx="18" ry="14"/></g>`, h, x, x)
	}
	return "data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(svg+"</svg>"))
}
