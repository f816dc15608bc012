package redis

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// leases is what this machine knows of all machines, as of its last renewal.
type leases struct {
	mu        sync.Mutex       // guards what follows
	until     map[string]int64 // when each machine's lease lapses, by the clock of Redis
	updated   time.Time        // when until was read, by this machine's clock
	sessions  map[string]int64 // how many each machine has
	gone      string           // the names of machines whose leases have lapsed, each with a blank
	sent      uint64           // ticks that were to be published
	heard     uint64           // the last tick heard; 0 before the first
	unheard   int              // ticks published since one was heard, or the channels were subscribed
	broadcast uint64           // the newest place among messages to all, as far as is known
	last      time.Time        // when the last renewal that succeeded was begun
	since     time.Time        // since when renewals have succeeded, each within the lease of the one before
	returned  bool             // they had failed for longer than a lease before

	ahead atomic.Int64 // by how many milliseconds the clock of Redis is ahead of this machine's
}

// leastAhead is the least difference of clocks that counts.
const leastAhead = time.Second

// compare notes the difference of clocks: Redis told its time between two moments of this
// machine. other: the difference is another one than before.
func (l *leases) compare(now int64, asked, answered time.Time) (ahead time.Duration, other bool) {
	took := answered.Sub(asked)
	ahead = time.UnixMilli(now).Sub(asked.Add(took / 2))
	if ahead.Abs() < max(leastAhead, took) {
		ahead = 0
	}
	was := time.Duration(l.ahead.Swap(ahead.Milliseconds())) * time.Millisecond
	return ahead, (ahead - was).Abs() >= leastAhead
}

func newLeases() *leases { return &leases{until: map[string]int64{}, sessions: map[string]int64{}} }

func (l *leases) tick() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	return l.sent
}

// ticked notes a tick that was heard and reports whether one before it was missed.
func (l *leases) ticked(n uint64) (missed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	missed = l.heard != 0 && n > l.heard+1
	l.heard, l.unheard = n, 0
	return missed
}

// published notes that a tick was published, and reports whether the channels seem not to
// be heard: they are subscribed at a server that nobody else is connected to.
func (l *leases) published() (deaf bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unheard++
	return l.unheard > deafTicks
}

// subscribed notes that ticks are to be heard from now on.
func (l *leases) subscribed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unheard = 0
}

// deafTicks is how many ticks a slow network may keep on their way.
const deafTicks = 3

// forgetNewest forgets what newest knows: the log of messages to all may have gone back in
// time.
func (l *leases) forgetNewest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broadcast = 0
}

// newest notes a place among messages to all, and returns the newest that is known.
func (l *leases) newest(seq uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broadcast = max(l.broadcast, seq)
	return l.broadcast
}

// renewed notes a renewal; lapsed reports whether the last one was so long ago that this
// machine may have missed a change of the store's life.
func (l *leases) renewed(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = at
}

func (l *leases) lapsed(lease time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.last) > lease
}

func (l *leases) dead() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

// alive reports whether a machine is alive that has a session since a time. A machine
// that is not known here either has just started, and then its session is young, or it
// died long ago.
func (l *leases) alive(machine string, since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.until[machine]; !known && since.Before(l.updated.Add(-unknownMachineAge)) {
		return false
	}
	return !strings.Contains(l.gone, machine)
}

// unknownMachineAge is how old a session of an unknown machine may be. The session's
// since is by the clock of that machine.
const unknownMachineAge = time.Minute

// lapsedAt is when a dead machine's lease lapsed.
func (l *leases) lapsedAt(machine string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.UnixMilli(l.until[machine] - l.ahead.Load())
}

func (l *leases) sessionsElsewhere(self string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for machine, sessions := range l.sessions {
		if machine != self && !strings.Contains(l.gone, machine) {
			n += int(sessions)
		}
	}
	return n
}

func (l *leases) count(sessions map[string]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions = sessions
}

// update notes the leases of all machines. While this machine has just come back from an
// outage, no other machine whose lease has lapsed meanwhile counts as dead: it was the same
// outage for all of them, and each comes back in its own time.
func (l *leases) update(now int64, until map[string]int64, at time.Time, lease time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	patient, before := l.returned && time.Since(l.since) < lease, l.gone
	l.until, l.gone, l.updated = until, "", at
	for machine, t := range until {
		if t < now && (!patient || strings.Contains(before, machine)) {
			l.gone += machine + " "
		}
	}
}

