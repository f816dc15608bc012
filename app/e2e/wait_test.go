package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestWait(t *testing.T) {
	t.Parallel()
	t.Run("is for received or for acked", waitLevels)
	t.Run("is for all of a batch", waitForBatch)
	t.Run("on a duplicate tells the state as of now", waitOnDuplicate)
	t.Run("tells the least advanced of those online", waitLeastAdvanced)
	t.Run("lasts to its timeout when the session ends", waitOutlivesSession)
	t.Run("is answered at once by a drain", waitEndsWithDrain)
	t.Run("never misses the pong that answers it", waitMeetsPong)
	t.Run("holds no place of its sender", waitHoldsNoPlace)
	t.Run("that is bad is refused with the limit named", waitRefused)
}

// acking is a session whose app acks each message at once.
func (w *world) acking(user string) *session {
	w.t.Helper()
	s := w.connect(user, "")
	go func() {
		for {
			f, err := s.read()
			if err != nil {
				return
			}
			if f.Type == "event" && s.ws.WriteJSON(map[string]string{"type": "ack", "cursor": f.Cursor}) != nil {
				return
			}
		}
	}()
	return s
}

// ask fires and waits.
func (w *world) ask(id, body, level, timeout string) answer {
	w.t.Helper()
	return w.do(waiting(w.sign(id, body, time.Now()), level, timeout))
}

func waitLevels(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.connect("listens", "")
	w.acking("acks")
	for _, c := range []struct {
		to, level, timeout string
		status             string
		sessions           int
	}{
		{`{"user":"listens"}`, "received", "20s", "received", 1},
		{`{"user":"listens"}`, "acked", "2s", "received", 1}, // the time was up; it says what was reached
		{`{"user":"acks"}`, "acked", "20s", "acked", 1},
		{`{"user":"nobody"}`, "acked", "30s", "queued", 0}, // at once, or this test would be slow
		{`{"users":["acks","nobody"]}`, "acked", "20s", "acked", 1},
		{`{"users":["acks","listens"]}`, "received", "20s", "received", 2},
		{`{"all":true}`, "received", "20s", "received", 2},
	} {
		a := w.ask(w.nextID(), `{"type":"t","to":`+c.to+`,"data":1}`, c.level, c.timeout)
		if c.level == "received" && a.Status == "acked" {
			a.Status = "received" // an app that acks at once may be ahead of its own pong
		}
		if a.HTTP != 202 || a.Status != c.status || a.Sessions != c.sessions || a.Duplicate {
			t.Errorf("%s wait=%s: %d %s", c.to, c.level, a.HTTP, a.Raw)
		}
	}
	if a := w.ask(w.nextID(), `{"type":"t","to":{"users":["acks","listens","x","y"]},"data":1}`, "received", ""); *a.Recipients != 4 || *a.Online != 2 {
		t.Errorf("%s", a.Raw)
	}
	for _, c := range []struct{ user, status string }{{"listens", "received"}, {"nobody", "dropped"}} {
		body := `{"type":"t","to":{"user":"` + c.user + `"},"ttl":0,"data":1}`
		if a := w.ask(w.nextID(), body, "received", "20s"); a.Status != c.status || a.Expires != "" {
			t.Errorf("ttl 0 to %s: %s", c.user, a.Raw)
		}
	}
}

