package web

import (
	"fmt"
	"strings"
	"testing"
)

func TestRefresh(t *testing.T) {
	t.Run("is each five seconds at most, however often the server asks", refreshRate)
	t.Run("is at half of its life for a token of just over a minute", refreshAtHalf)
	t.Run("reports a token that was given already, and does not ask again", refreshSameToken)
	t.Run("goes on for tokens that live for ten seconds", refreshForEver)
	t.Run("sends nothing that is no token", refreshNoToken)
	t.Run("that comes too late is forgotten", refreshTooLate)
	t.Run("with another user's token ends the client, and sends nothing as that user", refreshAnotherUser)
}

func expiring(inMs int) string { return fmt.Sprintf(`{"type":"token_expiring","inMs":%d}`, inMs) }

// refreshed is a client that has refreshed its token once, now.
func (s *script) refreshed(options string) (*tab, *peer) {
	s.t.Helper()
	p := s.client(options)
	peer := s.connected(firstConnect, "c.0")
	peer.write(expiring(60_000))
	peer.expect(`{"type":"refresh","token":"token-2"}`)
	peer.write(`{"type":"refreshed","expiresAt":"2031-01-01T00:00:00Z"}`)
	p.until("refreshed", `{}`)
	return p, peer
}

// heard waits until the client has handled everything that the peer wrote.
func (p *peer) heard(t *tab, n int) {
	p.t.Helper()
	p.write(fmt.Sprintf(`{"type":"recalled","id":"%d"}`, n))
	t.Eval(`h.until("recalled", %d)`, n)
}

func refreshRate(t *testing.T) {
	s := newScript(t)
	p, peer := s.refreshed(`{stored: null}`)
	for range 500 {
		peer.write(expiring(1_000))
	}
	peer.heard(p, 1)
	p.advance(4_999)
	p.until("token", `"connect"`, `"expiring"`)
	p.advance(1)
	peer.expect(`{"type":"refresh","token":"token-3"}`)
	peer.write(expiring(1_000), expiring(500))
	peer.heard(p, 2)
	p.advance(4_999)
	p.until("token", `"connect"`, `"expiring"`, `"expiring"`)
	p.advance(1)
	peer.expect(`{"type":"refresh","token":"token-4"}`)
	p.none("error")
}

func refreshAtHalf(t *testing.T) {
	s := newScript(t)
	p, peer := s.refreshed(`{stored: null}`)
	p.advance(1_000)
	peer.write(expiring(60_000)) // the new one lives for 61 seconds
	peer.heard(p, 1)
	p.advance(29_999)
	p.until("token", `"connect"`, `"expiring"`)
	peer.expect(`{"type":"ping"}`)
	peer.heard(p, 2)
	p.advance(1)
	peer.expect(`{"type":"refresh","token":"token-3"}`)
	p.advance(21_000)
	peer.write(expiring(10_000)) // a quarter of 40 seconds: no reason to wait
	peer.expect(`{"type":"refresh","token":"token-4"}`)
}

func refreshSameToken(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null, token: () => "cached"}`)
	peer := s.connected(`{"type":"connect","token":"cached"}`, "c.0")
	peer.write(expiring(60_000))
	p.until("error", `{"code":"same_token"}`)
	p.advance(20_000)
	p.Eval(`h.client.seen("no refresh before this")`)
	peer.expect(`{"type":"seen","id":"no refresh before this"}`)
	p.until("token", `"connect"`, `"expiring"`)
	peer.close(4401) // its time is over
	p.until("close", `{"code":4401,"retry":true}`)
	p.advance(1_500)
	s.connected(`{"type":"connect","token":"cached","after":"c.0"}`, "c.0").close(4401)
	p.until("close", `{"code":4401,"retry":true}`, `{"code":4401,"retry":false}`)
	p.until("token", `"connect"`, `"expiring"`, `"unauthorized"`)
	p.until("error", `{"code":"same_token"}`, `{"code":"same_token"}`)

	s.during("but a reconnect may bring the same", func(t *testing.T, s *script) {
		p := s.client(`{stored: null, token: () => "cached"}`)
		s.connected(`{"type":"connect","token":"cached"}`, "c.0").close(1006)
		p.until("close", `{"code":1006}`)
		p.advance(500)
		s.connected(`{"type":"connect","token":"cached","after":"c.0"}`, "c.0")
		p.until("open", `{}`, `{}`)
		p.none("error")
	})
}

// Over polls nobody says that a token is about to expire, and one that a network
// keeps from being fetched in time expires over a socket, too.
func refreshForEver(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null}`)
	peer := s.connected(firstConnect, "c.0")
	for n := 2; n <= 5; n++ {
		p.Eval(`h.until("open", %d)`, n-1)
		p.advance(9_000)
		peer.close(4401)
		p.Eval(`h.until("close", %d)`, n-1)
		p.advance(1_500)
		peer = s.connected(fmt.Sprintf(`{"type":"connect","token":"token-%d","after":"c.0"}`, n), "c.0")
	}
	p.until("token", `"connect"`, `"unauthorized"`, `"unauthorized"`, `"unauthorized"`, `"unauthorized"`)
	p.Eval(`h.until("open", 5)`)
	peer.close(4401) // but one that is refused as soon as it has come in is no good
	p.Eval(`h.until("close", 5)`)
	if got := p.Eval(`h.all("state").at(-1).state`); got != "stopped" {
		t.Errorf("the state is %v", got)
	}
}

