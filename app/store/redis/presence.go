package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

var errNoUser = fmt.Errorf("redis: a user's name is empty")

// Leave implements bridge.Live.
func (s *Store) Leave(ctx context.Context, t bridge.DeliveryLog) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	user := t.Member.User
	if h := s.hub.Load(); h != nil {
		(*h).Left(user, t.Member.Session)
	}
	at := t.Ended
	if at.IsZero() {
		at = s.opts.Now()
	}
	one := leaving{session: t.Member.Session, user: user, at: at.UnixNano()}
	if !t.Empty() {
		b, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("keep a delivery log: %w", err)
		}
		one.log = string(b)
	}
	if _, err := s.run(ctx, s.leaveCall(one)); err != nil {
		s.lateLeaves.add(one)
		return err
	}
	return s.do(ctx, s.setSessionCount(), s.unlistSession(t.Member.Session))
}

func (s *Store) leaveCall(one leaving) call {
	b := s.mailboxOf(one.user)
	return call{&s.scripts.leave, []string{b.h, b.l, b.logs()}, []string{
		one.session, itoa(one.at), one.log, itoa(bridge.MaxDeliveryLogs), itoa(s.opts.IDRetention.Milliseconds())}}
}

// membersOf lists the live sessions in a mailbox's l, oldest first. lapsed is when the
// last lease lapsed of the machines that died with sessions there.
func (s *Store) membersOf(entries map[string]string) (list []bridge.Member, lapsed time.Time) {
	now := s.Life()
	for session, value := range entries {
		m, machine, life, err := decodePresence(session, value)
		switch {
		case err != nil:
			s.opts.Logger.Warn("a session's entry cannot be read", "session", session, "error", err)
		case life != "" && life != now:
			// Its machine has not written it anew yet, and may not have the session any more.
		case s.leases.alive(machine, m.Since):
			list = append(list, m)
		default:
			if at := s.leases.lapsedAt(machine); at.After(lapsed) {
				lapsed = at
			}
		}
	}
	slices.SortFunc(list, bridge.OldestFirst)
	return list, lapsed
}

// Presence implements bridge.Live.
func (s *Store) Presence(ctx context.Context, users []string) ([]bridge.Presence, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	cmds := make(rueidis.Commands, 0, 2*len(users))
	for _, user := range users {
		b := s.mailboxOf(user)
		cmds = append(cmds, s.client.B().Hget().Key(b.h).Field("ls").Build(), s.client.B().Hgetall().Key(b.l).Build())
	}
	results := s.doMany(ctx, cmds)
	out := make([]bridge.Presence, len(users))
	for i, user := range users {
		seen, err := results[2*i].AsInt64()
		known := err == nil
		if err = s.fault(ctx, err); err != nil {
			return nil, err
		}
		entries, err := results[2*i+1].AsStrMap()
		if err = s.fault(ctx, err); err != nil {
			return nil, err
		}
		list, lapsed := s.membersOf(entries)
		out[i] = bridge.Presence{User: user, Sessions: len(list)}
		switch {
		case len(list) > 0:
			out[i].LastSeen = s.opts.Now()
		case known:
			if out[i].LastSeen = time.Unix(0, seen); lapsed.After(out[i].LastSeen) {
				out[i].LastSeen = lapsed
			}
		}
	}
	return out, nil
}

// Sessions implements bridge.Live.
func (s *Store) Sessions(ctx context.Context, user string) ([]bridge.Member, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	entries, err := s.client.Do(ctx, s.client.B().Hgetall().Key(s.mailboxOf(user).l).Build()).AsStrMap()
	if err = s.fault(ctx, err); err != nil {
		return nil, err
	}
	list, _ := s.membersOf(entries)
	return list, nil
}

// encodePresence encodes a session for a mailbox's l: the machine's name, then members.
// lua/join.lua appends the life in which it is written.
func (s *Store) encodePresence(m bridge.Member) string {
	enc := newEncoder(64)
	enc.text(tagFingerprint, m.Token) // first, where lua/join.lua looks for it
	enc.text(tagUser, m.User)
	enc.text(tagFrom, m.Transport)
	enc.time(tagAt, m.Since)
	enc.text(tagID, m.TokenID)
	enc.time(tagExpires, m.Until)
	return s.self + string(enc.b)
}

// decodePresence decodes it. life is the life in which it was written, empty if an older
// version wrote it.
func decodePresence(session, value string) (m bridge.Member, machine, life string, err error) {
	if len(value) < machineNameLen {
		return m, "", "", errFormat
	}
	m.Session = session
	err = decode([]byte(value[machineNameLen:]), func(tag byte, v []byte) {
		switch tag {
		case tagUser:
			m.User = string(v)
		case tagFrom:
			m.Transport = string(v)
		case tagAt:
			m.Since = decodeTime(v)
		case tagFingerprint:
			m.Token = string(v)
		case tagID:
			m.TokenID = string(v)
		case tagExpires:
			m.Until = decodeTime(v)
		case tagLife:
			life = string(v)
		}
	})
	return m, value[:machineNameLen], life, err
}
