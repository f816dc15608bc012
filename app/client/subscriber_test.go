package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/client/clienttest"
	"hookbridge/app/wire"
)

const patience = 5 * time.Second

// subscription is a Subscriber that runs. Its waits are noted and not waited for.
type subscription struct {
	t       *testing.T
	cancel  context.CancelFunc
	done    chan error
	events  chan Event
	notices chan Notice
	waits   []time.Duration // read it after ended
	cursors chan string
}

func subscribe(t *testing.T, o SubscriberOptions, change ...func(*Subscriber)) *subscription {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	u := &subscription{t: t, cancel: cancel, done: make(chan error, 1),
		events: make(chan Event, 1000), notices: make(chan Notice, 1000), cursors: make(chan string, 1000)}
	if o.Token == "" && o.TokenSource == nil {
		o.Token = "token-of-the-test"
	}
	if o.OnEvent == nil {
		o.OnEvent = func(_ context.Context, e Event) error { u.events <- e; return nil }
	}
	if o.SaveCursor == nil && !o.Plain {
		o.SaveCursor = func(cursor string) error { u.cursors <- cursor; return nil }
	}
	o.OnNotice = func(n Notice) { u.notices <- n }
	o.AckEvery = 10 * time.Millisecond
	s, err := NewSubscriber(o)
	if err != nil {
		t.Fatal(err)
	}
	s.backoff.jitter = func(most time.Duration) time.Duration { return most / 2 }
	s.sleep = func(ctx context.Context, d time.Duration) error {
		u.waits = append(u.waits, d)
		return ctx.Err()
	}
	for _, ch := range change {
		ch(s)
	}
	go func() { u.done <- s.Run(ctx) }()
	t.Cleanup(cancel)
	return u
}

func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("it does not come")
		panic("unreachable")
	}
}

func (u *subscription) ended() error {
	u.t.Helper()
	return next(u.t, u.done)
}

// all are the events' ids so far, or the notices' texts.
func all[T any](from <-chan T, text func(T) string) (out []string) {
	for len(from) > 0 {
		out = append(out, text(<-from))
	}
	return out
}

func (u *subscription) ids() string {
	return strings.Join(all(u.events, func(e Event) string { return e.ID }), " ")
}

func (u *subscription) said() string {
	return strings.Join(all(u.notices, Notice.String), "\n")
}

func TestSubscriberResumesWhereItWasAndHandsOutEachEventOnce(t *testing.T) {
	b := clienttest.NewBridge(t)
	u := subscribe(t, SubscriberOptions{URL: b.URL})

	c := b.Accept()
	if got := c.Request.Get("Authorization"); got != "Bearer token-of-the-test" {
		t.Errorf("Authorization is %q", got)
	}
	c.Greet("")
	c.Say(clienttest.Event(1))
	c.Hear(`{"type":"ack","cursor":"c1"}`)
	c.Part(wire.CloseInternal, "")

	c = b.Accept()
	c.Greet("c1")
	c.Say(clienttest.Event(1), clienttest.Event(2), `{"type":"reconnect","afterMs":4210,"reason":"draining"}`)
	c.Part(wire.CloseRestart, "restart")

	c = b.Accept()
	c.Greet("c2")
	c.Say(`{"type":"gap","after":"c2","cursor":"c7","reason":"expired"}`)
	c.Part(wire.CloseSlow, "slow")

	c = b.Accept()
	c.Greet("c7")
	c.Close() // lost

	c = b.Accept()
	c.Greet("c7")
	c.Say(clienttest.Event(8), `{"type":"news_of_later_days"}`, `{"type":"recalled","id":"msg_8"}`)
	c.Hear(`{"type":"ack","cursor":"c8"}`)
	u.cancel()
	if frames, code := c.Gone(); code != websocket.CloseNormalClosure || len(frames) > 0 {
		t.Errorf("it left with %d and %q", code, frames)
	}
	if err := u.ended(); err != nil {
		t.Error(err)
	}
	if got := u.ids(); got != "msg_1 msg_2 msg_8" {
		t.Errorf("got %s", got)
	}
	if got := fmt.Sprint(u.waits); got != "[500ms 4.21s 0s 500ms]" {
		t.Errorf("waited %s", got)
	}
	said := u.said()
	for _, want := range []string{"connected as u", "gap: some events are gone (expired)", "recalled: msg_8", "disconnected (1012 restart), again in 4.21s"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said in:\n%s", want, said)
		}
	}
	if strings.Contains(said, "token-of-the-test") {
		t.Error("the token is said")
	}
}

