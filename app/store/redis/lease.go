package redis

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// leases is what is known of machines, as of the last renewal.
type leases struct {
	mu        sync.Mutex // guards what follows
	until     map[string]int64
	updated   time.Time // when until was, by this machine's clock
	sessions  map[string]int64
	gone      string    // the names of dead machines, run together
	sent      uint64    // ticks published
	heard     uint64    // the last tick heard; 0 before the first
	broadcast uint64    // the newest place among messages to all that is known here
	last      time.Time // when this machine asked for the renewal that succeeded last
}

func newLeases() *leases { return &leases{until: map[string]int64{}, sessions: map[string]int64{}} }

func (l *leases) tick() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	return l.sent
}

// ticked notes a tick that was heard and tells whether one before it was not.
func (l *leases) ticked(n uint64) (missed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	missed = l.heard != 0 && n > l.heard+1
	l.heard = n
	return missed
}

// forgetNewest is for when that log may have gone back.
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

// renewed notes a renewal, and lapsed tells whether the last one was so long ago that
// this machine may have missed what became of the store.
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

// lives tells whether a machine's word about a session counts, which is there since
// a time. A machine that is not known has just come, and so has its session; or it
// died long ago.
func (l *leases) lives(machine string, since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.until[machine]; !known && since.Before(l.updated.Add(-strangerAge)) {
		return false
	}
	return !strings.Contains(l.gone, machine)
}

// strangerAge is how old a session may be whose machine is not known. Its since is by
// the clock of another machine.
const strangerAge = time.Minute

// lapsedAt is when a dead machine was last known to live, by the clock of Redis.
func (l *leases) lapsedAt(machine string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.UnixMilli(l.until[machine])
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

func (l *leases) update(now int64, until map[string]int64, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until, l.gone, l.updated = until, "", at
	for machine, t := range until {
		if t < now {
			l.gone += machine + " "
		}
	}
}

// sessionsElsewhere counts the live sessions of all other machines, as they say
// with each that comes or goes.
func (e *Store) sessionsElsewhere(ctx context.Context) int {
	_, n, _ := e.machineKeys()
	if counts, err := e.client.Do(ctx, e.client.B().Hgetall().Key(n).Build()).AsIntMap(); err == nil {
		e.leases.count(counts)
	}
	return e.leases.sessionsElsewhere(e.self)
}

// headcount tells the others how many sessions this machine has.
func (e *Store) headcount() rueidis.Completed {
	_, n, _ := e.machineKeys()
	return e.client.B().Hset().Key(n).FieldValue().FieldValue(e.self, itoa(e.sessionsHere("", nil))).Build()
}

// renewing keeps this machine's word for the engine's life.
func (e *Store) renewing() {
	tick := time.NewTicker(e.opts.Renew)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-e.life.Done():
			return
		}
		ctx, cancel := context.WithTimeout(e.life, e.opts.Patience)
		err := e.checkPrimaries(ctx)
		if err == nil {
			err = e.renew(ctx)
		}
		cancel()
		if e.life.Err() == nil {
			e.health.note(err)
		}
	}
}

// upToDate renews first where this machine of a Cluster has been away for a lease: no
// script could tell it that the store lives another life by now.
func (e *Store) upToDate(ctx context.Context) error {
	if !e.cluster || !e.leases.lapsed(e.opts.Lease) {
		return nil
	}
	if err := e.checkPrimaries(ctx); err != nil {
		return err
	}
	return e.renew(ctx)
}

// renew says that this machine lives, and hears of the others.
func (e *Store) renew(ctx context.Context) error {
	asked := time.Now()
	z, n, epoch := e.machineKeys()
	name := randomName(8)
	reply, err := e.run(ctx, call{&e.scripts.renew, []string{z, n, epoch}, []string{
		e.self, itoa(e.opts.Lease.Milliseconds()), itoa(e.sessionsHere("", nil)), e.channel(), itoa(e.leases.tick()), name}})
	if err != nil {
		return err
	}
	list, err := reply.ToArray()
	if err != nil || len(list) != 5 {
		return e.fault(ctx, err)
	}
	now, err := list[0].AsInt64()
	if err != nil {
		return e.fault(ctx, err)
	}
	if name, err = list[1].ToString(); err != nil {
		return e.fault(ctx, err)
	}
	if was := e.epoch.Swap(&name); was != nil && *was != name {
		e.opts.Logger.Error("the store was emptied: what was promised before is gone, and sessions are told")
	}
	until, err := list[3].AsIntMap()
	if err != nil {
		return e.fault(ctx, err)
	}
	sessions, err := list[4].AsIntMap()
	if err != nil {
		return e.fault(ctx, err)
	}
	e.leases.count(sessions)
	e.leases.update(now, until, e.opts.Now())
	e.leases.renewed(asked)
	e.reapDead(now, until)
	lapsed, err := list[2].AsInt64()
	if err != nil {
		return e.fault(ctx, err)
	}
	// A renewal whose answer was lost may have been the one that found this out.
	e.renewals.Lock()
	late := time.Since(e.renewed) > e.opts.Lease
	e.renewed = time.Now()
	// Others may have struck this machine's sessions out, or be about to: once more
	// with the next renewal, when whoever does that has noticed.
	again := e.revived
	e.revived = late || lapsed == 1
	again = again || e.revived
	e.renewals.Unlock()
	if again {
		return e.reconcile(ctx)
	}
	return nil
}

// presence is what stands in a mailbox's l of a session: the machine, then the rest.
// lua/join.lua adds the life that it is written in.
func (e *Store) presence(m bridge.Member) string {
	enc := newEncoder(64)
	enc.text(tagFingerprint, m.Token) // first, where lua/lib.lua looks for it
	enc.text(tagUser, m.User)
	enc.text(tagFrom, m.Transport)
	enc.time(tagAt, m.Since)
	enc.text(tagID, m.TokenID)
	enc.time(tagExpires, m.Until)
	return e.self + string(enc.b)
}

// memberOf reads it back, and in which life it was written; that is empty where an
// older version did.
func memberOf(session, value string) (m bridge.Member, machine, life string, err error) {
	if len(value) < machineNameLen {
		return m, "", "", errFormat
	}
	m.Session = session
	err = decode([]byte(value[machineNameLen:]), func(tag byte, v []byte) {
		switch tag {
		case tagUser:
			m.User = string(v)
		case tagFrom:
			m.Transport = string(v)
		case tagAt:
			m.Since = decodeTime(v)
		case tagFingerprint:
			m.Token = string(v)
		case tagID:
			m.TokenID = string(v)
		case tagExpires:
			m.Until = decodeTime(v)
		case tagLife:
			life = string(v)
		}
	})
	return m, value[:machineNameLen], life, err
}
