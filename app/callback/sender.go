// Package callback carries what happens in the bridge to the backends that want to
// hear of it: signed webhooks of ours (Standard Webhooks 1.0) that wait in an Outbox
// until their backend has taken them, and requests, which are one question and its
// answer. Each backend has its own loop, connections and pace, so that one which is
// slow or down holds up no other.
package callback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"hookbridge/app/bridge"
	"hookbridge/app/guard"
	"hookbridge/auth"
)

// Options are the settings of a Sender.
type Options struct {
	Backends     []auth.Backend
	AllowPrivate bool // http and any address are allowed
	MaxBytes     int  // largest reply to a request
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
	Guard        *guard.Guard
}

// Sender sends callbacks and requests to all backends. It implements
// bridge.Requester.
type Sender struct {
	backends bridge.Backends
	byName   map[string]*delivery
	maxBytes int
	log      *slog.Logger
	guard    *guard.Guard
	metrics  *metrics

	life context.Context // ends with Stop: no lease and no request begins any more
	end  context.CancelFunc
	run  sync.WaitGroup // the loops, and the tries under way
}

// New makes a Sender that answers requests; callbacks go out once Start has given it an
// Outbox. Its error names the backend, and repeats no secret and no URL.
func New(o Options) (*Sender, error) {
	s := &Sender{byName: make(map[string]*delivery), maxBytes: o.MaxBytes, log: o.Logger, guard: o.Guard}
	s.life, s.end = context.WithCancel(context.Background())
	s.metrics = newMetrics(s)
	var faults []error
	for _, b := range o.Backends {
		d, err := s.newDelivery(b, o.AllowPrivate)
		if err == nil && s.byName[b.Name] != nil {
			err = errors.New("two backends have this name")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("backend %q: %w", b.Name, err))
			continue
		}
		s.byName[b.Name] = d
		s.backends = append(s.backends, bridge.Backend{Name: b.Name, Types: b.Types, Users: b.Users})
	}
	if len(faults) > 0 {
		s.end()
		return nil, errors.Join(faults...)
	}
	o.Registerer.MustRegister(s.metrics)
	return s, nil
}

func (s *Sender) newDelivery(b auth.Backend, allowPrivate bool) (*delivery, error) {
	if err := b.Check(); err != nil {
		return nil, err
	}
	e, err := newEndpoint(b, allowPrivate)
	if err != nil {
		return nil, err
	}
	return newDelivery(b.Name, e, s), nil
}

// Backends is what the domain knows of the backends, in the order of the settings.
func (s *Sender) Backends() bridge.Backends { return s.backends }

// State implements bridge.Requester. Of a backend that there is not, it is the zero
// state.
func (s *Sender) State(backend string) bridge.BackendState {
	if d := s.byName[backend]; d != nil {
		return *d.state.Load()
	}
	return bridge.BackendState{}
}

// Start begins to send what waits in the outbox, until Stop. It is called once, also where
// no backend is configured: something may wait for those that were.
func (s *Sender) Start(outbox bridge.Outbox) {
	s.metrics.watch(outbox)
	for _, d := range s.byName {
		d.outbox = outbox
		s.run.Go(func() { s.guard.Loop("callbacks", s.life.Done(), d.run) })
	}
	if len(s.byName) > 0 {
		s.run.Go(func() { s.guard.Loop("callbacks", s.life.Done(), func() { s.pass(outbox.Posted()) }) })
	}
	s.run.Go(func() { s.guard.Loop("callbacks", s.life.Done(), func() { s.retire(outbox) }) })
}

// pass tells every backend's loop when something was posted.
func (s *Sender) pass(posted <-chan struct{}) {
	for {
		select {
		case _, open := <-posted:
			if !open {
				return
			}
			for _, d := range s.byName {
				select {
				case d.wake <- struct{}{}:
				default: // it will look anyway
				}
			}
		case <-s.life.Done():
			return
		}
	}
}

// Stop takes no more callbacks from the outbox and waits for the tries under way. When
// ctx ends first, they are cut off: their callbacks are due again at once, on another
// machine or after the next start. The outbox must be open until Stop returns.
func (s *Sender) Stop(ctx context.Context) {
	s.end()
	for _, d := range s.byName {
		defer context.AfterFunc(ctx, d.cutOff)()
	}
	s.run.Wait()
	for _, d := range s.byName {
		d.cutOff()
		d.endpoint.http.CloseIdleConnections() // and those that are still in the making
	}
}
