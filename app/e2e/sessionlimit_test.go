package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

func TestSessionLimit(t *testing.T) {
	t.Parallel()
	t.Run("closes the oldest for one more", sessionLimitClosesOldest)
	t.Run("counts no session that is ending", sessionLimitEnding)
	t.Run("holds when sessions come at once", sessionLimitAtOnce)
	t.Run("holds over all machines", sessionLimitOverMachines)
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	t.Run("holds in all, and per address before a token is shown", connectionLimits)
	t.Run("that shows only after the upgrade closes with 1013", connectionLimitLate)
}

func TestConnectRate(t *testing.T) {
	t.Parallel()
	t.Run("tells an address when to come back", connectRateTells)
	t.Run("counts acks and bad tokens", connectRateCounts)
	t.Run("is one for an IPv6 network", connectRateOfNetwork)
}

func sessionLimitClosesOldest(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.SessionsByUser = 2 })
	oldest, second := w.connect("patient-1", ""), w.connect("patient-1", "")
	third := w.connect("patient-1", "")
	if code := oldest.closed(); code != 4409 {
		t.Errorf("%d", code)
	}
	second.settle()
	third.settle()
	w.sessions(2)
}

func sessionLimitEnding(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.SessionsByUser = 2 })
	oldest := w.connect("patient-1", "")
	mute, _, _, err := ws.Dialer{Protocols: []string{"bridge.v1.json"}}.Dial(t.Context(), "ws"+strings.TrimPrefix(w.base, "http")+"/ws")
	expect.NoError(t, err)
	defer mute.Close() // it never answers a close frame, and so takes its time to go
	expect.NoError(t, wsutil.WriteClientText(mute, []byte(`{"type":"connect","token":"`+token(t, "patient-1", time.Hour, "")+`"}`)))
	var list struct{ Sessions []struct{ Session string } }
	expect.Eventually(t, "both", func() bool { w.get("/v1/users/patient-1/sessions", &list); return len(list.Sessions) == 2 })
	w.done("DELETE", "/v1/users/patient-1/sessions/"+list.Sessions[1].Session, "")
	w.connect("patient-1", "").settle()
	oldest.settle()
	w.connect("patient-1", "").settle()
	if code := oldest.closed(); code != 4409 {
		t.Errorf("one more closes the oldest: %d", code)
	}
}

// Two sessions more than may be, coming at once: the limit holds when they are
// in, and those who stay are the newest.
func sessionLimitAtOnce(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.SessionsByUser = 2 })
	for range 10 {
		var wg sync.WaitGroup
		all := make([]*session, 6)
		for i := range all {
			s, _, err := w.dial(nil, "", "bridge.v1.json")
			expect.NoError(t, err)
			all[i] = s.pump()
			wg.Go(func() { s.send(map[string]string{"type": "connect", "token": token(t, "patient-1", time.Hour, "")}) })
		}
		wg.Wait()
		var p presenceReply
		expect.Eventually(t, "the limit", func() bool { w.get("/v1/users/patient-1/presence", &p); return p.Sessions == 2 })
		for _, s := range all {
			expect.NoError(t, s.ws.Close())
		}
		w.sessions(0)
	}
}

func sessionLimitOverMachines(t *testing.T) {
	heavy(t)
	t.Parallel()
	r := redistest.Start(t)
	var m machines
	for range 3 {
		m = append(m, start(t, func(s *server.Settings) {
			s.RedisURL, s.RedisPrefix, s.SessionsByUser = server.Secret(r.URL()), "e2e", 1
		}))
	}
	var last *session
	for i := range 6 {
		s := m[i%3].connect("patient-1", "")
		if last != nil {
			if code := last.closed(); code != 4409 {
				t.Fatalf("%d: closed with %d", i, code)
			}
		}
		last = s
	}
	last.settle()
}

func connectionLimits(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MaxSessions, s.MaxUnauthenticatedPerAddress = 3, 2 })
	for i := range 3 {
		w.connect(fmt.Sprintf("patient-%d", i), "")
	}
	_, res, err := w.dial(nil, "", "bridge.v1.json")
	if err == nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("a session too many: %v %v", err, res)
	}
	w = start(t, func(s *server.Settings) { s.MaxUnauthenticatedPerAddress = 2 })
	for range 2 {
		if _, _, err := w.dial(nil, "", "bridge.v1.json"); err != nil {
			t.Fatal(err)
		}
	}
	expect.Eventually(t, "both are counted", func() bool { return w.metric("hookbridge_pending_connections") == 2 })
	if _, res, err := w.dial(nil, "", "bridge.v1.json"); err == nil || res.StatusCode != 503 {
		t.Errorf("a third silent connection: %v %v", err, res)
	}
}

