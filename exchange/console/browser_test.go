package console_test

import (
	"context"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// watched is what a browser did besides showing pages.
type watched struct {
	mu sync.Mutex
	// mu protects everything below.
	complaints []string // console messages, policy violations, exceptions
	requests   []string
}

func (w *watched) see(ev any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch ev := ev.(type) {
	case *log.EventEntryAdded:
		w.complaints = append(w.complaints, ev.Entry.Text+" "+ev.Entry.URL)
	case *runtime.EventConsoleAPICalled:
		w.complaints = append(w.complaints, "console message")
	case *runtime.EventExceptionThrown:
		w.complaints = append(w.complaints, "exception")
	case *network.EventRequestWillBeSent:
		w.requests = append(w.requests, ev.Request.URL)
	}
}

// browse opens a browser that watches itself.
func browse(t *testing.T) (context.Context, *watched) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	// A browser that is killed leaves its lock behind. The path has to be short for a socket.
	scratch, err := os.MkdirTemp("", "xq")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(scratch) })
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.IgnoreCertErrors, chromedp.Env("TMPDIR="+scratch),
		chromedp.WindowSize(1280, 900), chromedp.Flag("disable-gpu", true), chromedp.Flag("accept-lang", "zh-CN"))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts the browser, which lives as long as this context
		t.Fatal(err)
	}
	w := &watched{}
	if err := chromedp.Listen(ctx, w.see); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	limited, stop := context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(stop)
	return limited, w
}

func run(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// text returns the page's visible text.
func text(t *testing.T, ctx context.Context) string {
	t.Helper()
	s, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shot keeps a picture when a directory for pictures is given.
func shot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("XINQIAO_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestInABrowser(t *testing.T) {
	t.Parallel()
	ctx, w := browse(t)
	r := newReplica(t, 3)
	r.next = "c2"
	r.rows[5].Operator = "<b>zj</b>" // shown as text
	g := newRig(t, r)
	srv := httptest.NewTLSServer(g.handler)
	t.Cleanup(srv.Close)
	wants := func(page string, wanted ...string) {
		t.Helper()
		got := text(t, ctx)
		for _, want := range wanted {
			if !strings.Contains(got, want) {
				t.Errorf("%s lacks %q:\n%s", page, want, got)
			}
		}
	}

	code, _ := g.codes.Issue("auditor")
	run(t, ctx, chromedp.Navigate(srv.URL+"/console/login?next=%2Fconsole%2Fledger&code="+url.QueryEscape(code)), chromedp.WaitVisible(chromedp.CSS("#enter")))
	wants("log-in", "一次性登录码")
	shot(t, ctx, "login")
	run(t, ctx, chromedp.Click(chromedp.CSS("#enter")), chromedp.WaitVisible(chromedp.CSS("table.rows")))
	wants("ledger", "访问台账", "民政局", "婚姻登记信息", "拒绝", "<b>zj</b>", "待联署")
	shot(t, ctx, "ledger-zh")
	wide, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
	if err != nil || wide {
		t.Errorf("the page is wider than 1280 pixels: %v %v", wide, err)
	}

	run(t, ctx, chromedp.Click(chromedp.CSS(`a[href="/console/entries/8"]`)), chromedp.WaitVisible(chromedp.CSS(".proof")))
	wants("entry", "授权已被撤回。", "个人信息保护法 第十五条", "存证成立", "xqverify evidence-8.zip")
	shot(t, ctx, "entry-zh")
	run(t, ctx, chromedp.Click(chromedp.CSS("#language")), chromedp.WaitVisible(chromedp.CSS(`html[lang="en"] .proof`)))
	wants("entry in English", "The authority was withdrawn.", "Proven", "3 departments cosigned the checkpoint; 3 are needed")
	shot(t, ctx, "entry-en")
	run(t, ctx, chromedp.Navigate(srv.URL+"/console/ledger"), chromedp.WaitVisible(chromedp.CSS("table.rows")),
		chromedp.SetValue(chromedp.CSS("#outcome"), "denied"), chromedp.Click(chromedp.CSS("#search")),
		chromedp.WaitVisible(chromedp.CSS(`a[href="/console/ledger"].button`)))
	wants("search", "Denied", "2 entries on this page")
	shot(t, ctx, "ledger-en")

	run(t, ctx, chromedp.EmulateViewport(375, 800), chromedp.Navigate(srv.URL+"/console/entries/8"), chromedp.WaitVisible(chromedp.CSS(".proof")))
	if wide, err = chromedp.Run(ctx, chromedp.Evaluate[bool]("document.documentElement.scrollWidth > document.documentElement.clientWidth")); err != nil || wide {
		t.Errorf("the page is wider than 375 pixels: %v %v", wide, err)
	}
	shot(t, ctx, "entry-narrow")
	run(t, ctx, chromedp.Click(chromedp.CSS("#logout")), chromedp.WaitVisible(chromedp.CSS("#code")))

	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.complaints) > 0 {
		t.Errorf("the browser complains: %q", w.complaints)
	}
	for _, address := range w.requests {
		own := strings.HasPrefix(address, "data:") // the icons of the browser's date fields
		if !own && !strings.HasPrefix(address, srv.URL+"/console/") {
			t.Errorf("a request went to %s", address)
		}
	}
	if len(w.requests) < 8 {
		t.Errorf("only %d requests were seen: nothing was watched", len(w.requests))
	}
}

// TestTheBrowserTestSees is the control: a page that breaks the rules is noticed.
func TestTheBrowserTestSees(t *testing.T) {
	t.Parallel()
	ctx, w := browse(t)
	g := newRig(t, newReplica(t, 3))
	srv := httptest.NewTLSServer(g.handler)
	t.Cleanup(srv.Close)
	run(t, ctx, chromedp.Navigate(srv.URL+"/console/login"))
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`(() => { const s = document.createElement("img"); s.src = "https://evil.invalid/x.png"; document.body.append(s); return true })()`)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		w.mu.Lock()
		seen := len(w.complaints) > 0
		w.mu.Unlock()
		if seen {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("an image from elsewhere went unnoticed")
		}
	}
}
