// Package client is a Go client of a Hookbridge: a Subscriber receives the
// events of one user over a WebSocket, and a Publisher sends signed events as a
// backend does.
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
// The package prints and logs nothing: what happens to a connection is told to
// OnNotice, and failed tries to OnRetry.
package client
