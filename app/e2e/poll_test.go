package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestPoll(t *testing.T) {
	t.Parallel()
	t.Run("answers with what there is, or as soon as there is something", pollAnswers)
	t.Run("is told of a recall", pollTellsRecall)
	t.Run("of an erased user is refused", pollOfErased)
	t.Run("makes room when held, and never takes a place", pollMakesRoom)
	t.Run("is answered before what is sent behind it", pollPipelined)
	t.Run("is answered at once when much is sent behind it", pollCrowded)
}

func TestHangUp(t *testing.T) {
	t.Parallel()
	t.Run("ends a poll, a stream and a wait", hangUpEnds)
}

// bearerGet is a request as bytes.
func bearerGet(path, token string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n\r\n"
}

type pollReply struct {
	Cursor string
	Frames []frame
}

func (w *world) poll(tok, query string) pollReply {
	w.t.Helper()
	a := w.callAs(tok, "GET", "/v1/poll"+query, "")
	var p pollReply
	if a.HTTP != 200 || json.Unmarshal([]byte(a.Raw), &p) != nil || p.Cursor == "" || !strings.Contains(a.Raw, `"frames":[`) {
		w.t.Fatalf("poll %s: %d %s", query, a.HTTP, a.Raw)
	}
	return p
}

func pollAnswers(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MailboxLimit = 300 })
	tok := token(t, "patient-1", time.Hour, "")
	p := w.poll(tok, "?waitMs=0")
	if len(p.Frames) != 0 {
		t.Errorf("%+v", p)
	}
	for i := range 5 {
		w.fireTo("patient-1", i)
	}
	got := 0
	for after := p.Cursor; got < 5; {
		p = w.poll(tok, "?waitMs=20000&after="+after)
		for _, f := range p.Frames {
			if f.Type != "event" || f.n() != got {
				t.Fatalf("%+v", f)
			}
			got++
		}
		after = p.Cursor
	}
	answers := make(chan pollReply)
	go func() { answers <- w.poll(tok, "?waitMs=20000&after="+p.Cursor) }()
	w.sessions(1)
	w.fireTo("patient-1", 5)
	if p = <-answers; len(p.Frames) != 1 || p.Frames[0].n() != 5 {
		t.Errorf("%+v", p)
	}
	for i := range 310 {
		w.fireTo("patient-1", i)
	}
	if p = w.poll(tok, "?waitMs=20000&after="+p.Cursor); p.Frames[0].Type != "gap" || p.Frames[0].Reason != "trimmed" {
		t.Errorf("%+v", p.Frames[0])
	}
	if p = w.poll(tok, "?waitMs=0&after=else.1.1"); p.Frames[0].Type != "gap" {
		t.Errorf("%+v", p.Frames[0])
	}
}

func pollTellsRecall(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	a := w.fireTo("patient-1", 1)
	had := w.poll(tok, "?waitMs=20000")
	answers := make(chan pollReply)
	go func() { answers <- w.poll(tok, "?waitMs=20000&after="+had.Cursor) }()
	w.sessions(1)
	w.done("DELETE", "/v1/events/"+a.ID, "")
	if p := <-answers; len(p.Frames) != 1 || p.Frames[0].Type != "recalled" || p.Frames[0].ID != a.ID {
		t.Errorf("%+v", p)
	}
}

