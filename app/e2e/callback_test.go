package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
)

func TestCallback(t *testing.T) {
	t.Parallel()
	withBackend(t, []backendPromise{
		{"tells of an ack with its session, once", callbackOfAck},
		{"of an event that nobody acks says how far it came, and then that it expired", callbackOfUnacked},
		{"of an escalation is not made once the event was acked or recalled", callbackNotEscalated},
		{"of an escalation that cannot be is refused with its pointer", callbackEscalateRefused},
		{"given up is seen by operators, who send it again", callbackRedrive},
		{"of a user who left comes ten seconds later, of one erased never", callbackOfOffline},
	})
	t.Run("of an escalation outlives the program", callbackOutlivesProgram)
	t.Run("is not made without a backend", callbackWithoutBackend)
	t.Run("whose reply has more than HTTP allows leaves nothing of it in the log", callbackReplyNotLogged)
}

func callbackOutlivesProgram(t *testing.T) {
	t.Parallel()
	b := newClinicBackend(t)
	dir := t.TempDir()
	s := testSettings(dir)
	b.settings(&s)
	w := startWith(t, s)
	w.fire("esc_1", `{"type":"visit.due","to":{"user":"patient-1"},"ttl":600,"escalate":2}`)
	w.stop()
	w = startWith(t, s)
	c := b.hears("patient-1", "event.unacked")
	if c.Data.ID != "esc_1" {
		t.Error(c.raw)
	}
	w.stop()
	startWith(t, s).fire("esc_2", `{"type":"visit.due","to":{"user":"patient-2"},"ttl":600,"escalate":1}`)
	b.hears("patient-2", "event.unacked")
	if n := len(b.of("patient-1")); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func callbackWithoutBackend(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connectAs(token(t, "patient-1", time.Hour, patientRights), "")
	s.sendRaw(`{"type":"send","ref":"c1","to":{"backend":true},"event":{"type":"visit.confirmed"}}`)
	if f := s.want("error"); f.Problem.Code != "forbidden_target" || f.Ref != "c1" {
		t.Error(f.Raw)
	}
	s.sendRaw(`{"type":"request","ref":"q1","event":{"type":"slots.list"}}`)
	if f := s.want("error"); f.Problem.Code != "forbidden_target" || f.Ref != "q1" {
		t.Error(f.Raw)
	}
	w.fire(w.nextID(), `{"type":"visit.due","to":{"user":"patient-1"},"escalate":60}`)
	s.want("event")
	if a := w.callAs(token(t, "operator", time.Hour, `{"admin":["callbacks"]}`), http.MethodGet, "/v1/callbacks", ""); a.HTTP != 200 || a.Raw != `{"backends":[]}` {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
}

func callbackOfAck(t *testing.T, w *world, b *clinicBackend) {
	s := w.connectAs(backendUser(t, "acker"), "")
	w.fireTo("acker", 1)
	w.fireTo("acker", 2)
	s.want("event")
	last := s.want("event")
	s.ack(last.Cursor)
	s.ack(last.Cursor)
	expect.Eventually(t, "two acks", func() bool {
		acked := slices.DeleteFunc(b.of("acker"), func(c heardCallback) bool { return c.Type != "event.acked" })
		return len(acked) == 2 && acked[0].Data.Session == s.id && acked[0].Data.ID != acked[1].Data.ID
	})
	if c := b.hears("acker", "user.online"); c.Data.Sessions != 1 {
		t.Error(c.raw)
	}
}

func callbackOfUnacked(t *testing.T, w *world, b *clinicBackend) {
	body := func(user string) string {
		return fmt.Sprintf(`{"type":"visit.due","to":{"user":%q},"ttl":2,"escalate":1,"data":%q}`, user, callbackCanary)
	}
	s := w.connectAs(backendUser(t, "reader"), "")
	w.fire("esc_1", body("reader"))
	s.want("event")
	w.fire("esc_2", body("sleeper"))
	u, r := b.hears("sleeper", "event.unacked"), b.hears("reader", "event.unacked")
	if u.Data.ID != "esc_2" || u.Data.AfterSeconds != 1 || u.Data.State != "queued" || r.Data.ID != "esc_1" || r.Data.State != "sent" && r.Data.State != "received" {
		t.Error(u.raw, r.raw)
	}
	if x := b.hears("sleeper", "event.expired"); x.Data.ID != "esc_2" || x.Data.Type != "visit.due" {
		t.Error(x.raw)
	}
}

func callbackNotEscalated(t *testing.T, w *world, b *clinicBackend) {
	s := w.connectAs(backendUser(t, "quick"), "")
	w.fire("esc_3", `{"type":"visit.due","to":{"user":"quick"},"ttl":60,"escalate":1}`)
	s.ack(s.want("event").Cursor)
	w.fire("esc_4", `{"type":"visit.due","to":{"user":"gone"},"ttl":60,"escalate":1}`)
	w.done(http.MethodDelete, "/v1/events/esc_4", "")
	w.fire("esc_5", `{"type":"visit.due","to":{"user":"witness"},"ttl":60,"escalate":2}`)
	b.hears("witness", "event.unacked")
	for _, user := range []string{"quick", "gone"} {
		for _, c := range b.of(user) {
			if c.Type == "event.unacked" || c.Type == "event.expired" {
				t.Error(c.raw)
			}
		}
	}
}

func callbackEscalateRefused(t *testing.T, w *world, b *clinicBackend) {
	for _, e := range []string{`"to":{"user":"u"},"ttl":0,"escalate":1`, `"to":{"all":true},"escalate":1`, `"to":{"user":"u"},"ttl":5,"escalate":6`, `"to":{"user":"u"},"escalate":0`} {
		a := w.do(w.sign(w.nextID(), `{"type":"t",`+e+`}`, time.Now()))
		if a.HTTP != 422 || a.Code != "invalid_event" || !strings.HasPrefix(a.Detail, "/escalate") {
			t.Errorf("%s: %d %s", e, a.HTTP, a.Raw)
		}
	}
	if a := w.do(w.sign(w.nextID(), `{"type":"t","to":{"user":"u"},"ttl":5,"escalate":null}`, time.Now())); a.HTTP != 202 {
		t.Error(a.Raw)
	}
}

func callbackRedrive(t *testing.T, w *world, b *clinicBackend) {
	b.answers(func(w http.ResponseWriter, r *http.Request, c heardCallback) {
		status := http.StatusNoContent
		if c.Data.From == "unlucky" {
			status = http.StatusGone
		}
		w.WriteHeader(status)
	})
	defer b.answers(nil)
	operator := token(t, "operator", time.Hour, `{"admin":["callbacks"]}`)
	for i := range 3 {
		w.callAs(backendUser(t, "unlucky"), http.MethodPost, "/v1/sends", fmt.Sprintf(`{"ref":"u%d","to":{"backend":true},"event":{"type":"visit.x","data":%q}}`, i, callbackCanary))
	}
	var list struct {
		Backends []struct {
			Name, State, Since, Oldest string
			Waiting, Dead              int
		}
	}
	expect.Eventually(t, "three dead ones", func() bool {
		a := w.callAs(operator, http.MethodGet, "/v1/callbacks", "")
		expect.NoError(t, json.Unmarshal([]byte(a.Raw), &list))
		return len(list.Backends) == 1 && list.Backends[0].Dead == 3
	})
	if l := list.Backends[0]; l.Name != "default" || l.Since == "" {
		t.Errorf("%+v", l)
	}
	var dead struct {
		Dead []struct {
			ID, Type, User, Since, Last string
			Tries                       int
		}
		Next string
	}
	a := w.callAs(operator, http.MethodGet, "/v1/callbacks/default/dead", "")
	expect.NoError(t, json.Unmarshal([]byte(a.Raw), &dead))
	if len(dead.Dead) != 3 || dead.Next != "" || dead.Dead[0].Type != "message.sent" || dead.Dead[0].User != "unlucky" || dead.Dead[0].Tries != 1 || dead.Dead[0].Last == "" || strings.Contains(a.Raw, callbackCanary) {
		t.Fatal(a.Raw)
	}
	// All that is kept of a user is handed over, payloads too.
	if a := w.call(http.MethodGet, "/v1/users/unlucky/export", ""); strings.Count(a.Raw, `{"callback":{"id":"cb_`) != 3 ||
		strings.Count(a.Raw, `"backend":"default","givenUp":"`) != 3 || strings.Count(a.Raw, `"data":"`+callbackCanary+`"}}}}}`+"\n") != 3 {
		t.Error(a.Raw)
	}
	after := w.callAs(operator, http.MethodGet, "/v1/callbacks/default/dead?after="+dead.Dead[0].ID, "")
	if strings.Contains(after.Raw, dead.Dead[0].ID) || !strings.Contains(after.Raw, dead.Dead[2].ID) {
		t.Error(after.Raw)
	}
	for body, want := range map[string]int{`{}`: 422, `{"all":false}`: 422, `{"ids":["x"],"all":true}`: 422, `{"ids":["cb_none"]}`: 202} {
		if a := w.callAs(operator, http.MethodPost, "/v1/callbacks/default/redrive", body); a.HTTP != want {
			t.Errorf("%s: %d %s", body, a.HTTP, a.Raw)
		}
	}
	for _, path := range []string{"GET /v1/callbacks/nobody/dead", "POST /v1/callbacks/nobody/redrive"} {
		method, path, _ := strings.Cut(path, " ")
		body := ""
		if method == http.MethodPost {
			body = `{"all":true}`
		}
		if a := w.callAs(operator, method, path, body); a.HTTP != 404 || a.Code != "not_found" {
			t.Errorf("%s: %d %s", path, a.HTTP, a.Raw)
		}
	}
	b.answers(nil)
	if a := w.callAs(operator, http.MethodPost, "/v1/callbacks/default/redrive", fmt.Sprintf(`{"ids":[%q]}`, dead.Dead[0].ID)); a.HTTP != 202 || a.Raw != `{"redriven":1}` {
		t.Fatal(a.Raw)
	}
	expect.Eventually(t, "the one that was sent again", func() bool {
		all := b.of("unlucky")
		return len(all) == 4 && all[3].webhookID == dead.Dead[0].ID
	})
	if a := w.callAs(operator, http.MethodPost, "/v1/callbacks/default/redrive", `{"all":true}`); a.HTTP != 202 || a.Raw != `{"redriven":2}` {
		t.Fatal(a.Raw)
	}
	expect.Eventually(t, "all", func() bool { return len(b.of("unlucky")) == 6 })
	for _, path := range []string{"/v1/callbacks", "/v1/callbacks/default/dead"} {
		if a := w.call(http.MethodGet, path, ""); a.HTTP != 403 || !strings.Contains(a.Detail, "callbacks") {
			t.Errorf("%s without the area: %d %s", path, a.HTTP, a.Raw)
		}
	}
}

func callbackOfOffline(t *testing.T, w *world, b *clinicBackend) {
	s, e := w.connectAs(backendUser(t, "leaver"), ""), w.connectAs(backendUser(t, "erased"), "")
	b.hears("leaver", "user.online")
	b.hears("erased", "user.online")
	w.done(http.MethodDelete, "/v1/users/erased", "")
	if code := e.closed(); code != 4410 {
		t.Error(code)
	}
	left := time.Now()
	expect.NoError(t, s.ws.Close())
	c := b.hears("leaver", "user.offline")
	if c.Timestamp.Sub(left) < 9*time.Second || c.Data.LastSeen.Sub(left).Abs() > 5*time.Second {
		t.Error(left, c.raw)
	}
	for _, c := range b.of("erased") {
		if c.Type == "user.offline" {
			t.Error(c.raw)
		}
	}
}

// net/http's client says by itself, in the log of the standard library, what a server sends
// that nobody has asked for.
func callbackReplyNotLogged(t *testing.T) {
	t.Parallel()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server hears of a client that is gone once it has read all
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nContent-Length: 21\r\n\r\n"+callbackCanary) // the bridge may have hung up
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}))
	defer backend.Close()
	p := serve(t, t.TempDir(), "BRIDGE_LOG_LEVEL=debug", "BRIDGE_CALLBACK_URL="+backend.URL, "BRIDGE_CALLBACK_SECRET="+callbackSecret)
	for i := range 5 {
		a := p.callAs(backendUser(t, "patient-1"), http.MethodPost, "/v1/sends", fmt.Sprintf(`{"ref":"r%d","to":{"backend":true},"event":{"type":"visit.x"}}`, i))
		if a.HTTP != http.StatusAccepted {
			t.Fatal(a.Raw)
		}
	}
	expect.Eventually(t, "all to be taken", func() bool {
		return p.metric(`hookbridge_callbacks_tries_total{backend="default",result="done"}`) == 5
	})
	expect.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	expect.NoError(t, p.wait(t))
	if strings.Contains(p.errs.String()+p.out.String(), callbackCanary) {
		t.Error(p.errs)
	}
}
