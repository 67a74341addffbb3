package api

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"

	"xinqiao/exchange"
)

// authenticate returns the system whose token the request carries. Every
// configured system is compared, in constant time, so that the time taken does
// not tell which one came close.
func (s *server) authenticate(r *http.Request) (System, *exchange.Error) {
	refuse := func(msg string) (System, *exchange.Error) {
		return System{}, &exchange.Error{Kind: exchange.Unauthenticated, Code: exchange.CodeCredentials, Msg: msg,
			Hint: "send the system's token as Authorization: Bearer; the node's operator issues tokens"}
	}
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return refuse("the request carries no single Authorization header")
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > 512 {
		return refuse("the Authorization header does not carry a bearer token")
	}
	hash := s.cfg.Engine.Sum([]byte(token))
	found := -1
	for i := range s.cfg.Systems {
		if subtle.ConstantTimeCompare(hash[:], s.cfg.Systems[i].TokenHash[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return refuse("the token is unknown")
	}
	if !s.cfg.Clock().Before(s.cfg.Systems[found].Expires) {
		return refuse("the token has expired")
	}
	return s.cfg.Systems[found], nil
}

// permits reports whether the system has the scope.
func (sys System) permits(scope Scope) bool { return slices.Contains(sys.Scopes, scope) }
