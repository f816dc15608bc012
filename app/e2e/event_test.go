package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestEvent(t *testing.T) {
	t.Parallel()
	t.Run("without a ttl is kept for the default", eventDefaultTTL)
	t.Run("with a ttl of 0 is for live sessions only", eventTTLZero)
	t.Run("without a timestamp has the webhook's own", eventTimestamp)
	t.Run("has times in RFC 3339 or is refused", eventTimes)
	t.Run("of exactly the largest size is taken", eventLargestSize)
	t.Run("of a topic replaces the older unacked one", eventOfTopic)
	t.Run("is told of by recipient and session", eventStatus)
}

type eventReply struct {
	ID, Type, Timestamp, Expires, Recalled string
	Recipients                             []struct {
		User, Status string
		Sessions     []struct{ Session, SentAt, ReceivedAt, AckedAt, SeenAt string }
	}
}

func eventDefaultTTL(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.DefaultTTL = 5 * time.Hour })
	a := w.fireTo("patient-1", 1)
	if at, err := time.Parse(time.RFC3339, a.Expires); err != nil || time.Until(at) > 5*time.Hour || time.Until(at) < 4*time.Hour+59*time.Minute {
		t.Errorf("%s", a.Raw)
	}
}

func eventTTLZero(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	w.fireTo("patient-1", 1)
	first := s.want("event")
	a := w.fire("live", `{"type":"t","to":{"user":"patient-1"},"ttl":0,"data":{"n":2}}`)
	f := s.want("event")
	if a.Status != "sent" || f.n() != 2 || f.Cursor != first.Cursor {
		t.Errorf("%s / %s", a.Raw, f.Raw)
	}
	if a = w.fire("live", `{"type":"t","to":{"user":"patient-1"},"ttl":0,"data":{"n":2}}`); !a.Duplicate {
		t.Errorf("%s", a.Raw)
	}
	s = w.connect("patient-1", first.Cursor)
	s.settle()
}

func eventTimestamp(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	at := time.Now().Add(-2 * time.Minute)
	for media, body := range map[string]string{
		"application/json":             `{"type":"t","to":{"user":"patient-1"}}`,
		"application/cloudevents+json": `{"specversion":"1.0","id":"1","source":"/s","type":"t","touser":"patient-1"}`,
	} {
		if a := w.do(w.signFor("/webhooks/events", media, w.nextID(), body, at)); a.HTTP != 202 {
			t.Fatalf("%s: %d %s", media, a.HTTP, a.Raw)
		}
		if f := s.want("event"); f.Event.Timestamp != at.UTC().Format("2006-01-02T15:04:05Z") {
			t.Errorf("%s: %s", media, f.Raw)
		}
	}
}

func eventTimes(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, at := range []string{"9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59", "2026-11-22T2:36:00Z", "2026-11-22T20:36:00,5Z",
		"2026-11-22T20:36:00+24:00", "2026-11-22T20:36:00+01:60", "2026-11-22T20:36:60Z", "2026-11-22T23:59:61Z", "2026-11-22T23:59:60+01:00", "2026-11-22 20:36:00Z"} {
		for media, body := range map[string]string{
			"application/json":             `{"type":"t","to":{"user":"patient-1"},"timestamp":"` + at + `"}`,
			"application/cloudevents+json": `{"specversion":"1.0","id":"1","source":"/s","type":"t","touser":"patient-1","time":"` + at + `"}`,
		} {
			a := w.do(w.signFor("/webhooks/events", media, w.nextID(), body, time.Now()))
			if a.HTTP != 422 || a.Code != "invalid_event" || !strings.Contains(a.Detail, "RFC 3339") {
				t.Errorf("%s as %s: %d %s", at, media, a.HTTP, a.Raw)
			}
		}
	}
	s := w.connect("patient-1", "")
	for at, want := range map[string]string{"9999-12-31T23:59:59Z": "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z": "0000-01-01T00:00:00Z", "2026-11-22T21:36:00.5+01:00": "2026-11-22T20:36:00.5Z",
		"2026-11-22t20:36:00z": "2026-11-22T20:36:00Z", "2026-11-22T20:36:00+23:59": "2026-11-21T20:37:00Z",
		"2016-12-31T23:59:60Z": "2017-01-01T00:00:00Z", "2017-01-01T05:29:60.5+05:30": "2017-01-01T00:00:00.5Z"} {
		w.fire(w.nextID(), `{"type":"t","to":{"user":"patient-1"},"timestamp":"`+at+`"}`)
		if f := s.want("event"); f.Event.Timestamp != want {
			t.Errorf("%s: %s", at, f.Raw)
		}
	}
}

