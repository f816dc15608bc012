package bridge_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/store/sqlite"
	"hookbridge/app/wire"
)

func TestPanic(t *testing.T) {
	t.Run("ends its own session with 1011, and no other", panicEndsItsSession)
	t.Run("closes a session that is beginning with 1011", panicWhileBeginning)
}

// canary is what the panics of these tests are made of: nobody may log it.
const canary = "canary-in-a-panic"

// fragile is a bridge in which one thing after another breaks.
type fragile struct {
	*bridge.Bridge
	t        *testing.T
	store    *brittle
	registry *prometheus.Registry
	logs     *expect.Output
	clock    atomic.Bool // the clock is broken
}

// brittle is the real store with methods that panic while they are named.
type brittle struct {
	storeAndLive
	broken atomic.Value // string
}

func (e *brittle) check(method string) {
	if e.broken.Load() == method {
		panic(canary)
	}
}

func (e *brittle) Join(ctx context.Context, m bridge.Member) (bridge.JoinState, error) {
	e.check("Join")
	m.Reads = nil // so that the session has to Read
	return e.storeAndLive.Join(ctx, m)
}

func (e *brittle) Leave(ctx context.Context, t bridge.DeliveryLog) error {
	e.check("Leave")
	return e.storeAndLive.Leave(ctx, t)
}

func (e *brittle) Append(ctx context.Context, m *bridge.Message) (bridge.Receipt, error) {
	e.check("Append")
	return e.storeAndLive.Append(ctx, m)
}

func (e *brittle) Read(ctx context.Context, user, life string, after bridge.Position, n, size int) (bridge.Page, error) {
	e.check("Read")
	return e.storeAndLive.Read(ctx, user, life, after, n, size)
}

type brokenTokens struct{}

func (brokenTokens) Authenticate(context.Context, string) (bridge.Identity, error) { panic(canary) }

