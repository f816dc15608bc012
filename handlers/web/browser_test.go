package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/fasthttp/websocket"
)

// patience bounds every wait of these tests; nothing waits this long unless it
// is broken.
const patience = 20 * time.Second

// browser is the one Chromium of the package; each test has a tab of its own.
var browser struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if browser.stop != nil {
		browser.stop()
	}
	os.Exit(code)
}

func startBrowser() {
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		browser.err = fmt.Errorf("no Chromium in PATH; install chromium: apt-get install chromium")
		return
	}
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", true))
	// A Chromium newer than cdproto sends events that it cannot name; they are of no concern here.
	ctx, stop := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {}))
	browser.stop = func() { stop(); stopAlloc() }
	browser.ctx, browser.err = ctx, chromedp.Do(ctx)
}

// tab is one page in the browser and what it complained about.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         *sync.Mutex
	complaints *[]string // console errors, exceptions, CSP violations
}

func newTab(t *testing.T) *tab {
	t.Helper()
	browser.once.Do(startBrowser)
	if browser.err != nil {
		t.Fatal(browser.err)
	}
	ctx, cancel := chromedp.NewContext(browser.ctx)
	t.Cleanup(cancel)
	p := &tab{t: t, ctx: ctx, mu: new(sync.Mutex), complaints: new([]string)}
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

func (p *tab) listen(ev any) {
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

// do runs one action of any kind within the tests' patience.
func do[T any](p *tab, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// eval runs an expression, waits for the promise it may be, and returns its
// value as JSON would have it.
func (p *tab) eval(format string, args ...any) any {
	p.t.Helper()
	expression := fmt.Sprintf("(async () => (%s) ?? null)()", fmt.Sprintf(format, args...))
	gesture := true
	raw := do(p, chromedp.Evaluate[[]byte](expression, chromedp.EvalAwaitPromise,
		func(e *runtime.EvaluateParams) { e.UserGesture = &gesture }))
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		p.t.Fatalf("%s: %v in %s", expression, err, raw)
	}
	return v
}

// until waits for the nth event of a kind in the harness's log and checks that
// those so far are the wanted ones; members that a want leaves out may be
// anything.
func (p *tab) until(kind string, wants ...string) {
	p.t.Helper()
	got := p.eval("h.until(%q, %d)", kind, len(wants)).([]any)
	if len(got) != len(wants) {
		p.t.Fatalf("%d events %q, want %d: %v", len(got), kind, len(wants), got)
	}
	for i, want := range wants {
		if !covers(got[i], parse(p.t, want)) {
			p.t.Fatalf("%s %d: got %s, want %s", kind, i, text(got[i]), want)
		}
	}
}

// none checks that nothing of a kind is in the harness's log.
func (p *tab) none(kind string) {
	p.t.Helper()
	if got := p.eval("h.all(%q)", kind).([]any); len(got) > 0 {
		p.t.Fatalf("unexpected %s: %s", kind, text(got))
	}
}

func (p *tab) advance(ms int) {
	p.t.Helper()
	p.eval("h.clock.advance(%d)", ms)
}

// quiet checks that the page had nothing to complain about.
func (p *tab) quiet() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range *p.complaints {
		p.t.Errorf("the browser complained: %s", c)
	}
}

// script is a server whose side of each WebSocket is played by the test.
type script struct {
	t     *testing.T
	url   string
	peers chan *peer
	tab   *tab
}

type peer struct {
	t    *testing.T
	conn *websocket.Conn
}

func newScript(t *testing.T) *script {
	t.Helper()
	s := &script{t: t, peers: make(chan *peer, 16)}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServerFS(Files))
	mux.HandleFunc("/harness.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "testdata/harness.js")
	})
	mux.HandleFunc("/blank", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>blank</title><link rel="icon" href="logo.svg"><script type="module" src="/harness.js"></script>`)
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{Subprotocols: []string{"bridge.v1.json"}}
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			return // the upgrader has answered
		}
		t.Cleanup(func() { conn.Close() })
		s.peers <- &peer{t: t, conn: conn}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// client opens the blank page, in the test's one tab, with a client made from
// options, a JavaScript object literal.
func (s *script) client(options string) *tab {
	s.t.Helper()
	if s.tab == nil {
		s.tab = newTab(s.t)
	}
	do(s.tab, chromedp.Navigate(s.url+"/blank"))
	s.tab.eval("h.make(%s)", options)
	return s.tab
}

// during runs a subtest with a page of its own.
func (s *script) during(name string, test func(t *testing.T, s *script)) {
	s.t.Helper()
	if s.tab == nil {
		s.tab = newTab(s.t)
	}
	s.t.Run(name, func(t *testing.T) {
		sub, page := *s, *s.tab
		sub.t, page.t, sub.tab = t, t, &page
		test(t, &sub)
	})
}

func (s *script) accept() *peer {
	s.t.Helper()
	select {
	case p := <-s.peers:
		if got := p.conn.Subprotocol(); got != "bridge.v1.json" {
			s.t.Fatalf("subprotocol %q", got)
		}
		return p
	case <-time.After(patience):
		s.t.Fatal("no connection came")
		return nil
	}
}

// connected accepts a connection, checks its connect frame and answers it.
func (s *script) connected(connect, cursor string) *peer {
	s.t.Helper()
	p := s.accept()
	p.expect(connect)
	p.write(fmt.Sprintf(`{"type":"connected","session":"ses_1","user":"patient-42","cursor":%q,"resumed":%t,`+
		`"pending":0,"pingMs":25000,"expiresAt":"2030-01-01T00:00:00Z","maxBytes":1024}`,
		cursor, parse(s.t, connect).(map[string]any)["after"] != nil))
	return p
}

// expect reads one frame and checks all of it.
func (p *peer) expect(want string) {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	_, b, err := p.conn.ReadMessage()
	if err != nil {
		p.t.Fatalf("want %s: %v", want, err)
	}
	if got := parse(p.t, string(b)); !reflect.DeepEqual(got, parse(p.t, want)) {
		p.t.Fatalf("got %s, want %s", b, want)
	}
}

func (p *peer) write(frames ...string) {
	p.t.Helper()
	for _, f := range frames {
		if err := p.conn.WriteMessage(websocket.TextMessage, []byte(f)); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *peer) event(id string, n int, more string) {
	p.t.Helper()
	p.write(fmt.Sprintf(`{"type":"event","cursor":"c.%d"%s,"event":{"id":%q,"type":"patient.added","timestamp":"2030-01-01T00:00:00Z","data":{"message":"hi"}}}`, n, more, id))
}

// close ends the connection with a code; 1006 cuts it without a word. A server
// hangs up once its close frame is answered: Chromium reports the close only
// then, or two seconds later.
func (p *peer) close(code int) {
	p.t.Helper()
	defer p.conn.Close()
	if code == 1006 {
		return
	}
	deadline := time.Now().Add(patience)
	if err := p.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "scripted"), deadline); err != nil {
		p.t.Fatal(err)
	}
	if err := p.conn.SetReadDeadline(deadline); err != nil {
		p.t.Fatal(err)
	}
	for {
		if _, _, err := p.conn.ReadMessage(); err != nil {
			return
		}
	}
}

func parse(t *testing.T, s string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// covers says whether got has everything that want has.
func covers(got, want any) bool {
	w, ok := want.(map[string]any)
	if !ok {
		return reflect.DeepEqual(got, want)
	}
	g, ok := got.(map[string]any)
	for k := range w {
		if !ok || !covers(g[k], w[k]) {
			return false
		}
	}
	return ok
}
