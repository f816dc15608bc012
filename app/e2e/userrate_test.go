package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"hookbridge/app/server"
)

func TestUserRate(t *testing.T) {
	t.Run("counts events, and the session stays", userRateOfEvents)
	t.Run("counts bytes", userRateOfBytes)
}

func userRateOfEvents(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.UserRate, s.DefaultTTL = 0.01, time.Hour }) // one at once
	sender := token(t, "doctor-7", time.Hour, `{"send":["*"]}`)
	s := w.connectAs(sender, "")
	send := func(s *session, ref, event string) frame {
		s.sendRaw(fmt.Sprintf(`{"type":"send","ref":%q,"to":{"user":"patient-1"},"event":%s}`, ref, event))
		return s.next()
	}
	for _, ttl := range []string{"3601", "31536000"} { // refused before it counts
		f := send(s, "long", `{"type":"t","ttl":`+ttl+`}`)
		if f.Type != "error" || f.Ref != "long" || f.Problem.Code != "invalid_frame" || !strings.Contains(f.Problem.Detail, "3600") {
			t.Errorf("ttl %s: %s", ttl, f.Raw)
		}
	}
	if f := send(s, "a", `{"type":"t","ttl":3600}`); f.Type != "result" || f.Ref != "a" {
		t.Fatalf("%s", f.Raw)
	}
	if f := send(s, "b", `{"type":"t"}`); f.Type != "error" || f.Ref != "b" || f.Problem.Code != "rate_limited" || f.Problem.Status != 429 {
		t.Errorf("%s", f.Raw)
	}
	s.settle() // it is still there
	other := w.connectAs(sender, "")
	if f := send(other, "c", `{"type":"t"}`); f.Type != "error" || f.Problem.Code != "rate_limited" {
		t.Errorf("over another session of the user: %s", f.Raw)
	}
	if f := send(w.connectAs(token(t, "doctor-8", time.Hour, `{"send":["*"]}`), ""), "d", `{"type":"t"}`); f.Type != "result" {
		t.Errorf("another user: %s", f.Raw)
	}
	toBackend := token(t, "doctor-7", time.Hour, `{"backend":["*"]}`)
	for path, body := range map[string]string{"/v1/sends": `{"to":{"backend":true},"event":{"type":"t"}}`, "/v1/requests": `{"event":{"type":"t"}}`} {
		a := w.callAs(toBackend, http.MethodPost, path, body)
		if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); a.HTTP != 429 || a.Code != "rate_limited" || err != nil || wait < 50 || wait > 100 {
			t.Errorf("%s: %d %s, again after %q s", path, a.HTTP, a.Raw, a.Header.Get("Retry-After"))
		}
	}
	plain := w.plain(sender)
	plain.sendRaw(`{"toUserId":"patient-1","message":"hello"}`)
	if f := plain.next(); f.Type != "error" || f.Problem.Code != "rate_limited" {
		t.Errorf("in plain mode: %s", f.Raw)
	}
	w.fireTo("doctor-7", 3) // and is still there
	for f := plain.next(); f.Type != "test.event"; f = plain.next() {
		if f.Type == "error" || f.Type == "" {
			t.Fatalf("%s", f.Raw)
		}
	}
}

func userRateOfBytes(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.UserBytes = 10_000 })
	s := w.connectAs(token(t, "doctor-7", time.Hour, `{"send":["*"]}`), "")
	blob := strings.Repeat("x", 30_000)
	var got []string
	for i := range 3 {
		s.sendRaw(fmt.Sprintf(`{"type":"send","ref":"r%d","to":{"user":"patient-1"},"event":{"type":"t","data":%q}}`, i, blob))
		f := s.next()
		got = append(got, f.Type+f.Problem.Code)
	}
	if g := strings.Join(got, " "); g != "result errorrate_limited errorrate_limited" {
		t.Errorf("%s", g)
	}
}
