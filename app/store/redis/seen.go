package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// Seen implements bridge.Store.
func (s *Store) Seen(ctx context.Context, user, session, id string, at time.Time) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	r, err := s.remembered(ctx, id)
	if err != nil {
		return err
	}
	b := s.mailboxOf(user)
	if r.all {
		places, err := s.places(ctx, id, &r)
		if err != nil {
			return err
		}
		first, err := s.client.Do(ctx, s.client.B().Hget().Key(b.h).Field("f").Build()).AsUint64()
		if rueidis.IsRedisNil(err) {
			return bridge.ErrUnknown
		}
		if err = s.fault(ctx, err); err != nil {
			return err
		}
		if places[0] != 0 && first >= places[0] {
			return bridge.ErrUnknown
		}
	} else if !slices.Contains(r.users, user) {
		return bridge.ErrUnknown
	}
	_, err = s.run(ctx, call{&s.scripts.seen, []string{s.seenKey(b, s.opts.Now()), b.h}, []string{
		id, session, itoa(at.UnixNano()), itoa(2 * s.opts.IDRetention.Milliseconds())}})
	return err
}

// parseSeen decodes what lua/seen.lua wrote: ;session nanoseconds …
func parseSeen(text string) (out []bridge.SeenAt) {
	for _, one := range strings.Split(text, ";") {
		session, at, ok := strings.Cut(one, " ")
		if n, err := strconv.ParseInt(at, 10, 64); ok && err == nil {
			out = append(out, bridge.SeenAt{Session: session, At: time.Unix(0, n).UTC()})
		}
	}
	return out
}
