package api

import (
	"errors"
	"net/http"
	"strconv"

	"xinqiao/exchange"
)

// idempotencyKey returns the request's key: 8 to 128 characters of A-Z, a-z,
// 0-9 and ._:-
func idempotencyKey(r *http.Request) (string, error) {
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) == 1 && len(keys[0]) >= 8 && len(keys[0]) <= 128 && only(keys[0], "._:-") {
		return keys[0], nil
	}
	return "", &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeIdempotency,
		Msg: "there is no single Idempotency-Key header of 8 to 128 letters, digits and ._:-"}
}

// only reports whether s consists of ASCII letters, digits and the bytes of extra.
func only(s, extra string) bool {
	for i := range len(s) {
		c := s[i]
		ok := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		for j := range len(extra) {
			ok = ok || extra[j] == c
		}
		if !ok {
			return false
		}
	}
	return true
}

func pathID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if !exchange.ValidID(id) {
		return "", invalid(exchange.CodeField, "", "the id in the address does not have 32 hexadecimal digits in lower case")
	}
	return id, nil
}

func (s *server) ask(w http.ResponseWriter, r *http.Request, sys System) error {
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var q Question
	if err := body(w, r, &q); err != nil {
		return err
	}
	noun := q.noun()
	if err := noun.Check(s.cfg.Population); err != nil {
		return err
	}
	a, err := s.cfg.Exchanges.Ask(r.Context(), sys.Name, key, noun)
	return s.ended(w, r, a, err)
}

func (s *server) answered(w http.ResponseWriter, r *http.Request, sys System) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	a, err := s.cfg.Exchanges.Answered(r.Context(), sys.Name, id)
	return s.ended(w, r, a, err)
}

// ended writes how an exchange ended, or that it has not.
func (s *server) ended(w http.ResponseWriter, r *http.Request, a exchange.Answer, err error) error {
	open := err == nil && a.Outcome == exchange.Undecided || err != nil && exchange.KindOf(err) == exchange.Undetermined
	switch {
	case open && exchange.ValidID(a.ID):
		infoOf(r).code = exchange.CodeUnknownResult
		h := w.Header()
		h.Set("Location", "/api/v1/exchanges/"+a.ID)
		h.Set("Retry-After", strconv.Itoa(retryAfter))
		return reply(w, http.StatusAccepted, Answer{ID: a.ID, Outcome: exchange.Undecided.String(), Holder: a.Holder, Item: a.Item})
	case err != nil:
		return err
	case a.Outcome == exchange.Refused:
		s.denial(w, r, a)
		return nil
	case a.Outcome != exchange.Allowed && a.Outcome != exchange.NoRecord:
		return &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeUnknownResult, Msg: "how the exchange ended is not known yet"}
	case a.Receipt.Entry == "": // no release without a record: whatever gave us this is broken
		return &exchange.Error{Kind: exchange.Internal, Code: exchange.CodeInternal, Op: "api.ended",
			Msg: "the node could not complete the request", Err: errors.New("an answer came without a receipt")}
	}
	return reply(w, http.StatusOK, toAnswer(a))
}

func (s *server) receipt(w http.ResponseWriter, r *http.Request, sys System) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	a, err := s.cfg.Exchanges.Answered(r.Context(), sys.Name, id)
	if err != nil {
		return err
	}
	receipt := toReceipt(a.Receipt)
	if receipt == nil {
		return &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeUnknownResult, Msg: "the exchange has no entry yet"}
	}
	return reply(w, http.StatusOK, receipt)
}
