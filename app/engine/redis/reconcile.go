package redis

import (
	"context"
	"slices"
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
		cmds = append(cmds, e.client.B().Hmget().Key(b.h).Field("s", "f", "er").Build(), e.client.B().Hgetall().Key(b.revocations()).Build())
	}
	replies := e.doMany(ctx, cmds)
	var again []bridge.Member
	for i, user := range users {
		state, err := replies[2*i].ToArray()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		revoked, err := replies[2*i+1].AsStrMap()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		if len(state) != 3 {
			return e.fault(ctx, errFormat)
		}
		erased := int64(0)
		if !state[2].IsNil() {
			if erased, err = state[2].AsInt64(); err != nil {
				return e.fault(ctx, err)
			}
		}
		if slices.ContainsFunc(members[user], func(m bridge.Member) bool { return erased > e.crowd.before(m.Session) }) {
			e.crowd.dismiss(user)
			(*l).Notify(bridge.Notice{Kind: bridge.NoticeErased, User: user})
			continue
		}
		for _, m := range members[user] {
			if state[1].IsNil() { // the store has lost that the user ever came
				if _, err := e.join(ctx, m); err != nil {
					return err
				}
			}
			again = append(again, m)
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
	return e.present(ctx, again)
}

// present says of sessions that they are there, and takes that back where one has
// left meanwhile.
func (e *Engine) present(ctx context.Context, members []bridge.Member) error {
	life := e.Life()
	var cmds rueidis.Commands
	for _, m := range members {
		cmds = append(cmds, e.attend(m.Session, m.User),
			e.client.B().Hset().Key(e.mailboxOf(m.User).l).FieldValue().FieldValue(m.Session, e.presence(m, life)).Build())
	}
	if err := e.each(ctx, cmds); err != nil {
		return err
	}
	var gone rueidis.Commands
	for _, m := range members {
		if !e.crowd.knows(m.User, m.Session) {
			gone = append(gone, e.client.B().Hdel().Key(e.mailboxOf(m.User).l).Field(m.Session).Build())
		}
	}
	return e.each(ctx, gone)
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
