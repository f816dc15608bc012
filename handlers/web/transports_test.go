package web

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/handlers/web/webtest"
)

func TestStream(t *testing.T) {
	t.Run("takes the place of a blocked WebSocket", streamForBlockedSocket)
	t.Run("has a close event that is heeded like a close frame", streamCloseEvent)
	t.Run("renews a token with a new stream, of which the app hears nothing", streamRenewsToken)
	t.Run("is opened anew without heartbeats", streamHeartbeats)
	t.Run("is read wherever its bytes are cut", streamIsRead)
}

func TestPolls(t *testing.T) {
	t.Run("take the place of a stream that a proxy holds back", pollsForHeldStream)
	t.Run("leave nothing behind, however many there are", pollsLeaveNothing)
}

func TestFallback(t *testing.T) {
	t.Run("is not for a WebSocket that has opened once", fallbackNotAfterOpen)
	t.Run("is left after a while for another try of the WebSocket", fallbackTriesSocket)
	t.Run("answers what the server refuses as its close code", fallbackRefusals)
}

// ask is a request that the test answers.
type ask struct {
	t    *testing.T
	w    http.ResponseWriter
	r    *http.Request
	body string
	once sync.Once
	done chan struct{}

	mu   sync.Mutex // guards w
	gone bool       // and w is no longer to be used
}

// hold keeps a request open until the test has answered it, or the page is gone.
func (s *script) hold(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the page is gone
	}
	a := &ask{t: s.t, w: w, r: r, body: string(body), done: make(chan struct{})}
	s.asks <- a
	select {
	case <-a.done:
	case <-r.Context().Done():
	case <-s.over:
	}
	a.mu.Lock()
	a.gone = true
	a.mu.Unlock()
}

// asked waits for a request and checks what it asks, and by which token.
func (s *script) asked(want, token string) *ask {
	s.t.Helper()
	patience := time.After(webtest.Patience)
next:
	select {
	case a := <-s.asks:
		if !strings.HasSuffix(a.r.Referer(), s.page) {
			goto next // of a page that is gone
		}
		a.t = s.t
		got := a.r.Method + " " + a.r.URL.RequestURI()
		if got != want || a.r.Header.Get("Authorization") != "Bearer "+token {
			s.t.Fatalf("asked %s with %s, want %s with %s", got, a.r.Header.Get("Authorization"), want, token)
		}
		return a
	case <-patience:
		s.t.Fatalf("never asked: %s", want)
		return nil
	}
}

// reply answers at once.
func (a *ask) reply(status int, media, body string, header ...string) {
	a.use(func() {
		a.w.Header().Set("Content-Type", media)
		for i := 0; i+1 < len(header); i += 2 {
			a.w.Header().Set(header[i], header[i+1])
		}
		a.w.WriteHeader(status)
		fmt.Fprint(a.w, body)
	})
	a.end()
}

// end ends the reply; a stream breaks off then.
func (a *ask) end() { a.once.Do(func() { close(a.done) }) }

// write sends a piece of a stream, the first one with the header.
func (a *ask) write(text string) {
	a.t.Helper()
	a.use(func() {
		a.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		fmt.Fprint(a.w, text)
		if err := http.NewResponseController(a.w).Flush(); err != nil {
			a.t.Error(err)
		}
	})
}

// use writes, unless nobody is there to read it any more.
func (a *ask) use(write func()) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.gone {
		write()
	}
}

func (a *ask) event(kind, data string) { a.write("event: " + kind + "\ndata: " + data + "\n\n") }

// heartbeat is a comment, and the client's having heard it.
func (a *ask) heartbeat(p *tab) {
	a.t.Helper()
	pieces := p.Eval(`h.all("piece").length`)
	a.write(":\n\n")
	p.Eval(`h.until("piece", %v + 1)`, pieces)
}

func (a *ask) message(n int) {
	a.event("event", fmt.Sprintf(`{"type":"event","cursor":"c.%d","event":{"id":"msg_%d","type":"t","timestamp":"2030-01-01T00:00:00Z","data":{}}}`, n, n))
}

