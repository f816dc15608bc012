package redis

import (
	"context"
	"strings"
	"sync"
	"time"

	"hookbridge/app/bridge"
)

// A callback is kept in the slot of its user, so that one script stores it with what
// causes it. The slot of all callbacks has indexes of them: which users have something
// that is due, and what waits for each backend. lua/outbox_lib.lua tells what is where.
//
// On one Redis a script writes to both. On a Cluster the indexes are written first, so that
// a machine that dies between leaves an entry with nothing behind it, which whoever comes by
// takes out, and never a callback that nobody finds. What is counted is therefore nearly
// what there is; after a death it is too much for a while.
//
// A lease on a callback is a time in the user's slot at which it is due again. The same
// script reads and sets it, by the clock of Redis, so that one machine has it, and loses
// it by dying.

// outbox is what a Store has for callbacks.
type outbox struct {
	posted chan struct{} // gets a value when something became due

	listings sync.Mutex // held by listDue
}

var _ bridge.Outbox = (*Store)(nil)

// duePoll is how often a machine looks for callbacks that other machines have stored.
const duePoll = time.Second

// callbackKeys are the keys of a user's callbacks for one backend.
func (b mailbox) callbackKeys(backend string) []string {
	return []string{b.base + "o:" + backend, b.base + "q:" + backend, b.base + "b:" + backend, b.base + "d:" + backend, b.base + "s:" + backend}
}

// timerKeys are the keys of a user's timers.
func (b mailbox) timerKeys() []string { return []string{b.base + "w", b.base + "W"} }

// callbackIndex are the keys of the indexes of a backend's callbacks.
type callbackIndex struct {
	due     string
	hurry   string
	waiting [3]string // user.*, event.* and message.sent
	bytes   [2]string // of all that waits, and of message.sent
	dead    [3]string // by id, by when they were given up, and their bytes
}

func (s *Store) callbackIndex(backend string) callbackIndex {
	base := s.opts.Prefix + ":{callbacks}:"
	return callbackIndex{due: base + "z:" + backend, hurry: base + "H:" + backend, bytes: [2]string{base + "y:" + backend, base + "ym:" + backend},
		waiting: [3]string{base + "au:" + backend, base + "ae:" + backend, base + "am:" + backend},
		dead:    [3]string{base + "D:" + backend, base + "x:" + backend, base + "Y:" + backend}}
}

// counted are the keys that admit and unlist in lua/outbox_lib.lua need.
func (x *callbackIndex) counted() []string { return append(x.waiting[:], x.bytes[:]...) }

// timerIndex is the key of the index of timers.
func (s *Store) timerIndex() string { return s.opts.Prefix + ":{callbacks}:t" }

// backendsKey is the key of the names of all backends that there have ever been.
func (s *Store) backendsKey() string { return s.opts.Prefix + ":{machines}:backends" }

// clockArg is the time for scripts that ask for it: empty, as Redis has its own, but in
// tests.
func (s *Store) clockArg() string {
	if s.opts.redisClock {
		return ""
	}
	return itoa(s.nowMs())
}

// redisAhead is by how many milliseconds the clock of Redis is ahead of this machine's, as of
// the last renewal; 0 where it is less than a second. Leases of callbacks end by the clock of
// Redis, and are in the same sorted sets as what is due by that of a machine.
func (s *Store) redisAhead() int64 { return s.leases.ahead.Load() }

// redisMs is a time of this machine by the clock of Redis.
func (s *Store) redisMs(t time.Time) int64 { return t.UnixMilli() + s.redisAhead() }

// classes are the letters of lua/outbox_lib.lua, in the order of callbackIndex.waiting.
var classes = [3]string{"u", "e", "m"}

func classOf(kind string) string {
	switch {
	case strings.HasPrefix(kind, "user."):
		return "u"
	case strings.HasPrefix(kind, "event."):
		return "e"
	}
	return "m"
}

// callbackMember is a callback in the indexes.
func callbackMember(id, tag string, size int) string { return id + " " + tag + " " + itoa(size) }

// splitMember is the id and the tag of a member. Those of callbacks that older versions have
// given up end there.
func splitMember(member string) (id, tag string) {
	id, rest, _ := strings.Cut(member, " ")
	tag, _, _ = strings.Cut(rest, " ")
	return id, tag
}

// beginOutbox makes the outbox ready, and looks for callbacks of other machines until
// Close, if there are backends.
func (s *Store) beginOutbox(ctx context.Context) error {
	if len(s.opts.Backends) == 0 {
		return nil
	}
	if err := s.nameBackends(ctx); err != nil {
		return err
	}
	due := make([]string, len(s.opts.Backends))
	for i, b := range s.opts.Backends {
		due[i] = s.callbackIndex(b.Name).due
	}
	s.loops.Go(func() { s.opts.Guard.Loop("redis callbacks", s.ctx.Done(), func() { s.pollDue(due) }) })
	return nil
}

// nameBackends has all machines know the names of this one's backends.
func (s *Store) nameBackends(ctx context.Context) error {
	if len(s.opts.Backends) == 0 {
		return nil
	}
	names := make([]string, len(s.opts.Backends))
	for i, b := range s.opts.Backends {
		names[i] = b.Name
	}
	return s.do(ctx, s.client.B().Sadd().Key(s.backendsKey()).Member(names...).Build())
}

func (s *Store) pollDue(due []string) {
	tick := time.NewTicker(duePoll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		err := s.whileOpen(func(ctx context.Context) error {
			reply, err := s.run(ctx, call{&s.scripts.outbox.due, due, []string{s.clockArg()}})
			if err != nil {
				return err
			}
			list, err := reply.ToArray()
			if len(list) > 0 {
				s.signalPosted()
			}
			return s.fault(ctx, err)
		})
		if err != nil && !s.closed.Load() {
			s.health.note(err)
		}
	}
}

func (s *Store) signalPosted() {
	select {
	case s.outbox.posted <- struct{}{}:
	default:
	}
}

// Posted implements bridge.Outbox.
func (s *Store) Posted() <-chan struct{} { return s.outbox.posted }

// Post implements bridge.Outbox. Callbacks of several users are admitted together, and
// stored one user after the other: where that fails half way, those that are stored are
// known when the caller posts all of them again.
func (s *Store) Post(ctx context.Context, cs ...bridge.Callback) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if len(cs) == 0 {
		return nil
	}
	st := s.storing(cs)
	if _, one := st.user(); one {
		_, err := st.commit(ctx, s.runDurable, call{script: &s.scripts.outbox.post})
		return s.fault(ctx, err)
	}
	admitted, isNew, err := st.admit(ctx, s.run)
	if err != nil {
		return s.fault(ctx, err)
	}
	done := make(map[string]bool)
	for _, c := range admitted.cs {
		if done[c.User] {
			continue
		}
		done[c.User] = true
		var ofUser []bool
		some := admitted.only(func(i int) bool {
			if admitted.cs[i].User != c.User {
				return false
			}
			ofUser = append(ofUser, isNew[i])
			return true
		})
		if _, err := some.finish(ctx, s.runDurable, call{script: &s.scripts.outbox.post}, ofUser); err != nil {
			return s.fault(ctx, err)
		}
	}
	return nil
}
