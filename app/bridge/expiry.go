package bridge

import "time"

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
