package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

var errNoUser = fmt.Errorf("redis: a user's name is empty")

// Leave implements bridge.Live.
func (e *Store) Leave(ctx context.Context, t bridge.DeliveryLog) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	user := t.Member.User
	if h := e.hub.Load(); h != nil {
		(*h).Left(user, t.Member.Session)
	}
	kept := ""
	if !t.Empty() {
		b, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("keep a delivery log: %w", err)
		}
		kept = string(b)
	}
	at := t.Ended
	if at.IsZero() {
		at = e.opts.Now()
	}
	b := e.mailboxOf(user)
	_, err = e.run(ctx, call{&e.scripts.leave, []string{b.h, b.l, b.trails()}, []string{
		t.Member.Session, itoa(at.UnixNano()), kept, itoa(bridge.MaxDeliveryLogs), itoa(e.opts.IDRetention.Milliseconds())}})
	if err != nil {
		return err
	}
	return e.do(ctx, e.headcount(), e.unlistSession(t.Member.Session))
}

// Ack implements bridge.Store.
func (e *Store) Ack(ctx context.Context, user, life string, p bridge.Position) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if user == "" {
		return errNoUser
	}
	return e.inLife(ctx, func(lf *lifetime) error {
		keys, head, no := []string{e.mailboxOf(user).h}, uint64(0), ""
		if !e.cluster {
			keys = append(keys, e.all.h)
		}
		switch {
		case life != lf.name:
			_, list, _ := e.lifeKeys()
			r := e.client.DoMulti(ctx, e.client.B().Zscore().Key(list).Member(life).Build(), e.client.B().Hmget().Key(e.all.h).Field("s", "lv").Build())
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
		case e.cluster:
			if head = e.leases.newest(0); p.Broadcast > head {
				var err error
				if head, err = e.client.Do(ctx, e.client.B().Hget().Key(e.all.h).Field("s").Build()).AsUint64(); err != nil && !rueidis.IsRedisNil(err) {
					return err
				}
				e.leases.newest(head)
			}
		}
		_, err := e.runOnce(ctx, lf, call{&e.scripts.ack, keys, []string{itoa(p.Mailbox), itoa(p.Broadcast), itoa(head), no}})
		return err
	})
}

// live lists the sessions that stand in a mailbox's l, oldest first. Those of
// dead machines only tell until when they were there.
func (e *Store) live(entries map[string]string) (list []bridge.Member, lapsed time.Time) {
	now := e.Life()
	for session, value := range entries {
		m, machine, life, err := memberOf(session, value)
		switch {
		case err != nil:
			e.opts.Logger.Warn("a session's entry cannot be read", "session", session, "error", err)
		case life != "" && life != now:
			// Whoever wrote it has yet to say that the session is still there.
		case e.leases.lives(machine, m.Since):
			list = append(list, m)
		default:
			if at := e.leases.lapsedAt(machine); at.After(lapsed) {
				lapsed = at
			}
		}
	}
	slices.SortFunc(list, bridge.OldestFirst)
	return list, lapsed
}

// Presence implements bridge.Live.
func (e *Store) Presence(ctx context.Context, users []string) ([]bridge.Presence, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	cmds := make(rueidis.Commands, 0, 2*len(users))
	for _, user := range users {
		b := e.mailboxOf(user)
		cmds = append(cmds, e.client.B().Hget().Key(b.h).Field("ls").Build(), e.client.B().Hgetall().Key(b.l).Build())
	}
	replies := e.doMany(ctx, cmds)
	out := make([]bridge.Presence, len(users))
	for i, user := range users {
		seen, err := replies[2*i].AsInt64()
		known := err == nil
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		entries, err := replies[2*i+1].AsStrMap()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		list, lapsed := e.live(entries)
		out[i] = bridge.Presence{User: user, Sessions: len(list)}
		switch {
		case len(list) > 0:
			out[i].LastSeen = e.opts.Now()
		case known:
			if out[i].LastSeen = time.Unix(0, seen); lapsed.After(out[i].LastSeen) {
				out[i].LastSeen = lapsed
			}
		}
	}
	return out, nil
}

