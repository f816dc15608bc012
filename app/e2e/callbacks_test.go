package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbridge/app/client"
	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

const callbackCanary = "canary-of-a-callback"

var callbackSecret = secretOf("callback-secret-of-more-than-24-bytes")

// clinicBackend is a backend in the test's own program, which checks signatures with the
// official library and every body against the contract.
type clinicBackend struct {
	t      *testing.T
	server *httptest.Server
	signer *standardwebhooks.Webhook

	mu     sync.Mutex // guards what follows
	heard  []heardCallback
	answer func(http.ResponseWriter, *http.Request, heardCallback) // nil: 204
}

type heardCallback struct {
	webhookID string
	raw       string
	Type      string
	Timestamp time.Time
	Data      struct {
		ID           string
		Type         string
		User         string
		From         string
		Session      string
		AckedAt      time.Time
		AfterSeconds int
		State        string
		Sessions     int
		LastSeen     time.Time
		Event        struct {
			Type string
			Data json.RawMessage
		}
	}
}

func newClinicBackend(t *testing.T) *clinicBackend {
	signer, err := standardwebhooks.NewWebhook(callbackSecret)
	expect.NoError(t, err)
	b := &clinicBackend{t: t, signer: signer}
	b.server = httptest.NewServer(b)
	t.Cleanup(b.server.Close)
	return b
}

func (b *clinicBackend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the bridge hung up
	}
	if err := b.signer.Verify(body, r.Header); err != nil {
		b.t.Errorf("a signature: %v", err)
	}
	if err := webhookContract(body); err != nil {
		b.t.Errorf("%s: %v", body, err)
	}
	c := heardCallback{webhookID: r.Header.Get("webhook-id"), raw: string(body)}
	if err := json.Unmarshal(body, &c); err != nil {
		b.t.Errorf("%s: %v", body, err)
	}
	b.mu.Lock()
	b.heard = append(b.heard, c)
	answer := b.answer
	b.mu.Unlock()
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(w, r, c)
}

func (b *clinicBackend) answers(f func(http.ResponseWriter, *http.Request, heardCallback)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

// of lists what the backend heard of a user.
func (b *clinicBackend) of(user string) (out []heardCallback) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.heard {
		if c.Data.User == user || c.Data.From == user {
			out = append(out, c)
		}
	}
	return out
}

// hears waits for the first callback of a type about a user.
func (b *clinicBackend) hears(user, typ string) (found heardCallback) {
	b.t.Helper()
	expect.Eventually(b.t, typ+" about "+user, func() bool {
		i := slices.IndexFunc(b.of(user), func(c heardCallback) bool { return c.Type == typ })
		if i >= 0 {
			found = b.of(user)[i]
		}
		return i >= 0
	})
	return found
}

func (b *clinicBackend) settings(s *server.Settings) {
	s.CallbackURL, s.CallbackSecret = server.Secret(b.server.URL), server.Secret(callbackSecret)
}

const patientRights = `{"send":["*"],"backend":["visit.*","slots.*","message"]}`

func TestTheWayBack(t *testing.T) {
	t.Parallel()
	t.Run("on SQLite", func(t *testing.T) {
		t.Parallel()
		b := newClinicBackend(t)
		testTheWayBack(t, start(t, b.settings), b)
	})
	t.Run("on Redis", func(t *testing.T) {
		t.Parallel()
		b, r := newClinicBackend(t), redistest.Start(t)
		testTheWayBack(t, start(t, b.settings, func(s *server.Settings) { s.RedisURL, s.RedisPrefix = server.Secret(r.URL()), "e2e" }), b)
	})
}

