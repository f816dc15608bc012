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
	browser.ctx, browser.err = ctx, chromedp.Run(ctx)
}

// tab is one page in the browser and what it complained about.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string // console errors, exceptions, CSP violations
}

func newTab(t *testing.T) *tab {
	t.Helper()
	browser.once.Do(startBrowser)
	if browser.err != nil {
		t.Fatal(browser.err)
	}
	ctx, cancel := chromedp.NewContext(browser.ctx)
	t.Cleanup(cancel)
	p := &tab{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, func(ev any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			p.complaints = append(p.complaints, ev.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if ev.Type == runtime.APITypeError || ev.Type == runtime.APITypeWarning {
				p.complaints = append(p.complaints, fmt.Sprintf("console.%s %s", ev.Type, ev.Args[0].Value))
			}
		case *log.EventEntryAdded:
			if ev.Entry.Level == log.LevelError || ev.Entry.Source == log.SourceSecurity {
				p.complaints = append(p.complaints, ev.Entry.Text+" "+ev.Entry.URL)
			}
		}
	})
	p.run(log.Enable())
	return p
}

func (p *tab) run(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	// The tab is made by the first Run, with the context that outlives it.
	if chromedp.FromContext(p.ctx).Target == nil {
		if err := chromedp.Run(p.ctx); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// eval runs an expression, waits for the promise it may be, and returns its
// value as JSON would have it.
func (p *tab) eval(format string, args ...any) any {
	p.t.Helper()
	expression := fmt.Sprintf("(async () => (%s) ?? null)()", fmt.Sprintf(format, args...))
	var raw []byte
	p.run(chromedp.Evaluate(expression, &raw, func(e *runtime.EvaluateParams) *runtime.EvaluateParams {
		return e.WithAwaitPromise(true).WithUserGesture(true)
	}))
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
	for _, c := range p.complaints {
		p.t.Errorf("the browser complained: %s", c)
	}
}

// script is a server whose side of each WebSocket is played by the test.
type script struct {
	t     *testing.T
	url   string
	peers chan *peer
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

// client opens the blank page with a client made from options, a JavaScript
// object literal.
func (s *script) client(options string) *tab {
	s.t.Helper()
	p := newTab(s.t)
	p.run(chromedp.Navigate(s.url + "/blank"))
	p.eval("h.make(%s)", options)
	return p
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

// close ends the connection with a code; 1006 cuts it without a word.
func (p *peer) close(code int) {
	p.t.Helper()
	if code != 1006 {
		msg := websocket.FormatCloseMessage(code, "scripted")
		if err := p.conn.WriteControl(websocket.CloseMessage, msg, time.Now().Add(patience)); err != nil {
			p.t.Fatal(err)
		}
	}
	if code == 1006 {
		p.conn.NetConn().Close()
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
