package e2e

import (
	"bufio"
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
	"hookbridge/app/store/redis/redistest"
)

// onEachEngine runs a test against the embedded engine and against two machines
// that share a Redis; other is the machine that did not take the caller.
func onEachEngine(t *testing.T, test func(t *testing.T, w, other *world), change ...func(*server.Settings)) {
	t.Run("sqlite", func(t *testing.T) {
		w := start(t, change...)
		test(t, w, w)
	})
	t.Run("redis", func(t *testing.T) {
		r := redistest.Start(t)
		on := append(change, func(s *server.Settings) { s.RedisURL, s.RedisPrefix = server.Secret(r.URL()), "e2e" })
		test(t, start(t, on...), start(t, on...))
	})
}

// bearerGet is a request as bytes.
func bearerGet(path, token string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n\r\n"
}

// A poll or a wait would last for 30 s by itself, a stream for ever: longer than
// the test waits for its end.
func TestACallerWhoHangsUpIsLetGo(t *testing.T) {
	heavy(t)
	t.Parallel()
	onEachEngine(t, func(t *testing.T, w, other *world) {
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

func TestWhatIsSentBehindAPollIsAnsweredAfterIt(t *testing.T) {
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
func TestAPollBehindWhichMuchIsSentIsAnsweredAtOnce(t *testing.T) {
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

func TestHeldPollsMakeRoomAndNeverTakeAPlace(t *testing.T) {
	heavy(t)
	t.Parallel()
	onEachEngine(t, func(t *testing.T, w, other *world) {
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

func TestThoseWhoWaitHoldNoPlaceOfTheirSender(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MaxUnauthenticated = 5000 })
	s := w.connect("patient-1", "")
	const waiters = 300 // more than a sender may have under way
	answered := make(chan error, waiters)
	for i := range waiters {
		req := waiting(w.sign(fmt.Sprintf("w%d", i), `{"type":"t","to":{"user":"patient-1"},"ttl":60}`, time.Now()), "acked", "30s")
		go func() {
			res, err := w.client.Do(req)
			if err == nil {
				err = res.Body.Close()
			}
			answered <- err
		}()
	}
	last := ""
	for range waiters {
		last = s.want("event").Cursor
	}
	// All are stored and wait. The sender's plain events come through.
	for i := range 20 {
		w.fireTo("patient-2", i)
	}
	select {
	case err := <-answered:
		t.Fatalf("one did not wait: %v", err)
	default:
	}
	s.ack(last)
	for range waiters {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}

func TestASendersRateCountsEventsInAllForms(t *testing.T) {
	heavy(t)
	t.Parallel()
	for _, form := range []string{"batch", "cloud batch"} {
		w := withSenders(t, `,"rate":{"perSecond":1,"burst":5}`)
		lab := w.as(labSecret)
		var items []string
		for i := range 1000 {
			if form == "batch" {
				items = append(items, fmt.Sprintf(`{"id":"i%d","type":"t","to":{"user":"u"}}`, i))
			} else {
				items = append(items, fmt.Sprintf(`{"specversion":"1.0","id":"i%d","source":"/s","type":"t","touser":"u"}`, i))
			}
		}
		media, body := "application/json", `{"events":[`+strings.Join(items, ",")+`]}`
		if form == "cloud batch" {
			media, body = "application/cloudevents-batch+json", "["+strings.Join(items, ",")+"]"
		}
		if a := lab.do(lab.signFor("/webhooks/events/batch", media, "b0", body, time.Now())); a.HTTP != 202 {
			t.Fatalf("%s: %d %s", form, a.HTTP, a.Raw)
		}
		for i := range 4 {
			a := lab.do(lab.signFor("/webhooks/events/batch", media, fmt.Sprintf("b%d", i+1), body, time.Now()))
			if wait := json.Number(a.Header.Get("Retry-After")); a.HTTP != 429 || len(wait) < 3 {
				t.Errorf("%s, once more: %d, %s", form, a.HTTP, wait)
			}
		}
		if a := lab.do(lab.sign("one", `{"type":"t","to":{"user":"u"}}`, time.Now())); a.HTTP != 429 {
			t.Errorf("%s, then one event: %d", form, a.HTTP)
		}
		if a := w.do(w.sign("other", `{"type":"t","to":{"user":"u"}}`, time.Now())); a.HTTP != 202 {
			t.Errorf("another sender: %s", a.Raw)
		}
	}
}
