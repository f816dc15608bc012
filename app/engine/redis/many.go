package redis

import (
	"context"
	"slices"

	"github.com/redis/rueidis"
)

// atOnce is how many commands or scripts of one caller go out together. Redis does
// one after the other, so that a caller with a thousand would keep all others
// waiting for them.
const atOnce = 64

// doMany runs commands, those of one slot in their order, so that others get in
// between.
func (e *Engine) doMany(ctx context.Context, cmds rueidis.Commands) []rueidis.RedisResult {
	if len(cmds) <= atOnce {
		return e.client.DoMulti(ctx, cmds...)
	}
	out := make([]rueidis.RedisResult, 0, len(cmds))
	for some := range slices.Chunk(cmds, atOnce) {
		out = append(out, e.client.DoMulti(ctx, some...)...)
	}
	return out
}

// runMany runs scripts likewise.
func (e *Engine) runMany(ctx context.Context, calls []call) []rueidis.RedisResult {
	out := make([]rueidis.RedisResult, 0, len(calls))
	for some := range slices.Chunk(calls, atOnce) {
		cmds := make(rueidis.Commands, len(some))
		for i := range some {
			cmds[i] = e.byHash(some[i])
		}
		replies := e.client.DoMulti(ctx, cmds...)
		for i := range replies {
			if unknownScript(replies[i].Error()) {
				replies[i] = e.client.Do(ctx, e.bySource(some[i]))
			}
		}
		out = append(out, replies...)
	}
	return out
}
