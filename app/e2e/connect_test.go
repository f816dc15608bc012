package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/store/redis/redistest"
)

func TestConnect(t *testing.T) {
	t.Parallel()
	t.Run("is refused before the upgrade where it can be", connectRefused)
	t.Run("is the first frame and has one token", connectFirst)
	t.Run("that cannot be read is answered like any frame", connectUnreadable)
	t.Run("that does not come is answered with 4408", connectMissing)
	t.Run("without a store is closed with 1011", connectWithoutStore)
	t.Run("may come in many fragments", connectInFragments)
	t.Run("may come together with the handshake", connectWithHandshake)
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	t.Run("of apps and of the bridge itself may connect", originAllowed)
	t.Run("may send what tracing adds to a request", originTracing)
	t.Run("may read that a request of its is too large", originTooLarge)
}

func connectRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	for name, c := range map[string]struct {
		header    http.Header
		query     string
		protocols []string
		want      int
	}{
		"a token in the URL":         {nil, "?token=" + tok, []string{"bridge.v1.json"}, 400},
		"under another name":         {nil, "?access_token=x", []string{"bridge.v1.json"}, 400},
		"a JWT under any name":       {nil, "?q=" + tok, nil, 400},
		"two tokens":                 {bearer(tok), "", []string{"bridge.v1.json", "bearer." + tok}, 400},
		"two headers with a token":   {http.Header{"Authorization": {"Bearer " + tok, "Bearer " + tok}}, "", []string{"bridge.v1.json"}, 400},
		"a second header":            {http.Header{"Authorization": {"Bearer " + tok, "Basic eDp5"}}, "", nil, 400},
		"a second origin":            {http.Header{"Origin": {"https://app.example", "https://evil.example"}}, "", []string{"bridge.v1.json"}, 403},
		"a token and a ticket":       {bearer(tok), "?ticket=x", []string{"bridge.v1.json"}, 400},
		"only unknown subprotocols":  {nil, "", []string{"mqtt", "soap"}, 400},
		"a foreign origin":           {http.Header{"Origin": {"https://evil.example"}}, "", []string{"bridge.v1.json"}, 403},
		"an origin that looks alike": {http.Header{"Origin": {"https://app.example.evil.example"}}, "", []string{"bridge.v1.json"}, 403},
		"a null origin":              {http.Header{"Origin": {"null"}}, "", []string{"bridge.v1.json"}, 403},
		"no Bearer, in plain mode":   {http.Header{"Authorization": {"Basic eDp5"}}, "", nil, 401},
	} {
		_, res, err := w.dial(c.header, c.query, c.protocols...)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if res == nil || res.StatusCode != c.want || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %v", name, res)
		}
	}
	s, _, err := w.dial(http.Header{"Authorization": {"Basic eDp5"}}, "", "bridge.v1.json")
	expect.NoError(t, err)
	if code := s.closed(); code != 4401 { // a browser could not read a 401
		t.Errorf("no Bearer: closed with %d", code)
	}
	if _, _, err := w.dial(http.Header{"Origin": {"HTTPS://App.Example"}}, "", "bridge.v1.json"); err != nil {
		t.Errorf("the allowed origin: %v", err)
	}
}

func connectFirst(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	for first, want := range map[string]int{
		`{"type":"connect"}`:           4401,
		`{"type":"ping"}`:              4400,
		`hello`:                        4400,
		`{"type":"connect","after":7}`: 4400,
	} {
		s, _, err := w.dial(nil, "", "bridge.v1.json")
		expect.NoError(t, err)
		s.sendRaw(first)
		if code := s.closed(); code != want {
			t.Errorf("%s: %d, want %d", first, code, want)
		}
	}
	s, _, err := w.dial(bearer(tok), "", "bridge.v1.json")
	expect.NoError(t, err)
	s.send(map[string]string{"type": "connect", "token": tok})
	if code := s.closed(); code != 4400 {
		t.Errorf("a second token: %d", code)
	}
}

