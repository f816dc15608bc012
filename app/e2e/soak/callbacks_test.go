package soak

import (
	"fmt"
	"testing"
	"time"
)

// toBackend is a send to the backend that was made at one moment and answered at another.
func (s *script) toBackend(user string, from, to int, answer Attempt) *Event {
	return s.event(&Event{From: user, To: Target{Backend: true}, TTL: Forever}, from, to, answer)
}

// called is a try of a callback that the backend took. A process was killed before it
// was tried again.
func (s *script) called(t *testing.T, ms int, id, body string) {
	t.Helper()
	c, err := parseCallback(id, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	s.at(ms)
	for _, before := range s.Callbacks {
		if before.ID == id {
			s.fault("kill", int(before.At/time.Millisecond), ms)
		}
	}
	c.Taken = true
	s.History.called(c)()
}

// heardOf is the callback of a send.
func (s *script) heardOf(t *testing.T, ms int, e *Event) {
	t.Helper()
	s.called(t, ms, "cb-"+e.ID, sentBody(e, e.From, e.Data, s.stamp(0)))
}

// refused is a try of it that the backend did not take.
func (s *script) refused(t *testing.T, ms int, e *Event) {
	t.Helper()
	s.heardOf(t, ms, e)
	s.Callbacks[len(s.Callbacks)-1].Taken = false
	delete(s.Heard, e.N)
}

func sentBody(e *Event, from, data, at string) string {
	return fmt.Sprintf(`{"type":"message.sent","timestamp":%q,"data":{"from":%q,"session":"s","id":%q,"event":{"type":%q,"data":%s}}}`, at, from, e.ID, sentType, data)
}

// about is the callback of an event and a user, caused when it came.
func (s *script) about(t *testing.T, ms int, what, id, user string) {
	t.Helper()
	s.caused(t, ms, ms, what, id, user)
}

// caused is one that was caused at another moment.
func (s *script) caused(t *testing.T, caused, ms int, what, id, user string) {
	t.Helper()
	s.called(t, ms, "cb-"+what+id+user, fmt.Sprintf(`{"type":%q,"timestamp":%q,"data":{"id":%q,"type":%q,"user":%q}}`, what, s.stamp(caused), id, eventType, user))
}

// stamp is a moment as a timestamp.
func (s *script) stamp(ms int) string {
	return s.Began.Add(time.Duration(ms) * time.Millisecond).Format(time.RFC3339Nano)
}

func (s *script) rewinds(kept, at int) {
	s.at(at)
	done := s.rewound(time.Duration(kept)*time.Millisecond, time.Duration(kept+1)*time.Millisecond)
	s.at(at + 1)
	done()
}

func checkerOfSends(t *testing.T) {
	queued := ok("queued", 0)
	for name, c := range map[string]struct {
		want string
		make func(t *testing.T, s *script)
	}{
		"heard": {"", func(t *testing.T, s *script) { s.heardOf(t, 30, s.toBackend("u", 10, 20, queued)) }},
		"heard before the answer, and again": {"", func(t *testing.T, s *script) {
			e := s.toBackend("u", 10, 20, queued)
			s.heardOf(t, 15, e)
			s.heardOf(t, 5000, e)
		}},
		"lost":         {"callback lost", func(t *testing.T, s *script) { s.toBackend("u", 10, 20, queued) }},
		"not answered": {"", func(t *testing.T, s *script) { s.toBackend("u", 10, 20, Attempt{}) }},
		"refused":      {"", func(t *testing.T, s *script) { s.toBackend("u", 10, 20, Attempt{Code: 503}) }},
		"lost in a rewind": {"", func(t *testing.T, s *script) {
			s.toBackend("u", 10, 20, queued)
			s.rewinds(5, 30)
		}},
		"lost though the copy has it": {"callback lost", func(t *testing.T, s *script) {
			s.toBackend("u", 10, 20, queued)
			s.rewinds(25, 30)
		}},
		"erased": {"", func(t *testing.T, s *script) {
			s.toBackend("u", 10, 20, queued)
			s.Finish(s.Erase("u"))
		}},
		"another was erased": {"callback lost", func(t *testing.T, s *script) {
			s.toBackend("u", 10, 20, queued)
			s.Finish(s.Erase("v"))
		}},
		"nobody sent it": {"callback for nothing", func(t *testing.T, s *script) {
			s.called(t, 30, "cb", sentBody(&Event{ID: "e7"}, "u", `{"n":7}`, s.stamp(0)))
		}},
		"other data": {"callback for nothing", func(t *testing.T, s *script) {
			e := s.toBackend("u", 10, 20, queued)
			s.called(t, 30, "cb", sentBody(e, "u", `{"n": 0}`, s.stamp(0)))
		}},
		"another user": {"callback for nothing", func(t *testing.T, s *script) {
			e := s.toBackend("u", 10, 20, queued)
			s.called(t, 30, "cb", sentBody(e, "v", e.Data, s.stamp(0)))
		}},
		"what went to a user": {"callback for nothing", func(t *testing.T, s *script) {
			e := s.event(&Event{From: "u", To: Target{User: "v"}, TTL: Forever}, 10, 20, queued)
			s.heardOf(t, 30, e)
		}},
		"one id, two bodies": {"callback altered", func(t *testing.T, s *script) {
			e := s.toBackend("u", 10, 20, queued)
			s.heardOf(t, 30, e)
			s.called(t, 40, "cb-"+e.ID, sentBody(e, "u", e.Data, s.stamp(9)))
		}},
		"another time of what was sent again": {"", func(t *testing.T, s *script) {
			e := s.toBackend("u", 10, 20, Attempt{})
			s.heardOf(t, 30, e)
			s.again(e, 35, 38, queued)
			s.called(t, 40, "cb-"+e.ID, sentBody(e, "u", e.Data, s.stamp(9)))
		}},
		"another event of what was sent again": {"callback altered", func(t *testing.T, s *script) {
			e := s.toBackend("u", 10, 20, Attempt{})
			s.heardOf(t, 30, e)
			s.again(e, 35, 38, queued)
			s.called(t, 40, "cb-"+e.ID, sentBody(e, "u", `{"n":0, "x":1}`, s.stamp(9)))
		}},
		"another time after a rewind": {"", func(t *testing.T, s *script) {
			e := s.toBackend("u", 10, 20, queued)
			s.heardOf(t, 30, e)
			s.rewinds(5, 32)
			s.called(t, 40, "cb-"+e.ID, sentBody(e, "u", e.Data, s.stamp(9)))
		}},
		"out of order": {"callbacks out of order", func(t *testing.T, s *script) {
			a, b := s.toBackend("u", 10, 20, queued), s.toBackend("u", 30, 40, queued)
			s.heardOf(t, 50, b)
			s.heardOf(t, 60, a)
		}},
		"far out of order": {"callbacks out of order", func(t *testing.T, s *script) {
			a, b, c := s.toBackend("u", 10, 20, queued), s.toBackend("u", 15, 35, queued), s.toBackend("u", 30, 40, queued)
			s.heardOf(t, 50, c)
			s.heardOf(t, 60, b)
			s.heardOf(t, 70, a)
		}},
		"in order, and the first is refused once": {"callbacks out of order", func(t *testing.T, s *script) {
			a, b := s.toBackend("u", 10, 20, queued), s.toBackend("u", 30, 40, queued)
			s.refused(t, 50, a)
			s.heardOf(t, 60, b)
			s.heardOf(t, 70, a)
		}},
		"in order, and the second is given too early once": {"callbacks out of order", func(t *testing.T, s *script) {
			a, b := s.toBackend("u", 10, 20, queued), s.toBackend("u", 30, 40, queued)
			s.refused(t, 50, b)
			s.heardOf(t, 60, a)
			s.heardOf(t, 70, b)
		}},
		"refused, and never given again": {"callback lost", func(t *testing.T, s *script) {
			s.refused(t, 30, s.toBackend("u", 10, 20, queued))
		}},
		"in order, and the first once more": {"", func(t *testing.T, s *script) {
			a, b := s.toBackend("u", 10, 20, queued), s.toBackend("u", 30, 40, queued)
			s.heardOf(t, 50, a)
			s.heardOf(t, 60, b)
			s.heardOf(t, 70, a)
		}},
		"at once, in any order": {"", func(t *testing.T, s *script) {
			a, b := s.toBackend("u", 10, 35, queued), s.toBackend("u", 30, 40, queued)
			s.heardOf(t, 50, b)
			s.heardOf(t, 60, a)
		}},
		"another user's, in any order": {"", func(t *testing.T, s *script) {
			a, b := s.toBackend("u", 10, 20, queued), s.toBackend("v", 30, 40, queued)
			s.heardOf(t, 50, b)
			s.heardOf(t, 60, a)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			c.make(t, s)
			wantFindings(t, s, c.want)
		})
	}
}

// An event to all that a store saw again in another life has another place there.
func checkerOfPlaces(t *testing.T) {
	for name, c := range map[string]struct{ acked, want string }{
		"acked at its first place": {"t.0.3.aaaa", ""},
		"not acked":                {"t.0.2.aaaa", "callback for nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			first, second := s.reader("u"), s.reader("u")
			old := s.connected(second, 1, "")
			e := s.event(&Event{To: Target{All: true}, TTL: Forever}, 10, 20, ok("sent", 1))
			s.saw(old, 30, e, "t.0.3.aaaa")
			s.at(40)
			s.acked("u", c.acked)
			s.about(t, 50, "event.acked", e.ID, "u")
			s.left(old, 55)
			s.rewinds(5, 60)
			s.again(e, 70, 80, ok("sent", 1))
			s.saw(s.connected(first, 65, ""), 90, e, "t.0.9.bbbb")
			wantFindings(t, s, c.want)
		})
	}
}

