package soak

import (
	"testing"
	"time"
)

func checkerFindsLies(t *testing.T) {
	for name, c := range map[string]struct {
		lies bool
		make func(s *script, r *Reader, c *Conn)
	}{
		"acked, and so it was": {false, func(s *script, r *Reader, c *Conn) {
			a := s.sent("u", 10, 20, ok("sent", 1))
			s.saw(c, 25, a, "t.1.0")
			s.acked("u", "t.1.0")
			s.again(a, 30, 40, Attempt{Code: 202, Status: "acked", Sessions: 1, Duplicate: true})
		}},
		"acked, and at another place in a later life": {false, func(s *script, r *Reader, c *Conn) {
			a := s.sent("u", 10, 20, ok("sent", 1))
			s.saw(c, 25, a, "t.1.0.aaaa")
			s.acked("u", "t.1.0.aaaa")
			s.again(a, 30, 40, Attempt{Code: 202, Status: "acked", Sessions: 1, Duplicate: true})
			s.left(c, 45)
			s.at(50)
			done := s.rewound(5*time.Millisecond, 6*time.Millisecond)
			s.at(51)
			done()
			s.again(a, 60, 70, ok("sent", 1))
			c = s.connected(r, 80, "t.1.0.aaaa")
			s.gap(c, 81, "rewound", "t.1.0.aaaa", "t.0.0.bbbb")
			s.saw(c, 85, a, "t.4.0.bbbb")
		}},
		"acked by nobody": {true, func(s *script, r *Reader, c *Conn) {
			a := s.sent("u", 10, 20, ok("sent", 1))
			s.acked("u", "t.0.0")
			s.saw(c, 25, a, "t.1.0")
			s.again(a, 30, 40, Attempt{Code: 202, Status: "acked", Sessions: 1, Duplicate: true})
		}},
		"acked too early": {true, func(s *script, r *Reader, c *Conn) {
			a := s.sent("u", 10, 20, ok("acked", 1))
			s.saw(c, 25, a, "t.1.0")
			s.acked("u", "t.1.0")
		}},
		"received by nobody": {true, func(s *script, r *Reader, c *Conn) {
			s.saw(c, 25, s.sent("u", 10, 20, ok("received", 1)), "t.1.0")
		}},
		"received": {false, func(s *script, r *Reader, c *Conn) {
			e := s.Add(&Event{To: Target{User: "u"}, TTL: Forever, Data: `{"n":0}`})
			s.at(10)
			a := s.Try(e)
			s.saw(c, 15, e, "t.1.0")
			s.at(20)
			s.Answered(e, a, "e0", ok("received", 1))
		}},
		"queued while somebody was there": {true, func(s *script, r *Reader, c *Conn) {
			s.saw(c, 25, s.sent("u", 10, 20, ok("queued", 0)), "t.1.0")
			s.saw(c, 35, s.sent("u", 30, 34, ok("sent", 1)), "t.2.0")
		}},
		"queued while somebody went": {false, func(s *script, r *Reader, c *Conn) {
			s.saw(c, 25, s.sent("u", 10, 20, ok("queued", 0)), "t.1.0")
			s.left(c, 26)
		}},
		"sent, and nobody was ever there": {true, func(s *script, r *Reader, c *Conn) { s.sent("v", 10, 20, ok("sent", 1)) }},
		"sent to more than there were":    {true, func(s *script, r *Reader, c *Conn) { s.saw(c, 25, s.sent("u", 10, 20, ok("sent", 2)), "t.1.0") }},
		"sent without being kept, and not given": {true, func(s *script, r *Reader, c *Conn) {
			s.event(&Event{To: Target{User: "u"}}, 10, 20, ok("sent", 1))
			s.saw(c, 35, s.sent("u", 30, 34, ok("sent", 1)), "t.1.0")
		}},
		"a duplicate that is the first": {true, func(s *script, r *Reader, c *Conn) {
			s.saw(c, 25, s.sent("u", 10, 20, Attempt{Code: 202, Status: "sent", Sessions: 1, Duplicate: true}), "t.1.0")
		}},
		"two of three acked": {true, func(s *script, r *Reader, c *Conn) {
			e := s.Add(&Event{To: Target{Users: []string{"u", "v", "w"}}, TTL: Forever, Data: `{"n":0}`})
			s.at(10)
			a := s.Try(e)
			s.saw(c, 12, e, "t.1.0")
			s.acked("u", "t.1.0")
			s.saw(s.connected(s.reader("v"), 2, ""), 14, e, "x.1.0")
			s.acked("v", "x.1.0")
			s.at(20)
			s.Answered(e, a, "e0", Attempt{Code: 202, Status: "acked", Sessions: 3, Recipients: 3, Online: 3})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			r := s.reader("u")
			c.make(s, r, s.connected(r, 1, ""))
			want := ""
			if c.lies {
				want = "lie"
			}
			wantFindings(t, s, want)
		})
	}
}
