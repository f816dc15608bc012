package redis

import (
	"context"
	"slices"
	"time"

	"hookbridge/app/bridge"

	"github.com/redis/rueidis"
)

// userCallbacks is what a user has in the outbox, for an erasure.
type userCallbacks struct {
	tag     string
	keys    []string            // all of them
	waiting map[string][]string // of each backend classes and members in its index
	dead    map[string][]string // of each backend members in its index
}

// backendNames are the names of all backends that there have ever been: of some that
// are gone callbacks may still be kept.
func (s *Store) backendNames(ctx context.Context) ([]string, error) {
	names, err := s.client.Do(ctx, s.client.B().Smembers().Key(s.backendsKey()).Build()).AsStrSlice()
	slices.Sort(names)
	return names, s.fault(ctx, err)
}

// callbacksOf reads what a user has in the outbox.
func (s *Store) callbacksOf(ctx context.Context, b mailbox) (of userCallbacks, err error) {
	of = userCallbacks{waiting: make(map[string][]string), dead: make(map[string][]string)}
	names, err := s.backendNames(ctx)
	if err != nil || len(names) == 0 {
		return of, err
	}
	of.keys = b.timerKeys()
	tag, _ := (&Archive{e: s}).split(b.base)
	of.tag = tag
	for _, name := range names {
		k := b.callbackKeys(name)
		of.keys = append(of.keys, k...)
		lists, err := repliesOf(ctx, s, k[2:4], s.hgetall, (*rueidis.RedisResult).AsStrMap)
		if err != nil {
			return of, err
		}
		for id, text := range lists[0] {
			if kept, err := decodeCallback(name, id, text); err == nil {
				of.waiting[name] = append(of.waiting[name], classOf(kept.Type), callbackMember(id, tag, len(kept.Body)))
			}
		}
		for id, text := range lists[1] {
			if kept, err := decodeCallback(name, id, text); err == nil {
				of.dead[name] = append(of.dead[name], callbackMember(id, tag, len(kept.Body)))
			}
		}
	}
	return of, nil
}

// OfUser implements bridge.Outbox.
func (s *Store) OfUser(ctx context.Context, user string, take func(c bridge.Callback, givenUp time.Time) error) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	names, err := s.backendNames(ctx)
	if err != nil {
		return err
	}
	oldest := s.opts.Now().Add(-bridge.DeadCallbacksFor)
	for _, name := range names {
		lists, err := repliesOf(ctx, s, s.mailboxOf(user).callbackKeys(name)[2:4], s.hgetall, (*rueidis.RedisResult).AsStrMap)
		if err != nil {
			return err
		}
		kept, err := decodeCallbacks(name, lists)
		if err != nil {
			return s.fault(ctx, err)
		}
		for _, k := range kept {
			givenUp := time.Time{}
			if !waits(lists[0], k.ID) {
				if givenUp = k.givenUp; !givenUp.After(oldest) {
					continue // bury takes it out
				}
			}
			if err := take(k.Callback, givenUp); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetErased takes what a user had out of the indexes, which do not name the user.
func (s *Store) forgetErased(ctx context.Context, of userCallbacks) {
	s.forgetCallbacks(ctx, of.waiting)
	for name := range of.waiting {
		if err := s.do(ctx, s.client.B().Zrem().Key(s.callbackIndex(name).hurry).Member(of.tag).Build()); err != nil {
			s.opts.Logger.Warn("the index of callbacks is behind, and will be made good", "error", err)
		}
	}
	for name, members := range of.dead {
		x := s.callbackIndex(name)
		s.tryRun(ctx, call{&s.scripts.outbox.unbury, x.dead[:], members})
	}
}
