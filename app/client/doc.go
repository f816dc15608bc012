// Package client is a Go client of a Hookbridge: a Subscriber receives the
// events of one user over a WebSocket, a Publisher sends signed events as a backend
// does, and a Caller sends and asks what a user has for a backend.
//
// A Subscriber connects, resumes after its cursor, acks what was handled,
// renews its token and connects again when a connection ends, as the bridge's
// protocol asks of clients. Each event is delivered at least once and in order;
// repeats are dropped by event id as long as the Subscriber lives.
//
//	s, err := client.NewSubscriber(client.SubscriberOptions{
//		URL:   "https://bridge.example",
//		Token: token,
//		OnEvent: func(ctx context.Context, e client.Event) error {
//			return store(e) // an event is acked once OnEvent has returned nil
//		},
//	})
//	if err != nil {
//		return err
//	}
//	return s.Run(ctx)
//
// A Publisher signs each event (Standard Webhooks 1.0) and tries again, with the
// same id, until the bridge has stored it.
//
//	p, err := client.NewPublisher(client.PublisherOptions{URL: "https://bridge.example", Secret: secret})
//	if err != nil {
//		return err
//	}
//	result, err := p.Publish(ctx, client.PublishRequest{
//		Type: "patient.added",
//		To:   client.Target{User: "patient-42"},
//		Data: json.RawMessage(`{"message":"Dr. Silva added you"}`),
//	})
//
// A Caller sends to a backend what the bridge then keeps until the backend has it, and
// asks a backend and waits for its answer.
//
//	c, err := client.NewCaller(client.CallerOptions{URL: "https://bridge.example", Token: token})
//	if err != nil {
//		return err
//	}
//	id, err := c.SendToBackend(ctx, "visit-7", client.BackendEvent{Type: "visit.confirmed"})
//	slots, err := c.Request(ctx, client.BackendEvent{Type: "slots.list"}, 0)
//
// The package prints and logs nothing: what happens to a connection is told to
// OnNotice, and failed tries to OnRetry.
package client
