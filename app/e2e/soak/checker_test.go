package soak

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestChecker(t *testing.T) {
	t.Run("finds what is broken", checkerFindsBroken)
	t.Run("finds lies", checkerFindsLies)
	t.Run("holds callbacks to their sends", checkerOfSends)
	t.Run("holds callbacks to what happened", checkerOfCallbacks)
	t.Run("finds an acked event at its place", checkerOfPlaces)
	t.Run("wants each outcome of an event told", checkerOfOutcomes)
	t.Run("wants an outcome of each recipient", checkerOfRecipients)
	t.Run("holds tries to one at a time", checkerOfTries)
	t.Run("holds presence to who was there", checkerOfPresence)
	t.Run("does not count short breaks", checkerOfShortBreaks)
	t.Run("knows what a rewind may take", checkerOfRewinds)
	t.Run("counts what is lost twice as lost", checkerOfLostTwice)
	t.Run("owes a fresh device what nobody has acked", checkerOfFreshDevice)
	t.Run("counts an unanswered repeat for the members of its time", checkerOfRepeats)
}

// script writes a history by hand; its clock is in milliseconds.
type script struct {
	*History
	now Moment
}

func newScript() *script {
	s := &script{History: NewHistory()}
	s.Exact = true
	s.History.Now = func() Moment { return s.now }
	return s
}

func (s *script) at(ms int) { s.now = time.Duration(ms) * time.Millisecond }

// sent is an event to a user that was sent at one moment and answered at another.
func (s *script) sent(user string, from, to int, answer Attempt) *Event {
	return s.event(&Event{To: Target{User: user}, TTL: Forever}, from, to, answer)
}

func (s *script) event(e *Event, from, to int, answer Attempt) *Event {
	s.Add(e)
	e.ID, e.Data = fmt.Sprintf("e%d", e.N), fmt.Sprintf(`{"n":%d}`, e.N)
	s.again(e, from, to, answer)
	return e
}

func (s *script) again(e *Event, from, to int, answer Attempt) {
	s.at(from)
	a := s.Try(e)
	s.at(to)
	s.Answered(e, a, e.ID, answer)
}

func (s *script) reader(user string) *Reader {
	return s.NewReader(Reader{Name: fmt.Sprintf("%s/%d", user, len(s.Readers)), User: user, Transport: "websocket"})
}

func (s *script) connected(r *Reader, ms int, after string) *Conn {
	s.at(ms)
	c := s.Dial(r, 0, "t-"+r.Name, after)
	s.heard(c, &frame{Type: "connected"})
	return c
}

func (s *script) saw(c *Conn, ms int, e *Event, cursor string) {
	s.at(ms)
	f := &frame{Type: "event", From: e.From, Cursor: cursor}
	f.Event.ID, f.Event.Data = e.ID, []byte(e.Data)
	s.heard(c, f)
}

func (s *script) gap(c *Conn, ms int, reason, after, cursor string) {
	s.at(ms)
	s.heard(c, &frame{Type: "gap", Reason: reason, After: after, Cursor: cursor})
}

func (s *script) left(c *Conn, ms int) {
	s.at(ms)
	s.ended(c, 0)
}

// ok is a 202.
func ok(status string, sessions int) Attempt {
	return Attempt{Code: 202, Status: status, Sessions: sessions}
}

