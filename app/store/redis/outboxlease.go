package redis

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

const (
	// visitFor is how long a machine that was told by an index that a user has something due
	// is left alone with that user.
	visitFor = 10 * time.Second
	// visitRounds bounds how many pages of an index one caller goes through.
	visitRounds = 16
)

// visits are a machine's visits to the slots of users who have something that is due.
type visits struct {
	e     *Store
	index string
	call  func(b mailbox, n int) call // leases n things at most
	// take gets what was leased: after its end, of each what the script returns. It
	// returns how many there are.
	take func(b mailbox, tag string, till string, list []rueidis.RedisMessage) (int, error)
}

// run visits until n things are leased. It returns when the next may be due, by the clock of
// Redis (zero without one), and why nothing was leased in the last round, if it failed.
func (v *visits) run(ctx context.Context, n int) (next time.Time, err error) {
	for range visitRounds {
		var taken int
		var more bool
		// Users of a Cluster's server that is gone do not keep those behind them waiting.
		taken, more, next, err = v.round(ctx, n)
		if n -= taken; n <= 0 || !more || ctx.Err() != nil {
			return next, err
		}
	}
	if err != nil {
		return next, err
	}
	return time.UnixMilli(v.e.redisMs(v.e.opts.Now())), nil
}

// visit is one of them.
type visit struct {
	tag, till, empty string
}

// round visits up to n users. more: there may be more that are due.
func (v *visits) round(ctx context.Context, n int) (taken int, more bool, next time.Time, err error) {
	e := v.e
	reply, err := e.run(ctx, call{&e.scripts.outbox.claim, []string{v.index}, []string{itoa(n), itoa(visitFor.Milliseconds()), e.clockArg()}})
	if err != nil {
		return 0, false, next, err
	}
	list, err := reply.AsStrSlice()
	if err != nil || len(list) < 2 {
		return 0, false, next, e.fault(ctx, fmt.Errorf("redis: an answer of %d parts: %w", len(list), err))
	}
	now, _ := strconv.ParseInt(list[0], 10, 64)
	next = scoreTime(list[1])
	var all []visit
	for i := 2; i+2 < len(list); i += 3 {
		all = append(all, visit{list[i], list[i+1], list[i+2]})
	}
	if len(all) == 0 {
		return 0, false, next, nil
	}
	calls := make([]call, len(all))
	for i, one := range all {
		calls[i] = v.call(e.mailboxAt(one.tag), max(1, n/len(all)))
	}
	args := []string{e.clockArg()}
	var failed error
	for i, r := range e.visitSlots(ctx, calls) {
		if r.err != nil { // it is visited again after visitFor
			failed = r.err
			continue
		}
		got, err := r.message.ToArray()
		if err != nil || len(got) < 2 {
			failed = e.fault(ctx, fmt.Errorf("redis: an answer of %d parts: %w", len(got), err))
			continue
		}
		due, _ := got[0].ToString()
		till, _ := got[1].ToString()
		some, err := v.take(e.mailboxAt(all[i].tag), all[i].tag, till, got[2:])
		if err != nil {
			failed = fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
		}
		taken += some
		args = append(args, all[i].tag, all[i].till, due, all[i].empty)
		if at := scoreTime(due); !at.IsZero() {
			more = more || at.UnixMilli() <= now
			if next.IsZero() || at.Before(next) {
				next = at
			}
		}
	}
	if len(args) > 1 {
		if _, err := e.run(ctx, call{&e.scripts.outbox.visited, []string{v.index}, args}); err != nil && failed == nil && taken == 0 {
			failed = err
		}
	}
	if taken > 0 {
		failed = nil // what could not be leased is due again
	}
	return taken, more || len(all) == n, next, failed
}

// visitSlots runs scripts each of which leases what one user has. A slot that is moving does
// not keep the others waiting.
func (s *Store) visitSlots(ctx context.Context, calls []call) []replied {
	if s.opts.WaitReplicas == 0 {
		return s.runTurns(ctx, calls, 0)
	}
	return s.runManyDurably(ctx, calls)
}

// scoreTime is a score of milliseconds as a time; zero if it is empty.
func scoreTime(text string) time.Time {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(int64(f + 0.5))
}

// Lease implements bridge.Outbox.
func (s *Store) Lease(ctx context.Context, backend string, n int) (due []bridge.Leased, next time.Time, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, next, err
	}
	defer leave()
	var all []dueCallback
	v := visits{e: s, index: s.callbackIndex(backend).due,
		call: func(b mailbox, n int) call {
			k := b.callbackKeys(backend)
			return call{&s.scripts.outbox.lease, k[:3], []string{itoa(n), itoa(bridge.LeaseFor.Milliseconds()), s.clockArg()}}
		},
		take: func(_ mailbox, tag, till string, list []rueidis.RedisMessage) (n int, err error) {
			for i := 0; i+2 < len(list); i += 3 {
				one, err := leased(backend, tag, till, list[i:i+3])
				if err != nil {
					return n, err
				}
				all, n = append(all, one), n+1
			}
			return n, nil
		}}
	if next, err = v.run(ctx, n); !next.IsZero() {
		next = next.Add(-time.Duration(s.redisAhead()) * time.Millisecond)
	}
	slices.SortStableFunc(all, byDue)
	for _, one := range all {
		due = append(due, one.Leased)
	}
	if len(due) > 0 {
		err = nil
	}
	return due, next, err
}

