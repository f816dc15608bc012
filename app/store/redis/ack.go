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

// lifeNumber is the number of a life in the store's list; reply has its score.
// ErrRewound if the list does not have it. The time before stores had lives is number 0.
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
func (s *Store) LifeEnd(ctx context.Context, user, life string) (p bridge.Position, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return p, err
	}
	defer leave()
	_, list, _ := s.lifeKeys()
	r := s.client.DoMulti(ctx, s.client.B().Zscore().Key(list).Member(life).Build(),
		s.client.B().Hmget().Key(s.mailboxOf(user).h).Field("s", "lv").Build(), s.client.B().Hmget().Key(s.all.h).Field("s", "lv").Build())
	no, err := lifeNumber(life, r[0])
	if errors.Is(err, bridge.ErrRewound) {
		return p, err
	}
	if err != nil {
		return p, s.fault(ctx, err)
	}
	for i, to := range []*uint64{&p.Mailbox, &p.Broadcast} {
		state, err := r[1+i].ToArray()
		if err != nil {
			return p, s.fault(ctx, err)
		}
		if *to, err = lifeEnd(state, no); err != nil {
			return p, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
		}
	}
	return p, nil
}

// lifeEnd is the last place of a life in a mailbox whose s and lv are given.
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

// parseLifeStarts decodes a mailbox's lv; see noteLife in lua/lib.lua.
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

// Ack implements bridge.Store.
func (s *Store) Ack(ctx context.Context, user, session, life string, p bridge.Position) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if user == "" {
		return errNoUser
	}
	return s.ack(ctx, user, session, life, p)
}

func (s *Store) ack(ctx context.Context, user, session, life string, p bridge.Position) error {
	if backends, concerned := s.tellsAcks(user); concerned {
		return s.ackAndTell(ctx, user, session, life, p, backends)
	}
	return s.inLife(ctx, func(lf *storeLife) error {
		keys, head, no := []string{s.mailboxOf(user).h}, uint64(0), ""
		if !s.cluster {
			keys = append(keys, s.all.h)
		}
		switch {
		case life != lf.name:
			_, list, _ := s.lifeKeys()
			r := s.client.DoMulti(ctx, s.client.B().Zscore().Key(list).Member(life).Build(), s.client.B().Hmget().Key(s.all.h).Field("s", "lv").Build())
			n, err := lifeNumber(life, r[0])
			if err != nil {
				return err
			}
			no = itoa(n)
			state, err := r[1].ToArray()
			if err != nil {
				return err
			}
			if head, err = lifeEnd(state, n); err != nil {
				return err
			}
		case s.cluster:
			if head = s.leases.newest(0); p.Broadcast > head {
				var err error
				if head, err = s.client.Do(ctx, s.client.B().Hget().Key(s.all.h).Field("s").Build()).AsUint64(); err != nil && !rueidis.IsRedisNil(err) {
					return err
				}
				s.leases.newest(head)
			}
		}
		for _, c := range s.passingOver(user, p) {
			if _, err := s.runOnce(ctx, lf, c); err != nil {
				return err
			}
		}
		_, err := s.runOnceDurably(ctx, lf, call{&s.scripts.ack, keys, []string{itoa(p.Mailbox), itoa(p.Broadcast), itoa(head), no}})
		return err
	})
}
