package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// A timer is kept in the slot of its user, beside the message that it is about, so that one
// script sees whether it is void. The scripts that store messages are sent without any of
// this unless a message has timers, or may take the place of one that has.

// timing is the timers of a message in one mailbox.
type timing struct {
	box         mailbox
	tag         string
	unacked     string // what each is about; empty for none
	expired     string
	unackedAt   int64 // when each is due, milliseconds of Redis' clock
	expiredAt   int64
	earliestDue int64
	stateKeyAt  int // where the state of its mailbox stands in the script's keys, from 1
}

// timing returns the timers of a message to a user; ok is false if the script needs to know
// of none.
func (s *Store) timing(m *bridge.Message, user string) (t timing, ok bool) {
	if len(s.opts.Backends) == 0 || user == "" || !m.Stored() {
		return t, false
	}
	timer := bridge.Timer{User: user, EventID: m.ID, EventType: m.Type}
	if m.Escalate > 0 && len(s.opts.Backends.Escalate(user)) > 0 {
		timer.After, timer.Due = m.Escalate, m.EscalatesAt(s.opts.Now())
		t.unacked, t.unackedAt = encodeTimer(timer), s.redisMs(timer.Due)
	}
	if len(s.opts.Backends.Want(bridge.CallbackExpired, user)) > 0 {
		timer.After, timer.Due = 0, m.Expires
		t.expired, t.expiredAt = encodeTimer(timer), s.redisMs(timer.Due)
	}
	if m.Topic == "" && t.unacked == "" && t.expired == "" {
		return t, false
	}
	t.box, t.tag = s.mailboxOf(user), "u"+short(user)
	t.earliestDue = t.expiredAt
	if t.unacked != "" && (t.expired == "" || t.unackedAt < t.expiredAt) {
		t.earliestDue = t.unackedAt
	}
	return t, true
}

func (t *timing) any() bool { return t.unacked != "" || t.expired != "" }

// withTimers adds timers to a call of lua/outbox_publish.lua or lua/outbox_deliver.lua, as
// lua/outbox_before.lua wants them.
func (s *Store) withTimers(c call, ts []timing) call {
	for _, t := range ts {
		c.keys = append(c.keys, t.box.timerKeys()...)
	}
	if !s.cluster {
		c.keys = append(c.keys, s.timerIndex())
	}
	due := func(text string, at int64) string {
		if text == "" {
			return ""
		}
		return itoa(at)
	}
	for _, t := range ts {
		c.args = append(c.args, itoa(t.stateKeyAt), t.tag, due(t.unacked, t.unackedAt), t.unacked, due(t.expired, t.expiredAt), t.expired)
	}
	// Of a mailbox's messages each has two timers at most; others are void, or go where
	// there are too many.
	c.args = append(c.args, itoa(s.nowMs()), itoa(4*s.opts.MailboxLimit+8), flag(!s.cluster), itoa(len(ts)))
	return c
}

