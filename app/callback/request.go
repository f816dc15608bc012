package callback

import (
	"context"
	"errors"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/wire"
)

const (
	// maxRequests is how many requests to one backend may be under way on this machine.
	maxRequests = 128
	// maxWaitingRequests is how many more may wait for their turn, and turnPatience for how
	// long: a message to all makes many ask at once, and most backends answer in
	// milliseconds. What a hanging backend is asked is refused soon.
	maxWaitingRequests = 1024
	turnPatience       = time.Second
)

// Request implements bridge.Requester.
func (s *Sender) Request(ctx context.Context, backend, id string, body []byte, timeout time.Duration) (status int, answer []byte, err error) {
	b := s.byName[backend]
	if b == nil || s.life.Err() != nil {
		return 0, nil, bridge.ErrUnavailable
	}
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	r, err := reply{}, b.beginRequest(timed)
	if err == nil {
		defer b.endRequest()
		r, err = b.endpoint.post(timed, id, body, s.maxBytes)
	}
	switch {
	case err == nil:
		answer, err = r.json(s.maxBytes)
	case ctx.Err() != nil:
		err = ctx.Err()
	case s.life.Err() != nil:
		err = bridge.ErrUnavailable
	case errors.Is(err, bridge.ErrBackendBusy):
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

// beginRequest waits until a request to the backend may begin; endRequest follows it. Its
// error is ErrBackendBusy.
func (d *delivery) beginRequest(ctx context.Context) error {
	select {
	case d.requests <- struct{}{}:
		return nil
	default:
	}
	defer d.waiting.Add(-1)
	if d.waiting.Add(1) > maxWaitingRequests {
		return bridge.ErrBackendBusy
	}
	patience := time.NewTimer(d.patience)
	defer patience.Stop()
	select {
	case d.requests <- struct{}{}:
		return nil
	case <-patience.C:
	case <-ctx.Done():
	}
	return bridge.ErrBackendBusy
}

func (d *delivery) endRequest() { <-d.requests }

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
	case errors.Is(err, bridge.ErrUnavailable), errors.Is(err, bridge.ErrBackendBusy):
		return "unavailable"
	}
	return "canceled"
}
