package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

func TestWebhookID(t *testing.T) {
	t.Parallel()
	t.Run("repeated is answered with the state as of now", idRepeated)
	t.Run("under 64 concurrent retries delivers once", idRetriedAtOnce)
	t.Run("is remembered for the time that is set", idRetention)
	t.Run("signed once is taken as one event only", idSignedOnce)
	t.Run("of a named sender is apart from others'", idsOfSenders)
	t.Run("of a batch may be one of its event's", idOfBatch)
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

func idRepeated(t *testing.T) {
	t.Parallel()
	w := start(t)
	const body = `{"type":"t","to":{"user":"patient-1"},"data":1}`
	first := w.fire("msg_1", body)
	again := w.fire("msg_1", body)
	if !again.Duplicate || again.Status != "queued" || again.Expires != first.Expires {
		t.Errorf("still waiting: %s", again.Raw)
	}
	s := w.connect("patient-1", "")
	f := s.want("event")
	if again = w.fire("msg_1", body); !again.Duplicate || again.Status != "sent" || again.Sessions != 1 {
		t.Errorf("handed over: %s", again.Raw)
	}
	s.ack(f.Cursor)
	s.settle()
	if again = w.fire("msg_1", body); again.Status != "acked" {
		t.Errorf("acked: %s", again.Raw)
	}
	for _, other := range []string{`{"type":"t","to":{"user":"patient-1"},"data":2}`, `{"type":"t","to":{"user":"patient-2"},"data":1}`} {
		if a := w.do(w.sign("msg_1", other, time.Now())); a.HTTP != http.StatusConflict || a.Code != "id_conflict" {
			t.Errorf("other bytes: %d %s", a.HTTP, a.Raw)
		}
	}
	s.settle() // nothing was delivered twice
}

func idRetriedAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	const body = `{"type":"t","to":{"user":"patient-1"},"data":{"n":1}}`
	var mu sync.Mutex
	firsts := 0
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			a := w.fire("msg_once", body)
			mu.Lock()
			defer mu.Unlock()
			if !a.Duplicate {
				firsts++
			}
		})
	}
	wg.Wait()
	if firsts != 1 {
		t.Errorf("%d answers claim to be the first", firsts)
	}
	s.want("event")
	s.settle()
}

func idRetention(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	for retention, again := range map[time.Duration]bool{time.Millisecond: true, time.Hour: false} {
		w := start(t, func(s *server.Settings) {
			s.RedisURL, s.RedisPrefix, s.IDRetention = server.Secret(r.URL()), "kept-"+retention.String(), retention
		})
		const body = `{"type":"t","to":{"user":"patient-1"},"ttl":0,"data":%d}`
		w.fire("x", fmt.Sprintf(body, 1))
		if again {
			expect.Eventually(t, "the id to be forgotten", func() bool { return w.do(w.sign("x", fmt.Sprintf(body, 2), time.Now())).HTTP == 202 })
		} else if a := w.do(w.sign("x", fmt.Sprintf(body, 2), time.Now())); a.HTTP != 409 {
			t.Errorf("%s", a.Raw)
		}
		w.stop()
	}
}

// Of a CloudEvent in the binary mode only the body is signed. Whoever has seen one
// signed request, of any form, cannot make another event of it.
func idSignedOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, change ...func(*server.Settings)) { testSignedOnce(t, start(t, change...)) })
}

