package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// lifeNumber finds a life in the store's list. ErrRewound where it is not there;
// the time before stores kept lives is number 0.
func lifeNumber(name string, reply rueidis.RedisResult) (int64, error) {
	if name == "" {
		return 0, nil
	}
	n, err := reply.AsFloat64()
	if rueidis.IsRedisNil(err) {
		return 0, bridge.ErrRewound
	}
	return int64(n), err
}

// LifeEnd implements bridge.Store.
func (e *Store) LifeEnd(ctx context.Context, user, life string) (p bridge.Position, err error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return p, err
	}
	defer leave()
	_, list, _ := e.lifeKeys()
	r := e.client.DoMulti(ctx, e.client.B().Zscore().Key(list).Member(life).Build(),
		e.client.B().Hmget().Key(e.mailboxOf(user).h).Field("s", "lv").Build(), e.client.B().Hmget().Key(e.all.h).Field("s", "lv").Build())
	no, err := lifeNumber(life, r[0])
	if errors.Is(err, bridge.ErrRewound) {
		return p, err
	}
	if err != nil {
		return p, e.fault(ctx, err)
	}
	for i, to := range []*uint64{&p.Mailbox, &p.Broadcast} {
		state, err := r[1+i].ToArray()
		if err != nil {
			return p, e.fault(ctx, err)
		}
		if *to, err = lifeEnd(state, no); err != nil {
			return p, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
		}
	}
	return p, nil
}

// lifeEnd is where a life ended in a mailbox whose s and lv are given.
func lifeEnd(state []rueidis.RedisMessage, no int64) (uint64, error) {
	if len(state) < 2 || state[0].IsNil() {
		return 0, nil
	}
	head, err := state[0].AsUint64()
	if err != nil || state[1].IsNil() {
		return head, err
	}
	text, err := state[1].ToString()
	if err != nil {
		return 0, err
	}
	starts, err := parseLifeStarts(text)
	if err != nil {
		return 0, err
	}
	for _, s := range starts {
		if s.no > no {
			return min(s.after, head), nil
		}
	}
	return head, nil
}

// lifeStart says that a mailbox stood at after when the first message of the life
// no came into it.
type lifeStart struct {
	no    int64
	after uint64
}

// parseLifeStarts reads a mailbox's lv: see lua/lib.lua.
func parseLifeStarts(text string) (list []lifeStart, err error) {
	for part := range strings.SplitSeq(text, ",") {
		no, after, _ := strings.Cut(part, ":")
		var s lifeStart
		if s.no, err = strconv.ParseInt(no, 10, 64); err != nil {
			return nil, fmt.Errorf("redis: where a mailbox's lives began cannot be read: %w", err)
		}
		if s.after, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, fmt.Errorf("redis: where a mailbox's lives began cannot be read: %w", err)
		}
		list = append(list, s)
	}
	return list, nil
}
