package bridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// timerInterval is how often timers that are due are looked for.
	timerInterval = time.Second
	// timersAtOnce is how many are leased together, and timersInParallel how many of
	// those are fired at a time, so that they share commits.
	timersAtOnce     = 100
	timersInParallel = 16
	// timerTimeout bounds one turn; what it does not get to, another lease finds.
	timerTimeout = 30 * time.Second
)

// RunTimers tells backends of what nobody has acked in time, of what has expired and of
// users who are gone, when their timers in the outbox are due. It returns when ctx ends,
// the bridge drains, or the store is closed.
func (b *Bridge) RunTimers(ctx context.Context) {
	ticker := time.NewTicker(timerInterval)
	defer ticker.Stop()
	failures := rate.Sometimes{First: 1, Interval: time.Minute}
	for !b.draining.Load() {
		n, err := b.fireDue(ctx)
		err = errors.Join(err, b.armLate(ctx), b.armRestored(ctx))
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil && ctx.Err() == nil {
			failures.Do(func() { b.log.Warn("timers cannot be fired; they will be late", "error", err) })
		}
		if n == timersAtOnce && err == nil {
			continue
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// fireDue fires timers that are due, and returns how many it had.
func (b *Bridge) fireDue(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, timerTimeout)
	defer cancel()
	due, err := b.cfg.Outbox.LeaseTimers(ctx, timersAtOnce)
	if err != nil || len(due) == 0 {
		return 0, err
	}
	of := func(kind string) (ts []Timer) {
		for _, t := range due {
			if t.Type == kind {
				ts = append(ts, t)
			}
		}
		return ts
	}
	err = errors.Join(b.fireUnacked(ctx, of(CallbackUnacked)), b.fireExpired(ctx, of(CallbackExpired)))
	if gone := of(CallbackOffline); len(gone) > 0 {
		err = errors.Join(err, b.firePresence(ctx, gone))
	}
	return len(due), err
}

// fireUnacked tells of each event how far it has come with its user.
func (b *Bridge) fireUnacked(ctx context.Context, ts []Timer) error {
	states, err := b.states(ctx, ts)
	if err != nil {
		return err
	}
	now := b.cfg.Now()
	return b.eachTimer(len(ts), func(i int) error {
		var cs []Callback
		for _, name := range b.cfg.Backends.Escalate(ts[i].User) {
			cs = append(cs, UnackedCallback(name, ts[i], states[i], now))
		}
		return b.fire(ctx, ts[i], cs)
	})
}

func (b *Bridge) fireExpired(ctx context.Context, ts []Timer) error {
	now := b.cfg.Now()
	return b.eachTimer(len(ts), func(i int) error {
		var cs []Callback
		for _, name := range b.cfg.Backends.Want(CallbackExpired, ts[i].User) {
			cs = append(cs, ExpiredCallback(name, ts[i], now))
		}
		return b.fire(ctx, ts[i], cs)
	})
}

// states tells for each timer how far its event has come with its user, as operators
// are told: queued, sent or received.
func (b *Bridge) states(ctx context.Context, ts []Timer) ([]Status, error) {
	if len(ts) == 0 {
		return nil, nil
	}
	users := make([]string, len(ts))
	records := make(map[string]*Record)
	for i, t := range ts {
		users[i] = t.User
		if _, known := records[t.EventID]; known {
			continue
		}
		r, err := b.store.Lookup(ctx, t.EventID)
		if err != nil && !errors.Is(err, ErrUnknown) {
			return nil, err
		}
		records[t.EventID] = &r
	}
	slices.Sort(users)
	users = slices.Compact(users)
	logs, err := b.validDeliveryLogs(ctx, users, false)
	if err != nil {
		return nil, err
	}
	out := make([]Status, len(ts))
	for i, t := range ts {
		out[i] = StatusQueued
		r := records[t.EventID]
		at := slices.IndexFunc(r.Recipients, func(s RecipientStatus) bool { return s.User == t.User })
		if at < 0 {
			continue
		}
		of, _ := slices.BinarySearch(users, t.User)
		unacked := r.Recipients[at]
		unacked.Acked = false // just now, which Fire finds too, or after its end
		if status := recipientState(r, &unacked, logs[of]).Status; status != StatusDropped {
			out[i] = status
		}
	}
	return out, nil
}

// fire ends a timer with its callbacks.
func (b *Bridge) fire(ctx context.Context, t Timer, cs []Callback) error {
	fired, err := b.cfg.Outbox.Fire(ctx, t, cs...)
	if err == nil {
		b.metrics.timer(t.Type, fired)
	}
	return err
}

// eachTimer calls f for each of n timers, some at a time. One that fails, or panics,
// does not keep the others from being fired: its lease lapses, and it comes again.
func (b *Bridge) eachTimer(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	places := make(chan struct{}, timersInParallel)
	for i := range n {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			b.guard.Run("timers", func() { errs[i] = f(i) })
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // the others' say the same
		}
	}
	return nil
}
