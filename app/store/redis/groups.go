package redis

import (
	"context"
	"slices"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// Members implements bridge.Store.
func (e *Store) Members(ctx context.Context, group string) ([]string, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return e.members(ctx, group)
}

func (e *Store) members(ctx context.Context, group string) ([]string, error) {
	g := e.groupKeys(group)
	now := itoa(e.nowMs())
	r := e.client.DoMulti(ctx, e.client.B().Smembers().Key(g.stored).Build(),
		e.client.B().Zrangebyscore().Key(g.older).Min("("+now).Max("+inf").Build(),
		e.client.B().Zrangebyscore().Key(g.named).Min("("+now).Max("+inf").Build(),
		e.client.B().Zremrangebyscore().Key(g.older).Min("-inf").Max(now).Build(),
		e.client.B().Zremrangebyscore().Key(g.named).Min("-inf").Max(now).Build())
	var lists [3][]string
	for i := range lists {
		var err error
		lists[i], err = r[i].AsStrSlice()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
	}
	byToken, err := e.byToken(ctx, group, lists[2])
	if err != nil {
		return nil, err
	}
	out := slices.Concat(lists[0], lists[1], byToken)
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), bridge.MaxGroupMembers)], nil
}

// SetMember implements bridge.Store.
func (e *Store) SetMember(ctx context.Context, group, user string, member bool) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	own := e.mailboxOf(user).groups()
	if !member {
		return e.removeMember(ctx, group, user)
	}
	// The user's own list comes first: if it names a group too many, a reader finds out
	// in that group's list.
	if err := e.do(ctx, e.client.B().Sadd().Key(own).Member(group).Build()); err != nil {
		return err
	}
	reply, err := e.runDurable(ctx, call{&e.scripts.addMember, []string{e.groupKeys(group).stored}, []string{user, itoa(bridge.MaxGroupMembers)}})
	if err != nil {
		return err
	}
	if n, err := reply.AsInt64(); err != nil {
		return e.fault(ctx, err)
	} else if n == 0 {
		return bridge.ErrGroupFull
	}
	return nil
}

// removeMember takes a user out of a group, and the group out of those that the user's
// tokens name.
func (e *Store) removeMember(ctx context.Context, group, user string) error {
	b, g := e.mailboxOf(user), e.groupKeys(group)
	err := e.do(ctx, e.client.B().Srem().Key(g.stored).Member(user).Build(),
		e.client.B().Zrem().Key(g.older).Member(user).Build(), e.client.B().Srem().Key(b.groups()).Member(group).Build())
	if err != nil {
		return err
	}
	reply, err := e.runDurable(ctx, call{&e.scripts.tokenRemoveGroup, []string{b.tokens()}, []string{group}})
	if err != nil {
		return err
	}
	tokens, err := reply.AsStrSlice()
	if err = e.fault(ctx, err); err != nil {
		return err
	}
	for _, t := range tokens {
		if err := e.reindex(ctx, user, t, []string{group}); err != nil {
			return err
		}
	}
	return nil
}

// Groups implements bridge.Store.
func (e *Store) Groups(ctx context.Context, user string) ([]string, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return e.groupsOf(ctx, user)
}

func (e *Store) groupsOf(ctx context.Context, user string) (out []string, err error) {
	listed, err := e.client.Do(ctx, e.client.B().Smembers().Key(e.mailboxOf(user).groups()).Build()).AsStrSlice()
	if err = e.fault(ctx, err); err != nil {
		return nil, err
	}
	tokens, err := e.tokensOf(ctx, user)
	if err != nil {
		return nil, err
	}
	now := e.nowMs()
	for _, s := range tokens {
		if s.until > now {
			out = append(out, s.groups...)
		}
	}
	var cmds rueidis.Commands
	for _, name := range listed {
		g := e.groupKeys(name)
		cmds = append(cmds, e.client.B().Sismember().Key(g.stored).Member(user).Build(), e.client.B().Zscore().Key(g.older).Member(user).Build())
	}
	r := e.client.DoMulti(ctx, cmds...)
	for i, name := range listed {
		set, err := r[2*i].AsInt64()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		until, err := r[2*i+1].AsFloat64()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		if set == 1 || int64(until) > now {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
