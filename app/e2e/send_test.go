package e2e

import (
	"strings"
	"testing"
	"time"
)

func TestSend(t *testing.T) {
	t.Parallel()
	t.Run("goes through the same door as a webhook", sendSameDoor)
	t.Run("has a ref that is its user's own", sendRef)
}

func sendSameDoor(t *testing.T) {
	t.Parallel()
	w := start(t)
	doctor := w.connectAs(token(t, "doctor-7", time.Hour, `{"send":["patient-*"]}`), "")
	send := `{"type":"send","ref":"c1","to":{"user":"patient-42"},"event":{"type":"chat.message","data":{"message":"hello"}}}`
	doctor.sendRaw(send)
	r := doctor.want("result")
	if r.Ref != "c1" || r.Status != "queued" || r.Sessions != 0 || r.ID == "" {
		t.Errorf("%s", r.Raw)
	}
	doctor.sendRaw(send)
	if again := doctor.want("result"); again.ID != r.ID || !again.Duplicate {
		t.Errorf("a retry with the same ref: %s", again.Raw)
	}
	doctor.sendRaw(strings.Replace(send, "hello", "goodbye", 1))
	if f := doctor.want("error"); f.Problem.Code != "id_conflict" || f.Problem.Status != 409 {
		t.Errorf("the same ref for another message: %s", f.Raw)
	}
	patient := w.connect("patient-42", "")
	f := patient.want("event")
	if f.From != "doctor-7" || f.Event.ID != r.ID || f.Event.Type != "chat.message" || !f.Replay || compact(t, f.Event.Data) != `{"message":"hello"}` {
		t.Errorf("%s", f.Raw)
	}
	patient.sendRaw(strings.Replace(send, "patient-42", "doctor-7", 1))
	if f := patient.want("error"); f.Problem.Code != "forbidden_target" {
		t.Errorf("a patient without rights: %s", f.Raw)
	}
	doctor.settle()
}

func sendRef(t *testing.T) {
	t.Parallel()
	w := start(t)
	patient := w.connect("patient-1", "")
	seen := make(map[string]bool)
	for _, user := range []string{"doctor-7", "doctor-8"} {
		s := w.connectAs(token(t, user, time.Hour, `{"send":["patient-*"]}`), "")
		s.sendRaw(`{"type":"send","ref":"c1","to":{"user":"patient-1"},"event":{"type":"t","data":1}}`)
		if r := s.want("result"); r.Duplicate || r.Sessions != 1 || seen[r.ID] {
			t.Errorf("%s: %s", user, r.Raw)
		} else {
			seen[r.ID] = true
		}
		if f := patient.want("event"); f.From != user {
			t.Errorf("%s: %s", user, f.Raw)
		}
	}
}
