package policy

import (
	"slices"

	"xinqiao/exchange"
)

// Decide judges one request. It allows only if every guard holds, and otherwise
// names every guard that does not. The order of the reasons is fixed: form,
// parties, item, case, baseline, holder's rule, requester's restrictions, share
// grant, authority record.
func Decide(f Facts) Decision {
	var failed findings
	f.checkForm(&failed)
	f.checkParties(&failed)
	f.checkBaseline(&failed)
	rule := f.checkRules(&failed)
	f.checkRestrictions(&failed)
	f.checkGrant(&failed)
	f.checkAuthority(&failed)

	d := Decision{Reasons: failed.list}
	if rule != nil {
		d.Rule = rule.ID
	}
	if rule == nil || len(failed.list) > 0 {
		return d
	}
	d.Allow = true
	d.Obligations = Obligations{Retain: rule.Retain, Onward: rule.Onward}
	d.permit = Permit{valid: true, holder: f.Holder, requester: f.Requester, item: f.Item, purpose: f.Purpose,
		views: slices.Clone(f.Views), rule: rule.ID}
	return d
}

// findings collects the guards that failed, each once.
type findings struct{ list []exchange.Reason }

func (r *findings) add(code exchange.Code, detail string) {
	_, article, _ := Explain(code, LangZH)
	r.addUnder(code, article, detail)
}

func (r *findings) addUnder(code exchange.Code, article, detail string) {
	reason := exchange.Reason{Code: code, Article: article, Detail: detail}
	if !slices.Contains(r.list, reason) {
		r.list = append(r.list, reason)
	}
}

// unless records the guard unless it holds.
func (r *findings) unless(holds bool, code exchange.Code, detail string) {
	if !holds {
		r.add(code, detail)
	}
}

// codes counts the different codes.
func (r *findings) codes() int {
	seen := make(map[exchange.Code]bool, len(r.list))
	for _, reason := range r.list {
		seen[reason.Code] = true
	}
	return len(seen)
}

// detail names a view in a reason.
func detail(v exchange.View) string {
	d := string(v.Field) + " " + v.Mode.String()
	if v.Predicate != "" {
		d += " " + v.Predicate
	}
	return d
}

// within reports whether list is empty, which selects all, or has v.
func within[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }
