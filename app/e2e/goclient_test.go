package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/client"
	"hookbridge/app/expect"
	"hookbridge/app/wire"
)

// TestGoClient is the promises of app/client, held against the whole program.
func TestGoClient(t *testing.T) {
	w := start(t)
	events, notices := make(chan client.Event, 100), make(chan client.Notice, 100)
	options := client.SubscriberOptions{
		URL: w.base, Token: token(t, patient1, time.Hour, ""), AckEvery: time.Millisecond,
		OnEvent:  func(_ context.Context, e client.Event) error { events <- e; return nil },
		OnNotice: func(n client.Notice) { notices <- n },
	}
	run := func(o client.SubscriberOptions) (stop func() error) {
		t.Helper()
		subscriber, err := client.NewSubscriber(o)
		expect.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- subscriber.Run(ctx) }()
		return func() error { cancel(); return <-ended }
	}
	publisher, err := client.NewPublisher(client.PublisherOptions{URL: w.base, Secret: testWebhookSecret})
	expect.NoError(t, err)
	visit := func(id string) client.PublishRequest {
		return client.PublishRequest{ID: id, Type: "visit.moved", To: client.Target{User: patient1}, Data: json.RawMessage(`{"n": "` + id + `"}`)}
	}
	arrived := func(id string) client.Event {
		t.Helper()
		e := <-events
		if e.ID != id || e.Type != "visit.moved" || string(e.Data) != `{"n": "`+id+`"}` || time.Since(e.Timestamp) > time.Hour {
			t.Fatalf("instead of %s came %+v", id, e)
		}
		return e
	}

	stop := run(options)
	if n, ok := (<-notices).(client.Connected); !ok || n.User != patient1 || n.Session == "" {
		t.Errorf("%+v", n)
	}
	if client.MaxWait != bridge.MaxWait {
		t.Errorf("the client's longest wait is %s, the bridge's %s", client.MaxWait, bridge.MaxWait)
	}
	// A reply that waits for the ack: the client has both handled and acked it.
	r := visit("msg_1")
	r.WaitFor = client.StatusAcked
	result, err := publisher.Publish(t.Context(), r)
	if err != nil || result.ID != "msg_1" || result.Status != client.StatusAcked || result.Sessions != 1 || result.Duplicate || result.Expires.Before(time.Now()) {
		t.Errorf("%+v, %v", result, err)
	}
	cursor := arrived("msg_1").Cursor
	if result, err = publisher.Publish(t.Context(), visit("msg_1")); err != nil || !result.Duplicate {
		t.Errorf("%+v, %v", result, err)
	}
	other := visit("msg_1")
	other.Type = "visit.other"
	var refused *client.ProblemError
	if _, err = publisher.Publish(t.Context(), other); !errors.As(err, &refused) || refused.Problem.Code != wire.CodeIDConflict {
		t.Errorf("got %v", err)
	}
	expect.NoError(t, stop())

	// What was published while it was away comes once it resumes.
	bad := visit("msg_3")
	bad.Type = "no type"
	results, err := publisher.PublishBatch(t.Context(), []client.PublishRequest{visit("msg_2"), bad, visit("msg_4")})
	if err != nil || results[0].Status != client.StatusQueued || results[1].Problem == nil || results[1].Problem.Code != wire.CodeInvalidEvent || results[2].ID != "msg_4" {
		t.Fatalf("%+v, %v", results, err)
	}
	options.Cursor = cursor
	var kept []string
	options.SaveCursor = func(cursor string) error { kept = append(kept, cursor); return nil }
	stop = run(options)
	if n, ok := (<-notices).(client.Connected); !ok || !n.Resumed || n.Pending != 2 {
		t.Errorf("%+v", n)
	}
	arrived("msg_2")
	e := arrived("msg_4")
	if !e.Replay {
		t.Errorf("%+v", e)
	}
	expect.NoError(t, stop())
	if len(kept) == 0 || kept[len(kept)-1] != e.Cursor {
		t.Errorf("kept %q, want %s at last", kept, e.Cursor)
	}

	// A cursor that is none is a gap, after which comes all that is held; the plain mode has
	// the same events.
	options.Cursor, options.SaveCursor = "of.nobody", nil
	stop = run(options)
	<-notices
	if n, ok := (<-notices).(client.Gap); !ok || n.Cursor == "" || n.Reason == "" {
		t.Errorf("%+v", n)
	}
	arrived("msg_1")
	expect.NoError(t, stop())
	options.Cursor, options.Plain = "", true
	for len(events) > 0 {
		<-events
	}
	stop = run(options)
	if _, err = publisher.Publish(t.Context(), visit("msg_5")); err != nil {
		t.Fatal(err)
	}
	arrived("msg_5")
	expect.NoError(t, stop())

	options.Plain, options.Token = false, token(t, patient1, -time.Hour, "")
	subscriber, err := client.NewSubscriber(options)
	expect.NoError(t, err)
	var closed *client.CloseError
	if err := subscriber.Run(t.Context()); !errors.As(err, &closed) || closed.Code != wire.CloseUnauthorized || !strings.Contains(fmt.Sprint(err), "expired") {
		t.Errorf("got %v", err)
	}
}