func waitForBatch(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.connect("patient-1", "")
	const batch = `{"events":[{"id":"w_1","type":"t","to":{"user":"patient-1"}},{"id":"w_2","type":"t","to":{"user":"patient-1"}},{"id":"w_3","type":"t","to":{"user":"away"}}]}`
	req := waiting(w.signFor("/webhooks/events/batch", "application/json", "w", batch, time.Now()), "received", "20s")
	if a := w.do(req); a.HTTP != 202 || strings.Count(a.Raw, `"status":"received"`) != 2 || strings.Count(a.Raw, `"status":"queued"`) != 1 {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
}

func waitOnDuplicate(t *testing.T) {
	t.Parallel()
	w := start(t)
	const body = `{"type":"t","to":{"user":"patient-1"},"data":1}`
	first := w.fire("msg_d", body)
	if a := w.fire("msg_d", body); a.Status != "queued" || !a.Duplicate || a.Expires != first.Expires || a.Sessions != 0 {
		t.Errorf("away: %s", a.Raw)
	}
	s := w.connect("patient-1", "")
	f := s.want("event")
	if a := w.ask("msg_d", body, "received", "20s"); a.Status != "received" || !a.Duplicate || a.Sessions != 1 {
		t.Errorf("replayed: %s", a.Raw)
	}
	answers := make(chan answer)
	go func() { answers <- w.ask("msg_d", body, "acked", "20s") }()
	// Whether the ack comes before the second caller waits, or after, it is told.
	s.ack(f.Cursor)
	if a := <-answers; a.Status != "acked" || !a.Duplicate {
		t.Errorf("acked: %s", a.Raw)
	}
	expect.NoError(t, s.ws.Close())
	w.sessions(0)
	if a := w.ask("msg_d", body, "acked", "30s"); a.Status != "acked" || a.Sessions != 0 {
		t.Errorf("gone again: %s", a.Raw)
	}
}

func waitLeastAdvanced(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.acking("acks")
	slow := w.connectSlow("slow", "")
	slow.ws.SetPingHandler(func(string) error { return nil }) // a socket that never answers
	slow.pump()
	a := w.ask(w.nextID(), `{"type":"t","to":{"users":["acks","slow","away"]},"data":1}`, "acked", "100ms")
	if a.Status != "sent" || *a.Online != 2 || *a.Recipients != 3 || a.Sessions != 2 {
		t.Errorf("%s", a.Raw)
	}
}

func waitOutlivesSession(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	answers := make(chan answer)
	id := w.nextID()
	go func() { answers <- w.ask(id, `{"type":"t","to":{"user":"patient-1"},"data":1}`, "acked", "300ms") }()
	s.want("event")
	expect.NoError(t, s.ws.Close())
	if a := <-answers; a.HTTP != 202 || a.Status == "acked" || a.Status == "queued" {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
}

func waitEndsWithDrain(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	answers := make(chan answer)
	id := w.nextID()
	go func() { answers <- w.ask(id, `{"type":"t","to":{"user":"patient-1"},"data":1}`, "acked", "30s") }()
	s.want("event")
	w.stop() // would run into its own timeout if the caller held it for 30 s
	if a := <-answers; a.HTTP != 202 || a.Sessions != 1 {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
}

// The pong of a message and the wait of its caller race: whoever is first, the
// caller is told.
func waitMeetsPong(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	w.connect("patient-1", "")
	for i := range 300 {
		id := w.nextID()
		body := fmt.Sprintf(`{"type":"t","to":{"user":"patient-1"},"data":{"n":%d}}`, i)
		again := make(chan answer)
		go func() { again <- w.ask(id, body, "received", "20s") }()
		for _, a := range []answer{w.ask(id, body, "received", "20s"), <-again} {
			if a.Status != "received" || a.Sessions != 1 {
				t.Fatalf("%d: %s", i, a.Raw)
			}
		}
	}
}

func waitHoldsNoPlace(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.MaxUnauthenticated = 5000 })
	s := w.connect("patient-1", "")
	const waiters = 300 // more than a sender may have under way
	answered := make(chan error, waiters)
	for i := range waiters {
		req := waiting(w.sign(fmt.Sprintf("w%d", i), `{"type":"t","to":{"user":"patient-1"},"ttl":60}`, time.Now()), "acked", "30s")
		go func() {
			res, err := w.client.Do(req)
			if err == nil {
				err = res.Body.Close()
			}
			answered <- err
		}()
	}
	last := ""
	for range waiters {
		last = s.want("event").Cursor
	}
	// All are stored and wait. The sender's plain events come through.
	for i := range 20 {
		w.fireTo("patient-2", i)
	}
	select {
	case err := <-answered:
		t.Fatalf("one did not wait: %v", err)
	default:
	}
	s.ack(last)
	for range waiters {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}

func waitRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	for query, detail := range map[string]string{
		"wait=seen":                    "received or acked",
		"wait=":                        "",
		"wait=acked&timeout=31s":       "30s",
		"wait=acked&timeout=-1s":       "30s",
		"wait=acked&timeout=5":         "duration",
		"wait=acked&timeout=soon":      "duration",
		"timeout=5s":                   "wait=",
		"wait=received&timeout=9999h":  "30s",
		"wait=received&timeout=500m":   "30s",
		"wait=received&timeout=30.1s":  "30s",
		"wait=received,acked":          "received or acked",
		"wait=acked&timeout=1e9s":      "duration",
		"wait=acked&timeout=%00":       "duration",
		"wait=received&timeout=30s000": "duration",
	} {
		req := w.sign(w.nextID(), `{"type":"t","to":{"user":"u"}}`, time.Now())
		req.URL.RawQuery = query
		a := w.do(req)
		if detail == "" {
			if a.HTTP != 202 {
				t.Errorf("%s: %d %s", query, a.HTTP, a.Raw)
			}
			continue
		}
		if a.HTTP != 400 || a.Code != "malformed" || !strings.Contains(a.Detail, detail) {
			t.Errorf("%s: %d %s", query, a.HTTP, a.Raw)
		}
	}
}
