package soak

import (
	"testing"
)

func checkerOfTries(t *testing.T) {
	try := func(s *script, from, to int, taken bool) {
		s.at(from)
		c := &Callback{ID: "cb", Type: "message.sent", Event: "e0", Of: sentType, User: "u", Data: `{"n":0}`, Taken: taken}
		ended := s.History.called(c)
		s.at(to)
		ended()
	}
	for name, c := range map[string]struct {
		want string
		make func(s *script)
	}{
		"refused, and then taken": {"", func(s *script) {
			try(s, 1000, 1001, false)
			try(s, 6000, 6001, true)
		}},
		"taken, and tried again": {"callback tried again", func(s *script) {
			try(s, 1000, 1001, true)
			try(s, 6000, 6001, true)
		}},
		"taken, and the machine was killed": {"", func(s *script) {
			try(s, 1000, 1001, true)
			s.fault("kill", 1002, 1500)
			try(s, 46_000, 46_001, true)
		}},
		"taken, and a machine was killed later": {"callback tried again", func(s *script) {
			try(s, 1000, 1001, true)
			s.fault("kill", 20_000, 20_500)
			try(s, 46_000, 46_001, true)
		}},
		"taken, and the store forgot it": {"", func(s *script) {
			try(s, 1000, 1001, true)
			s.rewinds(900, 20_000)
			try(s, 46_000, 46_001, true)
		}},
		"two tries at once": {"callback tried twice at once", func(s *script) {
			s.at(1000)
			first := s.History.called(&Callback{ID: "cb", Type: "message.sent", Event: "e0", Of: sentType, User: "u", Data: `{"n":0}`})
			try(s, 1100, 1101, true)
			s.at(1200)
			first()
		}},
		"two tries at once, after a machine stood still": {"", func(s *script) {
			s.fault("stoplong", 100, 900)
			s.at(1000)
			first := s.History.called(&Callback{ID: "cb", Type: "message.sent", Event: "e0", Of: sentType, User: "u", Data: `{"n":0}`})
			try(s, 1100, 1101, true)
			s.at(1200)
			first()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			s.event(&Event{From: "u", To: Target{Backend: true}, TTL: Forever}, 10, 20, ok("queued", 0))
			s.Events[0].ID = "e0"
			c.make(s)
			wantFindings(t, s, c.want)
		})
	}
}
