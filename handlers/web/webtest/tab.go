// Package webtest drives a real headless Chromium for the tests of the page and
// of the JavaScript client.
package webtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Patience bounds every wait of these tests; nothing waits this long unless it
// is broken.
const Patience = time.Minute

// chromium is a browser that runs.
type chromium struct {
	ctx  context.Context
	stop func()
}

// shared is the one browser of a package's tests, each of which has a tab of its own.
var shared struct {
	once sync.Once
	chromium
	err error
}

// Main runs a package's tests and ends the browser they may have started.
func Main(m *testing.M) int {
	code := m.Run()
	if shared.stop != nil {
		shared.stop()
	}
	return code
}

func launch(more ...chromedp.ExecAllocatorOption) (c chromium, err error) {
	var path string
	// The shell is Chromium without windows, menus and their services, which would take more
	// of the processors than the pages do.
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		return c, errors.New("no Chromium in PATH; install it: apt-get install chromium-headless-shell")
	}
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), append([]chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", true)}, more...)...)
	// A Chromium newer than cdproto sends events that it cannot name; they are of no concern here.
	ctx, stop := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {}))
	return chromium{ctx, func() { stop(); stopAlloc() }}, chromedp.Do(ctx)
}

// Tab is one page in the browser and what it complained about.
type Tab struct {
	T   *testing.T
	ctx context.Context

	mu         *sync.Mutex
	complaints *[]string // console errors, exceptions, CSP violations
}

// New opens a tab; it closes with the test.
func New(t *testing.T) *Tab {
	t.Helper()
	shared.once.Do(func() { shared.chromium, shared.err = launch() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.tab(t)
}

// Throttling opens a tab of a browser of its own, which treats a hidden page as
// Chromium does after five minutes, but at once: its timers fire once a minute.
func Throttling(t *testing.T) *Tab {
	t.Helper()
	c, err := launch(
		chromedp.Flag("enable-features", "IntensiveWakeUpThrottling:grace_period_seconds/1"),
		chromedp.Flag("intensive-wake-up-throttling-policy", "force-enable"))
	if c.stop != nil {
		t.Cleanup(c.stop)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c.tab(t)
}

func (c chromium) tab(t *testing.T) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(c.ctx)
	t.Cleanup(cancel)
	p := &Tab{T: t, ctx: ctx, mu: new(sync.Mutex), complaints: new([]string)}
	// The tab is made by the first command, and must outlive any bound on one command.
	if err := chromedp.Listen(ctx, p.listen); err != nil {
		t.Fatal(err)
	}
	for _, enable := range []cdp.Command[cdp.Empty, cdp.Empty]{log.Enable, runtime.Enable} {
		if _, err := chromedp.Call(ctx, enable, cdp.Empty{}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *Tab) listen(ev any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		complaint := ev.ExceptionDetails.Text
		if ev.ExceptionDetails.Exception != nil {
			complaint += " " + ev.ExceptionDetails.Exception.Description
		}
		*p.complaints = append(*p.complaints, complaint)
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeWarning {
			*p.complaints = append(*p.complaints, fmt.Sprintf("console.%s %s", ev.Type, ev.Args[0].Value))
		}
	case *log.EventEntryAdded:
		if ev.Entry.Level == log.EntryLevelError || ev.Entry.Source == log.EntrySourceSecurity {
			*p.complaints = append(*p.complaints, ev.Entry.Text+" "+ev.Entry.URL)
		}
	}
}

// Do runs one action of any kind within the tests' patience.
func Do[T any](p *Tab, action chromedp.Action[T]) T {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		p.T.Fatal(err)
	}
	return v
}

// Eval runs an expression, waits for the promise it may be, and returns its
// value as JSON would have it.
func (p *Tab) Eval(format string, args ...any) any {
	p.T.Helper()
	expression := fmt.Sprintf("(async () => (await (%s)) ?? null)()", fmt.Sprintf(format, args...))
	gesture := true
	raw := Do(p, chromedp.Evaluate[[]byte](expression, chromedp.EvalAwaitPromise,
		func(e *runtime.EvaluateParams) { e.UserGesture = &gesture }))
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		p.T.Fatalf("%s: %v in %s", expression, err, raw)
	}
	return v
}

// Quiet checks that the page had nothing to complain about.
func (p *Tab) Quiet() {
	p.T.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range *p.complaints {
		p.T.Errorf("the browser complained: %s", c)
	}
}

// Sees waits until an element's text is, or holds, what it should.
func (p *Tab) Sees(selector, want string) {
	p.T.Helper()
	found := fmt.Sprintf(`(() => [...document.querySelectorAll(%q)].some((el) => el.checkVisibility() && el.textContent.includes(%q)))()`,
		selector, want)
	ctx := p.ctx
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](found, chromedp.WithPollingTimeout(Patience))); err != nil {
		p.T.Fatalf("%s never shows %q: %v; it shows %v", selector, want, err,
			p.Eval(`[...document.querySelectorAll(%q)].map((el) => el.textContent)`, selector))
	}
}

// Shot keeps a picture of the whole page as name.png in the folder that
// HOOKBRIDGE_ARTIFACTS names, once nothing moves.
func (p *Tab) Shot(name string) {
	p.T.Helper()
	dir := os.Getenv("HOOKBRIDGE_ARTIFACTS")
	if dir == "" {
		return
	}
	p.Eval(`Promise.all(document.getAnimations().map((a) => a.finished.catch(() => {})))
		.then(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))))`)
	if err := os.WriteFile(filepath.Join(dir, name+".png"), Do(p, chromedp.FullScreenshot(100)), 0o644); err != nil {
		p.T.Fatal(err)
	}
}

// Media emulates a media feature, like prefers-color-scheme.
func (p *Tab) Media(name, value string) {
	p.T.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia,
		emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: name, Value: value}}})
	if err != nil {
		p.T.Fatal(err)
	}
}

// Hide minimises the tab's window and waits until the page knows.
func (p *Tab) Hide() {
	p.T.Helper()
	window, err := chromedp.Call(p.ctx, browser.GetWindowForTarget, browser.GetWindowForTargetParams{})
	if err == nil {
		_, err = chromedp.Call(p.ctx, browser.SetWindowBounds, browser.SetWindowBoundsParams{
			WindowID: window.WindowID, Bounds: &browser.Bounds{WindowState: browser.WindowStateMinimized}})
	}
	if err != nil {
		p.T.Fatal(err)
	}
	p.Eval(`new Promise((ok) => {
		const look = () => { if (document.hidden) ok(true); };
		document.addEventListener("visibilitychange", look);
		look();
	})`)
}

// Narrow checks that nothing is wider than the screen.
func (p *Tab) Narrow() {
	p.T.Helper()
	if got := p.Eval(`document.documentElement.scrollWidth`); got != 360.0 {
		p.T.Fatalf("the page is %v px wide on a phone of 360", got)
	}
}

// With is the same tab for a subtest.
func (p *Tab) With(t *testing.T) *Tab {
	sub := *p
	sub.T = t
	return &sub
}
