package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"hookbridge/app/expect"
	"hookbridge/app/server"
	"hookbridge/app/wire"
)

func TestRFC6455(t *testing.T) {
	t.Parallel()
	t.Run("holds in a session", rfc6455InSession)
	t.Run("holds before a session", rfc6455BeforeSession)
	t.Run("allows pings between fragments", rfc6455Fragments)
	t.Run("broken is answered with 1002", rfc6455Broken)
	t.Run("has carried out what comes before the close frame", rfc6455BeforeClose)
	t.Run("has nothing carried out after the close frame", rfc6455AfterClose)
	t.Run("ends a slow message and answers the pings within", rfc6455SlowMessage)
}

// rawSocket is a client that can send any bytes.
type rawSocket struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// rawDial makes the handshake, with tok in a header where it is not empty.
func (w *world) rawDial(t testing.TB) *rawSocket {
	t.Helper()
	conn, err := net.Dial("tcp", w.p.Addr())
	expect.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	expect.NoError(t, conn.SetDeadline(time.Now().Add(expect.Patience)))
	_, err = io.WriteString(conn, upgradeRequest(w.p.Addr()))
	expect.NoError(t, err)
	s := &rawSocket{t, conn, bufio.NewReader(conn)}
	res, err := http.ReadResponse(s.in, nil)
	expect.NoError(t, err)
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %d", res.StatusCode)
	}
	return s
}

// rawConnect is a session of a user who may send to everybody.
func (w *world) rawConnect(t testing.TB, user string) *rawSocket {
	t.Helper()
	s := w.rawDial(t)
	_, err := s.conn.Write(final(opText, `{"type":"connect","token":"`+token(t, user, time.Hour, `{"send":["*"]}`)+`"}`))
	expect.NoError(t, err)
	if op, payload := s.frame(); op != opText || !bytes.Contains(payload, []byte(`"connected"`)) {
		t.Fatalf("instead of connected: %d %s", op, payload)
	}
	return s
}

