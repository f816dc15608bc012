package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestBackendSend(t *testing.T) {
	t.Run("is repeated with its ref until it is answered", backendSendRepeats)
	t.Run("goes by posts over a stream", backendSendOverStream)
	t.Run("that nobody waits for any more holds up none after it", backendSendGivenUp)
}

func TestRequest(t *testing.T) {
	t.Run("brings the backend's answer", requestAnswered)
	t.Run("fails with the server's problem or one of its own", requestFails)
}

// question reads a request frame and checks it, but for its ref, which it returns.
func (p *peer) question(want string) (ref string) {
	p.t.Helper()
	got := p.read()
	ref, _ = got["ref"].(string)
	if delete(got, "ref"); text(got) != text(parse(p.t, want)) || ref == "" {
		p.t.Fatalf("got %s with the ref %q, want %s", text(got), ref, want)
	}
	return ref
}

func backendSendRepeats(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	p.Eval(`h.send({backend: true}, {type: "visit.confirmed", data: {visit: 7}}, {ref: "c1"})`) // waits for a session
	frame := `{"type":"send","ref":"c1","to":{"backend":true},"event":{"type":"visit.confirmed","data":{"visit":7}}}`
	peer := s.connected(firstConnect, "c.0")
	peer.expect(frame)
	peer.close(1006)
	p.until("state", `{"state":"connecting"}`, `{"state":"connected"}`, `{"state":"waiting"}`)
	p.comeBack()
	peer = s.connected(`{"type":"connect","token":"token-2","after":"c.0"}`, "c.0")
	peer.expect(frame)
	peer.write(`{"type":"result","ref":"c1","id":"msg_1","status":"queued","sessions":0}`)
	p.until("result", `{"id":"msg_1","status":"queued"}`)
	p.Eval(`h.send({backend: "clinic"}, {type: "x"}, {ref: "c2"})`)
	peer.expect(`{"type":"send","ref":"c2","to":{"backend":"clinic"},"event":{"type":"x"}}`)
	peer.write(`{"type":"error","ref":"c2","problem":{"code":"unavailable","status":503}}`) // too much waits for it
	p.until("refused", `"unavailable"`)
}

func requestAnswered(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	peer := s.connected(firstConnect, "c.0")
	p.until("open", `{}`)
	p.Eval(`h.request({type: "slots.list", data: {day: 1}})`)
	first := peer.question(`{"type":"request","event":{"type":"slots.list","data":{"day":1}}}`)
	p.Eval(`h.request({type: "slots.list"}, {timeoutMs: 30000, to: {backend: "clinic"}})`)
	second := peer.question(`{"type":"request","to":{"backend":"clinic"},"event":{"type":"slots.list"},"timeoutMs":30000}`)
	peer.write(fmt.Sprintf(`{"type":"response","ref":%q,"status":201,"data":null}`, second)) // whichever is first
	peer.write(fmt.Sprintf(`{"type":"response","ref":%q,"status":200,"data":["9:30"]}`, first))
	p.until("response", `{"status":201,"data":null}`, `{"status":200,"data":["9:30"]}`)
	peer.write(fmt.Sprintf(`{"type":"response","ref":%q,"status":200,"data":7}`, first)) // nobody asked
	peer.write(`{"type":"gap","cursor":"c.1","reason":"end of this test"}`)
	p.Eval(`h.until("gap", 1)`)
	p.until("response", `{"status":201}`, `{"status":200}`)
	p.none("error")
}

