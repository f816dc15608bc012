package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
)

func TestCloudEvent(t *testing.T) {
	t.Parallel()
	t.Run("comes in three modes on both paths", cloudEventModes)
	t.Run("in binary mode is known by its attributes", cloudEventBinary)
	t.Run("whose time is over is taken only as a repeat", cloudEventExpired)
	t.Run("that is bad is refused", cloudEventRefused)
}

func cloudEventModes(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	const event = `"specversion":"1.0","source":"/clinic","type":"patient.added","time":"2026-11-22T20:36:00Z","touser":"patient-1","datacontenttype":"application/json"`
	seen := make(map[string]bool)
	for i, c := range []struct{ path, media, body string }{
		{"/webhooks/events", "application/cloudevents+json", `{"id":"ce 1",` + event + `,"data":{"n":0}}`},
		{"/webhooks/events/batch", "application/cloudevents+json; charset=utf-8", `{"id":"ce 2",` + event + `,"data":{"n":1}}`},
		{"/webhooks/events/batch", "application/cloudevents-batch+json", `[{"id":"ce 3",` + event + `,"data":{"n":2}}]`},
		{"/webhooks/events", "application/cloudevents-batch+json", `[{"id":"ce 4",` + event + `,"data":{"n":3}}]`},
		{"/webhooks/events", "application/json", `{"n":4}`},
	} {
		for round := range 2 {
			req := w.signFor(c.path, c.media, w.nextID(), c.body, time.Now())
			if c.media == "application/json" {
				for k, v := range map[string]string{"specversion": "1.0", "id": "ce 5", "source": "/clinic", "type": "patient.added", "time": "2026-11-22T20:36:00Z", "touser": "patient-1"} {
					req.Header.Set("ce-"+k, v)
				}
			}
			a := w.do(req)
			if a.HTTP != 202 || !strings.Contains(a.Raw, fmt.Sprintf(`"duplicate":%t`, round == 1)) {
				t.Fatalf("%d: %d %s", i, a.HTTP, a.Raw)
			}
			if round == 1 {
				continue
			}
			f := s.want("event")
			if f.n() != i || f.Event.Type != "patient.added" || f.Event.Timestamp != "2026-11-22T20:36:00Z" || seen[f.Event.ID] || !strings.Contains(a.Raw, f.Event.ID) {
				t.Errorf("%d: %s, answered %s", i, f.Raw, a.Raw)
			}
			seen[f.Event.ID] = true
		}
	}
	s.settle()
}

func cloudEventBinary(t *testing.T) {
	t.Parallel()
	w := start(t)
	send := func(path, id, user, body string) answer {
		req := w.signFor(path, "application/json", w.nextID(), body, time.Now())
		for k, v := range map[string]string{"specversion": "1.0", "id": id, "source": "/clinic", "type": "t", "touser": user} {
			req.Header.Set("ce-"+k, v)
		}
		return w.do(req)
	}
	for i, path := range []string{"/webhooks/events", "/webhooks/events/batch"} {
		id := fmt.Sprint("binary ", i)
		first := send(path, id, "patient-1", `{"n":1}`)
		if first.HTTP != 202 || first.Status != "queued" || first.Duplicate {
			t.Fatalf("%s: %d %s", path, first.HTTP, first.Raw)
		}
		if a := send(path, id, "patient-1", `{"n":1}`); a.HTTP != 202 || !a.Duplicate || a.ID != first.ID {
			t.Errorf("%s, once more: %d %s", path, a.HTTP, a.Raw)
		}
		for name, a := range map[string]answer{"another target": send(path, id, "patient-2", `{"n":1}`), "another body": send(path, id, "patient-1", `{"n":2}`)} {
			if a.HTTP != 409 || a.Code != "id_conflict" {
				t.Errorf("%s, %s: %d %s", path, name, a.HTTP, a.Raw)
			}
		}
	}
}

