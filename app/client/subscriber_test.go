package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/client/clienttest"
	"hookbridge/app/expect"
	"hookbridge/app/wire"
)

func TestSubscriber(t *testing.T) {
	t.Run("resumes where it was and hands out each event once", subscriberResumes)
	t.Run("tells all of an event and of what happens", subscriberTells)
	t.Run("has acks that", subscriberAcks)
	t.Run("keeps the cursor", subscriberKeepsCursor)
	t.Run("comes again for a gap that it was not told of", subscriberGap)
	t.Run("takes tokens from a source", subscriberTokens)
	t.Run("answers pings while it handles an event", subscriberAnswersPings)
	t.Run("leaves a connection that has gone quiet", subscriberLeavesQuiet)
	t.Run("speaks plain mode", subscriberPlain)
	t.Run("ends where going on would lose something", subscriberEnds)
	t.Run("ends without an error when it is signed out", subscriberSignedOut)
	t.Run("ends without an error when its context does, whatever waits for that", subscriberCancelled)
	t.Run("retries or ends when a handshake fails", subscriberHandshake)
	t.Run("speaks TLS where the server prefers HTTP 2", subscriberOverTLS)
	t.Run("reads what a server may send", subscriberReads)
	t.Run("has options that are checked", subscriberOptions)
}

