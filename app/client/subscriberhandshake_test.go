package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/client/clienttest"
	"hookbridge/app/wire"
)

func subscriberOverTLS(t *testing.T) {
	up := websocket.Upgrader{Subprotocols: []string{wire.Subprotocol}}
	b := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for _, frame := range []string{`{"type":"connected","session":"ses_1","cursor":"c0"}`, clienttest.Event(1)} {
			if err := c.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
				t.Error(err)
			}
		}
		for err == nil { // until the client leaves
			_, _, err = c.ReadMessage()
		}
	}))
	b.EnableHTTP2 = true
	b.StartTLS()
	defer b.Close()
	u := subscribe(t, SubscriberOptions{URL: "wss" + strings.TrimPrefix(b.URL, "https"), HTTPClient: b.Client()})
	if e := next(t, u.events); e.ID != "msg_1" {
		t.Errorf("got %+v", e)
	}
	u.cancel()
	if err := u.ended(); err != nil {
		t.Error(err)
	}
}

func subscriberHandshake(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		waits  string // of the first retries; empty: it ends
		want   string
	}{
		"401":            {answers(401, problem(wire.CodeUnauthorized)), "", "401 unauthorized"},
		"403":            {answers(403, problem(wire.CodeOriginRefused)), "", "403 origin_refused"},
		"404":            {answers(404, ""), "", "not the bridge's"},
		"200":            {answers(200, "hello"), "", "not the bridge's"},
		"307":            {answers(307, "", "Location", "/elsewhere"), "", "not the bridge's"},
		"503":            {answers(503, problem(wire.CodeTooManyConnections), "Retry-After", "7"), "[7.5s 8s 9s]", ""},
		"500":            {answers(500, ""), "[500ms 1s 2s]", ""},
		"no subprotocol": {plainUpgrade, "", "does not speak bridge.v1.json"},
		"another's key":  {answers(101, "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Protocol", wire.Subprotocol, "Sec-WebSocket-Accept", "x"), "", "does not speak"},
	} {
		t.Run(name, func(t *testing.T) {
			b := httptest.NewServer(c.answer)
			defer b.Close()
			u := subscribe(t, SubscriberOptions{URL: b.URL}, func(s *Subscriber) {
				count, inner := 0, s.sleep
				s.sleep = func(ctx context.Context, d time.Duration) error {
					if count++; count == 3 {
						return errors.Join(inner(ctx, d), context.Canceled)
					}
					return inner(ctx, d)
				}
			})
			err := u.ended()
			if c.waits != "" {
				if got := fmt.Sprint(u.waits); err != nil || got != c.waits {
					t.Errorf("%v, waited %s", err, got)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func plainUpgrade(w http.ResponseWriter, r *http.Request) {
	var up websocket.Upgrader
	if c, err := up.Upgrade(w, r, nil); err == nil {
		defer c.Close()
	}
}

func subscriberOptions(t *testing.T) {
	handle := func(context.Context, Event) error { return nil }
	for name, o := range map[string]SubscriberOptions{
		"no OnEvent":           {URL: "http://b", Token: "t"},
		"no token":             {URL: "http://b", OnEvent: handle},
		"two":                  {URL: "http://b", OnEvent: handle, Token: "t", TokenSource: func(context.Context) (string, error) { return "t", nil }},
		"no URL":               {OnEvent: handle, Token: "t"},
		"a URL of another":     {URL: "ftp://b", OnEvent: handle, Token: "t"},
		"plain with a cursor":  {URL: "http://b", OnEvent: handle, Token: "t", Plain: true, Cursor: "c1"},
		"plain without an ack": {URL: "http://b", OnEvent: handle, Token: "t", Plain: true, NoAck: true},
	} {
		if _, err := NewSubscriber(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
