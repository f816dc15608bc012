package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestFrame(t *testing.T) {
	t.Parallel()
	t.Run("that is wrong is answered, and the session stays", frameWrong)
	t.Run("of a burst of a thousand is no flood", frameBurst)
}

func TestClose(t *testing.T) {
	t.Parallel()
	t.Run("says by its code what ended the session", closeCodes)
	t.Run("of a silent connection has 1011", closeSilent)
	t.Run("comes to a half-open connection, and not to a live one", closeHalfOpen)
}

func frameWrong(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connectAs(token(t, "doctor-7", time.Hour, `{"send":["patient-*"]}`), "")
	for in, want := range map[string]string{
		`{"type":"dance","ref":"r1"}`:        "unknown_type r1",
		`{"type":"ack","cursor":7}`:          "invalid_frame ",
		`{"type":"ack","cursor":"nonsense"}`: "invalid_frame ",
		`{"type":"seen","id":"a b"}`:         "invalid_frame ",
		`{"type":"connect"}`:                 "invalid_frame ",
		`{"type":"refresh"}`:                 "invalid_frame ",
		`{"type":"send","ref":"r2"}`:         "invalid_frame r2",
		`{"type":"send","ref":"r3","to":{"user":"patient-1"},"event":{"type":"a b"}}`:     "invalid_frame r3",
		`{"type":"send","ref":"r4","to":{"user":"doctor-8"},"event":{"type":"t"}}`:        "forbidden_target r4",
		`{"type":"send","ref":"r5","to":{"all":true},"event":{"type":"t"}}`:               "forbidden_target r5",
		`{"type":"send","ref":"r6","to":{"user":"patient-1"},"event":{"type":"t"},"x":1}`: " r6",
	} {
		s.sendRaw(in)
		f := s.next()
		if got := f.Problem.Code + " " + f.Ref; got != want {
			t.Errorf("%s: %s", in, f.Raw)
		}
	}
	s.sendRaw(`{"type":"seen","id":"msg_of_nobody"}`)
	if f := s.next(); f.Problem.Code != "not_found" {
		t.Errorf("seen of an event that is not there: %s", f.Raw)
	}
	s.settle()
}

func frameBurst(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connect("patient-1", "")
	for range 1000 {
		s.send(map[string]string{"type": "ping"})
	}
	for range 1000 {
		s.want("pong")
	}
}

func closeCodes(t *testing.T) {
	t.Parallel()
	w := start(t)
	for name, c := range map[string]struct {
		do   func(s *session)
		want int
	}{
		"no JSON":   {func(s *session) { s.sendRaw("hello") }, 4400},
		"no type":   {func(s *session) { s.sendRaw(`{"kind":"ping"}`) }, 4400},
		"binary":    {func(s *session) { expect.NoError(t, s.ws.WriteMessage(websocket.BinaryMessage, []byte{1})) }, 1003},
		"too large": {func(s *session) { s.sendRaw(`{"type":"ping","x":"` + strings.Repeat("a", 66000) + `"}`) }, 1009},
		"no UTF-8":  {func(s *session) { s.sendRaw("{\"type\":\"\xff\"}") }, 1007},
		"another user": {func(s *session) {
			s.send(map[string]string{"type": "refresh", "token": token(t, "patient-2", time.Hour, "")})
		}, 4403},
		"a bad refresh": {func(s *session) { s.send(map[string]string{"type": "refresh", "token": "x"}) }, 4401},
		"too many frames": {func(s *session) {
			for range 5000 { // many more than the burst, for a machine that is slow
				if s.ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"seen","id":"m"}`)) != nil {
					return
				}
			}
		}, 4429},
		"the client leaves": {func(s *session) {
			expect.NoError(t, s.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "bye")))
		}, 1000},
	} {
		s := w.connect("patient-1", "")
		c.do(s)
		if code := s.closed(); code != c.want {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
	w.sessions(0)
}

func closeSilent(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.PingInterval = 100 * time.Millisecond })
	conn, _, _, err := ws.Dialer{Protocols: []string{"bridge.v1.json"}}.Dial(t.Context(), "ws"+strings.TrimPrefix(w.base, "http")+"/ws")
	expect.NoError(t, err)
	defer conn.Close()
	expect.NoError(t, conn.SetReadDeadline(time.Now().Add(expect.Patience)))
	expect.NoError(t, wsutil.WriteClientText(conn, []byte(`{"type":"connect","token":"`+token(t, "patient-1", time.Hour, "")+`"}`)))
	for {
		f, err := readServerFrame(conn)
		expect.NoError(t, err)
		if f.Header.OpCode != ws.OpClose {
			continue
		}
		if code, _ := ws.ParseCloseFrameData(f.Payload); code != 1011 {
			t.Errorf("closed with %d", code)
		}
		return
	}
}

func closeHalfOpen(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.PingInterval = 2 * time.Second })
	conn, _, _, err := ws.Dialer{Protocols: []string{"bridge.v1.json"}}.Dial(t.Context(), "ws"+strings.TrimPrefix(w.base, "http")+"/ws")
	expect.NoError(t, err)
	defer conn.Close()
	expect.NoError(t, wsutil.WriteClientText(conn, []byte(`{"type":"connect","token":"`+token(t, "patient-1", time.Hour, "")+`"}`)))
	w.sessions(1)
	live := w.connect("patient-2", "") // answers its pings
	w.sessions(2)
	expect.Eventually(t, "the silent one is gone", func() bool { return w.metric("hookbridge_sessions") == 1 })
	live.settle()
}
