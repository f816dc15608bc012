package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
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
	lists, err := repliesOf(ctx, e, keys, func(k string) rueidis.Completed { return e.client.B().Smembers().Key(k).Build() }, (*rueidis.RedisResult).AsStrSlice)
	if err != nil {
		return err
	}
	tokens, err := repliesOf(ctx, e, keys, func(k string) rueidis.Completed {
		tag, _ := d.split(k)
		return e.hgetall(e.mailboxAt(tag).tokens())
	}, (*rueidis.RedisResult).AsStrMap)
	if err != nil {
		return err
	}
	for i, groups := range lists {
		tag, _ := d.split(keys[i])
		user, err := d.memberOf(ctx, tag, groups)
		if err != nil {
			return err
		}
		if user == "" {
			continue // all that it names is over
		}
		if err := d.membershipsOf(ctx, user, groups, tokens[i]); err != nil {
			return err
		}
	}
	return nil
}

// membershipsOf gives those of one user.
func (d *dumping) membershipsOf(ctx context.Context, user string, groups []string, fields map[string]string) error {
	e := d.e
	stored, err := repliesOf(ctx, e, groups, func(name string) rueidis.Completed {
		return e.client.B().Sismember().Key(e.groupKeys(name).stored).Member(user).Build()
	}, (*rueidis.RedisResult).AsBool)
	if err != nil {
		return err
	}
	older, err := repliesOf(ctx, e, groups, func(name string) rueidis.Completed {
		return e.client.B().Zscore().Key(e.groupKeys(name).older).Member(user).Build()
	}, (*rueidis.RedisResult).AsFloat64)
	if err != nil {
		return err
	}
	for j, name := range groups {
		m, until := &bridge.MembershipEntry{Group: name, User: user, Stored: stored[j]}, older[j]
		if int64(until) > d.now {
			m.Until = int64(until) * int64(time.Millisecond)
		}
		if m.Stored || m.Until != 0 {
			if err := d.take(bridge.Entry{Membership: m}); err != nil {
				return err
			}
		}
		for token, text := range fields {
			s := parseTokenGroups(text)
			if !s.grants(name, d.now) {
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
		members, err := replies(ctx, e, rueidis.Commands{e.client.B().Smembers().Key(g.stored).Build(),
			e.client.B().Zrange().Key(g.older).Min("0").Max("-1").Build(), e.client.B().Zrange().Key(g.named).Min("0").Max("-1").Build()},
			(*rueidis.RedisResult).AsStrSlice)
		if err != nil {
			return "", err
		}
		for _, m := range slices.Concat(members...) {
			user, _ := splitIndexMember(m)
			d.learn(user)
		}
	}
	return d.names[tag], nil
}

// revocations gives which tokens are no longer good.
func (d *dumping) revocations(ctx context.Context, keys []string) error {
	e := d.e
	all, err := repliesOf(ctx, e, keys, e.hgetall, (*rueidis.RedisResult).AsStrMap)
	if err != nil {
		return err
	}
	for i, fields := range all {
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

// deliveryLogs gives what ended sessions went through, of each user oldest first.
func (d *dumping) deliveryLogs(ctx context.Context, keys []string) error {
	e := d.e
	all, err := repliesOf(ctx, e, keys, func(k string) rueidis.Completed { return e.client.B().Lrange().Key(k).Start(0).Stop(-1).Build() }, (*rueidis.RedisResult).AsStrSlice)
	if err != nil {
		return err
	}
	oldest := time.UnixMilli(d.now).Add(-e.opts.IDRetention)
	for i, kept := range all {
		slices.Reverse(kept)
		for _, text := range kept {
			t := &bridge.DeliveryLog{}
			if err := json.Unmarshal([]byte(text), t); err != nil {
				return fmt.Errorf("read a delivery log of %s: %w", keys[i], err)
			}
			if !t.Ended.After(oldest) {
				continue
			}
			if err := d.take(bridge.Entry{DeliveryLog: t}); err != nil {
				return err
			}
		}
	}
	return nil
}

// seen gives what users have seen, as long as its id is remembered.
func (d *dumping) seen(ctx context.Context, keys []string) error {
	e := d.e
	oldest := time.UnixMilli(d.now).Add(-e.opts.IDRetention)
	all, err := repliesOf(ctx, e, keys, e.hgetall, (*rueidis.RedisResult).AsStrMap)
	if err != nil {
		return err
	}
	for i, fields := range all {
		tag, _ := d.split(keys[i])
		user, ids := d.names[tag], slices.Sorted(maps.Keys(fields))
		if user == "" || len(ids) == 0 || keys[i] < e.seenKey(e.mailboxAt(tag), oldest) {
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
			for _, s := range parseSeen(fields[id]) {
				entry := &bridge.SeenEntry{ID: id, User: user, Session: s.Session, At: s.At.UnixNano()}
				if err := d.take(bridge.Entry{Seen: entry}); err != nil {
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
	times, err := repliesOf(ctx, e, ids, func(id string) rueidis.Completed {
		return e.client.B().Getrange().Key(e.record(id)).Start(dedupHead - untilDigits - recalledDigits).End(dedupHead - recalledDigits - 1).Build()
	}, (*rueidis.RedisResult).ToString)
	out := make([]bool, len(ids))
	for i, text := range times {
		until, err := strconv.ParseInt(text, 10, 64)
		out[i] = err == nil && until > d.now
	}
	return out, err
}
