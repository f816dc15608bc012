package redis

import (
	"context"
	"errors"
	"fmt"
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
func (e *Store) reconcile(ctx context.Context) error {
	h := e.hub.Load()
	if h == nil {
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
	(*h).Behind("", bridge.Position{Broadcast: newest})
	members := make(map[string][]bridge.Member)
	for _, m := range (*h).AllMembers() {
		members[m.User] = append(members[m.User], m)
	}
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
			(*h).Notify(bridge.Notice{Kind: bridge.NoticeRevoked, User: user, Revocation: revocation(kind, value)})
		}
		if len(state) == 1 && !state[0].IsNil() {
			n, err := state[0].AsUint64()
			if err != nil {
				return e.fault(ctx, err)
			}
			(*h).Behind(user, bridge.Position{Mailbox: n})
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
			(*h).Notify(bridge.Notice{Kind: bridge.NoticeErased, User: m.User, Session: m.Session})
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
	e.reconciled.Add(1) // a Join that is under way sees this, or is seen here
	return e.amend(ctx, *h, said)
}

// amend makes good what has changed while reconcile repeated what sessions had said:
// those that have left are taken out again, and those that have another token say so
// once more.
func (e *Store) amend(ctx context.Context, h bridge.Hub, members []bridge.Member) error {
	var gone rueidis.Commands
	for _, m := range members {
		now := h.Members(m.User)
		i := slices.IndexFunc(now, func(o bridge.Member) bool { return o.Session == m.Session })
		switch {
		case i < 0:
			gone = append(gone, e.client.B().Hdel().Key(e.mailboxOf(m.User).l).Field(m.Session).Build())
		case now[i].Token != m.Token:
			if _, err := e.join(ctx, now[i]); err != nil && !errors.Is(err, bridge.ErrRevoked) && !errors.Is(err, bridge.ErrErased) {
				return err // who was revoked or erased has been told
			}
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
