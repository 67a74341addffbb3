package policy

import (
	"slices"

	"xinqiao/exchange"
)

func (f *Facts) checkForm(r *findings) {
	r.unless(f.WellFormed(), exchange.DenyBadMessage, "")
	r.unless(f.dated(), exchange.DenyUndetermined, "time")
}

func (f *Facts) checkParties(r *findings) {
	r.unless(f.HolderActive, exchange.DenyMember, "holder")
	r.unless(f.RequesterActive, exchange.DenyMember, "requester")
	r.unless(f.ItemKnown, exchange.DenyUnknownItem, "")
	r.unless(f.MaterialsCurrent, exchange.DenyMaterial, "")
	r.unless(f.CaseOpen, exchange.DenyCase, "")
	r.unless(f.Role != "", exchange.DenyOperator, "")
}

func (f *Facts) checkBaseline(r *findings) {
	b := f.Baseline
	if b == nil {
		r.add(exchange.DenyUndetermined, "baseline")
		return
	}
	r.unless(lists(b.Purposes, string(f.Purpose)), exchange.DenyBaseline, "purpose")
	r.unless(lists(b.Matters, string(f.Matter)), exchange.DenyBaseline, "matter")
	r.unless(f.Role == "" || lists(b.Roles, string(f.Role)), exchange.DenyBaseline, "role")
	r.unless(!f.Authority.Present || slices.Contains(b.Bases, f.Authority.Basis), exchange.DenyBaseline, "basis")
	for i := range b.Forbid {
		p := &b.Forbid[i]
		for _, v := range f.Views {
			if p.covers(f, v) {
				r.addUnder(exchange.DenyBaseline, p.Article, p.ID+": "+detail(v))
			}
		}
	}
}

// checkRules finds the holder's rule for the request. Several rules may open
// one item to one department; any of them suffices. When none does, the reasons
// are those of the one that comes closest: fewest codes, then lowest id. It
// returns that rule, or nil when no rule opens the item to the requester.
func (f *Facts) checkRules(r *findings) *Rule {
	var best *Rule
	var least findings
	for i := range f.Rules {
		rule := &f.Rules[i]
		to, ok := rule.recipient(f.Requester)
		if !ok || rule.Item != f.Item || rule.Provider != f.Holder {
			continue
		}
		var failed findings
		f.checkRule(rule, to, &failed)
		if n, m := failed.codes(), least.codes(); best == nil || n < m || n == m && rule.ID < best.ID {
			best, least = rule, failed
		}
	}
	r.unless(best != nil, exchange.DenyNoRule, "")
	for _, reason := range least.list {
		r.addUnder(reason.Code, reason.Article, reason.Detail)
	}
	return best
}

func (f *Facts) checkRule(rule *Rule, to Recipient, r *findings) {
	a := &f.Authority
	r.unless(inForce(f.At, rule.NotBefore, rule.NotAfter), exchange.DenyRuleExpired, rule.ID)
	r.unless(slices.Contains(rule.Purposes, f.Purpose), exchange.DenyPurpose, string(f.Purpose))
	r.unless(slices.Contains(to.Matters, f.Matter), exchange.DenyMatter, string(f.Matter))
	r.unless(f.Role != "" && slices.Contains(to.Roles, f.Role), exchange.DenyOperator, string(f.Role))
	for _, v := range f.Views {
		r.unless(coveredBy(rule.Fields[v.Field], v), exchange.DenyField, detail(v))
	}
	r.unless(!a.Present || slices.Contains(rule.Basis, a.Basis), exchange.DenyBasis, string(a.Basis))
	if n := rule.Limits.PerCase; n > 0 && a.Present {
		r.unless(a.MaxReads >= 1 && a.MaxReads <= int(n), exchange.DenyAuthScope, "max_reads")
	}
	if n := rule.Limits.PerOfficerDay; n > 0 {
		r.unless(f.OfficerReads.Known, exchange.DenyUndetermined, "officer_reads")
		r.unless(f.OfficerReads.N < n, exchange.DenyExhausted, "per_officer_day")
	}
	r.unless(rule.Limits.Batch <= 1, exchange.DenyUndetermined, "batch")
}

