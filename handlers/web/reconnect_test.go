package web

import (
	"fmt"
	"strings"
	"testing"
)

func TestClose(t *testing.T) {
	t.Run("is answered by its code as the protocol says", closeCodes)
	t.Run("over a bad token replaces it once, and twice in a row stops", closeBadToken)
	t.Run("over a late connect frame stops when it comes twice in a row", closeLateConnect)
}

func TestBackoff(t *testing.T) {
	t.Run("doubles to 30 seconds, and starts again after a stable connection", backoffDoubles)
	t.Run("is what a reconnect frame advises", backoffOfAdvice)
	t.Run("is before another try to fetch a token", backoffOfToken)
	t.Run("ends when the page wakes", backoffOfWakingPage)
}

func TestDeadConnection(t *testing.T) {
	t.Run("is asked by a ping, and then left", deadConnectionSilent)
	t.Run("is found by two unanswered pings, however late timers fire", deadConnectionLateTimers)
	t.Run("is left where the connect frame is never answered", deadConnectionConnecting)
}

func TestOffline(t *testing.T) {
	t.Run("is the state without a network", offlineState)
}

func closeCodes(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	const (
		stop   = "stop"
		atOnce = "at once"
	)
	// random is 0.5: half of the widest wait, above the floor.
	codes := map[int]string{
		1000: stop, 1002: stop, 1003: stop, 1007: stop, 1009: stop, 4403: stop, 4409: stop, 4410: stop,
		1001: `2500`, 1012: `2500`,
		1006: `500`, 1011: `500`, 1013: `5500`, 4400: `500`, 4408: `500`, 4429: `30500`, 4999: `500`,
		4401: `1500`, 4498: atOnce,
	}
	s := newScript(t)
	for code, want := range codes {
		s.during(fmt.Sprint(code), func(t *testing.T, s *script) {
			p := s.client(`{stored: null}`)
			peer := s.connected(firstConnect, "c.0")
			p.until("open", `{}`)
			peer.close(code)
			p.until("close", fmt.Sprintf(`{"code":%d,"retry":%t}`, code, want != stop))
			const before = `{"state":"connecting"}|{"state":"connected"}|`
			switch want {
			case stop:
				p.until("state", states(before+fmt.Sprintf(`{"state":"stopped","code":%d,"reason":"scripted"}`, code))...)
				if n := p.Eval(`h.clock.timers.size`); n != 0.0 {
					t.Fatalf("%v timers are left", n)
				}
			case atOnce:
				s.connected(`{"type":"connect","token":"token-2","after":"c.0"}`, "c.0")
				p.until("state", states(before+`{"state":"connecting"}|{"state":"connected"}`)...)
			default:
				p.until("state", states(before+`{"state":"waiting","retryInMs":`+want+`}`)...)
				p.Eval(`h.clock.advance(%s - 1)`, want)
				p.until("token", `"connect"`)
				p.advance(1)
				s.connected(`{"type":"connect","token":"token-2","after":"c.0"}`, "c.0")
			}
			if code == 4410 {
				p.until("cleared", `true`)
				p.Eval(`h.client.connect()`) // nothing of the erased user is told again
				s.connected(`{"type":"connect","token":"token-2"}`, "c.0")
			} else {
				p.none("cleared")
			}
		})
	}
}

