package soak

import (
	"testing"
	"time"
)

func checkerOfOutcomes(t *testing.T) {
	kept := Event{TTL: Forever}
	escalates := Event{TTL: Forever, Escalate: time.Second}
	short := Event{TTL: time.Second}
	for name, c := range map[string]struct {
		want  string
		event Event // to u, sent from 10 to 20, seen at 30 over HTTP
		make  func(t *testing.T, s *script, e *Event)
	}{
		"nothing is owed":                 {"", kept, func(*testing.T, *script, *Event) {}},
		"an ack without an answer":        {"", kept, func(t *testing.T, s *script, e *Event) { s.acked("u", "t.1.0") }},
		"an ack that was answered":        {"callback lost", kept, func(t *testing.T, s *script, e *Event) { s.acked("u", "t.1.0")() }},
		"an ack that was answered, later": {"callback lost", kept, func(t *testing.T, s *script, e *Event) { s.acked("u", "t.7.0")() }},
		"an ack of what came before":      {"", kept, func(t *testing.T, s *script, e *Event) { s.acked("u", "t.0.0")() }},
		"an ack of another life":          {"", kept, func(t *testing.T, s *script, e *Event) { s.acked("u", "t.1.0.bbbb")() }},
		"an ack by another":               {"", kept, func(t *testing.T, s *script, e *Event) { s.acked("v", "t.1.0")() }},
		"an ack that was told": {"", kept, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")()
			s.about(t, 60, "event.acked", e.ID, "u")
		}},
		"an ack that was told as another's": {"callback for nothing, callback lost", kept, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")()
			s.about(t, 60, "event.acked", e.ID, "v")
		}},
		"an ack that the store forgot": {"", kept, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")()
			s.rewinds(25, 60)
		}},
		"an ack that the copy has": {"callback lost", kept, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")()
			s.rewinds(55, 60)
		}},
		"an ack, and erased": {"", kept, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")()
			s.Finish(s.Erase("u"))
		}},
		"an ack of what was recalled": {"", kept, func(t *testing.T, s *script, e *Event) {
			s.Recall(e)
			s.acked("u", "t.1.0")()
		}},
		"a reply that it was acked": {"callback lost", kept, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")
			s.again(e, 60, 70, Attempt{Code: 202, Status: "acked", Sessions: 1, Duplicate: true})
		}},
		"an operator sees that it was acked": {"callback lost", kept, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")
			s.looked(e.N, map[string]string{"u": "acked"})
		}},
		"an operator sees that it was received": {"", kept, func(t *testing.T, s *script, e *Event) {
			s.looked(e.N, map[string]string{"u": "received"})
		}},
		"no escalation": {"callback lost", escalates, func(t *testing.T, s *script, e *Event) {}},
		"an escalation": {"", escalates, func(t *testing.T, s *script, e *Event) { s.about(t, 1500, "event.unacked", e.ID, "u") }},
		"an escalation that the backend refused": {"callback lost", escalates, func(t *testing.T, s *script, e *Event) {
			s.about(t, 1500, "event.unacked", e.ID, "u")
			s.Callbacks[0].Taken = false
		}},
		"an escalation, told again": {"", escalates, func(t *testing.T, s *script, e *Event) {
			s.about(t, 1500, "event.unacked", e.ID, "u")
			s.caused(t, 1500, 7000, "event.unacked", e.ID, "u")
		}},
		"an escalation with two ids": {"callback altered", escalates, func(t *testing.T, s *script, e *Event) {
			s.about(t, 1500, "event.unacked", e.ID, "u")
			s.about(t, 1500, "event.unacked", e.ID, "u")
			s.Callbacks[1].ID = "another"
		}},
		"an escalation, too late": {"callback late", escalates, func(t *testing.T, s *script, e *Event) {
			s.online(t, 2)
			s.offline(t, 10_100, 35)
			s.about(t, 70_000, "event.unacked", e.ID, "u")
		}},
		"an escalation, too late, for which something was broken": {"", escalates, func(t *testing.T, s *script, e *Event) {
			s.fault("stoplong", 100, 60_000)
			s.about(t, 70_000, "event.unacked", e.ID, "u")
		}},
		"an escalation that was acked": {"", escalates, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")
			s.about(t, 50, "event.acked", e.ID, "u")
		}},
		"an escalation, then acked": {"", escalates, func(t *testing.T, s *script, e *Event) {
			s.about(t, 1500, "event.unacked", e.ID, "u")
			s.acked("u", "t.1.0")()
			s.about(t, 1600, "event.acked", e.ID, "u")
		}},
		"an escalation at the same time as the ack": {"", escalates, func(t *testing.T, s *script, e *Event) {
			s.at(1000)
			s.acked("u", "t.1.0")
			s.caused(t, 1500, 1600, "event.unacked", e.ID, "u")
			s.caused(t, 1400, 1700, "event.acked", e.ID, "u")
		}},
		"an escalation after the ack": {"callbacks contradict", escalates, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")
			s.caused(t, 2500, 2600, "event.unacked", e.ID, "u")
			s.caused(t, 50, 2700, "event.acked", e.ID, "u")
		}},
		"an escalation of what the store forgot": {"", escalates, func(t *testing.T, s *script, e *Event) { s.rewinds(5, 60) }},
		"an escalation of what was recalled":     {"", escalates, func(t *testing.T, s *script, e *Event) { s.Recall(e) }},
		"no end":                                 {"callback lost", short, func(t *testing.T, s *script, e *Event) {}},
		"an end":                                 {"", short, func(t *testing.T, s *script, e *Event) { s.about(t, 1500, "event.expired", e.ID, "u") }},
		"an end, too late": {"callback late", short, func(t *testing.T, s *script, e *Event) {
			s.online(t, 2)
			s.offline(t, 10_100, 35)
			s.about(t, 70_000, "event.expired", e.ID, "u")
		}},
		"an end before it": {"callback for nothing", short, func(t *testing.T, s *script, e *Event) { s.about(t, 700, "event.expired", e.ID, "u") }},
		"an end after an answered ack": {"callback for nothing, callback lost", short, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")()
			s.about(t, 1500, "event.expired", e.ID, "u")
		}},
		"an end after a recall": {"callback for nothing", short, func(t *testing.T, s *script, e *Event) {
			s.Finish(s.Recall(e))
			s.about(t, 1500, "event.expired", e.ID, "u")
		}},
		"an end, and an ack after it": {"", short, func(t *testing.T, s *script, e *Event) {
			s.at(1200)
			s.acked("u", "t.1.0")()
			s.about(t, 1500, "event.expired", e.ID, "u")
		}},
		"an end, and acked": {"callbacks contradict", short, func(t *testing.T, s *script, e *Event) {
			s.at(990)
			s.acked("u", "t.1.0")
			s.about(t, 995, "event.acked", e.ID, "u")
			s.about(t, 1500, "event.expired", e.ID, "u")
		}},
		"acked before its end": {"", short, func(t *testing.T, s *script, e *Event) {
			s.acked("u", "t.1.0")()
			s.about(t, 60, "event.acked", e.ID, "u")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			s.Told = true
			u := s.reader("u")
			conn := s.connected(u, 1, "")
			e := c.event
			e.To = Target{User: "u"}
			s.event(&e, 10, 20, ok("sent", 1))
			s.saw(conn, 30, &e, "t.1.0")
			s.left(conn, 35)
			s.at(50)
			c.make(t, s, &e)
			wantFindings(t, s, c.want)
		})
	}
}

func checkerOfRecipients(t *testing.T) {
	s := newScript()
	s.Told = true
	s.reader("u")
	s.reader("v")
	e := s.event(&Event{To: Target{Users: []string{"u", "v"}}, TTL: Forever, Escalate: time.Second}, 10, 20, ok("queued", 0))
	s.about(t, 1500, "event.unacked", e.ID, "v")
	if n := s.Unpaid(); n != 1 {
		t.Errorf("%d callbacks are owed, not 1", n)
	}
	wantFindings(t, s, "callback lost")
}