func connectionLimitLate(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MaxSessions = 1 })
	first, _, err := w.dial(nil, "", "bridge.v1.json")
	expect.NoError(t, err)
	second, _, err := w.dial(nil, "", "bridge.v1.json")
	expect.NoError(t, err)
	first.send(map[string]string{"type": "connect", "token": token(t, "patient-1", time.Hour, "")})
	first.want("connected")
	second.send(map[string]string{"type": "connect", "token": token(t, "patient-2", time.Hour, "")})
	if code := second.closed(); code != 1013 {
		t.Errorf("%d", code)
	}
	first.settle()
}

func connectRateTells(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.ConnectRate = 0.01 }) // a burst of one
	tok := token(t, "patient-1", time.Hour, "")
	w.poll(tok, "?waitMs=0")
	for _, path := range []string{"/v1/poll", "/v1/stream", "/ws"} {
		a := w.callAs(tok, "GET", path, "")
		if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); a.HTTP != 429 || a.Code != "rate_limited" || err != nil || wait < 1 {
			t.Errorf("%s: %d %q %s", path, a.HTTP, a.Header.Get("Retry-After"), a.Raw)
		}
	}
	w.fireTo("patient-1", 1) // webhooks are no connects
}

func connectRateCounts(t *testing.T) {
	heavy(t)
	t.Parallel()
	good := token(t, "patient-1", time.Hour, "")
	cursor := fmt.Sprintf(`{"cursor":%q}`, "x")
	for name, call := range map[string]func(w *world) answer{
		"acks":                   func(w *world) answer { return w.callAs(good, "POST", "/v1/acks", cursor) },
		"acks with a bad token":  func(w *world) answer { return w.callAs("bad", "POST", "/v1/acks", cursor) },
		"operators' calls":       func(w *world) answer { return w.callAs("bad", "GET", "/v1/users/u/presence", "") },
		"tickets":                func(w *world) answer { return w.callAs(good, "POST", "/v1/tickets", "") },
		"polls with a bad token": func(w *world) answer { return w.callAs("bad", "GET", "/v1/poll", "") },
	} {
		w := start(t, func(s *server.Settings) { s.ConnectRate = 0.01 }) // one at once
		n := 0
		for ; n < 100; n++ {
			if a := call(w); a.HTTP == 429 {
				if a.Code != "rate_limited" || a.Header.Get("Retry-After") == "" {
					t.Errorf("%s: %s", name, a.Raw)
				}
				break
			}
		}
		if n > 5 {
			t.Errorf("%d %s passed", n, name)
		}
		if a := w.fire(w.nextID(), `{"type":"t","to":{"user":"u"}}`); a.HTTP != 202 {
			t.Errorf("a webhook of that address: %s", a.Raw)
		}
	}
	// The calls of an operator are free.
	w := start(t, func(s *server.Settings) { s.ConnectRate = 0.01 })
	for range 50 {
		if a := w.call("GET", "/v1/users/u/presence", ""); a.HTTP != 200 {
			t.Fatalf("%d %s", a.HTTP, a.Raw)
		}
	}
}

// Whoever has an IPv6 network to themselves has one allowance, whatever they call.
func connectRateOfNetwork(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.ConnectRate, s.TrustedProxies = 0.01, "1" })
	good := token(t, "patient-1", time.Hour, "")
	passed := 0
	for i := range 20 {
		req, err := http.NewRequest(http.MethodPost, w.base+"/v1/acks", strings.NewReader(`{"cursor":"x"}`))
		expect.NoError(t, err)
		req.Header = http.Header{"Authorization": {"Bearer " + good}, "Content-Type": {"application/json"},
			"X-Forwarded-For": {fmt.Sprintf("2001:db8::%d", i+1)}}
		if a := w.do(req); a.HTTP != http.StatusTooManyRequests {
			passed++
		}
	}
	if passed > 5 {
		t.Errorf("%d acks passed", passed)
	}
}
