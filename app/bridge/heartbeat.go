package bridge

import (
	"strconv"
	"strings"
	"time"

	"hookbridge/app/wire"
)

// tick is the session's one timer: the token's end (expiry.go), silence, and the
// heartbeat.
func (s *Session) tick() {
	defer s.recoverPanic()
	if s.checkTime() {
		s.writeOrQueue(item{}) // an empty item is a ping
	}
}

// checkTime ends the session where its time is up, sets the timer otherwise, and reports
// whether a ping is due.
func (s *Session) checkTime() (pingDue bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return false
	}
	now, wall := time.Now(), s.b.cfg.Now()
	if s.expire(wall) {
		return false
	}
	if !s.oneWay && now.Sub(s.heard) > 2*s.b.cfg.PingEvery+s.b.cfg.PingEvery/2 {
		s.end(wire.CloseInternal, "nothing heard for too long", false)
		return false
	}
	if pingDue = !now.Before(s.pingAt); pingDue {
		s.pingAt = now.Add(s.b.cfg.PingEvery)
	}
	s.arm()
	return pingDue
}

// arm sets the timer to whatever comes next: a ping, the warning, or the token's
// end; mu is held.
func (s *Session) arm() {
	wall := s.b.cfg.Now()
	next := min(time.Until(s.pingAt), s.identity.Expires.Sub(wall))
	if !s.warning.due.IsZero() {
		next = min(next, s.warning.due.Sub(wall))
	}
	next = max(next, time.Millisecond)
	if s.timer == nil {
		s.timer = time.AfterFunc(next, s.tick)
		return
	}
	s.timer.Reset(next)
}

// heartbeat is what a ping carries and its pong brings back: the session's place,
// how many event frames came before, and how often the session was rewound.
type heartbeat struct {
	at      Position
	frames  uint64
	rewinds uint64
}

func (h heartbeat) append(b []byte) []byte {
	b = strconv.AppendUint(b, h.at.Mailbox, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, h.at.Broadcast, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, h.frames, 10)
	if h.rewinds > 0 {
		b = append(b, '.')
		b = strconv.AppendUint(b, h.rewinds, 10)
	}
	return b
}

// parsePong reads a pong's payload.
func parsePong(b []byte) (h heartbeat, err error) {
	if len(b) > maxCursorBytes {
		return h, errCursor
	}
	parts := strings.Split(string(b), ".")
	into := []*uint64{&h.at.Mailbox, &h.at.Broadcast, &h.frames, &h.rewinds}
	if len(parts) < 3 || len(parts) > len(into) {
		return h, errCursor
	}
	for i, p := range parts {
		if *into[i], err = parseSeq(p); err != nil {
			return heartbeat{}, err
		}
	}
	if len(parts) == 4 && h.rewinds == 0 {
		return heartbeat{}, errCursor
	}
	return h, nil
}

// pong handles a pong: everything written before its ping was received. In plain mode,
// where the app cannot ack, it is an ack as well.
func (s *Session) pong(payload []byte) {
	h, err := parsePong(payload)
	if err != nil {
		return // an unsolicited pong may carry anything (RFC 6455 §5.5.3)
	}
	if c, ok := s.takePong(h); ok && s.plain {
		s.ack(c)
	}
}

// takePong marks as received what a pong answers for, and returns its cursor; false for
// a pong whose place or counters no ping of ours had.
func (s *Session) takePong(h heartbeat) (c cursor, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.rewinds != s.rewinds || !s.written.Covers(h.at) || h.frames > s.framesWritten {
		return c, false
	}
	p, frames := h.at, h.frames
	c = cursor{s.tag, s.life, p}
	s.received = s.received.Max(p)
	s.framesAnswered = max(s.framesAnswered, frames)
	if s.deliveries != nil {
		now := s.b.cfg.Now()
		s.deliveries.mark(&s.deliveries.Received, p, now)
		s.deliveries.unstoredReceived(frames, now)
	}
	s.b.waits.advance(s.user, func(id string, u *awaited) Status {
		if times, ok := s.timesOf(id, u.mailbox, u.broadcast); ok && !times.Received.IsZero() {
			return StatusReceived
		}
		return u.status
	})
	if s.plain && s.received != s.written || s.frameAwaited > s.framesAnswered {
		s.push(item{})
	}
	return c, true
}

// requestPong pings where frames were written that no pong has answered for yet.
func (s *Session) requestPong() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil && !s.oneWay && s.framesWritten > s.framesAnswered {
		s.frameAwaited = s.framesWritten
		if !s.pinged {
			s.push(item{})
		}
	}
}
