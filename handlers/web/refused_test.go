package web

import (
	"fmt"
	"testing"
)

func TestRefusedSend(t *testing.T) {
	t.Run("that makes no frame rejects that call alone", refusedSendNoFrame)
	t.Run("that the server cannot read fails the sends under way, and the client comes back", refusedSendUnreadable)
	t.Run("does not reject a send that waits for a connection", refusedSendWaiting)
	t.Run("with an error frame rejects its call alone", refusedSendError)
}

func TestRepeatedSend(t *testing.T) {
	t.Run("is the same bytes", repeatedSendBytes)
}

func refusedSendNoFrame(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	peer := s.connected(firstConnect, "c.0")
	p.until("open", `{}`)
	for _, c := range []struct{ send, want string }{
		{`"u", {type: "x", data: 1n}`, `"invalid"`},
		{`"u", {type: "x", data: (() => { const a = {}; a.a = a; return a; })()}`, `"invalid"`},
		{`"u", {type: "x", data: {toJSON() { throw new Error("no"); }}}`, `"invalid"`},
		{`"u", {type: "x", get data() { throw new Error("no"); }}`, `"invalid"`},
		{`"u", {type: "x", data: (() => { let a = "]]"; for (let i = 0; i < 501; i++) a = [a]; return a; })()}`, `"invalid"`},
		{`"u", {type: "x", data: "[\\\"".repeat(1_000)}`, `"too_large"`},
		{`"\ud800", {type: "x"}`, `"invalid"`},
		{`"u", {type: "x\udfff"}`, `"invalid"`},
		{`"u", {type: "x"}, {ref: ""}`, `"invalid"`},
		{`"u", {type: "x"}, {ref: 7}`, `"invalid"`},
		{`"u", {type: "x"}, {ref: null}`, `"invalid"`},
		{`"u", {type: "x"}, {ref: "é".repeat(65)}`, `"invalid"`},
		{`"u", {type: "x", data: "é".repeat(600)}`, `"too_large"`},
	} {
		p.Eval(`h.log.length = 0`)
		p.Eval(`h.send(%s)`, c.send)
		p.until("refused", c.want)
	}
	// All of it is well-formed, however the app's strings are.
	p.Eval(`h.send("u", {type: "x", data: {"\ud83d": "cut \ude00 \u{1f600}"}}, {ref: "r", timeoutMs: Infinity})`)
	peer.expect(`{"type":"send","ref":"r","to":{"user":"u"},"event":{"type":"x","data":{"\ud83d":"cut \ude00 😀"}}}`)
	p.Eval(`h.send("u", {type: "x"}, {ref: "r"})`) // is not sent a second time
	p.until("refused", `"too_large"`, `"duplicate_ref"`)
	p.Eval(`[7, "", "x".repeat(300), "msg_1"].forEach((id) => h.client.seen(id))`)
	peer.expect(`{"type":"seen","id":"msg_1"}`)
	p.until("error", `{"code":"invalid"}`, `{"code":"invalid"}`, `{"code":"invalid"}`)
	peer.write(`{"type":"result","ref":"r","id":"msg_1","status":"sent","sessions":1}`)
	p.until("result", `{"id":"msg_1"}`)
	p.none("close")
}

func repeatedSendBytes(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	p.Eval(`(h.event = {type: "x", data: {n: 1}}, h.send("u", h.event, {ref: "r"}))`)
	p.Eval(`h.event.data.n = 2`) // the app goes on with its object
	peer := s.connected(firstConnect, "c.0")
	peer.expect(`{"type":"send","ref":"r","to":{"user":"u"},"event":{"type":"x","data":{"n":1}}}`)
	peer.close(1006)
	p.until("close", `{"code":1006}`)
	p.advance(500)
	peer = s.connected(`{"type":"connect","token":"token-2","after":"c.0"}`, "c.0")
	peer.expect(`{"type":"send","ref":"r","to":{"user":"u"},"event":{"type":"x","data":{"n":1}}}`)
}

// Should the server close over a frame all the same, the sends under way pay for
// it, and nothing else does.
func refusedSendUnreadable(t *testing.T) {
	s := newScript(t)
	for _, code := range []int{4400, 1009, 1003, 1007} {
		s.during(fmt.Sprint(code), func(t *testing.T, s *script) {
			p := s.client(`{stored: null}`)
			connect := firstConnect
			for n := 1; n <= 3; n++ { // again and again: as long as the app sends, it is the app's
				peer := s.connected(connect, "c.0")
				p.Eval(`h.until("open", %d)`, n)
				p.Eval(`h.send("u", {type: "x"}, {ref: "r%d"})`, n)
				peer.expect(fmt.Sprintf(`{"type":"send","ref":"r%d","to":{"user":"u"},"event":{"type":"x"}}`, n))
				peer.close(code)
				p.Eval(`h.until("close", %d)`, n)
				p.Eval(`h.until("refused", %d)`, n)
				p.comeBack()
				connect = fmt.Sprintf(`{"type":"connect","token":"token-%d","after":"c.0"}`, n+1)
			}
			p.until("refused", `"refused"`, `"refused"`, `"refused"`)
			peer := s.connected(connect, "c.0")
			p.Eval(`h.until("open", 4)`)
			p.Eval(`h.send("u", {type: "x"}, {ref: "r4"})`)
			peer.expect(`{"type":"send","ref":"r4","to":{"user":"u"},"event":{"type":"x"}}`)
			peer.write(`{"type":"result","ref":"r4","id":"msg_1","status":"sent","sessions":1}`)
			p.until("result", `{"ref":"r4"}`)
		})
	}
}

func refusedSendWaiting(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	p.Eval(`h.send("u", {type: "x"}, {ref: "r"})`)
	peer := s.accept()
	peer.expect(firstConnect)
	peer.close(4400)
	p.until("close", `{"code":4400,"retry":true}`)
	p.advance(500)
	s.accept().close(4400) // again, and no send was under way: this client and this server do not understand each other
	p.until("close", `{"code":4400,"retry":true}`, `{"code":4400,"retry":false}`)
	p.until("refused", `"stopped"`)
}

func refusedSendError(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	peer := s.connected(firstConnect, "c.0")
	p.until("open", `{}`)
	for _, ref := range []string{"a", "b"} {
		p.Eval(`h.send("u", {type: "x"}, {ref: %q})`, ref)
		peer.expect(fmt.Sprintf(`{"type":"send","ref":%q,"to":{"user":"u"},"event":{"type":"x"}}`, ref))
	}
	peer.write(`{"type":"error","ref":"a","problem":{"status":400,"code":"invalid_frame"}}`,
		`{"type":"error","problem":{"status":400,"code":"unknown_type"}}`,
		`{"type":"result","ref":"b","id":"msg_1","status":"sent","sessions":1}`)
	p.until("refused", `"invalid_frame"`)
	p.until("result", `{"ref":"b"}`)
	p.until("error", `{"code":"unknown_type"}`) // whose it is nobody can tell
	p.none("close")
}
