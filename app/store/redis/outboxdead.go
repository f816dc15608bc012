package redis

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// bury lists callbacks as given up, and takes out those that have been kept for long
// enough, or are too many or too large.
func (s *Store) bury(ctx context.Context, backend string, members []string) error {
	x := s.callbackIndex(backend)
	reply, err := s.run(ctx, call{&s.scripts.outbox.bury, x.dead[:], append([]string{
		itoa(bridge.DeadCallbacksFor.Milliseconds()), itoa(s.opts.MaxCallbacks), itoa(s.opts.MaxCallbackBytes), s.clockArg()}, members...)})
	if err != nil {
		return err
	}
	gone, err := reply.AsStrSlice()
	if err = s.fault(ctx, err); err != nil {
		return err
	}
	var cmds rueidis.Commands
	for _, member := range gone {
		id, tag := splitMember(member)
		cmds = append(cmds, s.client.B().Hdel().Key(s.mailboxAt(tag).callbackKeys(backend)[3]).Field(id).Build())
	}
	return s.do(ctx, cmds...)
}

// eachDead calls take with the callbacks that were given up, by their ids, from those
// after an id on, until it returns false. Entries of the list with nothing behind them are
// taken out.
func (s *Store) eachDead(ctx context.Context, backend, after string, page int, take func(member string, k keptCallback) (bool, error)) error {
	x := s.callbackIndex(backend)
	at := "-"
	if after != "" {
		at = "(" + after + "!" // behind each member with this id, as a blank follows that
	}
	oldest := s.opts.Now().Add(-bridge.DeadCallbacksFor)
	for {
		list, err := s.client.Do(ctx, s.client.B().Zrangebylex().Key(x.dead[0]).Min(at).Max("+").Limit(0, int64(page)).Build()).AsStrSlice()
		if err = s.fault(ctx, err); err != nil || len(list) == 0 {
			return err
		}
		texts, err := repliesOf(ctx, s, list, func(member string) rueidis.Completed {
			id, tag := splitMember(member)
			return s.client.B().Hget().Key(s.mailboxAt(tag).callbackKeys(backend)[3]).Field(id).Build()
		}, (*rueidis.RedisResult).ToString)
		if err != nil {
			return err
		}
		since, err := repliesOf(ctx, s, list, func(member string) rueidis.Completed {
			return s.client.B().Zscore().Key(x.dead[1]).Member(member).Build()
		}, (*rueidis.RedisResult).AsFloat64)
		if err != nil {
			return err
		}
		var stale []string
		for i, member := range list {
			at = "(" + member
			id, _ := splitMember(member)
			if texts[i] == "" {
				if time.UnixMilli(int64(since[i])).Before(s.opts.Now().Add(-staleAfter)) {
					stale = append(stale, member)
				}
				continue
			}
			k, err := decodeCallback(backend, id, texts[i])
			if err != nil {
				return s.fault(ctx, err)
			}
			if !k.givenUp.After(oldest) {
				continue // bury takes it out
			}
			if more, err := take(member, k); err != nil || !more {
				return err
			}
		}
		if len(stale) > 0 {
			s.tryRun(ctx, call{&s.scripts.outbox.unbury, x.dead[:], stale})
		}
	}
}

// Dead implements bridge.Outbox.
func (s *Store) Dead(ctx context.Context, backend, after string, n int) (out []bridge.DeadCallback, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if n <= 0 {
		return nil, nil
	}
	if err := s.bury(ctx, backend, nil); err != nil {
		return nil, err
	}
	err = s.eachDead(ctx, backend, after, min(n, deadPage), func(_ string, k keptCallback) (bool, error) {
		out = append(out, bridge.DeadCallback{ID: k.ID, Type: k.Type, User: k.User, Since: k.givenUp, Tries: k.tries, Last: k.last})
		return len(out) < n, nil
	})
	return out, err
}

// deadPage is how many callbacks that were given up are read in one go.
const deadPage = 100

