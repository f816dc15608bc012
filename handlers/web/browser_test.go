package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/fasthttp/websocket"

	"hookbridge/handlers/web/webtest"
)

func TestMain(m *testing.M) { os.Exit(webtest.Main(m)) }

// tab is a page with the harness in it.
type tab struct{ *webtest.Tab }

func newTab(t *testing.T) *tab {
	t.Helper()
	return &tab{webtest.New(t)}
}

// until waits for the nth event of a kind in the harness's log and checks that
// those so far are the wanted ones; members that a want leaves out may be
// anything.
func (p *tab) until(kind string, wants ...string) {
	p.T.Helper()
	got := p.Eval("h.until(%q, %d)", kind, len(wants)).([]any)
	if len(got) != len(wants) {
		p.T.Fatalf("%d events %q, want %d: %v", len(got), kind, len(wants), got)
	}
	for i, want := range wants {
		if !covers(got[i], parse(p.T, want)) {
			p.T.Fatalf("%s %d: got %s, want %s", kind, i, text(got[i]), want)
		}
	}
}

// none checks that nothing of a kind is in the harness's log.
func (p *tab) none(kind string) {
	p.T.Helper()
	if got := p.Eval("h.all(%q)", kind).([]any); len(got) > 0 {
		p.T.Fatalf("unexpected %s: %s", kind, text(got))
	}
}

func (p *tab) advance(ms int) {
	p.T.Helper()
	p.Eval("h.clock.advance(%d)", ms)
}

// script is a server whose side of each WebSocket is played by the test.
type script struct {
	t     *testing.T
	url   string
	peers chan *peer
	asks  chan *ask     // requests without WebSocket, each until it is answered
	over  chan struct{} // closed when the test ends
	block *atomic.Bool  // a proxy that lets no WebSocket through
	tab   *tab
	page  string // the query of the page that is open
}

var pages atomic.Int64

type peer struct {
	t    *testing.T
	conn *websocket.Conn
}

func newScript(t *testing.T) *script {
	t.Helper()
	s := &script{t: t, peers: make(chan *peer, 16), asks: make(chan *ask, 16), over: make(chan struct{}), block: new(atomic.Bool)}
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
		if s.block.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		up := websocket.Upgrader{Subprotocols: []string{"bridge.v1.json"}}
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			return // the upgrader has answered
		}
		t.Cleanup(func() { conn.Close() })
		s.peers <- &peer{t: t, conn: conn}
	})
	mux.HandleFunc("/v1/", s.hold)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(s.over) }) // before: it waits for the requests under way
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
	s.page = fmt.Sprintf("?page=%d", pages.Add(1))
	webtest.Do(s.tab.Tab, chromedp.Navigate(s.url+"/blank"+s.page))
	s.tab.Eval("h.make(%s)", options)
	return s.tab
}

// during runs a subtest with a page of its own.
func (s *script) during(name string, test func(t *testing.T, s *script)) {
	s.t.Helper()
	if s.tab == nil {
		s.tab = newTab(s.t)
	}
	s.t.Run(name, func(t *testing.T) {
		sub := *s
		sub.t, sub.tab = t, &tab{s.tab.With(t)}
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
	case <-time.After(webtest.Patience):
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
	if got := p.read(); !reflect.DeepEqual(got, parse(p.t, want)) {
		p.t.Fatalf("got %s, want %s", text(got), want)
	}
}

func (p *peer) read() map[string]any {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(webtest.Patience)); err != nil {
		p.t.Fatal(err)
	}
	_, b, err := p.conn.ReadMessage()
	if err != nil {
		p.t.Fatalf("no frame came: %v", err)
	}
	return parse(p.t, string(b)).(map[string]any)
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
	deadline := time.Now().Add(webtest.Patience)
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
