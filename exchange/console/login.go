package console

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"xinqiao/exchange"
)

const maxForm = 8 << 10

// loginView is the log-in page. Opening the one-time link shows a button and
// uses nothing up, so that what fetches links ahead of people burns no code.
type loginView struct {
	Code   string
	Next   string
	Failed string // a word of the i18n files, or empty
}

func (c *console) loginPage(w http.ResponseWriter, r *http.Request) error {
	code := r.URL.Query().Get("code")
	if len(code) > 64 {
		code = ""
	}
	return c.page(w, r, http.StatusOK, "login", loginView{Code: code, Next: local(r.URL.Query().Get("next"))})
}

func (c *console) login(w http.ResponseWriter, r *http.Request) error {
	if err := form(w, r); err != nil {
		return err
	}
	next, now := local(r.PostForm.Get("next")), c.cfg.Clock()
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = "unknown"
	}
	log := c.cfg.Log.With("remote", address, "trace_id", visitOf(r).trace)
	if !c.tries.allows(address, now) {
		log.WarnContext(r.Context(), "console log-in refused", "reason", "rate")
		w.Header().Set("Retry-After", "60")
		return c.page(w, r, http.StatusTooManyRequests, "login", loginView{Next: next, Failed: "login.wait"})
	}
	officer, ok := c.cfg.Login.Redeem(r.PostForm.Get("code"))
	if !ok || officer == "" {
		c.tries.fail(address)
		log.WarnContext(r.Context(), "console log-in refused", "reason", "code")
		return c.page(w, r, http.StatusForbidden, "login", loginView{Next: next, Failed: "login.failed"})
	}
	log.InfoContext(r.Context(), "console log-in", "officer", officer)
	visitOf(r).officer = officer
	c.sessions.end(r)
	http.SetCookie(w, cookie(sessionCookie, c.sessions.begin(officer)))
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

func (c *console) logout(w http.ResponseWriter, r *http.Request) error {
	c.sessions.end(r)
	http.SetCookie(w, cookie(sessionCookie, ""))
	http.Redirect(w, r, "/console/login", http.StatusSeeOther)
	return nil
}

func (c *console) language(w http.ResponseWriter, r *http.Request) error {
	if err := form(w, r); err != nil {
		return err
	}
	lang := r.PostForm.Get("lang")
	if _, known := c.words[lang]; !known {
		return &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Msg: "unknown language"}
	}
	ck := cookie(languageCookie, lang)
	ck.MaxAge = 365 * 24 * 3600
	http.SetCookie(w, ck)
	http.Redirect(w, r, local(r.PostForm.Get("next")), http.StatusSeeOther)
	return nil
}

func form(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Msg: "the form cannot be read", Err: err}
	}
	return nil
}

// local returns where to go next: an address of this console, never one that a
// link from outside could choose.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || strings.ContainsAny(next, "\\\r\n\t") ||
		!strings.HasPrefix(u.Path, "/console/") || strings.Contains(u.Path, "..") || strings.Contains(u.Path, "//") {
		return "/console/ledger"
	}
	return (&url.URL{Path: u.Path, RawQuery: u.RawQuery}).String()
}
