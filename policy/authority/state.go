package authority

import (
	"errors"
	"fmt"

	"xinqiao/policy"
)

// State is where a record stands in its life.
type State = policy.AuthorityState

// Event is what can happen to a record.
type Event string

// The events.
const (
	Refuse     Event = "refuse"     // the subject says no; not asked again for the same purpose for a while
	Give       Event = "give"       // the subject says yes; confirmation is outstanding
	Confirm    Event = "confirm"    // through the subject's own key, or a channel the grantee does not control
	Lapse      Event = "lapse"      // the confirmation was denied or did not come
	Suspend    Event = "suspend"    // challenged, suspended by the provider, or guardians disagree
	Resume     Event = "resume"     //
	Withdraw   Event = "withdraw"   // by the subject, PIPL Art. 15
	Exhaust    Event = "exhaust"    // the last read is committed
	Expire     Event = "expire"     // its time has come
	Supersede  Event = "supersede"  // a new record takes its place
	Invalidate Event = "invalidate" // a court or an upheld challenge
	EndUse     Event = "end_use"    // the data must now be disposed of
	Dispose    Event = "dispose"    // a disposal certificate is there
)

// ErrTransition reports an event that cannot happen in a state.
var ErrTransition = errors.New("no such transition of an authority record")

// transition is one line of the life of a record.
type transition struct {
	from State
	on   Event
	to   State
}

// transitions is the life of a record, whole. Withdrawal is possible from every
// state in which the record could still come to authorise.
func transitions() []transition {
	const (
		offered, refused, pending, active       = policy.StateOffered, policy.StateRefused, policy.StatePending, policy.StateActive
		suspended, withdrawn, expired           = policy.StateSuspended, policy.StateWithdrawn, policy.StateExpired
		exhausted, superseded, invalid          = policy.StateExhausted, policy.StateSuperseded, policy.StateInvalid
		disposalDue, disposed             State = policy.StateDisposalDue, policy.StateDisposed
	)
	return []transition{
		{offered, Refuse, refused}, {offered, Give, pending}, {offered, Invalidate, invalid},
		{pending, Confirm, active}, {pending, Lapse, invalid}, {pending, Withdraw, withdrawn}, {pending, Invalidate, invalid},
		{active, Suspend, suspended}, {active, Withdraw, withdrawn}, {active, Exhaust, exhausted}, {active, Expire, expired},
		{active, Supersede, superseded}, {active, Invalidate, invalid},
		{suspended, Resume, active}, {suspended, Withdraw, withdrawn}, {suspended, Expire, expired}, {suspended, Invalidate, invalid},
		{withdrawn, EndUse, disposalDue}, {expired, EndUse, disposalDue}, {exhausted, EndUse, disposalDue},
		{superseded, EndUse, disposalDue},
		{withdrawn, Invalidate, invalid}, {expired, Invalidate, invalid}, {exhausted, Invalidate, invalid},
		{superseded, Invalidate, invalid}, {disposalDue, Invalidate, invalid},
		{disposalDue, Dispose, disposed},
	}
}

// Next returns the state that follows. An event that cannot happen in the state
// is ErrTransition, and the state stays as it is.
func Next(s State, e Event) (State, error) {
	for _, t := range transitions() {
		if t.from == s && t.on == e {
			return t.to, nil
		}
	}
	return s, fmt.Errorf("%w: %s of one that is %s", ErrTransition, e, s)
}

// Authorises reports whether a record in the state permits anything.
func Authorises(s State) bool { return s == policy.StateActive }

// Terminal reports whether nothing can follow the state.
func Terminal(s State) bool {
	return s == policy.StateRefused || s == policy.StateInvalid || s == policy.StateDisposed
}
