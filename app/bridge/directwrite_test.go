package bridge_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/sqlite"
	"hookbridge/app/wire"
)

func TestDirectWrite(t *testing.T) {
	t.Run("is done when the hub has handed a message to a user's few sessions", directWriteIsDone)
	t.Run("leaves to the writer what the socket does not take, whole and in order", directWriteOfPart)
	t.Run("is for few sessions: neither many of one user nor a message to all wait for a socket", directWriteIsForFew)
	t.Run("that fails ends its session, and the message comes to the next one", directWriteFails)
	t.Run("that panics ends its session with 1011, and the hub waits for nothing", directWritePanics)
	t.Run("comes before the close frame of a session that ends meanwhile", directWriteBeforeClose)
	t.Run("of messages to many waits for no socket that takes nothing, and each session has all in order", directWriteToMany)
}

// prompt is a socket in memory that takes at once what take says.
type prompt struct {
	*line
	mu     sync.Mutex                             // guards what follows
	take   func(frames []byte) (n int, err error) // nil: all
	stream []byte                                 // what was written
	waits  int                                    // calls of Write
	hold   <-chan struct{}                        // what Write waits for; nil: nothing
	code   wire.CloseCode                         // of the close frame
	closes func()                                 // called by WriteClose; nil: nothing

	expired chan struct{} // has a value after ExpireWrite
}

func (p *prompt) ExpireWrite(time.Time) {
	select {
	case p.expired <- struct{}{}:
	default:
	}
}

func (p *prompt) TryWrite(frames []byte) (n int, err error) {
	p.mu.Lock()
	take := p.take
	p.mu.Unlock()
	n = len(frames)
	if take != nil {
		n, err = take(frames)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stream = append(p.stream, frames[:n]...)
	return n, err
}

func (p *prompt) Write(frames []byte, _ time.Time) error {
	if p.hold != nil {
		<-p.hold
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits++
	p.stream = append(p.stream, frames...)
	return nil
}

func (p *prompt) WriteClose(code wire.CloseCode, _ string, _ time.Time) {
	p.mu.Lock()
	p.code = code
	p.stream = append(p.stream, "closed\n"...)
	closes := p.closes
	p.mu.Unlock()
	if closes != nil {
		closes()
	}
	p.Abort()
}

func (p *prompt) takes(take func([]byte) (int, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take = take
}

// got are the events so far, by id, and "closed" after the close frame. A frame that is
// not whole comes out as it is.
func (p *prompt) got() (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for f := range strings.Lines(string(p.stream)) {
		switch _, rest, ok := strings.Cut(f, `"event":{"id":"`); {
		case ok && strings.HasSuffix(f, "}\n"):
			id, _, _ := strings.Cut(rest, `"`)
			ids = append(ids, id)
		case !strings.HasPrefix(f, `{"type":"connected"`):
			ids = append(ids, strings.TrimSpace(f))
		}
	}
	return ids
}

// handedOver is the real store, which says when its hub has handed a message over.
type handedOver struct {
	storeAndLive
	after func(id string) // set while nothing is published
}

type handingHub struct {
	bridge.Hub
	store *handedOver
}

func (s *handedOver) Listen(h bridge.Hub) { s.storeAndLive.Listen(&handingHub{h, s}) }

func (h *handingHub) Deliver(user string, d bridge.Delivery) int {
	n := h.Hub.Deliver(user, d)
	if h.store.after != nil {
		h.store.after(d.Message.ID)
	}
	return n
}

// directly is a bridge whose hub's goroutine writes to the socket of one session.
type directly struct {
	*bridge.Bridge
	t     *testing.T
	store *handedOver
	*prompt
}

func newDirectly(t *testing.T) *directly {
	t.Helper()
	store := openStore(t, sqlite.Options{})
	d := &directly{t: t, store: &handedOver{storeAndLive: store}}
	d.Bridge = bridge.New(bridge.QuietConfig(), d.store, d.store, noTokens{})
	t.Cleanup(func() {
		expect.NoError(t, d.Drain(context.Background()))
		expect.NoError(t, store.Close())
	})
	d.prompt = d.open()
	n, direct := 0, false
	d.store.after = func(id string) { direct = slices.Contains(d.got(), id) }
	expect.Eventually(t, "a message to be on the socket when the hub has handed it over", func() bool {
		id := fmt.Sprint("warm_", n)
		n++
		d.publish(id, wire.Target{User: "ada"})
		expect.Eventually(t, "the message to be written", func() bool { return slices.Contains(d.got(), id) })
		return direct
	})
	d.store.after = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stream, d.waits = nil, 0
	return d
}

// open opens a session of ada's.
func (d *directly) open() *prompt { return d.openAs("ada", nil) }

func (d *directly) openAs(user string, hold <-chan struct{}) *prompt {
	d.t.Helper()
	p := &prompt{line: newLine(), expired: make(chan struct{}, 1), hold: hold}
	p.in <- `{"type":"connect"}`
	d.Accept(p, bridge.Handshake{Identity: &bridge.Identity{User: user, Expires: time.Now().Add(time.Hour)}})
	return p
}

// publish fails where the hub waits for a socket.
func (d *directly) publish(id string, to wire.Target) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), expect.Patience)
	defer cancel()
	_, err := d.Publish(ctx, bridge.PublishRequest{ID: id, Timestamp: time.Now(), Digest: sha256.Sum256([]byte(id)),
		Event: wire.Event{Type: "t", To: to, TTL: -1}}, bridge.Wait{})
	expect.NoError(d.t, err)
}