func subscriberResumes(t *testing.T) {
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

func subscriberTells(t *testing.T) {
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

func subscriberAcks(t *testing.T) {
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
	t.Run("are sent again where the last one may have been lost with the connection", func(t *testing.T) {
		b := clienttest.NewBridge(t)
		u := subscribe(t, SubscriberOptions{URL: b.URL})
		c := b.Accept()
		c.Greet("")
		c.Say(clienttest.Event(1))
		next(t, u.events)
		c.Close()
		c = b.Accept()
		c.Hear(`{"type":"connect","after":"c1"}`)
		c.Say(`{"type":"connected","session":"ses_2","user":"u","cursor":"c1","resumed":true,"pingMs":25000}`)
		c.Hear(`{"type":"ack","cursor":"c1"}`)
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

func subscriberKeepsCursor(t *testing.T) {
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
	t.Run("and ends where it cannot", func(t *testing.T) {
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

func subscriberGap(t *testing.T) {
	b := clienttest.NewBridge(t)
	u := subscribe(t, SubscriberOptions{URL: b.URL, Cursor: "c1"})
	c := b.Accept()
	for range 2 { // the connection ends between the frame that says where reading starts and the gap
		c.Hear(`{"type":"connect","after":"c1"}`)
		c.Say(`{"type":"connected","session":"ses_1","user":"u","cursor":"c7","resumed":false,"pingMs":25000}`)
		c.Close()
		c = b.Accept()
	}
	c.Greet("c1")
	c.Say(`{"type":"gap","after":"c1","cursor":"c7","reason":"rewound"}`)
	for next(t, u.notices) != (Gap{After: "c1", Cursor: "c7", Reason: "rewound"}) {
	}
	c.Close()
	b.Accept().Greet("c7")
}

func subscriberTokens(t *testing.T) {
	t.Run("anew before one expires and after one was refused", func(t *testing.T) {
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
	t.Run("of one user", func(t *testing.T) {
		b := clienttest.NewBridge(t)
		u := subscribe(t, SubscriberOptions{URL: b.URL})
		c := b.Accept()
		c.Greet("")
		c.Say(clienttest.Event(1))
		c.Hear(`{"type":"ack","cursor":"c1"}`)
		c.Part(wire.CloseInternal, "")
		c = b.Accept()
		c.Hear(`{"type":"connect","after":"c1"}`)
		c.Say(`{"type":"connected","session":"ses_2","user":"v","cursor":"d5","resumed":false,"pingMs":25000}`,
			`{"type":"gap","after":"c1","cursor":"d5","reason":"foreign"}`, clienttest.Event(2))
		if frames, _ := c.Gone(); len(frames) > 0 {
			t.Errorf("it sent %q", frames)
		}
		var closed *CloseError
		if err := u.ended(); !errors.As(err, &closed) || closed.Code != wire.CloseForbidden {
			t.Errorf("got %v", err)
		}
		if got := u.ids(); got != "msg_1" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("and shows the only one once", func(t *testing.T) {
		b := clienttest.NewBridge(t)
		u := subscribe(t, SubscriberOptions{URL: b.URL})
		c := b.Accept()
		c.Greet("")
		c.Part(wire.CloseUnauthorized, "expired")
		if err := u.ended(); err == nil {
			t.Error("no error")
		}
	})
	t.Run("and ends where there is none, or none that can be sent", func(t *testing.T) {
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

func subscriberAnswersPings(t *testing.T) {
	b := clienttest.NewBridge(t)
	busy := make(chan struct{})
	subscribe(t, SubscriberOptions{URL: b.URL, OnEvent: func(context.Context, Event) error { <-busy; return nil }})
	c := b.Accept()
	defer close(busy)
	c.Greet("")
	c.Say(clienttest.Event(1))                                                        // is being handled while it is pinged
	c.SetPongHandler(func(place string) error { return errors.New("pong " + place) }) // ends the read
	expect.NoError(t, c.WriteControl(websocket.PingMessage, []byte("12.5"), time.Now().Add(expect.Patience)))
	expect.NoError(t, c.SetReadDeadline(time.Now().Add(expect.Patience)))
	if _, _, err := c.ReadMessage(); err == nil || err.Error() != "pong 12.5" {
		t.Errorf("got %v", err)
	}
}

func subscriberLeavesQuiet(t *testing.T) {
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

func subscriberPlain(t *testing.T) {
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

func subscriberEnds(t *testing.T) {
	for name, frame := range map[string]string{
		"not JSON": "hello", "no type": "{}", "a number for an event": `{"type":"event","cursor":"c1","event":7}`,
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
	t.Run("an event that was not handled", func(t *testing.T) {
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

func subscriberSignedOut(t *testing.T) {
	b := clienttest.NewBridge(t)
	u := subscribe(t, SubscriberOptions{URL: b.URL})
	c := b.Accept()
	c.Greet("")
	c.Part(wire.CloseNormal, "")
	if err := u.ended(); err != nil {
		t.Error(err)
	}
}

func subscriberCancelled(t *testing.T) {
	b := clienttest.NewBridge(t)
	waits := make(chan struct{}, 1)
	wait := func(ctx context.Context) error {
		waits <- struct{}{}
		<-ctx.Done()
		return fmt.Errorf("waiting: %w", ctx.Err())
	}
	t.Run("a token source", func(t *testing.T) {
		u := subscribe(t, SubscriberOptions{URL: b.URL, TokenSource: func(ctx context.Context) (string, error) { return "", wait(ctx) }})
		next(t, waits)
		u.cancel()
		expect.NoError(t, u.ended())
	})
	t.Run("a handler", func(t *testing.T) {
		u := subscribe(t, SubscriberOptions{URL: b.URL, OnEvent: func(ctx context.Context, _ Event) error { return wait(ctx) }})
		c := b.Accept()
		c.Greet("")
		c.Say(clienttest.Event(1))
		next(t, waits)
		u.cancel()
		if frames, code := c.Gone(); code != websocket.CloseNormalClosure || len(frames) > 0 {
			t.Errorf("it left with %d and %q", code, frames)
		}
		expect.NoError(t, u.ended())
	})
}

func subscriberReads(t *testing.T) {
	b := clienttest.NewBridge(t)
	u := subscribe(t, SubscriberOptions{URL: b.URL})
	c := b.Accept()
	c.Greet("")
	expect.NoError(t, c.WriteMessage(websocket.BinaryMessage, []byte("of later days")))
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
