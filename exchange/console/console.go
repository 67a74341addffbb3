package console

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"xinqiao/exchange"
)

//go:embed templates/*.html static/* i18n/*.json
var files embed.FS

type console struct {
	cfg      Config
	words    map[string]words // by language
	pages    map[string]*template.Template
	assets   map[string]asset // by address
	css      string           // address of the style sheet
	icon     string
	sessions *sessions
	tries    limiter
}

// New returns the handler of everything under /console/. Sessions live in it,
// so that a new handler has none.
func New(cfg Config) (http.Handler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &console{cfg: cfg, sessions: newSessions(cfg)}
	var err error
	if c.words, err = readWords(); err != nil {
		return nil, err
	}
	if c.pages, err = readPages(); err != nil {
		return nil, err
	}
	if err := c.readAssets(); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for _, r := range routes() {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, q *http.Request) { c.dispatch(w, q, r) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.serve(http.NewCrossOriginProtection().Handler(mux), w, r)
	}), nil
}

type route struct {
	pattern string
	open    bool // needs no session
	handle  func(c *console, w http.ResponseWriter, r *http.Request) error
}

func routes() []route {
	return []route{
		{"GET /console/{$}", false, (*console).home},
		{"GET /console/login", true, (*console).loginPage},
		{"POST /console/login", true, (*console).login},
		{"POST /console/logout", true, (*console).logout},
		{"POST /console/language", true, (*console).language},
		{"GET /console/static/{file}", true, (*console).static},
		{"GET /console/ledger", false, (*console).ledger},
		{"GET /console/entries/{index}", false, (*console).entry},
		{"GET /console/entries/{index}/evidence", false, (*console).evidence},
		{"/console/", false, (*console).nowhere},
	}
}

// visit is what is known about a request. Nothing in it comes from a query.
type visit struct {
	trace   string
	route   string
	officer string
	lang    string
	status  int
	err     error
}

type visitKey struct{}

func visitOf(r *http.Request) *visit { return r.Context().Value(visitKey{}).(*visit) }

type recorder struct {
	http.ResponseWriter
	visit *visit
}

func (w *recorder) WriteHeader(status int) {
	if w.visit.status == 0 {
		w.visit.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.visit.status == 0 {
		w.visit.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// policyHeader forbids every script and everything from elsewhere.
const policyHeader = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'"

func (c *console) serve(next http.Handler, rw http.ResponseWriter, r *http.Request) {
	start := c.cfg.Clock()
	var id [16]byte
	rand.Read(id[:]) // never fails
	v := &visit{trace: hex.EncodeToString(id[:]), route: "none", lang: c.languageOf(r)}
	r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
	w := &recorder{ResponseWriter: rw, visit: v}
	h := w.Header()
	h.Set("Content-Security-Policy", policyHeader)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Trace-Id", v.trace)
	defer c.finish(r, v, start)
	defer func() {
		if p := recover(); p != nil {
			// The value is left out: it could quote what was being handled.
			v.err = fmt.Errorf("panic of type %T\n%s", p, debug.Stack())
			if v.status == 0 {
				c.problem(w, r, &exchange.Error{Code: exchange.CodeInternal})
			}
		}
	}()
	if r.URL.Path != path.Clean(r.URL.Path) && r.URL.Path != "/console/" {
		c.problem(w, r, &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound})
		return
	}
	next.ServeHTTP(w, r)
}

func (c *console) finish(r *http.Request, v *visit, start time.Time) {
	took := c.cfg.Clock().Sub(start)
	attrs := []slog.Attr{slog.String("route", v.route), slog.Int("status", v.status), slog.Duration("duration", took),
		slog.String("officer", v.officer), slog.String("trace_id", v.trace)}
	level := slog.LevelInfo
	if v.err != nil {
		level = slog.LevelError
		attrs = append(attrs, slog.String("cause", v.err.Error()))
	}
	c.cfg.Log.LogAttrs(r.Context(), level, "console request", attrs...)
	if c.cfg.Observe != nil {
		c.cfg.Observe(v.route, v.status, took.Seconds())
	}
}

func (c *console) dispatch(w http.ResponseWriter, r *http.Request, rt route) {
	v := visitOf(r)
	_, v.route, _ = strings.Cut(rt.pattern, " ")
	if v.route == "" {
		v.route = rt.pattern
	}
	if !strings.HasPrefix(v.route, "/console/static/") { // an asset is no activity
		v.officer, _ = c.sessions.officer(r)
	}
	if v.officer == "" && !rt.open {
		address := "/console/login"
		if r.Method == http.MethodGet && rt.pattern != "/console/" {
			address += "?next=" + template.URLQueryEscaper(r.URL.RequestURI())
		}
		http.Redirect(w, r, address, http.StatusSeeOther)
		return
	}
	if err := rt.handle(c, w, r); err != nil {
		e := exchange.AsError(err)
		if !slices.Contains([]exchange.Kind{exchange.NotFound, exchange.Invalid, exchange.Denied}, e.Kind) {
			v.err = err
		}
		c.problem(w, r, e)
	}
}

func (c *console) nowhere(http.ResponseWriter, *http.Request) error {
	return &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound, Msg: "there is no such page"}
}

func (c *console) home(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, "/console/ledger", http.StatusSeeOther)
	return nil
}
