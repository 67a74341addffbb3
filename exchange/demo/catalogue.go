package demo

import "xinqiao/exchange"

// The departments of the demo.
const (
	Gongan   exchange.Dept = "gongan"
	Minzheng exchange.Dept = "minzheng"
	Renshe   exchange.Dept = "renshe"
	Zhujian  exchange.Dept = "zhujian"
	Shuiwu   exchange.Dept = "shuiwu"
	Weijian  exchange.Dept = "weijian"
)

// The items that they hold.
const (
	MarriageRecord    exchange.Item = "civil/marriage-record"
	HouseholdRecord   exchange.Item = "population/household-record"
	InsuranceRecord   exchange.Item = "social/insurance-record"
	IncomeCertificate exchange.Item = "tax/income-certificate"
	PropertyRecord    exchange.Item = "housing/property-record"
	BirthCertificate  exchange.Item = "health/birth-certificate"
	PractisingLicence exchange.Item = "licence/practising-certificate"
)

// Department is one member of the demo's exchange.
type Department struct {
	Dept   exchange.Dept
	Name   string // Chinese, short
	NameEN string
	USCC   string // synthetic unified social credit code
	Voter  bool   // its node votes in the ledger; the others replicate
}

// Departments returns the six departments in a fixed order, voters first.
func Departments() []Department {
	return []Department{
		{Gongan, "公安", "Public Security", syntheticUSCC("11990100MB1A00011"), true},
		{Minzheng, "民政", "Civil Affairs", syntheticUSCC("11990100MB1A00022"), true},
		{Zhujian, "住建", "Housing and Urban-Rural Development", syntheticUSCC("11990100MB1A00033"), true},
		{Renshe, "人社", "Human Resources and Social Security", syntheticUSCC("11990100MB1A00044"), false},
		{Shuiwu, "税务", "Taxation", syntheticUSCC("11990100MB1A00055"), false},
		{Weijian, "卫健", "Health", syntheticUSCC("11990100MB1A00066"), false},
	}
}

// schema is the version of every item of this catalogue.
const schema = 1

// Catalogue returns what a department holds; nothing for one that is not of the
// demo.
func Catalogue(dept exchange.Dept) []exchange.CatalogueItem {
	var items []exchange.CatalogueItem
	switch dept {
	case Minzheng:
		items = append(items, item(MarriageRecord, "婚姻登记信息", "Marriage registration record", marriageFields()))
	case Gongan:
		items = append(items, item(HouseholdRecord, "户籍信息", "Household registration record", householdFields()))
	case Renshe:
		items = append(items, item(InsuranceRecord, "社会保险参保缴费信息", "Social insurance record", insuranceFields()))
	case Shuiwu:
		items = append(items, item(IncomeCertificate, "个人所得税纳税记录", "Individual income tax certificate", incomeFields()))
	case Zhujian:
		items = append(items, item(PropertyRecord, "房屋产权登记信息", "Real property record", propertyFields()))
	case Weijian:
		items = append(items, item(BirthCertificate, "出生医学证明", "Medical certificate of birth", birthFields()),
			item(PractisingLicence, "医师执业证书", "Physician's practising certificate", licenceFields()))
	}
	for i := range items {
		items[i].Holder = dept
		for _, d := range Departments() {
			if d.Dept == dept {
				items[i].Provider = d.USCC
			}
		}
	}
	return items
}

func item(name exchange.Item, title, titleEN string, fields []exchange.CatalogueField) exchange.CatalogueItem {
	return exchange.CatalogueItem{Item: name, Title: title, TitleEN: titleEN, Version: schema, Fields: fields, Sharing: "conditional"}
}

// Types of fields in the catalogue.
const (
	textType   = "text"
	dateType   = "date"
	numberType = "number"
	codeType   = "code"
	imageType  = "image"
)

func plain(name exchange.Field, kind, title, titleEN string, predicates ...string) exchange.CatalogueField {
	return exchange.CatalogueField{Name: name, Title: title, TitleEN: titleEN, Type: kind, Predicates: predicates}
}

// sensitive marks what PIPL Art. 28 or the field's power to identify calls for
// more care with.
func sensitive(name exchange.Field, kind, title, titleEN string, predicates ...string) exchange.CatalogueField {
	f := plain(name, kind, title, titleEN, predicates...)
	f.Sensitive = true
	return f
}