// announceTimers has the index know of timers, before a script that cannot reach it writes
// them.
func (s *Store) announceTimers(ctx context.Context, ts []timing) error {
	var calls []call
	for _, t := range ts {
		if t.any() {
			calls = append(calls, call{&s.scripts.outbox.arm, []string{s.timerIndex()}, []string{t.tag, itoa(t.earliestDue), s.clockArg()}})
		}
	}
	for _, r := range s.runMany(ctx, calls) {
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

// publishKeys is how many keys each message has in lua/publish.lua; its mailbox's state is
// the second of them.
const publishKeys = 7

// timedPublish is a call of lua/publish.lua for a batch, with the timers that its messages
// have.
func (s *Store) timedPublish(c call, batch []*appending) call {
	if len(s.opts.Backends) == 0 {
		return c
	}
	var ts []timing
	for i, a := range batch {
		if t, ok := s.timing(a.m, a.user); ok {
			t.stateKeyAt = publishKeys*i + 2
			ts = append(ts, t)
		}
	}
	if ts == nil {
		return c
	}
	c.script = &s.scripts.outbox.publish
	return s.withTimers(c, ts)
}

// timedDeliver adds a message's timers to calls of lua/deliver.lua.
func (s *Store) timedDeliver(ctx context.Context, calls []call, as []*appending) error {
	if len(s.opts.Backends) == 0 {
		return nil
	}
	var all []timing
	for i, a := range as {
		if t, ok := s.timing(a.m, a.user); ok {
			t.stateKeyAt = 2
			all = append(all, t)
			calls[i].script = &s.scripts.outbox.deliver
			calls[i] = s.withTimers(calls[i], []timing{t})
		}
	}
	if !s.cluster {
		return nil
	}
	return s.announceTimers(ctx, all)
}

// recalledTimers are the calls that take out the timers of a message that is recalled.
func (s *Store) recalledTimers(user string, seq uint64) []call {
	if len(s.opts.Backends) == 0 || seq == 0 {
		return nil
	}
	return []call{{&s.scripts.outbox.recall, s.mailboxOf(user).timerKeys(), []string{itoa(seq)}}}
}

// passingOver is what precedes an ack that no backend hears of, for a user whose unacked
// events backends hear of: what has come to its end before escalates nevertheless.
func (s *Store) passingOver(user string, p bridge.Position) []call {
	if len(s.opts.Backends.Escalate(user)) == 0 {
		return nil
	}
	b := s.mailboxOf(user)
	return []call{{&s.scripts.outbox.late, append([]string{b.h}, append(b.timerKeys(), b.m)...), []string{
		itoa(p.Mailbox), s.clockArg(), itoa(bridge.LeaseFor.Milliseconds()), itoa(s.redisAhead())}}}
}

// LeaseTimers implements bridge.Outbox.
func (s *Store) LeaseTimers(ctx context.Context, n int) (out []bridge.Timer, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	v := visits{e: s, index: s.timerIndex(),
		call: func(b mailbox, n int) call {
			return call{&s.scripts.outbox.timers, append([]string{b.h, b.g}, b.timerKeys()...), []string{
				itoa(n), itoa(bridge.LeaseFor.Milliseconds()), s.clockArg(), itoa(s.nowMs())}}
		},
		take: func(_ mailbox, tag, till string, list []rueidis.RedisMessage) (n int, err error) {
			for i := 0; i+1 < len(list); i += 2 {
				name, err := list[i].ToString()
				if err != nil {
					return n, err
				}
				text, err := list[i+1].ToString()
				if err != nil {
					return n, err
				}
				t, err := decodeTimer(name, text)
				if err != nil {
					return n, err
				}
				t.Key = tag + " " + name + " " + till
				out, n = append(out, t), n+1
			}
			return n, nil
		}}
	_, err = v.run(ctx, n)
	if len(out) > 0 {
		err = nil
	}
	return out, err
}

// Fire implements bridge.Outbox.
func (s *Store) Fire(ctx context.Context, t bridge.Timer, cs ...bridge.Callback) (fired bool, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	words := strings.Fields(t.Key)
	if len(words) != 3 {
		return false, fmt.Errorf("redis: a timer has the key %q", t.Key)
	}
	b := s.mailboxAt(words[0])
	word, err := s.storing(cs).commit(ctx, s.runDurable, call{&s.scripts.outbox.fire, append([]string{b.h, b.g}, b.timerKeys()...), words[1:]})
	return word == "ok", s.fault(ctx, err)
}

// Arm implements bridge.Outbox.
func (s *Store) Arm(ctx context.Context, user string, due time.Time, begin bool, cs ...bridge.Callback) (begun bool, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	t := timing{box: s.mailboxOf(user), tag: "u" + short(user), unacked: encodeTimer(bridge.Timer{User: user, Due: due}), earliestDue: s.redisMs(due)}
	c := call{&s.scripts.outbox.presence, t.box.timerKeys(), []string{itoa(t.earliestDue), t.unacked, flag(begin), t.tag, flag(!s.cluster)}}
	if s.cluster {
		err = s.announceTimers(ctx, []timing{t})
	} else {
		c.keys = append(c.keys, s.timerIndex())
	}
	if err != nil {
		return false, err
	}
	word, err := s.storing(cs).commit(ctx, s.runDurable, c)
	return word == "ok", s.fault(ctx, err)
}

// placeOf is the place of a timer's message; 0 for one that is about none.
func placeOf(name string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimLeft(name, "uUxX"), 10, 64) // an offline timer has none
	return n
}
