package client

import (
	"context"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
)

// subscription is a Subscriber that runs. Its waits are noted and not waited for.
type subscription struct {
	t       *testing.T
	cancel  context.CancelFunc
	done    chan error
	events  chan Event
	notices chan Notice
	waits   []time.Duration // read it after ended
	cursors chan string
}

func subscribe(t *testing.T, o SubscriberOptions, change ...func(*Subscriber)) *subscription {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	u := &subscription{t: t, cancel: cancel, done: make(chan error, 1),
		events: make(chan Event, 1000), notices: make(chan Notice, 1000), cursors: make(chan string, 1000)}
	if o.Token == "" && o.TokenSource == nil {
		o.Token = "token-of-the-test"
	}
	if o.OnEvent == nil {
		o.OnEvent = func(_ context.Context, e Event) error { u.events <- e; return nil }
	}
	if o.SaveCursor == nil && !o.Plain {
		o.SaveCursor = func(cursor string) error { u.cursors <- cursor; return nil }
	}
	o.OnNotice = func(n Notice) { u.notices <- n }
	o.AckEvery = 10 * time.Millisecond
	s, err := NewSubscriber(o)
	expect.NoError(t, err)
	s.backoff.jitter = func(most time.Duration) time.Duration { return most / 2 }
	s.sleep = func(ctx context.Context, d time.Duration) error {
		u.waits = append(u.waits, d)
		return ctx.Err()
	}
	for _, ch := range change {
		ch(s)
	}
	go func() { u.done <- s.Run(ctx) }()
	t.Cleanup(cancel)
	return u
}

func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(expect.Patience):
		t.Fatal("it does not come")
		panic("unreachable")
	}
}

func (u *subscription) ended() error {
	u.t.Helper()
	return next(u.t, u.done)
}

// all are the events' ids so far, or the notices' texts.
func all[T any](from <-chan T, text func(T) string) (out []string) {
	for len(from) > 0 {
		out = append(out, text(<-from))
	}
	return out
}

func (u *subscription) ids() string {
	return strings.Join(all(u.events, func(e Event) string { return e.ID }), " ")
}

func (u *subscription) said() string {
	return strings.Join(all(u.notices, Notice.String), "\n")
}