func backoffDoubles(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null, random: 1}`)
	for i, want := range []int{1000, 2000, 4000, 8000, 16000, 30000, 30000} {
		s.accept().close(1006)
		p.Eval(`h.until("close", %d)`, i+1)
		if got := p.Eval(`h.all("state").at(-1).retryInMs`); got != float64(want) {
			t.Fatalf("wait %d is %v, want %d", i, got, want)
		}
		p.advance(want)
	}
	peer := s.connected(`{"type":"connect","token":"token-8"}`, "c.0")
	p.until("open", `{}`)
	peer.close(1011) // a server that lets us in only to fail is no better
	p.Eval(`h.until("close", 8)`)
	if got := p.Eval(`h.all("state").at(-1).retryInMs`); got != 30000.0 {
		t.Fatalf("wait is %v", got)
	}
	p.advance(30000)
	peer = s.connected(`{"type":"connect","token":"token-9","after":"c.0"}`, "c.0")
	p.until("open", `{}`, `{}`)
	p.advance(10000)
	peer.close(1011)
	p.Eval(`h.until("close", 9)`)
	if got := p.Eval(`h.all("state").at(-1).retryInMs`); got != 1000.0 {
		t.Fatalf("wait is %v", got)
	}
}

func backoffOfAdvice(t *testing.T) {
	s := newScript(t)
	for _, code := range []int{1001, 1012, 1006} {
		s.during(fmt.Sprint(code), func(t *testing.T, s *script) {
			p := s.client(`{stored: null}`)
			peer := s.connected(firstConnect, "c.0")
			peer.write(`{"type":"reconnect","afterMs":4210,"reason":"draining"}`)
			peer.event("msg_1", 1, "") // what is still under way is still taken
			p.until("message", `{"cursor":"c.1"}`)
			peer.close(code)
			p.until("state", states(`{"state":"connecting"}|{"state":"connected"}|{"state":"waiting","retryInMs":4210}`)...)
			p.Eval(`dispatchEvent(new Event("online"))`) // the machine asked for this wait
			p.advance(4209)
			p.until("token", `"connect"`)
			p.advance(1)
			s.connected(`{"type":"connect","token":"token-2","after":"c.1"}`, "c.1")
		})
	}
}

func closeBadToken(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	s.accept().close(4401)
	p.until("close", `{"code":4401,"retry":true}`)
	p.Eval(`dispatchEvent(new Event("online"))`) // does not cut the pause short
	p.advance(1_499)
	p.until("token", `"connect"`)
	p.advance(1)
	peer := s.accept()
	peer.expect(`{"type":"connect","token":"token-2"}`)
	peer.close(4401)
	p.until("state", states(`{"state":"connecting"}|{"state":"waiting","retryInMs":1500}|{"state":"connecting"}|{"state":"stopped","code":4401}`)...)
	p.until("token", `"connect"`, `"unauthorized"`)
	p.until("close", `{"code":4401,"retry":true}`, `{"code":4401,"retry":false}`)

	p.Eval(`h.client.connect()`) // signed in anew
	peer = s.connected(`{"type":"connect","token":"token-3"}`, "c.0")
	for n := 4; n <= 6; n++ { // each time after hours of service: never twice in a row
		p.Eval(`h.until("open", %d)`, n-3)
		p.Eval(`h.clock.now += 3_600_000`)
		peer.close(4401)
		p.Eval(`h.until("close", %d)`, n-1)
		p.advance(1500)
		peer = s.connected(fmt.Sprintf(`{"type":"connect","token":"token-%d","after":"c.0"}`, n), "c.0")
	}
	p.Eval(`h.until("open", 4)`)
}

func closeLateConnect(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	s.accept().close(4408)
	p.until("close", `{"code":4408,"retry":true}`)
	p.advance(500)
	s.accept().close(4408)
	p.until("close", `{"code":4408,"retry":true}`, `{"code":4408,"retry":false}`)
}

func backoffOfToken(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null, token: (n) => { if (n === 1) throw new Error("the backend is away"); return "t" + n; }}`)
	p.until("error", `{"code":"connect"}`)
	p.until("state", states(`{"state":"connecting"}|{"state":"waiting","retryInMs":500}`)...)
	p.advance(500)
	s.connected(`{"type":"connect","token":"t2"}`, "c.0")
}