func requestFails(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	p.Eval(`h.request({type: "slots.list"})`) // nothing waits for a session
	p.until("refused", `"not_connected"`)
	peer := s.connected(firstConnect, "c.0")
	p.until("open", `{}`)
	refused := []string{`"not_connected"`}
	fails := func(why string) {
		t.Helper()
		refused = append(refused, why)
		p.until("refused", refused...)
	}
	ask := func(options string) string {
		t.Helper()
		p.Eval(`h.request({type: "slots.list"}, %s)`, options)
		return peer.question(`{"type":"request","event":{"type":"slots.list"}}`)
	}
	peer.write(fmt.Sprintf(`{"type":"error","ref":%q,"problem":{"code":"backend_failed","status":502,"backendStatus":500}}`, ask(`null`)))
	fails(`"backend_failed 500"`)
	peer.write(fmt.Sprintf(`{"type":"error","ref":%q,"problem":{"code":"draining","status":503}}`, ask(`null`))) // no machine asks again
	fails(`"draining"`)
	ask(`null`)
	p.advance(9_999) // the server's five seconds, and five for the server's word
	p.until("refused", refused...)
	p.advance(1)
	fails(`"timeout"`)
	p.Eval(`h.aborter = new AbortController()`)
	late := ask(`{signal: h.aborter.signal}`)
	p.Eval(`h.aborter.abort()`)
	fails(`"aborted"`)
	peer.write(fmt.Sprintf(`{"type":"error","ref":%q,"problem":{"code":"backend_timeout","status":504}}`, late))
	p.Eval(`h.request({type: "slots.list"}, {signal: h.aborter.signal})`)
	fails(`"aborted"`)
	p.Eval(`h.request({type: "slots.list", data: "é".repeat(600)})`) // 1009 would end the session
	fails(`"too_large"`)
	p.Eval(`h.request({type: "slots.list", data: 1n})`)
	fails(`"invalid"`)
	p.Eval(`h.request({type: "slots.list"}, {timeoutMs: NaN})`) // which JSON would make the default
	fails(`"invalid"`)
	p.Eval(`h.send("u", {type: "x"}, {timeoutMs: -1})`)
	fails(`"invalid"`)
	p.Eval(`h.send("u", {type: "x"}, {ref: "c1"})`)
	peer.expect(`{"type":"send","ref":"c1","to":{"user":"u"},"event":{"type":"x"}}`)
	ask(`null`)
	peer.close(1006)
	fails(`"disconnected"`) // it may have reached the backend: it is not asked again, unlike the send
	p.none("error")
	p.comeBack()
	peer = s.connected(`{"type":"connect","token":"token-2","after":"c.0"}`, "c.0")
	peer.expect(`{"type":"send","ref":"c1","to":{"user":"u"},"event":{"type":"x"}}`)
	peer.write(`{"type":"result","ref":"c1","id":"msg_1","status":"sent","sessions":1}`)
	p.until("result", `{"id":"msg_1"}`)
	ask(`null`)
	peer.close(1009) // over a frame of ours
	fails(`"refused"`)
	p.comeBack()
	peer = s.connected(`{"type":"connect","token":"token-3","after":"c.0"}`, "c.0")
	p.Eval(`h.until("open", 3)`)
	ask(`null`)
	p.Eval(`h.client.close()`)
	fails(`"disconnected"`)
	p.Eval(`h.request({type: "slots.list"})`)
	fails(`"stopped"`)
	p.Quiet()
}

