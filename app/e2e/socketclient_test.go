package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/expect"
)

// session is a WebSocket client that is not ours.
type session struct {
	t       testing.TB
	ws      *websocket.Conn
	id      string
	hello   frame
	arrived chan arrival // nil while the session reads only when the test asks for a frame
}

type arrival struct {
	f   frame
	err error
}

// pump reads all the time from now on, as a browser does, so that pings are answered
// however long the test is busy elsewhere. What arrives waits for the test in a queue.
func (s *session) pump() *session {
	expect.NoError(s.t, s.ws.SetReadDeadline(time.Time{})) // that of connected
	arrived, over, ended := make(chan arrival, 10_000), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(arrived)
		for {
			f, err := s.readSocket()
			select {
			case arrived <- arrival{f, err}:
			case <-over:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	s.t.Cleanup(func() {
		close(over)
		s.ws.Close()
		<-ended
	})
	s.arrived = arrived
	return s
}

// frame is any frame of the server, in either mode.
type frame struct {
	Type      string          `json:"type"`
	Session   string          `json:"session"`
	User      string          `json:"user"`
	Cursor    string          `json:"cursor"`
	After     string          `json:"after"`
	Resumed   bool            `json:"resumed"`
	Pending   int             `json:"pending"`
	PingMs    int             `json:"pingMs"`
	MaxBytes  int             `json:"maxBytes"`
	ExpiresAt string          `json:"expiresAt"`
	Replay    bool            `json:"replay"`
	From      string          `json:"from"`
	Reason    string          `json:"reason"`
	AfterMs   *int            `json:"afterMs"`
	InMs      int             `json:"inMs"`
	Ref       string          `json:"ref"`
	ID        string          `json:"id"`
	Status    any             `json:"status"` // a word in a result, a number in a response
	Sessions  int             `json:"sessions"`
	Duplicate bool            `json:"duplicate"`
	Data      json.RawMessage `json:"data"`
	Event     struct {
		ID        string          `json:"id"`
		Type      string          `json:"type"`
		Timestamp string          `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	} `json:"event"`
	Problem struct {
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"problem"`
	FromUserID string          `json:"fromUserId"`
	ToUserID   string          `json:"toUserId"`
	Message    json.RawMessage `json:"message"`
	Raw        string          `json:"-"`
}

func (f frame) n() int {
	var d struct{ N int }
	if json.Unmarshal(f.Event.Data, &d) != nil {
		return -1
	}
	return d.N
}

// dial opens a socket; protocols and headers as given.
func (w *world) dial(header http.Header, query string, protocols ...string) (*session, *http.Response, error) {
	d := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: expect.Patience}
	ws, res, err := d.Dial("ws"+strings.TrimPrefix(w.base, "http")+"/ws"+query, header)
	if err != nil {
		return nil, res, err
	}
	w.t.Cleanup(func() { ws.Close() })
	return &session{t: w.t, ws: ws}, res, nil
}

// connect opens a session of user, resuming after a cursor. It reads all the time.
func (w *world) connect(user, after string) *session {
	w.t.Helper()
	return w.connectAs(token(w.t, user, time.Hour, ""), after)
}

// connectAs is connect with a token.
func (w *world) connectAs(token, after string) *session {
	w.t.Helper()
	return w.handshake(token, after).pump()
}

// connectSlow is connect for a session that reads only while the test asks for a frame.
func (w *world) connectSlow(user, after string) *session {
	w.t.Helper()
	return w.handshake(token(w.t, user, time.Hour, ""), after)
}

func (w *world) handshake(token, after string) *session {
	w.t.Helper()
	s, _, err := w.dial(nil, "", "bridge.v1.json")
	expect.NoError(w.t, err)
	s.send(map[string]string{"type": "connect", "token": token, "after": after})
	s.hello = s.next()
	if s.hello.Type != "connected" {
		w.t.Fatalf("instead of connected: %s", s.hello.Raw)
	}
	s.id = s.hello.Session
	return s
}

// plain opens a plain session with the token in the first frame.
func (w *world) plain(token string) *session {
	w.t.Helper()
	s, _, err := w.dial(nil, "")
	expect.NoError(w.t, err)
	s.send(map[string]string{"token": token})
	return s.pump()
}

func (s *session) send(v any) {
	s.t.Helper()
	expect.NoError(s.t, s.ws.WriteJSON(v))
}

func (s *session) sendRaw(text string) {
	s.t.Helper()
	expect.NoError(s.t, s.ws.WriteMessage(websocket.TextMessage, []byte(text)))
}

func (s *session) read() (frame, error) {
	if s.arrived == nil {
		if err := s.ws.SetReadDeadline(time.Now().Add(expect.Patience)); err != nil {
			return frame{}, err
		}
		return s.readSocket()
	}
	select {
	case a, ok := <-s.arrived:
		if !ok {
			return frame{}, io.EOF
		}
		return a.f, a.err
	case <-time.After(expect.Patience):
		return frame{}, os.ErrDeadlineExceeded
	}
}

func (s *session) readSocket() (frame, error) {
	kind, b, err := s.ws.ReadMessage()
	if err != nil {
		return frame{}, err
	}
	f := frame{Raw: string(b)}
	if kind != websocket.TextMessage {
		return f, fmt.Errorf("frame of kind %d", kind)
	}
	s.checkFrame(b)
	return f, json.Unmarshal(b, &f)
}

// next is the next frame of any type.
func (s *session) next() frame {
	s.t.Helper()
	f, err := s.read()
	if err != nil {
		s.t.Fatalf("reading a frame: %v", err)
	}
	return f
}

// want is the next frame, which must be of a type.
func (s *session) want(typ string) frame {
	s.t.Helper()
	f := s.next()
	if f.Type != typ {
		s.t.Fatalf("instead of %s: %s", typ, f.Raw)
	}
	return f
}

// closed reads until the close frame and returns its code.
func (s *session) closed() int {
	s.t.Helper()
	for {
		_, err := s.read()
		if c, ok := err.(*websocket.CloseError); ok {
			return c.Code
		}
		if err != nil {
			s.t.Fatalf("instead of a close frame: %v", err)
		}
	}
}

func (s *session) ack(cursor string) { s.send(map[string]string{"type": "ack", "cursor": cursor}) }

// settle waits until everything sent before has been handled by the server.
func (s *session) settle() {
	s.t.Helper()
	s.send(map[string]string{"type": "ping"})
	s.want("pong")
}
