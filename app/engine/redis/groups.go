package redis

import (
	"context"
	"slices"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// belong writes down what groups a token names, until it expires. The user's own
// list comes first: it may name a group too many, which is then looked up.
func (e *Engine) belong(ctx context.Context, m bridge.Member) error {
	if len(m.Groups) == 0 || !m.Until.After(e.opts.Now()) {
		return nil
	}
	cmds := rueidis.Commands{e.client.B().Sadd().Key(e.mailboxOf(m.User).groups()).Member(m.Groups...).Build()}
	for _, g := range m.Groups {
		_, named := e.groupKeys(g)
		cmds = append(cmds, e.client.B().Zadd().Key(named).Gt().ScoreMember().ScoreMember(float64(m.Until.UnixMilli()), m.User).Build())
	}
	return e.each(ctx, cmds)
}

// each runs commands of which only the failures matter.
func (e *Engine) each(ctx context.Context, cmds rueidis.Commands) error {
	for _, r := range e.doMany(ctx, cmds) {
		if err := e.fault(ctx, r.Error()); err != nil {
			return err
		}
	}
	return nil
}

// Members implements bridge.Registry.
func (e *Engine) Members(ctx context.Context, group string) ([]string, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return e.members(ctx, group)
}

func (e *Engine) members(ctx context.Context, group string) ([]string, error) {
	stored, named := e.groupKeys(group)
	now := itoa(e.nowMs())
	r := e.client.DoMulti(ctx, e.client.B().Smembers().Key(stored).Build(),
		e.client.B().Zrangebyscore().Key(named).Min("("+now).Max("+inf").Build(),
		e.client.B().Zremrangebyscore().Key(named).Min("-inf").Max(now).Build())
	var out []string
	for _, one := range r[:2] {
		some, err := one.AsStrSlice()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), bridge.MaxGroupMembers)], nil
}

// SetMember implements bridge.Registry.
func (e *Engine) SetMember(ctx context.Context, group, user string, member bool) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	stored, named := e.groupKeys(group)
	own := e.mailboxOf(user).groups()
	if !member {
		return e.each(ctx, rueidis.Commands{e.client.B().Srem().Key(stored).Member(user).Build(),
			e.client.B().Zrem().Key(named).Member(user).Build(), e.client.B().Srem().Key(own).Member(group).Build()})
	}
	if err := e.each(ctx, rueidis.Commands{e.client.B().Sadd().Key(own).Member(group).Build()}); err != nil {
		return err
	}
	reply, err := e.runDurable(ctx, call{&e.scripts.member, []string{stored}, []string{user, itoa(bridge.MaxGroupMembers)}})
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

// Groups implements bridge.Registry.
func (e *Engine) Groups(ctx context.Context, user string) ([]string, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return e.groupsOf(ctx, user)
}

func (e *Engine) groupsOf(ctx context.Context, user string) (out []string, err error) {
	listed, err := e.client.Do(ctx, e.client.B().Smembers().Key(e.mailboxOf(user).groups()).Build()).AsStrSlice()
	if err = e.fault(ctx, err); err != nil || len(listed) == 0 {
		return nil, err
	}
	var cmds rueidis.Commands
	for _, g := range listed {
		stored, named := e.groupKeys(g)
		cmds = append(cmds, e.client.B().Sismember().Key(stored).Member(user).Build(), e.client.B().Zscore().Key(named).Member(user).Build())
	}
	r := e.client.DoMulti(ctx, cmds...)
	for i, g := range listed {
		set, err := r[2*i].AsInt64()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		until, err := r[2*i+1].AsFloat64()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		if set == 1 || int64(until) > e.nowMs() {
			out = append(out, g)
		}
	}
	slices.Sort(out)
	return out, nil
}
