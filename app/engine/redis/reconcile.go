package redis

import (
	"context"
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
func (e *Engine) reconcile(ctx context.Context) error {
	l := e.listener.Load()
	if l == nil {
		return nil
	}
	head, err := e.client.Do(ctx, e.client.B().Hget().Key(e.all.h).Field("s").Build()).AsUint64()
	if err = e.fault(ctx, err); err != nil {
		return err
	}
	(*l).Behind("", bridge.Position{Broadcast: head})
	members := e.crowd.members()
	var users []string
	var cmds rueidis.Commands
	for user := range members {
		b := e.mailboxOf(user)
		users = append(users, user)
		cmds = append(cmds, e.client.B().Hmget().Key(b.h).Field("s", "f").Build(), e.client.B().Hgetall().Key(b.revocations()).Build())
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
		if len(state) != 2 || state[1].IsNil() {
			// Whoever has joined has a first place, unless they were erased since.
			e.crowd.dismiss(user)
			(*l).Notify(bridge.Notice{Kind: bridge.NoticeErased, User: user})
			continue
		}
		for _, m := range members[user] {
			attending = append(attending, e.attend(m.Session, user))
			again = append(again, e.joining(m, head, true))
			said = append(said, m)
		}
		for kind, value := range revoked {
			if strings.HasPrefix(kind, nameField) {
				continue
			}
			(*l).Notify(bridge.Notice{Kind: bridge.NoticeRevoked, User: user, Revocation: revocation(kind, value)})
		}
		if !state[0].IsNil() {
			n, err := state[0].AsUint64()
			if err != nil {
				return e.fault(ctx, err)
			}
			(*l).Behind(user, bridge.Position{Mailbox: n})
		}
	}
	if err := e.each(ctx, attending); err != nil {
		return err
	}
	for i, r := range e.runMany(ctx, again) {
		list, err := r.ToArray()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		if len(list) == 0 || refusal(list) != nil {
			continue // it has been told by now, or is about to be
		}
		m := said[i]
		if err := e.agree(ctx, m.User, m.Token, m.Groups); err != nil {
			return err
		}
		if len(list) > 8 {
			if err := e.takenBack(ctx, m.User, list[8:]); err != nil {
				return err
			}
		}
	}
	return nil
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