func pollOfErased(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	had := w.poll(tok, "?waitMs=0")
	answers := make(chan answer)
	go func() { answers <- w.callAs(tok, "GET", "/v1/poll?waitMs=20000&after="+had.Cursor, "") }()
	w.sessions(1)
	w.done("DELETE", "/v1/users/patient-1", "")
	if a := <-answers; a.HTTP != 403 || a.Code != "forbidden" {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
}

func pollMakesRoom(t *testing.T) {
	heavy(t)
	t.Parallel()
	onBothByTwo(t, func(t *testing.T, w, other *world) {
		tok := token(t, "patient-1", time.Hour, "")
		begin := func(on *world) <-chan pollReply {
			answer := make(chan pollReply, 1)
			go func() { answer <- on.poll(tok, "?waitMs=30000") }()
			return answer
		}
		held := func(on *world) <-chan pollReply {
			before := on.metric("hookbridge_sessions")
			answer := begin(on)
			expect.Eventually(t, "the poll is held", func() bool { return on.metric("hookbridge_sessions") > before })
			return answer
		}
		empty := func(who string, answer <-chan pollReply) {
			t.Helper()
			select {
			case p := <-answer:
				if len(p.Frames) != 0 || p.Cursor == "" {
					t.Errorf("%s: %+v", who, p)
				}
			case <-time.After(expect.Patience):
				t.Fatalf("%s was not answered", who)
			}
		}
		socket := w.connect("patient-1", "")
		first, second := held(other), held(w)
		third := begin(other) // a fourth session of three
		empty("the oldest poll", first)
		stream := other.stream(tok, "", "")
		stream.want("connected")
		empty("the oldest poll, for a stream", second)
		another := w.connect("patient-1", "")
		empty("the last poll, for a socket", third)
		// All places are taken by those that stay: a poll is answered at once.
		for range 3 {
			empty("a poll without a place", begin(other))
		}
		w.fire(w.uniqueID(), `{"type":"t","to":{"user":"patient-1"},"data":{"n":7}}`)
		for _, s := range []*session{socket, another} {
			if f := s.want("event"); f.n() != 7 {
				t.Errorf("%s", f.Raw)
			}
		}
		stream.want("event")
		// What is there for it, it gets all the same.
		if p := other.poll(tok, "?waitMs=30000"); len(p.Frames) != 1 || p.Frames[0].n() != 7 {
			t.Errorf("%+v", p)
		}
		// Among those that stay the oldest still makes room.
		w.connect("patient-1", "")
		if code := socket.closed(); code != 4409 {
			t.Errorf("%d", code)
		}
	}, func(s *server.Settings) { s.SessionsByUser = 3 })
}

func pollPipelined(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	const more = 200 // more than a buffer holds
	conn := w.raw(bearerGet("/v1/poll?waitMs=30000", tok))
	w.sessions(1)
	_, err := io.WriteString(conn, strings.Repeat(bearerGet("/livez", "x"), more))
	expect.NoError(t, err)
	w.fireTo("patient-1", 1)
	r := bufio.NewReader(conn)
	for i := range 1 + more {
		res, err := http.ReadResponse(r, nil)
		expect.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		expect.NoError(t, err)
		if res.StatusCode != 200 || (i == 0) != strings.Contains(string(body), `"frames":[{`) {
			t.Fatalf("%d: %d %s", i, res.StatusCode, body)
		}
	}
}

// Behind more than is read ahead a hang-up would not be seen: the poll is answered
// while its caller is there.
func pollCrowded(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	const more = 1000
	conn := w.raw(bearerGet("/v1/poll?waitMs=30000", token(t, "patient-1", time.Hour, "")))
	w.sessions(1)
	go func() {
		_, _ = io.WriteString(conn, strings.Repeat(bearerGet("/livez", "x"), more)) // the answers show what came
	}()
	r := bufio.NewReader(conn)
	for i := range 1 + more {
		res, err := http.ReadResponse(r, nil)
		expect.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		expect.NoError(t, err)
		if res.StatusCode != 200 || (i == 0) != strings.Contains(string(body), `"frames":[]`) {
			t.Fatalf("%d: %d %s", i, res.StatusCode, body)
		}
	}
}

// A poll or a wait would last for 30 s by itself, a stream for ever: longer than
// the test waits for its end.
func hangUpEnds(t *testing.T) {
	heavy(t)
	t.Parallel()
	onBothByTwo(t, func(t *testing.T, w, other *world) {
		tok := token(t, "patient-1", time.Hour, "")
		for name, sent := range map[string]string{
			"a poll":                       bearerGet("/v1/poll?waitMs=30000", tok),
			"a poll with more behind it":   bearerGet("/v1/poll?waitMs=30000", tok) + bearerGet("/livez", ""),
			"a poll with half of one more": bearerGet("/v1/poll?waitMs=30000", tok) + "GET /li",
			"a stream":                     bearerGet("/v1/stream", tok),
		} {
			for _, reset := range []bool{false, true} {
				conn := w.raw(sent)
				w.sessions(1)
				if reset {
					expect.NoError(t, conn.(*net.TCPConn).SetLinger(0))
				}
				expect.NoError(t, conn.Close())
				w.sessions(0)
				expect.Eventually(t, name+" has left presence", func() bool {
					var p struct{ Online bool }
					other.get("/v1/users/patient-1/presence", &p)
					return !p.Online
				})
				if a := other.fire(other.uniqueID(), `{"type":"t","to":{"user":"patient-1"},"ttl":0}`); a.Status != "dropped" {
					t.Errorf("after %s has hung up (reset: %v): %s", name, reset, a.Raw)
				}
			}
		}
		// Who waits for an event's ack.
		s := w.connect("patient-2", "")
		req := w.sign(w.uniqueID(), `{"type":"t","to":{"user":"patient-2"}}`, time.Now())
		var b strings.Builder
		expect.NoError(t, waiting(req, "acked", "30s").Write(&b))
		conn := w.raw(b.String())
		s.want("event")
		open := w.metric("hookbridge_connections")
		expect.NoError(t, conn.Close())
		expect.Eventually(t, "the wait has ended", func() bool { return w.metric("hookbridge_connections") < open })
	})
}