func refreshNoToken(t *testing.T) {
	s := newScript(t)
	for _, given := range []string{`undefined`, `null`, `""`, `{token: "x"}`, `"<html>a login page</html>"`, `"x".repeat(9000)`} {
		s.during(given, func(t *testing.T, s *script) {
			p := s.client(fmt.Sprintf(`{stored: null, token: (n) => n === 1 ? %s : " token-2\n"}`, given))
			p.until("error", `{"code":"connect"}`)
			p.advance(500)
			s.connected(`{"type":"connect","token":"token-2"}`, "c.0") // white space around it is no part of it
		})
	}
}

func refreshTooLate(t *testing.T) {
	s := newScript(t)
	p := s.client(`{stored: null, token: (n) => n === 2 ? new Promise((give) => { h.give = () => give("token-2"); }) : "token-" + n}`)
	peer := s.connected(firstConnect, "c.0")
	peer.write(expiring(60_000), expiring(60_000))
	p.until("token", `"connect"`, `"expiring"`)
	peer.close(1006)
	p.until("close", `{"code":1006}`)
	p.advance(500)
	peer = s.connected(`{"type":"connect","token":"token-3","after":"c.0"}`, "c.0")
	p.until("open", `{}`, `{}`)
	p.Eval(`h.give()`)
	p.Eval(`h.client.seen("no refresh before this")`)
	peer.expect(`{"type":"seen","id":"no refresh before this"}`)
	p.none("error")
}

func refreshAnotherUser(t *testing.T) {
	s := newScript(t)
	other := func(text string) string { return strings.Replace(text, "patient-42", "patient-43", 1) }
	stopped := func(p *tab, closes int) {
		p.T.Helper()
		p.until("refused", `"stopped"`)
		if got := p.Eval(`h.all("close").at(-1)`); !covers(got, parse(p.T, `{"code":4403,"reason":"the token is of another user","retry":false}`)) {
			p.T.Errorf("closed with %s", text(got))
		}
		if got := p.Eval(`[h.client.state, h.all("close").length, h.all("open").length, h.all("refreshed").length]`); text(got) != fmt.Sprintf(`["stopped",%d,1,0]`, closes) {
			p.T.Errorf("then %s", text(got))
		}
	}
	s.during("over a stream", func(t *testing.T, s *script) {
		p, a := s.fallen(`{stored: null}`)
		a.event("connected", hello(""))
		p.until("open", `{}`)
		a.event("token_expiring", `{"type":"token_expiring","inMs":60000}`)
		b := s.asked("GET /v1/stream?after=c.0", "token-4")
		p.Eval(`h.send({backend: true}, {type: "x"})`)
		b.event("connected", other(hello("c.0")))
		stopped(p, 3)
		if len(s.asks) > 0 {
			t.Errorf("it asked %s", (<-s.asks).r.URL)
		}
	})
	s.block.Store(false)
	s.during("in a new connection", func(t *testing.T, s *script) {
		p := s.client(`{stored: null}`)
		s.connected(firstConnect, "c.0").close(1006)
		p.until("open", `{}`)
		p.until("close", `{"code":1006}`)
		p.Eval(`h.send("u", {type: "x"})`)
		p.comeBack()
		peer := s.accept()
		peer.expect(`{"type":"connect","token":"token-2","after":"c.0"}`)
		peer.write(other(hello("c.0")))
		stopped(p, 2)
		// The next one may be anybody's.
		p.Eval(`h.client.connect()`)
		peer = s.accept()
		peer.expect(`{"type":"connect","token":"token-3","after":"c.0"}`)
		peer.write(other(hello("c.0")))
		p.until("open", `{"user":"patient-42"}`, `{"user":"patient-43"}`)
	})
}
