package bridge

import (
	"time"

	"hookbridge/app/wire"
)

// expiryWarningTime is how long before the end of its token a session is told
// (token_expiring): enough for an app to fetch another token from its backend.
const expiryWarningTime = time.Minute

// expire ends the session with 4401 once its token has expired, and before that warns
// of it once. It reports whether the session is ending; mu is held.
func (s *Session) expire(wall time.Time) bool {
	left := s.identity.Expires.Sub(wall)
	if left <= 0 {
		s.end(wire.CloseUnauthorized, "the token has expired", true)
		return true
	}
	if s.warning.take(wall) && !s.plain {
		s.push(own(wire.TokenExpiring{InMs: left.Milliseconds()}.Frame()))
	}
	return s.ending != nil // a full queue ends it, too
}

// planExpiry plans the warning before a new token's end, and sets the timer; mu is held.
func (s *Session) planExpiry() {
	s.warning.plan(s.b.cfg.Now(), s.identity.Expires, expiryWarningTime)
	s.arm()
}

// warnSpacing is the least time between two token_expiring frames of one
// session, however short its tokens live. A client that answers each at once
// with a token that is about to expire would otherwise be asked without end.
const warnSpacing = 5 * time.Second

// expiryWarning is when a session is told that its token expires: once a token.
type expiryWarning struct {
	due  time.Time // zero: not for this token, or told already
	last time.Time // when the session was last told; zero before the first time
}

// plan sets when to warn of a token that has come now and ends at expires: ahead
// of its end by before or, where the token does not live that long, when a
// quarter of its time is left. A warning that warnSpacing would put off to
// beyond the token's end is left out.
func (w *expiryWarning) plan(now, expires time.Time, before time.Duration) {
	if left := expires.Sub(now); left < before {
		before = left / 4
	}
	w.due = expires.Add(-before)
	if earliest := w.last.Add(warnSpacing); !w.last.IsZero() && w.due.Before(earliest) {
		w.due = earliest
	}
	if !w.due.Before(expires) {
		w.due = time.Time{}
	}
}

// take tells whether it is time to warn; it says so once.
func (w *expiryWarning) take(now time.Time) bool {
	if w.due.IsZero() || now.Before(w.due) {
		return false
	}
	w.due, w.last = time.Time{}, now
	return true
}
