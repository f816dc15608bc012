// Package clienttest has a bridge that a test plays itself: it accepts the
// connections of a client.Subscriber and says and hears frames one by one.
package clienttest

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/expect"
	"hookbridge/app/wire"
)

// Bridge hands each connection to the test, which plays the bridge.
type Bridge struct {
	*httptest.Server
	t     *testing.T
	conns chan *Conn
}

// Conn is the bridge's end of one connection. Its methods fail the test where the
// client does something else, or nothing for long.
type Conn struct {
	*websocket.Conn
	t       *testing.T
	Request http.Header // of the handshake
}

// NewBridge starts a bridge that lives as long as the test.
func NewBridge(t *testing.T) *Bridge {
	b := &Bridge{t: t, conns: make(chan *Conn)}
	up := websocket.Upgrader{Subprotocols: []string{wire.Subprotocol}}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" {
			t.Errorf("dialled %s", r.URL.Path)
		}
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		select {
		case b.conns <- &Conn{c, t, r.Header}:
		case <-t.Context().Done():
			c.Close()
		}
	}))
	t.Cleanup(b.Close)
	return b
}

// Accept waits for the next connection.
func (b *Bridge) Accept() *Conn {
	b.t.Helper()
	select {
	case c := <-b.conns:
		b.t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(expect.Patience):
		b.t.Fatal("nobody connected")
		return nil
	}
}

// Say sends text frames.
func (c *Conn) Say(frames ...string) {
	c.t.Helper()
	for _, f := range frames {
		if err := c.WriteMessage(websocket.TextMessage, []byte(f)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// Hear reads the next frame and holds it to what is expected.
func (c *Conn) Hear(want string) {
	c.t.Helper()
	if got := c.Next(); got != want {
		c.t.Fatalf("heard %s, want %s", got, want)
	}
}

// Next reads the next frame.
func (c *Conn) Next() string {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(expect.Patience)); err != nil {
		c.t.Fatal(err)
	}
	_, b, err := c.ReadMessage()
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

// Greet hears connect, with this cursor, and answers it.
func (c *Conn) Greet(after string) {
	c.t.Helper()
	want := `{"type":"connect"}`
	if after != "" {
		want = `{"type":"connect","after":"` + after + `"}`
	}
	c.Hear(want)
	c.Say(`{"type":"connected","session":"ses_1","user":"u","cursor":"` + after + `","pingMs":25000,"pending":0,"new":1}`)
}

// Part closes with a code and waits for the peer's answer.
func (c *Conn) Part(code wire.CloseCode, reason string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(int(code), reason)); err != nil {
		c.t.Fatal(err)
	}
	c.Gone()
}

// Gone reads until the connection ends, and gives the frames and the close code.
func (c *Conn) Gone() (frames []string, code int) {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(expect.Patience)); err != nil {
		c.t.Fatal(err)
	}
	for {
		_, b, err := c.ReadMessage()
		if err != nil {
			if ce, ok := errors.AsType[*websocket.CloseError](err); ok {
				return frames, ce.Code
			}
			return frames, 0
		}
		frames = append(frames, string(b))
	}
}

// Event is the frame of the event msg_<n>, whose cursor is c<n>.
func Event(n int) string {
	return fmt.Sprintf(`{"type":"event","cursor":"c%d","event":{"id":"msg_%d","type":"t","timestamp":"2026-11-22T20:36:00Z","data":{"n": %d}}}`, n, n, n)
}
