package redis

import (
	"context"
	"strings"
	"time"

	"hookbridge/app/bridge"

	"github.com/redis/rueidis"
)

// Backlog implements bridge.Outbox.
func (s *Store) Backlog(ctx context.Context, backend string) (b bridge.Backlog, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return b, err
	}
	defer leave()
	x := s.callbackIndex(backend)
	oldest, err := s.oldestWaiting(ctx, backend)
	if err != nil {
		return b, err
	}
	since := itoa(s.nowMs() - bridge.DeadCallbacksFor.Milliseconds())
	r := s.client.DoMulti(ctx, s.zcount(x.waiting[0], "-inf"), s.zcount(x.waiting[1], "-inf"), s.zcount(x.waiting[2], "-inf"),
		s.zcount(x.dead[1], "("+since), s.get(x.bytes[0]))
	var n [5]int64
	for i := range n {
		n[i], err = r[i].AsInt64()
		if err = s.fault(ctx, err); err != nil {
			return b, err
		}
	}
	return bridge.Backlog{Waiting: int(n[0] + n[1] + n[2]), Bytes: n[4], Oldest: oldest, Dead: int(n[3])}, nil
}

func (s *Store) zcount(key, from string) rueidis.Completed {
	return s.client.B().Zcount().Key(key).Min(from).Max("+inf").Build()
}

// staleAfter is how old an entry of an index with nothing behind it must be to be taken
// out: until then somebody may be about to write what it is for. It is GRACE of
// lua/outbox_lib.lua.
const staleAfter = time.Minute

// oldestWaiting is when the oldest callback that waits was caused. Entries of the index
// with nothing behind them are taken out on the way.
func (s *Store) oldestWaiting(ctx context.Context, backend string) (oldest time.Time, err error) {
	x := s.callbackIndex(backend)
	for range 100 {
		cmds := make(rueidis.Commands, len(classes))
		for i := range classes {
			cmds[i] = s.client.B().Zrange().Key(x.waiting[i]).Min("0").Max("0").Withscores().Build()
		}
		firsts, err := replies(ctx, s, cmds, (*rueidis.RedisResult).AsZScores)
		if err != nil {
			return oldest, err
		}
		stale := make([]string, 0, 2*len(classes))
		oldest = time.Time{}
		for i, list := range firsts {
			if len(list) == 0 {
				continue
			}
			words := strings.Fields(list[0].Member)
			if len(words) != 3 {
				continue // only scripts of ours write these
			}
			at := time.UnixMilli(int64(list[0].Score))
			text, err := s.client.Do(ctx, s.client.B().Hget().Key(s.mailboxAt(words[1]).callbackKeys(backend)[2]).Field(words[0]).Build()).ToString()
			if err = s.fault(ctx, err); err != nil {
				return oldest, err
			}
			if text == "" {
				if at.Before(s.opts.Now().Add(-staleAfter)) {
					stale = append(stale, classes[i], list[0].Member)
				}
				continue
			}
			k, err := decodeCallback(backend, words[0], text)
			if err != nil {
				return oldest, s.fault(ctx, err)
			}
			if oldest.IsZero() || k.At.Before(oldest) {
				oldest = k.At
			}
		}
		if len(stale) == 0 {
			return oldest, nil
		}
		s.forgetCallbacks(ctx, map[string][]string{backend: stale})
	}
	return oldest, nil
}
