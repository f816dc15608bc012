package callback

import (
	"context"
	"errors"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

// maxRequests is how many requests to one backend may be under way on this machine.
const maxRequests = 128

// Request implements bridge.Requester.
func (s *Sender) Request(ctx context.Context, backend, id string, body []byte, timeout time.Duration) (status int, answer []byte, err error) {
	b := s.byName[backend]
	if b == nil || s.life.Err() != nil {
		return 0, nil, bridge.ErrUnavailable
	}
	select {
	case b.requests <- struct{}{}:
		defer func() { <-b.requests }()
	default:
		b.metrics.request("unavailable")
		return 0, nil, bridge.ErrBackendBusy
	}
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	r, err := b.endpoint.post(timed, id, body, s.maxBytes)
	switch {
	case err == nil:
		answer, err = r.json(s.maxBytes)
	case ctx.Err() != nil:
		err = ctx.Err()
	case s.life.Err() != nil:
		err = bridge.ErrUnavailable
	case errors.Is(timed.Err(), context.DeadlineExceeded):
		err = bridge.ErrBackendTimeout
	default:
		err = &bridge.BackendError{Status: r.status, Why: r.why}
	}
	b.metrics.request(requestResult(err))
	if err != nil {
		return 0, nil, err
	}
	return r.status, answer, nil
}

// json is the reply's body if it is what a request may be answered with: JSON of a 2xx
// status, no longer than maxBytes; one without anything but white space is null.
func (r reply) json(maxBytes int) ([]byte, error) {
	if !r.ok() {
		return nil, &bridge.BackendError{Status: r.status, Why: "not a 2xx status"}
	}
	if len(r.body) > maxBytes {
		return nil, &bridge.BackendError{Status: r.status, Why: "its reply is too long"}
	}
	if len(wire.TrimSpace(r.body)) == 0 {
		return []byte("null"), nil
	}
	if wire.CheckData(r.body) != nil {
		return nil, &bridge.BackendError{Status: r.status, Why: "its reply is not JSON"}
	}
	return r.body, nil
}

func requestResult(err error) string {
	var failed *bridge.BackendError
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, bridge.ErrBackendTimeout):
		return "timeout"
	case errors.As(err, &failed):
		return "failed"
	case errors.Is(err, bridge.ErrUnavailable):
		return "unavailable"
	}
	return "canceled"
}
