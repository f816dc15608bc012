package web

import (
	"fmt"
	"testing"
)

func TestClock(t *testing.T) {
	t.Run("that is set back holds up nothing", clockSetBack)
	t.Run("that is set back ends no stable session", clockAndStableSession)
}

func TestSlowSession(t *testing.T) {
	t.Run("that is too slow time after time backs off", slowSessionBacksOff)
}

func TestNull(t *testing.T) {
	t.Run("as an advice is no advice", nullAdvice)
	t.Run("as an option, or undefined, is no option", nullOption)
}

// skewed gives a client a clock that can be set apart from its timers, as people
// and time servers set the machine's.
const skewed = `now: () => h.clock.now + (window.skew ?? 0)`

func clockSetBack(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null, ` + skewed + `}`)
	peer := s.connected(firstConnect, "c.0")
	p.until("open", `{}`)
	peer.write(expiring(60_000))
	peer.expect(`{"type":"refresh","token":"token-2"}`)
	p.advance(1_000)
	p.Eval(`window.skew = -3_600_000`)
	peer.event("msg_1", 1, "")
	p.until("message", `{"cursor":"c.1"}`)
	p.advance(200)
	peer.expect(`{"type":"ack","cursor":"c.1"}`)
	peer.write(expiring(2_500)) // of a token that lives for some seconds
	peer.heard(p, 1)
	p.advance(5_000)
	peer.expect(`{"type":"refresh","token":"token-3"}`)

	p.Eval(`window.skew = -7_200_000`)
	for range 2 { // the first may find that something was heard since it was set
		p.advance(25_000)
	}
	peer.expect(`{"type":"ping"}`)
	p.advance(10_000)
	p.until("close", `{"code":1006,"reason":"nothing heard"}`)
}

// A session that was stable is one, whichever way the clock went meanwhile: the
// refusals before it count no more.
func clockAndStableSession(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null, ` + skewed + `}`)
	s.accept().close(4401)
	p.until("close", `{"code":4401,"retry":true}`)
	p.advance(1_500)
	peer := s.connected(`{"type":"connect","token":"token-2"}`, "c.0")
	p.until("open", `{}`)
	p.Eval(`window.skew = -3_600_000`)
	p.advance(20_000)
	peer.close(4401)
	p.until("close", `{"code":4401,"retry":true}`, `{"code":4401,"retry":true}`)
}

// At once is for a session that was too slow now and then, not for one that is each
// time.
func slowSessionBacksOff(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	s.connected(firstConnect, "c.0").close(4498)
	for n, wait := range []int{500, 1_000, 2_000} {
		s.connected(fmt.Sprintf(`{"type":"connect","token":"token-%d","after":"c.0"}`, n+2), "c.0").close(4498)
		p.Eval(`h.until("close", %d)`, n+2)
		if got := p.Eval(`h.all("state").at(-1).retryInMs`); got != float64(wait) {
			t.Fatalf("wait %d is %v, want %d", n, got, wait)
		}
		p.advance(wait)
	}
	peer := s.connected(`{"type":"connect","token":"token-5","after":"c.0"}`, "c.0")
	p.Eval(`h.until("open", 5)`)
	p.advance(10_000)
	peer.close(4498) // after a stable session at once again
	s.connected(`{"type":"connect","token":"token-6","after":"c.0"}`, "c.0")
}

func nullAdvice(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	peer := s.connected(firstConnect, "c.0")
	peer.write(`{"type":"reconnect","afterMs":null,"reason":"draining"}`)
	peer.close(1012)
	p.until("state", states(`{"state":"connecting"}|{"state":"connected"}|{"state":"waiting","retryInMs":2500}`)...)
}

func nullOption(t *testing.T) {
	s := newScript(t)
	for _, nothing := range []string{"null", "undefined"} {
		s.during(nothing, func(t *testing.T, s *script) {
			p := s.client(fmt.Sprintf(`Object.fromEntries(["httpUrl", "transports", "WebSocket", "fetch", "random", "ackEveryMs", "connectTimeoutMs",
				"retryWebSocketMs", "cursorStore", "user"].map((name) => [name, %s]))`, nothing))
			peer := s.connected(firstConnect, "c.0")
			p.until("open", `{}`)
			peer.event("msg_1", 1, "")
			p.until("message", `{"cursor":"c.1"}`)
			p.advance(200)
			peer.expect(`{"type":"ack","cursor":"c.1"}`)
			p.Eval(`h.send("u", {type: "x"}, {ref: "c1", timeoutMs: %s})`, nothing)
			peer.expect(`{"type":"send","ref":"c1","to":{"user":"u"},"event":{"type":"x"}}`)
			p.advance(29_999)
			p.none("refused")
			p.Eval(`h.send("u", {type: "y"}, %s)`, nothing)
			p.none("error")
		})
	}
}
