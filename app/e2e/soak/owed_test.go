package soak

import (
	"testing"
	"time"
)

func checkerOfRewinds(t *testing.T) {
	for name, c := range map[string]struct {
		want string
		told bool // the reader is told of the rewind
		make func(s *script, r *Reader)
	}{
		"told, and what was lost is lost":          {"", true, nil},
		"not told":                                 {"rewound in silence", false, nil},
		"what was answered before the copy is due": {"lost", true, func(s *script, r *Reader) { s.sent("u", 91, 92, ok("sent", 1)) }},
		"what was answered afterwards is due":      {"lost", true, func(s *script, r *Reader) { s.sent("u", 300, 310, ok("queued", 0)) }},
		"what expired before the gap is announced by it": {"", true, func(s *script, r *Reader) {
			s.event(&Event{To: Target{User: "u"}, TTL: time.Millisecond}, 212, 214, ok("queued", 0))
		}},
		"what is sent again afterwards is due": {"lost", true, func(s *script, r *Reader) {
			a := s.sent("u", 120, 130, ok("queued", 0))
			s.again(a, 300, 310, ok("queued", 0))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			r := s.reader("u")
			cn := s.connected(r, 1, "")
			if c.make != nil {
				c.make(s, r)
			}
			s.saw(cn, 140, s.sent("u", 110, 120, ok("sent", 1)), "t.5.0.aaaa") // the copy was made at 100
			s.sent("u", 145, 148, ok("queued", 0))                             // and lost
			s.left(cn, 150)
			s.at(200)
			done := s.rewound(100*time.Millisecond, 105*time.Millisecond)
			s.at(210)
			done()
			cn = s.connected(r, 220, "t.5.0.aaaa")
			if c.told {
				s.gap(cn, 221, "rewound", "t.5.0.aaaa", "t.3.0.bbbb")
			}
			s.saw(cn, 250, s.sent("u", 230, 240, ok("sent", 1)), "t.4.0.bbbb")
			if !c.told {
				cn.Items[len(cn.Items)-1].Pos.Mailbox = 6
			}
			wantFindings(t, s, c.want)
		})
	}
}

func checkerOfLostTwice(t *testing.T) {
	s := newScript()
	s.connected(s.reader("u"), 1, "")
	rewind := func(kept, at int) {
		s.at(at)
		done := s.rewound(time.Duration(kept)*time.Millisecond, time.Duration(kept+1)*time.Millisecond)
		s.at(at + 1)
		done()
	}
	e := s.sent("u", 10, 20, ok("sent", 1))
	rewind(5, 30)
	s.again(e, 50, 60, ok("sent", 1)) // it is no duplicate: it was lost
	rewind(40, 70)                    // and is lost again
	wantFindings(t, s, "")
}

func checkerOfFreshDevice(t *testing.T) {
	for _, acked := range []bool{true, false} {
		s := newScript()
		c := s.connected(s.reader("u"), 1, "")
		a := s.sent("u", 10, 20, ok("sent", 1))
		s.saw(c, 25, a, "t.1.0")
		if acked {
			s.acked("u", "t.1.0")
		}
		fresh := s.reader("u")
		fresh.Fresh = true
		f := s.connected(fresh, 40, "")
		f.Whole = true
		s.left(f, 50)
		want := "lost to a new device"
		if acked {
			want = ""
		}
		wantFindings(t, s, want)
	}
}

// A repeat without an answer may have been taken by the store that went back, and
// goes to the members of that moment.
func checkerOfRepeats(t *testing.T) {
	for name, repeated := range map[string]bool{"repeated after the rewind": true, "not repeated": false} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			s.at(2)
			e := s.event(&Event{To: Target{Group: "g"}, TTL: Forever}, 10, 20, ok("queued", 0))
			s.at(30)
			done := s.rewound(5*time.Millisecond, 6*time.Millisecond)
			s.at(31)
			done()
			s.at(40)
			in := s.Enroll("u", "g", true)
			s.at(41)
			s.Finish(in)
			if repeated {
				s.again(e, 50, 60, Attempt{})
			}
			c := s.connected(s.reader("u"), 45, "")
			s.saw(c, 65, e, "t.1.0.bbbb")
			want := "seen by another"
			if repeated {
				want = ""
			}
			wantFindings(t, s, want)
		})
	}
}
