package web

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"hookbridge/handlers/web/webtest"

	"github.com/chromedp/chromedp"
)

func TestCursor(t *testing.T) {
	t.Run("is stored and acked only when the app has handled the message", cursorAfterHandling)
	t.Run("is read from localStorage by a page that is reloaded", cursorOfReloadedPage)
	t.Run("moves with a replayed message, which is shown once", cursorOfReplay)
	t.Run("moves with a gap, which is announced", cursorOfGap)
}

func TestHandler(t *testing.T) {
	t.Run("that fails gets the message again", handlerFails)
	t.Run("that closes the client stops it", handlerCloses)
}

func TestAcks(t *testing.T) {
	t.Run("gather, and go at most once in 200 ms", acksGather)
}

func TestSend(t *testing.T) {
	t.Run("is repeated with its ref until it is answered", sendRepeats)
}

func TestToken(t *testing.T) {
	t.Run("that is about to expire is refreshed", tokenRefreshed)
}

func TestServerFrames(t *testing.T) {
	t.Run("of unknown types, with unknown members or of nonsense are ignored", serverFramesUnknown)
	t.Run("are all accepted as their golden files have them", serverFramesGolden)
}

const firstConnect = `{"type":"connect","token":"token-1"}`

func cursorAfterHandling(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null, handle: () => new Promise((done) => { h.done = done; })}`)
	peer := s.connected(firstConnect, "c.0")
	p.until("stored", `"c.0"`) // where a fresh device begins
	peer.event("msg_1", 1, "")
	peer.event("msg_2", 2, "")
	p.until("message", `{"cursor":"c.1"}`) // the second waits for the first
	p.advance(1000)
	p.Eval(`h.client.seen("nothing acked yet")`)
	peer.expect(`{"type":"seen","id":"nothing acked yet"}`)
	p.until("stored", `"c.0"`)

	p.Eval(`h.done()`)
	peer.expect(`{"type":"ack","cursor":"c.1"}`)
	p.until("message", `{"cursor":"c.1"}`, `{"cursor":"c.2"}`)
	p.until("stored", `"c.0"`, `"c.1"`)
	p.Eval(`h.client.close()`) // the second is still being handled: neither acked nor stored
	p.until("stored", `"c.0"`, `"c.1"`)
	p.until("close", `{"code":1000,"retry":false}`)
	if _, _, err := peer.conn.ReadMessage(); err == nil {
		t.Fatal("a frame after close()")
	}
}

func handlerFails(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null, handle: () => { if (h.all("message").length === 1) throw new Error("no") }}`)
	peer := s.connected(firstConnect, "c.0")
	peer.event("msg_1", 1, "")
	p.until("error", `{"code":"handler"}`)
	p.until("state", `{"state":"connecting"}`, `{"state":"connected"}`, `{"state":"waiting","retryInMs":500}`)
	p.advance(500)
	peer = s.connected(`{"type":"connect","token":"token-2","after":"c.0"}`, "c.0")
	peer.event("msg_1", 1, `,"replay":true`)
	p.until("message", `{"cursor":"c.1"}`, `{"cursor":"c.1","replay":true}`)
	p.advance(200)
	peer.expect(`{"type":"ack","cursor":"c.1"}`)
}

func cursorOfReloadedPage(t *testing.T) {
	s := newScript(t)
	p := s.client(`{user: "patient-42"}`)
	peer := s.connected(firstConnect, "c.0")
	peer.event("msg_1", 1, "")
	p.until("message", `{"cursor":"c.1"}`)
	webtest.Do(p.Tab, chromedp.Navigate(s.url+"/blank"))
	p.Eval(`h.make({user: "patient-42"})`)
	peer = s.connected(`{"type":"connect","token":"token-1","after":"c.1"}`, "c.1")
	p.until("open", `{"resumed":true}`)
	p.advance(200)
	peer.expect(`{"type":"ack","cursor":"c.1"}`) // the last ack may have died with the page

	webtest.Do(p.Tab, chromedp.Navigate(s.url+"/blank"))
	p.Eval(`h.make({user: "patient-43"})`) // another user is another cursor
	s.connected(firstConnect, "c.0")
	p.until("open", `{"resumed":false}`)
}

