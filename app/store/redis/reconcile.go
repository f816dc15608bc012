package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// reconcile compares what this machine believes of its sessions with the store:
// how far their mailboxes go, whether their users were erased and their tokens
// revoked, and that others still see them. It is for when messages and notices
// may have been missed, or others may have taken this machine for dead. (That an
// event was recalled meanwhile is not told again; it is gone from the store.)
func (e *Store) reconcile(ctx context.Context) error {
	l := e.listener.Load()
	if l == nil {
		return nil
	}
	head, starts, err := e.allStand(ctx, e.client.Do(ctx, e.client.B().Hmget().Key(e.all.h).Field("s", "lv").Build()))
	if err != nil {
		return err
	}
	newest, err := strconv.ParseUint(head, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: redis: where messages to all stand: %w", bridge.ErrUnavailable, err)
	}
	(*l).Behind("", bridge.Position{Broadcast: newest})
	members := e.crowd.members()
	var users []string
	var cmds rueidis.Commands
	for user := range members {
		b := e.mailboxOf(user)
		users = append(users, user)
		cmds = append(cmds, e.client.B().Hmget().Key(b.h).Field("s").Build(), e.client.B().Hgetall().Key(b.revocations()).Build())
	}
	replies := e.doMany(ctx, cmds)
	var attending rueidis.Commands
	var again []call
	var said []bridge.Member
	for i, user := range users {
		state, err := replies[2*i].ToArray()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		revoked, err := replies[2*i+1].AsStrMap()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		for _, m := range members[user] {
			attending = append(attending, e.listSession(m.Session, user))
			again = append(again, e.joining(m, head, starts, true))
			said = append(said, m)
		}
		for kind, value := range revoked {
			if strings.HasPrefix(kind, nameField) {
				continue
			}
			(*l).Notify(bridge.Notice{Kind: bridge.NoticeRevoked, User: user, Revocation: revocation(kind, value)})
		}
		if len(state) == 1 && !state[0].IsNil() {
			n, err := state[0].AsUint64()
			if err != nil {
				return e.fault(ctx, err)
			}
			(*l).Behind(user, bridge.Position{Mailbox: n})
		}
	}
	if err := e.do(ctx, attending...); err != nil {
		return err
	}
	for i, r := range e.runMany(ctx, again) {
		if r.err != nil {
			return r.err
		}
		list, err := r.message.ToArray()
		if err != nil {
			return e.fault(ctx, err)
		}
		m := said[i]
		if len(list) == 0 {
			continue
		}
		switch refused := refusal(list); {
		case errors.Is(refused, bridge.ErrErased):
			e.crowd.leave(m.User, m.Session)
			(*l).Notify(bridge.Notice{Kind: bridge.NoticeErased, User: m.User, Session: m.Session})
			continue
		case refused != nil: // it has been told
			continue
		}
		if err := e.agree(ctx, m.User, m.Token, m.Groups); err != nil {
			return err
		}
		if len(list) > 8 {
			if err := e.takenBack(ctx, m.User, list[8:]); err != nil {
				return err
			}
		}
	}
	return e.withoutLeft(ctx, said)
}

// withoutLeft takes back that sessions are there which have left meanwhile.
func (e *Store) withoutLeft(ctx context.Context, members []bridge.Member) error {
	var gone rueidis.Commands
	for _, m := range members {
		if !e.crowd.knows(m.User, m.Session) {
			gone = append(gone, e.client.B().Hdel().Key(e.mailboxOf(m.User).l).Field(m.Session).Build())
		}
	}
	return e.do(ctx, gone...)
}

// revocation reads what lua/revoke.lua wrote.
func revocation(kind, value string) bridge.Revocation {
	if id, ok := strings.CutPrefix(kind, "j"); ok {
		return bridge.Revocation{TokenID: id}
	}
	before, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return bridge.Revocation{}
	}
	return bridge.Revocation{IssuedBefore: time.UnixMilli(before)}
}