func idsOfSenders(t *testing.T) {
	heavy(t)
	t.Parallel()
	onBoth(t, func(t *testing.T, change ...func(*server.Settings)) {
		w := withSenders(t, "", change...)
		clinic, lab := w.as(clinicSecret), w.as(labSecret)
		s := w.connect("patient-1", "")
		operator := token(t, "op", time.Hour, allAreas)
		const body = `{"type":"patient.added","to":{"user":"patient-1"},"data":{"n":%d}}`
		long := strings.Repeat("x", 64)
		for _, id := range []string{"msg_1", long} {
			for n, from := range []struct {
				*world
				id string
			}{{clinic, "clinic." + id}, {lab, "lab." + id}, {w, id}} {
				a := from.do(from.sign(id, fmt.Sprintf(body, n), time.Now()))
				if a.HTTP != 202 || a.ID != from.id || a.Duplicate {
					t.Fatalf("%s: %d %s", from.id, a.HTTP, a.Raw)
				}
				if f := s.want("event"); f.Event.ID != from.id || f.n() != n {
					t.Errorf("%s came as %s", from.id, f.Raw)
				}
				if a := from.do(from.sign(id, fmt.Sprintf(body, n), time.Now())); a.HTTP != 202 || a.ID != from.id || !a.Duplicate {
					t.Errorf("%s again: %d %s", from.id, a.HTTP, a.Raw)
				}
				if a := from.do(from.sign(id, fmt.Sprintf(body, n+10), time.Now())); a.HTTP != 409 {
					t.Errorf("%s with other bytes: %d %s", from.id, a.HTTP, a.Raw)
				}
				if a := w.callAs(operator, "GET", "/v1/events/"+from.id, ""); a.HTTP != 200 || !strings.HasPrefix(a.Raw, `{"id":"`+from.id+`"`) {
					t.Errorf("lookup of %s: %d %s", from.id, a.HTTP, a.Raw)
				}
				s.send(map[string]string{"type": "seen", "id": from.id})
				s.settle()
				if a := w.callAs(operator, "DELETE", "/v1/events/"+from.id, ""); a.HTTP != 204 {
					t.Errorf("recall of %s: %d %s", from.id, a.HTTP, a.Raw)
				}
				if f := s.want("recalled"); f.ID != from.id {
					t.Errorf("%s was recalled as %s", from.id, f.Raw)
				}
			}
		}
		cloud := `{"specversion":"1.0","id":"c1","source":"/s","type":"patient.added","touser":"patient-1","data":{"n":7}}`
		ids := make(map[string]bool)
		for _, from := range []*world{clinic, lab, w} {
			a := from.do(from.signFor("/webhooks/events", "application/cloudevents+json", "msg_cloud", cloud, time.Now()))
			if a.HTTP != 202 || a.Duplicate || ids[a.ID] {
				t.Errorf("a CloudEvent: %d %s", a.HTTP, a.Raw)
			}
			ids[a.ID] = true
			if f := s.want("event"); f.Event.ID != a.ID {
				t.Errorf("%s came as %s", a.ID, f.Raw)
			}
		}
	})
}

func idOfBatch(t *testing.T) {
	heavy(t)
	t.Parallel()
	onBoth(t, func(t *testing.T, change ...func(*server.Settings)) {
		w := withSenders(t, "", change...)
		for name, from := range map[string]*world{"": w, "clinic.": w.as(clinicSecret)} {
			batch := func(id, item string) answer {
				body := fmt.Sprintf(`{"events":[{"id":%q,"type":"patient.added","to":{"user":"patient-1"}}]}`, item)
				return from.do(from.signFor("/webhooks/events/batch", "application/json", id, body, time.Now()))
			}
			for i, c := range []struct {
				id, item string
				again    bool
			}{{"b1", "b1", false}, {"b1", "b1", true}, {"b2", "b1", true}, {"b3", "b2", false}, {"b4", "b5", false}, {"b5", "b6", false}} {
				a := batch(c.id, c.item)
				want := fmt.Sprintf(`{"results":[{"id":"%s%s","status":"queued","sessions":0,"duplicate":%v`, name, c.item, c.again)
				if a.HTTP != 202 || !strings.HasPrefix(a.Raw, want) {
					t.Errorf("%d: %d %s, want %s", i, a.HTTP, a.Raw, want)
				}
			}
			if a := batch("b1", "b9"); a.HTTP != 409 || a.Code != "id_conflict" {
				t.Errorf("another batch under the same webhook-id: %d %s", a.HTTP, a.Raw)
			}
			if a := w.callAs(token(t, "op", time.Hour, allAreas), "GET", "/v1/events/"+name+"b4", ""); a.HTTP != 404 {
				t.Errorf("a batch's own id is an event: %s", a.Raw)
			}
		}
	})
}