func cursorOfReplay(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: "c.5"}`)
	peer := s.connected(`{"type":"connect","token":"token-1","after":"c.5"}`, "c.5")
	peer.event("msg_6", 6, "")
	peer.event("msg_6", 6, "")
	peer.event("msg_7", 7, "")
	p.until("message", `{"cursor":"c.6"}`, `{"cursor":"c.7"}`)
	peer.close(4498)
	peer = s.connected(`{"type":"connect","token":"token-2","after":"c.7"}`, "c.7")
	peer.event("msg_6", 8, `,"replay":true`)
	peer.event("msg_8", 9, "")
	p.until("message", `{"cursor":"c.6"}`, `{"cursor":"c.7"}`, `{"cursor":"c.9"}`)
	p.until("stored", `"c.6"`, `"c.6"`, `"c.7"`, `"c.8"`, `"c.9"`)
}

func acksGather(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	peer := s.connected(firstConnect, "c.0")
	p.until("open", `{}`)
	for i := 1; i <= 50; i++ {
		peer.event(fmt.Sprintf("msg_%d", i), i, "")
	}
	p.Eval(`h.until("message", 50)`)
	p.advance(199)
	p.Eval(`h.client.seen("early")`)
	peer.expect(`{"type":"seen","id":"early"}`)
	p.advance(1)
	peer.expect(`{"type":"ack","cursor":"c.50"}`)
	p.advance(1000)
	peer.event("msg_51", 51, "")
	peer.expect(`{"type":"ack","cursor":"c.51"}`) // after a pause at once, for a caller may be waiting for it
	peer.event("msg_52", 52, "")
	p.Eval(`h.until("message", 52)`)
	p.advance(199)
	p.Eval(`h.client.seen("early again")`)
	peer.expect(`{"type":"seen","id":"early again"}`)
	p.advance(1)
	peer.expect(`{"type":"ack","cursor":"c.52"}`)
}

func cursorOfGap(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: "old.1"}`)
	peer := s.accept()
	peer.expect(`{"type":"connect","token":"token-1","after":"old.1"}`)
	peer.write(`{"type":"connected","session":"ses_1","user":"u","cursor":"c.3","resumed":false,"pending":1,"pingMs":25000,"expiresAt":"","maxBytes":1024}`,
		`{"type":"gap","after":"old.1","cursor":"c.3","reason":"foreign"}`)
	p.until("gap", `{"cursor":"c.3","reason":"foreign"}`)
	p.until("stored", `"c.3"`)
	p.advance(200)
	peer.expect(`{"type":"ack","cursor":"c.3"}`)
	peer.close(1006)
	p.until("close", `{"code":1006}`)
	p.advance(500)
	s.connected(`{"type":"connect","token":"token-2","after":"c.3"}`, "c.3")
}

func sendRepeats(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	p.Eval(`h.send("patient-42", {type: "chat.message", data: {message: "hello"}}, {ref: "c1"})`)
	frame := `{"type":"send","ref":"c1","to":{"user":"patient-42"},"event":{"type":"chat.message","data":{"message":"hello"}}}`
	peer := s.connected(firstConnect, "c.0")
	peer.expect(frame)
	peer.write(`{"type":"error","ref":"c1","problem":{"code":"draining","status":503}}`) // the next machine takes it
	peer.close(1006)
	p.until("state", `{"state":"connecting"}`, `{"state":"connected"}`, `{"state":"waiting"}`)
	p.advance(500)
	peer = s.connected(`{"type":"connect","token":"token-2","after":"c.0"}`, "c.0")
	peer.expect(frame)
	peer.write(`{"type":"result","ref":"c1","id":"msg_1","status":"sent","sessions":1,"duplicate":true}`)
	p.until("result", `{"id":"msg_1","status":"sent","sessions":1,"duplicate":true}`)

	p.Eval(`h.send({all: true}, {type: "x"}, {ref: "c2"})`)
	p.advance(200)
	peer.expect(`{"type":"send","ref":"c2","to":{"all":true},"event":{"type":"x"}}`)
	peer.write(`{"type":"error","ref":"c2","problem":{"code":"forbidden_target","status":403}}`)
	p.until("refused", `"forbidden_target"`)

	p.Eval(`h.send("u", {type: "x", data: "é".repeat(600)}, {ref: "c3"})`) // 1009 would stop everything
	p.until("refused", `"forbidden_target"`, `"too_large"`)
	p.Eval(`h.send("u", {type: "x"}, {ref: "c4", timeoutMs: 3000})`)
	p.advance(3000)
	p.until("refused", `"forbidden_target"`, `"too_large"`, `"timeout"`)
	p.Eval(`h.send("u", {type: "x"})`)
	p.Eval(`h.client.close()`)
	p.Eval(`h.send("u", {type: "x"})`)
	p.until("refused", `"forbidden_target"`, `"too_large"`, `"timeout"`, `"stopped"`, `"stopped"`)
}

