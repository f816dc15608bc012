package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

// upgradeRequest is a browser's handshake, as bytes.
func upgradeRequest(host string) string {
	return "GET /ws HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: bridge.v1.json\r\n\r\n"
}

func TestEachMetricOfOursIsNamedHookbridge(t *testing.T) {
	n := 0
	for line := range strings.Lines(start(t).scrape()) {
		name, ok := strings.CutPrefix(line, "# TYPE ")
		if !ok {
			continue
		}
		n++
		theirs := strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "promhttp_")
		if !theirs && !strings.HasPrefix(name, "hookbridge_") {
			t.Error(name)
		}
	}
	if n < 20 {
		t.Errorf("%d metrics", n)
	}
}

// Frames that come in the same packet as the handshake sit in a buffer of the
// request, which the connection is taken away from.
func TestFramesSentTogetherWithTheHandshakeAreRead(t *testing.T) {
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

func TestFragmentsAndPingsInsideThemAreUnderstood(t *testing.T) {
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

func TestWhoeverBreaksRFC6455IsClosedWith1002(t *testing.T) {
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

// announced is the head of a webhook whose headers are as they should be; what
// signs the body, nobody can tell before it is here.
func announced(path string, length int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nwebhook-id: m1\r\nwebhook-timestamp: %d\r\n"+
		"webhook-signature: v1,%s\r\nContent-Length: %d\r\n\r\n", path, time.Now().Unix(), strings.Repeat("A", 43)+"=", length)
}

func TestSlowAndHalfSentRequestsAreEnded(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.Times.Request = 300 * time.Millisecond })
	var wg sync.WaitGroup
	for name, sent := range map[string]string{
		"nothing":       "",
		"half a header": "POST /webhooks/events HTTP/1.1\r\nHost: x\r\nContent-",
		"half a body":   announced("/webhooks/events", 100) + `{"type":`,
		"no body":       announced("/webhooks/events", 100),
	} {
		wg.Go(func() {
			conn, err := net.Dial("tcp", w.p.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Error(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Error(err)
			}
			b, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("%s: still open: %v", name, err)
			}
			if sent != "" && !(bytes.Contains(b, []byte("408")) && bytes.Contains(b, []byte("application/problem+json"))) {
				t.Errorf("%s: %.100s", name, b)
			}
			if bytes.Contains(b, []byte("Content-\r\n")) {
				t.Errorf("%s: the reply repeats the request", name)
			}
		})
	}
	wg.Wait()
}

func TestAHeaderTooLargeIs431AndRepeatsNothing(t *testing.T) {
	w := start(t)
	req, err := http.NewRequest(http.MethodGet, w.base+"/ws", nil)
	expect.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+strings.Repeat("canary", 4000))
	if a := w.do(req); a.HTTP != 431 || strings.Contains(a.Raw, "canary") {
		t.Errorf("%d %.200s", a.HTTP, a.Raw)
	}
	if strings.Contains(w.logs.String(), "canary") {
		t.Error("the log repeats the header")
	}
}

func TestAMachineThatDrainsTakesNoNewWork(t *testing.T) {
	w := start(t)
	mute, _, _, err := ws.Dialer{Protocols: []string{"bridge.v1.json"}}.Dial(t.Context(), "ws"+strings.TrimPrefix(w.base, "http")+"/ws")
	expect.NoError(t, err)
	defer mute.Close() // it never answers a close frame, and so holds the drain up
	expect.NoError(t, wsutil.WriteClientText(mute, []byte(`{"type":"connect","token":"`+token(t, "patient-1", time.Hour, "")+`"}`)))
	doctor := w.connectAs(token(t, "doctor-7", time.Hour, `{"send":["*"]}`), "")
	w.sessions(2)
	silent, _, err := w.dial(nil, "", "bridge.v1.json") // has not said who it is
	expect.NoError(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- w.p.Drain(t.Context()) }()
	doctor.want("reconnect")
	if code := silent.closed(); code != 1012 {
		t.Errorf("one without a token: %d", code)
	}
	a := w.do(w.sign("late", `{"type":"t","to":{"user":"u"}}`, time.Now()))
	if a.HTTP != 503 || a.Code != "draining" || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	req, err := http.NewRequest(http.MethodGet, w.base+"/readyz", nil)
	expect.NoError(t, err)
	if a := w.do(req); a.HTTP != 503 || a.Code != "draining" {
		t.Errorf("/readyz: %d %s", a.HTTP, a.Raw)
	}
	if _, res, err := w.dial(nil, "", "bridge.v1.json"); err == nil || res.StatusCode != 503 {
		t.Errorf("a new session: %v %v", err, res)
	}
	if err := <-stopped; err != nil {
		t.Errorf("drain: %v", err)
	}
}

func TestAHalfOpenConnectionIsFoundByItsSilence(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.PingInterval = 400 * time.Millisecond })
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
