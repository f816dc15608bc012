package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

func TestRedis(t *testing.T) {
	t.Parallel()
	t.Run("away is told, and its return is noticed", redisAway)
	t.Run("that hangs is told in time", redisHangs)
	t.Run("away ends every request, and lets the program end", redisAwayEnds)
}

// ready is what /readyz says.
func (w *world) ready() int {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodGet, w.base+"/readyz", nil)
	expect.NoError(w.t, err)
	return w.do(req).HTTP
}

// insist sends one event until it is taken, as a backend does.
func (w *world) insist(user string, n int) {
	w.t.Helper()
	id := fmt.Sprintf("insisted_%s_%d", user, n)
	expect.Eventually(w.t, "event "+id+" to be taken", func() bool {
		return w.do(w.sign(id, fmt.Sprintf(`{"type":"t","to":{"user":%q},"data":{"n":%d}}`, user, n), time.Now())).HTTP == 202
	})
}

func redisAway(t *testing.T) {
	heavy(t)
	t.Parallel()
	r := redistest.Start(t)
	m := onRedis(t, r.URL(), r.URL(), r.URL())
	s := m[1].connect("patient-1", "")
	m[0].fireTo("patient-1", 0)
	if f := s.want("event"); f.n() != 0 {
		t.Fatalf("%s", f.Raw)
	}
	for round := 1; round <= 3; round++ {
		r.Kill()
		const body = `{"type":"t","to":{"user":"patient-1"},"data":{"n":-1}}`
		a := m[0].do(m[0].sign(fmt.Sprint("away_", round), body, time.Now()))
		if a.HTTP != 503 || a.Code != "unavailable" || a.Header.Get("Retry-After") == "" {
			t.Fatalf("%d %s", a.HTTP, a.Raw)
		}
		for i, w := range m {
			expect.Eventually(t, fmt.Sprintf("/readyz of machine %d to tell", i), func() bool { return w.ready() == 503 })
		}
		s.settle() // the session is still there
		r.Restart()
		for i, w := range m {
			expect.Eventually(t, fmt.Sprintf("machine %d to be well", i), func() bool { return w.ready() == 200 })
		}
		m[(round+1)%3].insist("patient-1", round)
		if f := s.want("event"); f.n() != round {
			t.Fatalf("%s", f.Raw)
		}
		expect.Eventually(t, "the session to be present for all", func() bool {
			var p presenceReply
			m[2].get("/v1/users/patient-1/presence", &p)
			return p.Sessions == 1
		})
	}
}

// A Redis that hangs is worse than one that is gone: nobody is told.
func redisHangs(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	m := onRedisWith(t, server.Times{RedisPatience: time.Second}, r.URL(), r.URL())
	s := m[1].connect("patient-1", "")
	r.Pause()
	expect.Eventually(t, "/readyz to tell", func() bool { return m[0].ready() == 503 })
	const body = `{"type":"t","to":{"user":"patient-1"},"data":{"n":7}}`
	a := m[0].do(m[0].sign("hanging", body, time.Now()))
	if a.HTTP != 503 || a.Code != "unavailable" || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	s.settle()
	r.Continue()
	expect.Eventually(t, "the sender's retry to be taken", func() bool { return m[0].do(m[0].sign("hanging", body, time.Now())).HTTP == 202 })
	if f := s.want("event"); f.n() != 7 || f.Event.ID != "hanging" {
		t.Errorf("%s", f.Raw)
	}
	for i, w := range m {
		expect.Eventually(t, fmt.Sprintf("machine %d to be well", i), func() bool { return w.ready() == 200 })
	}
}

// Every request ends while Redis hangs or is gone, also one of whose caller nobody
// knows how long they would wait; and so does the program.
func redisAwayEnds(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name string
		do   func(r *redistest.Server)
	}{{"it hangs", (*redistest.Server).Pause}, {"it is gone", (*redistest.Server).Kill}} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t)
			w := onRedis(t, r.URL())[0]
			s := w.connect("patient-1", "")
			w.fireTo("patient-1", 1)
			cursor := s.want("event").Cursor
			tok := token(t, "patient-1", time.Hour, allAreas)
			fault.do(r)
			var all sync.WaitGroup
			for _, q := range []struct{ method, path, body string }{
				{"POST", "/v1/tickets", ""},
				{"POST", "/v1/acks", fmt.Sprintf(`{"cursor":%q}`, cursor)},
				{"GET", "/v1/poll?waitMs=0", ""},
				{"GET", "/v1/stream", ""},
				{"GET", "/v1/users/patient-1/presence", ""},
				{"DELETE", "/v1/users/patient-2", ""},
				{"GET", "/v1/groups/g/members", ""},
				{"POST", "/v1/users/patient-2/revocations", `{"jti":"x"}`},
			} {
				all.Go(func() {
					if a := w.callAs(tok, q.method, q.path, q.body); a.HTTP != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
						t.Errorf("%s %s: %d %s", q.method, q.path, a.HTTP, a.Raw)
					}
				})
			}
			all.Go(func() {
				if a := w.do(w.sign("m", counted(2), time.Now())); a.HTTP != http.StatusServiceUnavailable {
					t.Errorf("%d %s", a.HTTP, a.Raw)
				}
			})
			all.Wait() // each within the client's own time limit
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				w.stop()
			}()
			select {
			case <-stopped:
			case <-time.After(w.settings.DrainTimeout + server.ShutdownTimeout + expect.Patience):
				t.Fatal("it does not stop")
			}
		})
	}
}
