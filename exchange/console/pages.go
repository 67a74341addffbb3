package console

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"xinqiao/exchange"
)

const languageCookie = "__Host-xinqiao-lang"

// words are the texts of one language.
type words map[string]string

func readWords() (map[string]words, error) {
	all := map[string]words{}
	for _, lang := range []string{"zh-CN", "en"} {
		raw, err := files.ReadFile("i18n/" + lang + ".json")
		if err != nil {
			return nil, err
		}
		w := words{}
		if err := json.Unmarshal(raw, &w); err != nil {
			return nil, fmt.Errorf("read i18n/%s.json: %w", lang, err)
		}
		all[lang] = w
	}
	return all, nil
}

// languageOf returns the language of the cookie, then of the browser, then
// Chinese.
func (c *console) languageOf(r *http.Request) string {
	if ck, err := r.Cookie(languageCookie); err == nil {
		if _, known := c.words[ck.Value]; known {
			return ck.Value
		}
	}
	first, _, _ := strings.Cut(r.Header.Get("Accept-Language"), ",")
	if strings.HasPrefix(strings.ToLower(strings.TrimSpace(first)), "en") {
		return "en"
	}
	return "zh-CN"
}

func readPages() (map[string]*template.Template, error) {
	layout, err := template.ParseFS(files, "templates/layout.html")
	if err != nil {
		return nil, fmt.Errorf("read layout: %w", err)
	}
	pages := map[string]*template.Template{}
	for _, name := range []string{"login", "ledger", "entry", "problem"} {
		clone, err := layout.Clone()
		if err == nil {
			pages[name], err = clone.ParseFS(files, "templates/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("read page %s: %w", name, err)
		}
	}
	return pages, nil
}

// frame is what the layout shows around a page. The page's own view is V.
type frame struct {
	words   words
	console *console
	Lang    string
	Other   string // the language to switch to
	Officer string
	Self    string
	CSS     string
	Icon    string
	Here    string // to come back to after switching the language
	Page    string
	V       any
}

// T returns the text for a key, with arguments put into its verbs. A missing key
// shows itself; a test sees to it that none is missing.
func (f frame) T(key string, args ...any) string {
	text, ok := f.words[key]
	if !ok {
		return key
	}
	if len(args) > 0 {
		return fmt.Sprintf(text, args...)
	}
	return text
}

// Name returns what people call a department.
func (f frame) Name(d exchange.Dept) string {
	if d == "" {
		return ""
	}
	return f.console.cfg.Name(d, f.Lang)
}

func (c *console) page(w http.ResponseWriter, r *http.Request, status int, name string, view any) error {
	v := visitOf(r)
	f := frame{words: c.words[v.lang], console: c, Lang: v.lang, Other: "en", Officer: v.officer, CSS: c.css, Icon: c.icon,
		Here: local(r.URL.RequestURI()), Page: name, V: view}
	if v.lang == "en" {
		f.Other = "zh-CN"
	}
	f.Self = f.Name(c.cfg.Self)
	var b bytes.Buffer // so that a failing page is not half sent
	if err := c.pages[name].ExecuteTemplate(&b, "layout", f); err != nil {
		return fmt.Errorf("make page %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", v.lang)
	w.WriteHeader(status)
	w.Write(b.Bytes()) // a browser that has gone cannot be told
	return nil
}

// problemView is a page that says what went wrong.
type problemView struct {
	Key   string // of the words
	Code  exchange.Code
	Trace string
}

func (c *console) problem(w http.ResponseWriter, r *http.Request, e *exchange.Error) {
	status, key := http.StatusInternalServerError, "problem.internal"
	switch e.Kind {
	case exchange.NotFound:
		status, key = http.StatusNotFound, "problem.not_found"
	case exchange.Invalid:
		status, key = http.StatusBadRequest, "problem.invalid"
	case exchange.Denied, exchange.Unauthenticated:
		status, key = http.StatusForbidden, "problem.denied"
	case exchange.Unavailable, exchange.Undetermined:
		status, key = http.StatusServiceUnavailable, "problem.unavailable"
	}
	if err := c.page(w, r, status, "problem", problemView{Key: key, Code: e.Code, Trace: visitOf(r).trace}); err != nil {
		visitOf(r).err = err
		http.Error(w, "internal", http.StatusInternalServerError)
	}
}

// asset is one file of static/, under an address that changes with its content.
type asset struct {
	content []byte
	media   string
}

func (c *console) readAssets() error {
	c.assets = map[string]asset{}
	names, err := fs.Glob(files, "static/*")
	if err != nil {
		return err
	}
	for _, name := range names {
		raw, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		ext := path.Ext(name)
		sum := c.cfg.Engines[0].Sum(raw)
		file := strings.TrimSuffix(path.Base(name), ext) + "." + hex.EncodeToString(sum[:8]) + ext
		c.assets[file] = asset{content: raw, media: mime.TypeByExtension(ext)}
		switch ext {
		case ".css":
			c.css = "/console/static/" + file
		case ".svg":
			c.icon = "/console/static/" + file
		}
	}
	return nil
}

func (c *console) static(w http.ResponseWriter, r *http.Request) error {
	a, ok := c.assets[r.PathValue("file")]
	if !ok {
		return c.nowhere(w, r)
	}
	w.Header().Set("Content-Type", a.media)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Write(a.content)
	return nil
}