// frame reads one frame, which must be as a server's has to be.
func (s *rawSocket) frame() (op byte, payload []byte) {
	s.t.Helper()
	var h [2]byte
	_, err := io.ReadFull(s.in, h[:])
	expect.NoError(s.t, err)
	if h[0]&0xf0 != 0x80 || h[1]&0x80 != 0 {
		s.t.Fatalf("a frame of the server begins with %x", h)
	}
	n := uint64(h[1])
	if n > 125 {
		b := make([]byte, map[uint64]int{126: 2, 127: 8}[n])
		_, err := io.ReadFull(s.in, b)
		expect.NoError(s.t, err)
		n = binary.BigEndian.Uint64(append(make([]byte, 8-len(b)), b...))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(s.in, payload)
	expect.NoError(s.t, err)
	return h[0] & 0xf, payload
}

// said reads frames until a close frame and its connection's end.
func (s *rawSocket) said() (out []string) {
	s.t.Helper()
	for {
		op, payload := s.frame()
		switch {
		case op == opText && string(payload) == `{"type":"pong"}`:
			out = append(out, "text")
		case op == opPong:
			out = append(out, "pong:"+string(payload))
		case op == opClose && len(payload) >= 2:
			out = append(out, fmt.Sprint("close:", binary.BigEndian.Uint16(payload)))
			// The server may have ended the connection already, which is as good.
			_ = s.conn.(*net.TCPConn).CloseWrite()
			if rest, err := io.ReadAll(s.in); len(rest) > 0 {
				s.t.Errorf("after the close frame came %d bytes more, %v", len(rest), err)
			}
			return out
		default:
			s.t.Fatalf("opcode %d: %.200s", op, payload)
		}
	}
}

// check plays a case and compares what comes back.
func (c *rawCase) check(s *rawSocket) {
	s.t.Helper()
	lives := !strings.HasPrefix(c.want[len(c.want)-1], "close:")
	go func() {
		for _, b := range c.send {
			if _, err := s.conn.Write(b); err != nil {
				return // refused before all was sent
			}
		}
		if lives {
			_, _ = s.conn.Write(closeWith(1000, "")) // its answer is awaited
		}
	}()
	want := c.want
	if lives {
		want = append(append([]string(nil), want...), "close:1000")
	}
	got := s.said()
	if want[0] == "pongs" { // as many as were sent before the end
		for len(got) > 0 && got[0] == "pong:" {
			got = got[1:]
		}
		want = want[1:]
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("got %.200q, want %.200q", got, want)
	}
}

func rfc6455InSession(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	for i, c := range rawCases() {
		t.Run(c.name, func(t *testing.T) { c.check(w.rawConnect(t, fmt.Sprint("patient-", i))) })
	}
}

// The rules hold before the first frame as well.
func rfc6455BeforeSession(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	for _, c := range rawCases() {
		before := true
		for _, want := range c.want {
			before = before && want != "text" && want != "pongs"
		}
		if !before {
			continue
		}
		t.Run(c.name, func(t *testing.T) { c.check(w.rawDial(t)) })
	}
}

// readServerFrame reads one small frame as it is.
func readServerFrame(r io.Reader) (ws.Frame, error) {
	h, err := ws.ReadHeader(r)
	if err != nil || h.Length > 4096 {
		return ws.Frame{Header: h}, errors.Join(err, fmt.Errorf("a frame of %d bytes", h.Length))
	}
	payload := make([]byte, h.Length)
	_, err = io.ReadFull(r, payload)
	return ws.Frame{Header: h, Payload: payload}, err
}

func rfc6455Fragments(t *testing.T) {
	t.Parallel()
	w := start(t)
	conn, _, _, err := ws.Dialer{Protocols: []string{"bridge.v1.json"}}.Dial(t.Context(), "ws"+strings.TrimPrefix(w.base, "http")+"/ws")
	expect.NoError(t, err)
	defer conn.Close()
	text := `{"type":"connect","token":"` + token(t, "patient-1", time.Hour, "") + `"}`
	for i := range len(text) {
		op, fin := ws.OpContinuation, i == len(text)-1
		if i == 0 {
			op = ws.OpText
		}
		expect.NoError(t, ws.WriteFrame(conn, ws.MaskFrame(ws.NewFrame(op, fin, []byte{text[i]}))))
		if i == 10 {
			expect.NoError(t, ws.WriteFrame(conn, ws.MaskFrame(ws.NewPingFrame([]byte("inside")))))
		}
	}
	pong, connected := false, false
	for !pong || !connected {
		f, err := readServerFrame(conn)
		expect.NoError(t, err)
		pong = pong || f.Header.OpCode == ws.OpPong && string(f.Payload) == "inside"
		connected = connected || f.Header.OpCode == ws.OpText && bytes.Contains(f.Payload, []byte(`"connected"`))
	}
}

func rfc6455Broken(t *testing.T) {
	t.Parallel()
	w := start(t)
	for name, frame := range map[string][]byte{
		"unmasked":          {0x81, 0x02, '{', '}'},
		"a reserved bit":    {0xc1, 0x80, 0, 0, 0, 0},
		"a reserved opcode": {0x83, 0x80, 0, 0, 0, 0},
		"a long ping":       append([]byte{0x89, 0xfe, 0x00, 0x7e, 0, 0, 0, 0}, make([]byte, 126)...),
		"a lone fragment":   {0x80, 0x80, 0, 0, 0, 0},
	} {
		conn, _, _, err := ws.Dialer{Protocols: []string{"bridge.v1.json"}}.Dial(t.Context(), "ws"+strings.TrimPrefix(w.base, "http")+"/ws")
		expect.NoError(t, err)
		_, err = conn.Write(frame)
		expect.NoError(t, err)
		f, err := readServerFrame(conn)
		if err != nil || f.Header.OpCode != ws.OpClose {
			t.Errorf("%s: %v %v", name, f.Header, err)
		} else if code, _ := ws.ParseCloseFrameData(f.Payload); code != 1002 {
			t.Errorf("%s: %d", name, code)
		}
		expect.NoError(t, conn.Close())
	}
}

// What was sent before the close frame is carried out, and answered.
func rfc6455BeforeClose(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.rawConnect(t, "sender")
	_, err := s.conn.Write(join(final(opText, `{"type":"send","ref":"c1","to":{"user":"target"},"event":{"type":"chat","data":1}}`), closeWith(1000, "")))
	expect.NoError(t, err)
	if op, payload := s.frame(); op != opText || !bytes.Contains(payload, []byte(`"ref":"c1"`)) {
		t.Errorf("%d %s", op, payload)
	}
	if said := s.said(); fmt.Sprint(said) != "[close:1000]" {
		t.Errorf("%q", said)
	}
}

// A client that has closed has said its last word.
func rfc6455AfterClose(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	send := `{"type":"send","ref":"c1","to":{"user":"target"},"event":{"type":"chat","data":1}}`
	for name, b := range map[string][]byte{
		"whole":                    join(closeWith(1000, ""), final(opText, send)),
		"completed":                join(part(opText, send[:9]), closeWith(1000, ""), final(opContinuation, send[9:])),
		"completed without a code": join(part(opText, send[:9]), final(opClose, ""), final(opContinuation, send[9:])),
		"after a bad close":        join(closeWith(1005, ""), final(opText, send)),
		"after a broken rule":      join(final(3, ""), final(opText, send)),
		"after a binary message":   join(final(opBinary, "x"), final(opText, send)),
	} {
		s := w.rawConnect(t, "sender-"+strings.ReplaceAll(name, " ", "-"))
		_, err := s.conn.Write(b)
		expect.NoError(t, err)
		if said := s.said(); len(said) != 1 {
			t.Errorf("%s: %q", name, said)
		}
	}
	w.sessions(0)
	polled := w.callAs(token(t, "target", time.Hour, ""), "GET", "/v1/poll?waitMs=0", "")
	if polled.HTTP != http.StatusOK || !strings.Contains(polled.Raw, `"frames":[]`) {
		t.Errorf("%d %s", polled.HTTP, polled.Raw)
	}
}

// A message that is never finished is ended in time, with a code that is not the
// client's fault, and pings are answered until then.
func rfc6455SlowMessage(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.Times.Message = 500 * time.Millisecond })
	s := w.rawConnect(t, "patient-1")
	_, err := s.conn.Write(part(opText, `{"type":`))
	expect.NoError(t, err)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		if _, err := s.conn.Write(final(opPing, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
		op, payload := s.frame()
		if op == opClose {
			if code := binary.BigEndian.Uint16(payload); wire.CloseCode(code) != wire.CloseInternal || n == 0 {
				t.Errorf("after %d pings: %d", n, code)
			}
			return
		}
		if op != opPong || string(payload) != fmt.Sprint(n) {
			t.Fatalf("%d %s", op, payload)
		}
		<-tick.C
	}
}