func newFragile(t *testing.T) *fragile {
	t.Helper()
	store := openStore(t, sqlite.Options{})
	f := &fragile{t: t, store: &brittle{storeAndLive: store}, registry: prometheus.NewRegistry(), logs: &expect.Output{}}
	f.Bridge = bridge.New(bridge.QuietConfig(func(c *bridge.Config) {
		c.Logger, c.Registerer = slog.New(slog.NewTextHandler(f.logs, nil)), f.registry
		c.Now = func() time.Time {
			if f.clock.Load() {
				panic(canary)
			}
			return time.Now()
		}
	}), f.store, f.store, brokenTokens{})
	t.Cleanup(func() {
		f.clock.Store(false)
		f.store.broken.Store("")
		if err := f.Drain(context.Background()); err != nil { // nobody is left behind
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		if strings.Contains(f.logs.String(), canary) {
			t.Error("the panic's value was logged")
		}
	})
	return f
}

// caught tells how many panics were counted.
func (f *fragile) caught() (n float64) {
	families, err := f.registry.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "hookbridge_panics_total" {
			for _, m := range family.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// breaking is a socket in memory, and what of it panics.
type breaking struct {
	*line
	reads, writes, closes atomic.Bool
	code                  atomic.Int64 // of the close frame
	aborted               chan struct{}
	abort                 sync.Once
}

func newBreaking() *breaking { return &breaking{line: newLine(), aborted: make(chan struct{})} }

func (c *breaking) Read() (bridge.Kind, []byte, error) {
	kind, b, err := c.line.Read()
	if c.reads.Load() && err == nil {
		panic(canary)
	}
	return kind, b, err
}

func (c *breaking) Write(frames []byte, deadline time.Time) error {
	if c.writes.Load() {
		panic(canary)
	}
	return c.line.Write(frames, deadline)
}

func (c *breaking) TryWrite(frames []byte) (int, error) {
	if c.writes.Load() {
		panic(canary)
	}
	return c.line.TryWrite(frames)
}

func (c *breaking) WriteClose(code wire.CloseCode, reason string, deadline time.Time) {
	c.code.CompareAndSwap(0, int64(code))
	if c.closes.Load() {
		panic(canary)
	}
	if strings.Contains(reason, canary) {
		panic("the reason repeats the value")
	}
	c.Abort()
}

func (c *breaking) Abort() {
	c.line.Abort()
	c.abort.Do(func() { close(c.aborted) })
}

func (f *fragile) open(user string) *breaking {
	f.t.Helper()
	c := newBreaking()
	c.in <- `{"type":"connect"}`
	f.Accept(c, bridge.Handshake{Identity: identity(user)})
	return c
}

func identity(user string) *bridge.Identity {
	id := &bridge.Identity{User: user, Expires: time.Now().Add(time.Hour)}
	id.Policy, _ = bridge.ParsePolicy([]byte(`{"send":["*"]}`)) // a constant that is right
	return id
}

func panicEndsItsSession(t *testing.T) {
	send := `{"type":"send","ref":"r","to":{"user":"v"},"event":{"type":"t"}}`
	for name, breakIt := range map[string]func(f *fragile, c *breaking){
		"reading":         func(_ *fragile, c *breaking) { c.reads.Store(true); c.in <- "x" },
		"writing":         func(_ *fragile, c *breaking) { c.writes.Store(true); c.in <- `{"type":"ping"}` },
		"writing, ending": func(_ *fragile, c *breaking) { c.writes.Store(true); c.closes.Store(true); c.in <- `{"type":"ping"}` },
		"the timer":       func(f *fragile, _ *breaking) { f.clock.Store(true); bridge.FireTimers(f.Bridge, "u") },
		"a frame":         func(f *fragile, c *breaking) { f.store.broken.Store("Append"); c.in <- send },
		"leaving":         func(f *fragile, c *breaking) { f.store.broken.Store("Leave"); c.reads.Store(true); c.in <- "x" },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFragile(t)
			c := f.open("u")
			if hello := c.next(t); hello["type"] != "connected" {
				t.Fatal(hello)
			}
			breakIt(f, c)
			select {
			case <-c.aborted:
			case <-time.After(expect.Patience):
				t.Fatal("the session goes on")
			}
			if code := c.code.Load(); code != 1011 {
				t.Errorf("closed with %d", code)
			}
			f.clock.Store(false)
			f.store.broken.Store("")
			if f.caught() == 0 || !strings.Contains(f.logs.String(), "goroutine") {
				t.Errorf("%v counted, logged %s", f.caught(), f.logs.String())
			}
			other := f.open("u")
			if hello := other.next(t); hello["type"] != "connected" {
				t.Fatal(hello)
			}
			publish(t, f.Bridge, "after", wire.Target{User: "u"})
			if got := other.next(t); got["type"] != "event" || eventID(got) != "after" {
				t.Errorf("%v", got)
			}
		})
	}
}

func panicWhileBeginning(t *testing.T) {
	f := newFragile(t)
	for _, method := range []string{"Join", "Read"} {
		f.store.broken.Store(method)
		c := f.open("u")
		<-c.aborted
		if code := c.code.Load(); code != 1011 {
			t.Errorf("%s: closed with %d", method, code)
		}
		if _, err := f.Poll(t.Context(), *identity("u"), "", 0); err == nil {
			t.Errorf("%s: a poll was answered", method)
		}
	}
	f.store.broken.Store("")
	c := newBreaking()
	c.in <- `{"type":"connect","token":"x"}`
	f.Accept(c, bridge.Handshake{}) // its Authenticator panics
	<-c.aborted
	if code := c.code.Load(); code != 1011 {
		t.Errorf("the token: closed with %d", code)
	}
	c = newBreaking()
	c.reads.Store(true)
	c.in <- "x"
	f.Accept(c, bridge.Handshake{Identity: identity("u")})
	<-c.aborted
	if code := c.code.Load(); code != 1011 {
		t.Errorf("the first frame: closed with %d", code)
	}
	if f.caught() < 6 {
		t.Errorf("%v counted", f.caught())
	}
}