// byDue orders leased callbacks, those first that have been due longest.
func byDue(a, b dueCallback) int { return cmp.Compare(a.due, b.due) }

type dueCallback struct {
	bridge.Leased
	due float64
}

// leased reads a callback that was leased till a time: its id, since when it was due, itself.
func leased(backend, tag, till string, parts []rueidis.RedisMessage) (c dueCallback, err error) {
	var words [3]string
	for i := range words {
		if words[i], err = parts[i].ToString(); err != nil {
			return c, err
		}
	}
	k, err := decodeCallback(backend, words[0], words[2])
	if err != nil {
		return c, err
	}
	c.Leased = bridge.Leased{Callback: k.Callback, Tries: k.tries, Since: k.since, Key: tag + " " + till}
	c.due, err = strconv.ParseFloat(words[1], 64)
	return c, err
}

// settling is one settlement.
type settling struct {
	bridge.Settlement
	how, tag, till, member string
	call                   call
	gone                   bool   // it does not wait any more
	isDead                 bool   // it is among those that were given up
	wasDead                bool   // it was, until now
	next                   string // when the next one of its user is due
}

// Settle implements bridge.Outbox. A callback that is given up is listed first, so that
// none is without an entry in the list.
func (s *Store) Settle(ctx context.Context, done ...bridge.Settlement) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	of := make(map[string][]*settling)
	for _, d := range done {
		one := &settling{Settlement: d, how: "dead"}
		tag, till, ok := strings.Cut(d.Key, " ")
		if !ok {
			return fmt.Errorf("redis: a lease has the key %q", d.Key)
		}
		one.tag, one.till, one.member = tag, till, callbackMember(d.ID, tag, len(d.Body))
		again, suffix := "", ""
		switch {
		case d.Done:
			one.how = "done"
		case !d.Again.IsZero():
			at := s.redisMs(d.Again)
			one.how, again = "again", itoa(at)
			if d.Hurry {
				again = hurried(at)
			}
		default:
			suffix = givenUp(s.opts.Now(), d.Last)
		}
		one.call = call{&s.scripts.outbox.settle, s.mailboxAt(tag).callbackKeys(d.Backend), []string{
			one.how, d.ID, till, callbackHead(d.Tries, d.Since), again, suffix, itoa(bridge.DeadCallbacksFor.Milliseconds()),
			itoa(bridge.RememberTaken), s.clockArg()}}
		of[d.Backend] = append(of[d.Backend], one)
	}
	for _, backend := range slices.Sorted(maps.Keys(of)) {
		if err := s.settle(ctx, backend, of[backend]); err != nil {
			return err
		}
	}
	return nil
}

// settle settles callbacks of one backend.
func (s *Store) settle(ctx context.Context, backend string, list []*settling) error {
	var dead []string
	for _, one := range list {
		if one.how == "dead" {
			dead = append(dead, one.member)
		}
	}
	if len(dead) > 0 {
		if err := s.bury(ctx, backend, dead); err != nil {
			return err
		}
	}
	calls := make([]call, len(list))
	for i, one := range list {
		calls[i] = one.call
	}
	args, unburied := []string{s.clockArg()}, []string(nil)
	var failed error
	due := false
	for i, r := range s.runManyDurably(ctx, calls) {
		one := list[i]
		if err := one.read(r); err != nil {
			failed = s.fault(ctx, err)
			continue
		}
		if one.how == "dead" && !one.isDead || one.wasDead {
			unburied = append(unburied, one.member)
		}
		class, member := "", ""
		if one.gone {
			class, member = classOf(one.Type), one.member
		}
		due = due || one.next != ""
		args = append(args, one.tag, one.next, class, member, flag(one.Hurry && one.how == "again"))
	}
	x := s.callbackIndex(backend)
	if len(args) > 1 {
		if _, err := s.run(ctx, call{&s.scripts.outbox.settled, append([]string{x.due, x.hurry}, x.counted()...), args}); err != nil {
			failed = err
		}
	}
	if len(unburied) > 0 {
		s.tryRun(ctx, call{&s.scripts.outbox.unbury, x.dead[:], unburied})
	}
	if due {
		s.signalPosted()
	}
	return failed
}

// read reads the answer of lua/outbox_settle.lua.
func (s *settling) read(r replied) error {
	if r.err != nil {
		return r.err
	}
	list, err := r.message.ToArray()
	if err != nil || len(list) != 3 {
		return fmt.Errorf("redis: an answer of %d parts: %w", len(list), err)
	}
	gone, err := list[0].AsInt64()
	if err != nil {
		return err
	}
	dead, err := list[2].AsInt64()
	if err != nil {
		return err
	}
	s.gone, s.isDead, s.wasDead = gone == 1, dead == 1, dead == 2
	s.next, err = list[1].ToString()
	return err
}
