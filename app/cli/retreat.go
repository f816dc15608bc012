package cli

import (
	"errors"
	"fmt"
	"time"

	"hookbridge/app/wire"
)

// closeLost is how a connection ends that broke without a close frame.
const closeLost wire.CloseCode = 1006

// ending is how a connection ended.
type ending struct {
	code      wire.CloseCode
	reason    string        // the other side's words, or the network's
	after     time.Duration // when the bridge asked to come back; negative where it did not
	connected bool          // it was a session before it ended
	fatal     error         // no other connection would do better
}

// retreat decides what follows the end of a connection: the client's column of
// the protocol's table of close codes.
type retreat struct {
	renews bool // a new token can be had
	jitter func(most time.Duration) time.Duration

	lost    int // connections in a row that never became a session
	refused int // tokens refused in a row
	unheard int // connect frames in a row that came too late
}

const (
	backoffFirst = time.Second
	backoffMost  = 30 * time.Second
	restartMost  = 5 * time.Second  // for 1001 and 1012 without advice
	overloadWait = 5 * time.Second  // at least, for 1013
	tooManyWait  = 30 * time.Second // at least, for 4429
	adviceMost   = 10 * time.Minute // no bridge keeps us away for longer
)

// next is how long to wait before the next connection; an error means that there
// is none. A nil error with again false means that all is done.
func (r *retreat) next(e ending) (wait time.Duration, again bool, err error) {
	if e.fatal != nil {
		return 0, false, e.fatal
	}
	if e.connected {
		r.lost, r.refused, r.unheard = 0, 0, 0
	}
	switch e.code {
	case wire.CloseNormal:
		return 0, false, nil
	case wire.CloseGoingAway, wire.CloseRestart:
		if e.after >= 0 {
			return min(e.after, adviceMost), true, nil
		}
		return r.jitter(restartMost), true, nil
	case wire.CloseOverloaded:
		return max(overloadWait, min(e.after, adviceMost)) + r.backoff(), true, nil
	case wire.CloseTooMany:
		return tooManyWait + r.backoff(), true, nil
	case wire.CloseSlow:
		return 0, true, nil // its queue overflowed; the cursor knows what is missing
	case wire.CloseUnauthorized:
		if r.refused++; !r.renews || r.refused > 1 {
			return 0, false, stopped(e, "the token was refused")
		}
		return r.jitter(backoffFirst), true, nil
	case wire.CloseNoConnect:
		if r.unheard++; r.unheard > 1 {
			return 0, false, stopped(e, "the connect frame came too late twice")
		}
		return r.jitter(backoffFirst), true, nil
	case wire.CloseForbidden:
		return 0, false, stopped(e, "this user may not connect")
	case wire.CloseReplaced:
		return 0, false, stopped(e, "another session of this user took this one's place")
	case wire.CloseErased:
		return 0, false, stopped(e, "the user was erased")
	case wire.CloseProtocol, wire.CloseUnsupported, wire.CloseInvalidUTF8, wire.CloseTooBig, wire.CloseBadFrame:
		return 0, false, stopped(e, "the bridge did not understand this client")
	default: // lost, a server error, or a code of later days
		return r.backoff(), true, nil
	}
}

// backoff grows with each connection that comes to nothing. The whole of it is
// jitter, so that those who were lost together do not come back together.
func (r *retreat) backoff() time.Duration {
	most := min(backoffFirst<<min(r.lost, 10), backoffMost)
	r.lost++
	return r.jitter(most)
}

func stopped(e ending, what string) error {
	if e.reason == "" {
		return fmt.Errorf("%s (close code %d)", what, e.code)
	}
	return fmt.Errorf("%s (close code %d): %w", what, e.code, errors.New(visible(e.reason)))
}
