package contract_test

import (
	"testing"
	"time"

	"hookbridge/app/bridge"
)

func TestCallbacks(t *testing.T) {
	t.Run("fit the contract", callbacksFit)
}

func callbacksFit(t *testing.T) {
	k := checker(t)
	at := time.Date(2026, 11, 26, 10, 0, 0, 5, time.UTC)
	timer := bridge.Timer{User: "u", EventID: "lab.msg_1", EventType: "patient.added", After: time.Minute}
	for _, c := range []bridge.Callback{
		bridge.AckedCallback("clinic", "u", "ses_1", "msg_1", "patient.added", at),
		bridge.AckedCallback("clinic", "u", "", "msg_1", "patient.added", at),
		bridge.UnackedCallback("clinic", timer, bridge.StatusReceived, at),
		bridge.ExpiredCallback("clinic", timer, at),
		bridge.OnlineCallback("clinic", "u", 1, at),
		bridge.OfflineCallback("clinic", bridge.Timer{User: "u", Due: at}, at, at),
		bridge.SentCallback("clinic", "u", "ses_1", "msg_1", "visit.confirmed", []byte(`[1]`), at),
		bridge.SentCallback("clinic", "u", "", "msg_1", "visit.confirmed", nil, at),
	} {
		if err := k.Webhook(c.Body); err != nil {
			t.Errorf("%s: %v", c.Body, err)
		}
	}
	for _, wrong := range []string{
		`{"type":"event.acked","timestamp":"2026-11-26T10:00:00Z","data":{"id":"msg_1","type":"a","user":"u","ackedAt":"2026-11-26T10:00:00Z","payload":1}}`,
		`{"type":"event.unacked","timestamp":"2026-11-26T10:00:00Z","data":{"id":"msg_1","type":"a","user":"u","afterSeconds":60,"state":"acked"}}`,
		`{"type":"user.away","timestamp":"2026-11-26T10:00:00Z","data":{"user":"u"}}`,
	} {
		if k.Webhook([]byte(wrong)) == nil {
			t.Errorf("%s fits", wrong)
		}
	}
}
