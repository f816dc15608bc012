package callback

import (
	"net/http/httptest"
	"testing"
	"time"

	"hookbridge/app/callback/receiver"
)

func TestReceiver(t *testing.T) {
	t.Run("takes what the sender sends", receiverAgrees)
}

// The developers' receiver and the sender agree, over plain HTTP on loopback.
func receiverAgrees(t *testing.T) {
	got := make(chan receiver.Received, 2)
	r, err := receiver.New(receiver.Options{
		Secrets: []string{secret('a')}, OnReceived: func(r receiver.Received) { got <- r }, OnProblem: func(err error) { t.Error(err) },
		Answer: func() ([]byte, error) { return []byte(`{"slots":[9]}`), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	defer server.Close()
	s, _ := sender(t, backend("default", server.URL))
	defer stop(s)
	o := newOutbox()
	o.post("default", "msg_1")
	s.Start(o)
	if c := <-got; c.ID != "msg_1" || c.Type != "event.acked" {
		t.Errorf("%+v", c)
	}
	status, body, err := s.Request(t.Context(), "default", "msg_2", []byte(`{"type":"request","data":{}}`), 10*time.Second)
	if c := <-got; status != 200 || string(body) != `{"slots":[9]}` || err != nil || c.ID != "msg_2" || c.Type != "request" {
		t.Errorf("%d %s %v %+v", status, body, err, c)
	}
}
