package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestStream(t *testing.T) {
	t.Parallel()
	t.Run("has the frames, order and cursor of a socket", streamLikeSocket)
	t.Run("tells gaps, recalls and why it ends", streamTellsItsEnd)
	t.Run("carries data of several lines whole", streamOfLines)
	t.Run("over HTTP 1.0 is not chunked", streamOverHTTP10)
	t.Run("is not opened by HEAD", streamHead)
	t.Run("that is bad is refused, as a poll is", streamRefused)
}

func TestAck(t *testing.T) {
	t.Parallel()
	t.Run("over HTTP counts for the user", ackOverHTTP)
}

// sse is a reader of server-sent events that is not ours.
type sse struct {
	t    *testing.T
	res  *http.Response
	in   *bufio.Reader
	stop context.CancelFunc
}

type sseEvent struct {
	frame
	id    string
	event string
}

func (w *world) stream(tok, query, last string) *sse {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), expect.Patience)
	w.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+"/v1/stream"+query, nil)
	expect.NoError(w.t, err)
	req.Header.Set("Authorization", "Bearer "+tok)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	expect.NoError(w.t, err)
	w.t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") || res.Header.Get("Cache-Control") != "no-store, no-transform" {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1000)) // only to say what came instead
		w.t.Fatalf("stream: %d %v %s", res.StatusCode, res.Header, b)
	}
	return &sse{w.t.(*testing.T), res, bufio.NewReader(res.Body), cancel}
}

// next is the next event; io.EOF at the stream's proper end.
func (s *sse) read() (e sseEvent, err error) {
	var data []string
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "" && data != nil:
			e.Raw = strings.Join(data, "\n")
			return e, json.Unmarshal([]byte(e.Raw), &e.frame)
		case name == "id":
			e.id = value
		case name == "event":
			e.event = value
		case name == "data":
			data = append(data, value)
		}
	}
}

func (s *sse) want(typ string) sseEvent {
	s.t.Helper()
	e, err := s.read()
	if err != nil || e.event != typ || e.Type != typ || e.id != e.Cursor {
		s.t.Fatalf("instead of %s: %q %q %s %v", typ, e.event, e.id, e.Raw, err)
	}
	return e
}

// closed wants the last event of a stream that the server ends.
func (s *sse) closed() int {
	s.t.Helper()
	for {
		e, err := s.read()
		if err != nil {
			s.t.Fatalf("instead of close: %v", err)
		}
		if e.event == "close" {
			var c struct{ Code int }
			expect.NoError(s.t, json.Unmarshal([]byte(e.Raw), &c))
			if _, err := s.in.ReadByte(); err != io.EOF {
				s.t.Fatalf("after close: %v", err)
			}
			return c.Code
		}
	}
}

func streamLikeSocket(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	w.fireTo("patient-1", 1)
	ws := w.connect("patient-1", "")
	s := w.stream(tok, "", "")
	hello := s.want("connected")
	if hello.User != "patient-1" || hello.Pending != 1 || hello.Resumed || hello.Session == "" || hello.PingMs == 0 {
		t.Errorf("%s", hello.Raw)
	}
	w.fire(w.nextID(), `{"type":"t","to":{"all":true},"data":{"n":2}}`)
	w.fireTo("patient-1", 3)
	var last sseEvent
	for n := 1; n <= 3; n++ {
		a, b := ws.want("event"), s.want("event")
		if a.Raw != b.Raw && n != 1 { // the first is a replay to one and to the other, live or not
			t.Errorf("%s\n%s", a.Raw, b.Raw)
		}
		if b.n() != n {
			t.Errorf("%s", b.Raw)
		}
		last = b
	}
	var list struct{ Sessions []struct{ Transport string } }
	if w.get("/v1/users/patient-1/sessions", &list); len(list.Sessions) != 2 || list.Sessions[1].Transport != "sse" {
		t.Errorf("%+v", list)
	}
	s.stop()
	w.sessions(1)
	w.fireTo("patient-1", 4)
	for name, again := range map[string]*sse{"Last-Event-ID": w.stream(tok, "", last.id), "after": w.stream(tok, "?after="+last.id, "")} {
		if h := again.want("connected"); !h.Resumed || h.Pending != 1 {
			t.Errorf("%s: %s", name, h.Raw)
		}
		if e := again.want("event"); e.n() != 4 || !e.Replay {
			t.Errorf("%s: %s", name, e.Raw)
		}
	}
	if h := w.stream(tok, "?after=nonsense", ""); h.want("connected").Resumed || h.want("gap").Reason == "" {
		t.Error("a cursor that is none was resumed from")
	}
}

func streamTellsItsEnd(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MailboxLimit = 10 })
	tok := token(t, "patient-1", time.Hour, "")
	first := w.stream(tok, "", "")
	cursor := first.want("connected").Cursor
	first.stop()
	for i := range 15 {
		w.fireTo("patient-1", i)
	}
	s := w.stream(tok, "?after="+cursor, "")
	s.want("connected")
	if g := s.want("gap"); g.Reason != "trimmed" {
		t.Errorf("%s", g.Raw)
	}
	var e sseEvent
	for range 10 {
		e = s.want("event")
	}
	w.done("DELETE", "/v1/events/"+e.Event.ID, "")
	if r := s.want("recalled"); r.ID != e.Event.ID {
		t.Errorf("%s", r.Raw)
	}
	w.done("DELETE", "/v1/users/patient-1/sessions", "")
	if code := s.closed(); code != 4403 {
		t.Errorf("disconnected with %d", code)
	}
	s = w.stream(tok, "", "")
	w.done("DELETE", "/v1/users/patient-1", "")
	if code := s.closed(); code != 4410 {
		t.Errorf("erased with %d", code)
	}
	s = w.stream(token(t, "patient-1", 5*time.Second, ""), "", "")
	s.want("connected")
	s.want("token_expiring")
	if code := s.closed(); code != 4401 {
		t.Errorf("expired with %d", code)
	}
	s = w.stream(tok, "", "")
	s.want("connected")
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.stop() }()
	defer func() { <-stopped }() // its files are removed next
	if r := s.want("reconnect"); r.AfterMs == nil {
		t.Errorf("%s", r.Raw)
	}
	if code := s.closed(); code != 1012 {
		t.Errorf("drained with %d", code)
	}
}

