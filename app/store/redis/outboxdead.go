package redis

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// bury lists callbacks (each an id and a tag) as given up, and takes out those that have
// been kept for long enough, or are too many.
func (e *Store) bury(ctx context.Context, backend string, members []string) error {
	x := e.callbackIndex(backend)
	reply, err := e.run(ctx, call{&e.scripts.outbox.bury, x.dead[:], append([]string{
		itoa(bridge.DeadCallbacksFor.Milliseconds()), itoa(e.opts.MaxCallbacks), e.clockArg()}, members...)})
	if err != nil {
		return err
	}
	gone, err := reply.AsStrSlice()
	if err = e.fault(ctx, err); err != nil {
		return err
	}
	var cmds rueidis.Commands
	for _, member := range gone {
		id, tag, _ := strings.Cut(member, " ")
		cmds = append(cmds, e.client.B().Hdel().Key(e.mailboxAt(tag).callbackKeys(backend)[3]).Field(id).Build())
	}
	return e.do(ctx, cmds...)
}

// eachDead calls take with the callbacks that were given up, by their ids, from those
// after an id on, until it returns false. Entries of the list with nothing behind them are
// taken out.
func (e *Store) eachDead(ctx context.Context, backend, after string, page int, take func(tag string, k keptCallback) (bool, error)) error {
	x := e.callbackIndex(backend)
	at := "-"
	if after != "" {
		at = "(" + after + "!" // behind each member with this id, as a blank follows that
	}
	oldest := e.opts.Now().Add(-bridge.DeadCallbacksFor)
	for {
		list, err := e.client.Do(ctx, e.client.B().Zrangebylex().Key(x.dead[0]).Min(at).Max("+").Limit(0, int64(page)).Build()).AsStrSlice()
		if err = e.fault(ctx, err); err != nil || len(list) == 0 {
			return err
		}
		texts, err := repliesOf(ctx, e, list, func(member string) rueidis.Completed {
			id, tag, _ := strings.Cut(member, " ")
			return e.client.B().Hget().Key(e.mailboxAt(tag).callbackKeys(backend)[3]).Field(id).Build()
		}, (*rueidis.RedisResult).ToString)
		if err != nil {
			return err
		}
		since, err := repliesOf(ctx, e, list, func(member string) rueidis.Completed {
			return e.client.B().Zscore().Key(x.dead[1]).Member(member).Build()
		}, (*rueidis.RedisResult).AsFloat64)
		if err != nil {
			return err
		}
		var stale []string
		for i, member := range list {
			at = "(" + member
			id, tag, _ := strings.Cut(member, " ")
			if texts[i] == "" {
				if time.UnixMilli(int64(since[i])).Before(e.opts.Now().Add(-staleAfter)) {
					stale = append(stale, member)
				}
				continue
			}
			k, err := decodeCallback(backend, id, texts[i])
			if err != nil {
				return e.fault(ctx, err)
			}
			if !k.givenUp.After(oldest) {
				continue // bury takes it out
			}
			if more, err := take(tag, k); err != nil || !more {
				return err
			}
		}
		if len(stale) > 0 {
			e.tryRun(ctx, call{&e.scripts.outbox.unbury, x.dead[:], stale})
		}
	}
}

// Dead implements bridge.Outbox.
func (e *Store) Dead(ctx context.Context, backend, after string, n int) (out []bridge.DeadCallback, err error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if n <= 0 {
		return nil, nil
	}
	if err := e.bury(ctx, backend, nil); err != nil {
		return nil, err
	}
	err = e.eachDead(ctx, backend, after, min(n, deadPage), func(_ string, k keptCallback) (bool, error) {
		out = append(out, bridge.DeadCallback{ID: k.ID, Type: k.Type, User: k.User, Since: k.givenUp, Tries: k.tries, Last: k.last})
		return len(out) < n, nil
	})
	return out, err
}

// deadPage is how many callbacks that were given up are read in one go.
const deadPage = 100

// Redrive implements bridge.Outbox.
func (e *Store) Redrive(ctx context.Context, backend string, ids []string, all bool) (n int, err error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	full := false
	again := func(tag string, k keptCallback) (bool, error) {
		moved, err := e.redrive(ctx, tag, k)
		if errors.Is(err, bridge.ErrOutboxFull) {
			full = true
			return false, nil
		}
		if moved {
			n++
		}
		return true, err
	}
	if all {
		err = e.eachDead(ctx, backend, "", deadPage, again)
	} else {
		err = e.redriveNamed(ctx, backend, ids, again)
	}
	if err == nil && full {
		err = bridge.ErrOutboxFull
	}
	return n, err
}

func (e *Store) redriveNamed(ctx context.Context, backend string, ids []string, again func(tag string, k keptCallback) (bool, error)) error {
	x := e.callbackIndex(backend)
	found, err := repliesOf(ctx, e, ids, func(id string) rueidis.Completed {
		return e.client.B().Zrangebylex().Key(x.dead[0]).Min("["+id+" ").Max("("+id+"!").Limit(0, 1).Build()
	}, (*rueidis.RedisResult).AsStrSlice)
	if err != nil {
		return err
	}
	for i, members := range found {
		if len(members) == 0 {
			continue
		}
		_, tag, _ := strings.Cut(members[0], " ")
		text, err := e.client.Do(ctx, e.client.B().Hget().Key(e.mailboxAt(tag).callbackKeys(backend)[3]).Field(ids[i]).Build()).ToString()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		if text == "" {
			continue
		}
		k, err := decodeCallback(backend, ids[i], text)
		more := false
		if err == nil {
			more, err = again(tag, k)
		}
		if err != nil || !more {
			return e.fault(ctx, err)
		}
	}
	return nil
}

// redrive makes a callback due again that was given up. moved is false where somebody else
// was faster.
func (e *Store) redrive(ctx context.Context, tag string, k keptCallback) (moved bool, err error) {
	s := e.storing([]bridge.Callback{k.Callback})
	s.modest = true
	admitted, isNew, err := s.admit(ctx, e.run)
	if err != nil {
		return false, e.fault(ctx, err)
	}
	if len(admitted.cs) == 0 {
		return false, bridge.ErrOutboxFull
	}
	x, now := e.callbackIndex(k.Backend), e.opts.Now()
	reply, err := e.runDurable(ctx, call{&e.scripts.outbox.redrive, e.mailboxAt(tag).callbackKeys(k.Backend), []string{
		k.ID, callbackHead(0, now), flag(k.InOrder()), e.clockArg()}})
	if err != nil {
		return false, err
	}
	stored, err := reply.AsInt64()
	if err != nil {
		return false, e.fault(ctx, err)
	}
	if stored == 0 && isNew[0] { // somebody else was faster
		e.forgetCallbacks(ctx, map[string][]string{k.Backend: {classOf(k.Type), callbackMember(k.ID, tag, len(k.Body))}})
	}
	e.tryRun(ctx, call{&e.scripts.outbox.arm, []string{x.due}, []string{tag, "", e.clockArg()}})
	e.tryRun(ctx, call{&e.scripts.outbox.unbury, x.dead[:], []string{k.ID + " " + tag}})
	e.signalPosted()
	return stored == 1, nil
}
