package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/server"
)

func TestLargeEvent(t *testing.T) {
	t.Parallel()
	t.Run("reaches everybody", largeEventReachesAll)
	t.Run("is taken from a client's frame", largeEventFromClient)
}

// The largest event that can be set reaches every kind of reader: live and
// replayed, over a socket, in plain mode, as a stream and in a poll.
func largeEventReachesAll(t *testing.T) {
	heavy(t)
	t.Parallel()
	onBoth(t, func(t *testing.T, change ...func(*server.Settings)) { testLargestEvents(t, start(t, change...)) },
		func(s *server.Settings) { s.MaxBytes = 4 << 20 })
}

func testLargestEvents(t *testing.T, w *world) {
	const head, tail = `{"type":"large","to":{"user":"patient-1"},"data":"`, `"}`
	data := strings.Repeat("x", 4<<20-len(head)-len(tail))
	body := head + data + tail
	is := func(event []byte) bool { return bytes.Contains(event, []byte(`"data":"`+data+`"}`)) }
	tok := token(t, "patient-1", time.Hour, "")
	socket := w.connectAs(tok, "")
	stream := w.stream(tok, "", "")
	stream.want("connected")
	plain := w.plain(tok)
	w.sessions(3)
	polled := make(chan answer, 1)
	go func() { polled <- w.callAs(tok, http.MethodGet, "/v1/poll?waitMs=20000", "") }()
	w.sessions(4)

	sent := w.fire("msg_live", body)
	if sent.Status != "sent" || sent.Sessions != 4 {
		t.Errorf("%s", sent.Raw)
	}
	// checkPoll returns where to go on. A poll is answered as soon as there is
	// something, so that two events may come in two polls.
	checkPoll := func(a answer) (frames int, cursor string) {
		t.Helper()
		var p struct {
			Cursor string
			Frames []struct{ Event json.RawMessage }
		}
		if err := json.Unmarshal([]byte(a.Raw), &p); err != nil || len(p.Frames) == 0 {
			t.Fatalf("poll: %d, %d frames, %.100s, %v", a.HTTP, len(p.Frames), a.Raw, err)
		}
		for _, f := range p.Frames {
			if !is(f.Event) {
				t.Errorf("poll: %.100s", f.Event)
			}
		}
		return len(p.Frames), p.Cursor
	}
	checkPoll(<-polled)
	checkSocket := func(s *session, replay bool) {
		t.Helper()
		if f := s.want("event"); string(f.Event.Data) != `"`+data+`"` || f.Replay != replay {
			t.Errorf("socket: %.100s", f.Raw)
		}
	}
	checkSocket(socket, false)
	checkStream := func(s *sse) {
		t.Helper()
		if e := s.want("event"); string(e.Event.Data) != `"`+data+`"` {
			t.Errorf("stream: %.100s", e.Raw)
		}
	}
	checkStream(stream)
	if f := plain.next(); !is([]byte(f.Raw)) {
		t.Errorf("plain: %.100s", f.Raw)
	}

	// More than one, and of those who are away.
	w.fire("msg_more", body)
	checkSocket(socket, false)
	checkStream(stream)
	late := w.connectAs(tok, socket.hello.Cursor)
	if late.hello.Pending != 2 {
		t.Errorf("pending: %d", late.hello.Pending)
	}
	checkSocket(late, true)
	checkSocket(late, true)
	late.settle()
	resumed := w.stream(tok, "?after="+socket.hello.Cursor, "")
	resumed.want("connected")
	checkStream(resumed)
	checkStream(resumed)
	for got, cursor := 0, socket.hello.Cursor; got < 2; {
		n, next := checkPoll(w.callAs(tok, http.MethodGet, "/v1/poll?waitMs=20000&after="+cursor, ""))
		got, cursor = got+n, next
	}
}

// The client of this test sends a large message in fragments of 4 KiB, as many
// libraries do: they are not held against its frame rate.
func largeEventFromClient(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MaxBytes = 4 << 20 })
	s := w.connectAs(token(t, "doctor-7", time.Hour, `{"send":["*"]}`), "")
	if s.hello.MaxBytes != 4<<20 {
		t.Errorf("maxBytes: %d", s.hello.MaxBytes)
	}
	const head, tail = `{"type":"send","ref":"c1","to":{"user":"patient-1"},"event":{"type":"large","data":"`, `"}}`
	data := strings.Repeat("x", 4<<20-len(head)-len(tail))
	s.sendRaw(head + data + tail)
	if f := s.want("result"); f.Status != "queued" {
		t.Errorf("%s", f.Raw)
	}
	if got := w.connect("patient-1", "").want("event"); string(got.Event.Data) != `"`+data+`"` {
		t.Errorf("%d bytes", len(got.Event.Data))
	}
}
