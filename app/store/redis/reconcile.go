package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// reconcile compares this machine's sessions with the store, after messages and notices
// may have been missed, or other machines may have taken this one for dead. It tells the
// Hub how far the sessions' mailboxes go, which users were erased and which tokens
// revoked, and registers the sessions again. (It does not tell of recalls: a recalled
// message is gone from the store.)
func (s *Store) reconcile(ctx context.Context) (err error) {
	h := s.hub.Load()
	if h == nil {
		return nil
	}
	if s.lost.Swap(false) {
		defer func() {
			if err == nil {
				(*h).Restored()
			} else {
				s.lost.Store(true)
			}
		}()
	}
	if err := s.nameBackends(ctx); err != nil { // Redis may have been emptied
		return err
	}
	head, starts, err := s.broadcastState(ctx, s.client.Do(ctx, s.client.B().Hmget().Key(s.all.h).Field("s", "lv").Build()))
	if err != nil {
		return err
	}
	newest, err := strconv.ParseUint(head, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: redis: the newest place among messages to all: %w", bridge.ErrUnavailable, err)
	}
	(*h).Behind("", bridge.Position{Broadcast: newest})
	members := make(map[string][]bridge.Member)
	for _, m := range (*h).AllMembers() {
		members[m.User] = append(members[m.User], m)
	}
	var users []string
	var cmds rueidis.Commands
	for user := range members {
		b := s.mailboxOf(user)
		users = append(users, user)
		cmds = append(cmds, s.client.B().Hmget().Key(b.h).Field("s").Build(), s.client.B().Hgetall().Key(b.revocations()).Build())
	}
	results := s.doMany(ctx, cmds)
	var listing rueidis.Commands
	var again []call
	var sessions []bridge.Member
	for i, user := range users {
		state, err := results[2*i].ToArray()
		if err = s.fault(ctx, err); err != nil {
			return err
		}
		revoked, err := results[2*i+1].AsStrMap()
		if err = s.fault(ctx, err); err != nil {
			return err
		}
		for _, m := range members[user] {
			listing = append(listing, s.listSession(m.Session, user))
			again = append(again, s.joinCall(m, head, starts, true))
			sessions = append(sessions, m)
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
				return s.fault(ctx, err)
			}
			(*h).Behind(user, bridge.Position{Mailbox: n})
		}
	}
	if err := s.do(ctx, listing...); err != nil {
		return err
	}
	for i, r := range s.runMany(ctx, again) {
		if r.err != nil {
			return r.err
		}
		list, err := r.message.ToArray()
		if err != nil {
			return s.fault(ctx, err)
		}
		m := sessions[i]
		if len(list) == 0 {
			continue
		}
		switch refused := joinRefusal(list); {
		case errors.Is(refused, bridge.ErrErased):
			(*h).Notify(bridge.Notice{Kind: bridge.NoticeErased, User: m.User, Session: m.Session})
			continue
		case refused != nil: // the session was told above
			continue
		}
		if err := s.reindex(ctx, m.User, m.Token, m.Groups); err != nil {
			return err
		}
		if len(list) >= 10 {
			if err := s.unindexGroups(ctx, m.User, list[8:10]); err != nil {
				return err
			}
		}
	}
	s.reconciled.Add(1) // a Join that is under way sees this, or is seen here
	return s.amend(ctx, *h, sessions)
}

// amend corrects what has changed while reconcile registered sessions again: it takes out
// those that have left, and has those that have another token join again.
func (s *Store) amend(ctx context.Context, h bridge.Hub, members []bridge.Member) error {
	var gone rueidis.Commands
	for _, m := range members {
		now := h.Members(m.User)
		i := slices.IndexFunc(now, func(o bridge.Member) bool { return o.Session == m.Session })
		switch {
		case i < 0:
			gone = append(gone, s.client.B().Hdel().Key(s.mailboxOf(m.User).l).Field(m.Session).Build())
		case now[i].Token != m.Token:
			if _, err := s.join(ctx, now[i]); err != nil && !errors.Is(err, bridge.ErrRevoked) && !errors.Is(err, bridge.ErrErased) {
				return err // a session that was revoked or erased has been told
			}
		}
	}
	return s.do(ctx, gone...)
}
