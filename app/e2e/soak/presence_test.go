package soak

import (
	"fmt"
	"testing"
	"time"
)

// online and offline are callbacks about u, caused when they came; lastSeen is when u was
// last there.
func (s *script) online(t *testing.T, ms int) {
	t.Helper()
	s.called(t, ms, fmt.Sprintf("on%d", ms), fmt.Sprintf(`{"type":"user.online","timestamp":%q,"data":{"user":"u","sessions":1}}`, s.stamp(ms)))
}

func (s *script) offline(t *testing.T, ms, lastSeen int) {
	t.Helper()
	s.called(t, ms, fmt.Sprintf("off%d", ms), fmt.Sprintf(`{"type":"user.offline","timestamp":%q,"data":{"user":"u","lastSeen":%q}}`, s.stamp(ms), s.stamp(lastSeen)))
}

// stays is a connection of u, over which something came last at the end.
func (s *script) stays(r *Reader, from, to int) {
	c := s.connected(r, from, "")
	s.at(to)
	s.heard(c, &frame{Type: "pong"})
	s.left(c, to)
}

func (s *script) fault(kind string, from, to int) {
	s.at(from)
	mended := s.trouble(kind)
	s.at(to)
	mended()
}

func checkerOfPresence(t *testing.T) {
	for name, c := range map[string]struct {
		want string
		make func(t *testing.T, s *script, u *Reader)
	}{
		"came and went": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.offline(t, 40_500, 30_000)
		}},
		"came, went, and came again": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.offline(t, 40_500, 30_000)
			s.stays(u, 60_000, 90_000)
			s.online(t, 60_001)
			s.offline(t, 100_500, 90_000)
		}},
		"was away for less than the debounce": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.stays(u, 38_000, 60_000)
			s.online(t, 1001)
			s.offline(t, 70_500, 60_000)
		}},
		"came for a moment, and nobody was told": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 2000)
			s.at(30_000)
		}},
		"came for a moment while something was broken": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 2000)
			s.fault("kill", 1500, 2500)
			s.at(30_000)
		}},
		"came for a moment, and was told of": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 2000)
			s.online(t, 1003)
			s.offline(t, 12_500, 2000)
			s.at(30_000)
		}},
		"came for a moment, at last": {"", func(t *testing.T, s *script, u *Reader) { s.stays(u, 1000, 9000) }},
		"came, and nobody was told": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
		}},
		"came, and the backend refused to hear of it": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.Callbacks[0].Taken = false
		}},
		"came, the backend refused to hear of it, and the store was put back to before that": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.Callbacks[0].Taken = false
			s.rewinds(900, 31_000)
		}},
		"came, the backend refused to hear of it, and the store was put back to after that": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.Callbacks[0].Taken = false
			s.rewinds(20_000, 31_000)
		}},
		"came while the backend owed all answers, and the store was put back to before that": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 7000)
			s.rewinds(900, 7000)
			s.at(30_000)
		}},
		"came while the backend was given something, and the store was put back to before that": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 7000)
			s.stays(s.reader("v"), 1000, 7000)
			s.called(t, 5000, "other", fmt.Sprintf(`{"type":"user.online","timestamp":%q,"data":{"user":"v","sessions":1}}`, s.stamp(5000)))
			s.rewinds(900, 7000)
			s.at(30_000)
		}},
		"came again, and nobody was told": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.offline(t, 40_500, 30_000)
			s.stays(u, 60_000, 90_000)
		}},
		"came while something was broken, and nobody was told": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.fault("kill", 1000, 16_000)
		}},
		"came, and nobody was told long after it was mended": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.fault("kill", 1000, 14_000)
		}},
		"came, and the store forgot it": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.rewinds(500, 2000)
		}},
		"came, and was erased": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.at(2000)
			s.Finish(s.Erase("u"))
		}},
		"went, and nobody was told": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.at(50_000)
		}},
		"was away for long, and nobody was told": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.stays(u, 60_000, 90_000)
			s.offline(t, 100_500, 90_000)
		}},
		"went with a machine that died, and nobody was told yet": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.fault("kill", 30_000, 31_000)
			s.at(200_000)
		}},
		"went with a machine that died, and nobody was told ever": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.fault("kill", 30_000, 31_000)
			s.at(500_000)
		}},
		"went, and the store forgot that it had come": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.rewinds(500, 40_000)
			s.at(500_000)
		}},
		"told of as there, and was not": {"callback for nothing", func(t *testing.T, s *script, u *Reader) {
			s.online(t, 1001)
			s.offline(t, 12_000, 1001)
			s.stays(u, 60_000, 61_000)
		}},
		"told of as there by a machine that had stood still": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 2000)
			s.fault("stoplong", 1000, 30_000)
			s.online(t, 30_001)
			s.offline(t, 40_500, 30_500)
		}},
		"told of as gone while there": {"callback for nothing, callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.offline(t, 28_000, 15_000)
		}},
		"told of as gone though it came back": {"callback for nothing", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.stays(u, 33_000, 36_000)
			s.online(t, 1001)
			s.offline(t, 41_000, 30_000)
		}},
		"told of as gone too early": {"callback for nothing", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.offline(t, 33_000, 30_000)
		}},
		"told of as gone while there, after a rewind, and not put right": {"callback lost", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.rewinds(500, 20_000)
			s.offline(t, 28_000, 15_000)
		}},
		"told of as gone while there, after a rewind": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.rewinds(500, 20_000)
			s.offline(t, 28_000, 15_000)
			s.online(t, 28_100)
			s.offline(t, 40_500, 30_000)
		}},
		"last seen at another time": {"callback altered", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.offline(t, 40_500, 5000)
		}},
		"told twice of coming": {"callbacks do not alternate", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.online(t, 20_000)
			s.offline(t, 40_500, 30_000)
		}},
		"told twice of coming, and erased between": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.at(10_000)
			s.Finish(s.Erase("u"))
			s.online(t, 20_000)
			s.offline(t, 40_500, 30_000)
		}},
		"told twice of going": {"callbacks do not alternate", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.offline(t, 40_500, 30_000)
			s.offline(t, 50_500, 30_000)
		}},
		"told first of going": {"callback lost, callbacks do not alternate", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 9000)
			s.offline(t, 19_500, 9000)
		}},
		"made at the same time, the other way round": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.online(t, 1001)
			s.online(t, 40_400)
			s.offline(t, 40_500, 30_000)
			s.stays(u, 40_400, 60_000)
			s.offline(t, 70_500, 60_000)
		}},
		"came late to the backend, in another order": {"", func(t *testing.T, s *script, u *Reader) {
			s.stays(u, 1000, 30_000)
			s.offline(t, 40_500, 30_000)
			s.online(t, 1001)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			s.Told = true
			c.make(t, s, s.reader("u"))
			wantFindings(t, s, c.want)
		})
	}
}

func checkerOfShortBreaks(t *testing.T) {
	s := newScript()
	u := s.reader("u")
	s.stays(u, 1000, 10_000)
	s.stays(u, 14_000, 20_000)
	s.stays(u, 26_000, 30_000)
	got := newJudge(s.History).spans("u")
	want := []span{{time.Second, 20 * time.Second}, {26 * time.Second, 30 * time.Second}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, wanted %v", got, want)
	}
}
