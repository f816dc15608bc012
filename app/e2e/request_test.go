package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"hookbridge/app/client"
	"hookbridge/app/expect"
)

func TestRequest(t *testing.T) {
	t.Parallel()
	withBackend(t, []backendPromise{
		{"is answered by the backend, over a socket and over HTTP", requestAnswered},
		{"may be made by the Go client, as a send may", requestByGoClient},
		{"over HTTP ends with its caller, whose place is free then", requestHungUp},
	})
}

func requestAnswered(t *testing.T, w *world, b *clinicBackend) {
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
			_, _ = io.WriteString(w, " "+answer+"\n") // the white space is the body's, not the value's
		}
	})
	defer b.answers(nil)
	tok := backendUser(t, "asker")
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
		timeout := `,"timeoutMs":30000`
		if typ == "slots.never" {
			timeout = `,"timeoutMs":300`
		}
		got := ask(typ, timeout)
		if !strings.HasPrefix(got, `{"type":"error","ref":"q",`) || typ != "slots.broken" && !strings.Contains(got, want) ||
			typ == "slots.broken" && !strings.Contains(got, `"backendStatus":418`) {
			t.Errorf("%s: %s", typ, got)
		}
		a := w.callAs(tok, http.MethodPost, "/v1/requests", `{"event":{"type":"`+typ+`"}`+timeout+`}`)
		if !strings.Contains(a.Raw, want) || a.HTTP < 400 {
			t.Errorf("%s over HTTP: %d %s", typ, a.HTTP, a.Raw)
		}
	}
	if a := w.callAs(tok, http.MethodPost, "/v1/requests", `{"event":{"type":"slots.list"},"to":{"backend":"default"}}`); a.HTTP != 200 || a.Raw != " "+answer+"\n" {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	if a := w.callAs(tok, http.MethodPost, "/v1/requests", `{"event":{"type":"slots.list"},"timeoutMs":30001}`); a.HTTP != 422 || !strings.HasPrefix(a.Detail, "/timeoutMs") {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
}

func requestByGoClient(t *testing.T, w *world, b *clinicBackend) {
	c, err := client.NewCaller(client.CallerOptions{URL: w.base, Token: backendUser(t, "gopher")})
	expect.NoError(t, err)
	id, err := c.SendToBackend(t.Context(), "g1", client.BackendEvent{Type: "visit.confirmed", Data: []byte("[1.0]")})
	expect.NoError(t, err)
	if got := b.hears("gopher", "message.sent"); got.Data.ID != id || string(got.Data.Event.Data) != "[1.0]" {
		t.Error(id, got.raw)
	}
	if reply, err := c.Request(t.Context(), client.BackendEvent{Type: "slots.list"}, 0); err != nil || string(reply) != "null" {
		t.Errorf("a 204 is answered with %s, %v", reply, err)
	}
}

func requestHungUp(t *testing.T, w *world, b *clinicBackend) {
	b.answers(func(_ http.ResponseWriter, r *http.Request, _ heardCallback) { <-r.Context().Done() })
	defer b.answers(nil)
	tok := backendUser(t, "leaver")
	const canceled = `hookbridge_callbacks_requests_total{backend="default",result="canceled"}`
	body := `{"event":{"type":"slots.list"},"timeoutMs":30000}`
	head := fmt.Sprintf("POST /v1/requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", tok, len(body))
	for asked := 4; asked <= 8; asked += 4 { // four at once are all that a user may have
		var conns []net.Conn
		for range 4 {
			conns = append(conns, w.raw(head+body))
		}
		expect.Eventually(t, "the backend is asked", func() bool { return len(b.of("leaver")) == asked })
		for _, conn := range conns {
			expect.NoError(t, conn.Close())
		}
		expect.Eventually(t, "all have ended", func() bool { return w.metric(canceled) == float64(asked) })
	}
	if n := w.metric(`hookbridge_refused_requests_total{code="unavailable"}`); n > 0 {
		t.Errorf("%v who had gone were refused", n)
	}
}
