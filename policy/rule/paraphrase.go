package rule

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"xinqiao/exchange"
	"xinqiao/policy"
)

// Paraphrase says in plain words who may see which fields, for what and on what
// basis. It is what approvers read beside the rule. The vocabulary supplies the
// names; a code without one stands as it is. Languages other than English get
// Chinese. Fields of the item that the rule does not mention are listed among
// those never shown.
func Paraphrase(r policy.Rule, v Vocabulary, lang string) string {
	w := wordsZH()
	if lang == policy.LangEN {
		w = wordsEN()
	}
	var b strings.Builder
	c, _ := v.item(r.Item)
	fmt.Fprintf(&b, w.title, w.name(v.Depts, string(r.Provider)), w.pick(c.Title, c.TitleEN, string(r.Item)), r.ID)
	for _, to := range r.To {
		fmt.Fprintf(&b, w.who, w.name(v.Depts, string(to.Dept)), names(&w, v.Roles, to.Roles), names(&w, v.Matters, to.Matters))
	}
	fmt.Fprintf(&b, w.why, names(&w, v.Purposes, r.Purposes), w.bases(r.Basis))
	if len(r.Statute) > 0 {
		fmt.Fprintf(&b, w.statute, strings.Join(r.Statute, w.comma))
	}
	w.fields(&b, r, c)
	if r.Limits.PerCase > 0 {
		fmt.Fprintf(&b, w.perCase, r.Limits.PerCase)
	}
	if r.Limits.PerOfficerDay > 0 {
		fmt.Fprintf(&b, w.perDay, r.Limits.PerOfficerDay)
	}
	fmt.Fprintf(&b, w.retain, r.Retain)
	if r.Onward == "deny" {
		b.WriteString(w.onward)
	}
	at := beijing()
	fmt.Fprintf(&b, w.valid, r.NotBefore.In(at).Format("2006-01-02"), r.NotAfter.In(at).Format("2006-01-02"))
	return b.String()
}

// wording is one language of Paraphrase.
type wording struct {
	english                     bool
	comma                       string
	title, who, why, statute    string
	perCase, perDay             string
	retain, onward, valid       string
	modes                       map[exchange.Mode]string
	never                       string
	basis                       map[policy.BasisKind]string
	openQuote, closeQuote, line string
}

func wordsZH() wording {
	return wording{
		comma: "、", title: "%s 的“%s”（规则 %s）\n", who: "谁：%s 的%s，在办理%s时\n", why: "用途：%s；依据：%s\n",
		statute: "法律依据：%s\n", perCase: "每份授权最多可读 %d 次\n", perDay: "每名经办人每天最多可读 %d 次\n",
		retain: "保存期限：%s\n", onward: "不得再提供给他人\n", valid: "有效期：%s 至 %s（不含该日，北京时间）\n",
		modes: map[exchange.Mode]string{exchange.Value: "可以看到", exchange.Mask: "只能看到部分", exchange.Predicate: "只能得知是否成立",
			exchange.Compare: "只能核对", exchange.Exists: "只能得知有无"},
		never: "不能看到",
		basis: map[policy.BasisKind]string{policy.Consent: "当事人同意", policy.StatutoryDuty: "法定职责", policy.Emergency: "紧急情况",
			policy.LegalClaim: "司法程序", policy.SubjectRequest: "本人请求"},
		openQuote: "“", closeQuote: "”", line: "：",
	}
}

func wordsEN() wording {
	return wording{
		english: true, comma: ", ", title: "%s: %s (rule %s)\n", who: "Who: %s, %s, while handling %s\n",
		why: "Purpose: %s; basis: %s\n", statute: "Law: %s\n", perCase: "At most %d reads for each authority record\n",
		perDay: "At most %d reads a day for each operator\n", retain: "Kept for: %s\n", onward: "May not be passed on\n",
		valid: "Valid: %s until %s (exclusive, UTC+8)\n",
		modes: map[exchange.Mode]string{exchange.Value: "May see", exchange.Mask: "May see part of", exchange.Predicate: "May learn whether",
			exchange.Compare: "May only compare", exchange.Exists: "May learn whether there is"},
		never: "May not see",
		basis: map[policy.BasisKind]string{policy.Consent: "consent", policy.StatutoryDuty: "statutory duty", policy.Emergency: "emergency",
			policy.LegalClaim: "legal proceedings", policy.SubjectRequest: "the person's own request"},
		openQuote: `"`, closeQuote: `"`, line: ": ",
	}
}

func (w *wording) pick(zh, en, code string) string {
	s := zh
	if w.english {
		s = en
	}
	if s == "" {
		return code
	}
	return s
}

func (w *wording) name(terms []policy.Term, code string) string {
	for _, t := range terms {
		if t.Code == code {
			return w.pick(t.ZH, t.EN, code)
		}
	}
	return code
}

// names renders the codes of a list.
func names[T ~string](w *wording, terms []policy.Term, list []T) string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = w.openQuote + w.name(terms, string(c)) + w.closeQuote
	}
	return strings.Join(out, w.comma)
}

func (w *wording) bases(list []policy.BasisKind) string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = w.basis[b]
	}
	return strings.Join(out, w.comma)
}

// fields lists the fields by mode, the most open first, and last those that
// are never shown.
func (w *wording) fields(b *strings.Builder, r policy.Rule, c exchange.CatalogueItem) {
	title := func(f exchange.Field) string {
		cf, _ := field(c, f)
		return w.pick(cf.Title, cf.TitleEN, string(f))
	}
	order := slices.Sorted(maps.Keys(r.Fields))
	if len(c.Fields) > 0 {
		order = order[:0]
		for _, cf := range c.Fields {
			order = append(order, cf.Name)
		}
	}
	for mode := exchange.Value; mode > exchange.Never; mode-- {
		var list []string
		for _, f := range order {
			for _, v := range r.Fields[f] {
				switch {
				case v.Mode != mode:
				case mode == exchange.Predicate:
					list = append(list, title(f)+" ("+v.Predicate+")")
				default:
					list = append(list, title(f))
				}
			}
		}
		if len(list) > 0 {
			fmt.Fprintf(b, "%s%s%s\n", w.modes[mode], w.line, strings.Join(list, w.comma))
		}
	}
	var never []string
	for _, f := range order {
		if len(r.Fields[f]) == 0 {
			never = append(never, title(f))
		}
	}
	if len(never) > 0 {
		fmt.Fprintf(b, "%s%s%s\n", w.never, w.line, strings.Join(never, w.comma))
	}
}
