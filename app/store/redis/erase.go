package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// Erase implements bridge.Store. Messages that other users have, too, stay theirs. First
// the user's name is taken out of the entries of ids. Then all of the user's own keys go
// in one step, in which the sessions are told. Last, the name is taken off the lists of
// groups and of users. If a step fails, all of them can be done once more.
func (s *Store) Erase(ctx context.Context, user string) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := s.writeAcksOf(ctx, user); err != nil {
		return err
	}
	b := s.mailboxOf(user)
	groups, err := s.client.Do(ctx, s.client.B().Smembers().Key(b.groups()).Build()).AsStrSlice()
	if err = s.fault(ctx, err); err != nil {
		return err
	}
	said, err := s.tokensOf(ctx, user)
	if err != nil {
		return err
	}
	for _, tg := range said {
		groups = append(groups, tg.groups...)
	}
	if err := s.forgetName(ctx, user); err != nil {
		return err
	}
	if err := s.giveUp(ctx, b); err != nil {
		return err
	}
	now := s.opts.Now()
	keys := []string{b.h, b.l, b.m, b.g, b.t, b.logs(), b.tokens(), s.seenKey(b, now), s.seenKey(b, now.Add(-s.opts.IDRetention))}
	keys = append(keys, s.indexes(b)...)
	of, err := s.callbacksOf(ctx, b)
	if err != nil {
		return err
	}
	keys = append(keys, of.keys...)
	n := bridge.Notice{Kind: bridge.NoticeErased, User: user}
	if _, err = s.runDurable(ctx, call{&s.scripts.erase, keys, []string{s.channel(), s.self, s.notice(n), itoa(now.UnixNano())}}); err != nil {
		return err
	}
	s.forgetErased(ctx, of)
	slices.Sort(groups)
	return s.forgetMember(ctx, user, slices.Compact(groups))
}

// patternOf turns a text into the pattern that only this text matches.
var patternOf = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`)

// forgetMember takes a user's name off the lists of groups and of users, except where
// the user has come back meanwhile.
func (s *Store) forgetMember(ctx context.Context, user string, groups []string) error {
	if err := s.unlistUser(ctx, user); err != nil {
		return err
	}
	own := s.mailboxOf(user).groups()
	for _, name := range groups {
		g := s.groupKeys(name)
		cmds := rueidis.Commands{s.client.B().Srem().Key(g.stored).Member(user).Build(), s.client.B().Zrem().Key(g.older).Member(user).Build()}
		for at := uint64(0); ; {
			page, err := s.client.Do(ctx, s.client.B().Zscan().Key(g.named).Cursor(at).Match(patternOf.Replace(indexMember(user, ""))+"*").Count(scanned).Build()).AsScanEntry()
			if err = s.fault(ctx, err); err != nil {
				return err
			}
			for i := 0; i+1 < len(page.Elements); i += 2 { // a member and its score
				cmds = append(cmds, s.client.B().Zrem().Key(g.named).Member(page.Elements[i]).Build())
			}
			if at = page.Cursor; at == 0 {
				break
			}
		}
		if err := s.do(ctx, append(cmds, s.client.B().Srem().Key(own).Member(name).Build())...); err != nil {
			return err
		}
	}
	said, err := s.tokensOf(ctx, user)
	if err != nil {
		return err
	}
	for token, tg := range said {
		if err := s.reindex(ctx, user, token, tg.groups); err != nil {
			return err
		}
	}
	return nil
}

// giveUp releases all messages that a mailbox shares.
func (s *Store) giveUp(ctx context.Context, b mailbox) error {
	for at := "-"; ; {
		page, err := s.client.Do(ctx, s.client.B().Xrange().Key(b.m).Start(at).End("+").Count(letters).Build()).AsXRange()
		if err = s.fault(ctx, err); err != nil {
			return err
		}
		var released []string
		for _, x := range page {
			if id := x.FieldValues["r"]; id != "" {
				_, number, _ := strings.Cut(x.FieldValues["n"], " ")
				released = append(released, number+" "+id)
			}
			at = "(" + x.ID
		}
		if err := s.release(ctx, released); err != nil {
			return err
		}
		if len(page) < letters {
			return nil
		}
	}
}

// forgetName takes a user's name out of the entries of all ids that name the user.
func (s *Store) forgetName(ctx context.Context, user string) error {
	if err := s.forgetListed(ctx, user); err != nil {
		return err
	}
	if unlisted, err := s.unlisted(ctx); err != nil || !unlisted {
		return err
	}
	return s.scanKeys(ctx, "i*}", func(keys []string) error { return s.forgetIn(ctx, keys, user) })
}

// forgetIn takes a user's name out of the entries of ids, whose keys are given.
func (s *Store) forgetIn(ctx context.Context, keys []string, user string) error {
	for len(keys) > 0 {
		texts, err := repliesOf(ctx, s, keys, s.get, (*rueidis.RedisResult).ToString)
		if err != nil {
			return err
		}
		var named []string
		var calls []call
		for i, key := range keys {
			text := texts[i]
			if text == "" {
				continue
			}
			entry, err := decodeDedupEntry(text)
			if err != nil {
				return fmt.Errorf("%w: %w", bridge.ErrUnavailable, err)
			}
			if at := slices.Index(entry.users, user); at >= 0 {
				entry.users = slices.Delete(entry.users, at, at+1)
				entry.seq, entry.placed = 0, false
				named = append(named, key)
				calls = append(calls, call{&s.scripts.compareAndSet, []string{key}, []string{text, entry.encode()}})
			}
		}
		keys = nil // those that have changed meanwhile, by a recall, are looked at again
		for i, r := range s.runMany(ctx, calls) {
			if r.err != nil {
				return r.err
			}
			done, err := r.message.AsInt64()
			if err != nil {
				return s.fault(ctx, err)
			}
			if done == 0 {
				keys = append(keys, named[i])
			}
		}
	}
	return nil
}
