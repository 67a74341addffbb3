package verify

// words are the labels of a report in one language. They are part of the
// evidence format: a changed word changes the report that is compared.
type words struct {
	title, claim                                                      string
	ledger, head, cosigned, exported                                  string
	entry, id, kind, when, signedBy, frame, result, leaf, count, span string
	asked, of, class, outcome, fact                                   string
	item, subject, views, purpose, matter, case_                      string
	operator, rule, reasons, sealed                                   string
	terms                                                             map[string]string
}

// term returns the word for a value of a closed list, or the value.
func (w words) term(s string) string {
	if t, ok := w.terms[s]; ok {
		return t
	}
	return s
}

func wordsOf(lang string) words {
	if lang == "en" {
		return words{
			title:  "Xinqiao evidence file",
			claim:  "This page is a reading aid. What it says is proven only when xqverify says so, with a trust file obtained from the sharing authority.",
			ledger: "ledger", head: "tree head", cosigned: "cosigned by", exported: "exported by",
			entry: "Entry", id: "id", kind: "kind", when: "time", signedBy: "signed by", frame: "frame", result: "result", leaf: "leaf hash (SM3)", count: "denials", span: "between",
			asked: "who asked", of: "of whom", class: "class", outcome: "outcome", fact: "change",
			item: "item", subject: "about", views: "fields", purpose: "purpose", matter: "matter", case_: "case",
			operator: "operator", rule: "rule", reasons: "reasons", sealed: "not disclosed in this file",
			terms: map[string]string{
				"access": "access", "ack": "acknowledgement", "fact": "fact", "view": "viewing by an officer",
				"clock": "time witnessed by a quorum", "denials": "denials beyond the quota, summed up",
				"allowed": "allowed", "no_record": "no record", "denied": "denied",
				"committed": "committed", "stale": "stale: nothing was released on it", "refused": "refused by the ledger",
			},
		}
	}
	return words{
		title:  "信桥存证文件",
		claim:  "本页仅供阅读。其内容须以 xqverify 结合从共享主管部门取得的信任文件核验通过为准。",
		ledger: "台账", head: "树头", cosigned: "会签部门", exported: "导出部门",
		entry: "条目", id: "编号", kind: "类别", when: "时间", signedBy: "签名部门", frame: "帧", result: "入账结果", leaf: "叶哈希 (SM3)", count: "拒绝次数", span: "起止时间",
		asked: "需求部门", of: "数源部门", class: "目录类别", outcome: "结果", fact: "变更",
		item: "目录项", subject: "数据主体", views: "数据项", purpose: "使用用途", matter: "政务服务事项", case_: "办件号",
		operator: "经办人", rule: "规则", reasons: "理由", sealed: "本文件未披露",
		terms: map[string]string{
			"access": "查询", "ack": "签收", "fact": "事实变更", "view": "人员查阅",
			"clock": "多数部门见证的时间", "denials": "超出定额的拒绝（汇总）",
			"allowed": "准予", "no_record": "无记录", "denied": "拒绝",
			"committed": "已入账", "stale": "依据已变更，未据此提供数据", "refused": "台账不予生效",
		},
	}
}