func connectUnreadable(t *testing.T) {
	t.Parallel()
	w := start(t)
	for name, c := range map[string]struct {
		kind int
		text string
		want int
	}{
		"binary":    {websocket.BinaryMessage, `{"type":"connect"}`, 1003},
		"too large": {websocket.TextMessage, `{"type":"connect","x":"` + strings.Repeat("a", 65536) + `"}`, 1009},
		"no UTF-8":  {websocket.TextMessage, "{\"type\":\"\xff\"}", 1007},
		"no type":   {websocket.TextMessage, `{"token":"x"}`, 4400},
	} {
		s, _, err := w.dial(nil, "", "bridge.v1.json")
		expect.NoError(t, err)
		expect.NoError(t, s.ws.WriteMessage(c.kind, []byte(c.text)))
		if code := s.closed(); code != c.want {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
}

func connectMissing(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.Times.FirstFrame = 300 * time.Millisecond })
	for name, protocols := range map[string][]string{"framed": {"bridge.v1.json"}, "plain": nil} {
		s, _, err := w.dial(nil, "", protocols...)
		expect.NoError(t, err)
		if code := s.closed(); code != 4408 {
			t.Errorf("%s: %d", name, code)
		}
	}
}

func connectWithoutStore(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	w := onRedis(t, r.URL())[0]
	s, _, err := w.dial(nil, "", "bridge.v1.json")
	expect.NoError(t, err)
	r.Kill()
	s.send(map[string]string{"type": "connect", "token": token(t, "patient-1", time.Hour, "")})
	if code := s.closed(); code != 1011 {
		t.Errorf("closed with %d", code)
	}
	r.Restart()
	expect.Eventually(t, "the machine to be well", func() bool { return w.ready() == 200 })
}

// Libraries send a message in pieces of their buffer's size; a token may be long.
func connectInFragments(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.rawDial(t)
	text := `{"type":"connect","token":"` + token(t, "patient-1", time.Hour, "") + `"` + strings.Repeat(" ", 3000) + `}`
	b := part(opText, text[:1])
	for i := 1; i < len(text); i++ {
		b = append(b, part(opContinuation, text[i:i+1])...)
	}
	_, err := s.conn.Write(join(b, final(opContinuation, "")))
	expect.NoError(t, err)
	if op, payload := s.frame(); op != opText || !bytes.Contains(payload, []byte(`"connected"`)) {
		t.Errorf("%d %q", op, payload)
	}
}

