package client

import (
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

// CloseError is the close code after which a client may not connect again by
// itself.
type CloseError struct {
	Code   wire.CloseCode
	Reason string // the bridge's words; may be empty
}

// Error is what the code means, in one line that is safe to print.
func (e *CloseError) Error() string {
	what := "the bridge did not understand this client"
	switch e.Code {
	case wire.CloseUnauthorized:
		what = "the token was refused"
	case wire.CloseNoConnect:
		what = "the connect frame came too late twice"
	case wire.CloseForbidden:
		what = "this user may not connect"
	case wire.CloseReplaced:
		what = "another session of this user took this one's place"
	case wire.CloseErased:
		what = "the user was erased"
	}
	text := fmt.Sprintf("%s (close code %d)", what, e.Code)
	if e.Reason != "" {
		text += ": " + printable(e.Reason)
	}
	return text
}

// backoff decides what follows the end of a connection: the client's column of
// the protocol's table of close codes.
type backoff struct {
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
func (b *backoff) next(e ending) (wait time.Duration, again bool, err error) {
	if e.fatal != nil {
		return 0, false, e.fatal
	}
	if e.connected {
		b.lost, b.refused, b.unheard = 0, 0, 0
	}
	stop := &CloseError{e.code, e.reason}
	switch e.code {
	case wire.CloseNormal:
		return 0, false, nil
	case wire.CloseGoingAway, wire.CloseRestart:
		if e.after >= 0 {
			return min(e.after, adviceMost), true, nil
		}
		return b.jitter(restartMost), true, nil
	case wire.CloseOverloaded:
		return max(overloadWait, min(e.after, adviceMost)) + b.grow(), true, nil
	case wire.CloseTooMany:
		return tooManyWait + b.grow(), true, nil
	case wire.CloseSlow:
		return 0, true, nil // its queue overflowed; the cursor knows what is missing
	case wire.CloseUnauthorized:
		if b.refused++; !b.renews || b.refused > 1 {
			return 0, false, stop
		}
		return b.jitter(backoffFirst), true, nil
	case wire.CloseNoConnect:
		if b.unheard++; b.unheard > 1 {
			return 0, false, stop
		}
		return b.jitter(backoffFirst), true, nil
	case wire.CloseForbidden, wire.CloseReplaced, wire.CloseErased,
		wire.CloseProtocol, wire.CloseUnsupported, wire.CloseInvalidUTF8, wire.CloseTooBig, wire.CloseBadFrame:
		return 0, false, stop
	default: // lost, a server error, or a code of later days
		return b.grow(), true, nil
	}
}

// grow is a wait that grows with each connection that comes to nothing. The whole
// of it is jitter, so that those who were lost together do not come back together.
func (b *backoff) grow() time.Duration {
	most := min(backoffFirst<<min(b.lost, 10), backoffMost)
	b.lost++
	return b.jitter(most)
}
