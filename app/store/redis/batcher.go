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
	// maxInFlight is how many publishing scripts run at a time: enough that a message
	// seldom waits for another one's answer.
	maxInFlight = 4
	// maxBatch is how many messages one script takes: Redis does nothing else meanwhile
	// and must soon be there for others.
	maxBatch = 32
)

// batcher collects messages that come while maxInFlight scripts run: they go together
// with the next script. Much of a script's cost is the same for one message and for
// many.
type batcher struct {
	mu       sync.Mutex // guards what follows
	inFlight int
	waiting  []*appending
}

// start reports whether a message may go at once; or else it waits, and done is closed
// when it is answered.
func (b *batcher) start(a *appending) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inFlight < maxInFlight {
		b.inFlight++
		return true
	}
	a.done = make(chan struct{})
	b.waiting = append(b.waiting, a)
	return false
}

// next ends a script and returns the messages that go with the next one; nil if none
// wait.
func (b *batcher) next() (batch []*appending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		b.inFlight--
		return nil
	}
	batch = b.waiting
	if b.waiting = nil; len(batch) > maxBatch {
		batch, b.waiting = batch[:maxBatch:maxBatch], batch[maxBatch:]
	}
	return batch
}

// publish stores and publishes a message, with others that wait, and returns when it
// is answered.
func (s *Store) publish(ctx context.Context, a *appending) (answer, error) {
	if s.batcher.start(a) {
		defer s.publishWaiting()
		s.publishBatch(ctx, []*appending{a})
		return a.answer, a.err
	}
	select {
	case <-a.done:
		return a.answer, a.err
	case <-ctx.Done(): // it goes all the same
		return answer{}, ctx.Err()
	}
}

// publishWaiting publishes what has waited for a script to end, until nothing waits.
func (s *Store) publishWaiting() {
	batch := s.batcher.next()
	if batch == nil {
		return
	}
	s.loops.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.opts.Patience)
		if s.opts.Guard.Run("redis appends", func() { s.publishBatch(ctx, batch) }) {
			for _, a := range batch {
				a.err = fmt.Errorf("%w: redis: the append failed", bridge.ErrUnavailable)
			}
		}
		cancel()
		for _, a := range batch {
			if errors.Is(a.err, context.DeadlineExceeded) { // the batch's deadline, not the caller's
				a.err = fmt.Errorf("%w: redis: no answer within %v", bridge.ErrUnavailable, s.opts.Patience)
			}
			close(a.done)
		}
		s.publishWaiting()
	})
}

// publishBatch runs one script for some messages and notes each one's answer. Messages
// that the server did not take, because the store lives another life, go again.
func (s *Store) publishBatch(ctx context.Context, batch []*appending) {
	err := s.inLife(ctx, func(lf *storeLife) (err error) {
		batch, err = s.publishOnce(ctx, lf, batch)
		return err
	})
	for _, a := range batch {
		a.err = err
	}
}

// publishOnce runs the script in one life. It returns the messages that have no answer,
// and why.
func (s *Store) publishOnce(ctx context.Context, lf *storeLife, batch []*appending) (left []*appending, err error) {
	keys := make([]string, 0, 7*len(batch)+1)
	args := make([]string, 0, 10+12*len(batch))
	args = append(args, itoa(s.nowMs()), s.channel(), s.self, s.leases.dead(), s.touch(), itoa(s.opts.MailboxLimit), itoa(s.opts.BroadcastLimit),
		itoa(s.opts.MailboxBytes), itoa(s.opts.BroadcastBytes), itoa(s.indexStretch()))
	for _, a := range batch {
		keys, args = a.publishArgs(keys, args)
	}
	reply, err := s.runOnceDurably(ctx, lf, s.timedPublish(call{&s.scripts.publish, keys, args}, batch))
	if err != nil {
		return batch, err
	}
	list, err := reply.ToArray()
	if err == nil && len(list) != len(batch) {
		err = fmt.Errorf("redis: %d answers to %d messages", len(list), len(batch))
	}
	if err != nil {
		return batch, err
	}
	var released []string
	for i, a := range batch {
		if _, other := otherLife(list[i].Error()); other {
			left, err = append(left, a), list[i].Error()
			continue
		}
		a.answer, a.err = s.publishAnswer(ctx, list[i])
		released = append(released, a.answer.released...)
	}
	s.tryRelease(ctx, released)
	return left, err
}

// publishAnswer reads the script's answer to one message.
func (s *Store) publishAnswer(ctx context.Context, r rueidis.RedisMessage) (ans answer, err error) {
	if err := r.Error(); err != nil {
		return ans, s.fault(ctx, err)
	}
	if r.IsArray() {
		return parseAnswer(r)
	}
	text, err := r.ToString()
	if err != nil {
		return ans, s.fault(ctx, err)
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
	return ans, s.fault(ctx, err)
}
