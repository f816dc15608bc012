package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/store/redis/redistest"
)

// Of a CloudEvent in the binary mode only the body is signed. Whoever has seen one
// signed request, of any form, cannot make another event of it.
func TestWhatWasSignedOnceIsTakenOnce(t *testing.T) {
	t.Parallel()
	t.Run("on SQLite", func(t *testing.T) { testSignedOnce(t, start(t)) })
	t.Run("on Redis", func(t *testing.T) { testSignedOnce(t, onRedis(t, redistest.Start(t).URL())[0]) })
}

func testSignedOnce(t *testing.T, w *world) {
	const (
		plain = `{"type":"t","to":{"user":"patient-1"},"data":{"secret":1}}`
		cloud = `{"specversion":"1.0","id":"c1","source":"/s","type":"t","touser":"patient-1","data":{"secret":1}}`
	)
	binary := func(r *http.Request, id string) *http.Request {
		for name, value := range map[string]string{"specversion": "1.0", "id": id, "source": "/s", "type": "t", "toall": "true"} {
			r.Header.Set("ce-"+name, value)
		}
		r.Header.Del("ce-touser")
		r.Header.Set("Content-Type", "application/json")
		return r
	}
	seen := w.connect("bystander", "")
	at := time.Now()
	for i, original := range []func(id string) *http.Request{
		func(id string) *http.Request { return w.sign(id, plain, at) },
		func(id string) *http.Request {
			return w.signFor("/webhooks/events/batch", "application/json", id, `{"events":[{"id":"`+id+`_a","type":"t","to":{"user":"patient-1"},"data":{"secret":1}}]}`, at)
		},
		func(id string) *http.Request {
			return w.signFor("/webhooks/events", "application/cloudevents+json", id, cloud, at)
		},
		func(id string) *http.Request {
			r := binary(w.signFor("/webhooks/events", "application/json", id, `{"secret":1}`, at), "b"+id)
			r.Header.Del("ce-toall")
			r.Header.Set("ce-touser", "patient-1")
			return r
		},
	} {
		id := fmt.Sprint("signed_", i)
		for range 2 { // as it was it may come as often as it likes
			if a := w.do(original(id)); a.HTTP != 202 {
				t.Fatalf("%d: %s", i, a.Raw)
			}
		}
		if a := w.do(binary(original(id), "replayed")); a.HTTP != 409 || a.Code != "id_conflict" {
			t.Errorf("%d, again as something else: %d %s", i, a.HTTP, a.Raw)
		}
		if i > 0 {
			if a := w.callAs(token(t, "op", time.Hour, allAreas), "GET", "/v1/events/"+id, ""); a.HTTP != 404 {
				t.Errorf("%d: the webhook's own id is an event: %s", i, a.Raw)
			}
		}
	}
	if a := w.do(w.signFor("/webhooks/events", "application/cloudevents+json", "signed_again", cloud, at)); a.HTTP != 202 || !a.Duplicate {
		t.Errorf("a CloudEvent under another signature: %d %s", a.HTTP, a.Raw)
	}
	w.fireTo("bystander", 7)
	if f := seen.want("event"); f.n() != 7 {
		t.Errorf("a bystander got %s", f.Raw)
	}
}

// A sender's retry may come when the event's time is over: it is answered, as it
// was. A new event is not taken then.
func TestACloudEventWhoseTimeIsOverIsTakenOnlyAsARepeat(t *testing.T) {
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