func (f *Facts) checkRestrictions(r *findings) {
	own := f.Restrictions
	if own == nil || own.Dept != f.Requester {
		r.add(exchange.DenyUndetermined, "restrictions")
		return
	}
	for _, l := range own.Limit {
		if l.Item != "" && l.Item != f.Item {
			continue
		}
		r.unless(within(l.Roles, f.Role), exchange.DenyRequester, l.ID+": role")
		r.unless(within(l.Purposes, f.Purpose), exchange.DenyRequester, l.ID+": purpose")
		r.unless(l.Hours == nil || !f.dated() || l.Hours.Includes(f.At), exchange.DenyRequester, l.ID+": hours")
		for _, v := range f.Views {
			r.unless(!slices.Contains(l.Never, v.Field), exchange.DenyRequester, l.ID+": "+detail(v))
		}
	}
}

func (f *Facts) checkGrant(r *findings) {
	g := &f.Grant
	if !g.Present {
		r.add(exchange.DenyNoGrant, "")
		return
	}
	r.unless(g.Active, exchange.DenyNoGrant, "withdrawn")
	r.unless(inForce(f.At, g.NotBefore, g.NotAfter), exchange.DenyNoGrant, "validity")
	var named, purpose bool
	var views []exchange.View
	for _, item := range g.Items {
		if item.Item != f.Item {
			continue
		}
		named = true
		if slices.Contains(item.Purposes, f.Purpose) {
			purpose = true
			views = append(views, item.Views...)
		}
	}
	if !named {
		r.add(exchange.DenyNoGrant, string(f.Item))
		return
	}
	r.unless(purpose, exchange.DenyGrantScope, string(f.Purpose))
	for _, v := range f.Views {
		r.unless(coveredBy(views, v), exchange.DenyGrantScope, detail(v))
	}
}

func (f *Facts) checkAuthority(r *findings) {
	a := &f.Authority
	if !a.Present {
		r.add(exchange.DenyNoAuthority, "")
		return
	}
	switch a.State {
	case StateActive:
	case StateWithdrawn:
		r.add(exchange.DenyWithdrawn, "")
	case StateExpired:
		r.add(exchange.DenyAuthExpired, "")
	case StateExhausted:
		r.add(exchange.DenyExhausted, "")
	default:
		r.add(exchange.DenyNoAuthority, string(a.State))
	}
	r.unless(inForce(f.At, a.NotBefore, a.NotAfter), exchange.DenyAuthExpired, "")
	r.unless(a.ReadsLeft > 0, exchange.DenyExhausted, "")
	r.unless(a.Provider == f.Holder, exchange.DenyAuthScope, "provider")
	r.unless(a.Grantee == f.Requester, exchange.DenyAuthScope, "grantee")
	r.unless(a.SubjectMatches, exchange.DenyAuthScope, "subject")
	r.unless(a.CaseMatches, exchange.DenyAuthScope, "case")
	r.unless(a.Matter == f.Matter, exchange.DenyAuthScope, "matter")
	r.unless(slices.Contains(a.Purposes, f.Purpose), exchange.DenyAuthScope, string(f.Purpose))
	var views []exchange.View
	for _, v := range a.Views {
		if v.Item == f.Item {
			views = append(views, v.View)
		}
	}
	for _, v := range f.Views {
		r.unless(coveredBy(views, v), exchange.DenyAuthScope, detail(v))
	}
}

// coveredBy reports whether one of the permitted views covers v.
func coveredBy(permitted []exchange.View, v exchange.View) bool {
	for _, p := range permitted {
		if p.Covers(v) {
			return true
		}
	}
	return false
}