func marriageFields() []exchange.CatalogueField {
	return []exchange.CatalogueField{
		plain("record_no", codeType, "登记档案号", "Record number"),
		plain("marital_status", codeType, "婚姻状况", "Marital status"),
		plain("registered_on", dateType, "登记日期", "Date of registration"),
		plain("registry", textType, "登记机关", "Registry"),
		plain("holder_name", textType, "当事人姓名", "Holder's name"),
		sensitive("holder_id_no", codeType, "当事人公民身份号码", "Holder's identity number"),
		plain("spouse_name", textType, "配偶姓名", "Spouse's name"),
		sensitive("spouse_id_no", codeType, "配偶公民身份号码", "Spouse's identity number"),
		plain("certificate_no", codeType, "证书字号", "Certificate number"),
		sensitive("remarks", textType, "备注", "Remarks"),
		sensitive("photo", imageType, "合影照片", "Photograph"),
	}
}

func householdFields() []exchange.CatalogueField {
	return []exchange.CatalogueField{
		plain("name", textType, "姓名", "Name"),
		plain("sex", codeType, "性别", "Sex"),
		plain("birth_date", dateType, "出生日期", "Date of birth", "age>=18", "age>=60"),
		sensitive("id_no", codeType, "公民身份号码", "Identity number"),
		sensitive("ethnicity", codeType, "民族", "Ethnicity"),
		sensitive("address", textType, "住址", "Address"),
		plain("household_no", codeType, "户号", "Household number"),
		plain("relation_to_head", codeType, "与户主关系", "Relation to the head of household"),
		sensitive("photo", imageType, "照片", "Photograph"),
	}
}

func insuranceFields() []exchange.CatalogueField {
	return []exchange.CatalogueField{
		plain("name", textType, "姓名", "Name"),
		sensitive("id_no", codeType, "公民身份号码", "Identity number"),
		plain("insured_since", dateType, "参保日期", "Insured since"),
		plain("months_paid", numberType, "累计缴费月数", "Months paid", "months_paid>=12", "months_paid>=24"),
		plain("employer_name", textType, "参保单位名称", "Employer"),
		plain("employer_uscc", codeType, "参保单位统一社会信用代码", "Employer's unified social credit code"),
		plain("status", codeType, "参保状态", "Status"),
		sensitive("monthly_base", numberType, "月缴费基数", "Monthly contribution base"),
	}
}

func incomeFields() []exchange.CatalogueField {
	return []exchange.CatalogueField{
		plain("name", textType, "姓名", "Name"),
		sensitive("id_no", codeType, "公民身份号码", "Identity number"),
		plain("year", numberType, "纳税年度", "Tax year"),
		sensitive("taxable_income", numberType, "应纳税所得额", "Taxable income", "taxable_income<=60000", "taxable_income<=120000"),
		sensitive("tax_paid", numberType, "已缴税额", "Tax paid"),
		plain("certificate_no", codeType, "纳税记录编号", "Certificate number"),
		plain("issued_on", dateType, "开具日期", "Date of issue"),
	}
}

func propertyFields() []exchange.CatalogueField {
	return []exchange.CatalogueField{
		plain("name", textType, "权利人姓名", "Owner's name"),
		sensitive("id_no", codeType, "公民身份号码", "Identity number"),
		plain("property_no", codeType, "不动产单元号", "Property number"),
		sensitive("address", textType, "坐落", "Location"),
		plain("area_sqm", numberType, "建筑面积(平方米)", "Floor area in square metres"),
		plain("registered_on", dateType, "登记日期", "Date of registration"),
		sensitive("mortgage", codeType, "抵押状态", "Mortgage"),
		plain("status", codeType, "权属状态", "Status"),
	}
}

func birthFields() []exchange.CatalogueField {
	return []exchange.CatalogueField{
		plain("certificate_no", codeType, "出生医学证明编号", "Certificate number"),
		plain("child_name", textType, "新生儿姓名", "Child's name"),
		plain("born_on", dateType, "出生日期", "Date of birth"),
		plain("mother_name", textType, "母亲姓名", "Mother's name"),
		sensitive("mother_id_no", codeType, "母亲公民身份号码", "Mother's identity number"),
		plain("father_name", textType, "父亲姓名", "Father's name"),
		sensitive("father_id_no", codeType, "父亲公民身份号码", "Father's identity number"),
		plain("hospital", textType, "接生机构", "Hospital"),
	}
}

func licenceFields() []exchange.CatalogueField {
	return []exchange.CatalogueField{
		plain("name", textType, "姓名", "Name"),
		sensitive("id_no", codeType, "公民身份号码", "Identity number"),
		plain("licence_no", codeType, "执业证书编码", "Licence number"),
		plain("category", codeType, "执业类别", "Category"),
		plain("valid_from", dateType, "有效期自", "Valid from"),
		plain("valid_to", dateType, "有效期至", "Valid to"),
		plain("status", codeType, "状态", "Status"),
	}
}
