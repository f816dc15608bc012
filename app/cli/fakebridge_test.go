package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/wire"
)

// fakeBridge hands each connection to the test, which plays the bridge.
type fakeBridge struct {
	*httptest.Server
	t     *testing.T
	conns chan *fakeConn
}

type fakeConn struct {
	*websocket.Conn
	t       *testing.T
	request http.Header
}

func newFakeBridge(t *testing.T) *fakeBridge {
	b := &fakeBridge{t: t, conns: make(chan *fakeConn)}
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
		case b.conns <- &fakeConn{c, t, r.Header}:
		case <-t.Context().Done():
			c.Close()
		}
	}))
	t.Cleanup(b.Close)
	return b
}

const testPatience = 5 * time.Second

func (b *fakeBridge) accept() *fakeConn {
	b.t.Helper()
	select {
	case c := <-b.conns:
		b.t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(testPatience):
		b.t.Fatal("nobody connected")
		return nil
	}
}

func (c *fakeConn) say(frames ...string) {
	c.t.Helper()
	for _, f := range frames {
		if err := c.WriteMessage(websocket.TextMessage, []byte(f)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// hear reads the next frame and holds it to what is expected.
func (c *fakeConn) hear(want string) {
	c.t.Helper()
	if got := c.next(); got != want {
		c.t.Fatalf("heard %s, want %s", got, want)
	}
}

func (c *fakeConn) next() string {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(testPatience)); err != nil {
		c.t.Fatal(err)
	}
	_, b, err := c.ReadMessage()
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

// greeted hears connect and answers it.
func (c *fakeConn) greeted(after string) {
	c.t.Helper()
	want := `{"type":"connect"}`
	if after != "" {
		want = `{"type":"connect","after":"` + after + `"}`
	}
	c.hear(want)
	c.say(`{"type":"connected","session":"ses_1","user":"u","cursor":"` + after + `","pingMs":25000,"pending":0,"new":1}`)
}

// part closes with a code and waits for the peer's answer.
func (c *fakeConn) part(code wire.CloseCode, reason string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(int(code), reason)); err != nil {
		c.t.Fatal(err)
	}
	c.gone()
}

// gone reads until the connection ends, and gives the frames and the close code.
func (c *fakeConn) gone() (frames []string, code int) {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(testPatience)); err != nil {
		c.t.Fatal(err)
	}
	for {
		_, b, err := c.ReadMessage()
		if err != nil {
			var ce *websocket.CloseError
			if errors.As(err, &ce) {
				return frames, ce.Code
			}
			return frames, 0
		}
		frames = append(frames, string(b))
	}
}

func event(n int) string {
	return fmt.Sprintf(`{"type":"event","cursor":"c%d","event":{"id":"msg_%d","type":"t","timestamp":"2026-11-22T20:36:00Z","data":{"n": %d}}}`, n, n, n)
}

func printed(n ...int) string {
	var b strings.Builder
	for _, n := range n {
		fmt.Fprintf(&b, `{"id":"msg_%d","type":"t","timestamp":"2026-11-22T20:36:00Z","data":{"n": %d}}`+"\n", n, n)
	}
	return b.String()
}

// listening is a feed that runs.
type listening struct {
	t        *testing.T
	cancel   context.CancelFunc
	done     chan error
	out, err syncBuffer
	mu       sync.Mutex
	waits    []time.Duration
}

func listen(t *testing.T, c ListenCmd, change ...func(*feed)) *listening {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &listening{t: t, cancel: cancel, done: make(chan error, 1)}
	if c.Token == "" && c.User == "" {
		c.Token = "token-of-the-test"
	}
	f, err := c.feed(Streams{Out: &l.out, Err: &l.err})
	if err != nil {
		t.Fatal(err)
	}
	f.ackEvery = 10 * time.Millisecond
	f.retreat.jitter = func(most time.Duration) time.Duration { return most / 2 }
	f.sleep = func(ctx context.Context, d time.Duration) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waits = append(l.waits, d)
		return ctx.Err()
	}
	for _, ch := range change {
		ch(f)
	}
	go func() { l.done <- f.run(ctx) }()
	t.Cleanup(cancel)
	return l
}

func (l *listening) ended() error {
	l.t.Helper()
	select {
	case err := <-l.done:
		return err
	case <-time.After(testPatience):
		l.t.Fatal("it does not end")
		return nil
	}
}

func (l *listening) waited() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.waits)
}
