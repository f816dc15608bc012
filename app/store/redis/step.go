package redis

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/rueidis"
)

// step is one command of a load; a script where call is set.
type step struct {
	cmd  rueidis.Completed
	call *call
	key  string // one of those that it writes to
}

func plain(cmd rueidis.Completed, key string) step { return step{cmd: cmd, key: key} }

func (a *Archive) script(c call) step { return step{call: &c, key: c.keys[0]} }

// write takes steps, those of one mailbox in their order, and returns when they
// are as durable as an Append.
func (a *Archive) write(ctx context.Context, steps []step) error {
	e := a.e
	if e.opts.WaitReplicas == 0 {
		return a.flush(ctx, e.client, steps)
	}
	// WAIT speaks for the writes of its own connection, which in a cluster is
	// one to the server of one slot.
	parts := map[string][]step{}
	for _, s := range steps {
		tag := ""
		if e.cluster {
			tag, _ = a.split(s.key)
		}
		parts[tag] = append(parts[tag], s)
	}
	for _, tag := range sorted(parts) {
		if err := a.flushDurably(ctx, parts[tag]); err != nil {
			return err
		}
	}
	return nil
}

func (a *Archive) flushDurably(ctx context.Context, steps []step) error {
	e := a.e
	own, release := e.client.Dedicate()
	defer release()
	if err := a.flush(ctx, own, steps); err != nil {
		return err
	}
	wait := e.client.B().Wait().Numreplicas(int64(e.opts.WaitReplicas)).Timeout(e.opts.Patience.Milliseconds()).Build()
	n, err := own.Do(ctx, wait).AsInt64()
	if err == nil && n < int64(e.opts.WaitReplicas) {
		err = fmt.Errorf("%d of %d replicas have it", n, e.opts.WaitReplicas)
	}
	return e.fault(ctx, err)
}

// flush sends steps, not too many in one go.
func (a *Archive) flush(ctx context.Context, to rueidis.CommandClient, steps []step) error {
	e := a.e
	for some := range slices.Chunk(steps, scanned) {
		cmds := make(rueidis.Commands, len(some))
		for i, s := range some {
			if cmds[i] = s.cmd; s.call != nil {
				cmds[i] = e.byHash(e.lives.now.Load(), *s.call)
			}
		}
		for i, r := range to.DoMulti(ctx, cmds...) {
			if s := some[i]; s.call != nil && unknownScript(r.Error()) {
				r = to.Do(ctx, e.bySource(e.lives.now.Load(), *s.call))
			}
			if err := e.fault(ctx, r.Error()); err != nil {
				return err
			}
		}
	}
	return nil
}
