package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// memberships gives the groups that users are in: of each group first whether an
// operator has said so, then each token that says so. A user's own list may name a
// group too many.
func (d *dumping) memberships(ctx context.Context, keys []string) error {
	e := d.e
	var cmds rueidis.Commands
	for _, k := range keys {
		tag, _ := d.split(k)
		cmds = append(cmds, e.client.B().Smembers().Key(k).Build(), e.client.B().Hgetall().Key(e.mailboxAt(tag).tokens()).Build())
	}
	replies := e.client.DoMulti(ctx, cmds...)
	for i, key := range keys {
		groups, err := replies[2*i].AsStrSlice()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		fields, err := replies[2*i+1].AsStrMap()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		tag, _ := d.split(key)
		user, err := d.memberOf(ctx, tag, groups)
		if err != nil {
			return err
		}
		if user == "" {
			continue // all that it names is over
		}
		if err := d.membershipsOf(ctx, user, groups, fields); err != nil {
			return err
		}
	}
	return nil
}

// membershipsOf gives those of one user.
func (d *dumping) membershipsOf(ctx context.Context, user string, groups []string, fields map[string]string) error {
	e := d.e
	var cmds rueidis.Commands
	for _, name := range groups {
		g := e.groupKeys(name)
		cmds = append(cmds, e.client.B().Sismember().Key(g.stored).Member(user).Build(), e.client.B().Zscore().Key(g.older).Member(user).Build())
	}
	replies := e.client.DoMulti(ctx, cmds...)
	for j, name := range groups {
		m := &bridge.MembershipEntry{Group: name, User: user}
		var err error
		m.Stored, err = replies[2*j].AsBool()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		until, err := replies[2*j+1].AsFloat64()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		if int64(until) > d.now {
			m.Until = int64(until) * int64(time.Millisecond)
		}
		if m.Stored || m.Until != 0 {
			if err := d.take(bridge.Entry{Membership: m}); err != nil {
				return err
			}
		}
		for token, text := range fields {
			s := parseSaying(text)
			if !s.names(name, d.now) {
				continue
			}
			err := d.take(bridge.Entry{Membership: &bridge.MembershipEntry{Group: name, User: user,
				Until: s.until * int64(time.Millisecond), Token: token, TokenID: s.tokenID, Issued: s.issued * int64(time.Millisecond)}})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// memberOf names the user who has a list of groups. One who was never here, and
// whom nothing was for, has a name in these groups alone.
func (d *dumping) memberOf(ctx context.Context, tag string, groups []string) (string, error) {
	e := d.e
	for _, name := range groups {
		if d.names[tag] != "" {
			break
		}
		g := e.groupKeys(name)
		for _, r := range e.client.DoMulti(ctx, e.client.B().Smembers().Key(g.stored).Build(),
			e.client.B().Zrange().Key(g.older).Min("0").Max("-1").Build(), e.client.B().Zrange().Key(g.named).Min("0").Max("-1").Build()) {
			users, err := r.AsStrSlice()
			if err = e.fault(ctx, err); err != nil {
				return "", err
			}
			for _, u := range users {
				user, _ := userOf(u)
				d.learn(user)
			}
		}
	}
	return d.names[tag], nil
}

// revocations gives which tokens are no longer good.
func (d *dumping) revocations(ctx context.Context, keys []string) error {
	e := d.e
	cmds := make(rueidis.Commands, len(keys))
	for i, k := range keys {
		cmds[i] = e.client.B().Hgetall().Key(k).Build()
	}
	for i, r := range e.client.DoMulti(ctx, cmds...) {
		fields, err := r.AsStrMap()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		tag, _ := d.split(keys[i])
		user := d.names[tag]
		for f := range fields {
			if name, ok := strings.CutPrefix(f, nameField); ok {
				user = name
			}
		}
		if user == "" {
			return fmt.Errorf("redis: %s holds revocations by an older version, for a user of whom nothing else is kept: "+
				"revoke them again, or delete the key where their tokens have expired", keys[i])
		}
		for f, text := range fields {
			if f != "b" && !strings.HasPrefix(f, "j") {
				continue
			}
			entry := &bridge.RevocationEntry{User: user, Revocation: revocation(f, text)}
			if err := d.take(bridge.Entry{Revocation: entry}); err != nil {
				return err
			}
		}
	}
	return nil
}

// trails gives what ended sessions went through, of each user oldest first.
func (d *dumping) trails(ctx context.Context, keys []string) error {
	e := d.e
	cmds := make(rueidis.Commands, len(keys))
	for i, k := range keys {
		cmds[i] = e.client.B().Lrange().Key(k).Start(0).Stop(-1).Build()
	}
	oldest := time.UnixMilli(d.now).Add(-e.opts.IDRetention)
	for i, r := range e.client.DoMulti(ctx, cmds...) {
		kept, err := r.AsStrSlice()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		slices.Reverse(kept)
		for _, text := range kept {
			t := &bridge.DeliveryLog{}
			if err := json.Unmarshal([]byte(text), t); err != nil {
				return fmt.Errorf("read a delivery log of %s: %w", keys[i], err)
			}
			if !t.Ended.After(oldest) {
				continue
			}
			if err := d.take(bridge.Entry{Trail: t}); err != nil {
				return err
			}
		}
	}
	return nil
}

// sights gives what users have seen, as long as its id is remembered.
func (d *dumping) sights(ctx context.Context, keys []string) error {
	e := d.e
	oldest := time.UnixMilli(d.now).Add(-e.opts.IDRetention)
	cmds := make(rueidis.Commands, len(keys))
	for i, k := range keys {
		cmds[i] = e.client.B().Hgetall().Key(k).Build()
	}
	for i, r := range e.client.DoMulti(ctx, cmds...) {
		fields, err := r.AsStrMap()
		if err = e.fault(ctx, err); err != nil {
			return err
		}
		tag, _ := d.split(keys[i])
		user, ids := d.names[tag], sorted(fields)
		if user == "" || len(ids) == 0 || keys[i] < e.sights(e.mailboxAt(tag), oldest) {
			continue // nothing that one could ask about
		}
		known, err := d.known(ctx, ids)
		if err != nil {
			return err
		}
		for j, id := range ids {
			if !known[j] {
				continue
			}
			for _, s := range parseSights(fields[id]) {
				entry := &bridge.SightEntry{ID: id, User: user, Session: s.Session, At: s.At.UnixNano()}
				if err := d.take(bridge.Entry{Sight: entry}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// known tells which ids are remembered.
func (d *dumping) known(ctx context.Context, ids []string) ([]bool, error) {
	e := d.e
	cmds := make(rueidis.Commands, len(ids))
	for i, id := range ids {
		cmds[i] = e.client.B().Getrange().Key(e.record(id)).Start(dedupHead - untilDigits - recalledDigits).End(dedupHead - recalledDigits - 1).Build()
	}
	out := make([]bool, len(ids))
	for i, r := range e.client.DoMulti(ctx, cmds...) {
		text, err := r.ToString()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		until, err := strconv.ParseInt(text, 10, 64)
		out[i] = err == nil && until > d.now
	}
	return out, nil
}
