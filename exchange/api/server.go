package api

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/httpsig"
	"xinqiao/exchange"
)

//go:embed openapi.yaml
var openAPI string

type server struct {
	cfg      Config
	texts    map[exchange.Code]map[string]message
	inFlight chan struct{}  // one token per request that is being served
	signers  map[string]int // index of each system with a key, by its name
	verifier *httpsig.Verifier
}

// route is one line of the table of routes.
type route struct {
	method, path string
	scope        Scope // empty: anyone
	query        bool  // takes parameters, which handle checks; others are refused
	handle       func(s *server, w http.ResponseWriter, r *http.Request, sys System) error
}

// routes lists everything the API answers. A test holds it against openapi.yaml.
func routes() []route {
	return []route{
		{"POST", "/api/v1/exchanges", ScopeExchange, false, (*server).ask},
		{"GET", "/api/v1/exchanges/{id}", ScopeExchange, false, (*server).answered},
		{"GET", "/api/v1/exchanges/{id}/receipt", ScopeExchange, false, (*server).receipt},
		{"POST", "/api/v1/authorities", ScopeConsent, false, (*server).register},
		{"GET", "/api/v1/authorities/{id}", ScopeConsent, false, (*server).authority},
		{"POST", "/api/v1/authorities/{id}/withdrawal", ScopeConsent, false, (*server).withdraw},
		{"GET", "/api/v1/catalogue", ScopeCatalogue, true, (*server).catalogue},
		{"GET", "/api/v1/catalogue/{class}/{name}", ScopeCatalogue, false, (*server).catalogueItem},
		{"GET", "/api/v1/ledger/entries", ScopeLedger, true, (*server).entries},
		{"POST", "/api/v1/ledger/entries/search", ScopeLedger, false, (*server).search},
		{"GET", "/api/v1/ledger/entries/{index}", ScopeLedger, false, (*server).entry},
		{"GET", "/api/v1/ledger/entries/{index}/proof", ScopeLedger, false, (*server).proof},
		{"GET", "/api/v1/ledger/checkpoint", ScopeLedger, false, (*server).checkpoint},
		{"GET", "/api/v1/ledger/evidence", ScopeLedger, true, (*server).evidence},
		{"GET", "/api/v1/openapi.yaml", "", false, (*server).spec},
	}
}

// New returns the handler of everything under /api/. It is safe for concurrent
// use. Its only state are the nonces of signed requests, in memory; signatures
// from before the call are refused.
func New(cfg Config) (http.Handler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	texts, err := texts()
	if err != nil {
		return nil, err
	}
	s := &server{cfg: cfg, texts: texts, inFlight: make(chan struct{}, cfg.MaxInFlight)}
	s.verify()
	byPath := map[string]map[string]route{}
	for _, rt := range routes() {
		if byPath[rt.path] == nil {
			byPath[rt.path] = map[string]route{}
		}
		byPath[rt.path][rt.method] = rt
	}
	mux := http.NewServeMux()
	for pattern, methods := range byPath {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.dispatch(w, r, pattern, methods) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, r, &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound, Msg: "there is no such address"})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(mux, w, r) }), nil
}

// verify sets up the verification of signed requests.
func (s *server) verify() {
	s.signers = map[string]int{}
	for i, sys := range s.cfg.Systems {
		if !sys.Key.IsZero() {
			s.signers[sys.Name] = i
		}
	}
	s.verifier = &httpsig.Verifier{Engine: s.cfg.Engine, Host: s.cfg.Host, Replays: httpsig.NewReplays(s.cfg.Engine, s.cfg.Clock(), maxNonces),
		Key: func(id string) (gm.PublicKey, bool) {
			i, ok := s.signers[id]
			if !ok {
				return gm.PublicKey{}, false
			}
			return s.cfg.Systems[i].Key, true
		}}
}

// info is what the canonical log line says about a request. Nothing in it comes
// from a body or a query.
type info struct {
	trace  string
	route  string
	system string
	code   exchange.Code
	err    error // the cause of a failure of ours
	status int
}

type infoKey struct{}

func infoOf(r *http.Request) *info {
	i, _ := r.Context().Value(infoKey{}).(*info)
	return i
}

func trace(r *http.Request) string {
	if i := infoOf(r); i != nil {
		return i.trace
	}
	return ""
}

// recorder notes the status that was sent.
type recorder struct {
	http.ResponseWriter
	info *info
}

