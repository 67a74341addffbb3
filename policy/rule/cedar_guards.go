package rule

import (
	"maps"
	"slices"
	"time"

	"github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"

	"xinqiao/exchange"
	"xinqiao/policy"
)

// guard is one forbid and the code that it stands for.
type guard struct {
	code   exchange.Code
	policy *ast.Policy
}

// unless forbids, for the code, what does not satisfy the condition.
func unless(code exchange.Code, holds ast.Node) guard {
	return guard{code, annotate(code).Forbid().Unless(holds)}
}

// when forbids, for the code, what satisfies the condition.
func when(code exchange.Code, fails ast.Node) guard {
	return guard{code, annotate(code).Forbid().When(fails)}
}

func annotate(code exchange.Code) *ast.Annotations {
	return ast.Annotation("code", types.String(code))
}

func attr(name types.String) ast.Node { return ast.Context().Access(name) }

func of(record, name types.String) ast.Node { return ast.Context().Access(record).Access(name) }

func dept(d exchange.Dept) ast.Node { return ast.Value(types.NewEntityUID("Dept", types.String(d))) }

func item(i exchange.Item) ast.Node { return ast.Value(types.NewEntityUID("Item", types.String(i))) }

// oneOf is membership in a constant set. The set is built with ast.Set: a set
// wrapped as a value makes the validator of cedar-go panic.
func oneOf[T ~string](node ast.Node, list []T) ast.Node {
	elements := make([]ast.Node, len(list))
	for i, v := range list {
		elements[i] = ast.String(string(v))
	}
	return ast.Set(elements...).Contains(node)
}

func inForce(from, to ast.Node) ast.Node {
	return attr("at").GreaterThanOrEqual(from).And(attr("at").LessThan(to))
}

// dated is whether the time is known. Below 1970 cedar-go's toTime is negative,
// so nothing about the time of day is asked there.
func dated() ast.Node {
	return attr("at").GreaterThanOrEqual(ast.Datetime(time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC)))
}

// asked limits a condition to requests that ask for at least one view.
func asked(n ast.Node) ast.Node { return attr("views").GreaterThan(ast.Long(0)).And(n) }

// permit is the one permit of a rule: its item to its recipients. Everything
// else about it is a forbid.
func permit(r *policy.Rule) *ast.Policy {
	return ast.Annotation("rule", types.String(r.ID)).Permit().
		ActionEq(types.NewEntityUID("Action", "read")).
		ResourceEq(types.NewEntityUID("Item", types.String(r.Item))).When(recipient(r))
}

func recipient(r *policy.Rule) ast.Node {
	var depts []ast.Node
	for _, to := range r.To {
		depts = append(depts, dept(to.Dept))
	}
	return ast.Set(depts...).Contains(ast.Principal())
}

func commonGuards() []guard {
	g := []guard{
		unless(exchange.DenyBadMessage, attr("well_formed")),
		unless(exchange.DenyUndetermined, dated()),
		unless(exchange.DenyMember, attr("holder_active")),
		unless(exchange.DenyMember, attr("requester_active")),
		unless(exchange.DenyUnknownItem, attr("item_known")),
		unless(exchange.DenyMaterial, attr("materials_current")),
		unless(exchange.DenyCase, attr("case_open")),
		when(exchange.DenyOperator, attr("role").Equal(ast.String(""))),
	}
	return append(append(g, grantGuards()...), authorityGuards()...)
}

func grantGuards() []guard {
	present, named := of("grant", "present"), of("grant", "items").Contains(attr("item"))
	covered := of("grant", "views").Contains(attr("scope_view")).Or(of("grant", "values").Contains(attr("scope_field")))
	return []guard{
		unless(exchange.DenyNoGrant, present),
		when(exchange.DenyNoGrant, present.And(ast.Not(of("grant", "active")))),
		when(exchange.DenyNoGrant, present.And(ast.Not(inForce(of("grant", "from"), of("grant", "to"))))),
		when(exchange.DenyNoGrant, present.And(ast.Not(named))),
		when(exchange.DenyGrantScope, present.And(named).And(ast.Not(of("grant", "scopes").Contains(attr("item_purpose"))))),
		when(exchange.DenyGrantScope, asked(present.And(named).And(ast.Not(attr("view_valid").And(covered))))),
	}
}

func authorityGuards() []guard {
	present, state := of("authority", "present"), of("authority", "state")
	is := func(s policy.AuthorityState) ast.Node { return present.And(state.Equal(ast.String(string(s)))) }
	scope := func(holds ast.Node) guard { return when(exchange.DenyAuthScope, present.And(ast.Not(holds))) }
	covered := of("authority", "views").Contains(attr("item_view")).Or(of("authority", "values").Contains(attr("item_field")))
	known := []policy.AuthorityState{policy.StateActive, policy.StateWithdrawn, policy.StateExpired, policy.StateExhausted}
	return []guard{
		unless(exchange.DenyNoAuthority, present.And(oneOf(state, known))),
		when(exchange.DenyWithdrawn, is(policy.StateWithdrawn)),
		when(exchange.DenyAuthExpired, is(policy.StateExpired)),
		when(exchange.DenyExhausted, is(policy.StateExhausted)),
		when(exchange.DenyAuthExpired, present.And(ast.Not(inForce(of("authority", "from"), of("authority", "to"))))),
		when(exchange.DenyExhausted, present.And(ast.Not(of("authority", "reads_left").GreaterThan(ast.Long(0))))),
		scope(of("authority", "provider").Equal(attr("holder"))),
		scope(of("authority", "grantee").Equal(attr("requester"))),
		scope(of("authority", "subject_matches")),
		scope(of("authority", "case_matches")),
		scope(of("authority", "matter").Equal(attr("matter"))),
		scope(of("authority", "purposes").Contains(attr("purpose"))),
		when(exchange.DenyAuthScope, asked(present.And(ast.Not(attr("view_valid").And(covered))))),
	}
}