func checkerOfCallbacks(t *testing.T) {
	for name, c := range map[string]struct {
		want string
		make func(t *testing.T, s *script, c *Conn, e *Event) // an event that escalates after a second, seen
	}{
		"acked": {"", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.acked("u", "t.1.0")
			s.about(t, 50, "event.acked", e.ID, "u")
		}},
		"acked by nobody": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.about(t, 50, "event.acked", e.ID, "u")
		}},
		"acked too late for that": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.about(t, 50, "event.acked", e.ID, "u")
			s.at(60)
			s.acked("u", "t.1.0")
		}},
		"another was acked": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.acked("u", "t.0.0")
			s.about(t, 50, "event.acked", e.ID, "u")
		}},
		"acked by nobody, as the erased store has it": {"", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.Finish(s.Erase("u"))
			s.about(t, 50, "event.acked", e.ID, "u")
		}},
		"acked by another": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.acked("v", "t.1.0")
			s.about(t, 50, "event.acked", e.ID, "v")
		}},
		"no event": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.about(t, 50, "event.acked", "nothing", "u")
		}},
		"unacked": {"", func(t *testing.T, s *script, c *Conn, e *Event) { s.about(t, 2000, "event.unacked", e.ID, "u") }},
		"unacked too early": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.about(t, 800, "event.unacked", e.ID, "u")
		}},
		"unacked, and not asked for": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			e.Escalate = 0
			s.about(t, 2000, "event.unacked", e.ID, "u")
		}},
		"unacked, and acked without an answer": {"", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.acked("u", "t.1.0")
			s.about(t, 2000, "event.unacked", e.ID, "u")
		}},
		"unacked after the answer to an ack": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.acked("u", "t.1.0")()
			s.about(t, 2000, "event.unacked", e.ID, "u")
		}},
		"unacked after the answer to an ack that was rewound": {"", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.acked("u", "t.1.0")()
			s.rewinds(35, 100)
			s.about(t, 2000, "event.unacked", e.ID, "u")
		}},
		"unacked before an ack that came late": {"", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.at(990)
			s.acked("u", "t.1.0")()
			s.caused(t, 1010, 2000, "event.unacked", e.ID, "u")
		}},
		"unacked after event.acked": {"callback for nothing, callbacks contradict", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.acked("u", "t.1.0")
			s.about(t, 60, "event.acked", e.ID, "u")
			s.about(t, 2000, "event.unacked", e.ID, "u")
		}},
		"unacked after a reply that it was acked": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.acked("u", "t.1.0")
			s.again(e, 60, 70, Attempt{Code: 202, Status: "acked", Sessions: 1, Duplicate: true})
			s.about(t, 2000, "event.unacked", e.ID, "u")
		}},
		"unacked after a recall": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.Finish(s.Recall(e))
			s.about(t, 2000, "event.unacked", e.ID, "u")
		}},
		"expired, and kept": {"callback for nothing", func(t *testing.T, s *script, c *Conn, e *Event) {
			s.about(t, 2000, "event.expired", e.ID, "u")
		}},
		"expired": {"", func(t *testing.T, s *script, c *Conn, e *Event) {
			e.TTL = time.Second
			s.about(t, 2000, "event.expired", e.ID, "u")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			conn := s.connected(s.reader("u"), 1, "")
			e := s.event(&Event{To: Target{User: "u"}, TTL: Forever, Escalate: time.Second}, 10, 20, ok("sent", 1))
			s.saw(conn, 30, e, "t.1.0")
			s.at(40)
			c.make(t, s, conn, e)
			wantFindings(t, s, c.want)
		})
	}
}
