package e2e

import (
	"encoding/json"
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

func TestMachine(t *testing.T) {
	t.Parallel()
	t.Run("reaches a user on another machine", machineReaches)
	t.Run("shares receipts and waits with the others", machineReceipts)
	t.Run("lets operators reach sessions on any other", machineOperators)
	t.Run("hands a session over under load without loss", machineHandover)
	t.Run("that was cut off from Redis catches up", machineCutOff)
	t.Run("that is killed loses nothing", machineKilled)
}

// machines are bridges on one Redis, each the whole program.
type machines []*world

// onRedis starts n machines. Each reaches Redis by its own url.
func onRedis(t *testing.T, urls ...string) machines {
	t.Helper()
	return onRedisWith(t, server.Times{}, urls...)
}

// onRedisWith is onRedis for a test that waits for one of these times to be over.
func onRedisWith(t *testing.T, times server.Times, urls ...string) machines {
	t.Helper()
	var all machines
	for _, url := range urls {
		all = append(all, start(t, func(s *server.Settings) {
			s.RedisURL, s.RedisPrefix, s.Times = server.Secret(url), "e2e", times
		}))
	}
	return all
}

func three(t *testing.T) (*redistest.Server, machines) {
	t.Helper()
	r := redistest.Start(t)
	return r, onRedis(t, r.URL(), r.URL(), r.URL())
}

func machineReaches(t *testing.T) {
	t.Parallel()
	_, m := three(t)
	s := m[1].connect("patient-1", "")
	other := m[2].connect("patient-1", "")
	for i := range 30 {
		a := m[i%3].fire(m[i%3].uniqueID(), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, i))
		if a.Status != "sent" || a.Sessions != 2 {
			t.Fatalf("%d: %s", i, a.Raw)
		}
	}
	for i := range 30 {
		a, b := s.want("event"), other.want("event")
		if a.n() != i || b.n() != i || a.Raw != b.Raw {
			t.Fatalf("%d: %s / %s", i, a.Raw, b.Raw)
		}
	}
	// One id is one event, wherever it is sent again.
	const body = `{"type":"t","to":{"user":"patient-1"},"data":1}`
	m[0].fire("same", body)
	if a := m[2].fire("same", body); !a.Duplicate || a.Sessions != 2 {
		t.Errorf("%s", a.Raw)
	}
	if a := m[1].do(m[1].sign("same", `{"type":"t","to":{"user":"patient-1"},"data":2}`, time.Now())); a.HTTP != 409 {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	// To all, and to a group with members here and there and away.
	s.want("event")
	other.want("event")
	m[0].done("PUT", "/v1/groups/g/members/patient-1", "")
	m[1].done("PUT", "/v1/groups/g/members/away", "")
	if a := m[2].fire("grouped", `{"type":"t","to":{"group":"g"}}`); a.Sessions != 2 || *a.Recipients != 2 || *a.Online != 1 {
		t.Errorf("%s", a.Raw)
	}
	s.want("event")
	m[0].fire("all", `{"type":"t","to":{"all":true}}`)
	if f := s.want("event"); f.Event.ID != "all" {
		t.Errorf("%s", f.Raw)
	}
}

// uniqueID is one that no other machine's tests use.
func (w *world) uniqueID() string {
	return fmt.Sprintf("%s_%s", strings.ReplaceAll(w.base[len("http://127.0.0.1:"):], ":", ""), w.nextID())
}

func machineReceipts(t *testing.T) {
	heavy(t)
	t.Parallel()
	_, m := three(t)
	m[1].acking("acks")
	m[2].connect("listens", "")
	m[1].connect("both", "")
	m[2].acking("both")
	for i, c := range []struct{ to, level, status string }{
		{`{"user":"acks"}`, "acked", "acked"}, {`{"user":"listens"}`, "received", "received"}, {`{"user":"both"}`, "acked", "acked"},
		{`{"users":["acks","both","away"]}`, "acked", "acked"}, {`{"users":["acks","listens"]}`, "received", "received"}, {`{"all":true}`, "received", "received"},
	} {
		a := m[0].ask(fmt.Sprintf("w_%d", i), `{"type":"t","to":`+c.to+`}`, c.level, "20s")
		if c.level == "received" && a.Status == "acked" {
			a.Status = "received"
		}
		if a.Status != c.status || a.Sessions == 0 {
			t.Errorf("%s: %s", c.to, a.Raw)
		}
	}
	// The state as of now, and each session's times, asked where nobody is.
	if a := m[0].fire("w_0", `{"type":"t","to":{"user":"acks"}}`); a.Status != "acked" || !a.Duplicate {
		t.Errorf("%s", a.Raw)
	}
	var e eventReply
	if m[0].get("/v1/events/w_1", &e); len(e.Recipients) != 1 || e.Recipients[0].Status != "received" || len(e.Recipients[0].Sessions) != 1 || e.Recipients[0].Sessions[0].ReceivedAt == "" {
		t.Errorf("%+v", e)
	}
	if a := m[0].ask("w_1", `{"type":"t","to":{"user":"listens"}}`, "acked", "100ms"); a.Status != "received" || !a.Duplicate || a.Sessions != 1 {
		t.Errorf("%s", a.Raw)
	}
}

func machineOperators(t *testing.T) {
	heavy(t)
	t.Parallel()
	_, m := three(t)
	a, b := m[1].connect("patient-1", ""), m[2].connect("patient-1", "")
	var p presenceReply
	if m[0].get("/v1/users/patient-1/presence", &p); p.Sessions != 2 || !p.Online {
		t.Errorf("%+v", p)
	}
	var list struct{ Sessions []struct{ Session string } }
	if m[0].get("/v1/users/patient-1/sessions", &list); len(list.Sessions) != 2 || list.Sessions[0].Session != a.id || list.Sessions[1].Session != b.id {
		t.Fatalf("%+v", list)
	}
	m[0].fire("x", `{"type":"t","to":{"user":"patient-1"}}`)
	a.want("event")
	b.want("event")
	m[0].done(http.MethodDelete, "/v1/events/x", "")
	if f, g := a.want("recalled"), b.want("recalled"); f.ID != "x" || g.ID != "x" {
		t.Errorf("%s %s", f.Raw, g.Raw)
	}
	m[2].done(http.MethodDelete, "/v1/users/patient-1/sessions/"+a.id, "")
	if code := a.closed(); code != 4403 {
		t.Errorf("disconnected with %d", code)
	}
	tok := issuedToken(t, "patient-2", "stolen", time.Now())
	c := m[1].connectAs(tok, "")
	m[0].done(http.MethodPost, "/v1/users/patient-2/revocations", `{"jti":"stolen"}`)
	if code := c.closed(); code != 4403 {
		t.Errorf("revoked with %d", code)
	}
	late, _, err := m[2].dial(nil, "", "bridge.v1.json")
	expect.NoError(t, err)
	late.send(map[string]string{"type": "connect", "token": tok})
	if code := late.closed(); code != 4403 {
		t.Errorf("a revoked token elsewhere: closed with %d", code)
	}
	m[1].done(http.MethodDelete, "/v1/users/patient-1", "")
	if code := b.closed(); code != 4410 {
		t.Errorf("erased with %d", code)
	}
	// A ticket of one machine opens a session on another.
	ticket := m[0].callAs(token(t, "patient-3", time.Hour, ""), "POST", "/v1/tickets", "")
	var issued struct{ Ticket string }
	expect.NoError(t, json.Unmarshal([]byte(ticket.Raw), &issued))
	s, _, err := m[1].dial(nil, "?ticket="+issued.Ticket, "bridge.v1.json")
	expect.NoError(t, err)
	s.send(map[string]string{"type": "connect"})
	if f := s.want("connected"); f.User != "patient-3" {
		t.Errorf("%s", f.Raw)
	}
}

// A session that goes from machine to machine while events are fired at all of
// them sees each once by its id, in order, with no hole.
func machineHandover(t *testing.T) {
	heavy(t)
	t.Parallel()
	_, m := three(t)
	const total = 600
	var load sync.WaitGroup
	s := m[0].connect("patient-1", "")
	for part := range 3 {
		load.Go(func() {
			for i := range total / 3 {
				m[(part+i)%3].fire(fmt.Sprintf("p%d_%d", part, i), fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, i))
			}
		})
	}
	seen, last := make(map[string]bool), map[string]int{}
	cursor := s.hello.Cursor
	for hop := 1; len(seen) < total; hop++ {
		for range 50 {
			if len(seen) == total {
				break
			}
			f := s.next()
			if f.Type != "event" {
				t.Fatalf("%s", f.Raw)
			}
			cursor = f.Cursor
			part := f.Event.ID[:2]
			if !seen[f.Event.ID] && f.n() != last[part] {
				t.Fatalf("of %s came %d, not %d", part, f.n(), last[part])
			}
			if !seen[f.Event.ID] {
				last[part]++
			}
			seen[f.Event.ID] = true
		}
		expect.NoError(t, s.ws.Close())
		s = m[hop%3].connect("patient-1", cursor)
	}
	load.Wait()
}

// While one machine is cut off from Redis, what others publish is stored; it
// reaches the cut-off machine's session when the network heals, in order.
func machineCutOff(t *testing.T) {
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
func machineKilled(t *testing.T) {
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
