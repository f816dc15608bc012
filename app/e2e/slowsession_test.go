package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/expect"
)

func TestSlowSession(t *testing.T) {
	t.Run("is closed and loses nothing", slowSessionLosesNothing)
	t.Run("that reads again is told so with 4498", slowSessionIsTold)
	t.Run("holds up nobody else", slowSessionHoldsUpNobody)
	t.Run("that stops for a while gets each frame whole, and in order", slowSessionGoesOn)
}

// fireBatch fires so many events of size bytes and a bit, each of another size, numbered
// from first, in one batch: they are on their way before a write to who does not read has
// taken too long.
func (w *world) fireBatch(user string, first, many, size int) {
	w.t.Helper()
	items := make([]string, many)
	for i := range items {
		items[i] = fmt.Sprintf(`{"id":%q,"type":"t","to":{"user":%q},"data":{"n":%d,"pad":%q}}`, w.nextID(), user, first+i, strings.Repeat("x", size+17*i))
	}
	a := w.do(w.signFor("/webhooks/events/batch", "application/json", w.nextID(), `{"events":[`+strings.Join(items, ",")+`]}`, time.Now()))
	if a.HTTP != http.StatusAccepted || strings.Contains(a.Raw, "problem") {
		w.t.Fatalf("%d %.300s", a.HTTP, a.Raw)
	}
}

// letGo is how many sessions were closed because they were too slow: their queue was full,
// or a write took too long.
func (w *world) letGo() float64 {
	return w.metric(`hookbridge_session_ends_total{code="4498"}`)
}

// A reader that stops is cut off with 4498 before it can hold memory, and
// loses nothing.
func slowSessionLosesNothing(t *testing.T) {
	w := start(t)
	slow := w.connectSlow("patient-1", "")
	fast := w.connect("patient-1", "")
	sent := 0
	got := make(chan int, 10_000)
	go func() {
		for {
			f, err := fast.read()
			if err != nil {
				close(got)
				return
			}
			got <- f.n()
		}
	}()
	for w.metric("hookbridge_queue_overflows_total")+w.letGo() == 0 {
		const many = 20 // the fast one's queue holds them
		w.fireBatch("patient-1", sent, many, 40_000)
		for range many {
			if n := <-got; n != sent {
				t.Fatalf("the fast session got %d for %d", n, sent)
			}
			sent++
		}
		if sent > 2000 {
			t.Fatal("the slow session is never closed")
		}
	}
	cursor, n := "", 0
	for {
		f, err := slow.read()
		if err != nil {
			break
		}
		if f.n() != n {
			t.Fatalf("%d for %d", f.n(), n)
		}
		cursor = f.Cursor
		n++
	}
	back := w.connect("patient-1", cursor)
	for ; n < sent; n++ {
		if f := back.want("event"); f.n() != n {
			t.Fatalf("%d for %d", f.n(), n)
		}
	}
	expect.NoError(t, fast.ws.Close())
}

// What the kernel's buffers have no room for waits in the session's queue, and a frame may
// be cut anywhere between the two.
func slowSessionGoesOn(t *testing.T) {
	w := start(t)
	s := w.connectSlow("patient-1", "")
	for round := range 3 {
		const many = 90 // below what a queue holds, and more than the kernel does
		w.fireBatch("patient-1", 0, many, 9_000)
		for i := range many {
			f, err := s.read()
			expect.NoError(t, err)
			if f.Type != "event" || f.n() != i || len(f.Raw) < 9_000+17*i {
				t.Fatalf("in round %d, instead of %d: %s", round, i, f.Raw)
			}
		}
	}
	if n := w.metric("hookbridge_queue_overflows_total"); n != 0 {
		t.Errorf("%v queues were full", n)
	}
}

func slowSessionIsTold(t *testing.T) {
	w := start(t)
	s := w.connectSlow("patient-1", "")
	for i := 0; w.metric("hookbridge_queue_overflows_total") == 0; i++ {
		if i == 20 {
			t.Fatal("the slow session is never closed")
		}
		w.fireBatch("patient-1", 100*i, 100, 60_000)
	}
	if code := s.closed(); code != 4498 {
		t.Errorf("%d", code)
	}
}

// A session that reads nothing, over a socket or a stream, holds up nobody: it
// is let go when its queue is full or a write takes too long, and what it missed waits for it.
func slowSessionHoldsUpNobody(t *testing.T) {
	heavy(t)
	w := start(t)
	slow := w.connectSlow("slow", "")
	stream := w.stream(token(t, "slow", time.Hour, ""), "", "")
	stream.want("connected")
	quick := w.connect("quick", "")
	blob := strings.Repeat("x", 60_000)
	for n := range 200 {
		a := w.fire(w.nextID(), fmt.Sprintf(`{"type":"t","to":{"users":["slow","quick"]},"data":{"n":%d,"blob":%q}}`, n, blob))
		if *a.Recipients != 2 {
			t.Fatalf("%s", a.Raw)
		}
		if f := quick.want("event"); f.n() != n {
			t.Fatalf("%s", f.Raw)
		}
	}
	// Who reads again within the grace is told 4498; who does not is cut off.
	expect.Eventually(t, "both to be let go", func() bool {
		return w.metric("hookbridge_queue_overflows_total") == 2 || w.letGo() == 2
	})
	for {
		if _, err := slow.read(); err != nil {
			if ce := (*websocket.CloseError)(nil); errors.As(err, &ce) && ce.Code != 4498 && ce.Code != 1006 {
				t.Errorf("socket: %v", err)
			}
			break
		}
	}
	for {
		e, err := stream.read()
		if err == nil && e.event == "close" && !strings.Contains(e.Raw, "4498") {
			t.Errorf("stream: %s", e.Raw)
		}
		if err != nil || e.event == "close" {
			break
		}
	}
	again := w.connect("slow", slow.hello.Cursor)
	for n := range 200 {
		if f := again.want("event"); f.n() != n {
			t.Fatalf("after %d: %s", n, f.Raw)
		}
	}
}