func backendSendOverStream(t *testing.T) {
	s := newScript(t)
	p, a := s.fallen(`{stored: null}`)
	a.event("connected", hello(""))
	p.until("open", `{"transport":"sse"}`)
	p.Eval(`h.send({backend: true}, {type: "visit.confirmed", data: {n: 1}}, {ref: "c1"})`)
	p.Eval(`h.send({backend: true}, {type: "visit.confirmed", data: {n: 2}}, {ref: "c2"})`)
	send := func(n int) *ask {
		t.Helper()
		a := s.asked("POST /v1/sends", "token-3")
		want := fmt.Sprintf(`{"ref":"c%d","to":{"backend":true},"event":{"type":"visit.confirmed","data":{"n":%d}}}`, n, n)
		if a.body != want || a.r.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("sent %s, want %s", a.body, want)
		}
		return a
	}
	send(1).reply(http.StatusBadGateway, "text/html", "<h1>a proxy</h1>")
	p.Eval(`h.clock.waiting(500)`)
	p.advance(500)
	send(1).reply(http.StatusServiceUnavailable, "application/problem+json", `{"status":503,"code":"draining"}`) // another machine than the stream's
	p.Eval(`h.clock.waiting(1000)`)
	p.advance(1000)
	first := send(1) // the second waits for the first
	first.reply(http.StatusAccepted, "application/json", `{"ref":"c1","id":"msg_1","status":"queued"}`)
	p.until("result", `{"ref":"c1","id":"msg_1","status":"queued","sessions":0}`)
	send(2).reply(http.StatusForbidden, "application/problem+json", `{"status":403,"code":"forbidden_target"}`)
	p.until("refused", `"forbidden_target"`)

	question := func(want string) *ask {
		t.Helper()
		a := s.asked("POST /v1/requests", "token-3")
		if a.body != want {
			t.Fatalf("asked %s, want %s", a.body, want)
		}
		return a
	}
	p.Eval(`h.request({type: "slots.list"}, {timeoutMs: 2000})`)
	question(`{"event":{"type":"slots.list"},"timeoutMs":2000}`).reply(200, "application/json", `["9:30"]`)
	p.until("response", `{"status":200,"data":["9:30"]}`)
	p.Eval(`h.request({type: "slots.list"})`)
	question(`{"event":{"type":"slots.list"}}`).reply(http.StatusGatewayTimeout, "application/problem+json", `{"status":504,"code":"backend_timeout"}`)
	p.until("refused", `"forbidden_target"`, `"backend_timeout"`)
	p.Eval(`h.request({type: "slots.list"})`)
	question(`{"event":{"type":"slots.list"}}`).reply(http.StatusBadGateway, "text/html", "<h1>a proxy</h1>") // not asked again
	p.until("refused", `"forbidden_target"`, `"backend_timeout"`, `"disconnected"`)

	// A new token takes a new stream, but the session goes on.
	p.Eval(`h.request({type: "slots.list"})`)
	kept := question(`{"event":{"type":"slots.list"}}`)
	a.event("token_expiring", `{"type":"token_expiring","inMs":60000}`)
	b := s.asked("GET /v1/stream?after=c.0", "token-4")
	b.event("connected", hello("c.0"))
	p.until("refreshed", `{}`)
	kept.reply(200, "application/json", `"late"`)
	p.until("response", `{"status":200}`, `{"data":"late"}`)

	// The end of the session is the end of its requests; a send goes out again.
	p.Eval(`h.request({type: "slots.list"})`)
	s.asked("POST /v1/requests", "token-4")
	p.Eval(`h.send({backend: true}, {type: "x"}, {ref: "c3"})`)
	s.asked("POST /v1/sends", "token-4")
	b.end()
	p.until("refused", `"forbidden_target"`, `"backend_timeout"`, `"disconnected"`, `"disconnected"`)
	p.Eval(`h.until("close", 3)`)
	p.comeBack()
	s.asked("GET /v1/stream?after=c.0", "token-5").event("connected", hello("c.0"))
	s.asked("POST /v1/sends", "token-5").reply(http.StatusAccepted, "application/json", `{"ref":"c3","id":"msg_3","status":"queued"}`)
	p.until("result", `{"id":"msg_1"}`, `{"id":"msg_3"}`)
	p.none("error")
}

func backendSendGivenUp(t *testing.T) {
	s := newScript(t)
	p, a := s.fallen(`{stored: null}`)
	a.event("connected", hello(""))
	p.until("open", `{"transport":"sse"}`)
	p.Eval(`h.send({backend: true}, {type: "x"}, {ref: "c1", timeoutMs: 700})`)
	p.Eval(`h.send({backend: true}, {type: "x"}, {ref: "c2"})`)
	refuse := func() {
		t.Helper()
		a := s.asked("POST /v1/sends", "token-3")
		if !strings.Contains(a.body, `"ref":"c1"`) {
			t.Fatalf("sent %s", a.body)
		}
		a.reply(http.StatusBadGateway, "text/html", "<h1>a proxy</h1>")
	}
	refuse()
	p.Eval(`h.clock.waiting(500)`)
	p.advance(500)
	refuse()
	p.Eval(`h.clock.waiting(1000)`)
	p.advance(200)
	p.until("refused", `"timeout"`)
	if a := s.asked("POST /v1/sends", "token-3"); !strings.Contains(a.body, `"ref":"c2"`) {
		t.Fatalf("sent %s", a.body)
	}
}