func streamOfLines(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.stream(token(t, "patient-1", time.Hour, ""), "", "")
	s.want("connected")
	w.fire(w.nextID(), "{\"type\":\"t\",\"to\":{\"user\":\"patient-1\"},\"data\":{\n  \"n\":\r\n 1}}")
	if e := s.want("event"); e.n() != 1 {
		t.Errorf("%s", e.Raw)
	}
}

func streamOverHTTP10(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	conn, err := net.Dial("tcp", w.p.Addr())
	expect.NoError(t, err)
	defer conn.Close()
	expect.NoError(t, conn.SetReadDeadline(time.Now().Add(expect.Patience)))
	_, err = io.WriteString(conn, "GET /v1/stream HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer "+tok+"\r\n\r\n")
	expect.NoError(t, err)
	w.sessions(1)
	w.done("DELETE", "/v1/users/patient-1/sessions", "")
	all, err := io.ReadAll(conn)
	expect.NoError(t, err)
	head, body, _ := strings.Cut(string(all), "\r\n\r\n")
	if strings.Contains(head, "Transfer-Encoding") || strings.Contains(head, "Content-Length") || !strings.Contains(head, "Connection: close") {
		t.Errorf("%s", head)
	}
	if !strings.HasPrefix(body, "id: ") && !strings.HasPrefix(body, "event: ") {
		t.Errorf("%s", body)
	}
}

func streamHead(t *testing.T) {
	t.Parallel()
	w := start(t)
	for range 2 { // the connection is good for another request
		req, err := http.NewRequest(http.MethodHead, w.base+"/v1/stream", nil)
		expect.NoError(t, err)
		req.Header = bearer(token(t, "patient-1", time.Hour, ""))
		res, err := http.DefaultTransport.RoundTrip(req)
		expect.NoError(t, err)
		expect.NoError(t, res.Body.Close())
		if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
		var list struct{ Sessions []struct{ Session string } }
		if w.get("/v1/users/patient-1/sessions", &list); len(list.Sessions) != 0 {
			t.Errorf("%+v", list)
		}
	}
}

func streamRefused(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.SessionsByUser = 1 })
	good := token(t, "patient-1", time.Hour, "")
	for _, path := range []string{"/v1/stream", "/v1/poll", "/v1/acks"} {
		method := "GET"
		if path == "/v1/acks" {
			method = "POST"
		}
		for name, tok := range map[string]string{"none": "", "nonsense": "abc", "expired": token(t, "patient-1", -time.Hour, "")} {
			if a := w.callAs(tok, method, path, ""); a.HTTP != 401 || a.Code != "unauthorized" || a.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s with a token that is %s: %d %s", path, name, a.HTTP, a.Raw)
			}
		}
		if a := w.callAs("", method, path+"?token="+good, ""); a.HTTP != 400 || a.Code != "token_in_url" {
			t.Errorf("%s with a token in the query: %d %s", path, a.HTTP, a.Raw)
		}
	}
	for _, wait := range []string{"-1", "30001", "soon", "1.5"} {
		if a := w.callAs(good, "GET", "/v1/poll?waitMs="+wait, ""); a.HTTP != 400 || !strings.Contains(a.Detail, "30000") {
			t.Errorf("waitMs=%s: %d %s", wait, a.HTTP, a.Raw)
		}
	}
	// One session too many ends the older one, whatever carries it.
	s := w.stream(good, "", "")
	s.want("connected")
	w.connect("patient-1", "")
	if code := s.closed(); code != 4409 {
		t.Errorf("replaced with %d", code)
	}
}

func ackOverHTTP(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	s := w.stream(tok, "", "")
	s.want("connected")
	const body = `{"type":"t","to":{"user":"patient-1"},"data":{"n":1}}`
	answers := make(chan answer)
	go func() { answers <- w.ask("msg_w", body, "acked", "20s") }()
	e := s.want("event")
	if a := w.callAs(tok, "POST", "/v1/acks", fmt.Sprintf(`{"cursor":%q}`, e.id)); a.HTTP != 204 || a.Raw != "" {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	if a := <-answers; a.Status != "acked" {
		t.Errorf("%s", a.Raw)
	}
	if h := w.connect("patient-1", ""); h.hello.Pending != 0 {
		t.Errorf("%s", h.hello.Raw)
	}
	var ev eventReply
	if w.get("/v1/events/msg_w", &ev); len(ev.Recipients[0].Sessions) != 1 || ev.Recipients[0].Sessions[0].AckedAt == "" {
		t.Errorf("%+v", ev)
	}
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"no cursor":      {`{}`, 422, "invalid_request"},
		"nonsense":       {`{"cursor":"x"}`, 422, "invalid_request"},
		"another user's": {fmt.Sprintf(`{"cursor":%q}`, w.connect("patient-2", "").hello.Cursor), 422, "invalid_request"},
		"a number":       {`{"cursor":7}`, 422, "invalid_request"},
		"no JSON":        {`cursor`, 400, "malformed"},
	} {
		if a := w.callAs(tok, "POST", "/v1/acks", c.body); a.HTTP != c.status || a.Code != c.code {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
	}
}
