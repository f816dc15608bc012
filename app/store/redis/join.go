package redis

import (
	"cmp"
	"context"
	"fmt"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// Join implements bridge.Live.
func (e *Store) Join(ctx context.Context, m bridge.Member) (st bridge.JoinState, err error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return st, err
	}
	defer leave()
	if m.User == "" {
		return st, errNoUser
	}
	for range joinTries {
		reconciled := e.reconciled.Load()
		if st, err = e.join(ctx, m); err != nil {
			return st, err
		}
		if h := e.hub.Load(); h != nil {
			(*h).Joined(m)
		}
		if e.reconciled.Load() == reconciled {
			break
		}
		// It may have written down again which token the session had before.
	}
	return st, nil
}

// joinTries bounds how often a session joins again because of reconcile.
const joinTries = 3

// joining is the call that makes a session present. head is the newest place among
// messages to all, starts where lives began among these.
func (e *Store) joining(m bridge.Member, head, starts string, again bool) call {
	b := e.mailboxOf(m.User)
	keys := []string{b.h, b.l, b.revocations(), b.tokens()}
	if !e.cluster {
		keys = append(keys, e.all.h)
	}
	since := ""
	if !m.Since.IsZero() {
		since = itoa(m.Since.UnixNano())
	}
	now := e.opts.Now()
	return call{&e.scripts.join, keys, []string{m.Session, e.presence(m), itoa(now.UnixNano()), head, e.leases.dead(), since,
		m.Token, itoa(max(0, m.Until.UnixMilli())), itoa(issuedMs(m.Issued)), m.TokenID, lines(m.Groups), itoa(now.UnixMilli()), flag(again), starts, flag(again || m.Returns)}}
}

func (e *Store) join(ctx context.Context, m bridge.Member) (st bridge.JoinState, err error) {
	// Before the user is marked as seen: a list of those seen may name one too
	// many, never one too few.
	pre := rueidis.Commands{e.listed(m.User), e.client.B().Hmget().Key(e.all.h).Field("s", "lv").Build(), e.headcount(), e.listSession(m.Session, m.User)}
	r := e.client.DoMulti(ctx, pre...)
	for _, i := range []int{0, 3} {
		if err := e.fault(ctx, r[i].Error()); err != nil {
			return st, err
		}
	}
	head, starts, err := e.allStand(ctx, r[1])
	if err != nil {
		return st, err
	}
	var reply rueidis.RedisMessage
	err = e.inLife(ctx, func(lf *lifetime) (err error) {
		st.Life = lf.name
		reply, err = e.runOnceDurably(ctx, lf, e.joining(m, head, starts, false))
		return err
	})
	if err != nil {
		return st, err
	}
	list, err := reply.ToArray()
	if err != nil || len(list) == 0 {
		return st, fmt.Errorf("%w: redis: a standing that is none: %w", bridge.ErrUnavailable, err)
	}
	if refused := refusal(list); refused != nil {
		if refused == bridge.ErrErased {
			err = e.unlist(ctx, m.User)
		}
		return st, cmp.Or(err, refused)
	}
	if len(list) < 8 {
		return st, fmt.Errorf("%w: redis: a standing that is none", bridge.ErrUnavailable)
	}
	var n [7]uint64 // head, acked, acked of messages to all, first, head of messages to all, live, newly seen
	for i := range n {
		if n[i], err = list[1+i].AsUint64(); err != nil {
			return st, e.fault(ctx, err)
		}
	}
	if n[6] == 1 { // an erasure that was under way may have taken the name off the list
		if err := e.do(ctx, e.listed(m.User)); err != nil {
			return st, err
		}
	}
	if err := e.belong(ctx, m); err != nil {
		return st, err
	}
	if err := e.takenBack(ctx, m.User, list[8:]); err != nil {
		return st, err
	}
	e.leases.newest(n[4])
	return bridge.JoinState{
		Life:  st.Life,
		Head:  bridge.Position{Mailbox: n[0], Broadcast: n[4]},
		Acked: bridge.Position{Mailbox: n[1], Broadcast: max(n[2], n[3])},
		First: bridge.Position{Broadcast: n[3]},
		Live:  int(n[5]),
	}, nil
}

// allStand reads s and lv of the log of messages to all.
func (e *Store) allStand(ctx context.Context, r rueidis.RedisResult) (head, starts string, err error) {
	all, err := r.ToArray()
	if err == nil && len(all) != 2 {
		err = errFormat
	}
	if err != nil {
		return "", "", e.fault(ctx, err)
	}
	head = "0"
	for i, to := range []*string{&head, &starts} {
		if all[i].IsNil() {
			continue
		}
		if *to, err = all[i].ToString(); err != nil {
			return "", "", e.fault(ctx, err)
		}
	}
	return head, starts, nil
}

// refusal is why lua/join.lua has let nobody in; nil where it has.
func refusal(list []rueidis.RedisMessage) error {
	switch word, _ := list[0].ToString(); word {
	case "e":
		return bridge.ErrErased
	case "r":
		return bridge.ErrRevoked
	}
	return nil
}

// listed puts a user on the list of those who were seen.
func (e *Store) listed(user string) rueidis.Completed {
	return e.client.B().Zadd().Key(e.users()).ScoreMember().ScoreMember(0, user).Build()
}

// unlist takes a user off the list of those who were seen, unless they are.
func (e *Store) unlist(ctx context.Context, user string) error {
	seen := e.client.B().Hexists().Key(e.mailboxOf(user).h).Field("f")
	if yes, err := e.client.Do(ctx, seen.Build()).AsBool(); err != nil || yes {
		return e.fault(ctx, err)
	}
	if err := e.do(ctx, e.client.B().Zrem().Key(e.users()).Member(user).Build()); err != nil {
		return err
	}
	yes, err := e.client.Do(ctx, e.client.B().Hexists().Key(e.mailboxOf(user).h).Field("f").Build()).AsBool()
	if err != nil || !yes {
		return e.fault(ctx, err)
	}
	return e.do(ctx, e.listed(user)) // they have come back meanwhile
}
