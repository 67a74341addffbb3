package api

import (
	"encoding/json"
	"net/http"
	"strconv"

	"xinqiao/exchange"
)

// status is the one table from kinds to HTTP. A code is looked at only where a
// kind has two faces.
func status(e *exchange.Error) int {
	if e.Code == exchange.CodeMethod {
		return http.StatusMethodNotAllowed
	}
	switch e.Kind {
	case exchange.Invalid:
		return http.StatusBadRequest
	case exchange.Unauthenticated:
		return http.StatusUnauthorized
	case exchange.Denied:
		return http.StatusForbidden
	case exchange.NotFound:
		return http.StatusNotFound
	case exchange.Conflict:
		return http.StatusConflict
	case exchange.TooLarge:
		return http.StatusRequestEntityTooLarge
	case exchange.Unsupported:
		return http.StatusUnsupportedMediaType
	case exchange.Expired:
		return http.StatusUnprocessableEntity
	case exchange.Forged:
		return http.StatusBadGateway // what the other node sent does not hold
	case exchange.Unavailable, exchange.Undetermined:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError // Internal, Integrity and whatever comes later
}

// retryable says whether the same request with the same key may succeed later.
func retryable(k exchange.Kind) bool {
	return k == exchange.Unavailable || k == exchange.Undetermined
}

// retryAfter is what a 503 and a 202 tell the caller to wait, in seconds.
const retryAfter = 2

// problem writes e as a problem document. It is the only exit for errors.
func (s *server) problem(w http.ResponseWriter, r *http.Request, e *exchange.Error) {
	s.write(w, r, s.document(r, e))
}

func (s *server) document(r *http.Request, e *exchange.Error) Problem {
	lang := language(r)
	if e.Code == "" {
		e = &exchange.Error{Kind: e.Kind, Code: exchange.CodeInternal, Err: e}
	}
	p := Problem{Type: "urn:xinqiao:problem:" + string(e.Code), Status: status(e), Kind: e.Kind.String(), Code: e.Code, Detail: e.Msg,
		Hint: e.Hint, Instance: r.URL.EscapedPath(), TraceID: trace(r), Pointer: e.Pointer, Reasons: s.reasons(e.Reasons, lang),
		Retryable: retryable(e.Kind)}
	text, known := s.texts[e.Code][lang]
	if title, _, remedy := s.cfg.Explain(e.Code, lang); title != "" {
		text, known = message{Title: title, Hint: remedy}, true
	}
	if known {
		p.Title = text.Title
	} else {
		p.Title = http.StatusText(p.Status)
	}
	if p.Hint == "" || (lang == langZH && known) {
		p.Hint = text.Hint
	}
	if lang == langZH && e.Kind != exchange.Invalid && known {
		p.Detail = text.Title // the exact words exist in English only; they matter for malformed input
	}
	return p
}

// denial writes an exchange that ended in a denial.
func (s *server) denial(w http.ResponseWriter, r *http.Request, a exchange.Answer) {
	e := &exchange.Error{Kind: exchange.Denied, Code: exchange.DenyUndetermined, Reasons: a.Reasons}
	if len(a.Reasons) > 0 {
		e.Code = a.Reasons[0].Code
	}
	p := s.document(r, e)
	p.ID, p.Outcome, p.Holder, p.Item, p.Receipt = a.ID, a.Outcome.String(), a.Holder, a.Item, toReceipt(a.Receipt)
	s.write(w, r, p)
}

func (s *server) write(w http.ResponseWriter, r *http.Request, p Problem) {
	if info := infoOf(r); info != nil {
		info.code = p.Code
	}
	raw, err := json.Marshal(p)
	if err != nil { // no member can fail to encode; if one ever does, say nothing more
		raw = []byte(`{"type":"about:blank","title":"internal","status":500,"kind":"internal","code":"XQ-INTERNAL","traceId":"","retryable":false}`)
		p.Status = http.StatusInternalServerError
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Language", language(r))
	h.Set("Vary", "Accept-Language")
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="xinqiao"`)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	w.WriteHeader(p.Status)
	w.Write(raw) // the status is out; a caller that has gone cannot be told
}

// reasons adds to each reason what a person needs to know about it.
func (s *server) reasons(in []exchange.Reason, lang string) []Reason {
	var out []Reason
	for _, r := range in {
		text, article, remedy := s.cfg.Explain(r.Code, lang)
		if article == "" {
			article = r.Article
		}
		out = append(out, Reason{Code: r.Code, Article: article, Detail: r.Detail, Text: text, Remedy: remedy})
	}
	return out
}