// Frames that come in the same packet as the handshake sit in a buffer of the
// request, which the connection is taken away from.
func connectWithHandshake(t *testing.T) {
	t.Parallel()
	w := start(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			user := fmt.Sprintf("patient-%d", i)
			conn, err := net.Dial("tcp", w.p.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			var b bytes.Buffer
			b.WriteString(upgradeRequest(w.p.Addr()))
			for _, text := range []string{`{"type":"connect","token":"` + token(t, user, time.Hour, "") + `"}`, `{"type":"ping"}`} {
				if err := wsutil.WriteClientText(&b, []byte(text)); err != nil {
					t.Error(err)
				}
			}
			if _, err := conn.Write(b.Bytes()); err != nil {
				t.Error(err)
			}
			reader := bufio.NewReader(conn)
			res, err := http.ReadResponse(reader, nil)
			if err != nil || res.StatusCode != 101 {
				t.Errorf("%v %v", res, err)
				return
			}
			rw := struct {
				io.Reader
				io.Writer
			}{reader, conn}
			for _, want := range []string{`"type":"connected","session":"ses_`, `"type":"pong"`} {
				text, err := wsutil.ReadServerText(rw)
				if err != nil || !strings.Contains(string(text), want) || (want[8] == 'c' && !strings.Contains(string(text), `"user":"`+user+`"`)) {
					t.Errorf("%s, %v", text, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func originAllowed(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) {
		s.AllowedOrigins = []string{"https://app.example", "https://*.example.com", "capacitor://localhost", "https://müller.example", "null"}
	})
	for origin, ok := range map[string]bool{
		"http://" + w.p.Addr(): true, "https://" + w.p.Addr(): true, "https://app.example": true, "https://tenant.example.com": true,
		"capacitor://localhost": true, "https://xn--mller-kva.example": true, "null": true,
		"ionic://localhost": false, "https://a.b.example.com": false, "http://127.0.0.1:1": false, "https://evil.example": false,
	} {
		_, res, err := w.dial(http.Header{"Origin": {origin}}, "", "bridge.v1.json")
		if (err == nil) != ok || !ok && res.StatusCode != http.StatusForbidden {
			t.Errorf("a socket from %s: %v %v", origin, err, res)
		}
		req, err := http.NewRequest(http.MethodPost, w.base+"/v1/tickets", nil)
		expect.NoError(t, err)
		req.Header = http.Header{"Origin": {origin}, "Authorization": {"Bearer " + token(t, "patient-1", time.Hour, "")}}
		a := w.do(req)
		if ok != (a.HTTP == http.StatusCreated && a.Header.Get("Access-Control-Allow-Origin") == origin) {
			t.Errorf("a ticket for %s: %d %v", origin, a.HTTP, a.Header)
		}
		if !strings.Contains(a.Header.Get("Vary"), "Origin") {
			t.Errorf("%s: Vary: %s", origin, a.Header.Get("Vary"))
		}
	}
}

// originTooLarge: a page that cannot read the refusal takes it for a network that fails,
// and sends the same again.
func originTooLarge(t *testing.T) {
	t.Parallel()
	w := start(t)
	large := `{"event":{"type":"t","data":"` + strings.Repeat("x", 2<<20) + `"}}`
	for _, path := range []string{"/v1/sends", "/v1/requests", "/v1/acks", "/v1/presence"} {
		for origin, want := range map[string]int{"https://app.example": 413, "https://evil.example": 403} {
			req, err := http.NewRequest(http.MethodPost, w.base+path, strings.NewReader(large))
			expect.NoError(t, err)
			req.Header = http.Header{"Origin": {origin}, "Content-Type": {"application/json"}, "Authorization": {"Bearer " + token(t, "patient-1", time.Hour, "")}}
			a := w.do(req)
			readable := a.Header.Get("Access-Control-Allow-Origin") == origin
			if a.HTTP != want || readable != (want == 413) || !strings.Contains(a.Header.Get("Vary"), "Origin") {
				t.Errorf("%s from %s: %d %v %s", path, origin, a.HTTP, a.Header, a.Raw)
			}
		}
	}
}

func originTracing(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, path := range []string{"/v1/tickets", "/v1/stream", "/v1/poll", "/v1/acks", "/v1/users/u/sessions"} {
		req, err := http.NewRequest(http.MethodOptions, w.base+path, nil)
		expect.NoError(t, err)
		req.Header = http.Header{"Origin": {"https://app.example"}, "Access-Control-Request-Method": {"GET"},
			"Access-Control-Request-Headers": {"authorization,baggage,cache-control,sentry-trace,traceparent,tracestate,x-requested-with"}}
		a := w.do(req)
		allowed := strings.Split(strings.ToLower(a.Header.Get("Access-Control-Allow-Headers")), ",")
		for _, want := range []string{"authorization", "content-type", "last-event-id", "traceparent", "tracestate", "baggage", "sentry-trace", "x-requested-with", "cache-control"} {
			if !slices.Contains(allowed, want) {
				t.Errorf("%s: %s is not among %v", path, want, allowed)
			}
		}
		if a.HTTP != http.StatusNoContent || a.Header.Get("Access-Control-Max-Age") != "7200" || a.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %v", path, a.HTTP, a.Header)
		}
	}
}
