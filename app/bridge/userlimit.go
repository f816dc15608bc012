package bridge

import (
	"fmt"
	"math"
	"sync"
	"time"

	"hookbridge/app/wire"

	"golang.org/x/time/rate"
)

// Bursts of what users send, in seconds of the rate: how much may come at once
// after a silence.
const (
	userEventBurst = 5
	userByteBurst  = 4
)

// maxLimitedUsers bounds how many users' allowances are remembered.
const maxLimitedUsers = 100_000

// RateError is an event that a user sends beyond their rate.
type RateError struct{ Wait time.Duration } // until it would be taken

func (e *RateError) Error() string {
	return fmt.Sprintf("you send too much; try again in %d s", e.Seconds())
}

// Seconds is the wait in whole seconds, 1 at least.
func (e *RateError) Seconds() int { return max(1, int(math.Ceil(e.Wait.Seconds()))) }

// Problem is what the user is told.
func (e *RateError) Problem() wire.Problem {
	return wire.NewProblem(wire.CodeRateLimited, e.Error())
}

// userLimits bounds what each user sends through this machine, over all of the
// user's sessions, in events and in bytes. A user is remembered only while the
// allowance is not whole.
type userLimits struct {
	events, bytes float64 // a second; 0: no limit

	mu sync.Mutex // guards of
	of map[string]*allowance
}

// allowance is what one user may still send. A limiter is nil where there is no
// limit of its kind.
type allowance struct{ events, bytes *rate.Limiter }

func newUserLimits(events, bytes float64) *userLimits {
	return &userLimits{events: events, bytes: bytes, of: make(map[string]*allowance)}
}

// admit takes one event of so many bytes from the user's allowance, or nothing
// where that is used up. An event larger than the burst counts as the burst.
// Errors: *RateError.
func (l *userLimits) admit(user string, size int, now time.Time) error {
	if l.events <= 0 && l.bytes <= 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of[user]
	if a == nil {
		if len(l.of) >= maxLimitedUsers {
			l.sweep(now)
		}
		a = &allowance{limiter(l.events, userEventBurst), limiter(l.bytes, userByteBurst)}
		l.of[user] = a
	}
	event, wait := take(a.events, 1, now)
	if wait > 0 {
		return &RateError{wait}
	}
	if _, wait = take(a.bytes, size, now); wait > 0 {
		if event != nil {
			event.CancelAt(now)
		}
		return &RateError{wait}
	}
	return nil
}

func limiter(perSecond float64, burst float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(math.Ceil(burst*perSecond))))
}

// take takes n from a limiter, or nothing and says how long to wait.
func take(l *rate.Limiter, n int, now time.Time) (*rate.Reservation, time.Duration) {
	if l == nil {
		return nil, 0
	}
	r := l.ReserveN(now, min(n, l.Burst()))
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return r, wait
}

// sweep forgets those whose allowance is whole; where nobody's is, all: a full
// table must not keep anybody from sending.
func (l *userLimits) sweep(now time.Time) {
	whole := func(r *rate.Limiter) bool { return r == nil || r.TokensAt(now) >= float64(r.Burst()) }
	for user, a := range l.of {
		if whole(a.events) && whole(a.bytes) {
			delete(l.of, user)
		}
	}
	if len(l.of) >= maxLimitedUsers {
		clear(l.of)
	}
}
