package callback

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// maxInFlight is how many callbacks to one backend are under way at once on this
	// machine.
	maxInFlight = 16
	// probeFirst and probeMost are the pauses between the probes of a backend that is
	// down: the first, and the longest that they grow to, a quarter of it more or less.
	probeFirst = time.Second
	probeMost  = 30 * time.Second
	// probeMostAsked bounds the pause that the backend itself asks for by Retry-After: a
	// slip in a header must not silence it for days.
	probeMostAsked = time.Hour
)

// pace says how many callbacks of one backend may be under way. While the backend
// fails, that is one probe at a time, with growing pauses between; from its first
// success on it grows by one with each, up to maxInFlight. Until the first try has been
// answered nobody knows how the backend is, and it counts as down: a bridge that is
// restarted in an outage does not begin with more than a probe either.
type pace struct {
	window  int
	down    bool
	probeAt time.Time // while it is down: not before then
	// era counts how often the backend went down. A try that began in an earlier
	// one does not tell how the backend is now.
	era    int
	pauses *backoff.ExponentialBackOff
}

func newPace() pace {
	p := pace{window: 1, down: true, pauses: &backoff.ExponentialBackOff{
		InitialInterval: probeFirst, MaxInterval: probeMost, Multiplier: 2, RandomizationFactor: 0.25,
	}}
	p.pauses.Reset()
	return p
}

// room is how many more tries may begin; if none because of a pause, until when.
func (p *pace) room(now time.Time, inFlight int) (n int, pause time.Time) {
	if p.down && inFlight == 0 && now.Before(p.probeAt) {
		return 0, p.probeAt
	}
	return max(0, p.window-inFlight), time.Time{}
}

// succeeded notes a try of an era that the backend took.
func (p *pace) succeeded(era int) {
	switch {
	case era != p.era:
	case p.down:
		p.down = false
		p.pauses.Reset()
	default:
		p.window = min(p.window+1, maxInFlight)
	}
}

// failed notes a try of an era that came to nothing by the backend's fault. asked is
// its Retry-After.
func (p *pace) failed(era int, now time.Time, asked time.Duration) {
	if at := now.Add(min(asked, probeMostAsked)); asked > 0 && p.down && at.After(p.probeAt) {
		p.probeAt = at
	}
	if era != p.era {
		return
	}
	p.down, p.window = true, 1
	p.era++
	p.probeAt = now.Add(max(p.pauses.NextBackOff(), min(asked, probeMostAsked)))
}
