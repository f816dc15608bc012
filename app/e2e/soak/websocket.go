package soak

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
)

// silence is how long a client hears nothing before it gives a connection up: it
// is pinged, and pings, every two seconds.
const silence = 20 * time.Second

// socket is a WebSocket client that is not ours, in either mode.
type socket struct {
	d    *Device
	conn *Conn
	ws   *websocket.Conn

	mu    sync.Mutex // guards what follows, and writing
	sends map[string]func(answer Attempt, id string)
	gone  bool
}

// overWebSocket runs one connection until it or ctx ends. It returns the
// code of the close frame, 0 without one.
func (d *Device) overWebSocket(ctx context.Context, c *Conn, p *Process, token string) (code int) {
	dialer := websocket.Dialer{HandshakeTimeout: patience}
	plain := d.reader.Transport == "plain"
	if !plain {
		dialer.Subprotocols = []string{"bridge.v1.json"}
	}
	ws, _, err := dialer.Dial("ws://"+p.addr+"/ws", nil)
	if err != nil {
		return 0 // it is away; the device tries again
	}
	defer ws.Close()
	s := &socket{d: d, conn: c, ws: ws, sends: map[string]func(Attempt, string){}}
	hello := map[string]string{"type": "connect", "token": token, "after": c.After}
	if plain {
		hello = map[string]string{"token": token}
	}
	if s.write(hello) != nil {
		return 0
	}
	if plain {
		d.setLive(s)
	}
	// As a client that lost its network: without a close frame.
	defer context.AfterFunc(ctx, func() { _ = s.ws.Close() })()
	reading, ended := context.WithCancel(ctx)
	var ticking sync.WaitGroup
	ticking.Go(func() { s.tick(reading) })
	code = s.read(plain)
	ended()
	ticking.Wait()
	d.setLive(nil)
	s.fail()
	return code
}

// tick does what a client does now and then, until ctx ends.
func (s *socket) tick(ctx context.Context) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if s.d.reader.Transport == "plain" {
			continue
		}
		if n%10 == 9 {
			_ = s.write(map[string]string{"type": "ping"}) // a write that fails ends the reading, too
		}
		if cursor := s.d.toAck(); cursor != "" {
			s.d.b.history.acked(s.d.reader.User, cursor)
			_ = s.write(map[string]string{"type": "ack", "cursor": cursor}) // one that is lost is made up for by the next
		}
	}
}

func (s *socket) write(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.writeText(text)
}

func (s *socket) writeText(text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ws.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return s.ws.WriteMessage(websocket.TextMessage, text)
}

func (s *socket) read(plain bool) int {
	h := s.d.b.history
	answerPing := s.ws.PingHandler()
	s.ws.SetPingHandler(func(text string) error {
		_ = s.ws.SetReadDeadline(time.Now().Add(silence)) // reading fails on its own where this does
		return answerPing(text)
	})
	for {
		if err := s.ws.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return 0
		}
		_, b, err := s.ws.ReadMessage()
		if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
			return closed.Code
		}
		if err != nil {
			return 0
		}
		f, err := parseFrame(b, plain)
		if err != nil {
			h.Note("not JSON", "%s: %.300q", s.conn.Reader.Name, b)
			return 0
		}
		h.heard(s.conn, f)
		s.d.heard(f)
		switch f.Type {
		case "connected":
			s.d.setLive(s)
		case "result", "error":
			s.answered(f)
		}
	}
}

// refresh gives the session another token.
func (s *socket) refresh(token string) error {
	s.d.b.history.renewed(s.conn)
	return s.write(map[string]string{"type": "refresh", "token": token})
}

// answered gives a result or an error to whoever sent the frame.
func (s *socket) answered(f *frame) {
	s.mu.Lock()
	done := s.sends[f.Ref]
	delete(s.sends, f.Ref)
	s.mu.Unlock()
	if done == nil {
		return
	}
	if f.Type == "result" {
		s.d.b.All[s.conn.Proc].answered(aSend)
	}
	if f.Type == "error" {
		done(Attempt{Code: f.Problem.Status}, "")
		return
	}
	done(Attempt{Code: 202, Status: f.Status, Sessions: f.Sessions, Duplicate: f.Duplicate}, f.ID)
}

// send sends a frame with a ref; done is called once, with code 0 where no answer
// will come.
func (s *socket) send(ref string, text []byte, done func(Attempt, string)) {
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		done(Attempt{}, "")
		return
	}
	s.sends[ref] = done
	s.mu.Unlock()
	if s.writeText(text) != nil {
		_ = s.ws.Close() // its reader fails all that wait
	}
}

// fail tells all who wait for an answer that there will be none.
func (s *socket) fail() {
	s.mu.Lock()
	sends := s.sends
	s.sends, s.gone = nil, true
	s.mu.Unlock()
	for _, done := range sends {
		done(Attempt{}, "")
	}
}
