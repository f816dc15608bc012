package redis

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

const (
	// ackDelay is how long an ack waits for others that are written with it.
	ackDelay = 50 * time.Millisecond
	// ackRetry is how long acks wait that could not be written.
	ackRetry = time.Second
	// acksAScript is how many users' acks one script writes: Redis does nothing else
	// meanwhile.
	acksAScript = 64
	// ackBookLimit is how many users' acks may wait. They only pile up while Redis is
	// away; beyond it each ack waits for its own answer.
	ackBookLimit = 100_000
)

// ackBook holds acks of this machine's sessions that are not written yet.
type ackBook struct {
	due     chan struct{} // has a value when acks wait
	writing sync.Mutex    // held by the one who writes; taken before mu

	mu      sync.Mutex // guards what follows
	waiting map[string]laterAck
	taken   map[string]laterAck // those that are being written
	writes  uint64              // how often those were taken off
}

// laterAck is up to where a user has acked, and the life that the place is of.
type laterAck struct {
	life string
	to   bridge.Position
}

func newAckBook() *ackBook {
	return &ackBook{due: make(chan struct{}, 1), waiting: make(map[string]laterAck)}
}

// add notes an ack. It returns false where another one of the user, of another life, or
// too many others wait.
func (b *ackBook) add(user string, a laterAck) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was, ok := b.waiting[user]
	if ok && was.life != a.life || !ok && len(b.waiting) >= ackBookLimit {
		return false
	}
	b.waiting[user] = laterAck{a.life, was.to.Max(a.to)}
	if len(b.waiting) == 1 {
		select {
		case b.due <- struct{}{}:
		default:
		}
	}
	return true
}

// of is a user's ack that is not written yet.
func (b *ackBook) of(user string) (a laterAck, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, ok = b.waiting[user]; !ok {
		a, ok = b.taken[user]
	}
	return a, ok
}

func (b *ackBook) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)+len(b.taken) == 0
}

// take returns the acks that wait. written follows.
func (b *ackBook) take() map[string]laterAck {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken, b.waiting = b.waiting, make(map[string]laterAck, len(b.waiting))
	return b.taken
}

// written takes what was written off the book; with an error it all waits again.
func (b *ackBook) written(err error) {
	b.mu.Lock()
	taken := b.taken
	b.taken = nil
	b.writes++
	b.mu.Unlock()
	if err == nil {
		return
	}
	for user, a := range taken {
		b.add(user, a) // an ack of a later life that came meanwhile says more
	}
}

// writtenSoFar is a number that grows when acks are taken off the book.
func (b *ackBook) writtenSoFar() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.writes
}

// AckLater implements bridge.Store.
func (s *Store) AckLater(ctx context.Context, user, session, life string, p bridge.Position) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if user == "" {
		return errNoUser
	}
	if _, concerned := s.tellsAcks(user); !concerned && life == s.lives.now.Load().name && s.acks.add(user, laterAck{life, p}) {
		return nil
	}
	return s.ack(ctx, user, session, life, p)
}

// writeAcks writes all acks that have been taken so far, and returns when they are in Redis.
func (s *Store) writeAcks(ctx context.Context) error {
	if s.acks.empty() {
		return nil
	}
	s.acks.writing.Lock()
	defer s.acks.writing.Unlock()
	var err error
	defer func() { s.acks.written(err) }()
	err = s.writeTaken(ctx, s.acks.take())
	return err
}

// writeAcksOf is writeAcks where an ack of the user waits.
func (s *Store) writeAcksOf(ctx context.Context, user string) error {
	if _, ok := s.acks.of(user); !ok {
		return nil
	}
	return s.writeAcks(ctx)
}

func (s *Store) writeTaken(ctx context.Context, taken map[string]laterAck) error {
	lf := s.lives.now.Load()
	users := make([]string, 0, len(taken))
	for user, a := range taken {
		if a.life == lf.name {
			users = append(users, user)
		}
	}
	var before []call
	for _, user := range users {
		before = append(before, s.passingOver(user, taken[user].to)...)
	}
	_, err := s.runManyIn(ctx, lf.name, before)
	if err == nil {
		_, err = s.runManyIn(ctx, lf.name, s.ackCalls(users, taken))
	}
	if err != nil && !errors.Is(err, bridge.ErrOtherLife) {
		return err
	}
	if err == nil && len(users) == len(taken) {
		return nil
	}
	// The store lives another life than these places are of: how far each counts has to be
	// found out.
	for user, a := range taken {
		if err == nil && a.life == lf.name {
			continue
		}
		if err := s.ack(ctx, user, "", a.life, a.to); err != nil && !errors.Is(err, bridge.ErrRewound) {
			return err
		}
	}
	return nil
}

// ackCalls are the calls that write the acks of some users. A Cluster's script reaches the
// keys of one user only.
func (s *Store) ackCalls(users []string, taken map[string]laterAck) (calls []call) {
	if s.cluster {
		for _, user := range users {
			to := taken[user].to
			calls = append(calls, call{&s.scripts.ack, []string{s.mailboxOf(user).h}, []string{itoa(to.Mailbox), itoa(to.Broadcast), itoa(to.Broadcast), ""}})
		}
		return calls
	}
	for some := range slices.Chunk(users, acksAScript) {
		keys, args := make([]string, 0, len(some)+2), make([]string, 0, 2*len(some))
		for _, user := range some {
			to := taken[user].to
			keys, args = append(keys, s.mailboxOf(user).h), append(args, itoa(to.Mailbox), itoa(to.Broadcast))
		}
		calls = append(calls, call{&s.scripts.ackMany, append(keys, s.all.h), args})
	}
	return calls
}

// keepWritingAcks writes acks ackDelay after they have come, until Close.
func (s *Store) keepWritingAcks() {
	for wait := ackDelay; ; {
		select {
		case <-s.acks.due:
		case <-s.ctx.Done():
			return
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
		err := s.whileOpen(s.writeAcks)
		if err != nil && wait == ackDelay && !s.closed.Load() {
			s.opts.Logger.Warn("acks are not written yet; they are tried again", "error", err)
		}
		if wait = ackDelay; err != nil {
			wait = ackRetry
		}
	}
}

// countAcks adds to a duplicate's receipt who has acked it here by now. What a reply tells
// of is written first. written is what writtenSoFar was before the receipt was asked for: where
// acks were taken off the book since, the receipt may lack them, and has to be asked for again.
func (s *Store) countAcks(ctx context.Context, r *bridge.Receipt, written uint64) (again bool, err error) {
	if !r.Duplicate {
		return false, nil
	}
	some := false
	if !s.acks.empty() {
		for i := range r.Recipients {
			rc := &r.Recipients[i]
			a, ok := s.acks.of(rc.User)
			if ok && rc.Seq != 0 && a.life == s.Life() && a.to.Mailbox >= rc.Seq {
				rc.Acked, some = true, true
			}
		}
	}
	if s.acks.writtenSoFar() != written {
		return true, nil
	}
	if !some {
		return false, nil
	}
	return false, s.writeAcks(ctx)
}
