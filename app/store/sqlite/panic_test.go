package sqlite

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
	"hookbridge/app/guard"
	"hookbridge/app/store/storetest"
)

func TestPanic(t *testing.T) {
	t.Parallel()
	t.Run("in a group fails the calls of that group alone", panicInGroup)
	t.Run("in a listener costs nobody their answer", panicInListener)
	t.Run("does not end the checkpointer", panicInCheckpointer)
	t.Run("outside of a group makes the writer begin again", panicInWriter)
}

// guarded returns a Guard, and how many panics it has caught at a place.
func guarded(t *testing.T) (*guard.Guard, func(where string) float64) {
	registry := prometheus.NewRegistry()
	g := guard.New(slog.New(slog.DiscardHandler), registry)
	g.SetPause(time.Millisecond)
	return g, func(where string) float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == where {
					return m.GetCounter().GetValue()
				}
			}
		}
		return 0
	}
}

// panicOn makes every access of the kind panic; mend ends that.
func panicOn(e *Store, op string) (mend func()) {
	f := func(got string) error {
		if got == op {
			panic("x")
		}
		return nil
	}
	e.vfs.Fault.Store(&f)
	return func() { e.vfs.Fault.Store(nil) }
}

func panicInGroup(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"clock", "write", "sync"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			var broken atomic.Bool
			g, caught := guarded(t)
			e := open(t, Options{Dir: scratch(t), Guard: g, Now: func() time.Time {
				if broken.Load() {
					panic("x")
				}
				return time.Now()
			}})
			mustAppend(t, e, message("before", "u", 100, inAnHour()))
			mend := func() { broken.Store(false) }
			if op == "clock" {
				broken.Store(true)
			} else {
				mend = panicOn(e, op)
			}
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					if _, err := e.Append(ctx, message("lost", "u", 100, inAnHour())); !errors.Is(err, bridge.ErrUnavailable) {
						t.Errorf("append: %v", err)
					}
				})
			}
			wg.Wait()
			mend()
			expect.NoError(t, e.settled(t.Context()))
			if !e.commitMu.TryLock() {
				t.Fatal("the commit's lock is held still")
			}
			e.commitMu.Unlock()
			if n := caught(whereWriter) + caught("store file"); n == 0 {
				t.Error("nothing was counted")
			}
			if r := mustAppend(t, e, message("lost", "u", 100, inAnHour())); r.Duplicate || r.Recipients[0].Seq != 2 {
				t.Errorf("afterwards: %+v", r)
			}
			expect.NoError(t, e.settled(t.Context()))
			if n := number(t, e, "SELECT count(*) FROM log"); n != 2 {
				t.Errorf("%d rows", n)
			}
		})
	}
}

// brittle is a Hub that panics for some users.
type brittle struct {
	*storetest.Hub

	mu     sync.Mutex
	behind []string
	given  []string
}

func (b *brittle) Deliver(user string, d bridge.Delivery) int {
	if strings.HasPrefix(user, "bad") {
		panic("x")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.given = append(b.given, d.Message.ID)
	return 1
}

func (b *brittle) DeliverAll(bridge.Delivery) int { panic("x") }
func (b *brittle) Notify(bridge.Notice)           { panic("x") }
func (b *brittle) Behind(user string, _ bridge.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.behind = append(b.behind, user)
}

func panicInListener(t *testing.T) {
	t.Parallel()
	g, caught := guarded(t)
	e := open(t, Options{Dir: scratch(t), Guard: g})
	l := &brittle{}
	e.Listen(l)
	mustAppend(t, e, message("a", "bad", 10, inAnHour()))
	m := message("b", "", 10, inAnHour())
	m.To = bridge.Target{All: true}
	mustAppend(t, e, m)
	if err := e.Recall(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if r := mustAppend(t, e, message("c", "good", 10, inAnHour())); r.Sessions != 1 {
		t.Errorf("%+v", r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.Join(l.behind, ",") != "bad," || strings.Join(l.given, ",") != "c" || caught(whereFanOut) != 3 {
		t.Errorf("behind %q, given %q, %v caught", l.behind, l.given, caught(whereFanOut))
	}
}

func panicInCheckpointer(t *testing.T) {
	t.Parallel()
	g, caught := guarded(t)
	var commit sync.Mutex
	c := newCheckpointer(nil, newLogSizes(maxReserve), nil, &commit, slog.New(slog.DiscardHandler), g) // no connection to work on
	go c.loop()
	for range 3 {
		c.kick <- struct{}{}
	}
	c.close()
	if n := caught("checkpoint"); n != 3 {
		t.Errorf("%v turns", n)
	}
	if !c.mu.TryLock() || !commit.TryLock() {
		t.Error("a lock is held still")
	}
}

func panicInWriter(t *testing.T) {
	t.Parallel()
	g, caught := guarded(t)
	e := open(t, Options{Dir: scratch(t), Guard: g})
	mustAppend(t, e, message("a", "u", 10, inAnHour()))
	// It breaks where groups are cut, before any transaction.
	r := &request{size: func(*writer) (places, bytes int) { panic("x") }, done: make(chan struct{}, 1)}
	if err := e.queue.put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.done:
		if !errors.Is(r.err, bridge.ErrUnavailable) {
			t.Error(r.err)
		}
	case <-time.After(expect.Patience):
		t.Fatal("the caller was never answered")
	}
	mustAppend(t, e, message("b", "u", 10, inAnHour()))
	if caught(whereWriter) == 0 {
		t.Error("nothing was counted")
	}
}
