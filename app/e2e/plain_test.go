package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"hookbridge/app/expect"
)

func TestPlainMode(t *testing.T) {
	t.Parallel()
	t.Run("works in both directions", plainBothWays)
	t.Run("sends nothing again that was answered for", plainNotAgain)
	t.Run("takes the pongs of many messages for no flood", plainManyPongs)
	t.Run("has one ping to answer at a time", plainOnePing)
	t.Run("refuses a second token with 4400", plainSecondToken)
	t.Run("tells of no recall", plainNoRecall)
}

func plainBothWays(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fire("msg_waited", `{"type":"patient.added","to":{"user":"patient-42"},"data":{"a":1}}`)
	patient := w.plain(token(t, "patient-42", time.Hour, ""))
	f := patient.next()
	if f.ID != "msg_waited" || !strings.HasPrefix(f.Raw, `{"id":"msg_waited","type":"patient.added","timestamp":"`) {
		t.Errorf("what waited, the event object alone: %s", f.Raw)
	}
	expect.Eventually(t, "the pong acks", func() bool {
		return w.fire("msg_waited", `{"type":"patient.added","to":{"user":"patient-42"},"data":{"a":1}}`).Status == "acked"
	})
	doctor, _, err := w.dial(bearer(token(t, "doctor-7", time.Hour, `{"send":["*"]}`)), "")
	expect.NoError(t, err)
	framed := w.connectAs(token(t, "doctor-8", time.Hour, `{"send":["*"]}`), "")
	doctor.sendRaw(`{"toUserId":"patient-42","message":"hello"}`)
	if f = patient.next(); f.Raw != `{"fromUserId":"doctor-7","toUserId":"patient-42","message":"hello"}` {
		t.Errorf("plain to plain: %s", f.Raw)
	}
	doctor.sendRaw(`{"toUserId":"doctor-8","message":"hi"}`)
	if f = framed.want("event"); f.From != "doctor-7" || f.Event.Type != "message" || compact(t, f.Event.Data) != `{"message":"hi"}` {
		t.Errorf("plain to framed: %s", f.Raw)
	}
	framed.sendRaw(`{"type":"send","ref":"1","to":{"user":"patient-42"},"event":{"type":"chat","data":{"message":"from a page"}}}`)
	framed.want("result")
	if f = patient.next(); f.Raw != `{"fromUserId":"doctor-8","toUserId":"patient-42","message":"from a page"}` {
		t.Errorf("framed to plain: %s", f.Raw)
	}
	doctor.sendRaw(`{"toUserId":"*","message":"to all"}`)
	if f = patient.next(); f.Raw != `{"fromUserId":"doctor-7","toUserId":"patient-42","message":"to all"}` {
		t.Errorf("to all: %s", f.Raw)
	}
	patient.sendRaw(`{"toUserId":"doctor-7","message":"no right"}`)
	if f = patient.next(); f.Type != "error" || f.Problem.Code != "forbidden_target" {
		t.Errorf("a refusal: %s", f.Raw)
	}
	patient.sendRaw(`{"message":"nobody"}`)
	if f = patient.next(); f.Problem.Code != "forbidden_target" {
		t.Errorf("to a backend, of which there is none: %s", f.Raw)
	}
	patient.sendRaw(`not json`)
	if code := patient.closed(); code != 4400 {
		t.Errorf("no JSON: %d", code)
	}
	if s := w.plain("nonsense"); s.closed() != 4401 {
		t.Error("a bad token in the first frame")
	}
}

func plainNotAgain(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.plain(token(t, "patient-1", time.Hour, ""))
	w.sessions(1)
	for i := range 20 {
		w.fireTo("patient-1", i)
	}
	for range 20 {
		s.next()
	}
	expect.Eventually(t, "the last one is acked", func() bool {
		return w.fire("msg_000020", `{"type":"test.event","to":{"user":"patient-1"},"data":{"n":19}}`).Status == "acked"
	})
	expect.NoError(t, s.ws.Close())
	w.sessions(0)
	w.fireTo("patient-1", 99)
	again := w.plain(token(t, "patient-1", time.Hour, ""))
	if f := again.next(); !strings.Contains(f.Raw, `"n":99`) {
		t.Errorf("%s", f.Raw)
	}
}

// A plain client answers a ping for nearly every message: those pongs are ours,
// and no flood.
func plainManyPongs(t *testing.T) {
	heavy(t)
	t.Parallel()
	w := start(t)
	s := w.plain(token(t, "patient-1", time.Hour, ""))
	w.sessions(1)
	for i := range 1500 {
		w.fireTo("patient-1", i)
		if f := s.next(); !strings.Contains(f.Raw, fmt.Sprintf(`{"n":%d}`, i)) {
			t.Fatalf("%d: %s", i, f.Raw)
		}
	}
}

func plainOnePing(t *testing.T) {
	t.Parallel()
	w := start(t)
	s, _, err := w.dial(bearer(token(t, "patient-1", time.Hour, "")), "")
	expect.NoError(t, err)
	pings := make(chan string, 16)
	s.ws.SetPingHandler(func(data string) error { pings <- data; return nil })
	s.pump()
	w.sessions(1)
	var ids []string
	for i := range 4 {
		ids = append(ids, w.fireTo("patient-1", i).ID)
		s.next()
	}
	if len(pings) != 1 {
		t.Fatalf("%d pings before the first is answered", len(pings))
	}
	answer := func(data string) {
		expect.NoError(t, s.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(expect.Patience)))
	}
	status := func(i int) any {
		return w.fire(ids[i], fmt.Sprintf(`{"type":"test.event","to":{"user":"patient-1"},"data":{"n":%d}}`, i)).Status
	}
	answer(<-pings)
	second := <-pings // asks for all that came meanwhile
	expect.Eventually(t, "the first is acked", func() bool { return status(0) == "acked" })
	if got := status(3); got != "sent" {
		t.Errorf("the last, whose ping is not answered: %s", got)
	}
	answer(second)
	expect.Eventually(t, "the last is acked", func() bool { return status(3) == "acked" })
}

func plainSecondToken(t *testing.T) {
	t.Parallel()
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	inFrame := w.plain(tok)
	inHeader, _, err := w.dial(bearer(tok), "")
	expect.NoError(t, err)
	for name, s := range map[string]*session{"after a frame": inFrame, "after the handshake": inHeader} {
		s.send(map[string]string{"token": tok})
		if code := s.closed(); code != 4400 {
			t.Errorf("%s: %d", name, code)
		}
	}
}

func plainNoRecall(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.plain(token(t, "patient-1", time.Hour, ""))
	w.sessions(1)
	w.fire("x", `{"type":"t","to":{"user":"patient-1"},"data":1}`)
	if f := s.next(); f.ID != "x" {
		t.Fatalf("%s", f.Raw)
	}
	w.done(http.MethodDelete, "/v1/events/x", "")
	w.fire("y", `{"type":"t","to":{"user":"patient-1"},"data":2}`)
	if f := s.next(); f.ID != "y" {
		t.Errorf("instead of the next event: %s", f.Raw)
	}
}
