package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"xinqiao/exchange"
	"xinqiao/exchange/api"
)

// denial is the problem document of an exchange that ended in a denial.
type denial = api.Problem

// kinds is the API's table of statuses, read backwards. Where a status has
// several kinds the document says which; the first stands when it does not.
func kinds(status int) []exchange.Kind {
	switch status {
	case http.StatusBadRequest:
		return []exchange.Kind{exchange.Invalid}
	case http.StatusUnauthorized:
		return []exchange.Kind{exchange.Unauthenticated}
	case http.StatusForbidden:
		return []exchange.Kind{exchange.Denied}
	case http.StatusNotFound:
		return []exchange.Kind{exchange.NotFound}
	case http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return []exchange.Kind{exchange.Unsupported}
	case http.StatusConflict:
		return []exchange.Kind{exchange.Conflict}
	case http.StatusRequestEntityTooLarge:
		return []exchange.Kind{exchange.TooLarge}
	case http.StatusUnprocessableEntity:
		return []exchange.Kind{exchange.Expired}
	case http.StatusBadGateway:
		return []exchange.Kind{exchange.Forged}
	case http.StatusServiceUnavailable: // when in doubt it may have happened
		return []exchange.Kind{exchange.Undetermined, exchange.Unavailable}
	}
	return []exchange.Kind{exchange.Internal, exchange.Integrity}
}

func kindOf(p api.Problem) exchange.Kind {
	possible := kinds(p.Status)
	if p.Code == exchange.CodeUnknownResult {
		return possible[0]
	}
	if i := slices.IndexFunc(possible, func(k exchange.Kind) bool { return k.String() == p.Kind }); i >= 0 {
		return possible[i]
	}
	return possible[0]
}

// refuse reads a response that is no success. A document that contradicts the
// status it came with is not a node's.
func (a *attempt) refuse(in call, body []byte, isProblem bool) {
	var p api.Problem
	if !isProblem || json.Unmarshal(body, &p) != nil || p.Code == "" || p.Status != a.status || p.Status < 400 {
		a.strange(in)
		return
	}
	if in.pends && p.Status == http.StatusForbidden && p.Outcome == exchange.Refused.String() {
		a.denial = &p
		return
	}
	e := &exchange.Error{Kind: kindOf(p), Code: p.Code, Op: "client", Msg: p.Detail, Hint: p.Hint, Pointer: p.Pointer, Reasons: toReasons(p.Reasons)}
	if e.Msg == "" {
		e.Msg = p.Title
	}
	if exchange.ValidID(p.TraceID) {
		e.Hint = strings.TrimSpace(e.Hint + " [trace " + p.TraceID + "]")
	}
	a.err, a.again = e, e.Kind == exchange.Unavailable || e.Kind == exchange.Undetermined
}

// strange makes an error of what did not come from a node: a proxy before it,
// say. Behind a proxy the node may have been reached.
func (a *attempt) strange(in call) {
	a.err = &exchange.Error{Kind: exchange.Internal, Code: exchange.CodeInternal, Op: "client",
		Msg: fmt.Sprintf("the response with status %d is not from a node", a.status), Hint: "check the node's address"}
	switch a.status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		a.again = true
		a.err.Kind, a.err.Code = exchange.Unavailable, exchange.CodePeerDown
		if in.writes {
			a.err.Kind, a.err.Code, a.err.Hint = exchange.Undetermined, exchange.CodeUnknownResult, askAgain
		}
	}
}
