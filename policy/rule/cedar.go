package rule

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"

	"xinqiao/exchange"
	"xinqiao/policy"
)

// ErrCedar reports that Cedar could not evaluate a policy. Cedar skips a forbid
// that fails, and so would allow: whoever meets this error denies
// (exchange.DenyJudges).
var ErrCedar = errors.New("cedar could not evaluate a policy")

// Layers is what is compiled: the holder's rules, the authority's baseline and
// the requester's restrictions, as they stand in policy.Facts.
type Layers struct {
	Rules        []policy.Rule
	Baseline     *policy.Baseline
	Restrictions *policy.Restrictions
}

// LayersOf returns the layers that stand in the facts.
func LayersOf(f policy.Facts) Layers {
	return Layers{Rules: f.Rules, Baseline: f.Baseline, Restrictions: f.Restrictions}
}

// Cedar is the second judge: the same layers as Cedar policies. Each guard is a
// forbid of its own, so that every failed guard is named. Each rule is judged in
// its own policy set, with the guards common to all; one that allows suffices.
type Cedar struct {
	common *cedar.PolicySet
	rules  []compiled // by id
}

type compiled struct {
	id  string
	set *cedar.PolicySet
}

const (
	commonPart = "common"
	rulePart   = "rule"
)

// CompileCedar compiles the layers.
func CompileCedar(l Layers) (*Cedar, error) {
	c := &Cedar{common: cedar.NewPolicySet()}
	shared := append(commonGuards(), append(baselineGuards(l.Baseline), restrictionGuards(l.Restrictions)...)...)
	if err := add(c.common, commonPart, shared); err != nil {
		return nil, err
	}
	for i := range l.Rules {
		r := &l.Rules[i]
		set := cedar.NewPolicySet()
		if err := add(set, commonPart, shared); err != nil {
			return nil, err
		}
		if err := add(set, rulePart, ruleGuards(r)); err != nil {
			return nil, err
		}
		set.Add("permit", cedar.NewPolicyFromAST(permit(r)))
		c.rules = append(c.rules, compiled{id: r.ID, set: set})
	}
	slices.SortStableFunc(c.rules, func(a, b compiled) int { return strings.Compare(a.id, b.id) })
	return c, nil
}

// add puts guards into a set under ids that carry their codes.
func add(set *cedar.PolicySet, part string, guards []guard) error {
	for i, g := range guards {
		id := cedar.PolicyID(part + "/" + string(g.code) + "/" + strconv.Itoa(i))
		if !set.Add(id, cedar.NewPolicyFromAST(g.policy)) {
			return fmt.Errorf("cedar policy %s stands twice", id)
		}
	}
	return nil
}

// Text returns the policies as Cedar text, to be run by anyone else's Cedar.
// Each part after a line "// rule ID" is one policy set.
func (c *Cedar) Text() []byte {
	var b bytes.Buffer
	for _, r := range c.rules {
		fmt.Fprintf(&b, "// rule %s\n%s\n", r.id, r.set.MarshalCedar())
	}
	return b.Bytes()
}

// Decide judges the facts by the compiled layers; the layers in the facts are
// not looked at. It returns the codes of the guards that failed, sorted. Any
// error means deny.
func (c *Cedar) Decide(f policy.Facts) (allow bool, failed []exchange.Code, err error) {
	asked := requests(f)
	var shared, best []exchange.Code
	applies := false
	for _, r := range c.rules {
		v, err := judge(r.set, asked)
		if err != nil {
			return false, nil, fmt.Errorf("rule %s: %w", r.id, err)
		}
		shared = v.common
		if slices.Contains(v.own, exchange.DenyNoRule) {
			continue
		}
		if v.permitted {
			allow = true
		}
		if !applies || len(v.own) < len(best) {
			best, applies = v.own, true
		}
	}
	if allow {
		return true, nil, nil
	}
	if len(c.rules) == 0 {
		v, err := judge(c.common, asked)
		if err != nil {
			return false, nil, err
		}
		shared = v.common
	}
	if !applies {
		best = []exchange.Code{exchange.DenyNoRule}
	}
	return false, union(shared, best), nil
}

// outcome is what one policy set says: the failed guards common to all rules,
// those of the rule, and whether every request was permitted.
type outcome struct {
	common, own []exchange.Code
	permitted   bool
}

// requests turns the facts into Cedar requests: one for each view, since Cedar
// has no quantifier, or one about nothing when no view is asked for.
func requests(f policy.Facts) []cedar.Request {
	views := f.Views
	if len(views) == 0 {
		views = []exchange.View{{}}
	}
	facts := context(f)
	out := make([]cedar.Request, len(views))
	for i, v := range views {
		out[i] = request(f, v, facts)
	}
	return out
}

func judge(set *cedar.PolicySet, asked []cedar.Request) (outcome, error) {
	v := outcome{permitted: true}
	for _, r := range asked {
		decision, diag := cedar.Authorize(set, nil, r)
		if len(diag.Errors) > 0 {
			return outcome{}, fmt.Errorf("%w: %s", ErrCedar, diag.Errors[0].PolicyID)
		}
		if decision == cedar.Allow {
			continue
		}
		v.permitted = false
		for _, reason := range diag.Reasons {
			part, rest, _ := strings.Cut(string(reason.PolicyID), "/")
			code, _, _ := strings.Cut(rest, "/")
			switch part {
			case commonPart:
				v.common = append(v.common, exchange.Code(code))
			case rulePart:
				v.own = append(v.own, exchange.Code(code))
			}
		}
	}
	v.common, v.own = union(v.common, nil), union(v.own, nil)
	return v, nil
}

func union(a, b []exchange.Code) []exchange.Code {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// Agree reports whether Cedar comes to the decision d about the facts, with the
// same codes. An error is disagreement.
func (c *Cedar) Agree(f policy.Facts, d policy.Decision) bool {
	allow, failed, err := c.Decide(f)
	return err == nil && allow == d.Allow && slices.Equal(failed, codesOf(d.Reasons))
}