// Sessions implements bridge.Live.
func (e *Store) Sessions(ctx context.Context, user string) ([]bridge.Member, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	entries, err := e.client.Do(ctx, e.client.B().Hgetall().Key(e.mailboxOf(user).l).Build()).AsStrMap()
	if err = e.fault(ctx, err); err != nil {
		return nil, err
	}
	list, _ := e.live(entries)
	return list, nil
}

// Tell implements bridge.Live.
func (e *Store) Tell(ctx context.Context, n bridge.Notice) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	switch {
	case n.To != "":
		return e.do(ctx, e.client.B().Publish().Channel(e.channel()+n.To).Message(e.notice(n)).Build())
	case n.User == "":
		return e.do(ctx, e.client.B().Publish().Channel(e.channel()+"all").Message(e.notice(n)).Build())
	}
	_, err = e.run(ctx, call{&e.scripts.notify, []string{e.mailboxOf(n.User).l}, []string{e.channel(), e.self, e.notice(n)}})
	return err
}

// notice is what goes over a channel.
func (e *Store) notice(n bridge.Notice) string {
	n.Asker = e.self
	b, err := json.Marshal(n)
	if err != nil { // strings, numbers and a time
		panic("redis: " + err.Error())
	}
	return string(kindNotice) + string(b)
}

// Revoke implements bridge.Store.
func (e *Store) Revoke(ctx context.Context, user string, r bridge.Revocation) error {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	reply, err := e.runDurable(ctx, e.revoking(user, r))
	if err != nil {
		return err
	}
	back, err := reply.ToArray()
	if err = e.fault(ctx, err); err != nil {
		return err
	}
	if err := e.takenBack(ctx, user, back); err != nil {
		return err
	}
	// Of what versions before have written, nobody knows which token said it.
	groups, err := e.client.Do(ctx, e.client.B().Smembers().Key(e.mailboxOf(user).groups()).Build()).AsStrSlice()
	if err = e.fault(ctx, err); err != nil {
		return err
	}
	var cmds rueidis.Commands
	for _, g := range groups {
		cmds = append(cmds, e.client.B().Zrem().Key(e.groupKeys(g).older).Member(user).Build())
	}
	return e.do(ctx, cmds...)
}

// nameField begins the field of a user's revocations that says whose they are.
const nameField = "n"

// revoking is the call that remembers a revocation and tells of it.
func (e *Store) revoking(user string, r bridge.Revocation) call {
	b := e.mailboxOf(user)
	kind, value := "j", r.TokenID
	if value == "" {
		kind, value = "b", itoa(r.IssuedBefore.UnixMilli())
	}
	n := bridge.Notice{Kind: bridge.NoticeRevoked, User: user, Revocation: r}
	return call{&e.scripts.revoke, []string{b.revocations(), b.l, b.tokens()}, []string{e.channel(), e.self, e.notice(n), kind, value, user}}
}

// Revoked implements bridge.Store.
func (e *Store) Revoked(ctx context.Context, user, tokenID string, issuedAt time.Time) (bool, error) {
	ctx, leave, err := e.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	r, err := e.client.Do(ctx, e.client.B().Hmget().Key(e.mailboxOf(user).revocations()).Field("b", "j"+tokenID).Build()).ToArray()
	if err = e.fault(ctx, err); err != nil {
		return false, err
	}
	if len(r) == 2 && tokenID != "" && !r[1].IsNil() {
		return true, nil
	}
	if len(r) == 0 || r[0].IsNil() {
		return false, nil
	}
	text, err := r[0].ToString()
	if err != nil {
		return false, e.fault(ctx, err)
	}
	before, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return false, fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
	}
	return bridge.Revocation{IssuedBefore: time.UnixMilli(before)}.Covers("", issuedAt), nil
}
