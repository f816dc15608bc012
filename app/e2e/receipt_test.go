package e2e

import (
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestReceipt(t *testing.T) {
	t.Parallel()
	t.Run("is learnt from the pong of a heartbeat", receiptByPong)
	t.Run("comes with the next heartbeat", receiptByHeartbeat)
}

func receiptByPong(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.connectSlow("patient-1", "")
	pings := make(chan string, 8)
	s.ws.SetPingHandler(func(data string) error {
		pings <- data
		return s.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(expect.Patience))
	})
	a := w.fireTo("patient-1", 1)
	s.want("event")
	// A client may send a pong of its own at any time; one that names the
	// place counts as one that answers.
	expect.NoError(t, s.ws.WriteControl(websocket.PongMessage, []byte("1.0.1"), time.Now().Add(expect.Patience)))
	s.settle()
	if again := w.fire(a.ID, `{"type":"test.event","to":{"user":"patient-1"},"data":{"n":1}}`); again.Status != "received" {
		t.Errorf("%s", again.Raw)
	}
	expect.NoError(t, s.ws.WriteControl(websocket.PongMessage, []byte("999.999.999"), time.Now().Add(expect.Patience)))
	expect.NoError(t, s.ws.WriteControl(websocket.PongMessage, []byte("whatever"), time.Now().Add(expect.Patience)))
	s.settle()
}

func receiptByHeartbeat(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.PingInterval = time.Second })
	s := w.connect("patient-1", "")
	const body = `{"type":"t","to":{"user":"patient-1"},"data":{"n":1}}`
	w.fire("msg_h", body)
	s.want("event")
	expect.Eventually(t, "received", func() bool { return w.fire("msg_h", body).Status == "received" })
}
