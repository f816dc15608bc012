package redis

import (
	"context"
	"sync"

	"github.com/redis/rueidis"
)

// A session that ends while Redis cannot be reached would count as present for as long as
// this machine lives. It is remembered here, and taken out after the next renewal of this
// machine's lease that succeeds.

const (
	// maxLateLeaves is how many such sessions are remembered. The others are taken out
	// when this machine is gone.
	maxLateLeaves = 50_000
	// maxLateLogBytes is how much the delivery logs of these sessions take in all; further
	// ones are not kept.
	maxLateLogBytes = 16 << 20
)

// lateLeaves are sessions that are to be taken out.
type lateLeaves struct {
	mu       sync.Mutex // guards what follows
	waiting  []leaving
	logBytes int
	busy     bool // they are being taken out
}

// leaving is a session that ends.
type leaving struct {
	session, user string
	at            int64  // Unix nanoseconds
	log           string // its delivery log as JSON; empty for none
}

func (l *lateLeaves) add(all ...leaving) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range all {
		if len(l.waiting) >= maxLateLeaves {
			return
		}
		if l.logBytes+len(one.log) > maxLateLogBytes {
			one.log = ""
		}
		l.logBytes += len(one.log)
		l.waiting = append(l.waiting, one)
	}
}

// begin reports whether there are some, and the caller is to take them out; end follows.
func (l *lateLeaves) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy || len(l.waiting) == 0 {
		return false
	}
	l.busy = true
	return true
}

func (l *lateLeaves) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
}

// take returns up to n of them, which are remembered no longer.
func (l *lateLeaves) take(n int) []leaving {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.waiting))
	some := l.waiting[:n:n]
	if l.waiting = l.waiting[n:]; len(l.waiting) == 0 {
		l.waiting = nil
	}
	for _, one := range some {
		l.logBytes -= len(one.log)
	}
	return some
}

// leaveLate takes them out beside the renewals of this machine's lease.
func (s *Store) leaveLate() {
	if !s.lateLeaves.begin() {
		return
	}
	s.loops.Go(func() {
		defer s.lateLeaves.end()
		s.opts.Guard.Run("redis late leaves", func() {
			ctx, cancel := context.WithTimeout(s.ctx, reapTimeout)
			defer cancel()
			for some := s.lateLeaves.take(reapPage); len(some) > 0; some = s.lateLeaves.take(reapPage) {
				if err := s.leaveMany(ctx, some); err != nil {
					s.lateLeaves.add(some...)
					if s.ctx.Err() == nil {
						s.opts.Logger.Warn("sessions that have ended are still present; it is tried again", "sessions", len(some), "error", err)
					}
					return
				}
			}
		})
	})
}

// leaveMany takes sessions out that have ended, and has it seen whether their users are
// still there. Once more is no error.
func (s *Store) leaveMany(ctx context.Context, all []leaving) error {
	var leaves, gone []call
	var tags []string // of each a session and the tag of its user's keys
	unlist := rueidis.Commands{s.setSessionCount()}
	for _, one := range all {
		leaves = append(leaves, s.leaveCall(one))
		gone = append(gone, call{&s.scripts.outbox.gone, s.mailboxOf(one.user).timerKeys()[:1], []string{s.clockArg()}})
		tags = append(tags, one.session, userTag(one.user))
		unlist = append(unlist, s.unlistSession(one.session))
	}
	for _, r := range s.runMany(ctx, leaves) {
		if r.err != nil {
			return r.err
		}
	}
	if err := s.checkPresence(ctx, tags, gone); err != nil {
		return err
	}
	return s.do(ctx, unlist...)
}
