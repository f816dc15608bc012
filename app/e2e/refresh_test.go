package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/expect"
)

func TestRefresh(t *testing.T) {
	t.Parallel()
	t.Run("keeps the session, which else ends", refreshInBand)
	t.Run("brings the rights of the new token", refreshRights)
	t.Run("at the moment of expiry holds or ends the session", refreshAtExpiry)
}

func refreshInBand(t *testing.T) {
	t.Parallel()
	w := start(t)
	// refreshed is told that its token expires, and gets one that lives so long.
	refreshed := func(t *testing.T, user string, life time.Duration) *session {
		s := w.connectAs(token(t, user, 3*time.Second, ""), "")
		if f := s.want("token_expiring"); f.InMs <= 0 || f.InMs > 3000 {
			t.Errorf("less than a minute is left: %s", f.Raw)
		}
		s.send(map[string]string{"type": "refresh", "token": token(t, user, life, "")})
		if f := s.want("refreshed"); f.ExpiresAt == "" {
			t.Errorf("%s", f.Raw)
		}
		return s
	}
	t.Run("ends", func(t *testing.T) {
		t.Parallel()
		// Of a token that lives so short nobody is told within five seconds of the last time.
		if code := refreshed(t, "patient-1", 3*time.Second).closed(); code != 4401 {
			t.Errorf("expired: %d", code)
		}
	})
	t.Run("goes on", func(t *testing.T) {
		t.Parallel()
		s := refreshed(t, "patient-2", time.Hour)
		w.fireTo("patient-2", 7)
		if f := s.want("event"); f.n() != 7 {
			t.Errorf("%s", f.Raw)
		}
	})
}

func refreshRights(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connect("doctor-7", "")
	const send = `{"type":"send","ref":"1","to":{"user":"patient-1"},"event":{"type":"t"}}`
	for _, c := range []struct{ rights, want string }{{`{"send":["patient-*"]}`, "result"}, {`{"send":["doctor-*"]}`, "error"}} {
		s.send(map[string]string{"type": "refresh", "token": token(t, "doctor-7", time.Hour, c.rights)})
		s.want("refreshed")
		s.sendRaw(send)
		s.want(c.want)
	}
}

func refreshAtExpiry(t *testing.T) {
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
