package policy

import "xinqiao/exchange"

// The languages of Explain.
const (
	LangZH = "zh-CN"
	LangEN = "en"
)

// explanation is what a person is told about one failed guard.
type explanation struct{ text, article, remedy string }

// Explain tells a person what a code of denial means, the law it rests on and
// what to do. Languages other than English get Chinese. A code that is not one
// of denial yields empty strings. The texts never say whether a person is on
// record.
func Explain(code exchange.Code, lang string) (text, article, remedy string) {
	e := explainZH(code)
	if lang == LangEN || lang == "en-US" || lang == "en-GB" {
		e = explainEN(code)
	}
	return e.text, e.article, e.remedy
}