func testTheWayBack(t *testing.T, w *world, b *clinicBackend) {
	patient := func(user string) string { return token(t, user, time.Hour, patientRights) }
	t.Run("an ack is told with its session, once", func(t *testing.T) {
		s := w.connectAs(patient("acker"), "")
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
	})
	t.Run("an event that nobody acks escalates with how far it has come, and then expires", func(t *testing.T) {
		body := func(user string) string {
			return fmt.Sprintf(`{"type":"visit.due","to":{"user":%q},"ttl":2,"escalate":1,"data":%q}`, user, callbackCanary)
		}
		s := w.connectAs(patient("reader"), "")
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
	})
	t.Run("an event that was acked or recalled does not escalate", func(t *testing.T) {
		s := w.connectAs(patient("quick"), "")
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
	})
	t.Run("an escalate that cannot be is refused with its pointer", func(t *testing.T) {
		for _, e := range []string{`"to":{"user":"u"},"ttl":0,"escalate":1`, `"to":{"all":true},"escalate":1`, `"to":{"user":"u"},"ttl":5,"escalate":6`, `"to":{"user":"u"},"escalate":0`} {
			a := w.do(w.sign(w.nextID(), `{"type":"t",`+e+`}`, time.Now()))
			if a.HTTP != 422 || a.Code != "invalid_event" || !strings.HasPrefix(a.Detail, "/escalate") {
				t.Errorf("%s: %d %s", e, a.HTTP, a.Raw)
			}
		}
		if a := w.do(w.sign(w.nextID(), `{"type":"t","to":{"user":"u"},"ttl":5,"escalate":null}`, time.Now())); a.HTTP != 202 {
			t.Error(a.Raw)
		}
	})
	t.Run("what a user sends comes byte for byte, in order, once for each ref", func(t *testing.T) {
		s := w.connectAs(patient("sender"), "")
		data := `{"at" : 1.0, "` + callbackCanary + `":1,"at":2}`
		for i := range 20 {
			s.sendRaw(fmt.Sprintf(`{"type":"send","ref":"r%d","to":{"backend":true},"event":{"type":"visit.confirmed","data":%s}}`, i, data))
			if r := s.want("result"); r.Status != "queued" || r.Sessions != 0 || r.Ref != fmt.Sprintf("r%d", i) || r.ID == "" {
				t.Fatal(r.Raw)
			}
		}
		var sent []heardCallback
		expect.Eventually(t, "20 messages", func() bool {
			sent = slices.DeleteFunc(b.of("sender"), func(c heardCallback) bool { return c.Type != "message.sent" })
			return len(sent) == 20
		})
		if !strings.Contains(sent[0].raw, `"event":{"type":"visit.confirmed","data":`+data+`}`) || sent[0].Data.Session != s.id {
			t.Error(sent[0].raw)
		}
		if !slices.IsSortedFunc(sent, func(a, b heardCallback) int { return a.Timestamp.Compare(b.Timestamp) }) {
			t.Error("out of order")
		}
		s.sendRaw(`{"type":"send","ref":"r0","to":{"backend":true},"event":{"type":"visit.confirmed","data":` + data + `}}`)
		if r := s.want("result"); !r.Duplicate || r.ID != sent[0].Data.ID {
			t.Error(r.Raw)
		}
		s.sendRaw(`{"type":"send","ref":"r0","to":{"backend":true},"event":{"type":"visit.confirmed","data":1}}`)
		if f := s.want("error"); f.Problem.Code != "id_conflict" {
			t.Error(f.Raw)
		}
	})
	t.Run("over HTTP too", func(t *testing.T) {
		tok := patient("caller")
		a := w.callAs(tok, http.MethodPost, "/v1/sends", `{"ref":"c1","to":{"backend":"default"},"event":{"type":"visit.confirmed","data":[1.0]}}`)
		if a.HTTP != 202 || a.Status != "queued" || a.Raw != fmt.Sprintf(`{"ref":"c1","id":%q,"status":"queued"}`, a.ID) {
			t.Errorf("%d %s", a.HTTP, a.Raw)
		}
		c := b.hears("caller", "message.sent")
		if c.Data.ID != a.ID || strings.Contains(c.raw, "session") || string(c.Data.Event.Data) != "[1.0]" {
			t.Error(c.raw)
		}
		for body, want := range map[string]string{
			`{"to":{"backend":true},"event":{"type":"doctor.x"}}`:                                             "403 forbidden_target",
			`{"to":{"backend":"nobody"},"event":{"type":"visit.x"}}`:                                          "403 forbidden_target",
			`{"to":{"user":"u"},"event":{"type":"visit.x"}}`:                                                  "422 invalid_request",
			`{"event":{"type":"visit.x"}}`:                                                                    "422 invalid_request",
			`{"to":{"backend":true},"event":{"type":"visit.x","ttl":5}}`:                                      "422 invalid_request",
			`{"ref":"c1","to":{"backend":"default"},"event":{"type":"visit.confirmed","data":[2]}}`:           "409 id_conflict",
			`{"to":{"backend":true},"event":{"type":"visit.x","data":"` + strings.Repeat("x", 70_000) + `"}}`: "413 too_large",
			`{`: "400 malformed",
		} {
			if a := w.callAs(tok, http.MethodPost, "/v1/sends", body); fmt.Sprint(a.HTTP, " ", a.Code) != want {
				t.Errorf("%.80s: %d %s, want %s", body, a.HTTP, a.Raw, want)
			}
		}
		for _, path := range []string{"/v1/sends", "/v1/requests"} {
			if a := w.callAs("", http.MethodPost, path, `{}`); a.HTTP != 401 {
				t.Errorf("%s without a token: %d", path, a.HTTP)
			}
		}
	})
	t.Run("a plain client's message without an address is of the type message", func(t *testing.T) {
		s := w.plain(patient("plain"))
		s.sendRaw(`{"message":"I am here"}`)
		if c := b.hears("plain", "message.sent"); c.Data.Event.Type != "message" || string(c.Data.Event.Data) != `{"message":"I am here"}` {
			t.Error(c.raw)
		}
	})
	t.Run("a request brings the backend's answer, over a socket and over HTTP", func(t *testing.T) {
		const answer = `{"slots" : [ 1.0 ],"a":1,"a":2}`
		b.answers(func(w http.ResponseWriter, r *http.Request, c heardCallback) {
			switch {
			case c.Type != "request":
				w.WriteHeader(http.StatusNoContent)
			case c.Data.Event.Type == "slots.broken":
				http.Error(w, "<html>"+callbackCanary, http.StatusTeapot)
			case c.Data.Event.Type == "slots.html":
				_, _ = io.WriteString(w, "<html>") // the bridge is there
			case c.Data.Event.Type == "slots.never":
				<-r.Context().Done() // the bridge gives up
			case c.Data.Event.Type == "slots.large":
				_, _ = io.WriteString(w, `"`+strings.Repeat("x", 100<<10)+`"`)
			default:
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, answer)
			}
		})
		defer b.answers(nil)
		tok := patient("asker")
		s := w.connectAs(tok, "")
		ask := func(typ, more string) string {
			t.Helper()
			s.sendRaw(`{"type":"request","ref":"q","event":{"type":"` + typ + `","data":{"doctor":"d-7"}}` + more + `}`)
			return s.next().Raw
		}
		if got := ask("slots.list", ""); got != `{"type":"response","ref":"q","status":201,"data":`+answer+`}` {
			t.Error(got)
		}
		if c := b.hears("asker", "request"); c.Data.Session != s.id || string(c.Data.Event.Data) != `{"doctor":"d-7"}` {
			t.Error(c.raw)
		}
		for typ, want := range map[string]string{
			"slots.broken": `"code":"backend_failed"`, "slots.html": `"code":"backend_failed"`, "slots.large": `"code":"backend_failed"`,
			"slots.never": `"status":504,"code":"backend_timeout"`, "doctor.x": `"code":"forbidden_target"`,
		} {
			got := ask(typ, `,"timeoutMs":300`)
			if !strings.HasPrefix(got, `{"type":"error","ref":"q",`) || typ != "slots.broken" && !strings.Contains(got, want) ||
				typ == "slots.broken" && !strings.Contains(got, `"backendStatus":418`) {
				t.Errorf("%s: %s", typ, got)
			}
			a := w.callAs(tok, http.MethodPost, "/v1/requests", `{"event":{"type":"`+typ+`"},"timeoutMs":300}`)
			if !strings.Contains(a.Raw, want) || a.HTTP < 400 {
				t.Errorf("%s over HTTP: %d %s", typ, a.HTTP, a.Raw)
			}
		}
		if a := w.callAs(tok, http.MethodPost, "/v1/requests", `{"event":{"type":"slots.list"},"to":{"backend":"default"}}`); a.HTTP != 200 || a.Raw != answer {
			t.Errorf("%d %s", a.HTTP, a.Raw)
		}
		if a := w.callAs(tok, http.MethodPost, "/v1/requests", `{"event":{"type":"slots.list"},"timeoutMs":30001}`); a.HTTP != 422 || !strings.HasPrefix(a.Detail, "/timeoutMs") {
			t.Errorf("%d %s", a.HTTP, a.Raw)
		}
	})
	t.Run("the Go client sends and asks", func(t *testing.T) {
		c, err := client.NewCaller(client.CallerOptions{URL: w.base, Token: patient("gopher")})
		expect.NoError(t, err)
		id, err := c.SendToBackend(t.Context(), "g1", client.BackendEvent{Type: "visit.confirmed", Data: []byte("[1.0]")})
		expect.NoError(t, err)
		if got := b.hears("gopher", "message.sent"); got.Data.ID != id || string(got.Data.Event.Data) != "[1.0]" {
			t.Error(id, got.raw)
		}
		if reply, err := c.Request(t.Context(), client.BackendEvent{Type: "slots.list"}, 0); err != nil || string(reply) != "null" {
			t.Errorf("a 204 is answered with %s, %v", reply, err)
		}
	})
	t.Run("operators see what was given up, and send it again", func(t *testing.T) {
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
			w.callAs(patient("unlucky"), http.MethodPost, "/v1/sends", fmt.Sprintf(`{"ref":"u%d","to":{"backend":true},"event":{"type":"visit.x","data":%q}}`, i, callbackCanary))
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
		if a := w.callAs(operator, http.MethodPost, "/v1/callbacks/default/redrive", fmt.Sprintf(`{"ids":[%q]}`, dead.Dead[0].ID)); a.HTTP != 202 {
			t.Fatal(a.Raw)
		}
		expect.Eventually(t, "the one that was sent again", func() bool {
			all := b.of("unlucky")
			return len(all) == 4 && all[3].webhookID == dead.Dead[0].ID
		})
		if a := w.callAs(operator, http.MethodPost, "/v1/callbacks/default/redrive", `{"all":true}`); a.HTTP != 202 {
			t.Fatal(a.Raw)
		}
		expect.Eventually(t, "all", func() bool { return len(b.of("unlucky")) == 6 })
		for _, path := range []string{"/v1/callbacks", "/v1/callbacks/default/dead"} {
			if a := w.call(http.MethodGet, path, ""); a.HTTP != 403 || !strings.Contains(a.Detail, "callbacks") {
				t.Errorf("%s without the area: %d %s", path, a.HTTP, a.Raw)
			}
		}
	})
	t.Run("a user who has gone is told ten seconds later, and one who is erased is not", func(t *testing.T) {
		s, e := w.connectAs(patient("leaver"), ""), w.connectAs(patient("erased"), "")
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
	})
	t.Run("no payload of it is logged", func(t *testing.T) {
		if strings.Contains(w.logs.String(), callbackCanary) || strings.Contains(w.scrape(), callbackCanary) {
			t.Error("it is")
		}
	})
}

func TestAnEscalationOutlivesTheProgram(t *testing.T) {
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

func TestWithoutABackendNothingGoesBack(t *testing.T) {
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
