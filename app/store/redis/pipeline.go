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
func (e *Store) doMany(ctx context.Context, cmds rueidis.Commands) []rueidis.RedisResult {
	if len(cmds) <= atOnce {
		return e.client.DoMulti(ctx, cmds...)
	}
	out := make([]rueidis.RedisResult, 0, len(cmds))
	for some := range slices.Chunk(cmds, atOnce) {
		out = append(out, e.client.DoMulti(ctx, some...)...)
	}
	return out
}

// do is doMany for commands whose replies do not matter, only whether they fail.
func (e *Store) do(ctx context.Context, cmds ...rueidis.Completed) error {
	for _, r := range e.doMany(ctx, cmds) {
		if err := e.fault(ctx, r.Error()); err != nil {
			return err
		}
	}
	return nil
}

// getMany reads the values of keys. Keys that are not there are missing in the answer.
func (e *Store) getMany(ctx context.Context, keys []string) (map[string]string, error) {
	cmds := make(rueidis.Commands, len(keys))
	for i, k := range keys {
		cmds[i] = e.client.B().Get().Key(k).Build()
	}
	out := make(map[string]string, len(keys))
	for i, r := range e.doMany(ctx, cmds) {
		text, err := r.ToString()
		if rueidis.IsRedisNil(err) {
			continue
		}
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		out[keys[i]] = text
	}
	return out, nil
}

// replied is the outcome of one call.
type replied struct {
	message rueidis.RedisMessage
	err     error
}

// runMany runs scripts as doMany runs commands. Scripts that the server did not run,
// because the store lives another life, run again in that life.
func (e *Store) runMany(ctx context.Context, calls []call) []replied {
	out := make([]replied, len(calls))
	left := make([]int, len(calls))
	for i := range left {
		left[i] = i
	}
	for turns := 0; len(left) > 0; turns++ {
		again, err := left, pause(ctx, turns)
		if err == nil {
			err = e.sure(ctx)
		}
		if err == nil {
			again, err = e.runLeft(ctx, calls, left, out)
		}
		if err == nil && turns == maxTurns {
			err = errRestless
		}
		if err != nil {
			for _, n := range again {
				out[n].err = e.fault(ctx, err)
			}
			break
		}
		left = again
	}
	return out
}

// runLeft runs the calls whose numbers are in left, in the life that the store is known
// to live. It returns those that the server did not run, and has found the next life for
// them.
func (e *Store) runLeft(ctx context.Context, calls []call, left []int, out []replied) (again []int, err error) {
	lf := e.lives.now.Load()
	some := make([]call, len(left))
	for i, n := range left {
		some[i] = calls[n]
	}
	least := int64(0)
	for i, r := range e.runManyOnce(ctx, lf, some) {
		n := left[i]
		no, other := otherLife(r.err)
		if !other {
			out[n] = replied{r.message, e.fault(ctx, r.err)}
			continue
		}
		again, least = append(again, n), max(least, no)
	}
	if len(again) > 0 {
		err = e.turn(ctx, lf, least)
	}
	return again, err
}

// runManyOnce runs scripts in one life. The errors are the server's own.
func (e *Store) runManyOnce(ctx context.Context, lf *lifetime, calls []call) []replied {
	cmds := make(rueidis.Commands, len(calls))
	for i := range calls {
		cmds[i] = e.byHash(lf, calls[i])
	}
	out := make([]replied, len(calls))
	for i, r := range e.doMany(ctx, cmds) {
		if lf.name == "" && unknownScript(r.Error()) {
			r = e.client.Do(ctx, e.bySource(lf, calls[i]))
		}
		out[i].message, out[i].err = r.ToMessage()
	}
	return out
}

// runManyDurably is runMany, or, if callers wait for replicas, runDurable for each call.
func (e *Store) runManyDurably(ctx context.Context, calls []call) []replied {
	if e.opts.WaitReplicas == 0 {
		return e.runMany(ctx, calls)
	}
	out := make([]replied, len(calls))
	for i := range calls {
		out[i].message, out[i].err = e.runDurable(ctx, calls[i])
	}
	return out
}

// runManyIn runs scripts in a life that the caller names, all of them or none.
// ErrOtherLife if the store lives another life.
func (e *Store) runManyIn(ctx context.Context, life string, calls []call) ([]replied, error) {
	for turns := range maxTurns {
		if err := pause(ctx, turns); err != nil {
			return nil, e.fault(ctx, err)
		}
		if err := e.sure(ctx); err != nil {
			return nil, e.fault(ctx, err)
		}
		lf := e.lives.now.Load()
		if lf.name != life {
			return nil, bridge.ErrOtherLife
		}
		out := e.runManyOnce(ctx, lf, calls)
		over, least := false, int64(0)
		for i := range out {
			if no, other := otherLife(out[i].err); other {
				over, least = true, max(least, no)
			} else if err := e.fault(ctx, out[i].err); err != nil {
				return nil, err
			}
		}
		if !over {
			return out, nil
		}
		if err := e.turn(ctx, lf, least); err != nil { // or the server had only forgotten the scripts
			return nil, err
		}
	}
	return nil, errRestless
}
