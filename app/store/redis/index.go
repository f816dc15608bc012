package redis

import (
	"context"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// An erasure takes the user's name out of all entries of ids. Which ids name a user is
// therefore indexed in the user's own keys. There is a list for each period in which
// the ids on it are forgotten, so that a list expires with its ids.

// indexStretch is the length of such a period, milliseconds: the longer, the fewer lists
// there are to look at.
func (s *Store) indexStretch() int64 {
	return max(s.opts.IDRetention, 24*time.Hour).Milliseconds()
}

// maxRemembered bounds how far ahead an id may be forgotten: an event's ttl ends
// at a year (wire.MaxTTLSeconds).
const maxRemembered = 366 * 24 * time.Hour

// index is the key of the list for an id that is remembered until a time (milliseconds). It
// lists the keys of the ids' entries.
func (s *Store) index(b mailbox, till int64) string {
	return b.base + "I" + itoa(till/s.indexStretch())
}

// indexes are the keys of all lists that a user may have.
func (s *Store) indexes(b mailbox) (keys []string) {
	first, last := s.nowMs()/s.indexStretch(), (s.nowMs()+maxRemembered.Milliseconds()+s.opts.IDRetention.Milliseconds())/s.indexStretch()
	for n := first; n <= last; n++ {
		keys = append(keys, b.base+"I"+itoa(n))
	}
	return keys
}

// indexedKey is the key that says since when ids are listed (milliseconds): 0 for a
// store that has listed them from the beginning.
func (s *Store) indexedKey() string { return s.opts.Prefix + ":{machines}:indexed" }

// beginIndex notes since when ids are listed, once for a store.
func (s *Store) beginIndex(ctx context.Context) error {
	_, _, epoch := s.machineKeys()
	n, err := s.client.Do(ctx, s.client.B().Exists().Key(epoch).Build()).AsInt64()
	if err = s.fault(ctx, err); err != nil {
		return err
	}
	since := int64(0)
	if n != 0 { // a machine that did not list ids has used this store
		since = s.nowMs()
	}
	return s.do(ctx, s.client.B().Set().Key(s.indexedKey()).Value(itoa(since)).Nx().Build())
}

// unlisted reports whether ids may still be known that are on no list.
func (s *Store) unlisted(ctx context.Context) (bool, error) {
	since, err := s.client.Do(ctx, s.client.B().Get().Key(s.indexedKey()).Build()).AsInt64()
	if rueidis.IsRedisNil(err) {
		return true, nil
	}
	return s.nowMs() < since+s.indexStretch(), s.fault(ctx, err)
}

// indexPage is how many ids are read from a list at a time.
const indexPage = 1000

// forgetListed takes a user's name out of the entries of the ids on the user's lists.
func (s *Store) forgetListed(ctx context.Context, user string) error {
	lists := s.indexes(s.mailboxOf(user))
	lengths, err := repliesOf(ctx, s, lists, func(list string) rueidis.Completed { return s.client.B().Llen().Key(list).Build() },
		(*rueidis.RedisResult).AsInt64)
	if err != nil {
		return err
	}
	for i, n := range lengths {
		for at := int64(0); at < n; at += indexPage {
			keys, err := s.client.Do(ctx, s.client.B().Lrange().Key(lists[i]).Start(at).Stop(at+indexPage-1).Build()).AsStrSlice()
			if err = s.fault(ctx, err); err != nil {
				return err
			}
			slices.Sort(keys)
			if err := s.forgetIn(ctx, slices.Compact(keys), user); err != nil {
				return err
			}
		}
	}
	return nil
}

// list puts a loaded id on the lists of the users whom it names.
func (l *loading) list(ev *bridge.EventEntry, till int64) {
	for _, p := range ev.Places {
		if p.User == "" {
			continue
		}
		key := l.e.index(l.e.mailboxOf(p.User), till)
		l.add(l.e.client.B().Rpush().Key(key).Element(l.e.record(ev.ID)).Build())
		l.prolong(key, till-l.now+l.e.indexStretch())
	}
}
