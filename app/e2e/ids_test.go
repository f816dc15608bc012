package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

// onBoth runs a test on a program of each engine.
func onBoth(t *testing.T, test func(t *testing.T, change ...func(*server.Settings)), change ...func(*server.Settings)) {
	t.Helper()
	t.Run("on SQLite", func(t *testing.T) { test(t, change...) })
	t.Run("on Redis", func(t *testing.T) {
		url := redistest.Start(t).URL()
		test(t, append(change, func(s *server.Settings) { s.RedisURL = server.Secret(url) })...)
	})
}

func TestIDsOfNamedSendersAreApart(t *testing.T) {
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

func TestAnEventOfABatchMayHaveTheBatchsOwnID(t *testing.T) {
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
