package handlers

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// sharedTimeout gives requests contexts that end by time alone. Requests that come soon
// after each other share one, because a timer for each costs a microsecond. It has at
// most one timer for each step, while requests come, and none once the last has ended.
type sharedTimeout struct {
	atLeast time.Duration // a context ends so long after the request
	step    time.Duration // or up to so much later

	latest atomic.Pointer[sharedContext]
	mu     sync.Mutex // held to make the next one
}

// sharedContext is the context of requests that come before a time.
type sharedContext struct {
	context.Context
	before time.Time
}

// newSharedTimeout gives a request d, and a second more or a tenth of d at most.
func newSharedTimeout(d time.Duration) *sharedTimeout {
	return &sharedTimeout{atLeast: d, step: min(time.Second, d/10)}
}

// context returns the context of a request that comes now.
func (s *sharedTimeout) context() context.Context {
	now := time.Now()
	if c := s.latest.Load(); c != nil && now.Before(c.before) {
		return c.Context
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.latest.Load(); c != nil && now.Before(c.before) {
		return c.Context // another request has made it meanwhile
	}
	before := now.Add(s.step)
	ctx, cancel := context.WithDeadline(context.Background(), before.Add(s.atLeast))
	context.AfterFunc(ctx, cancel) // it ends by itself, and there is nothing to give back before
	s.latest.Store(&sharedContext{ctx, before})
	return ctx
}
