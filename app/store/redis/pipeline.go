package redis

import (
	"context"
	"slices"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// atOnce is how many commands or scripts of one caller go out together. Redis runs one
// after the other: a caller with a thousand would keep all others waiting.
const atOnce = 64

// doMany runs commands, those of one slot in their order, so that others get in
// between.
func (s *Store) doMany(ctx context.Context, cmds rueidis.Commands) []rueidis.RedisResult {
	if len(cmds) <= atOnce {
		return s.client.DoMulti(ctx, cmds...)
	}
	out := make([]rueidis.RedisResult, 0, len(cmds))
	for some := range slices.Chunk(cmds, atOnce) {
		out = append(out, s.client.DoMulti(ctx, some...)...)
	}
	return out
}

// do is doMany for commands whose replies do not matter, only whether they fail.
func (s *Store) do(ctx context.Context, cmds ...rueidis.Completed) error {
	for _, r := range s.doMany(ctx, cmds) {
		if err := s.fault(ctx, r.Error()); err != nil {
			return err
		}
	}
	return nil
}

// replies runs commands and decodes their replies with read. The value for a reply that is
// not there is the zero value.
func replies[T any](ctx context.Context, e *Store, cmds rueidis.Commands, read func(*rueidis.RedisResult) (T, error)) ([]T, error) {
	out := make([]T, len(cmds))
	for i, r := range e.doMany(ctx, cmds) {
		var err error
		out[i], err = read(&r)
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// repliesOf is replies for one command for each name.
func repliesOf[T any](ctx context.Context, e *Store, names []string, cmd func(name string) rueidis.Completed, read func(*rueidis.RedisResult) (T, error)) ([]T, error) {
	cmds := make(rueidis.Commands, len(names))
	for i, name := range names {
		cmds[i] = cmd(name)
	}
	return replies(ctx, e, cmds, read)
}

func (s *Store) get(key string) rueidis.Completed     { return s.client.B().Get().Key(key).Build() }
func (s *Store) hgetall(key string) rueidis.Completed { return s.client.B().Hgetall().Key(key).Build() }

// replied is the outcome of one call.
type replied struct {
	message rueidis.RedisMessage
	err     error
}

// runMany runs scripts as doMany runs commands. Scripts that the server did not run,
// because the store lives another life, run again in that life, and those whose slot is
// moving run again, too.
func (s *Store) runMany(ctx context.Context, calls []call) []replied {
	return s.runTurns(ctx, calls, maxLifeTries)
}

// runTurns is runMany; after so many turns whose slot is still moving gets an error.
func (s *Store) runTurns(ctx context.Context, calls []call, movingTurns int) []replied {
	out := make([]replied, len(calls))
	left := make([]int, len(calls))
	for i := range left {
		left[i] = i
	}
	for turns := 0; len(left) > 0; turns++ {
		again, err := left, backoff(ctx, turns)
		if err == nil {
			err = s.ensurePrimaries(ctx)
		}
		if err == nil {
			again, err = s.runLeft(ctx, calls, left, out, turns < movingTurns)
		}
		if err == nil && turns == maxLifeTries {
			err = errUnstable
		}
		if err != nil {
			for _, n := range again {
				out[n].err = s.fault(ctx, err)
			}
			break
		}
		left = again
	}
	return out
}

// runLeft runs the calls whose numbers are in left, in the life that the store is known
// to live. It returns those that the server did not run, and has found the next life for
// them; those whose slots are moving only with wait.
func (s *Store) runLeft(ctx context.Context, calls []call, left []int, out []replied, wait bool) (again []int, err error) {
	lf := s.lives.now.Load()
	some := make([]call, len(left))
	for i, n := range left {
		some[i] = calls[n]
	}
	least, over := int64(0), false
	for i, r := range s.runManyOnce(ctx, lf, some) {
		n := left[i]
		if wait && moving(r.err) {
			again = append(again, n)
			continue
		}
		no, other := otherLife(r.err)
		if !other {
			out[n] = replied{r.message, s.fault(ctx, r.err)}
			continue
		}
		again, least, over = append(again, n), max(least, no), true
	}
	if over {
		err = s.findLife(ctx, lf, least)
	}
	return again, err
}

// runManyOnce runs scripts in one life. The errors are the server's own.
func (s *Store) runManyOnce(ctx context.Context, lf *storeLife, calls []call) []replied {
	cmds := make(rueidis.Commands, len(calls))
	for i := range calls {
		cmds[i] = s.byHash(lf, calls[i])
	}
	out := make([]replied, len(calls))
	for i, r := range s.doMany(ctx, cmds) {
		if lf.name == "" && unknownScript(r.Error()) {
			r = s.client.Do(ctx, s.bySource(lf, calls[i]))
		}
		out[i].message, out[i].err = r.ToMessage()
	}
	return out
}

// runManyDurably is runMany, or, if callers wait for replicas, runDurable for each call.
func (s *Store) runManyDurably(ctx context.Context, calls []call) []replied {
	if s.opts.WaitReplicas == 0 {
		return s.runMany(ctx, calls)
	}
	out := make([]replied, len(calls))
	for i := range calls {
		out[i].message, out[i].err = s.runDurable(ctx, calls[i])
	}
	return out
}

// runManyIn runs scripts in a life that the caller names. ErrOtherLife if the store lives
// another life. While a slot is moving, all of them run again.
func (s *Store) runManyIn(ctx context.Context, life string, calls []call) ([]replied, error) {
	for turns := range maxLifeTries {
		if err := backoff(ctx, turns); err != nil {
			return nil, s.fault(ctx, err)
		}
		if err := s.ensurePrimaries(ctx); err != nil {
			return nil, s.fault(ctx, err)
		}
		lf := s.lives.now.Load()
		if lf.name != life {
			return nil, bridge.ErrOtherLife
		}
		out := s.runManyOnce(ctx, lf, calls)
		over, unmoved, least := false, false, int64(0)
		for i := range out {
			if moving(out[i].err) && turns < maxLifeTries-1 {
				unmoved = true
			} else if no, other := otherLife(out[i].err); other {
				over, least = true, max(least, no)
			} else if err := s.fault(ctx, out[i].err); err != nil {
				return nil, err
			}
		}
		if !over && !unmoved {
			return out, nil
		}
		if !over {
			continue
		}
		if err := s.findLife(ctx, lf, least); err != nil { // or the server had only forgotten the scripts
			return nil, err
		}
	}
	return nil, errUnstable
}