func TestSubscriberTellsAllOfAnEventAndOfWhatHappens(t *testing.T) {
	b := clienttest.NewBridge(t)
	u := subscribe(t, SubscriberOptions{URL: "ws" + strings.TrimPrefix(b.URL, "http") + "/ws", Cursor: "c1"})
	c := b.Accept()
	c.Hear(`{"type":"connect","after":"c1"}`)
	c.Say(`{"type":"connected","session":"ses_1","user":"u","cursor":"c1","resumed":true,"pending":2,"pingMs":25000}`)
	object := `{"id":"msg_1","type":"t","timestamp":"2026-11-22T20:36:00Z","data":{"a": "<1>", "a": 1.0}}`
	c.Say(`{"type":"event","cursor":"c2","replay":true,"from":"d\"7","event":` + object + `}`)
	want := Event{ID: "msg_1", Type: "t", Timestamp: time.Date(2026, 11, 22, 20, 36, 0, 0, time.UTC), Data: []byte(`{"a": "<1>", "a": 1.0}`),
		From: `d"7`, Cursor: "c2", Replay: true, Raw: []byte(object)}
	if got := next(t, u.events); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	c.Say(`{"type":"gap","after":"c2","cursor":"c7","reason":"trimmed"}`, `{"type":"recalled","id":"msg_1"}`,
		`{"type":"error","problem":{"status":400,"code":"invalid_frame","detail":"no"}}`, `{"type":"token_expiring","inMs":60000}`)
	for _, want := range []Notice{
		Connected{User: "u", Session: "ses_1", Resumed: true, Pending: 2}, Gap{After: "c2", Cursor: "c7", Reason: "trimmed"},
		Recalled{"msg_1"}, Refused{wire.Problem{Status: 400, Code: "invalid_frame", Detail: "no"}}, TokenExpiring{time.Minute},
	} {
		if got := next(t, u.notices); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestSubscriberAcks(t *testing.T) {
	t.Run("are gathered", func(t *testing.T) {
		b := clienttest.NewBridge(t)
		subscribe(t, SubscriberOptions{URL: b.URL})
		c := b.Accept()
		c.Greet("")
		const events = 500
		for n := 1; n <= events; n++ {
			c.Say(clienttest.Event(n))
		}
		acks := 1
		for c.Next() != fmt.Sprintf(`{"type":"ack","cursor":"c%d"}`, events) {
			acks++
		}
		if acks > events/4 {
			t.Errorf("%d acks for %d events", acks, events)
		}
	})
	t.Run("are left out where they are not wanted", func(t *testing.T) {
		b := clienttest.NewBridge(t)
		u := subscribe(t, SubscriberOptions{URL: b.URL, NoAck: true})
		c := b.Accept()
		c.Greet("")
		c.Say(clienttest.Event(1))
		if got := next(t, u.cursors); got != "c1" { // what it does instead of an ack
			t.Errorf("kept %s", got)
		}
		u.cancel()
		if frames, _ := c.Gone(); len(frames) > 0 {
			t.Errorf("it sent %q", frames)
		}
	})
}

func TestSubscriberAnswersPings(t *testing.T) {
	b := clienttest.NewBridge(t)
	busy := make(chan struct{})
	subscribe(t, SubscriberOptions{URL: b.URL, OnEvent: func(context.Context, Event) error { <-busy; return nil }})
	c := b.Accept()
	defer close(busy)
	c.Greet("")
	c.Say(clienttest.Event(1))                                                        // is being handled while it is pinged
	c.SetPongHandler(func(place string) error { return errors.New("pong " + place) }) // ends the read
	if err := c.WriteControl(websocket.PingMessage, []byte("12.5"), time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadMessage(); err == nil || err.Error() != "pong 12.5" {
		t.Errorf("got %v", err)
	}
}

func TestSubscriberLeavesAConnectionThatHasGoneQuiet(t *testing.T) {
	b := clienttest.NewBridge(t)
	u := subscribe(t, SubscriberOptions{URL: b.URL})
	c := b.Accept()
	c.Hear(`{"type":"connect"}`)
	c.Say(`{"type":"connected","session":"ses_1","user":"u\u001b[2J","cursor":"c1","pingMs":5}`) // and no ping
	c = b.Accept()
	c.Greet("c1")
	if said := u.said(); !strings.Contains(said, "nothing came for too long") || strings.Contains(said, "\x1b") {
		t.Errorf("said %q", said)
	}
}

func TestSubscriberKeepsTheCursor(t *testing.T) {
	t.Run("before it acks", func(t *testing.T) {
		b := clienttest.NewBridge(t)
		u := subscribe(t, SubscriberOptions{URL: b.URL})
		c := b.Accept()
		c.Greet("")
		c.Say(clienttest.Event(1), clienttest.Event(2))
		for c.Next() != `{"type":"ack","cursor":"c2"}` {
		}
		kept := all(u.cursors, strings.Clone)
		if len(kept) == 0 || kept[len(kept)-1] != "c2" {
			t.Errorf("kept %q", kept)
		}
		c.Part(wire.CloseErased, "erased")
		var closed *CloseError
		if err := u.ended(); !errors.As(err, &closed) || closed.Code != wire.CloseErased {
			t.Errorf("got %v", err)
		}
		if got := next(t, u.cursors); got != "" {
			t.Errorf("of an erased user it kept %s", got)
		}
	})
	t.Run("or ends", func(t *testing.T) {
		b := clienttest.NewBridge(t)
		full := errors.New("the disk is full")
		u := subscribe(t, SubscriberOptions{URL: b.URL, Cursor: "c1", SaveCursor: func(string) error { return full }})
		c := b.Accept()
		c.Greet("c1")
		c.Say(clienttest.Event(3))
		if frames, _ := c.Gone(); len(frames) > 0 {
			t.Errorf("it sent %q", frames)
		}
		if err := u.ended(); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSubscriberAndItsTokens(t *testing.T) {
	t.Run("brings a new one before the old one expires and after one was refused", func(t *testing.T) {
		b := clienttest.NewBridge(t)
		made := 0
		u := subscribe(t, SubscriberOptions{URL: b.URL, TokenSource: func(context.Context) (string, error) {
			made++
			return fmt.Sprintf("token-%d", made), nil
		}})
		c := b.Accept()
		c.Greet("")
		c.Say(`{"type":"token_expiring","inMs":60000}`)
		c.Hear(`{"type":"refresh","token":"token-2"}`)
		c.Part(wire.CloseUnauthorized, "expired")
		c = b.Accept()
		if got := c.Request.Get("Authorization"); got != "Bearer token-3" {
			t.Errorf("came again with %s", got)
		}
		c.Hear(`{"type":"connect"}`)
		c.Part(wire.CloseUnauthorized, "bad signature") // twice in a row
		if err := u.ended(); err == nil || !strings.Contains(err.Error(), "the token was refused (close code 4401): bad signature") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("does not show the only one twice", func(t *testing.T) {
		b := clienttest.NewBridge(t)
		u := subscribe(t, SubscriberOptions{URL: b.URL})
		c := b.Accept()
		c.Greet("")
		c.Part(wire.CloseUnauthorized, "expired")
		if err := u.ended(); err == nil {
			t.Error("no error")
		}
	})
	t.Run("ends where there is none, and where it cannot be sent", func(t *testing.T) {
		none := errors.New("signed out")
		u := subscribe(t, SubscriberOptions{URL: "http://127.0.0.1:1", TokenSource: func(context.Context) (string, error) { return "", none }})
		if err := u.ended(); !errors.Is(err, none) {
			t.Errorf("got %v", err)
		}
		u = subscribe(t, SubscriberOptions{URL: "http://127.0.0.1:1", Token: "token\n"})
		if err := u.ended(); err == nil || !strings.Contains(err.Error(), "line break") {
			t.Errorf("got %v", err)
		}
	})
}

func TestSubscriberInPlainMode(t *testing.T) {
	b := clienttest.NewBridge(t)
	u := subscribe(t, SubscriberOptions{URL: b.URL, Plain: true})
	c := b.Accept()
	if got := c.Request.Get("Sec-Websocket-Protocol"); got != "" {
		t.Errorf("it offered %q", got)
	}
	const chat = `{"fromUserId":"doctor-7","toUserId":"u","message":"hello"}`
	const own = `{"id":"msg_2","type":"error","data":{}}`
	c.Say("{\"id\":\"msg_1\",\"type\":\"t\",\"data\":[1,\n2]}", chat, `{"type":"error","problem":{"code":"invalid_frame","detail":"no"}}`, own, own, chat)
	hello := Event{Type: "message", From: "doctor-7", Data: []byte(`{"message":"hello"}`), Raw: []byte(chat)}
	for _, want := range []Event{
		{ID: "msg_1", Type: "t", Data: []byte("[1,\n2]"), Raw: []byte("{\"id\":\"msg_1\",\"type\":\"t\",\"data\":[1,\n2]}")},
		hello, {ID: "msg_2", Type: "error", Data: []byte("{}"), Raw: []byte(own)}, hello,
	} {
		if got := next(t, u.events); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if said := u.said(); said != "connected\nthe bridge refused a frame: invalid_frame no" {
		t.Errorf("said %s", said)
	}
	c.Part(wire.CloseGoingAway, "")
	c = b.Accept()
	for next(t, u.notices) != (Connected{}) {
	}
	u.cancel()
	if frames, code := c.Gone(); code != websocket.CloseNormalClosure || len(frames) > 0 {
		t.Errorf("it left with %d and %q", code, frames)
	}
}

func TestSubscriberEndsWhereGoingOnWouldLose(t *testing.T) {
	for name, frame := range map[string]string{
		"not JSON": "hello", "no type": "{}", "an event that is none": `{"type":"event","cursor":"c1","event":7}`,
		"too large": strings.Repeat(" ", 2000),
	} {
		t.Run(name, func(t *testing.T) {
			b := clienttest.NewBridge(t)
			u := subscribe(t, SubscriberOptions{URL: b.URL, MaxFrameBytes: 1999})
			c := b.Accept()
			c.Greet("")
			c.Say(frame)
			if _, code := c.Gone(); code != websocket.CloseNormalClosure && name != "too large" {
				t.Errorf("it left with %d", code)
			}
			if err := u.ended(); err == nil || !strings.Contains(err.Error(), "the bridge sent") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("not handled", func(t *testing.T) {
		b := clienttest.NewBridge(t)
		var s *Subscriber
		fails := true
		u := subscribe(t, SubscriberOptions{URL: b.URL, OnEvent: func(context.Context, Event) error {
			if fails {
				return io.ErrClosedPipe
			}
			return nil
		}}, func(it *Subscriber) { s = it })
		c := b.Accept()
		c.Greet("")
		c.Say(clienttest.Event(1))
		if frames, _ := c.Gone(); len(frames) > 0 {
			t.Errorf("what was not handled was acked: %q", frames)
		}
		if err := u.ended(); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v", err)
		}
		// The next Run is given it again.
		fails = false
		ctx, cancel := context.WithCancel(t.Context())
		go func() { u.done <- s.Run(ctx) }()
		c = b.Accept()
		c.Greet("")
		c.Say(clienttest.Event(1))
		c.Hear(`{"type":"ack","cursor":"c1"}`)
		cancel()
		c.Gone()
		if err := u.ended(); err != nil {
			t.Error(err)
		}
	})
}

func TestSubscriberReadsWhatAServerMaySend(t *testing.T) {
	b := clienttest.NewBridge(t)
	u := subscribe(t, SubscriberOptions{URL: b.URL})
	c := b.Accept()
	c.Greet("")
	if err := c.WriteMessage(websocket.BinaryMessage, []byte("of later days")); err != nil {
		t.Fatal(err)
	}
	// An event in two fragments with a ping between them.
	event := clienttest.Event(1)
	raw := c.NetConn()
	for _, part := range []string{"\x01\x05" + event[:5], "\x89\x012", "\x80\x7e\x00" + string(rune(len(event)-5)) + event[5:]} {
		if _, err := io.WriteString(raw, part); err != nil {
			t.Fatal(err)
		}
	}
	if e := next(t, u.events); e.ID != "msg_1" {
		t.Errorf("got %+v", e)
	}
}

func TestSubscriberSpeaksTLSWhereTheServerPrefersHTTP2(t *testing.T) {
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

func TestSubscriberIsSignedOut(t *testing.T) {
	b := clienttest.NewBridge(t)
	u := subscribe(t, SubscriberOptions{URL: b.URL})
	c := b.Accept()
	c.Greet("")
	c.Part(wire.CloseNormal, "")
	if err := u.ended(); err != nil {
		t.Error(err)
	}
}

func TestSubscriberAndAHandshakeThatFails(t *testing.T) {
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

func TestSubscriberOptionsAreChecked(t *testing.T) {
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

func TestRecentIDsAreBounded(t *testing.T) {
	r := newRecent(3)
	for i, c := range []struct {
		id  string
		new bool
	}{{"a", true}, {"b", true}, {"a", false}, {"c", true}, {"d", true}, {"b", false}, {"a", true}, {"b", true}} {
		if r.has(c.id) == c.new {
			t.Errorf("step %d: %s", i, c.id)
		}
		if c.new {
			r.add(c.id)
		}
	}
	if len(r.ids) != 3 {
		t.Errorf("%d ids are kept", len(r.ids))
	}
}