func deadConnectionSilent(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	peer := s.connected(firstConnect, "c.0")
	p.until("open", `{}`)
	p.advance(20_000)
	peer.event("msg_1", 1, "") // anything heard puts the question off
	p.until("message", `{"cursor":"c.1"}`)
	peer.expect(`{"type":"ack","cursor":"c.1"}`)
	p.advance(24_999)
	p.Eval(`h.client.seen("not asked yet")`)
	peer.expect(`{"type":"seen","id":"not asked yet"}`)
	p.advance(1)
	peer.expect(`{"type":"ping"}`)
	peer.write(`{"type":"pong"}`, `{"type":"recalled","id":"heard"}`)
	p.until("recalled", `{"id":"heard"}`)
	p.advance(10_000)
	p.none("close")
	p.advance(25_000)
	peer.expect(`{"type":"ping"}`)
	p.advance(9_999)
	p.none("close")
	p.advance(1) // half open: no pong, no close frame, nothing
	p.until("close", `{"code":1006,"reason":"nothing heard","retry":true}`)
	p.advance(500)
	s.connected(`{"type":"connect","token":"token-2","after":"c.1"}`, "c.1")
}

// In a page that is hidden for long timers fire once a minute, which looks like a
// machine that slept.
func deadConnectionLateTimers(t *testing.T) {
	s := newScript(t)
	for _, late := range []int{60_000, 3_600_000} {
		s.during(fmt.Sprint(late), func(t *testing.T, s *script) {
			p := s.client(`{stored: null}`)
			peer := s.connected(firstConnect, "c.0")
			p.until("open", `{}`)
			for n := 1; n <= 3; n++ { // answered, it lives on: each of these times the second one is
				p.Eval(`h.clock.late(%d)`, late)
				peer.expect(`{"type":"ping"}`)
				p.Eval(`h.clock.late(%d)`, late)
				peer.expect(`{"type":"ping"}`)
				peer.write(`{"type":"pong"}`)
				peer.heard(p, n)
				p.Eval(`h.clock.late(%d)`, late)
			}
			p.none("close")
			p.Eval(`h.clock.late(%d)`, late)
			peer.expect(`{"type":"ping"}`)
			p.Eval(`h.clock.late(%d)`, late)
			peer.expect(`{"type":"ping"}`)
			p.Eval(`h.clock.late(%d)`, late)
			p.until("close", `{"code":1006,"reason":"nothing heard","retry":true}`)
			p.Eval(`h.clock.late(%d)`, late)
			s.connected(`{"type":"connect","token":"token-2","after":"c.0"}`, "c.0")
		})
	}
}

func deadConnectionConnecting(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	s.accept().expect(firstConnect)
	p.advance(15_000)
	p.until("close", `{"code":1006,"reason":"no connected frame in time"}`)
	p.advance(500)
	s.connected(`{"type":"connect","token":"token-2"}`, "c.0")
}

func backoffOfWakingPage(t *testing.T) {
	s := newScript(t)
	for _, wake := range []string{`window.dispatchEvent(new Event("online"))`, `window.dispatchEvent(new Event("pageshow"))`,
		`document.dispatchEvent(new Event("visibilitychange"))`} {
		s.during(wake, func(t *testing.T, s *script) {
			p := s.client(`{stored: null}`)
			s.accept().close(1006)
			p.until("close", `{"code":1006}`)
			p.Eval("%s", wake)
			peer := s.connected(`{"type":"connect","token":"token-2"}`, "c.0")
			p.until("open", `{}`)
			p.Eval("%s", wake) // the connection may have died while the page slept: it is asked
			peer.expect(`{"type":"ping"}`)

			peer.close(4429)
			p.until("close", `{"code":1006}`, `{"code":4429}`)
			p.Eval("%s", wake) // the server asked for this wait
			p.until("token", `"connect"`, `"connect"`)
			p.Eval(`h.clock.now += 60_000`) // but a machine that slept through it is late, not early
			p.Eval("%s", wake)
			s.connected(`{"type":"connect","token":"token-3","after":"c.0"}`, "c.0")
		})
	}
}

func offlineState(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	peer := s.accept()
	p.Eval(`Object.defineProperty(navigator, "onLine", {get: () => false})`)
	peer.close(1006)
	p.until("state", states(`{"state":"connecting"}|{"state":"offline","retryInMs":500}`)...)
	p.Eval(`window.dispatchEvent(new Event("online"))`)
	s.connected(`{"type":"connect","token":"token-2"}`, "c.0")
}

func states(list string) []string { return strings.Split(list, "|") }
