package redis

import (
	"context"
	"strings"
	"time"
)

// listingTimeout bounds one go through all keys.
const listingTimeout = 10 * time.Minute

// listDueLater lists again which users have something due, beside everything else. A new
// life of a Cluster may have begun because one server has lost a part of what it had, and
// that may be an index, while the users' keys are on others.
func (e *Store) listDueLater() {
	if !e.cluster || len(e.opts.Backends) == 0 {
		return
	}
	e.loops.Go(func() {
		e.opts.Guard.Run("redis callbacks", func() {
			e.outbox.listings.Lock()
			defer e.outbox.listings.Unlock()
			ctx, cancel := context.WithTimeout(e.ctx, listingTimeout)
			defer cancel()
			for turns := 0; ctx.Err() == nil; turns++ {
				err := e.listDue(ctx)
				if err == nil {
					return
				}
				if e.ctx.Err() == nil {
					e.opts.Logger.Warn("callbacks that are due could not all be listed again", "error", err)
				}
				if backoff(ctx, turns+2) != nil {
					return
				}
			}
		})
	})
}

// listDue has the indexes know of all users who have callbacks or timers.
func (e *Store) listDue(ctx context.Context) error {
	list := func(keys []string) error {
		var calls []call
		for _, key := range keys {
			tag, rest, _ := strings.Cut(strings.TrimPrefix(key, e.opts.Prefix+":{"), "}:")
			index := e.timerIndex()
			if backend, ok := strings.CutPrefix(rest, "o:"); ok {
				index = e.callbackIndex(backend).due
			}
			calls = append(calls, call{&e.scripts.outbox.arm, []string{index}, []string{tag, "", e.clockArg()}})
		}
		for _, r := range e.runMany(ctx, calls) {
			if r.err != nil {
				return r.err
			}
		}
		return nil
	}
	if err := e.scanKeys(ctx, "u*}:o:*", list); err != nil {
		return err
	}
	return e.scanKeys(ctx, "u*}:w", list)
}
