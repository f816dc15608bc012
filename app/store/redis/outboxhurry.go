package redis

import (
	"context"
	"slices"
	"strconv"
)

// hurried is the score of a callback that is due at a time in milliseconds, and that Hurry
// may bring forward: half a millisecond before its time. Neither leases nor times that a
// backend asked for are written that way.
func hurried(at int64) string { return strconv.FormatInt(at-1, 10) + ".5" }

// hurryPage is of how many users Hurry brings callbacks forward in one go.
const hurryPage = 256

// Hurry implements bridge.Outbox.
func (s *Store) Hurry(ctx context.Context, backend string) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	x := s.callbackIndex(backend)
	all, err := s.client.Do(ctx, s.client.B().Zrange().Key(x.hurry).Min("0").Max("-1").Withscores().Build()).AsZScores()
	if err = s.fault(ctx, err); err != nil {
		return err
	}
	for some := range slices.Chunk(all, hurryPage) {
		tags, done := make([]string, len(some)), make([]string, 0, 2*len(some))
		for i, one := range some {
			tags[i] = one.Member
			done = append(done, one.Member, strconv.FormatFloat(one.Score, 'f', -1, 64))
		}
		if err := s.hurry(ctx, backend, tags); err != nil {
			return err
		}
		// They leave the list last, so that none is lost where this breaks off; and those that
		// came onto it again meanwhile stay.
		if _, err := s.run(ctx, call{&s.scripts.outbox.hurried, []string{x.hurry}, done}); err != nil {
			return err
		}
	}
	return nil
}

// hurry brings forward what users have for a backend, and has the index know of it.
func (s *Store) hurry(ctx context.Context, backend string, tags []string) error {
	calls := make([]call, len(tags))
	for i, tag := range tags {
		calls[i] = call{&s.scripts.outbox.hurry, s.mailboxAt(tag).callbackKeys(backend)[:1], []string{s.clockArg()}}
	}
	var due []call
	for i, r := range s.runManyDurably(ctx, calls) {
		if r.err != nil {
			return r.err
		}
		n, err := r.message.AsInt64()
		if err = s.fault(ctx, err); err != nil {
			return err
		}
		if n > 0 {
			due = append(due, call{&s.scripts.outbox.arm, []string{s.callbackIndex(backend).due}, []string{tags[i], "", s.clockArg()}})
		}
	}
	for _, r := range s.runMany(ctx, due) {
		if r.err != nil {
			return r.err
		}
	}
	if len(due) > 0 {
		s.signalPosted()
	}
	return nil
}

// Names implements bridge.Outbox.
func (s *Store) Names(ctx context.Context) ([]string, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.backendNames(ctx)
}
