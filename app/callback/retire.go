package callback

import (
	"context"
	"errors"
	"time"

	"hookbridge/app/bridge"
)

const (
	// retireInterval is how often it is looked for what waits for backends that are not
	// configured any more.
	retireInterval = time.Hour
	// retirePage is how many callbacks or timers are taken at a time.
	retirePage = 100
	// retiredBecause is what operators would read of such a callback.
	retiredBecause = "its backend is not configured any more"
)

// retire gives up what waits for backends that are not configured any more, as it would
// have been given up if they were there and failed: scheduleEnd after it began to wait. Then
// it is kept as dead, and forgotten after bridge.DeadCallbacksFor, unless the backend is
// configured again before. Where none at all is configured, timers end without a callback.
func (s *Sender) retire(outbox bridge.Outbox) {
	tick := time.NewTicker(retireInterval)
	defer tick.Stop()
	for {
		if err := s.retireOnce(outbox); errors.Is(err, bridge.ErrClosed) {
			return
		} else if err != nil {
			s.log.Debug("what waits for backends that are not configured cannot be looked at", "error", err)
		}
		select {
		case <-tick.C:
		case <-s.life.Done():
			return
		}
	}
}

func (s *Sender) retireOnce(outbox bridge.Outbox) error {
	names, err := call(s, func(ctx context.Context) ([]string, error) { return outbox.Names(ctx) })
	if err != nil {
		return err
	}
	for _, name := range names {
		if s.byName[name] != nil {
			continue
		}
		if err := s.retireBackend(outbox, name); err != nil {
			return err
		}
	}
	if len(s.byName) == 0 {
		return s.endTimers(outbox)
	}
	return nil
}

// call calls the store for at most storeTimeout.
func call[T any](s *Sender, f func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(s.life, storeTimeout)
	defer cancel()
	return f(ctx)
}

func (s *Sender) retireBackend(outbox bridge.Outbox, name string) error {
	// This also has the store forget what was given up long ago.
	if _, err := call(s, func(ctx context.Context) ([]bridge.DeadCallback, error) { return outbox.Dead(ctx, name, "", 1) }); err != nil {
		return err
	}
	backlog, err := call(s, func(ctx context.Context) (bridge.Backlog, error) { return outbox.Backlog(ctx, name) })
	if err != nil || backlog.Waiting == 0 {
		return err
	}
	given := 0
	// Another machine may have other settings, which it has not been given yet: what it could
	// still send is not touched.
	if !backlog.Oldest.IsZero() && time.Since(backlog.Oldest) > scheduleEnd {
		if given, err = s.giveUpOld(outbox, name); err != nil {
			return err
		}
	}
	s.metrics.givenUp.WithLabelValues(name).Add(float64(given))
	s.log.Warn("callbacks wait for a backend that is not configured: they are given up after three days",
		"backend", name, "waiting", backlog.Waiting-given, "given_up", given)
	return nil
}

// giveUpOld gives up what has waited for scheduleEnd, and lets go of the rest that it had
// to lease with it.
func (s *Sender) giveUpOld(outbox bridge.Outbox, name string) (given int, err error) {
	for {
		due, err := call(s, func(ctx context.Context) ([]bridge.Leased, error) {
			due, _, err := outbox.Lease(ctx, name, retirePage)
			return due, err
		})
		if err != nil || len(due) == 0 {
			return given, err
		}
		now, old := time.Now(), 0
		var all []bridge.Settlement
		for _, l := range due {
			t := bridge.Settlement{Leased: l, Last: retiredBecause}
			if now.Sub(l.Since) > scheduleEnd {
				old++
			} else {
				t.Again = now
			}
			all = append(all, t)
		}
		_, err = call(s, func(ctx context.Context) (struct{}, error) { return struct{}{}, outbox.Settle(ctx, all...) })
		if err != nil {
			return given, err
		}
		if given += old; old == 0 {
			return given, nil
		}
	}
}

// endTimers ends timers that are due, of which there is nobody to be told.
func (s *Sender) endTimers(outbox bridge.Outbox) error {
	for {
		due, err := call(s, func(ctx context.Context) ([]bridge.Timer, error) { return outbox.LeaseTimers(ctx, retirePage) })
		if err != nil || len(due) == 0 {
			return err
		}
		for _, t := range due {
			if _, err := call(s, func(ctx context.Context) (bool, error) { return outbox.Fire(ctx, t) }); err != nil {
				return err
			}
		}
	}
}