// begun notes that renewals succeed again: at the start of this machine, or when its lease
// had lapsed.
func (l *leases) begun(returned bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since, l.returned = time.Now(), returned
}

// steady reports whether renewals have succeeded for as long as any other machine may take
// to come back after an outage.
func (l *leases) steady(lease time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.since) >= lease
}

// sessionsElsewhere counts the live sessions of all other machines. Each machine updates
// its count when a session comes or goes.
func (s *Store) sessionsElsewhere(ctx context.Context) int {
	_, n, _ := s.machineKeys()
	if counts, err := s.client.Do(ctx, s.client.B().Hgetall().Key(n).Build()).AsIntMap(); err == nil {
		s.leases.count(counts)
	}
	return s.leases.sessionsElsewhere(s.self)
}

// setSessionCount tells other machines how many sessions this one has.
func (s *Store) setSessionCount() rueidis.Completed {
	_, n, _ := s.machineKeys()
	return s.client.B().Hset().Key(n).FieldValue().FieldValue(s.self, itoa(s.sessionsHere("", nil))).Build()
}

// keepRenewing renews this machine's lease until Close.
func (s *Store) keepRenewing() {
	tick := time.NewTicker(s.opts.Renew)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		err := s.whileOpen(func(ctx context.Context) error {
			if err := s.checkPrimaries(ctx); err != nil {
				return err
			}
			return s.renew(ctx)
		})
		if !s.closed.Load() {
			s.health.note(err)
		}
	}
}

// ensureRenewed renews the lease first if it has lapsed and the store is a Cluster: no
// script could tell this machine that the store lives another life by now.
func (s *Store) ensureRenewed(ctx context.Context) error {
	if !s.cluster || !s.leases.lapsed(s.opts.Lease) {
		return nil
	}
	if err := s.checkPrimaries(ctx); err != nil {
		return err
	}
	return s.renew(ctx)
}

// renew renews this machine's lease and reads those of the others.
func (s *Store) renew(ctx context.Context) error {
	asked, own := time.Now(), s.opts.Now()
	z, n, epoch := s.machineKeys()
	name := randomName(8)
	reply, err := s.run(ctx, call{&s.scripts.renew, []string{z, n, epoch}, []string{
		s.self, itoa(s.opts.Lease.Milliseconds()), itoa(s.sessionsHere("", nil)), s.channel(), itoa(s.leases.tick()), name}})
	if err != nil {
		return err
	}
	list, err := reply.ToArray()
	if err != nil || len(list) != 5 {
		return s.fault(ctx, err)
	}
	now, err := list[0].AsInt64()
	if err != nil {
		return s.fault(ctx, err)
	}
	if name, err = list[1].ToString(); err != nil {
		return s.fault(ctx, err)
	}
	if was := s.epoch.Swap(&name); was != nil && *was != name {
		s.opts.Logger.Error("the store was emptied: what was promised before is gone, and sessions are told")
	}
	until, err := list[3].AsIntMap()
	if err != nil {
		return s.fault(ctx, err)
	}
	sessions, err := list[4].AsIntMap()
	if err != nil {
		return s.fault(ctx, err)
	}
	lapsed, err := list[2].AsInt64()
	if err != nil {
		return s.fault(ctx, err)
	}
	// The renewal that found the lease lapsed may be one whose answer was lost.
	s.renewals.Lock()
	first, late := s.renewed.IsZero(), time.Since(s.renewed) > s.opts.Lease
	s.renewed = time.Now()
	// Other machines may have taken this one's sessions out, or be about to. Those that
	// are about to have noticed by the next renewal: reconcile then once more.
	again := s.revived
	s.revived = !first && (late || lapsed == 1) // a machine that is new has no lease that could have lapsed
	if first || s.revived {
		s.leases.begun(s.revived)
	}
	again = again || s.revived
	s.renewals.Unlock()
	if s.opts.redisClock {
		if ahead, other := s.leases.compare(now, own, s.opts.Now()); other {
			s.opts.Logger.Warn("the clocks of Redis and of this machine differ by another amount than before; both should be set by NTP", "redis_ahead", ahead.Round(time.Second).String())
		}
	}
	s.leases.count(sessions)
	s.leases.update(now, until, s.opts.Now(), s.opts.Lease)
	s.leases.renewed(asked)
	if s.leases.published() {
		s.subscribeAnew()
	}
	if s.leases.steady(s.opts.Lease) {
		s.reapDead(now, until)
	}
	s.leaveLate()
	if again {
		s.lost.Store(true)
		return s.reconcile(ctx)
	}
	return nil
}