// A sender's retry may come when the event's time is over: it is answered, as it
// was. A new event is not taken then.
func cloudEventExpired(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	soon := time.Now().Add(time.Second)
	body := fmt.Sprintf(`{"specversion":"1.0","id":"c1","source":"/s","type":"t","touser":"patient-1","data":{"n":1},"expirytime":%q}`, soon.UTC().Format(time.RFC3339Nano))
	fire := func(body string) answer {
		return w.do(w.signFor("/webhooks/events", "application/cloudevents+json", w.nextID(), body, time.Now()))
	}
	if a := fire(body); a.HTTP != 202 || a.Duplicate {
		t.Fatalf("%s", a.Raw)
	}
	s.want("event")
	expect.Eventually(t, "its time to be over", func() bool { return time.Now().After(soon) })
	if a := fire(body); a.HTTP != 202 || !a.Duplicate {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	other := strings.Replace(body, `"n":1`, `"n":2`, 1)
	if a := fire(other); a.HTTP != 409 {
		t.Errorf("other bytes: %d %s", a.HTTP, a.Raw)
	}
	if a := fire(strings.Replace(other, `"c1"`, `"c2"`, 1)); a.HTTP != 422 || a.Code != "invalid_event" || !strings.Contains(a.Detail, "expirytime") {
		t.Errorf("a new one: %d %s", a.HTTP, a.Raw)
	}
	w.fireTo("patient-1", 9)
	if f := s.want("event"); f.n() != 9 {
		t.Errorf("%s", f.Raw)
	}
}

func cloudEventRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	const ok = `"specversion":"1.0","source":"/s","type":"t","touser":"u"`
	for name, c := range map[string]struct {
		media, body  string
		status       int
		code, detail string
	}{
		"no JSON":      {"application/cloudevents+json", `x`, 400, "malformed", "JSON"},
		"no id":        {"application/cloudevents+json", `{` + ok + `}`, 422, "invalid_event", "/id"},
		"no source":    {"application/cloudevents+json", `{"id":"1","specversion":"1.0","type":"t","touser":"u"}`, 422, "invalid_event", "/source"},
		"another spec": {"application/cloudevents+json", `{"id":"1","specversion":"0.3","source":"/s","type":"t","touser":"u"}`, 422, "invalid_event", "/specversion"},
		"nobody":       {"application/cloudevents+json", `{"id":"1","specversion":"1.0","source":"/s","type":"t"}`, 422, "invalid_event", "touser"},
		"two targets":  {"application/cloudevents+json", `{"id":"1",` + ok + `,"togroup":"g"}`, 422, "invalid_event", "touser"},
		"no batch":     {"application/cloudevents-batch+json", `{}`, 400, "malformed", "array"},
		"XML":          {"application/cloudevents+xml", `<event/>`, 415, "unsupported_media_type", "application/json"},
	} {
		a := w.do(w.signFor("/webhooks/events", c.media, w.nextID(), c.body, time.Now()))
		if a.HTTP != c.status || a.Code != c.code || !strings.Contains(a.Detail, c.detail) {
			t.Errorf("%s: %d %s", name, a.HTTP, a.Raw)
		}
	}
	// The standard allows a batch of none.
	if a := w.do(w.signFor("/webhooks/events/batch", "application/cloudevents-batch+json", w.nextID(), `[]`, time.Now())); a.HTTP != 202 || a.Raw != `{"results":[]}` {
		t.Errorf("an empty batch: %d %s", a.HTTP, a.Raw)
	}
	// The attributes of the binary mode stand in headers: what is wrong there is said by the header's name.
	req := w.signFor("/webhooks/events", "application/json", w.nextID(), `{}`, time.Now())
	req.Header.Set("ce-specversion", "1.0")
	req.Header.Set("ce-id", "1")
	if a := w.do(req); a.HTTP != 422 || !strings.Contains(a.Detail, "ce-") {
		t.Errorf("binary: %d %s", a.HTTP, a.Raw)
	}
	if a := w.do(w.signFor("/webhooks/events", "application/cloudevents-batch+json", w.nextID(), `[{"id":"1",`+ok+`},{"id":"2","specversion":"1.0"}]`, time.Now())); a.HTTP != http.StatusAccepted || !strings.Contains(a.Raw, `"queued"`) || !strings.Contains(a.Raw, `"invalid_event"`) {
		t.Errorf("one bad of two: %d %s", a.HTTP, a.Raw)
	}
}