func checkerFindsBroken(t *testing.T) {
	sent := ok("sent", 1)
	for name, c := range map[string]struct {
		want string // the kind of the one finding; empty for none
		make func(s *script, r *Reader, c *Conn)
	}{
		"all is well": {"", func(s *script, r *Reader, c *Conn) {
			a, b := s.sent("u", 10, 20, sent), s.sent("u", 30, 40, sent)
			s.saw(c, 45, a, "t.1.0")
			s.saw(c, 46, b, "t.2.0")
		}},
		"lost": {"lost", func(s *script, r *Reader, c *Conn) {
			a, b := s.sent("u", 10, 20, sent), s.sent("u", 30, 40, sent)
			_ = a
			s.saw(c, 46, b, "t.2.0")
		}},
		"not answered, and not seen": {"", func(s *script, r *Reader, c *Conn) { s.sent("u", 10, 20, Attempt{}) }},
		"refused, and not seen":      {"", func(s *script, r *Reader, c *Conn) { s.sent("u", 10, 20, Attempt{Code: 503}) }},
		"lost after a reconnect": {"lost", func(s *script, r *Reader, c *Conn) {
			s.saw(c, 25, s.sent("u", 10, 20, sent), "t.1.0")
			s.left(c, 30)
			s.sent("u", 40, 50, ok("queued", 0))
			c = s.connected(r, 60, "t.1.0")
			s.saw(c, 75, s.sent("u", 65, 70, sent), "t.3.0")
		}},
		"expired, and a gap": {"", func(s *script, r *Reader, c *Conn) {
			s.left(c, 5)
			s.event(&Event{To: Target{User: "u"}, TTL: time.Second}, 10, 20, ok("queued", 0))
			s.gap(s.connected(r, 2000, "t.0.0"), 2010, "expired", "t.0.0", "t.1.0")
		}},
		"expired in silence": {"lost", func(s *script, r *Reader, c *Conn) {
			s.left(c, 5)
			s.event(&Event{To: Target{User: "u"}, TTL: time.Second}, 10, 20, ok("queued", 0))
			s.connected(r, 2000, "t.0.0")
		}},
		"a gap that is told too late": {"lost", func(s *script, r *Reader, c *Conn) {
			s.left(c, 5)
			s.event(&Event{To: Target{User: "u"}, TTL: time.Second}, 10, 20, ok("queued", 0))
			c = s.connected(r, 2000, "t.0.0")
			s.saw(c, 2040, s.sent("u", 2020, 2030, sent), "t.2.0")
			s.gap(c, 2050, "expired", "t.2.0", "t.2.0")
		}},
		"a gap for no reason": {"gap without a cause", func(s *script, r *Reader, c *Conn) { s.gap(c, 10, "expired", "t.0.0", "t.0.0") }},
		"a gap as after a rewind, without one": {"gap without a cause", func(s *script, r *Reader, c *Conn) {
			s.gap(c, 10, "rewound", "t.0.0", "t.0.0")
		}},
		"doubled within a connection": {"doubled", func(s *script, r *Reader, c *Conn) {
			a := s.event(&Event{To: Target{User: "u"}}, 10, 20, sent) // without a place
			s.saw(c, 25, a, "t.0.0")
			s.saw(c, 26, a, "t.0.0")
		}},
		"again after a reconnect": {"", func(s *script, r *Reader, c *Conn) {
			a := s.sent("u", 10, 20, sent)
			s.saw(c, 25, a, "t.1.0")
			s.left(c, 30)
			s.saw(s.connected(r, 40, "t.0.0"), 45, a, "t.1.0")
		}},
		"stored twice": {"doubled", func(s *script, r *Reader, c *Conn) {
			a := s.sent("u", 10, 20, sent)
			s.saw(c, 25, a, "t.1.0")
			s.left(c, 30)
			s.saw(s.connected(r, 40, "t.1.0"), 45, a, "t.2.0")
		}},
		"two events in one place": {"doubled", func(s *script, r *Reader, c *Conn) {
			a, b := s.sent("u", 10, 20, sent), s.sent("u", 10, 20, sent)
			s.saw(c, 25, a, "t.1.0")
			s.left(c, 30)
			s.saw(s.connected(r, 40, "t.0.0"), 45, a, "t.1.0")
			s.saw(s.connected(r, 50, "t.0.0"), 55, b, "t.1.0")
		}},
		"taken twice": {"doubled", func(s *script, r *Reader, c *Conn) {
			a := s.sent("u", 10, 20, sent)
			s.again(a, 30, 40, sent)
			s.saw(c, 45, a, "t.1.0")
		}},
		"out of order": {"out of order", func(s *script, r *Reader, c *Conn) {
			r.Transport = "plain"
			a, b := s.sent("u", 10, 20, sent), s.sent("u", 30, 40, sent)
			s.saw(c, 45, b, "")
			s.saw(c, 46, a, "")
		}},
		"at once, in any order": {"", func(s *script, r *Reader, c *Conn) {
			r.Transport = "plain"
			a, b := s.sent("u", 10, 40, sent), s.sent("u", 30, 40, sent)
			s.saw(c, 45, b, "")
			s.saw(c, 46, a, "")
		}},
		"a cursor that goes backwards": {"backwards", func(s *script, r *Reader, c *Conn) {
			a, b := s.sent("u", 10, 40, sent), s.sent("u", 30, 40, sent)
			s.saw(c, 45, b, "t.2.0")
			s.saw(c, 46, a, "t.1.0")
		}},
		"seen by another": {"seen by another", func(s *script, r *Reader, c *Conn) {
			s.saw(c, 45, s.sent("v", 10, 20, ok("queued", 0)), "t.1.0")
		}},
		"seen by one who left the group": {"seen by another", func(s *script, r *Reader, c *Conn) {
			s.at(10)
			in := s.Enroll("u", "g", true)
			s.at(12)
			s.Finish(in)
			s.at(13)
			out := s.Enroll("u", "g", false)
			s.at(14)
			s.Finish(out)
			s.saw(c, 45, s.event(&Event{To: Target{Group: "g"}, TTL: Forever}, 20, 30, sent), "t.1.0")
		}},
		"lost to a member": {"lost", func(s *script, r *Reader, c *Conn) {
			s.at(10)
			in := s.Enroll("u", "g", true)
			s.at(12)
			s.Finish(in)
			s.event(&Event{To: Target{Group: "g"}, TTL: Forever}, 20, 30, ok("queued", 0))
		}},
		"of one who may have left": {"", func(s *script, r *Reader, c *Conn) {
			s.at(10)
			in := s.Enroll("u", "g", true)
			s.at(12)
			s.Finish(in)
			s.Enroll("u", "g", false)
			s.event(&Event{To: Target{Group: "g"}, TTL: Forever}, 20, 30, ok("queued", 0))
		}},
		"altered": {"altered", func(s *script, r *Reader, c *Conn) {
			a := s.sent("u", 10, 20, sent)
			s.at(30)
			f := &frame{Type: "event", Cursor: "t.1.0"}
			f.Event.ID, f.Event.Data = a.ID, []byte(`{"n": 0}`)
			s.heard(c, f)
		}},
		"nobody sent it": {"unknown event", func(s *script, r *Reader, c *Conn) {
			s.at(30)
			f := &frame{Type: "event", Cursor: "t.1.0"}
			f.Event.Data = []byte(`{"n":7}`)
			s.heard(c, f)
		}},
		"recalled, and not seen": {"", func(s *script, r *Reader, c *Conn) {
			op := s.Recall(s.sent("u", 10, 20, ok("queued", 0)))
			s.Finish(op)
		}},
		"recalled, and seen": {"recalled, and seen", func(s *script, r *Reader, c *Conn) {
			s.left(c, 5)
			a := s.sent("u", 10, 20, ok("queued", 0))
			s.at(30)
			s.Finish(s.Recall(a))
			s.saw(s.connected(r, 40, "t.0.0"), 45, a, "t.1.0")
		}},
		"replaced": {"", func(s *script, r *Reader, c *Conn) {
			s.event(&Event{To: Target{User: "u"}, TTL: Forever, Topic: "x"}, 10, 20, ok("queued", 0))
			b := s.event(&Event{To: Target{User: "u"}, TTL: Forever, Topic: "x"}, 30, 40, sent)
			s.left(c, 9)
			s.saw(s.connected(r, 50, "t.0.0"), 55, b, "t.2.0")
		}},
		"the newest of a topic is lost": {"lost", func(s *script, r *Reader, c *Conn) {
			a := s.event(&Event{To: Target{User: "u"}, TTL: Forever, Topic: "x"}, 10, 20, sent)
			s.event(&Event{To: Target{User: "u"}, TTL: Forever, Topic: "x"}, 30, 40, sent)
			s.saw(c, 55, a, "t.1.0")
		}},
		"a revoked token gets in": {"revoked, and let in", func(s *script, r *Reader, c *Conn) {
			s.left(c, 5)
			s.at(10)
			s.Finish(s.Revoke("u", "t-"+r.Name))
			s.left(s.connected(r, 20, "t.0.0"), 30)
		}},
		"a revoked session stays": {"revoked, and still there", func(s *script, r *Reader, c *Conn) {
			s.at(10)
			s.Finish(s.Revoke("u", "t-"+r.Name))
		}},
		"erased": {"", func(s *script, r *Reader, c *Conn) {
			s.sent("u", 10, 20, ok("queued", 0))
			s.at(30)
			s.Finish(s.Erase("u"))
		}},
		"lost after an erasure": {"lost", func(s *script, r *Reader, c *Conn) {
			s.at(30)
			op := s.Erase("u")
			s.at(40)
			s.Finish(op)
			s.connected(r, 50, "t.0.0")
			s.sent("u", 60, 70, ok("queued", 0))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			r := s.reader("u")
			c.make(s, r, s.connected(r, 1, ""))
			wantFindings(t, s, c.want)
		})
	}
}

// wantFindings wants findings of these kinds, with commas between; empty for none.
func wantFindings(t *testing.T, s *script, kinds string) {
	t.Helper()
	s.now += time.Second
	found := Check(s.History)
	var had []string
	for _, f := range found {
		had = append(had, f.Kind)
	}
	slices.Sort(had)
	if strings.Join(slices.Compact(had), ", ") != kinds {
		t.Errorf("wanted %q, found %v", kinds, found)
	}
}