func (d *directly) want(ids ...string) {
	d.t.Helper()
	expect.Eventually(d.t, fmt.Sprint(ids, " to be written"), func() bool { return len(d.got()) >= len(ids) })
	if got := d.got(); !slices.Equal(got, ids) {
		d.t.Fatalf("written was %q instead of %q", got, ids)
	}
}

func directWriteIsDone(t *testing.T) {
	d := newDirectly(t)
	var missing []string
	d.store.after = func(id string) {
		if !slices.Contains(d.got(), id) {
			missing = append(missing, id)
		}
	}
	var ids []string
	for i := range 50 {
		ids = append(ids, fmt.Sprint("m", i))
		d.publish(ids[i], wire.Target{User: "ada"})
	}
	if d.want(ids...); missing != nil || d.waits != 0 {
		t.Errorf("not on the socket when the hub had handed them over: %v; Write was called %d times", missing, d.waits)
	}
}

func directWriteOfPart(t *testing.T) {
	d := newDirectly(t)
	var ids []string
	for i := range 300 {
		d.takes(func(frames []byte) (int, error) { return min(len(frames), i), nil })
		ids = append(ids, fmt.Sprint("m", i))
		d.publish(ids[i], wire.Target{User: "ada"})
	}
	if d.want(ids...); d.waits == 0 {
		t.Error("Write was not called")
	}
}

func directWriteIsForFew(t *testing.T) {
	d := newDirectly(t)
	release := make(chan struct{})
	d.takes(func(frames []byte) (int, error) { <-release; return len(frames), nil })
	defer close(release)
	d.publish("to_all", wire.Target{All: true})
	d.publish("to_users", wire.Target{Users: []string{"ada", "bob"}})
	for range 8 {
		d.open()
	}
	d.publish("to_many_sessions", wire.Target{User: "ada"})
}

func directWriteFails(t *testing.T) {
	d := newDirectly(t)
	d.takes(func([]byte) (int, error) { return 0, errors.New("broken") })
	d.publish("m", wire.Target{User: "ada"})
	d.want("closed")
	if d.code != wire.CloseSlow {
		t.Errorf("closed with %d", d.code)
	}
	again := d.open()
	expect.Eventually(t, "the message to come to the next session", func() bool { return slices.Contains(again.got(), "m") })
}

func directWritePanics(t *testing.T) {
	d := newDirectly(t)
	published := make(chan struct{})
	d.mu.Lock()
	d.closes = func() { <-published }
	d.mu.Unlock()
	d.takes(func([]byte) (int, error) { panic(canary) })
	d.publish("m", wire.Target{User: "ada"})
	close(published)
	d.want("closed")
	if d.code != wire.CloseInternal {
		t.Errorf("closed with %d", d.code)
	}
}

func directWriteBeforeClose(t *testing.T) {
	d := newDirectly(t)
	d.takes(func(frames []byte) (int, error) {
		d.takes(func([]byte) (int, error) { return 0, nil })
		d.in <- "not a frame"
		<-d.expired // the session is ending
		return len(frames) / 2, nil
	})
	d.publish("m", wire.Target{User: "ada"})
	d.want("m", "closed")
	if d.code != wire.CloseBadFrame {
		t.Errorf("closed with %d", d.code)
	}
}

func directWriteToMany(t *testing.T) {
	d := newDirectly(t)
	release := make(chan struct{})
	const users = 300
	var all []*prompt
	for i := range users {
		p := d.openAs(fmt.Sprint("user-", i), release)
		expect.Eventually(t, "the session to begin", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.stream) > 0
		})
		if i%3 == 0 {
			p.takes(func([]byte) (int, error) { return 0, nil })
		}
		all = append(all, p)
	}
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprint("m", i))
		d.publish(ids[i], wire.Target{All: true})
	}
	wanted := func(p *prompt) {
		expect.Eventually(t, "the messages to be written", func() bool { return len(p.got()) >= len(ids) })
		if got := p.got(); !slices.Equal(got, ids) {
			t.Fatalf("written was %q", got)
		}
	}
	for i, p := range all {
		if i%3 != 0 {
			wanted(p)
		}
	}
	close(release)
	for _, p := range all {
		wanted(p)
	}
}
