package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hookbridge/app/expect"
)

func TestDrain(t *testing.T) {
	t.Run("takes no new work", drainTakesNothing)
	t.Run("ends all clients that connect meanwhile", drainEndsAll)
}

func drainTakesNothing(t *testing.T) {
	w := start(t)
	mute, _, _, err := ws.Dialer{Protocols: []string{"bridge.v1.json"}}.Dial(t.Context(), "ws"+strings.TrimPrefix(w.base, "http")+"/ws")
	expect.NoError(t, err)
	defer mute.Close() // it never answers a close frame, and so holds the drain up
	expect.NoError(t, wsutil.WriteClientText(mute, []byte(`{"type":"connect","token":"`+token(t, "patient-1", time.Hour, "")+`"}`)))
	doctor := w.connectAs(token(t, "doctor-7", time.Hour, `{"send":["*"]}`), "")
	w.sessions(2)
	silent, _, err := w.dial(nil, "", "bridge.v1.json") // has not said who it is
	expect.NoError(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- w.p.Drain(t.Context()) }()
	doctor.want("reconnect")
	if code := silent.closed(); code != 1012 {
		t.Errorf("one without a token: %d", code)
	}
	a := w.do(w.sign("late", `{"type":"t","to":{"user":"u"}}`, time.Now()))
	if a.HTTP != 503 || a.Code != "draining" || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.HTTP, a.Raw)
	}
	req, err := http.NewRequest(http.MethodGet, w.base+"/readyz", nil)
	expect.NoError(t, err)
	if a := w.do(req); a.HTTP != 503 || a.Code != "draining" {
		t.Errorf("/readyz: %d %s", a.HTTP, a.Raw)
	}
	if _, res, err := w.dial(nil, "", "bridge.v1.json"); err == nil || res.StatusCode != 503 {
		t.Errorf("a new session: %v %v", err, res)
	}
	if err := <-stopped; err != nil {
		t.Errorf("drain: %v", err)
	}
}

func drainEndsAll(t *testing.T) {
	heavy(t)
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
