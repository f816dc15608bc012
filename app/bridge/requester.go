package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hookbridge/app/wire"
)

// Requester asks backends questions, and knows whether they take their callbacks.
type Requester interface {
	// Request posts a signed body to a backend once, and returns its 2xx status and the
	// JSON that it replied, byte for byte, with the white space around it; an empty reply
	// is null. It takes no longer than timeout.
	// Errors: ErrBackendTimeout, *BackendError, ErrBackendBusy, ErrUnavailable where this
	// machine stops.
	Request(ctx context.Context, backend, id string, body []byte, timeout time.Duration) (status int, reply []byte, err error)

	// State tells how this machine's last tries to give a backend its callbacks went.
	State(backend string) BackendState
}

// BackendState is whether a backend takes its callbacks: it fails from the first try
// that fails until one succeeds.
type BackendState struct {
	Failing bool
	Since   time.Time // since when it is so; with Failing false, the start of the program or the end of the last failure
}

// ErrBackendTimeout: the backend did not answer a request in time.
var ErrBackendTimeout = errors.New("the backend did not answer in time")

// ErrBackendBusy: as many requests to the backend as may be are under way on this machine.
var ErrBackendBusy = errors.New("too many requests to the backend are under way")

// BackendError is a request that the backend did not answer as it should: with another
// status than 2xx, with something else than JSON, with too much, or not at all.
type BackendError struct {
	Status int    // what it answered; 0 where no answer came
	Why    string // what is wrong, without anything of the reply
}

// Problem is the answer to the request.
func (e *BackendError) Problem() wire.Problem {
	p := wire.NewProblem(wire.CodeBackendFailed, e.Error())
	p.BackendStatus = e.Status
	return p
}

func (e *BackendError) Error() string {
	if e.Status == 0 {
		return "the backend could not be reached: " + e.Why
	}
	return fmt.Sprintf("the backend answered %d: %s", e.Status, e.Why)
}
