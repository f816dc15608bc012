package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

const (
	// maxInFlight is how many scripts that publish are on their way at a time:
	// enough that a message seldom waits for another one's answer.
	maxInFlight = 4
	// maxBatch is how many messages one of them takes, so that Redis, which does
	// nothing else meanwhile, is soon there for others.
	maxBatch = 32
)

// batcher gathers messages: those that come while enough scripts are on their way
// go together with the next one. Much of what a message costs is the same for one
// script, be it of one message or of many.
type batcher struct {
	mu      sync.Mutex // guards what follows
	under   int        // on their way
	waiting []*appending
}

// start lets a message go, or wait for others to land.
func (f *batcher) start(a *appending) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.under < maxInFlight {
		f.under++
		return true
	}
	a.done = make(chan struct{})
	f.waiting = append(f.waiting, a)
	return false
}

// landed returns those who go next, if any do.
func (f *batcher) landed() (next []*appending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		f.under--
		return nil
	}
	next = f.waiting
	if f.waiting = nil; len(next) > maxBatch {
		next, f.waiting = next[:maxBatch:maxBatch], next[maxBatch:]
	}
	return next
}

// publish sends a message on its way, with others where there are some, and
// returns when it is answered.
func (e *Store) publish(ctx context.Context, a *appending) (answer, error) {
	if e.batcher.start(a) {
		defer e.land()
		e.fly(ctx, []*appending{a})
		return a.answer, a.err
	}
	select {
	case <-a.done:
		return a.answer, a.err
	case <-ctx.Done(): // it goes all the same
		return answer{}, ctx.Err()
	}
}

// land lets those go who have waited.
func (e *Store) land() {
	next := e.batcher.landed()
	if next == nil {
		return
	}
	e.loops.Go(func() {
		ctx, cancel := context.WithTimeout(e.life, e.opts.Patience)
		if e.opts.Guard.Run("redis appends", func() { e.fly(ctx, next) }) {
			for _, a := range next {
				a.err = fmt.Errorf("%w: redis: the append failed", bridge.ErrUnavailable)
			}
		}
		cancel()
		for _, a := range next {
			if errors.Is(a.err, context.DeadlineExceeded) { // not theirs: they may have more patience, or less
				a.err = fmt.Errorf("%w: redis: no answer within %v", bridge.ErrUnavailable, e.opts.Patience)
			}
			close(a.done)
		}
		e.land()
	})
}

// fly runs one script for some messages and notes each one's answer. Those that the
// server did not take, because the store lives another life, go again.
func (e *Store) fly(ctx context.Context, as []*appending) {
	err := e.inLife(ctx, func(lf *lifetime) (err error) {
		as, err = e.flyOnce(ctx, lf, as)
		return err
	})
	for _, a := range as {
		a.err = err
	}
}

// flyOnce runs it in one life. It returns those that have no answer, and why.
func (e *Store) flyOnce(ctx context.Context, lf *lifetime, as []*appending) (left []*appending, err error) {
	keys := make([]string, 0, 7*len(as)+1)
	args := make([]string, 0, 10+12*len(as))
	args = append(args, itoa(e.nowMs()), e.channel(), e.self, e.leases.dead(), e.touch(), itoa(e.opts.MailboxLimit), itoa(e.opts.BroadcastLimit),
		itoa(e.opts.MailboxBytes), itoa(e.opts.BroadcastBytes), itoa(e.indexStretch()))
	for _, a := range as {
		keys, args = a.words(keys, args)
	}
	reply, err := e.runOnceDurably(ctx, lf, call{&e.scripts.publish, keys, args})
	if err != nil {
		return as, err
	}
	list, err := reply.ToArray()
	if err == nil && len(list) != len(as) {
		err = fmt.Errorf("redis: %d answers to %d messages", len(list), len(as))
	}
	if err != nil {
		return as, err
	}
	var released []string
	for i, a := range as {
		if _, other := otherLife(list[i].Error()); other {
			left, err = append(left, a), list[i].Error()
			continue
		}
		a.answer, a.err = e.answerOf(ctx, list[i])
		released = append(released, a.answer.released...)
	}
	e.releaseLater(ctx, released)
	return left, err
}

// answerOf reads the answer to one of several.
func (e *Store) answerOf(ctx context.Context, r rueidis.RedisMessage) (ans answer, err error) {
	if err := r.Error(); err != nil {
		return ans, e.fault(ctx, err)
	}
	if r.IsArray() {
		return parse(r)
	}
	text, err := r.ToString()
	if err != nil {
		return ans, e.fault(ctx, err)
	}
	place, rest, _ := strings.Cut(text, " ")
	elsewhere, rest, _ := strings.Cut(rest, " ")
	here, rest, _ := strings.Cut(rest, " ")
	ans.kind = 'n'
	if ans.seq, err = strconv.ParseUint(place, 10, 64); err == nil {
		if ans.elsewhere, err = strconv.Atoi(elsewhere); err == nil {
			ans.here, err = strconv.Atoi(here)
			for words := strings.Fields(rest); len(words) > 1; words = words[2:] {
				ans.released = append(ans.released, words[0]+" "+words[1])
			}
		}
	}
	return ans, e.fault(ctx, err)
}