func hello(after string) string {
	return fmt.Sprintf(`{"type":"connected","session":"ses_1","user":"patient-42","cursor":"c.0","resumed":%t,"pending":0,"pingMs":25000,"expiresAt":"2030-01-01T00:00:00Z","maxBytes":1024}`, after != "")
}

// comeBack lets the wait of a client pass that has lost its connection, and no
// more than that.
func (p *tab) comeBack() {
	p.T.Helper()
	p.Eval(`h.clock.advance(h.all("state").at(-1).retryInMs)`)
}

// fallen is a client whose WebSocket was blocked until it asks for a stream.
func (s *script) fallen(options string) (*tab, *ask) {
	s.t.Helper()
	s.block.Store(true)
	p := s.client(options)
	p.until("close", `{"code":1006}`)
	p.comeBack()
	p.until("close", `{"code":1006}`, `{"code":1006}`)
	p.comeBack()
	a := s.asked("GET /v1/stream", "token-3")
	return p, a
}

func streamForBlockedSocket(t *testing.T) {
	s := newScript(t)
	p, a := s.fallen(`{stored: null, handle: ({ cursor }) => cursor === "c.2" && new Promise((done) => { h.done = done; })}`)
	a.event("connected", hello(""))
	p.until("open", `{"transport":"sse","user":"patient-42"}`)
	p.until("stored", `"c.0"`)
	a.message(1)
	p.until("message", `{"cursor":"c.1"}`)
	p.advance(200) // acks are gathered
	ack := s.asked("POST /v1/acks", "token-3")
	if ack.body != `{"cursor":"c.1"}` || ack.r.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("acked %s", ack.body)
	}
	a.message(2)
	a.event("gap", `{"type":"gap","after":"c.2","cursor":"c.3","reason":"expired"}`)
	a.message(4)
	p.until("message", `{"cursor":"c.1"}`, `{"cursor":"c.2"}`) // the rest waits for the app
	p.until("stored", `"c.0"`, `"c.1"`)
	p.Eval(`h.done()`)
	p.until("message", `{"cursor":"c.1"}`, `{"cursor":"c.2"}`, `{"cursor":"c.4"}`)
	p.until("gap", `{"cursor":"c.3"}`)
	p.until("stored", `"c.0"`, `"c.1"`, `"c.2"`, `"c.3"`, `"c.4"`)
	p.advance(1000)
	ack.reply(http.StatusNoContent, "", "") // one ack at a time: the next one speaks for all since
	p.until("answer", `200`, `204`)
	p.advance(1000)
	if next := s.asked("POST /v1/acks", "token-3"); next.body != `{"cursor":"c.4"}` {
		t.Fatalf("acked %s", next.body)
	}
	a.event("recalled", `{"type":"recalled","id":"msg_1"}`)
	p.until("recalled", `{"id":"msg_1"}`)
	p.Eval(`h.send({ user: "x" }, { type: "t" })`)
	p.until("refused", `"no_websocket"`)
	// The next stream goes on where the app is, and what it has is not shown twice.
	a.end()
	p.until("close", `{"code":1006}`, `{"code":1006}`, `{"code":1006}`)
	p.comeBack()
	b := s.asked("GET /v1/stream?after=c.4", "token-4")
	b.event("connected", hello("c.4"))
	b.message(4)
	b.message(5)
	p.until("message", `{"cursor":"c.1"}`, `{"cursor":"c.2"}`, `{"cursor":"c.4"}`, `{"cursor":"c.5"}`)
}

func pollsForHeldStream(t *testing.T) {
	s := newScript(t)
	p, _ := s.fallen(`{stored: null}`)
	p.advance(15_000) // no connected frame in time
	p.until("close", `{"code":1006}`, `{"code":1006}`, `{"code":1006}`)
	p.comeBack()
	s.asked("GET /v1/poll?waitMs=0", "token-4").reply(200, "application/json", `{"cursor":"c.7","frames":[]}`)
	p.until("open", `{"transport":"poll","cursor":"c.7"}`)
	a := s.asked("GET /v1/poll?after=c.7&waitMs=25000", "token-4")
	a.reply(200, "application/json", `{"cursor":"c.9","frames":[{"type":"event","cursor":"c.8","event":{"id":"a","type":"t","timestamp":"2030-01-01T00:00:00Z"}},`+
		`{"type":"event","cursor":"c.9","event":{"id":"b","type":"t","timestamp":"2030-01-01T00:00:00Z"}}]}`)
	p.until("message", `{"cursor":"c.8"}`, `{"cursor":"c.9"}`)
	s.asked("GET /v1/poll?after=c.9&waitMs=25000", "token-4")
	p.advance(200)
	s.asked("POST /v1/acks", "token-4").reply(http.StatusNoContent, "", "")
	p.Eval(`h.request({type: "slots.list"})`)
	s.asked("POST /v1/requests", "token-4").reply(200, "application/json", `null`)
	p.until("response", `{"status":200,"data":null}`)
}