func tokenRefreshed(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	peer := s.connected(firstConnect, "c.0")
	peer.write(`{"type":"token_expiring","inMs":60000}`)
	peer.expect(`{"type":"refresh","token":"token-2"}`)
	p.until("token", `"connect"`, `"expiring"`)
	peer.write(`{"type":"refreshed","expiresAt":"2031-01-01T00:00:00Z"}`)
	p.until("refreshed", `{"expiresAt":"2031-01-01T00:00:00Z"}`)
}

func serverFramesUnknown(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	peer := s.connected(firstConnect, "c.0")
	peer.write(`{"type":"from_the_future","x":1}`, `null`, `7`, `"x"`, `{}`, `{"type":"pong","extra":[]}`, `not json`)
	peer.event("msg_1", 1, `,"colour":"green"`)
	p.until("message", `{"cursor":"c.1","event":{"id":"msg_1"}}`)
	peer.write(`{"type":"recalled","id":"msg_1"}`)
	p.until("recalled", `{"id":"msg_1"}`)
	p.until("error", `{"code":"not_json"}`)
	p.until("state", `{"state":"connecting"}`, `{"state":"connected"}`)
	p.none("close")
	p.Quiet()
}

func serverFramesGolden(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	files, err := filepath.Glob("../../app/wire/testdata/server_*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden frames: %v", err)
	}
	s := newScript(t)
	shows := map[string]string{"connected": "open", "event": "message", "error": "error", "gap": "gap", "recalled": "recalled",
		"token_expiring": "token", "refreshed": "refreshed", "result": "result", "response": "result", "reconnect": "state", "pong": "state"}
	for _, file := range files {
		s.during(filepath.Base(file), func(t *testing.T, s *script) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			frame := parse(t, string(b)).(map[string]any)
			kind, known := shows[fmt.Sprint(frame["type"])]
			if !known {
				t.Fatalf("the client has no word for %q", frame["type"])
			}
			p := s.client(`{stored: null}`)
			if ref, ok := frame["ref"].(string); ok { // its answer is wanted
				p.Eval(`h.send("u", {type: "x"}, {ref: %q})`, ref)
				if kind == "error" {
					kind = "refused"
				}
			}
			peer := s.accept()
			peer.expect(firstConnect)
			if kind != "open" {
				peer.write(`{"type":"connected","session":"s","user":"u","cursor":"c.0","resumed":false,"pending":0,"pingMs":25000,"expiresAt":"","maxBytes":1024}`)
				p.until("open", `{}`)
			}
			had := int(p.Eval(`h.all(%q).length`, kind).(float64))
			peer.write(string(b))
			if kind != "state" {
				p.Eval(`h.until(%q, %d)`, kind, had+1)
			}
			peer.write(`{"type":"gap","cursor":"c.9","reason":"end of this test"}`)
			p.Eval(`h.until("gap", 1)`)
			p.none("close")
			if kind != "error" {
				p.none("error")
			}
			p.Quiet()
		})
	}
}

func handlerCloses(t *testing.T) {
	s := newScript(t)
	for name, options := range map[string]string{
		"over a message that it cannot handle": `{stored: null, handle: () => { throw new Error("no"); }}`,
		"over a handler that rejects":          `{stored: null, handle: async () => { throw new Error("no"); }}`,
		"over a store that is full":            `{cursorStore: {load: () => null, save() { throw new Error("full"); }, clear() {}}}`,
		"over a store that rejects":            `{cursorStore: {load: () => null, save: async () => { throw new Error("full"); }, clear() {}}}`,
	} {
		s.during(name, func(t *testing.T, s *script) {
			p := s.client(options)
			p.Eval(`h.client.on("error", () => h.client.close()) && 1`)
			peer := s.connected(firstConnect, "c.0")
			peer.event("msg_1", 1, "")
			p.Eval(`h.until("error", 1)`)
			p.until("close", `{"code":1000,"retry":false}`)
			p.advance(600_000)
			if got := p.Eval(`[h.client.state, ...h.all("close").map(({ code }) => code), h.clock.timers.size]`); text(got) != `["stopped",1000,0]` {
				t.Errorf("after close() %s", text(got))
			}
			p.Quiet()
		})
	}
}
