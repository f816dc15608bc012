package redis

import (
	"context"
	"slices"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// Members implements bridge.Store.
func (s *Store) Members(ctx context.Context, group string) ([]string, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.members(ctx, group)
}

func (s *Store) members(ctx context.Context, group string) ([]string, error) {
	g := s.groupKeys(group)
	now := itoa(s.nowMs())
	r := s.client.DoMulti(ctx, s.client.B().Smembers().Key(g.stored).Build(),
		s.client.B().Zrangebyscore().Key(g.older).Min("("+now).Max("+inf").Build(),
		s.client.B().Zrangebyscore().Key(g.named).Min("("+now).Max("+inf").Build(),
		s.client.B().Zremrangebyscore().Key(g.older).Min("-inf").Max(now).Build(),
		s.client.B().Zremrangebyscore().Key(g.named).Min("-inf").Max(now).Build())
	var lists [3][]string
	for i := range lists {
		var err error
		lists[i], err = r[i].AsStrSlice()
		if err = s.fault(ctx, err); err != nil {
			return nil, err
		}
	}
	byToken, err := s.byToken(ctx, group, lists[2])
	if err != nil {
		return nil, err
	}
	out := slices.Concat(lists[0], lists[1], byToken)
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), bridge.MaxGroupMembers)], nil
}

// SetMember implements bridge.Store.
func (s *Store) SetMember(ctx context.Context, group, user string, member bool) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	own := s.mailboxOf(user).groups()
	if !member {
		return s.removeMember(ctx, group, user)
	}
	// The user's own list comes first: if it names a group too many, a reader finds out
	// in that group's list.
	if err := s.do(ctx, s.client.B().Sadd().Key(own).Member(group).Build()); err != nil {
		return err
	}
	reply, err := s.runDurable(ctx, call{&s.scripts.addMember, []string{s.groupKeys(group).stored}, []string{user, itoa(bridge.MaxGroupMembers)}})
	if err != nil {
		return err
	}
	if n, err := reply.AsInt64(); err != nil {
		return s.fault(ctx, err)
	} else if n == 0 {
		return bridge.ErrGroupFull
	}
	return nil
}

// removeMember takes a user out of a group, and the group out of those that the user's
// tokens name.
func (s *Store) removeMember(ctx context.Context, group, user string) error {
	b, g := s.mailboxOf(user), s.groupKeys(group)
	err := s.do(ctx, s.client.B().Srem().Key(g.stored).Member(user).Build(),
		s.client.B().Zrem().Key(g.older).Member(user).Build(), s.client.B().Srem().Key(b.groups()).Member(group).Build())
	if err != nil {
		return err
	}
	reply, err := s.runDurable(ctx, call{&s.scripts.tokenRemoveGroup, []string{b.tokens()}, []string{group}})
	if err != nil {
		return err
	}
	tokens, err := reply.AsStrSlice()
	if err = s.fault(ctx, err); err != nil {
		return err
	}
	for _, t := range tokens {
		if err := s.reindex(ctx, user, t, []string{group}); err != nil {
			return err
		}
	}
	return nil
}

// Groups implements bridge.Store.
func (s *Store) Groups(ctx context.Context, user string) ([]string, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.groupsOf(ctx, user)
}

func (s *Store) groupsOf(ctx context.Context, user string) (out []string, err error) {
	listed, err := s.client.Do(ctx, s.client.B().Smembers().Key(s.mailboxOf(user).groups()).Build()).AsStrSlice()
	if err = s.fault(ctx, err); err != nil {
		return nil, err
	}
	tokens, err := s.tokensOf(ctx, user)
	if err != nil {
		return nil, err
	}
	now := s.nowMs()
	for _, tg := range tokens {
		if tg.until > now {
			out = append(out, tg.groups...)
		}
	}
	var cmds rueidis.Commands
	for _, name := range listed {
		g := s.groupKeys(name)
		cmds = append(cmds, s.client.B().Sismember().Key(g.stored).Member(user).Build(), s.client.B().Zscore().Key(g.older).Member(user).Build())
	}
	r := s.client.DoMulti(ctx, cmds...)
	for i, name := range listed {
		set, err := r[2*i].AsInt64()
		if err = s.fault(ctx, err); err != nil {
			return nil, err
		}
		until, err := r[2*i+1].AsFloat64()
		if err = s.fault(ctx, err); err != nil {
			return nil, err
		}
		if set == 1 || int64(until) > now {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