func (w *recorder) WriteHeader(status int) {
	if w.info.status == 0 {
		w.info.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// serve wraps every request: trace id, bound on concurrency, recovery and the
// one log line.
func (s *server) serve(mux http.Handler, rw http.ResponseWriter, r *http.Request) {
	start := s.cfg.Clock()
	in := &info{trace: traceID(r), route: "none"}
	r = r.WithContext(context.WithValue(r.Context(), infoKey{}, in))
	w := &recorder{ResponseWriter: rw, info: in}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Trace-Id", in.trace)
	defer s.finish(r, in, start)
	defer func() {
		if p := recover(); p != nil {
			// The value is left out: it could quote what was being handled.
			in.err = fmt.Errorf("panic of type %T\n%s", p, debug.Stack())
			if in.status == 0 {
				s.problem(w, r, &exchange.Error{Kind: exchange.Internal, Code: exchange.CodeInternal, Msg: "the node could not complete the request"})
			}
		}
	}()
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		s.problem(w, r, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeBusy, Msg: "too many requests are being served"})
		return
	}
	if r.URL.Path != path.Clean(r.URL.Path) { // the mux would answer with a redirect, in HTML
		s.problem(w, r, &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound, Msg: "there is no such address"})
		return
	}
	mux.ServeHTTP(w, r)
}

func (s *server) finish(r *http.Request, in *info, start time.Time) {
	took := s.cfg.Clock().Sub(start)
	attrs := []slog.Attr{slog.String("route", in.route), slog.String("method", method(r)), slog.Int("status", in.status),
		slog.String("code", string(in.code)), slog.Duration("duration", took), slog.String("system", in.system),
		slog.String("trace_id", in.trace)}
	level := slog.LevelInfo
	if in.err != nil {
		level = gravity(in.err)
		attrs = append(attrs, slog.String("cause", in.err.Error()))
	}
	s.cfg.Log.LogAttrs(r.Context(), level, "api request", attrs...)
	if s.cfg.Observe != nil {
		s.cfg.Observe(in.route, in.status, took.Seconds())
	}
}

// gravity is how loudly a failure is logged. What passes, as a quorum that is
// missing or a basis that has just been withdrawn does, asks nobody to mend anything.
func gravity(err error) slog.Level {
	switch exchange.KindOf(err) {
	case exchange.Unavailable, exchange.Undetermined:
		return slog.LevelWarn
	}
	return slog.LevelError
}

// method keeps what a caller invents out of the log.
func method(r *http.Request) string {
	if slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, r.Method) {
		return r.Method
	}
	return "other"
}

func (s *server) dispatch(w http.ResponseWriter, r *http.Request, pattern string, methods map[string]route) {
	in := infoOf(r)
	in.route = pattern
	m := r.Method
	if m == http.MethodHead {
		m = http.MethodGet
	}
	rt, ok := methods[m]
	if !ok {
		var allow []string
		for m := range methods {
			allow = append(allow, m)
		}
		slices.Sort(allow)
		w.Header().Set("Allow", strings.Join(allow, ", "))
		s.problem(w, r, &exchange.Error{Kind: exchange.Unsupported, Code: exchange.CodeMethod, Msg: "the address does not take this method"})
		return
	}
	var sys System
	if rt.scope != "" {
		var refused *exchange.Error
		if sys, refused = s.authenticate(w, r); refused != nil {
			s.problem(w, r, refused)
			return
		}
		in.system = sys.Name
		if !sys.permits(rt.scope) {
			s.problem(w, r, &exchange.Error{Kind: exchange.Denied, Code: exchange.CodeScope,
				Msg: "the system does not have the scope " + string(rt.scope)})
			return
		}
	}
	var err error
	if !rt.query {
		_, err = query(r, "")
	}
	if err == nil {
		err = rt.handle(s, w, r, sys)
	}
	if err != nil {
		e := exchange.AsError(err)
		if st := status(e); st >= 500 {
			in.err = err
		}
		s.problem(w, r, e)
	}
}

// traceID takes over the trace of a W3C traceparent header or begins one.
func traceID(r *http.Request) string {
	if parts := strings.Split(r.Header.Get("Traceparent"), "-"); len(parts) >= 4 && exchange.ValidID(parts[1]) &&
		strings.Trim(parts[1], "0") != "" {
		return parts[1]
	}
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// reply writes v as JSON.
func reply(w http.ResponseWriter, status int, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the response: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(raw) // a caller that has gone cannot be told
	return nil
}

func (s *server) spec(w http.ResponseWriter, _ *http.Request, _ System) error {
	w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	io.WriteString(w, openAPI)
	return nil
}
