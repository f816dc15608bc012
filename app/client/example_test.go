package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/fasthttp/websocket"

	"hookbridge/app/client"
	"hookbridge/app/wire"
	"hookbridge/auth/authtest"
)

func ExampleSubscriber() {
	bridge := exampleBridge()
	defer bridge.Close()

	s, err := client.NewSubscriber(client.SubscriberOptions{
		URL:   bridge.URL,
		Token: "the user's token",
		OnEvent: func(_ context.Context, e client.Event) error {
			fmt.Printf("%s: %s\n", e.Type, e.Data)
			return nil // and now it is acked
		},
		OnNotice: func(n client.Notice) {
			if gap, ok := n.(client.Gap); ok {
				fmt.Println("load what may be missing:", gap.Reason)
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := s.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// load what may be missing: expired
	// patient.added: {"message":"Dr. Silva added you"}
}

func ExamplePublisher() {
	bridge := exampleBridge()
	defer bridge.Close()

	p, err := client.NewPublisher(client.PublisherOptions{URL: bridge.URL, Secret: authtest.NewWebhookSecret()})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := p.Publish(context.Background(), client.PublishRequest{
		Type: "patient.added",
		To:   client.Target{User: "patient-42"},
		Data: json.RawMessage(`{"message":"Dr. Silva added you"}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Status)
	// Output: queued
}

// exampleBridge queues each event, has two frames for whoever connects, and signs
// them out after their ack.
func exampleBridge() *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhooks/events", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"id":"msg_1","status":"queued"}`)
	})
	up := websocket.Upgrader{Subprotocols: []string{wire.Subprotocol}}
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			panic(err)
		}
		defer c.Close()
		for _, frame := range []string{
			`{"type":"connected","session":"ses_1","user":"patient-42","cursor":"a.1"}`,
			`{"type":"gap","cursor":"a.7","reason":"expired"}`,
			`{"type":"event","cursor":"a.8","event":{"id":"msg_1","type":"patient.added","timestamp":"2026-11-22T20:36:00Z","data":{"message":"Dr. Silva added you"}}}`,
		} {
			if err := c.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
				panic(err)
			}
		}
		for range 2 { // connect and ack
			if _, _, err := c.ReadMessage(); err != nil {
				panic(err)
			}
		}
		if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(int(wire.CloseNormal), "")); err != nil {
			panic(err)
		}
		_, _, _ = c.ReadMessage() // the client's close frame
	})
	return httptest.NewServer(mux)
}
