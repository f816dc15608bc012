package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	t.Run("has one line for each thing that happened", auditHasEach)
}

// auditLine is one line of the audit log.
type auditLine struct {
	Msg, Log, Sender, User, ID, Type, To, Session, Code, What, Act, Outcome, Status, Transport, Cursor, Of string
	TokenID                                                                                                string `json:"token_id"`
	raw                                                                                                    string
}

func auditLines(t *testing.T, path string) []auditLine {
	t.Helper()
	b, err := os.ReadFile(path)
	expect.NoError(t, err)
	var out []auditLine
	for l := range strings.Lines(string(b)) {
		a := auditLine{raw: l}
		expect.NoError(t, json.Unmarshal([]byte(l), &a))
		out = append(out, a)
	}
	return out
}

func auditHasEach(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w := withSenders(t, "", func(s *server.Settings) { s.Audit = path })
	s := w.connect("patient-1", "")
	clinic := w.as(clinicSecret)
	clinic.fire("msg_a", `{"type":"patient.added","to":{"user":"patient-1"},"data":"payload-canary"}`)
	f := s.want("event")
	s.ack(f.Cursor)
	s.send(map[string]string{"type": "seen", "id": "clinic.msg_a"})
	s.send(map[string]any{"type": "send", "ref": "r", "to": map[string]string{"user": "doctor-7"}, "event": map[string]any{"type": "t"}})
	s.want("error")
	clinic.do(clinic.sign("msg_b", `{"type":"patient.added","to":{"user":"doctor-7"}}`, time.Now()))
	bad := clinic.sign("msg_c", `{}`, time.Now())
	bad.Header.Set("webhook-signature", "v1,AAAA")
	w.do(bad)
	w.callAs(token(t, "patient-1", time.Hour, ""), "GET", "/v1/events/clinic.msg_a", "")
	w.done("DELETE", "/v1/events/clinic.msg_a", "")
	s.want("recalled")
	expect.NoError(t, s.ws.Close())
	w.sessions(0)
	w.stop()
	lines := auditLines(t, path)
	count := func(what string, n int, is func(a auditLine) bool) {
		t.Helper()
		got := 0
		for _, a := range lines {
			if is(a) {
				got++
			}
		}
		if got != n {
			t.Errorf("%d lines say that %s, not %d", got, what, n)
		}
	}
	count("a session began", 1, func(a auditLine) bool {
		return a.Msg == "connected" && a.User == "patient-1" && a.Session == s.id && a.TokenID == "jti-patient-1" && a.Transport == "websocket"
	})
	count("an event was accepted", 1, func(a auditLine) bool {
		return a.Msg == "accepted" && a.Sender == "clinic" && a.ID == "clinic.msg_a" && a.Type == "patient.added" && a.To == "patient-1" && a.Status == "sent"
	})
	count("it was delivered", 1, func(a auditLine) bool {
		return a.Msg == "delivered" && a.ID == "clinic.msg_a" && a.Type == "patient.added" && a.User == "patient-1" && a.Session == s.id && a.TokenID == "jti-patient-1"
	})
	count("it was acked", 1, func(a auditLine) bool {
		return a.Msg == "acked" && a.User == "patient-1" && a.Session == s.id && a.Cursor == f.Cursor
	})
	count("it was seen", 1, func(a auditLine) bool { return a.Msg == "seen" && a.ID == "clinic.msg_a" && a.Session == s.id })
	count("a sender was refused", 1, func(a auditLine) bool {
		return a.Msg == "refused" && a.Sender == "clinic" && a.Code == "forbidden_target" && a.ID == "clinic.msg_b"
	})
	count("a signature was refused", 1, func(a auditLine) bool { return a.Msg == "refused" && a.Code == "signature_mismatch" })
	count("a user's send was refused", 1, func(a auditLine) bool {
		return a.Msg == "refused" && a.Code == "forbidden_target" && a.User == "patient-1" && a.Session == s.id
	})
	count("one without the area was refused", 1, func(a auditLine) bool {
		return a.Msg == "refused" && a.Code == "forbidden" && a.User == "patient-1" && a.TokenID == "jti-patient-1"
	})
	count("an operator recalled it", 1, func(a auditLine) bool {
		return a.Msg == "operated" && a.Act == "recall" && a.User == "operator" && a.TokenID == "jti-operator" && a.ID == "clinic.msg_a" && a.Outcome == "done"
	})
	count("the session ended", 1, func(a auditLine) bool { return a.Msg == "ended" && a.Session == s.id })
	for _, a := range lines {
		if a.Log != "audit" || strings.Contains(a.raw, "payload-canary") {
			t.Errorf("%s", a.raw)
		}
	}
}
