package bridge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/sqlite"
	"hookbridge/app/wire"
)

func TestFanOut(t *testing.T) {
	t.Run("that loses messages leaves them to be read from the store, in order", fanOutLosesNothing)
	t.Run("leaves out the session that is excepted, also where the message is read from the store", fanOutExcept)
	t.Run("of a repeated message to all tells who has it", fanOutRepeated)
}

func TestStatus(t *testing.T) {
	t.Run("ranks in the protocol's order", statusesAreRanked)
}

// lossy is the real store with a fan-out that may lose messages, as a network
// between machines would.
type lossy struct {
	storeAndLive
	lose func(id string) bool
}

type lossyHub struct {
	bridge.Hub
	lose func(id string) bool
}

func (l *lossy) Listen(to bridge.Hub) { l.storeAndLive.Listen(&lossyHub{to, l.lose}) }

func (l *lossyHub) Deliver(user string, d bridge.Delivery) int {
	if l.lose(d.Message.ID) {
		return 0
	}
	return l.Hub.Deliver(user, d)
}

// line is a socket in memory: what is written comes out as lines of JSON.
type line struct {
	in   chan string
	out  chan map[string]any
	once sync.Once
	gone chan struct{}
}

func newLine() *line {
	return &line{in: make(chan string, 8), out: make(chan map[string]any, 10_000), gone: make(chan struct{})}
}

func (l *line) Read() (bridge.Kind, []byte, error) {
	select {
	case s := <-l.in:
		return bridge.KindText, []byte(s), nil
	case <-l.gone:
		return 0, nil, io.EOF
	}
}

func (l *line) AppendText(b []byte, f wire.Frame) []byte {
	return append(append(append(b, f.Head...), f.Tail...), '\n')
}
func (l *line) AppendPing(b, _ []byte) []byte { return b }
func (l *line) AppendPong(b, _ []byte) []byte { return b }

func (l *line) Write(frames []byte, _ time.Time) error {
	for f := range bytes.Lines(frames) {
		var m map[string]any
		if err := json.Unmarshal(f, &m); err != nil {
			return err
		}
		select {
		case l.out <- m:
		case <-l.gone:
			return io.ErrClosedPipe
		}
	}
	return nil
}

// TryWrite takes frames as long as there is room for them.
func (l *line) TryWrite(frames []byte) (n int, err error) {
	for f := range bytes.Lines(frames) {
		var m map[string]any
		if err := json.Unmarshal(f, &m); err != nil {
			return n, err
		}
		select {
		case <-l.gone:
			return n, io.ErrClosedPipe
		default:
		}
		select {
		case l.out <- m:
			n += len(f)
		default:
			return n, nil
		}
	}
	return n, nil
}

func (l *line) WriteClose(wire.CloseCode, string, time.Time) { l.Abort() }
func (l *line) Park(bridge.Resumer) bool                     { return false }
func (l *line) Limit(int)                                    {}
func (l *line) Abort()                                       { l.once.Do(func() { close(l.gone) }) }
func (l *line) ExpireWrite(time.Time)                        {}
func (l *line) Remote() string                               { return "memory" }

func (l *line) next(t *testing.T) map[string]any {
	t.Helper()
	select {
	case m := <-l.out:
		return m
	case <-time.After(expect.Patience):
		t.Fatal("no frame came")
		return nil
	}
}

type noTokens struct{}

func (noTokens) Authenticate(context.Context, string) (bridge.Identity, error) {
	return bridge.Identity{}, errors.New("no token is expected")
}

func newBridge(t *testing.T, lose func(string) bool) *bridge.Bridge {
	t.Helper()
	store := openStore(t, sqlite.Options{})
	l := &lossy{store, lose}
	b := bridge.New(bridge.QuietConfig(), l, l, noTokens{})
	t.Cleanup(func() {
		if err := b.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func connect(t *testing.T, b *bridge.Bridge, user string) (*line, string) {
	t.Helper()
	l := newLine()
	l.in <- `{"type":"connect"}`
	b.Accept(l, bridge.Handshake{Identity: &bridge.Identity{User: user, Expires: time.Now().Add(time.Hour)}})
	hello := l.next(t)
	if hello["type"] != "connected" {
		t.Fatalf("%v", hello)
	}
	return l, hello["session"].(string)
}

func publish(t *testing.T, b *bridge.Bridge, id string, to wire.Target, except ...string) bridge.Outcome {
	t.Helper()
	o, err := b.Publish(t.Context(), bridge.PublishRequest{ID: id, Timestamp: time.Now(), Digest: sha256.Sum256([]byte(id)),
		Event: wire.Event{Type: "t", To: to, TTL: -1, Except: except}}, bridge.Wait{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func eventID(m map[string]any) string { return m["event"].(map[string]any)["id"].(string) }

func fanOutLosesNothing(t *testing.T) {
	n := 0
	b := newBridge(t, func(string) bool { n++; return n%3 == 0 })
	l, _ := connect(t, b, "patient-1")
	const total = 301 // the last one is not lost, and shows the gap before it
	for i := range total {
		publish(t, b, fmt.Sprintf("m%03d", i), wire.Target{User: "patient-1"})
	}
	for i := range total {
		if got := eventID(l.next(t)); got != fmt.Sprintf("m%03d", i) {
			t.Fatalf("message %d is %s", i, got)
		}
	}
}

func fanOutExcept(t *testing.T) {
	b := newBridge(t, func(id string) bool { return id == "lost" })
	l, session := connect(t, b, "patient-1")
	publish(t, b, "lost", wire.Target{User: "patient-1"})
	publish(t, b, "not-for-us", wire.Target{User: "patient-1"}, session) // after the gap: read from the store
	publish(t, b, "last", wire.Target{User: "patient-1"})
	for _, want := range []string{"lost", "last"} {
		if got := eventID(l.next(t)); got != want {
			t.Fatalf("%s instead of %s", got, want)
		}
	}
}

func fanOutRepeated(t *testing.T) {
	b := newBridge(t, func(string) bool { return false })
	l, _ := connect(t, b, "patient-1")
	if o := publish(t, b, "all", wire.Target{All: true}); o.Status != bridge.StatusSent || o.Sessions != 1 || o.Duplicate {
		t.Errorf("%+v", o)
	}
	if got := eventID(l.next(t)); got != "all" {
		t.Error(got)
	}
	if o := publish(t, b, "all", wire.Target{All: true}); o.Status != bridge.StatusSent || o.Sessions != 1 || !o.Duplicate {
		t.Errorf("%+v", o)
	}
}

// The least advanced of those online decides; ranks are in the protocol's order.
func statusesAreRanked(t *testing.T) {
	order := []bridge.Status{bridge.StatusDropped, bridge.StatusQueued, bridge.StatusSent, bridge.StatusReceived, bridge.StatusAcked}
	for i, a := range order {
		for j, b := range order {
			if a.Less(b) != (i < j) {
				t.Errorf("%s before %s: %v", a, b, a.Less(b))
			}
		}
	}
}