func baselineGuards(b *policy.Baseline) []guard {
	if b == nil {
		return []guard{unless(exchange.DenyUndetermined, ast.False())}
	}
	g := []guard{
		unless(exchange.DenyBaseline, oneOf(attr("purpose"), codes(b.Purposes))),
		unless(exchange.DenyBaseline, oneOf(attr("matter"), codes(b.Matters))),
		unless(exchange.DenyBaseline, attr("role").Equal(ast.String("")).Or(oneOf(attr("role"), codes(b.Roles)))),
		when(exchange.DenyBaseline, of("authority", "present").And(ast.Not(oneOf(of("authority", "basis"), b.Bases)))),
	}
	for i := range b.Forbid {
		p := &b.Forbid[i]
		reach := asked(attr("rank").GreaterThan(ast.Long(int64(p.Above))))
		if p.Class != "" {
			reach = reach.And(attr("class").Equal(ast.String(p.Class)))
		}
		if p.Item != "" {
			reach = reach.And(ast.Resource().Equal(item(p.Item)))
		}
		if len(p.To) > 0 {
			reach = reach.And(oneOf(attr("requester"), p.To))
		}
		if len(p.Purposes) > 0 {
			reach = reach.And(oneOf(attr("purpose"), p.Purposes))
		}
		if len(p.Fields) > 0 {
			reach = reach.And(oneOf(attr("field"), p.Fields))
		}
		g = append(g, when(exchange.DenyBaseline, reach))
	}
	return g
}

func restrictionGuards(own *policy.Restrictions) []guard {
	if own == nil {
		return []guard{unless(exchange.DenyUndetermined, ast.False())}
	}
	theirs := ast.Principal().Equal(dept(own.Dept))
	g := []guard{unless(exchange.DenyUndetermined, theirs)}
	for _, l := range own.Limit {
		applies := theirs
		if l.Item != "" {
			applies = applies.And(ast.Resource().Equal(item(l.Item)))
		}
		forbid := func(fails ast.Node) { g = append(g, when(exchange.DenyRequester, applies.And(fails))) }
		if len(l.Roles) > 0 {
			forbid(ast.Not(oneOf(attr("role"), l.Roles)))
		}
		if len(l.Purposes) > 0 {
			forbid(ast.Not(oneOf(attr("purpose"), l.Purposes)))
		}
		if len(l.Never) > 0 {
			forbid(asked(oneOf(attr("field"), l.Never)))
		}
		if h := l.Hours; h != nil {
			minutes := func(n int) ast.Node { return ast.Duration(time.Duration(n) * time.Minute) }
			clock := attr("at").Offset(minutes(h.Offset)).ToTime()
			forbid(dated().And(ast.Not(clock.GreaterThanOrEqual(minutes(h.From)).And(clock.LessThan(minutes(h.To))))))
		}
	}
	return g
}

func ruleGuards(r *policy.Rule) []guard {
	var views permits
	for _, name := range slices.Sorted(maps.Keys(r.Fields)) {
		for _, v := range r.Fields[name] {
			if v.Field == name {
				views.add(v)
			}
		}
	}
	matter, role := ast.False(), ast.False()
	for i := len(r.To) - 1; i >= 0; i-- { // backwards, so that the first entry of a department is asked first
		to := r.To[i]
		matter = ast.IfThenElse(ast.Principal().Equal(dept(to.Dept)), oneOf(attr("matter"), to.Matters), matter)
		role = ast.IfThenElse(ast.Principal().Equal(dept(to.Dept)), oneOf(attr("role"), to.Roles), role)
	}
	present := of("authority", "present")
	g := []guard{
		unless(exchange.DenyNoRule, ast.Resource().Equal(item(r.Item)).
			And(attr("holder").Equal(ast.String(string(r.Provider)))).And(recipient(r))),
		unless(exchange.DenyRuleExpired, inForce(ast.Datetime(r.NotBefore), ast.Datetime(r.NotAfter))),
		unless(exchange.DenyPurpose, oneOf(attr("purpose"), r.Purposes)),
		unless(exchange.DenyMatter, matter),
		unless(exchange.DenyOperator, attr("role").NotEqual(ast.String("")).And(role)),
		when(exchange.DenyField, asked(ast.Not(attr("view_valid").And(constants(views.views).Contains(attr("view")).
			Or(constants(views.values).Contains(attr("view_field"))))))),
		when(exchange.DenyBasis, present.And(ast.Not(oneOf(of("authority", "basis"), r.Basis)))),
	}
	if n := r.Limits.PerCase; n > 0 {
		reads := of("authority", "max_reads")
		g = append(g, when(exchange.DenyAuthScope, present.And(ast.Not(
			reads.GreaterThanOrEqual(ast.Long(1)).And(reads.LessThanOrEqual(ast.Long(int64(n))))))))
	}
	if n := r.Limits.PerOfficerDay; n > 0 {
		g = append(g, unless(exchange.DenyUndetermined, attr("officer_known")),
			unless(exchange.DenyExhausted, attr("officer_reads").LessThan(ast.Long(int64(n)))))
	}
	if r.Limits.Batch > 1 {
		g = append(g, unless(exchange.DenyUndetermined, ast.False()))
	}
	return g
}

func constants(values []types.Value) ast.Node {
	elements := make([]ast.Node, len(values))
	for i, v := range values {
		elements[i] = ast.Value(v)
	}
	return ast.Set(elements...)
}
