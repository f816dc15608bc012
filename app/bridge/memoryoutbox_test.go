package bridge_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// memoryOutbox keeps callbacks and timers. What is not implemented is not asked of it.
type memoryOutbox struct {
	bridge.Outbox
	c *clinic

	mu     sync.Mutex // guards what follows
	stored []bridge.Callback
	timers []*bridge.Timer
	leases map[string]time.Time // by key
	serial int
	acked  map[string]bool // by user and event
}

func (o *memoryOutbox) all() []bridge.Callback {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.stored)
}

// take forgets what is stored, as sent.
func (o *memoryOutbox) take() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stored = nil
}

// forget loses a user's timers.
func (o *memoryOutbox) forget(user string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timers = slices.DeleteFunc(o.timers, func(t *bridge.Timer) bool { return t.User == user })
}

func (o *memoryOutbox) add(t bridge.Timer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timers = append(o.timers, &t)
}

func (o *memoryOutbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.timers)
}

func (o *memoryOutbox) store(cs []bridge.Callback) {
	for _, c := range cs {
		if !slices.ContainsFunc(o.stored, func(had bridge.Callback) bool { return had.ID == c.ID }) {
			o.stored = append(o.stored, c)
		}
	}
}

func (o *memoryOutbox) OfUser(_ context.Context, user string, take func(c bridge.Callback, givenUp time.Time) error) error {
	for _, c := range o.all() {
		if c.User == user {
			if err := take(c, time.Time{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *memoryOutbox) Post(_ context.Context, cs ...bridge.Callback) error {
	if err := o.c.note("Post"); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.store(cs)
	return nil
}

func (o *memoryOutbox) LeaseTimers(_ context.Context, n int) (due []bridge.Timer, err error) {
	if err := o.c.note("LeaseTimers"); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leases == nil {
		o.leases = make(map[string]time.Time)
	}
	slices.SortStableFunc(o.timers, func(a, b *bridge.Timer) int { return a.Due.Compare(b.Due) })
	for _, t := range o.timers {
		if len(due) < n && !t.Due.After(time.Now()) && !o.leases[t.Key].After(time.Now()) && !o.acked[t.User+" "+t.EventID] {
			o.serial++
			t.Key = fmt.Sprint(o.serial)
			o.leases[t.Key] = time.Now().Add(bridge.LeaseFor)
			due = append(due, *t)
		}
	}
	return due, nil
}

func (o *memoryOutbox) Fire(_ context.Context, t bridge.Timer, cs ...bridge.Callback) (bool, error) {
	if err := o.c.note("Fire"); err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.timers, func(had *bridge.Timer) bool { return had.Key == t.Key })
	if i < 0 {
		return false, nil
	}
	o.timers = slices.Delete(o.timers, i, i+1)
	if o.acked[t.User+" "+t.EventID] {
		return false, nil
	}
	o.store(cs)
	return true, nil
}

func (o *memoryOutbox) Arm(_ context.Context, user string, due time.Time, begin bool, cs ...bridge.Callback) (bool, error) {
	if err := o.c.note("Arm"); err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.timers {
		if t.Type == bridge.CallbackOffline && t.User == user {
			t.Due, t.Key = due, ""
			return false, nil
		}
	}
	if begin {
		o.timers = append(o.timers, &bridge.Timer{Type: bridge.CallbackOffline, User: user, Due: due})
		o.store(cs)
	}
	return begin, nil
}

func (o *memoryOutbox) Backlog(_ context.Context, backend string) (b bridge.Backlog, err error) {
	for _, c := range o.all() {
		if c.Backend == backend {
			b.Waiting++
			b.Bytes += int64(len(c.Body))
		}
	}
	return b, o.c.note("Backlog")
}