// Redrive implements bridge.Outbox.
func (s *Store) Redrive(ctx context.Context, backend string, ids []string, all bool) (n int, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	dead, err := s.deadInOrder(ctx, backend, ids, all)
	if err != nil {
		return 0, err
	}
	for _, d := range dead {
		k, err := s.deadCallback(ctx, backend, d.member)
		if err != nil {
			return n, err
		}
		if k == nil {
			continue
		}
		moved, err := s.redrive(ctx, d.member, *k)
		if err != nil {
			return n, err
		}
		if moved {
			n++
		}
	}
	return n, nil
}

// deadMember is a callback that was given up, as the index has it, and when it was stored.
type deadMember struct {
	member string
	stored int64
}

// deadInOrder finds callbacks that were given up, those named or all, in the order in which
// they were stored. They may be many and large: what they are is read again, one by one.
func (s *Store) deadInOrder(ctx context.Context, backend string, ids []string, all bool) (found []deadMember, err error) {
	if all {
		err = s.eachDead(ctx, backend, "", deadPage, func(member string, k keptCallback) (bool, error) {
			found = append(found, deadMember{member, k.stored()})
			return true, nil
		})
	} else {
		found, err = s.deadNamed(ctx, backend, ids)
	}
	slices.SortFunc(found, func(a, b deadMember) int {
		return cmp.Or(cmp.Compare(a.stored, b.stored), cmp.Compare(a.member, b.member))
	})
	return found, err
}

func (s *Store) deadNamed(ctx context.Context, backend string, ids []string) (found []deadMember, err error) {
	x := s.callbackIndex(backend)
	listed, err := repliesOf(ctx, s, ids, func(id string) rueidis.Completed {
		return s.client.B().Zrangebylex().Key(x.dead[0]).Min("["+id+" ").Max("("+id+"!").Limit(0, 1).Build()
	}, (*rueidis.RedisResult).AsStrSlice)
	if err != nil {
		return nil, err
	}
	for _, members := range listed {
		if len(members) == 0 {
			continue
		}
		k, err := s.deadCallback(ctx, backend, members[0])
		if err != nil {
			return nil, err
		}
		if k != nil {
			found = append(found, deadMember{members[0], k.stored()})
		}
	}
	return found, nil
}

// deadCallback reads one that was given up; nil where it is not there any more.
func (s *Store) deadCallback(ctx context.Context, backend, member string) (*keptCallback, error) {
	id, tag := splitMember(member)
	text, err := s.client.Do(ctx, s.client.B().Hget().Key(s.mailboxAt(tag).callbackKeys(backend)[3]).Field(id).Build()).ToString()
	if err = s.fault(ctx, err); err != nil || text == "" {
		return nil, err
	}
	k, err := decodeCallback(backend, id, text)
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	return &k, nil
}

// redrive makes a callback due again that was given up. moved is false where somebody else
// was faster.
func (s *Store) redrive(ctx context.Context, member string, k keptCallback) (moved bool, err error) {
	_, tag := splitMember(member)
	st := s.storing([]bridge.Callback{k.Callback})
	st.modest = true
	admitted, isNew, err := st.admit(ctx, s.run)
	if err != nil {
		return false, s.fault(ctx, err)
	}
	if len(admitted.cs) == 0 {
		return false, bridge.ErrOutboxFull
	}
	x, now := s.callbackIndex(k.Backend), s.opts.Now()
	reply, err := s.runDurable(ctx, call{&s.scripts.outbox.redrive, s.mailboxAt(tag).callbackKeys(k.Backend), []string{
		k.ID, callbackHead(0, now), flag(k.InOrder()), s.clockArg()}})
	if err != nil {
		return false, err
	}
	stored, err := reply.AsInt64()
	if err != nil {
		return false, s.fault(ctx, err)
	}
	if stored == 0 && isNew[0] { // somebody else was faster
		s.forgetCallbacks(ctx, map[string][]string{k.Backend: {classOf(k.Type), callbackMember(k.ID, tag, len(k.Body))}})
	}
	s.tryRun(ctx, call{&s.scripts.outbox.arm, []string{x.due}, []string{tag, "", s.clockArg()}})
	s.tryRun(ctx, call{&s.scripts.outbox.unbury, x.dead[:], []string{member}})
	s.signalPosted()
	return stored == 1, nil
}