func eventLargestSize(t *testing.T) {
	t.Parallel()
	w := start(t)
	pad := func(head, tail string, n int) string { return head + strings.Repeat("a", n-len(head)-len(tail)) + tail }
	const event, tail = `{"type":"t","to":{"user":"patient-1"},"data":"`, `"}`
	w.fire(w.nextID(), pad(event, tail, 65536))
	if a := w.do(w.sign(w.nextID(), pad(event, tail, 65537), time.Now())); a.HTTP != 413 {
		t.Errorf("one byte more: %d %s", a.HTTP, a.Raw)
	}
	var users []string
	for i := range 1000 {
		users = append(users, fmt.Sprintf(`"u%d"`, i))
	}
	if a := w.fire(w.nextID(), `{"type":"t","to":{"users":[`+strings.Join(users, ",")+`]}}`); *a.Recipients != 1000 {
		t.Errorf("%s", a.Raw)
	}
	w.fire(strings.Repeat("i", 64), `{"type":"`+strings.Repeat("t", 128)+`","to":{"user":"`+strings.Repeat("ü", 128)+`"}}`)
	w.fire(w.nextID(), `{"type":"t","to":{"group":"`+strings.Repeat("ü", 128)+`"}}`)
	for name, body := range map[string]string{
		"/type":     `{"type":"` + strings.Repeat("t", 129) + `","to":{"user":"u"}}`,
		"/to/group": `{"type":"t","to":{"group":"` + strings.Repeat("g", 129) + `"}}`,
		"/to/users": `{"type":"t","to":{"users":["u","` + strings.Repeat("u", 129) + `"]}}`,
	} {
		if a := w.do(w.sign(w.nextID(), body, time.Now())); a.HTTP != 422 || !strings.Contains(a.Detail, name) {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
	}
	s := w.connect("patient-2", "")
	s.sendRaw(pad(`{"type":"ping","x":"`, `"}`, 65536))
	s.want("pong")
	s.sendRaw(pad(`{"type":"ping","x":"`, `"}`, 65537))
	if code := s.closed(); code != 1009 {
		t.Errorf("one byte more: %d", code)
	}
}

func eventOfTopic(t *testing.T) {
	t.Parallel()
	w := start(t)
	topical := func(n int, topic string) answer {
		return w.fire(w.nextID(), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"topic":%q,"data":{"n":%d}}`, topic, n))
	}
	topical(1, "care-team")
	topical(2, "other")
	topical(3, "care-team")
	s := w.connect("patient-1", "")
	first := s.want("event")
	last := s.want("event")
	if first.n() != 2 || last.n() != 3 || s.hello.Pending != 2 {
		t.Fatalf("%d %d %s", first.n(), last.n(), s.hello.Raw)
	}
	s.settle() // and no gap: what was replaced is not lost
	s.ack(last.Cursor)
	s.settle()
	topical(4, "care-team") // the acked one stays
	s.want("event")
	all := w.connect("patient-1", first.Cursor)
	if a, b := all.want("event").n(), all.want("event").n(); a != 3 || b != 4 {
		t.Errorf("%d %d", a, b)
	}
}

func eventStatus(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	id := w.nextID()
	sent := w.fire(id+"", `{"type":"test.event","to":{"users":["patient-1","patient-2"]},"data":{}}`)
	f := s.want("event")
	var e eventReply
	get := func() {
		t.Helper()
		e = eventReply{}
		w.get("/v1/events/"+id, &e)
		if len(e.Recipients) != 2 || e.Recipients[0].User != "patient-1" || e.Recipients[1].User != "patient-2" {
			t.Fatalf("%+v", e)
		}
	}
	get()
	if e.ID != id || e.Type != "test.event" || e.Expires != sent.Expires || e.Timestamp != f.Event.Timestamp || e.Recalled != "" {
		t.Errorf("%+v", e)
	}
	if r := e.Recipients[1]; r.Status != "queued" || r.Sessions == nil || len(r.Sessions) != 0 {
		t.Errorf("away: %+v", r)
	}
	r := e.Recipients[0]
	if r.Status != "sent" || len(r.Sessions) != 1 || r.Sessions[0].Session != s.id || r.Sessions[0].SentAt == "" || r.Sessions[0].AckedAt != "" {
		t.Errorf("sent: %+v", r)
	}
	if a := w.do(waiting(w.sign(id, `{"type":"test.event","to":{"users":["patient-1","patient-2"]},"data":{}}`, time.Now()), "received", "20s")); a.Status != "received" {
		t.Fatalf("%s", a.Raw)
	}
	get()
	if r = e.Recipients[0]; r.Status != "received" || r.Sessions[0].ReceivedAt == "" {
		t.Errorf("received: %+v", r)
	}
	s.ack(f.Cursor)
	s.send(map[string]string{"type": "seen", "id": id})
	s.settle()
	get()
	if r = e.Recipients[0]; r.Status != "acked" || r.Sessions[0].AckedAt == "" || r.Sessions[0].SeenAt == "" {
		t.Errorf("acked and seen: %+v", r)
	}
	expect.NoError(t, s.ws.Close()) // its trail outlives it
	w.sessions(0)
	get()
	if r = e.Recipients[0]; r.Status != "acked" || len(r.Sessions) != 1 || r.Sessions[0].SentAt == "" || r.Sessions[0].AckedAt == "" {
		t.Errorf("after its end: %+v", r)
	}
}
