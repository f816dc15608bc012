package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/expect"
)

// The places where one state hands over to the next. Each test provokes the
// race many times over; none of them may ever lose, repeat or hang.

func TestClientsThatConnectWhileTheMachineDrainsAllEnd(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	var ended, refused, connected atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			tok := token(t, fmt.Sprintf("patient-%d", i), time.Hour, "")
			for {
				s, _, err := w.dial(nil, "", "bridge.v1.json")
				if err != nil {
					refused.Add(1)
					select {
					case <-stop:
						return
					default:
						continue
					}
				}
				_ = s.ws.WriteJSON(map[string]string{"type": "connect", "token": tok}) // it may be closed already
				for {
					f, err := s.read()
					if err != nil {
						ended.Add(1)
						break
					}
					if f.Type == "connected" && connected.Add(1) < 60 {
						_ = s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second))
					}
				}
				_ = s.ws.Close() // the test's own end may have been first
			}
		})
	}
	expect.Eventually(t, "sessions come and go", func() bool { return connected.Load() > 20 })
	if err := w.p.Drain(context.Background()); err != nil {
		t.Errorf("drain: %v", err)
	}
	close(stop)
	wg.Wait()
	if n := w.metric("hookbridge_sessions"); n != 0 {
		t.Errorf("%v sessions are left", n)
	}
}

func TestARefreshAtTheMomentOfExpiryEitherHoldsOrEndsTheSession(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	var held, over atomic.Int64
	var wg sync.WaitGroup
	for i := range 40 {
		user := fmt.Sprintf("patient-%d", i)
		s := w.connectAs(token(t, user, 2*time.Second, ""), "")
		expires, err := time.Parse(time.RFC3339, s.hello.ExpiresAt)
		expect.NoError(t, err)
		wg.Go(func() {
			// All around the moment: from 20 ms before to 20 ms after.
			<-time.After(time.Until(expires) + time.Duration(i-20)*time.Millisecond)
			_ = s.ws.WriteJSON(map[string]string{"type": "refresh", "token": token(t, user, time.Hour, "")}) // it may be closed already
			for {
				f, err := s.read()
				if c, ok := err.(*websocket.CloseError); ok {
					if c.Code != 4401 {
						t.Errorf("closed with %d", c.Code)
					}
					over.Add(1)
					return
				}
				if err != nil { // our own write crossed the close
					over.Add(1)
					return
				}
				if f.Type == "refreshed" {
					break
				}
			}
			if err := s.ws.WriteJSON(map[string]string{"type": "ping"}); err != nil {
				t.Errorf("refreshed, and yet: %v", err)
				return
			}
			if f, err := s.read(); err != nil || f.Type != "pong" {
				t.Errorf("refreshed, and yet: %v %s", err, f.Raw)
			}
			held.Add(1)
		})
	}
	wg.Wait()
	t.Logf("%d held, %d ended", held.Load(), over.Load())
	if held.Load()+over.Load() != 40 {
		t.Error("a session neither holds nor ends")
	}
}

// Sessions of one user come and go while events arrive: what was answered with
// sent or queued is read in the end by the one who stays, once and in order.
func TestTheLastSessionOutLeavesNothingBehind(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	stays := w.connect("patient-1", "")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s := w.connect("patient-1", "")
				expect.NoError(t, s.ws.Close())
			}
		})
	}
	const n = 300
	for i := range n {
		if a := w.fireTo("patient-1", i); a.Status != "sent" || a.Sessions < 1 {
			t.Errorf("event %d: %s", i, a.Raw)
		}
	}
	for i := range n {
		if f := stays.want("event"); f.n() != i {
			t.Fatalf("%d: %s", i, f.Raw)
		}
	}
	close(stop)
	wg.Wait()
	w.sessions(1)
}

// A session in the middle of its replay is neither skipped nor served twice
// when messages arrive in the moment it becomes live.
func TestReplayBecomesLiveWithoutAHole(t *testing.T) {
	t.Parallel()
	w := start(t)
	const readers, before, during = 8, 200, 200
	for i := range before {
		w.fireTo("patient-1", i)
	}
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			s := w.connect("patient-1", "")
			for i := range before + during {
				f, err := s.read()
				if err != nil || f.n() != i {
					t.Errorf("instead of %d: %s %v", i, f.Raw, err)
					return
				}
			}
		})
	}
	for i := range during {
		w.fireTo("patient-1", before+i)
	}
	wg.Wait()
}
