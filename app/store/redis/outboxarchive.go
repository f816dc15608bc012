package redis

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// callbacks gives what waits and what was given up, each user's for each backend in
// the order in which it was stored. Both are kept under keys of their own, and a key may
// come twice.
func (d *dumping) callbacks(ctx context.Context, keys []string) error {
	for _, key := range keys {
		tag, rest := d.split(key)
		_, backend, _ := strings.Cut(rest, ":")
		if _, twice := d.told[tag+" "+backend]; twice {
			continue
		}
		d.told[tag+" "+backend] = struct{}{}
		if err := d.callbacksOf(ctx, tag, backend); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumping) callbacksOf(ctx context.Context, tag, backend string) error {
	e := d.e
	k := e.mailboxAt(tag).callbackKeys(backend)
	kept, err := repliesOf(ctx, e, k[2:4], e.hgetall, (*rueidis.RedisResult).AsStrMap)
	if err != nil {
		return err
	}
	scores, err := e.client.Do(ctx, e.client.B().Zrange().Key(k[0]).Min("0").Max("-1").Withscores().Build()).AsZScores()
	if err = e.fault(ctx, err); err != nil {
		return err
	}
	due := make(map[string]int64, len(scores))
	for _, s := range scores {
		due[s.Member] = dueNanos(s.Score)
	}
	list, err := decodeCallbacks(backend, kept)
	if err != nil {
		return fmt.Errorf("read a callback of %s: %w", tag, err)
	}
	for _, one := range list {
		d.learn(one.User)
	}
	oldest := time.UnixMilli(d.now).Add(-bridge.DeadCallbacksFor)
	for _, one := range list {
		if !one.givenUp.IsZero() && !waits(kept[0], one.ID) && !one.givenUp.After(oldest) {
			continue
		}
		c := &bridge.CallbackEntry{ID: one.ID, Backend: backend, Type: one.Type, User: one.User, At: nanos(one.At),
			Tries: one.tries, Since: nanos(one.since), Body: one.Body}
		if waits(kept[0], one.ID) {
			c.Due = due[one.ID]
		} else {
			c.Dead, c.Last = nanos(one.givenUp), one.last
		}
		if err := d.take(bridge.Entry{Callback: c}); err != nil {
			return err
		}
	}
	return nil
}

// dueNanos is when a callback is due, of its score. Its last nanosecond says to other stores
// whether Hurry may bring it forward: then it is odd.
func dueNanos(score float64) int64 {
	at := int64(math.Ceil(score)) * int64(time.Millisecond)
	if score != math.Floor(score) {
		at++
	}
	return at
}

// waits reports whether a callback is among those that wait: one that was sent again still
// says when it was given up.
func waits(waiting map[string]string, id string) bool {
	_, yes := waiting[id]
	return yes
}

// taken gives what backends have taken of users' messages. The name of a user who was in
// nothing else that is kept is not known.
func (d *dumping) taken(ctx context.Context, keys []string) error {
	e := d.e
	lists, err := repliesOf(ctx, e, keys, func(key string) rueidis.Completed {
		return e.client.B().Zrange().Key(key).Min("0").Max("-1").Withscores().Build()
	}, (*rueidis.RedisResult).AsZScores)
	if err != nil {
		return err
	}
	oldest := d.now - bridge.DeadCallbacksFor.Milliseconds()
	for i, list := range lists {
		tag, rest := d.split(keys[i])
		_, backend, _ := strings.Cut(rest, ":")
		user, hash := d.names[tag], []byte(nil)
		if user == "" {
			if hash, err = nameEncoding.DecodeString(strings.TrimPrefix(tag, "u")); err != nil {
				return fmt.Errorf("read whose messages %s has: %w", keys[i], err)
			}
		}
		for _, one := range list {
			if int64(one.Score) <= oldest {
				continue
			}
			t := &bridge.TakenEntry{ID: one.Member, Backend: backend, User: user, Hash: hash, At: int64(one.Score) * int64(time.Millisecond)}
			if err := d.take(bridge.Entry{Taken: t}); err != nil {
				return err
			}
		}
	}
	return nil
}

// timers gives timers that are not void.
func (d *dumping) timers(ctx context.Context, keys []string) error {
	e := d.e
	calls := make([]call, len(keys))
	for i, key := range keys {
		tag, _ := d.split(key)
		b := e.mailboxAt(tag)
		calls[i] = call{&e.scripts.outbox.liveTimers, []string{b.h, b.g, key}, nil}
	}
	for i, r := range e.runMany(ctx, calls) {
		if r.err != nil {
			return r.err
		}
		list, err := r.message.AsStrSlice()
		if err != nil {
			return e.fault(ctx, err)
		}
		for j := 0; j+1 < len(list); j += 2 {
			t, err := decodeTimer(list[j], list[j+1])
			if err != nil {
				return fmt.Errorf("read a timer of %s: %w", keys[i], err)
			}
			err = d.take(bridge.Entry{Timer: &bridge.TimerEntry{User: t.User, Seq: placeOf(list[j]), Type: t.Type, EventID: t.EventID,
				EventType: t.EventType, After: int64(t.After), Due: nanos(t.Due)}})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// callback keeps one of an export. Numbers of those in order are given anew, in the order in
// which they come.
func (l *loading) callback(c *bridge.CallbackEntry) {
	e := l.e
	l.callbacks++
	k := keptCallback{Callback: bridge.Callback{ID: c.ID, Backend: c.Backend, Type: c.Type, User: c.User, At: bridge.ArchiveTime(c.At), Body: c.Body},
		tries: c.Tries, since: bridge.ArchiveTime(c.Since), givenUp: bridge.ArchiveTime(c.Dead), last: c.Last}
	if k.InOrder() {
		k.number = l.now*1000 + l.callbacks
	}
	x, b := e.callbackIndex(c.Backend), e.mailboxOf(c.User)
	l.add(e.client.B().Sadd().Key(e.backendsKey()).Member(c.Backend).Build())
	due := ""
	if c.Dead != 0 {
		l.run(call{&e.scripts.outbox.loadDead, x.dead[:], []string{callbackMember(c.ID, "u"+short(c.User), len(c.Body)), itoa(millis(c.Dead))}})
	} else {
		s := e.storing([]bridge.Callback{k.Callback})
		s.unbounded = true
		l.run(s.add(call{script: &e.scripts.outbox.admit}, false, true))
		if c.Due != 0 {
			due = itoa(millis(c.Due))
			if c.Due&1 != 0 { // see dueNanos
				due = hurried(millis(c.Due))
				l.run(call{&e.scripts.outbox.toHurry, []string{x.hurry}, []string{"u" + short(c.User), e.clockArg()}})
			}
		}
	}
	l.run(call{&e.scripts.outbox.load, b.callbackKeys(c.Backend), []string{c.ID, classOf(c.Type), k.encode(), due, flag(c.Dead != 0), e.clockArg()}})
}

// taken keeps one of an export.
func (l *loading) taken(t *bridge.TakenEntry) {
	e := l.e
	tag := "u" + short(t.User)
	if len(t.Hash) > 0 {
		tag = "u" + nameEncoding.EncodeToString(t.Hash)
	}
	key := e.mailboxAt(tag).callbackKeys(t.Backend)[4]
	l.add(e.client.B().Zadd().Key(key).ScoreMember().ScoreMember(float64(millis(t.At)), t.ID).Build())
	l.prolong(key, bridge.DeadCallbacksFor.Milliseconds())
}

// timer keeps one of an export.
func (l *loading) timer(t *bridge.TimerEntry) {
	e := l.e
	kind := map[string]string{bridge.CallbackUnacked: unackedTimer, bridge.CallbackExpired: expiredTimer, bridge.CallbackOffline: offlineTimer}[t.Type]
	value := encodeTimer(bridge.Timer{Type: t.Type, User: t.User, EventID: t.EventID, EventType: t.EventType,
		After: time.Duration(t.After), Due: bridge.ArchiveTime(t.Due)})
	b, due := e.mailboxOf(t.User), itoa(millis(t.Due))
	l.run(call{&e.scripts.outbox.arm, []string{e.timerIndex()}, []string{"u" + short(t.User), due, e.clockArg()}})
	l.run(call{&e.scripts.outbox.loadTimer, append([]string{b.h}, b.timerKeys()...), []string{kind, itoa(t.Seq), due, value, e.clockArg()}})
}
