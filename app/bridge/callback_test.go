package bridge

import (
	"testing"
	"time"
)

func TestCallback(t *testing.T) {
	at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	timer := Timer{User: "patient-42", EventID: "msg_1", EventType: "patient.added", After: 2 * time.Minute}
	for name, c := range map[string]struct {
		got  Callback
		want string
	}{
		"event.acked": {AckedCallback("clinic", "patient-42", "ses_8H", "msg_1", "patient.added", at),
			`{"type":"event.acked","timestamp":"2026-11-26T10:00:00Z","data":{"id":"msg_1","type":"patient.added","user":"patient-42","session":"ses_8H","ackedAt":"2026-11-26T10:00:00Z"}}`},
		"event.unacked": {UnackedCallback("clinic", timer, StatusQueued, at),
			`{"type":"event.unacked","timestamp":"2026-11-26T10:00:00Z","data":{"id":"msg_1","type":"patient.added","user":"patient-42","afterSeconds":120,"state":"queued"}}`},
		"event.expired": {ExpiredCallback("clinic", timer, at),
			`{"type":"event.expired","timestamp":"2026-11-26T10:00:00Z","data":{"id":"msg_1","type":"patient.added","user":"patient-42"}}`},
		"user.online": {OnlineCallback("clinic", "patient-42", 1, at),
			`{"type":"user.online","timestamp":"2026-11-26T10:00:00Z","data":{"user":"patient-42","sessions":1}}`},
		"user.offline": {OfflineCallback("clinic", Timer{User: "patient-42"}, at, at.Add(10*time.Second)),
			`{"type":"user.offline","timestamp":"2026-11-26T10:00:10Z","data":{"user":"patient-42","lastSeen":"2026-11-26T10:00:00Z"}}`},
		"message.sent": {SentCallback("clinic", "patient-42", "ses_8H", "msg_9", "visit.confirmed", []byte(`{ "a":1}`), at),
			`{"type":"message.sent","timestamp":"2026-11-26T10:00:00Z","data":{"from":"patient-42","session":"ses_8H","id":"msg_9","event":{"type":"visit.confirmed","data":{ "a":1}}}}`},
		"message.sent, over HTTP, without data": {SentCallback("clinic", "patient-42", "", "msg_9", "visit.confirmed", nil, at),
			`{"type":"message.sent","timestamp":"2026-11-26T10:00:00Z","data":{"from":"patient-42","id":"msg_9","event":{"type":"visit.confirmed"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if string(c.got.Body) != c.want {
				t.Errorf("\n got %s\nwant %s", c.got.Body, c.want)
			}
		})
	}
	a, b := ExpiredCallback("clinic", timer, at), ExpiredCallback("clinic", timer, at.Add(time.Second))
	if a.ID != b.ID || a.ID == ExpiredCallback("other", timer, at).ID || a.ID == UnackedCallback("clinic", timer, StatusQueued, at).ID {
		t.Error("an id is made of the backend and the cause, and of nothing else")
	}
}
