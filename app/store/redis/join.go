package redis

import (
	"cmp"
	"context"
	"fmt"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// Join implements bridge.Live.
func (s *Store) Join(ctx context.Context, m bridge.Member) (st bridge.JoinState, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return st, err
	}
	defer leave()
	if m.User == "" {
		return st, errNoUser
	}
	if err := s.writeAcksOf(ctx, m.User); err != nil {
		return st, err
	}
	for range joinTries {
		reconciled := s.reconciled.Load()
		if st, err = s.join(ctx, m); err != nil {
			return st, err
		}
		if h := s.hub.Load(); h != nil {
			(*h).Joined(m)
		}
		if s.reconciled.Load() == reconciled {
			break
		}
		// reconcile may have registered the session again with the token that it had before.
	}
	return st, nil
}

// joinTries bounds how often a session joins again because of reconcile.
const joinTries = 3

// joinCall is the call that makes a session present. head is the newest place among
// messages to all, and starts says where lives began among these. again is set if the
// session was present before.
func (s *Store) joinCall(m bridge.Member, head, starts string, again bool) call {
	b := s.mailboxOf(m.User)
	keys := []string{b.h, b.l, b.revocations(), b.tokens(), b.m, b.g}
	if !s.cluster {
		_, counts, _ := s.machineKeys()
		sessions, _ := s.sessionLists(s.self)
		keys = append(keys, s.all.h, s.users(), counts, sessions, s.all.m, s.all.g, b.groups())
		for _, g := range m.Groups {
			keys = append(keys, s.groupKeys(g).named)
		}
	}
	since := ""
	if !m.Since.IsZero() {
		since = itoa(m.Since.UnixNano())
	}
	now := s.opts.Now()
	args := append(make([]string, 0, 24), m.Session, s.encodePresence(m), itoa(now.UnixNano()), head, s.leases.dead(), since,
		m.Token, itoa(max(0, m.Until.UnixMilli())), itoa(issuedMs(m.Issued)), m.TokenID, lines(m.Groups), itoa(now.UnixMilli()), flag(again), starts, flag(again || m.Returns),
		m.User, s.self, itoa(s.sessionsHere("", nil)), userTag(m.User))
	return call{&s.scripts.join, keys, append(args, "", "0", "0", "0", "0")}
}

// reading has the call read the session's first page, too.
func (c *call) reading(r *bridge.ReadAhead, life string) {
	how := "after"
	switch {
	case r == nil, !r.Fresh && r.Life != life:
		return
	case r.Fresh:
		how = "acked"
	}
	c.args = append(c.args[:len(c.args)-5], how, itoa(r.After.Mailbox), itoa(r.After.Broadcast), itoa(r.MaxCount), itoa(r.MaxBytes))
}

func (s *Store) join(ctx context.Context, m bridge.Member) (st bridge.JoinState, err error) {
	head, starts := "", ""
	if s.cluster {
		if head, starts, err = s.announce(ctx, m); err != nil {
			return st, err
		}
	}
	var reply rueidis.RedisMessage
	err = s.inLife(ctx, func(lf *storeLife) (err error) {
		st.Life = lf.name
		c := s.joinCall(m, head, starts, false)
		c.reading(m.Reads, lf.name)
		reply, err = s.runOnceDurably(ctx, lf, c)
		return err
	})
	if err != nil {
		return st, err
	}
	list, err := reply.ToArray()
	if err != nil || len(list) == 0 {
		return st, fmt.Errorf("%w: redis: a damaged answer to a join: %w", bridge.ErrUnavailable, err)
	}
	if refused := joinRefusal(list); refused != nil {
		if s.cluster && refused == bridge.ErrErased {
			err = s.unlistUser(ctx, m.User)
		}
		return st, cmp.Or(err, refused)
	}
	if len(list) < 10 {
		return st, fmt.Errorf("%w: redis: a damaged answer to a join", bridge.ErrUnavailable)
	}
	var n [7]uint64 // head, acked, acked of messages to all, first, head of messages to all, live, newly seen
	for i := range n {
		if n[i], err = list[1+i].AsUint64(); err != nil {
			return st, s.fault(ctx, err)
		}
	}
	if s.cluster {
		if err := s.indexJoined(ctx, m, n[6] == 1); err != nil {
			return st, err
		}
	}
	if err := s.unindexGroups(ctx, m.User, list[8:10]); err != nil {
		return st, err
	}
	s.leases.newest(n[4])
	st.Head = bridge.Position{Mailbox: n[0], Broadcast: n[4]}
	st.Acked = bridge.Position{Mailbox: n[1], Broadcast: max(n[2], n[3])}
	st.First = bridge.Position{Broadcast: n[3]}
	st.Live = int(n[5])
	return st, s.joinPage(ctx, m, &st, list[10:])
}

