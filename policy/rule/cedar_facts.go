package rule

import (
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"xinqiao/exchange"
	"xinqiao/policy"
)

// key joins parts into one string that no other parts give.
func key(parts ...string) types.String {
	q := make([]string, len(parts))
	for i, p := range parts {
		q[i] = strconv.Quote(p)
	}
	return types.String(strings.Join(q, " "))
}

func viewKey(v exchange.View, before ...string) types.String {
	return key(append(before, string(v.Field), v.Mode.String(), v.Predicate)...)
}

func fieldKey(f exchange.Field, before ...string) types.String {
	return key(append(before, string(f))...)
}

// permits turns permitted views into the two sets that guards look into: the
// views as such, and the fields whose value is permitted, which covers every
// other mode of them.
type permits struct{ views, values []types.Value }

func (p *permits) add(v exchange.View, before ...string) {
	if !v.Valid() {
		return
	}
	p.views = append(p.views, viewKey(v, before...))
	if v.Mode == exchange.Value {
		p.values = append(p.values, fieldKey(v.Field, before...))
	}
}

// request is the question about one view. The facts come with it as context;
// the attributes view… are about the view alone.
func request(f policy.Facts, v exchange.View, facts cedar.RecordMap) cedar.Request {
	all := make(cedar.RecordMap, len(facts)+8)
	for k, value := range facts {
		all[k] = value
	}
	item, purpose := string(f.Item), string(f.Purpose)
	all["field"] = types.String(v.Field)
	all["rank"] = types.Long(v.Mode)
	all["view_valid"] = types.Boolean(v.Valid())
	all["view"], all["view_field"] = viewKey(v), fieldKey(v.Field)
	all["item_view"], all["item_field"] = viewKey(v, item), fieldKey(v.Field, item)
	all["scope_view"], all["scope_field"] = viewKey(v, item, purpose), fieldKey(v.Field, item, purpose)
	return cedar.Request{
		Principal: cedar.NewEntityUID("Dept", types.String(f.Requester)),
		Action:    cedar.NewEntityUID("Action", "read"),
		Resource:  cedar.NewEntityUID("Item", types.String(f.Item)),
		Context:   cedar.NewRecord(all),
	}
}

// context is the facts that do not depend on the view. Every attribute is
// always there, so that no guard can fail for want of one.
func context(f policy.Facts) cedar.RecordMap {
	return cedar.RecordMap{
		"at":          types.NewDatetime(f.At),
		"well_formed": types.Boolean(f.WellFormed()), "views": types.Long(len(f.Views)),
		"holder": types.String(f.Holder), "requester": types.String(f.Requester),
		"holder_active":    types.Boolean(f.HolderActive),
		"requester_active": types.Boolean(f.RequesterActive),
		"item":             types.String(f.Item), "class": types.String(f.Item.Class()),
		"item_known":        types.Boolean(f.ItemKnown),
		"materials_current": types.Boolean(f.MaterialsCurrent),
		"case_open":         types.Boolean(f.CaseOpen),
		"role":              types.String(f.Role), "purpose": types.String(f.Purpose), "matter": types.String(f.Matter),
		"officer_known": types.Boolean(f.OfficerReads.Known), "officer_reads": types.Long(f.OfficerReads.N),
		"grant": grantRecord(f), "authority": authorityRecord(f.Authority),
		"item_purpose": key(string(f.Item), string(f.Purpose)),
	}
}

func grantRecord(f policy.Facts) cedar.Record {
	var items, scopes []types.Value
	var p permits
	for _, g := range f.Grant.Items {
		items = append(items, types.String(g.Item))
		for _, purpose := range g.Purposes {
			scopes = append(scopes, key(string(g.Item), string(purpose)))
			for _, v := range g.Views {
				p.add(v, string(g.Item), string(purpose))
			}
		}
	}
	return cedar.NewRecord(cedar.RecordMap{
		"present": types.Boolean(f.Grant.Present), "active": types.Boolean(f.Grant.Active),
		"from": types.NewDatetime(f.Grant.NotBefore), "to": types.NewDatetime(f.Grant.NotAfter),
		"items": types.NewSet(items...), "scopes": types.NewSet(scopes...),
		"views": types.NewSet(p.views...), "values": types.NewSet(p.values...),
	})
}

func authorityRecord(a policy.Authority) cedar.Record {
	var purposes []types.Value
	for _, purpose := range a.Purposes {
		purposes = append(purposes, types.String(purpose))
	}
	var p permits
	for _, v := range a.Views {
		p.add(v.View, string(v.Item))
	}
	return cedar.NewRecord(cedar.RecordMap{
		"present": types.Boolean(a.Present), "state": types.String(a.State), "basis": types.String(a.Basis),
		"provider": types.String(a.Provider), "grantee": types.String(a.Grantee),
		"subject_matches": types.Boolean(a.SubjectMatches), "case_matches": types.Boolean(a.CaseMatches),
		"matter": types.String(a.Matter), "purposes": types.NewSet(purposes...),
		"views": types.NewSet(p.views...), "values": types.NewSet(p.values...),
		"from": types.NewDatetime(a.NotBefore), "to": types.NewDatetime(a.NotAfter),
		"max_reads": types.Long(a.MaxReads), "reads_left": types.Long(a.ReadsLeft),
	})
}