func pollsLeaveNothing(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null, transports: ["poll"]}`)
	p.Eval(`(() => {
		h.listeners = 0;
		for (const [name, by] of [["addEventListener", 1], ["removeEventListener", -1]]) {
			const its = AbortSignal.prototype[name];
			AbortSignal.prototype[name] = function (...args) {
				h.listeners += by;
				return its.apply(this, args);
			};
		}
	})()`)
	s.asked("GET /v1/poll?waitMs=0", "token-1").reply(200, "application/json", `{"cursor":"c.7","frames":[]}`)
	for range 5 { // answered empty and at once, as those beyond a user's limit are
		s.asked("GET /v1/poll?after=c.7&waitMs=25000", "token-1").reply(200, "application/json", `{"cursor":"c.7","frames":[]}`)
		p.Eval(`h.clock.waiting(1000)`)
		p.advance(1000)
	}
	s.asked("GET /v1/poll?after=c.7&waitMs=25000", "token-1")
	if n := p.Eval(`h.listeners`); fmt.Sprint(n) != "0" {
		t.Errorf("%v listeners are left", n)
	}
}

func fallbackNotAfterOpen(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	s.connected(firstConnect, "c.0").close(1006)
	s.block.Store(true)
	for n := range 5 {
		p.Eval(`h.until("close", %d)`, n+1)
		p.comeBack()
	}
	p.Eval(`h.until("close", 6)`)
	if len(s.asks) > 0 {
		t.Fatalf("it asked %s", (<-s.asks).r.URL)
	}
}

func fallbackTriesSocket(t *testing.T) {
	s := newScript(t)
	p, a := s.fallen(`{stored: null, retryWebSocketMs: 600_000}`)
	a.event("connected", hello(""))
	p.Eval(`h.until("open", 1)`)
	s.block.Store(false)
	p.advance(1000)
	a.end() // soon: the stream stays the choice
	p.Eval(`h.until("close", 3)`)
	p.comeBack()
	b := s.asked("GET /v1/stream?after=c.0", "token-4")
	b.event("connected", hello("c.0"))
	p.Eval(`h.until("open", 2)`)
	for range 60 { // ten minutes of a stream that lives
		b.heartbeat(p)
		p.advance(10_000)
	}
	b.end()
	p.Eval(`h.until("close", 4)`)
	p.comeBack()
	s.connected(`{"type":"connect","token":"token-5","after":"c.0"}`, "c.0")
	p.Eval(`h.until("open", 3)`)
}

func fallbackRefusals(t *testing.T) {
	s := newScript(t)
	problem := func(status int, code string) string {
		return fmt.Sprintf(`{"type":"urn:hookbridge:problem:%s","title":"no","status":%d,"code":%q}`, code, status, code)
	}
	for name, c := range map[string]struct {
		status int
		code   string
		retry  string
		want   string
	}{
		"forbidden":              {403, "forbidden", "", `{"code":4403,"retry":false}`},
		"the token is bad":       {401, "unauthorized", "", `{"code":4401,"retry":true}`},
		"too many":               {429, "rate_limited", "60", `{"code":4429,"retry":true}`},
		"draining":               {503, "draining", "5", `{"code":1012,"retry":true}`},
		"the store is away":      {503, "unavailable", "5", `{"code":1013,"retry":true}`},
		"a bridge that has none": {404, "not_found", "", `{"code":1006,"retry":true}`},
	} {
		s.during(name, func(t *testing.T, s *script) {
			p, a := s.fallen(`{stored: null}`)
			header := []string{}
			if c.retry != "" {
				header = []string{"Retry-After", c.retry}
			}
			a.reply(c.status, "application/problem+json", problem(c.status, c.code), header...)
			p.until("close", `{"code":1006}`, `{"code":1006}`, c.want)
		})
	}
	s.during("a proxy's page with the same status stops nobody", func(t *testing.T, s *script) {
		p, a := s.fallen(`{stored: null}`)
		a.reply(403, "text/html", "<h1>Forbidden</h1>")
		p.until("close", `{"code":1006}`, `{"code":1006}`, `{"code":1006,"retry":true}`)
	})
}

func streamCloseEvent(t *testing.T) {
	s := newScript(t)
	for code, want := range map[int]string{4403: `"retry":false`, 4409: `"retry":false`, 4410: `"retry":false`, 1012: `"retry":true`, 4498: `"retry":true`} {
		s.during(fmt.Sprint(code), func(t *testing.T, s *script) {
			p, a := s.fallen(`{stored: null}`)
			a.event("connected", hello(""))
			p.Eval(`h.until("open", 1)`)
			a.event("close", fmt.Sprintf(`{"type":"close","code":%d,"reason":"scripted"}`, code))
			p.until("close", `{"code":1006}`, `{"code":1006}`, fmt.Sprintf(`{"code":%d,%s,"reason":"scripted"}`, code, want))
			if code == 4410 {
				p.until("cleared", `true`)
			}
		})
	}
}

func streamRenewsToken(t *testing.T) {
	s := newScript(t)
	p, a := s.fallen(`{stored: null}`)
	a.event("connected", hello(""))
	a.message(1)
	p.Eval(`h.until("message", 1)`)
	p.advance(200)
	s.asked("POST /v1/acks", "token-3").reply(http.StatusNoContent, "", "")
	a.event("token_expiring", `{"type":"token_expiring","inMs":60000}`)
	b := s.asked("GET /v1/stream?after=c.1", "token-4")
	b.event("connected", hello("c.1"))
	p.until("refreshed", `{"expiresAt":"2030-01-01T00:00:00Z"}`)
	b.message(2)
	p.until("message", `{"cursor":"c.1"}`, `{"cursor":"c.2"}`)
	p.until("close", `{"code":1006}`, `{"code":1006}`) // those of the WebSocket, and no other
	if n := p.Eval(`h.all("open").length`); fmt.Sprint(n) != "1" {
		t.Errorf("opened %v times", n)
	}
}

func streamHeartbeats(t *testing.T) {
	s := newScript(t)
	p, a := s.fallen(`{stored: null}`)
	a.event("connected", hello(""))
	p.Eval(`h.until("open", 1)`)
	for range 4 { // heartbeats keep it
		p.advance(25_000)
		a.heartbeat(p)
	}
	p.until("close", `{"code":1006}`, `{"code":1006}`)
	p.advance(2*25_000 + 25_000/2)
	p.until("close", `{"code":1006}`, `{"code":1006}`, `{"code":1006,"reason":"nothing heard"}`)
}

func streamIsRead(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	stream := ":ping\n\nid: 7\nevent: event\ndata: {\"a\":\n data-less\ndata: \"漢🙂\"}\r\n\r\nevent:gap\rdata:x\r\rdata\n\nretry: 5\ndata: last\n\n"
	want := `[["event","{\"a\":\n\"漢🙂\"}"],["gap","x"],["message",""],["message","last"]]`
	got := p.Eval(`(async () => {
		const { EventParser } = await import("/bridge-stream.js");
		const bytes = new TextEncoder().encode(%q);
		const want = %q;
		for (let i = 0; i <= bytes.length; i++) for (let j = i; j <= bytes.length; j += 7) {
			const events = [];
			const parser = new EventParser((type, data) => events.push([type, data]));
			for (const part of [bytes.slice(0, i), bytes.slice(i, j), bytes.slice(j)]) parser.feed(part);
			if (JSON.stringify(events) !== want) return i + " " + j + " " + JSON.stringify(events);
		}
		return "same";
	})()`, stream, want)
	if got != "same" {
		t.Errorf("%v", strings.TrimSpace(fmt.Sprint(got)))
	}
}