// announce does on a Cluster what comes before a join there and the join's script cannot
// do, and returns what joinCall needs to know of the messages to all. The user goes on the
// list of users first: the list may name a user too many, but never one too few.
func (s *Store) announce(ctx context.Context, m bridge.Member) (head, starts string, err error) {
	pre := rueidis.Commands{s.listUser(m.User), s.client.B().Hmget().Key(s.all.h).Field("s", "lv").Build(), s.setSessionCount(), s.listSession(m.Session, m.User)}
	r := s.client.DoMulti(ctx, pre...)
	for _, i := range []int{0, 3} {
		if err := s.fault(ctx, r[i].Error()); err != nil {
			return "", "", err
		}
	}
	return s.broadcastState(ctx, r[1])
}

// indexJoined does on a Cluster what comes after a join there.
func (s *Store) indexJoined(ctx context.Context, m bridge.Member, isNew bool) error {
	if isNew { // an erasure that runs may have taken the name off the list
		if err := s.do(ctx, s.listUser(m.User)); err != nil {
			return err
		}
	}
	return s.indexGroups(ctx, m)
}

// joinPage reads the first page in the answer to a join. Where it is not whole, the
// caller has to read it.
func (s *Store) joinPage(ctx context.Context, m bridge.Member, st *bridge.JoinState, list []rueidis.RedisMessage) (err error) {
	if len(list) < 3 {
		return nil
	}
	var after bridge.Position
	for i, to := range []*uint64{&after.Mailbox, &after.Broadcast} {
		if *to, err = list[i].AsUint64(); err != nil {
			return s.fault(ctx, err)
		}
	}
	var logs [2]stretch
	if logs[0], err = readStretch(list[2], m.User); err != nil {
		return s.fault(ctx, err)
	}
	switch {
	case len(list) > 3:
		if logs[1], err = readStretch(list[3], ""); err != nil {
			return s.fault(ctx, err)
		}
	case after.Broadcast >= st.Head.Broadcast:
		logs[1].head, logs[1].Next = st.Head.Broadcast, st.Head.Broadcast
	default: // on a Cluster the script cannot read them
		return nil
	}
	logs[0].After, logs[1].After = after.Mailbox, after.Broadcast
	if whole, err := s.fillShared(ctx, &logs[0], m.User, false); err != nil || !whole {
		return err
	}
	page := pageOf(&logs, st.Life, m.Reads.MaxCount, m.Reads.MaxBytes)
	st.Page, st.PageAfter = &page, after
	return nil
}

// broadcastState decodes s and lv of the log of messages to all.
func (s *Store) broadcastState(ctx context.Context, r rueidis.RedisResult) (head, starts string, err error) {
	all, err := r.ToArray()
	if err == nil && len(all) != 2 {
		err = errFormat
	}
	if err != nil {
		return "", "", s.fault(ctx, err)
	}
	head = "0"
	for i, to := range []*string{&head, &starts} {
		if all[i].IsNil() {
			continue
		}
		if *to, err = all[i].ToString(); err != nil {
			return "", "", s.fault(ctx, err)
		}
	}
	return head, starts, nil
}

// joinRefusal is why lua/join.lua has refused a session; nil if it has not.
func joinRefusal(list []rueidis.RedisMessage) error {
	switch word, _ := list[0].ToString(); word {
	case "e":
		return bridge.ErrErased
	case "r":
		return bridge.ErrRevoked
	}
	return nil
}

// listUser puts a user on the list of users.
func (s *Store) listUser(user string) rueidis.Completed {
	return s.client.B().Zadd().Key(s.users()).ScoreMember().ScoreMember(0, user).Build()
}

// unlistUser takes a user off the list of users, unless the user has come back.
func (s *Store) unlistUser(ctx context.Context, user string) error {
	seen := s.client.B().Hexists().Key(s.mailboxOf(user).h).Field("f")
	if yes, err := s.client.Do(ctx, seen.Build()).AsBool(); err != nil || yes {
		return s.fault(ctx, err)
	}
	if err := s.do(ctx, s.client.B().Zrem().Key(s.users()).Member(user).Build()); err != nil {
		return err
	}
	yes, err := s.client.Do(ctx, s.client.B().Hexists().Key(s.mailboxOf(user).h).Field("f").Build()).AsBool()
	if err != nil || !yes {
		return s.fault(ctx, err)
	}
	return s.do(ctx, s.listUser(user)) // the user has come back meanwhile
}
