package callback

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// schedule is when a callback is tried, counted from its first try; after the last
// of these times every scheduleStep, up to scheduleEnd.
var schedule = []time.Duration{0, 5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 6 * time.Hour}

const (
	scheduleStep = 12 * time.Hour
	scheduleEnd  = 72 * time.Hour
)

// pauseAfter is how long a callback waits after its nth failed try, n counted from 1,
// before jitter.
func pauseAfter(n int) time.Duration {
	if n < len(schedule) {
		return schedule[n] - schedule[n-1]
	}
	return scheduleStep
}

// next is when a callback is tried again whose tries began at since, and of which
// tries have failed by now; zero if it is given up. retryAfter is what the backend
// asked for, 0 for nothing: it takes the schedule's place if it is later, or if the
// backend is busy, and not the callback at fault.
func next(now, since time.Time, tries int, retryAfter time.Duration, busy bool) time.Time {
	end := since.Add(scheduleEnd)
	pause := jitter(pauseAfter(tries))
	if retryAfter > 0 && (busy || retryAfter > pause) {
		again := now.Add(retryAfter)
		if again.After(end) && now.Before(end) {
			again = end // asked to wait beyond the end, it gets its last try at the end
		}
		return notAfter(again, end)
	}
	return notAfter(now.Add(pause), end)
}

func notAfter(t, end time.Time) time.Time {
	if t.After(end) {
		return time.Time{}
	}
	return t
}

// jitter is d, a quarter of it more or less.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2+1)
}

// retryAfter reads the header of that name, which holds seconds or a date; 0 where it
// is absent, unreadable or not in the future. It is at most scheduleEnd.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if strings.Trim(v, "0123456789") == "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n > int64(scheduleEnd/time.Second) { // more digits than a number has
			return scheduleEnd
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil || !at.After(now) {
		return 0
	}
	return min(at.Sub(now), scheduleEnd)
}
