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

func TestRedisIsAwayAndComesBack(t *testing.T) {
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
func TestARedisThatHangsIsToldOfInTime(t *testing.T) {
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

// While one machine is cut off from Redis, what others publish is stored; it
// reaches the cut-off machine's session when the network heals, in order.
func TestAMachineThatIsCutOffFromRedisCatchesUp(t *testing.T) {
	heavy(t)
	t.Parallel()
	r := redistest.Start(t)
	proxy := redistest.NewProxy(t, r.Addr)
	m := onRedisWith(t, server.Times{RedisPatience: time.Second}, r.URL(), proxy.URL(), r.URL())
	s := m[1].connect("patient-1", "")
	other := m[2].connect("patient-1", "")
	n := 0
	fire := func(w *world) {
		a := w.fire(w.uniqueID(), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, n))
		if a.Status != "sent" {
			t.Fatalf("%s", a.Raw)
		}
		n++
	}
	fire(m[0])
	s.want("event")
	other.want("event")
	for range 2 {
		proxy.Cut()
		first := n
		for range 20 {
			fire(m[0])
		}
		m[2].fire(m[2].uniqueID(), `{"type":"all","to":{"all":true}}`)
		for i := first; i < n; i++ {
			if f := other.want("event"); f.n() != i { // nobody else is held up
				t.Fatalf("after %d: %s", i, f.Raw)
			}
		}
		other.want("event")
		expect.Eventually(t, "the cut-off machine to say that it is not well", func() bool { return m[1].ready() == 503 })
		proxy.Drop()
		proxy.Mend()
		toAll := 0
		for i := first; i < n || toAll < 1; {
			f := s.want("event")
			if f.Event.Type == "all" {
				toAll++
				continue
			}
			if f.n() != i {
				t.Fatalf("after %d: %s", i, f.Raw)
			}
			i++
		}
		expect.Eventually(t, "the machine to be well", func() bool { return m[1].ready() == 200 })
		fire(m[2])
		if f := s.want("event"); f.n() != n-1 {
			t.Fatalf("%s", f.Raw)
		}
		other.want("event")
	}
}

// A machine is killed under load: its session comes back on another one with its
// cursor and misses nothing of what was answered with 202, whichever machine took
// it. The dead machine's sessions leave presence.
func TestAMachineThatIsKilledLosesNothing(t *testing.T) {
	heavy(t)
	t.Parallel()
	r := redistest.Start(t)
	env := []string{"BRIDGE_REDIS_URL=" + r.URL(), "BRIDGE_REDIS_PREFIX=e2e"}
	victim := serve(t, t.TempDir(), env...)
	// The victim says every 3 s that it lives.
	m := onRedisWith(t, server.Times{RedisLease: 6 * time.Second, RedisRenew: time.Second}, r.URL(), r.URL())
	s := victim.connect("patient-1", "")
	other := m[1].connect("patient-1", "")
	var mu sync.Mutex
	taken := map[string]bool{}
	var load sync.WaitGroup
	stop := make(chan struct{})
	for sender := range 4 {
		load.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("s%d_%d", sender, i)
				w := []*world{victim.world, m[0], m[1]}[i%3]
				body := fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, i)
				if res, err := w.client.Do(w.sign(id, body, time.Now())); err == nil {
					expect.NoError(t, res.Body.Close())
					if res.StatusCode == 202 {
						mu.Lock()
						taken[id] = true
						mu.Unlock()
						continue
					}
				}
				w = m[i%2] // the victim is gone: the sender tries again, elsewhere
				if a := w.do(w.sign(id, body, time.Now())); a.HTTP != 202 {
					t.Errorf("%s: %s", id, a.Raw)
				}
				mu.Lock()
				taken[id] = true
				mu.Unlock()
			}
		})
	}
	seen, last, cursor := map[string]bool{}, map[string]int{}, s.hello.Cursor
	take := func(f frame) {
		sender := f.Event.ID[:2]
		if !seen[f.Event.ID] && f.n() < last[sender] {
			t.Fatalf("out of order: %s", f.Raw)
		}
		seen[f.Event.ID], last[sender], cursor = true, max(last[sender], f.n()), f.Cursor
	}
	for range 200 {
		take(s.want("event"))
	}
	expect.NoError(t, victim.cmd.Process.Kill())
	for { // what had reached the socket still counts
		f, err := s.read()
		if err != nil {
			break
		}
		take(f)
	}
	s = m[0].connect("patient-1", cursor)
	for range 200 {
		take(s.want("event"))
	}
	close(stop)
	load.Wait()
	for len(seen) < len(taken) {
		take(s.want("event"))
	}
	for id := range taken {
		if !seen[id] {
			t.Errorf("%s was answered with 202 and is lost", id)
		}
	}
	for range len(taken) {
		other.want("event") // the one who stayed has them all, too
	}
	expect.Eventually(t, "the dead machine's session to leave presence", func() bool {
		var p presenceReply
		m[0].get("/v1/users/patient-1/presence", &p)
		return p.Sessions == 2
	})
}
